//! Records in sled: their database, and changes of it.

use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::copy::Copy;
use super::record::Key;
use super::records::{Records, Source};
use super::{StateError, lock};
use crate::kernel::linux::ahead;

/// Bytes that sled may cache. The records of a thousand programs are below half a megabyte.
const CACHE_BYTES: u64 = 1 << 20;
/// Bytes a segment. Smaller ones put records into files of their own, larger ones are zeroed for nothing.
const SEGMENT_BYTES: usize = 32 << 10;

/// How long the threads of a process that dropped the database may take to end.
const LAST_WRITE: Duration = Duration::from_secs(5);

/// One record that changes, with what it was, so that the change can be taken back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Put {
    key: String,
    before: Option<Value>,
    after: Option<Value>,
}

/// In which direction changes are applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    Forward,
    Backward,
}

impl Put {
    /// The record as it is when the change was applied in that direction.
    fn side(&self, direction: Direction) -> &Option<Value> {
        match direction {
            Direction::Forward => &self.after,
            Direction::Backward => &self.before,
        }
    }
}

/// The open database.
#[derive(Debug)]
pub(crate) struct Store {
    records: Records,
    db: sled::Db,
    copy: Copy,
}

impl Deref for Store {
    type Target = Records;

    fn deref(&self) -> &Records {
        &self.records
    }
}

impl Store {
    /// Where the database is in the runtime folder.
    pub(super) fn path(dir: &Path) -> PathBuf {
        dir.join("state")
    }

    /// Opens the database of a runtime folder, or makes it.
    pub(super) fn open(dir: &Path) -> Result<Self, StateError> {
        let path = Self::path(dir);
        let file = path.join("db");
        if file.exists() {
            // sled's threads close the file, which it locks for itself, some time after the database was dropped: who
            // has our lock may have to wait for those of the process that had it before.
            lock::acquire(&file, LAST_WRITE)?;
        }
        let config = sled::Config::new()
            .path(&path)
            .cache_capacity(CACHE_BYTES)
            .flush_every_ms(None)
            .segment_size(SEGMENT_BYTES);
        // sled starts seven threads at its first opening, and each spins until it has started the last one: half of a
        // command's time, unless this thread goes first.
        let db = ahead(|| config.open()).map_err(|source| StateError::Database {
            doing: "opening",
            path: path.clone(),
            source,
        })?;
        let source = Source::Database(db.clone());
        Ok(Self {
            records: Records::new(path, source),
            db,
            copy: Copy::in_dir(dir),
        })
    }

    /// Plans a change of one record; `None` removes it.
    pub(crate) fn put<T: Serialize>(&self, key: Key, after: Option<&T>) -> Result<Put, StateError> {
        let key = key.to_string();
        let before = self.value::<Value>(&key)?;
        let after = after.map(serde_json::to_value).transpose();
        let after = after.map_err(self.spoiled(&key))?;
        Ok(Put { key, before, after })
    }

    /// Plans the removal of a record.
    pub(crate) fn remove(&self, key: Key) -> Result<Put, StateError> {
        self.put::<Value>(key, None)
    }

    /// Applies planned changes, all or none, and waits until they are in the file.
    pub(crate) fn apply(&self, puts: &[Put], direction: Direction) -> Result<(), StateError> {
        let mut batch = sled::Batch::default();
        for put in puts {
            match put.side(direction) {
                Some(value) => batch.insert(put.key.as_str(), self.encode(&put.key, value)?),
                None => batch.remove(put.key.as_str()),
            }
        }
        self.copy.discard()?;
        self.db.apply_batch(batch).map_err(self.failed("writing"))?;
        self.db.flush().map_err(self.failed("flushing"))?;
        Ok(())
    }

    /// Whether the records are what applying the changes in that direction makes of them.
    pub(crate) fn are(&self, puts: &[Put], direction: Direction) -> Result<bool, StateError> {
        for put in puts {
            if self.value::<Value>(&put.key)? != *put.side(direction) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn encode(&self, key: &str, value: &Value) -> Result<Vec<u8>, StateError> {
        serde_json::to_vec(value).map_err(self.spoiled(key))
    }
}
