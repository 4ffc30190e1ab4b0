//! Caps on bytes that nobody vouches for. Each is far above what real images need and far below what hurts a host.

use bytecode_object::MAX_OBJECT_BYTES;

/// Longest manifest or index, in bytes: 4 MiB. The distribution-spec asks registries to accept at least this much,
/// and no registry or client is known to go higher; a bytecode image's manifest has below 1 KiB.
pub const MAX_MANIFEST_BYTES: u64 = 4 << 20;

/// Longest image configuration, in bytes: 1 MiB. Docker writes 1 to 8 KiB; the label of a thousand programs has 40 KiB.
pub const MAX_CONFIG_BYTES: u64 = 1 << 20;

/// Longest layer as it is sent, in bytes: one object of the largest size, not compressed, in a tar.
pub const MAX_LAYER_BYTES: u64 = MAX_UNPACKED_BYTES;

/// Most bytes that are unpacked of a layer: one object of the largest size and 1 MiB for tar headers and small files
/// beside it. What is beyond is never unpacked, so that a gzip bomb costs this much and no more.
pub const MAX_UNPACKED_BYTES: u64 = MAX_OBJECT_BYTES + (1 << 20);

/// Most entries of a layer's tar: 256. A bytecode image has one, or a few with folders and a licence file.
pub const MAX_LAYER_ENTRIES: usize = 256;

/// Largest window of a zstd layer, in bytes: 8 MiB, what RFC 8878 (3.1.1.1.2) asks decoders to support at least.
pub const MAX_ZSTD_WINDOW_BYTES: u64 = 8 << 20;

/// Longest label, in bytes: 256 KiB, the most that Kubernetes takes for all annotations of an object; a thousand
/// programs need 40 KiB.
pub const MAX_LABEL_BYTES: usize = 256 << 10;

/// Most names in one label: 4096; the largest known object has below 500 programs.
pub const MAX_LABEL_NAMES: usize = 4096;

/// Longest reference, in bytes: 1024. A repository has at most 255 by the distribution-spec, a host name 253, a tag 128.
pub const MAX_REFERENCE_BYTES: usize = 1024;

/// Longest answer of a token service or error text of a registry that is read, in bytes: 64 KiB. Tokens have 1 to 8 KiB.
pub const MAX_ANSWER_BYTES: u64 = 64 << 10;

/// Longest `index.json` of a store, in bytes: 16 MiB, about forty thousand images.
pub const MAX_STORE_INDEX_BYTES: u64 = 16 << 20;
