use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::digest::Digest;
use crate::reference::Reference;

/// A store that cannot be read or written, or holds something else than it should.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The file system said no.
    #[error("cannot {action} {} in the image store", .path.display())]
    Io {
        /// What was being done.
        action: StoreAction,
        /// To which file or folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A blob with other content than its name says.
    #[error("blob {digest} in the image store is damaged: its content has digest {found}{}", match .aside { Some(aside) => format!("; it was moved to {}", aside.display()), None => format!(" ({})", .path.display()) })]
    Damaged {
        /// Its name.
        digest: Digest,
        /// The digest of its content.
        found: Digest,
        /// Where it was.
        path: PathBuf,
        /// Where it is now, if it could be moved.
        aside: Option<PathBuf>,
    },
    /// A name that the store does not have.
    #[error("image {reference} is not in the store {}", .store.display())]
    Unknown {
        /// What was asked for.
        reference: Box<Reference>,
        /// Folder of the store.
        store: PathBuf,
        /// Names in the store that are like it, the nearest first.
        near: Vec<String>,
    },
    /// A file over the cap of its kind.
    #[error("{} in the image store has {found} bytes: at most {limit} are read", .path.display())]
    TooLarge {
        /// Which file.
        path: PathBuf,
        /// Its length in bytes.
        found: u64,
        /// The cap.
        limit: u64,
    },
    /// An `index.json` that is no index.
    #[error("{} is not the index of an OCI image layout", .path.display())]
    Index {
        /// Which file.
        path: PathBuf,
        /// Where and why.
        #[source]
        source: serde_json::Error,
    },
    /// An `index.json` that another tool changed each time when it was to be changed here.
    #[error("{} is being changed by another tool all the time", .path.display())]
    Busy {
        /// Which file.
        path: PathBuf,
    },
}

/// What is done to a file of the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum StoreAction {
    /// Make a folder.
    Make,
    /// Read.
    Read,
    /// Write, or rename to its name.
    Write,
    /// Remove.
    Remove,
    /// Wait for a lock.
    Lock,
}

impl fmt::Display for StoreAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Make => "make",
            Self::Read => "read",
            Self::Write => "write",
            Self::Remove => "remove",
            Self::Lock => "lock",
        })
    }
}

impl StoreError {
    pub(super) fn io(action: StoreAction, path: &Path, source: io::Error) -> Self {
        Self::Io {
            action,
            path: path.to_owned(),
            source,
        }
    }

    /// What to do, where that is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Io { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => Some(
                "run as the store's owner, or name another store with BPFMAN_IMAGE_DIR".to_owned(),
            ),
            Self::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull => {
                Some("make room on the disk; the store is as it was".to_owned())
            }
            Self::Io { source, .. } if source.kind() == io::ErrorKind::ReadOnlyFilesystem => Some(
                "the store is on a read-only file system: use pull policy Never, or name another store with BPFMAN_IMAGE_DIR".to_owned(),
            ),
            Self::Unknown { near, .. } if near.is_empty() => {
                Some("`bpfman image list` shows what the store has".to_owned())
            }
            Self::Unknown { near, .. } => Some(format!("did you mean {}?", near.join(", "))),
            Self::Damaged { .. } => {
                Some("pull the image again with another pull policy than Never".to_owned())
            }
            Self::Index { path, .. } => Some(format!(
                "move {} away and pull the images again; their blobs are kept",
                path.display()
            )),
            Self::Busy { .. } => Some("try again when it has finished".to_owned()),
            _ => None,
        }
    }
}
