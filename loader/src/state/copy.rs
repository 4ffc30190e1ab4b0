//! A copy of the records, for commands that only read: opening sled costs more than all the rest of such a command.
//!
//! The first reader after a change makes it, from the database; a change removes it before it touches the database. Its
//! first line says of which database file it is, as it was: a copy of another one, or of another state of it, is none.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::StateError;
use super::boot::absent;
use super::records::Records;
use super::store::Store;

/// Where the copy is, and what it is of.
#[derive(Debug, Clone)]
pub(super) struct Copy {
    path: PathBuf,
    database: PathBuf,
}

impl Copy {
    /// Of the database in the runtime folder.
    pub(super) fn in_dir(dir: &Path) -> Self {
        Self {
            path: dir.join("records"),
            database: Store::path(dir).join("db"),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Key and JSON of every record; `None` where there is no copy of the database as it is.
    pub(super) fn read(&self) -> Option<BTreeMap<String, String>> {
        let text = fs::read_to_string(&self.path).ok()?;
        let mut lines = text.lines();
        if lines.next()? != self.stamp().ok()? {
            return None;
        }
        let parted = |line: &str| {
            let (key, value) = line.split_once(' ')?;
            Some((key.to_owned(), value.to_owned()))
        };
        lines.map(parted).collect()
    }

    /// Makes the copy.
    pub(super) fn make(&self, records: &Records) -> Result<(), StateError> {
        let mut text = self
            .stamp()
            .map_err(StateError::io("reading", &self.database))?;
        text.push('\n');
        records.each("", |key, value| {
            // Neither has a line break: keys are ours, and JSON escapes them.
            let _ = writeln!(text, "{key} {}", String::from_utf8_lossy(value));
            Ok(())
        })?;
        let new = self.path.with_extension("new");
        write(&new, text.as_bytes()).map_err(StateError::io("writing", &new))?;
        fs::rename(&new, &self.path).map_err(StateError::io("making", &self.path))
    }

    /// Removes it: the database is about to change.
    pub(super) fn discard(&self) -> Result<(), StateError> {
        absent(fs::remove_file(&self.path)).map_err(StateError::io("removing", &self.path))
    }

    /// What tells the database file from another one, and from itself after a write.
    fn stamp(&self) -> io::Result<String> {
        let file = fs::metadata(&self.database)?;
        Ok(format!(
            "{}:{} {} bytes, {}.{:09}",
            file.dev(),
            file.ino(),
            file.len(),
            file.mtime(),
            file.mtime_nsec()
        ))
    }
}

fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut options = File::options();
    let options = options.write(true).create(true).truncate(true).mode(0o600);
    options.open(path)?.write_all(bytes)
}
