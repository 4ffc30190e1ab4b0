//! Any bytes as a manifest of signatures and as a list of referrers.
#![no_main]

use bytecode_image::digest::VerifiedBytes;
use bytecode_image::verify::limits::MAX_SIGNATURES;
use bytecode_image::verify::{SignatureManifest, referrers};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let whole = VerifiedBytes::hash(bytes.to_vec());
    if let Ok(manifest) = SignatureManifest::parse(&whole) {
        assert!(manifest.wanted().count() <= MAX_SIGNATURES);
        for candidate in manifest.candidates(|_| Some(whole.clone())) {
            let _ = candidate.claimed();
        }
    }
    assert!(referrers(bytes).unwrap_or_default().len() <= MAX_SIGNATURES);
});
