use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::lock::Holder;
use crate::digest::Digest;
use crate::folder::Unsafe;
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
    /// A lock that could not be had in time.
    #[error("cannot lock {}: {}", .path.display(), held(.holder.as_ref()))]
    Locked {
        /// The file.
        path: PathBuf,
        /// Who holds it, where that can be seen.
        holder: Option<Holder>,
        /// How long it was waited for.
        waited: Duration,
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

fn held(holder: Option<&Holder>) -> String {
    let Some(holder) = holder else {
        return "held by another process".to_owned();
    };
    let Holder {
        pid,
        command,
        since,
        stopped,
    } = holder;
    let since = since.map_or_else(String::new, |since| format!(" since {since}"));
    let stopped = if *stopped { ", which is stopped" } else { "" };
    format!("held by process {pid} (`{command}`){since}{stopped}")
}

/// What is done to a file of the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum StoreAction {
    /// Make a folder.
    Make,
    /// Change what is in a folder.
    Change,
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
            Self::Change => "change",
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

    /// Whether it is about one blob, which cannot be used: damaged, too large, or no regular file.
    pub(super) fn is_unusable_blob(&self) -> bool {
        match self {
            Self::Damaged { .. } | Self::TooLarge { .. } => true,
            Self::Io { path, source, .. } => {
                let name = path.file_name().and_then(|name| name.to_str());
                let is_blob =
                    name.is_some_and(|name| Digest::parse(&format!("sha256:{name}")).is_ok());
                is_blob && Unsafe::in_error(source).is_some()
            }
            _ => false,
        }
    }

    /// What to do, where that is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Locked { holder, waited, .. } => Some(match holder {
                Some(holder) if holder.stopped => {
                    format!("let it go on with `kill -CONT {0}`, or end it with `kill -KILL {0}`", holder.pid)
                }
                _ => format!(
                    "wait until it has ended, or raise max_retries or millisec_delay under [database] in the configuration (waited for {} ms)",
                    waited.as_millis()
                ),
            }),
            Self::Io { source, .. } if matches!(Unsafe::in_error(source), Some(Unsafe::Owner { .. })) => Some(
                "change the store as its owner, give it to root with `chown -R root`, or name another store with BPFMAN_IMAGE_DIR"
                    .to_owned(),
            ),
            Self::Io { path, source, .. } if Unsafe::in_error(source).is_some() => Some(format!(
                "remove {}, or name another store with BPFMAN_IMAGE_DIR",
                path.display()
            )),
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
