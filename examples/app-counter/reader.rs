//! Prints what each program of `app-counter` counted: `app-counter PROGRAM-ID`, as root.
#![allow(clippy::print_stdout)]

use bpfman_examples::{ReadError, entries};

/// `enum program` of the source.
const PROGRAMS: [&str; 6] = ["xdp", "tc", "tracepoint", "kprobe", "uprobe", "uretprobe"];

fn main() -> Result<(), ReadError> {
    let events = entries("app_stats_map", |a: u64, b| a + b)?;
    for (program, events) in PROGRAMS.iter().zip(events) {
        println!("{program}: {events} events");
    }
    Ok(())
}
