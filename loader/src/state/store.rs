//! Changes of the records.

use std::ops::Deref;
use std::sync::Arc;

use log::warn;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::dir::Dir;
use super::record::{CLSACTS, Hook, Key, LINKS, PROGRAMS};
use super::records::{Records, file_name};
use super::reserve::{self, Room, replace};
use super::{RECORDS, StateError};

/// One record that changes, with what it was, so that the change can be taken back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Put {
    key: Key,
    before: Option<Value>,
    after: Option<Value>,
}

/// In which direction changes are applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    Forward,
    Backward,
}

impl Direction {
    const fn opposite(self) -> Self {
        match self {
            Self::Forward => Self::Backward,
            Self::Backward => Self::Forward,
        }
    }
}

impl Put {
    /// The record as it is when the change was applied in that direction.
    fn side(&self, direction: Direction) -> Option<&Value> {
        match direction {
            Direction::Forward => self.after.as_ref(),
            Direction::Backward => self.before.as_ref(),
        }
    }
}

/// The records, for changing them.
#[derive(Debug)]
pub(crate) struct Store {
    records: Records,
    root: Arc<Dir>,
}

impl Deref for Store {
    type Target = Records;

    fn deref(&self) -> &Records {
        &self.records
    }
}

impl Store {
    /// Opens the records of a runtime folder; `None` when there are none.
    pub(super) fn open(root: &Arc<Dir>) -> Result<Option<Self>, StateError> {
        // Earlier versions had a file of that name, with a copy of their database.
        if root.has_file(RECORDS)? {
            return Ok(None);
        }
        let store = |dir| Self {
            records: Records { dir },
            root: root.clone(),
        };
        Ok(root.folder(RECORDS)?.map(store))
    }

    /// Makes the folders of records.
    pub(super) fn create(root: &Arc<Dir>) -> Result<Self, StateError> {
        if root.has_file(RECORDS)? {
            root.remove(RECORDS)?;
        }
        let dir = root.make_folder(RECORDS)?;
        let chains = Hook::CHAINED.map(Hook::folder);
        for folder in [PROGRAMS, LINKS, CLSACTS].into_iter().chain(chains) {
            dir.make_folder(folder)?;
        }
        Ok(Self {
            records: Records { dir },
            root: root.clone(),
        })
    }

    /// Sets room aside for changes that take something away, unless that is done.
    pub(super) fn reserve(&self) -> Result<(), StateError> {
        reserve::set_aside(&self.root)
    }

    /// Plans a change of one record; `None` removes it.
    pub(crate) fn put<T: Serialize>(&self, key: Key, after: Option<&T>) -> Result<Put, StateError> {
        let before = self.value::<Value>(key)?;
        let after = after.map(serde_json::to_value).transpose();
        let after = after.map_err(self.spoiled(key))?;
        Ok(Put { key, before, after })
    }

    /// Plans the removal of a record.
    pub(crate) fn remove(&self, key: Key) -> Result<Put, StateError> {
        self.put::<Value>(key, None)
    }

    /// Applies planned changes, all or none. A process that dies meanwhile leaves them to the journal.
    pub(crate) fn apply(&self, puts: &[Put], direction: Direction) -> Result<(), StateError> {
        let room = match direction {
            Direction::Forward => Room::Free,
            Direction::Backward => Room::Reserved,
        };
        self.write(puts, direction, room).inspect_err(|_| {
            if let Err(error) = self.write(puts, direction.opposite(), Room::Reserved) {
                warn!("undoing a change of the records: {error}; the next command tries again");
            }
        })
    }

    fn write(&self, puts: &[Put], direction: Direction, room: Room) -> Result<(), StateError> {
        // What is removed leaves room for the rest.
        let (written, removed): (Vec<_>, Vec<_>) =
            puts.iter().partition(|put| put.side(direction).is_some());
        for put in removed {
            if let Some(folder) = self.dir.folder(put.key.folder())? {
                folder.remove(&file_name(put.key))?;
            }
        }
        for put in written {
            let Some(value) = put.side(direction) else {
                continue;
            };
            let folder = self.dir.make_folder(put.key.folder())?;
            let mut bytes = serde_json::to_vec_pretty(value).map_err(self.spoiled(put.key))?;
            bytes.push(b'\n');
            let room = match put.side(direction.opposite()) {
                // The file that it takes the place of gives its room back.
                Some(_) => Room::Reserved,
                None => room,
            };
            replace(&self.root, &folder, &file_name(put.key), &bytes, room)?;
        }
        Ok(())
    }

    /// Whether the records are what applying the changes in that direction makes of them.
    pub(crate) fn are(&self, puts: &[Put], direction: Direction) -> Result<bool, StateError> {
        for put in puts {
            if self.value::<Value>(put.key)?.as_ref() != put.side(direction) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}
