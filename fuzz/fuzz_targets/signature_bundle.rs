//! Any bytes as a sigstore bundle: never a panic, and never a proof about an image that nobody signed.
#![no_main]

use bpfman_fuzz::signatures::{refused, signature};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    refused(&signature(
        "application/vnd.dev.sigstore.bundle.v0.3+json",
        bytes,
        &serde_json::Map::new(),
    ));
});
