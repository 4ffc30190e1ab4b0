use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

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
    /// Another process held the lock all the time.
    #[error("{} is held by another bpfman: waited {:.1} s for it", .path.display(), .waited.as_secs_f64())]
    Locked {
        /// The lock.
        path: PathBuf,
        /// How long it was waited for.
        waited: Duration,
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
    /// The database.
    #[error("{doing} the records in {}", .path.display())]
    Database {
        /// What was being done, as in "reading".
        doing: &'static str,
        /// Folder of the database.
        path: PathBuf,
        /// What sled said.
        source: sled::Error,
    },
    /// A record that cannot be read or written as JSON.
    #[error("record `{key}` in {}", .path.display())]
    Record {
        /// The database, or the journal.
        path: PathBuf,
        /// Its key.
        key: String,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// A key in the database that is none of ours.
    #[error("{} has a record `{key}` that is none of ours", .path.display())]
    Key {
        /// Folder of the database.
        path: PathBuf,
        /// The key, with what is no UTF-8 replaced.
        key: String,
    },
    /// A change where nothing was ever recorded.
    #[error("there are no records in {}", .path.display())]
    NoRecords {
        /// Where they would be.
        path: PathBuf,
    },
}

impl StateError {
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
