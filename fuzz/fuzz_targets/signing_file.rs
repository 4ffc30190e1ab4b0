//! Any text as the table `[signing]` of the configuration, as `bpfman` reads it; a key lies beside it.
#![no_main]

use std::path::PathBuf;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;

/// `bpfman` is a program and no library: its reader is built in here.
#[allow(dead_code)]
#[path = "../../bpfman/src/config/signing.rs"]
mod signing;

static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| {
    PathBuf::from(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../tests/fixtures/signatures"
    ))
});

fuzz_target!(|text: &str| {
    let Ok(table) = toml::from_str::<signing::SigningTable>(text) else {
        return;
    };
    // Files outside the folder are not this target's; compiling a large pattern is slow by itself, and its cap is tested.
    if text.contains('/') && text.contains("/dev") || text.len() > 4096 {
        return;
    }
    match table.trust(&FOLDER) {
        Ok(_) => {}
        Err(found) => assert!(found.at <= text.len()),
    }
});
