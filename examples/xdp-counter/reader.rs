//! Prints what `xdp-counter` counted: `xdp-counter PROGRAM-ID`, as root.
#![allow(clippy::print_stdout)]

use bpfman_examples::{ReadError, entries};

fn main() -> Result<(), ReadError> {
    // struct counter: packets, bytes.
    for [packets, bytes] in entries("xdp_stats_map", |a: [u64; 2], b| [a[0] + b[0], a[1] + b[1]])? {
        println!("{packets} packets, {bytes} bytes");
    }
    Ok(())
}
