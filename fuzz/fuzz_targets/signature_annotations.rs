//! Any annotations (a JSON object of texts) over a real payload: certificates, chains, log entries, time stamps.
#![no_main]

use bpfman_fuzz::signatures::{SIMPLE, payload, refused, signature};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(annotations) = serde_json::from_slice(bytes) {
        refused(&signature(SIMPLE, payload(), &annotations));
    }
});
