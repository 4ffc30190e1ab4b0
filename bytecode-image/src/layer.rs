//! The layer of a bytecode image: a tar, plain, gzip or zstd, with one eBPF object in it.
