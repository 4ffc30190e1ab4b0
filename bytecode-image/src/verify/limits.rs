//! Caps on signatures. They come from whoever can write to a registry, before anything about them is proven.

use crate::limits::MAX_MANIFEST_BYTES;

/// Longest manifest of signatures, in bytes: the same as of any manifest, 4 MiB. With cosign 2, which keeps all
/// signatures of an image in one manifest, that is room for about 800 keyless ones.
pub const MAX_SIGNATURE_MANIFEST_BYTES: u64 = MAX_MANIFEST_BYTES;

/// Most signatures of one image that are looked at: 256. Each costs up to a millisecond; images have 1 to 5, and one
/// that is signed again every night for half a year has 180. Those beyond are not looked at, and the refusal says so.
pub const MAX_SIGNATURES: usize = 256;

/// Longest simple signing payload, in bytes: 64 KiB. cosign writes 240 bytes, and more only for annotations (`-a`).
pub const MAX_PAYLOAD_BYTES: u64 = 64 << 10;

/// Longest sigstore bundle, in bytes: 256 KiB. cosign writes 1 to 8 KiB; a large log's inclusion proof has 2 KiB.
pub const MAX_BUNDLE_BYTES: u64 = 256 << 10;

/// Longest annotation that is read (signature, certificate, chain, log entry, time stamp), in bytes: 64 KiB. The
/// longest that cosign writes, the log entry, has 3 to 6 KiB.
pub const MAX_ANNOTATION_BYTES: usize = 64 << 10;

/// Most certificates beside the signing one: 8. Fulcio sends two.
pub const MAX_CHAIN: usize = 8;

/// Most log entries, and most time stamps, of one signature: 8 each. cosign writes one of each.
pub const MAX_EVIDENCE: usize = 8;

/// Longest public key file, in bytes: 16 KiB. An RSA key of 8192 bits has 1.4 KiB.
pub const MAX_KEY_BYTES: usize = 16 << 10;

/// Longest trusted root, in bytes: 1 MiB. The public-good one has 7 KiB, the longest known 32 KiB.
pub const MAX_TRUSTED_ROOT_BYTES: usize = 1 << 20;

/// Most memory of one compiled `subject_regexp`, in bytes: 1 MiB. Common ones have some KiB.
pub const MAX_REGEXP_BYTES: usize = 1 << 20;
