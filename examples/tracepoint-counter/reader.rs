//! Prints what `tracepoint-counter` counted: `tracepoint-counter PROGRAM-ID`, as root.
#![allow(clippy::print_stdout)]

use bpfman_examples::{ReadError, entries};

fn main() -> Result<(), ReadError> {
    let signals = entries("kill_stats_map", |a: u64, b| a + b)?;
    for (signal, calls) in signals.iter().enumerate().filter(|(_, calls)| **calls > 0) {
        println!("signal {signal}: {calls} calls");
    }
    Ok(())
}
