use std::ops::Deref;

use log::warn;

use crate::change::{self, with_causes};
use crate::error::Doing;
use crate::kernel::Kernel;
use crate::paths::Pins;
use crate::state::{Guard, Missing, ProgramRecord};
use crate::{Config, LoaderError};

/// Loads, attaches, detaches, unloads and shows programs on one kernel, with one runtime folder.
#[derive(Debug)]
pub struct Loader<K> {
    pub(crate) kernel: K,
    pub(crate) config: Config,
}

/// The lock, held by somebody who changes nothing.
#[derive(Debug)]
pub struct ReadGuard(Guard);

impl Deref for ReadGuard {
    type Target = Guard;

    fn deref(&self) -> &Guard {
        &self.0
    }
}

impl<K: Kernel> Loader<K> {
    /// A loader. Touches neither the kernel nor the disk.
    pub fn new(kernel: K, config: Config) -> Self {
        Self { kernel, config }
    }

    /// Waits for the lock, to change something. What a process that died has left half done is undone or finished
    /// here. Without a runtime folder nothing is made: the guard is then empty, and the first [`Loader::load`] makes
    /// the folder and locks it.
    ///
    /// # Errors
    ///
    /// When another process holds the lock for longer than the configuration allows, lock and journal cannot be used,
    /// or [`LoaderError::Recovery`].
    pub fn lock(&self) -> Result<Guard, LoaderError> {
        self.acquire(Missing::Empty)
    }

    /// Waits for the lock, to look only: what an interrupted command left and cannot be settled is told by a warning.
    ///
    /// # Errors
    ///
    /// When another process holds the lock for longer than the configuration allows, or the lock cannot be used.
    pub fn lock_to_read(&self) -> Result<ReadGuard, LoaderError> {
        let mut guard = Guard::acquire(&self.config, Missing::Empty)?;
        if guard.is_locked()
            && let Err(error) = self.settle(&mut guard)
        {
            let hint = error.hint();
            let hint = hint.map_or_else(String::new, |hint| format!(" ({hint})"));
            warn!(
                "{}: nothing can be changed until that is settled{hint}",
                with_causes(&error)
            );
        }
        Ok(ReadGuard(guard))
    }

    /// Makes the runtime folder, unless it is there, and turns an empty guard into a lock.
    pub(crate) fn establish(&self, guard: &mut Guard) -> Result<(), LoaderError> {
        if !guard.is_locked() {
            *guard = self.acquire(Missing::Create)?;
        }
        // Before anything else: on a file system that is full nothing is to be mounted and left.
        guard.create_records()?;
        self.prepare()
    }

    fn acquire(&self, missing: Missing) -> Result<Guard, LoaderError> {
        let mut guard = Guard::acquire(&self.config, missing)?;
        if guard.is_locked() {
            self.settle(&mut guard)?;
        }
        Ok(guard)
    }

    /// Undoes or finishes what processes that died have left. An error: nothing may be changed before that is done.
    fn settle(&self, guard: &mut Guard) -> Result<(), LoaderError> {
        let mut blocking = None;
        for left in change::recover(&self.kernel, guard)? {
            let what = left.what;
            let error = LoaderError::Recovery {
                what,
                source: Box::new(left.error),
            };
            if left.blocks {
                blocking.get_or_insert(error);
            } else {
                warn!("{}; the next command tries again", with_causes(&error));
            }
        }
        blocking.map_or(Ok(()), Err)
    }

    /// Mounts bpffs and makes the folders that stay.
    pub(crate) fn prepare(&self) -> Result<(), LoaderError> {
        let pins = self.pins();
        let mounted = self.kernel.mount_bpffs(pins.fs());
        mounted.doing(|| format!("mounting a BPF file system at {}", pins.fs().display()))?;
        for folder in pins.standing() {
            let made = self.kernel.create_dir(&folder);
            made.doing(|| format!("making the folder {}", folder.display()))?;
        }
        Ok(())
    }

    /// Whether our BPF file system is mounted: the first load mounts it.
    ///
    /// # Errors
    ///
    /// When the kernel does not say.
    pub fn is_mounted(&self) -> Result<bool, LoaderError> {
        let pins = self.pins();
        let found = self.kernel.is_bpffs(pins.fs());
        found.doing(|| format!("looking for a BPF file system at {}", pins.fs().display()))
    }

    /// Whether there is a record of a program.
    ///
    /// # Errors
    ///
    /// When the store cannot be read.
    pub fn is_managed(&self, guard: &Guard, id: u32) -> Result<bool, LoaderError> {
        let records = guard.records()?;
        let record = records.map(|records| records.program(id)).transpose()?;
        Ok(record.flatten().is_some())
    }

    pub(crate) fn pins(&self) -> Pins {
        Pins::new(&self.config.runtime_dir)
    }

    /// The record of a program of ours.
    pub(crate) fn managed(&self, guard: &Guard, id: u32) -> Result<ProgramRecord, LoaderError> {
        let record = match guard.records()? {
            Some(records) => records.program(id)?,
            None => None,
        };
        if let Some(record) = record {
            return Ok(record);
        }
        let known = self.kernel.program_brief(id);
        match known.doing(|| format!("looking for program {id}"))? {
            Some(_) => Err(LoaderError::NotOurs { id }),
            None => Err(LoaderError::NoSuchProgram { id }),
        }
    }
}
