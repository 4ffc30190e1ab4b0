//! Any bytes as what cosign 2 signs, under a real signature of something else.
#![no_main]

use bpfman_fuzz::signatures::{SIMPLE, annotations, refused, signature};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| refused(&signature(SIMPLE, bytes, &annotations())));
