//! Records in sled.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::record::{
    CLSACTS, ChainKey, ChainRecord, ClsactRecord, Hook, Key, LINKS, LinkRecord, PROGRAMS,
    ProgramRecord,
};
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
pub(crate) struct Store {
    path: PathBuf,
    db: sled::Db,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

impl Store {
    /// Opens the database, or makes it.
    pub(crate) fn open(path: &Path) -> Result<Self, StateError> {
        let file = path.join("db");
        if file.exists() {
            // sled's threads close the file, which it locks for itself, some time after the database was dropped: who
            // has our lock may have to wait for those of the process that had it before.
            lock::acquire(&file, LAST_WRITE)?;
        }
        let config = sled::Config::new()
            .path(path)
            .cache_capacity(CACHE_BYTES)
            .flush_every_ms(None)
            .segment_size(SEGMENT_BYTES);
        // sled starts seven threads at its first opening, and each spins until it has started the last one: half of a
        // command's time, unless this thread goes first.
        let db = ahead(|| config.open()).map_err(|source| StateError::Database {
            doing: "opening",
            path: path.to_owned(),
            source,
        })?;
        Ok(Self {
            path: path.to_owned(),
            db,
        })
    }

    fn failed(&self, doing: &'static str) -> impl FnOnce(sled::Error) -> StateError {
        let path = self.path.clone();
        move |source| StateError::Database {
            doing,
            path,
            source,
        }
    }

    fn decode<T: DeserializeOwned>(&self, key: &str, bytes: &[u8]) -> Result<T, StateError> {
        serde_json::from_slice(bytes).map_err(self.spoiled(key))
    }

    fn encode(&self, key: &str, value: &Value) -> Result<Vec<u8>, StateError> {
        serde_json::to_vec(value).map_err(self.spoiled(key))
    }

    fn spoiled(&self, key: &str) -> impl FnOnce(serde_json::Error) -> StateError {
        let (path, key) = (self.path.clone(), key.to_owned());
        |source| StateError::Record { path, key, source }
    }

    fn get<T: DeserializeOwned>(&self, key: Key) -> Result<Option<T>, StateError> {
        let key = key.to_string();
        let found = self.db.get(&key).map_err(self.failed("reading"))?;
        found.map(|bytes| self.decode(&key, &bytes)).transpose()
    }

    /// Every record whose key begins with `prefix`, by what `parse` makes of the rest.
    fn scan<I: Ord, T: DeserializeOwned>(
        &self,
        prefix: &str,
        parse: impl Fn(&str) -> Option<I>,
    ) -> Result<BTreeMap<I, T>, StateError> {
        let mut records = BTreeMap::new();
        for entry in self.db.scan_prefix(prefix) {
            let (key, value) = entry.map_err(self.failed("reading"))?;
            let key = String::from_utf8_lossy(&key);
            let id = key.strip_prefix(prefix).and_then(&parse);
            let id = id.ok_or_else(|| StateError::Key {
                path: self.path.clone(),
                key: key.to_string(),
            })?;
            records.insert(id, self.decode(&key, &value)?);
        }
        Ok(records)
    }

    pub(crate) fn program(&self, id: u32) -> Result<Option<ProgramRecord>, StateError> {
        self.get(Key::Program(id))
    }

    pub(crate) fn programs(&self) -> Result<BTreeMap<u32, ProgramRecord>, StateError> {
        self.scan(PROGRAMS, |id| id.parse().ok())
    }

    pub(crate) fn link(&self, id: u32) -> Result<Option<LinkRecord>, StateError> {
        self.get(Key::Link(id))
    }

    pub(crate) fn links(&self) -> Result<BTreeMap<u32, LinkRecord>, StateError> {
        self.scan(LINKS, |id| id.parse().ok())
    }

    pub(crate) fn chain(&self, key: ChainKey) -> Result<Option<ChainRecord>, StateError> {
        self.get(Key::Chain(key))
    }

    pub(crate) fn chains(&self) -> Result<BTreeMap<ChainKey, ChainRecord>, StateError> {
        let mut chains = BTreeMap::new();
        for hook in Hook::CHAINED {
            chains.extend(self.scan(&format!("{}/", hook.folder()), |place| {
                let (nsid, ifindex) = interface(place)?;
                Some(ChainKey {
                    hook,
                    nsid,
                    ifindex,
                })
            })?);
        }
        Ok(chains)
    }

    /// Every clsact that we made, by namespace and interface.
    pub(crate) fn clsacts(&self) -> Result<BTreeMap<(u64, u32), ClsactRecord>, StateError> {
        self.scan(CLSACTS, interface)
    }

    /// Whether clsact of that interface was made by us.
    pub(crate) fn clsact(
        &self,
        nsid: u64,
        ifindex: u32,
    ) -> Result<Option<ClsactRecord>, StateError> {
        self.get(Key::Clsact { nsid, ifindex })
    }

    /// Plans a change of one record; `None` removes it.
    pub(crate) fn put<T: Serialize>(&self, key: Key, after: Option<&T>) -> Result<Put, StateError> {
        let before = self.get::<Value>(key)?;
        let key = key.to_string();
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
        self.db.apply_batch(batch).map_err(self.failed("writing"))?;
        self.db.flush().map_err(self.failed("flushing"))?;
        Ok(())
    }

    /// Whether the records are what applying the changes in that direction makes of them.
    pub(crate) fn are(&self, puts: &[Put], direction: Direction) -> Result<bool, StateError> {
        for put in puts {
            let found = self.db.get(&put.key).map_err(self.failed("reading"))?;
            let found = found.map(|bytes| self.decode::<Value>(&put.key, &bytes));
            if found.transpose()? != *put.side(direction) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Everything there is, for comparing.
    #[cfg(test)]
    pub(crate) fn dump(&self) -> BTreeMap<String, String> {
        let text = |bytes: sled::IVec| String::from_utf8_lossy(&bytes).into_owned();
        self.db
            .iter()
            .map(|entry| entry.map(|(key, value)| (text(key), text(value))).unwrap())
            .collect()
    }
}

/// `<inode of the namespace>/<interface index>`, as in keys.
fn interface(place: &str) -> Option<(u64, u32)> {
    let (nsid, ifindex) = place.split_once('/')?;
    Some((nsid.parse().ok()?, ifindex.parse().ok()?))
}
