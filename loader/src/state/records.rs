//! What is recorded, for reading.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Bound;
use std::path::PathBuf;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::StateError;
use super::record::{
    CLSACTS, ChainKey, ChainRecord, ClsactRecord, Hook, Key, LINKS, LinkRecord, PROGRAMS,
    ProgramRecord,
};

/// Where records are read from.
pub(super) enum Source {
    Database(sled::Db),
    /// Key and JSON.
    Copy(BTreeMap<String, String>),
}

/// Every record there is.
pub(crate) struct Records {
    /// Of the database, or of its copy.
    path: PathBuf,
    source: Source,
}

impl fmt::Debug for Records {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Records")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

impl Records {
    pub(super) fn new(path: PathBuf, source: Source) -> Self {
        Self { path, source }
    }

    pub(super) fn failed(&self, doing: &'static str) -> impl FnOnce(sled::Error) -> StateError {
        let path = self.path.clone();
        move |source| StateError::Database {
            doing,
            path,
            source,
        }
    }

    pub(super) fn spoiled(&self, key: &str) -> impl FnOnce(serde_json::Error) -> StateError {
        let (path, key) = (self.path.clone(), key.to_owned());
        |source| StateError::Record { path, key, source }
    }

    /// The value of a key.
    pub(super) fn value<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, StateError> {
        let decode = |bytes: &[u8]| serde_json::from_slice(bytes).map_err(self.spoiled(key));
        match &self.source {
            Source::Database(db) => {
                let found = db.get(key).map_err(self.failed("reading"))?;
                found.map(|bytes| decode(&bytes)).transpose()
            }
            Source::Copy(lines) => lines
                .get(key)
                .map(|value| decode(value.as_bytes()))
                .transpose(),
        }
    }

    fn get<T: DeserializeOwned>(&self, key: Key) -> Result<Option<T>, StateError> {
        self.value(&key.to_string())
    }

    /// Calls `each` with every record whose key begins with `prefix`, by ascending key.
    pub(super) fn each(
        &self,
        prefix: &str,
        mut each: impl FnMut(&str, &[u8]) -> Result<(), StateError>,
    ) -> Result<(), StateError> {
        match &self.source {
            Source::Database(db) => db.scan_prefix(prefix).try_for_each(|entry| {
                let (key, value) = entry.map_err(self.failed("reading"))?;
                each(&String::from_utf8_lossy(&key), &value)
            }),
            Source::Copy(lines) => lines
                .range::<str, _>((Bound::Included(prefix), Bound::Unbounded))
                .take_while(|(key, _)| key.starts_with(prefix))
                .try_for_each(|(key, value)| each(key, value.as_bytes())),
        }
    }

    /// Every record whose key begins with `prefix`, by what `parse` makes of the rest.
    fn scan<I: Ord, T: DeserializeOwned>(
        &self,
        prefix: &str,
        parse: impl Fn(&str) -> Option<I>,
    ) -> Result<BTreeMap<I, T>, StateError> {
        let mut records = BTreeMap::new();
        self.each(prefix, |key, value| {
            let id = key.strip_prefix(prefix).and_then(&parse);
            let id = id.ok_or_else(|| StateError::Key {
                path: self.path.clone(),
                key: key.to_owned(),
            })?;
            let record = serde_json::from_slice(value).map_err(self.spoiled(key))?;
            records.insert(id, record);
            Ok(())
        })?;
        Ok(records)
    }

    pub(crate) fn program(&self, id: u32) -> Result<Option<ProgramRecord>, StateError> {
        self.get(Key::Program(id))
    }

    pub(crate) fn programs(&self) -> Result<BTreeMap<u32, ProgramRecord>, StateError> {
        self.scan(PROGRAMS, |id| id.parse().ok())
    }

    /// After which program the folder of each program's maps is named.
    pub(crate) fn maps_folders(&self) -> Result<BTreeMap<u32, u32>, StateError> {
        #[derive(Deserialize)]
        struct Part {
            maps_folder: u32,
        }
        let parts = self.scan(PROGRAMS, |id| id.parse().ok())?;
        let parts = parts.into_iter();
        Ok(parts
            .map(|(id, part): (u32, Part)| (id, part.maps_folder))
            .collect())
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

    /// Everything there is, for comparing.
    #[cfg(test)]
    pub(crate) fn dump(&self) -> BTreeMap<String, String> {
        let mut found = BTreeMap::new();
        let all = self.each("", |key, value| {
            found.insert(key.to_owned(), String::from_utf8_lossy(value).into_owned());
            Ok(())
        });
        all.unwrap();
        found
    }
}

/// `<inode of the namespace>/<interface index>`, as in keys.
fn interface(place: &str) -> Option<(u64, u32)> {
    let (nsid, ifindex) = place.split_once('/')?;
    Some((nsid.parse().ok()?, ifindex.parse().ok()?))
}
