//! Records, for reading: one JSON file each.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::StateError;
use super::dir::{Dir, SHORT};
use super::record::{
    CLSACTS, ChainKey, ChainRecord, ClsactRecord, Hook, Key, LINKS, LinkRecord, PROGRAMS,
    ProgramRecord,
};

/// What the names of records end with.
const SUFFIX: &str = ".json";

/// Every record there is, read from its file when it is needed.
#[derive(Debug)]
pub(crate) struct Records {
    /// The folder of all of them.
    pub(super) dir: Dir,
}

/// Name of a record's file in its folder.
pub(super) fn file_name(key: Key) -> String {
    key.name() + SUFFIX
}

impl Records {
    pub(super) fn spoiled(&self, key: Key) -> impl FnOnce(serde_json::Error) -> StateError {
        let path = self.path(key);
        move |source| StateError::Record {
            path,
            key: key.to_string(),
            source,
        }
    }

    fn path(&self, key: Key) -> PathBuf {
        self.dir.join(key.folder()).join(file_name(key))
    }

    /// The value of a key.
    pub(super) fn value<T: DeserializeOwned>(&self, key: Key) -> Result<Option<T>, StateError> {
        let Some(folder) = self.dir.folder(key.folder())? else {
            return Ok(None);
        };
        self.value_in(&folder, key)
    }

    fn value_in<T: DeserializeOwned>(
        &self,
        folder: &Dir,
        key: Key,
    ) -> Result<Option<T>, StateError> {
        let name = file_name(key);
        let mut buffer = [0; SHORT];
        if let Some(bytes) = folder.read_short(&name, &mut buffer)
            && let Ok(value) = serde_json::from_slice(bytes)
        {
            return Ok(Some(value));
        }
        let bytes = folder.read(&name)?;
        let value = bytes.map(|bytes| serde_json::from_slice(&bytes));
        value.transpose().map_err(self.spoiled(key))
    }

    /// Every record of a folder, by what `id` makes of its key. Files with other names are none of ours.
    fn scan<I: Ord, T: DeserializeOwned>(
        &self,
        folder: &str,
        id: impl Fn(Key) -> Option<I>,
    ) -> Result<BTreeMap<I, T>, StateError> {
        let mut records = BTreeMap::new();
        let Some(dir) = self.dir.folder(folder)? else {
            return Ok(records);
        };
        for name in dir.names()? {
            let key = name
                .strip_suffix(SUFFIX)
                .and_then(|name| Key::from_name(folder, name));
            if let Some(key) = key
                && let Some(id) = id(key)
                && let Some(record) = self.value_in(&dir, key)?
            {
                records.insert(id, record);
            }
        }
        Ok(records)
    }

    pub(crate) fn program(&self, id: u32) -> Result<Option<ProgramRecord>, StateError> {
        self.value(Key::Program(id))
    }

    pub(crate) fn programs(&self) -> Result<BTreeMap<u32, ProgramRecord>, StateError> {
        self.scan(PROGRAMS, program_id)
    }

    /// After which program the folder of each program's maps is named.
    pub(crate) fn maps_folders(&self) -> Result<BTreeMap<u32, u32>, StateError> {
        #[derive(Deserialize)]
        struct Part {
            maps_folder: u32,
        }
        let parts = self.scan(PROGRAMS, program_id)?.into_iter();
        Ok(parts
            .map(|(id, part): (u32, Part)| (id, part.maps_folder))
            .collect())
    }

    pub(crate) fn link(&self, id: u32) -> Result<Option<LinkRecord>, StateError> {
        self.value(Key::Link(id))
    }

    pub(crate) fn links(&self) -> Result<BTreeMap<u32, LinkRecord>, StateError> {
        self.scan(LINKS, |key| match key {
            Key::Link(id) => Some(id),
            _ => None,
        })
    }

    pub(crate) fn chain(&self, key: ChainKey) -> Result<Option<ChainRecord>, StateError> {
        self.value(Key::Chain(key))
    }

    pub(crate) fn chains(&self) -> Result<BTreeMap<ChainKey, ChainRecord>, StateError> {
        let mut chains = BTreeMap::new();
        for hook in Hook::CHAINED {
            chains.extend(self.scan(hook.folder(), |key| match key {
                Key::Chain(key) => Some(key),
                _ => None,
            })?);
        }
        Ok(chains)
    }

    /// Every clsact that we made, by namespace and interface.
    pub(crate) fn clsacts(&self) -> Result<BTreeMap<(u64, u32), ClsactRecord>, StateError> {
        self.scan(CLSACTS, |key| match key {
            Key::Clsact { nsid, ifindex } => Some((nsid, ifindex)),
            _ => None,
        })
    }

    /// Whether clsact of that interface was made by us.
    pub(crate) fn clsact(
        &self,
        nsid: u64,
        ifindex: u32,
    ) -> Result<Option<ClsactRecord>, StateError> {
        self.value(Key::Clsact { nsid, ifindex })
    }

    /// Everything there is, for comparing.
    #[cfg(test)]
    pub(crate) fn dump(&self) -> BTreeMap<String, String> {
        let mut found = BTreeMap::new();
        for folder in self.dir.names().unwrap() {
            let dir = self.dir.folder(&folder).unwrap().unwrap();
            for name in dir.names().unwrap() {
                let text = String::from_utf8(dir.read(&name).unwrap().unwrap()).unwrap();
                found.insert(format!("{folder}/{name}"), text);
            }
        }
        found
    }
}

fn program_id(key: Key) -> Option<u32> {
    match key {
        Key::Program(id) => Some(id),
        _ => None,
    }
}
