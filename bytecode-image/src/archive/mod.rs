//! Images from store to store without a registry: one file, an OCI image layout in a tar, which `skopeo`, `podman` and
//! `oras` read and write as `oci-archive`.

mod error;
mod export;
mod import;
mod layout;

pub use error::ArchiveError;
pub use export::{Exported, Platforms, export};
pub use import::{Imported, MAX_ARCHIVE_ENTRIES, import};
