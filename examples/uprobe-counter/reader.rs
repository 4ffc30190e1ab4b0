//! Prints what `uprobe-counter` counted: `uprobe-counter PROGRAM-ID`, as root.
#![allow(clippy::print_stdout)]

use bpfman_examples::{ReadError, entries};

fn main() -> Result<(), ReadError> {
    for calls in entries("uprobe_stats_map", |a: u64, b| a + b)? {
        println!("{calls} calls");
    }
    Ok(())
}
