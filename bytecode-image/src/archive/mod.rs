//! Images from store to store without a registry: an OCI image layout in a tar, which `skopeo`, `podman` and `oras` read
//! and write as `oci-archive`. What docker and podman save in other forms is read, too.

mod error;
mod export;
mod form;
mod import;
mod layout;
mod members;
mod spool;

pub use error::ArchiveError;
pub use export::{Destination, Exported, Platforms, WriteDebug, export, export_to};
pub use import::{Imported, MAX_ARCHIVE_ENTRIES, import, import_from};
pub use spool::{Input, MAX_SPOOLED_BYTES, ReadDebug};
