//! Any text as an image reference: what was read prints as the same reference, whole.
#![no_main]

use bytecode_image::digest::Digest;
use bytecode_image::reference::{Reference, short_name};
use libfuzzer_sys::fuzz_target;

/// What is printed can be read again, and is on one line.
fn same(reference: &Reference) {
    let printed = reference.to_string();
    assert!(!printed.contains(char::is_control), "{printed:?}");
    assert_eq!(printed.parse::<Reference>().as_ref(), Ok(reference));
}

fuzz_target!(|text: &str| {
    let short = short_name(text);
    let Ok(reference) = text.parse::<Reference>() else {
        return;
    };
    same(&reference);
    same(&reference.with_digest(Digest::of(text.as_bytes())));
    assert!(reference.tag().is_some() || reference.digest().is_some());
    assert!(reference.to_string().starts_with(&reference.name()));
    if let Some(short) = short {
        assert!(text.starts_with(short));
        assert_eq!(reference.registry(), "docker.io");
    }
    let _ = (reference.api_host(), reference.is_loopback());
});
