//! Whatever the bytes are, there is an answer: no panic, no endless loop.

// Helpers outside #[test] functions are test code too.
#![allow(clippy::expect_used, clippy::panic)]

mod compile;

use std::sync::OnceLock;

use bytecode_object::{ObjectInfo, Section};
use proptest::prelude::*;

/// Objects to spoil: every feature is in one of them, in both byte orders.
fn objects() -> &'static [Vec<u8>] {
    static OBJECTS: OnceLock<Vec<Vec<u8>>> = OnceLock::new();
    OBJECTS.get_or_init(|| {
        let sources = ["counter", "many", "legacy", "relocated"];
        let pairs = sources
            .iter()
            .flat_map(|source| [(source, "bpfel"), (source, "bpfeb")]);
        pairs
            .filter_map(|(source, target)| compile::object(source, target, &["-g"]))
            .collect()
    })
}

/// Reads and uses everything that came out.
fn read(bytes: &[u8]) {
    if let Ok(info) = ObjectInfo::parse(bytes) {
        assert!(!info.programs.is_empty());
        for label in [info.programs_label(), info.maps_label()] {
            let parsed: serde_json::Value = serde_json::from_str(&label).expect("a label is JSON");
            assert!(parsed.is_object());
        }
    }
}

#[test]
fn every_truncation() {
    for object in objects() {
        for length in 0..object.len() {
            read(&object[..length]);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..512), elf in any::<bool>()) {
        let mut bytes = bytes;
        if elf {
            // Past the first checks: magic, 64 bit, either order, version, ET_REL, EM_BPF.
            let order = bytes.first().map_or(1, |byte| 1 + byte % 2);
            let (low, high) = if order == 1 { (1, 0) } else { (0, 1) };
            let start = [0x7f, b'E', b'L', b'F', 2, order, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, low, high];
            let machine = if order == 1 { [247, 0] } else { [0, 247] };
            let start: Vec<u8> = start.into_iter().chain(machine).collect();
            for (to, from) in bytes.iter_mut().zip(start) {
                *to = from;
            }
        }
        read(&bytes);
    }

    #[test]
    fn flipped_bits(
        which in any::<prop::sample::Index>(),
        flips in proptest::collection::vec((any::<prop::sample::Index>(), 0u8..8), 1..12),
    ) {
        if objects().is_empty() {
            return Ok(());
        }
        let mut bytes = which.get(objects()).clone();
        for (at, bit) in flips {
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
        }
        read(&bytes);
    }

    #[test]
    fn extreme_words(
        which in any::<prop::sample::Index>(),
        words in proptest::collection::vec((any::<prop::sample::Index>(), prop::sample::select(vec![0u32, 1, 0x7fff_ffff, 0x8000_0000, 0xffff_fff0, 0xffff_ffff])), 1..6),
    ) {
        if objects().is_empty() {
            return Ok(());
        }
        let mut bytes = which.get(objects()).clone();
        for (at, word) in words {
            let at = at.index(bytes.len() / 4) * 4;
            bytes[at..at + 4].copy_from_slice(&word.to_le_bytes());
        }
        read(&bytes);
    }

    #[test]
    fn any_section_name(name in ".*") {
        prop_assert!(!Section::parse(&name).label().is_empty());
    }
}
