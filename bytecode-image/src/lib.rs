//! eBPF bytecode images: references, registries, and the store that offline hosts live on.
//!
//! A tag is resolved to a digest once; from then on only digests are fetched, checked, kept and handed out.
//! Parsing of bytes that nobody vouches for (labels, layers, manifests) is pure and apart from I/O, with documented
//! caps ([`limits`]). Nothing here knows of kernels, and nothing prints.

pub mod digest;
pub mod labels;
pub mod layer;
pub mod limits;
pub mod platform;
pub mod pull;
pub mod reference;
pub mod registry;
pub mod store;
