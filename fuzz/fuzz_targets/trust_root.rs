//! Any bytes as a sigstore trusted root.
#![no_main]

use bytecode_image::verify::TrustRoot;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(root) = TrustRoot::from_json(bytes) {
        assert_eq!(root.built_in_date(), None);
        bpfman_fuzz::signatures::refused_by(&root);
    }
});
