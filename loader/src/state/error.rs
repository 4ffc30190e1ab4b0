use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Holder;

/// Why lock, journal or records cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StateError {
    /// A file or folder of the runtime folder.
    #[error("{doing} {}", .path.display())]
    Io {
        /// What was being done to it, as in "opening".
        doing: &'static str,
        /// Which one.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A folder or file of another user: others could lead root elsewhere.
    #[error("{} belongs to user {owner}, not to root or the caller", .path.display())]
    Owner {
        /// Which one.
        path: PathBuf,
        /// Its owner.
        owner: u32,
    },
    /// A link, FIFO or device where a file or a folder belongs, or a folder that everybody may change.
    #[error("{} is {found}", .path.display())]
    Untrusted {
        /// Which one.
        path: PathBuf,
        /// What it is, as in "not a regular file".
        found: &'static str,
    },
    /// Another process held the lock all the time.
    #[error(
        "cannot lock {}: held by {}; waited {:.1} s",
        .path.display(),
        super::lock::named(.holder.as_ref()),
        .waited.as_secs_f64()
    )]
    Locked {
        /// The lock.
        path: PathBuf,
        /// How long it was waited for.
        waited: Duration,
        /// Which process has it, where that is known.
        holder: Option<Holder>,
    },
    /// A line of the journal that no version of ours writes.
    #[error("{}, line {line}, is no journal entry", .path.display())]
    Journal {
        /// The journal.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// A record that cannot be read or written as JSON.
    #[error("cannot read or write the record `{key}` in {}", .path.display())]
    Record {
        /// Its file, or the journal.
        path: PathBuf,
        /// Its key.
        key: String,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// A change where nothing was ever recorded.
    #[error("there are no records in {}", .path.display())]
    NoRecords {
        /// Where they would be.
        path: PathBuf,
    },
}

impl StateError {
    pub(super) fn untrusted(path: &Path, found: &'static str) -> Self {
        let path = path.to_owned();
        Self::Untrusted { path, found }
    }

    /// Why something could not be done to a file or folder.
    pub(super) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io {
            doing,
            path,
            source,
        }
    }
}
