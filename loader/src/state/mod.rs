//! What the kernel and bpffs cannot tell: records in sled, behind one lock, with a journal of the change under way.

mod boot;
mod copy;
mod error;
mod journal;
mod lock;
mod moment;
mod record;
mod records;
mod store;

use std::cell::OnceCell;
use std::fs::{DirBuilder, File};
use std::io;
use std::ops::Deref;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;

use log::debug;

use crate::Config;

use copy::Copy;
use records::Source;

pub use error::StateError;
pub(crate) use journal::{BuildStep, CommitStep, Journal, Line, Unfinished};
pub(crate) use record::{
    ChainKey, ChainRecord, ClsactRecord, HexBytes, Hook, Key, LinkRecord, MemberRecord, ModeRecord,
    PlaceRecord, ProgramRecord, SourceRecord,
};
pub(crate) use records::Records;
pub(crate) use store::{Direction, Put, Store};

/// The lock, held. Functions that change or read state take it, so that forgetting the lock does not compile.
/// The records are opened when they are first needed.
#[derive(Debug)]
pub struct Guard {
    dir: PathBuf,
    // Before the lock: fields are dropped in this order, and the records are to be closed while the lock is held.
    store: OnceCell<Option<Store>>,
    /// The copy of the records, once it was read.
    copied: OnceCell<Records>,
    pub(crate) journal: Journal,
    /// `None`: there is no runtime folder, so there is nothing to lock and nothing to read.
    lock: Option<File>,
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
        let dir = config.runtime_dir.clone();
        if missing == Missing::Create {
            let made = DirBuilder::new().recursive(true).mode(0o700).create(&dir);
            made.map_err(|source| StateError::Io {
                doing: "making the folder",
                path: dir.clone(),
                source,
            })?;
        }
        let patience = config.lock_delay.saturating_mul(config.lock_retries);
        let lock = match lock::acquire(&dir.join("lock"), patience) {
            Ok(file) => Some(file),
            Err(StateError::Io { source, .. })
                if missing == Missing::Empty && source.kind() == io::ErrorKind::NotFound =>
            {
                None
            }
            Err(error) => return Err(error),
        };
        if lock.is_some() {
            boot::forget_former(&dir)?;
        }
        Ok(Self {
            store: OnceCell::new(),
            copied: OnceCell::new(),
            journal: Journal::new(dir.join("journal")),
            dir,
            lock,
        })
    }

    /// Whether there is a runtime folder, and so a lock.
    pub(crate) fn is_locked(&self) -> bool {
        self.lock.is_some()
    }

    /// The records, `None` where nothing was ever recorded.
    pub(crate) fn records(&self) -> Result<Option<&Store>, StateError> {
        if let Some(store) = self.store.get() {
            return Ok(store.as_ref());
        }
        let store = if self.is_locked() && Store::path(&self.dir).exists() {
            Some(Store::open(&self.dir)?)
        } else {
            None
        };
        Ok(self.store.get_or_init(|| store).as_ref())
    }

    /// The records for who changes nothing: from their copy, where there is one. Who opens the database makes it.
    pub(crate) fn records_to_read(&self) -> Result<Option<&Records>, StateError> {
        if let Some(store) = self.store.get() {
            return Ok(store.as_deref());
        }
        if let Some(copied) = self.copied.get() {
            return Ok(Some(copied));
        }
        let copy = Copy::in_dir(&self.dir);
        if self.is_locked()
            && let Some(lines) = copy.read()
        {
            let copied = Records::new(copy.path().to_owned(), Source::Copy(lines));
            return Ok(Some(self.copied.get_or_init(|| copied)));
        }
        let store = self.records()?;
        if let Some(store) = store
            && let Err(error) = copy.make(store)
        {
            debug!("no copy of the records: {error}");
        }
        Ok(store.map(Deref::deref))
    }

    /// The records, in a change, which has something to record.
    pub(crate) fn records_of_change(&self) -> Result<&Store, StateError> {
        self.records()?.ok_or_else(|| StateError::NoRecords {
            path: self.dir.clone(),
        })
    }

    /// Makes the database where there is none.
    pub(crate) fn create_records(&mut self) -> Result<(), StateError> {
        if self.records()?.is_none() {
            self.store = OnceCell::from(Some(Store::open(&self.dir)?));
            boot::remember(&self.dir)?;
        }
        Ok(())
    }
}
