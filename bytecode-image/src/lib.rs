//! eBPF bytecode images: references, registries, and the store that offline hosts live on.
//!
//! A tag is resolved to a digest once; from then on only digests are fetched, checked, kept and handed out.
//! Parsing of bytes that nobody vouches for (labels, layers, manifests) is pure and apart from I/O, with documented
//! caps ([`limits`]). Nothing here knows of kernels, and nothing prints.
//!
//! An error's `Display` says what was being done to what and what was found; its cause is its `source()`, so print
//! the whole chain. [`pull::PullError::hint`] and [`registry::RegistryError::hint`] say what to do, where that is known.

pub mod archive;
mod base64;
mod clock;
pub mod digest;
mod folder;
pub mod host;
pub mod labels;
pub mod layer;
pub mod limits;
pub mod manifest;
mod near;
pub mod platform;
pub mod printable;
mod progress;
pub mod pull;
pub mod redact;
pub mod reference;
pub mod registry;
pub mod store;
pub mod verify;
