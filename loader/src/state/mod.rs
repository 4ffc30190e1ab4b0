//! What the kernel and bpffs cannot tell: records in files, behind one lock, with a journal of the change under way.

mod boot;
mod dir;
mod error;
mod fault;
mod holder;
mod journal;
mod lock;
mod moment;
mod queue;
mod record;
mod records;
mod reserve;
mod store;

use std::cell::OnceCell;
use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

use crate::Config;

use dir::Dir;
use lock::Locked;

pub use error::StateError;
#[cfg(test)]
pub(crate) use fault::Operation;
pub use holder::Holder;
pub(crate) use journal::{BuildStep, CommitStep, Journal, Line, Unfinished};
pub(crate) use record::{
    ChainKey, ChainRecord, ClsactRecord, HexBytes, Hook, Key, LinkRecord, MemberRecord, ModeRecord,
    PlaceRecord, ProgramRecord, SourceRecord,
};
pub(crate) use records::Records;
pub(crate) use store::{Direction, Put, Store};

/// Folder of the records.
pub(crate) const RECORDS: &str = "records";
/// The journal.
const JOURNAL: &str = "journal";
/// Mount point of our bpffs.
const BPFFS: &str = "fs";
/// Folder of the database that earlier versions had their records in.
const DATABASE: &str = "state";

/// The lock, held. Functions that change or read state take it, so that forgetting the lock does not compile.
/// The records are opened when they are first needed.
#[derive(Debug)]
pub struct Guard {
    path: PathBuf,
    store: OnceCell<Option<Store>>,
    pub(crate) journal: Journal,
    /// `None`: there is no runtime folder, so there is nothing to lock and nothing to read.
    dir: Option<Arc<Dir>>,
    /// Open as long as it is held.
    _lock: Option<File>,
}

/// Whether a runtime folder that is not there is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Missing {
    Create,
    Empty,
}

impl Guard {
    /// Waits for the lock. Opens nothing else.
    pub(crate) fn acquire(config: &Config, missing: Missing) -> Result<Self, StateError> {
        let path = config.runtime_dir.clone();
        if missing == Missing::Create {
            Dir::create(&path)?;
        }
        let patience = config.lock_delay.saturating_mul(config.lock_retries);
        let (dir, lock) = match lock::acquire(&path, patience)? {
            Some(Locked { dir, file }) => (Some(Arc::new(dir)), Some(file)),
            None => (None, None),
        };
        if let Some(dir) = &dir {
            dir.check_folder(BPFFS)?;
            boot::forget_former(dir)?;
        }
        Ok(Self {
            store: OnceCell::new(),
            journal: Journal::new(dir.clone(), &path),
            path,
            dir,
            _lock: lock,
        })
    }

    /// Whether there is a runtime folder, and so a lock.
    pub(crate) fn is_locked(&self) -> bool {
        self.dir.is_some()
    }

    /// The records, `None` where nothing was ever recorded.
    pub(crate) fn records(&self) -> Result<Option<&Store>, StateError> {
        if let Some(store) = self.store.get() {
            return Ok(store.as_ref());
        }
        let store = match &self.dir {
            Some(dir) => Store::open(dir)?,
            None => None,
        };
        Ok(self.store.get_or_init(|| store).as_ref())
    }

    /// The records, in a change, which has something to record.
    pub(crate) fn records_of_change(&self) -> Result<&Store, StateError> {
        self.records()?.ok_or_else(|| StateError::NoRecords {
            path: self.path.clone(),
        })
    }

    /// Makes the folders of records where there are none.
    pub(crate) fn create_records(&mut self) -> Result<(), StateError> {
        if self.records()?.is_none()
            && let Some(dir) = &self.dir
        {
            boot::remember(dir)?;
            self.store = OnceCell::from(Some(Store::create(dir)?));
        }
        self.reserve()
    }

    /// Sets room aside, unless that is done, so that whatever is added now can be taken away on a file system that is
    /// full.
    pub(crate) fn reserve(&mut self) -> Result<(), StateError> {
        self.journal.reserve()?;
        self.records_of_change()?.reserve()
    }

    /// What is left of the database of an earlier version.
    pub(crate) fn old_database(&self) -> Result<Vec<PathBuf>, StateError> {
        let Some(dir) = &self.dir else {
            return Ok(Vec::new());
        };
        let mut found = Vec::new();
        if dir.stat(DATABASE)?.is_some() {
            found.push(dir.join(DATABASE));
        }
        if dir.has_file(RECORDS)? {
            found.push(dir.join(RECORDS));
        }
        Ok(found)
    }

    /// Removes it.
    pub(crate) fn remove_old_database(&self) -> Result<(), StateError> {
        let Some(dir) = &self.dir else {
            return Ok(());
        };
        dir.remove_tree(DATABASE)?;
        if dir.has_file(RECORDS)? {
            dir.remove(RECORDS)?;
        }
        Ok(())
    }
}
