//! What mends a difference: one change each, journalled and undone when it fails, as any other.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};

use crate::change::{self, Change};
use crate::error::Doing;
use crate::kernel::{Device, Kernel, KernelError};
use crate::state::{ChainKey, CommitStep, Guard, Key};
use crate::unload::{Going, remove};
use crate::{Loader, LoaderError};

/// What mends a difference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Repair {
    /// Mounts bpffs and makes the folders that stay.
    Prepare,
    MakeFolder {
        path: PathBuf,
    },
    /// Pins a program that lives.
    Pin {
        program: u32,
    },
    PinMap {
        map: u32,
        path: PathBuf,
    },
    /// Takes a program that is gone out of the records, with its links.
    TakeOut {
        program: u32,
    },
    /// Takes links out of the records, with what is left of them.
    Forget {
        links: BTreeSet<u32>,
    },
    /// Takes away what is left of a chain without links.
    EndChain {
        key: ChainKey,
    },
    /// Puts a chain as it is recorded onto its hook.
    Rebuild {
        key: ChainKey,
    },
    /// Takes a clsact of ours away, unless there is a filter on it.
    DropClsact {
        nsid: u64,
        ifindex: u32,
        iface: String,
    },
    /// Takes pins away, then the folder that they were in.
    Remove {
        pins: Vec<PathBuf>,
        folder: Option<PathBuf>,
    },
    /// Gives the journal another name, under which nobody looks for it.
    SetJournalAside,
    /// Removes the database of an earlier version.
    RemoveOldDatabase,
}

impl fmt::Display for Repair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Prepare => "mount it and make its folders",
            Self::MakeFolder { .. } => "make it",
            Self::Pin { .. } | Self::PinMap { .. } => "pin it again",
            Self::TakeOut { .. } => "take it and its links out of the records",
            Self::Forget { links } if links.len() > 1 => {
                "take its links out of the records, with what is left of them"
            }
            Self::Forget { .. } => "take it out of the records, with what is left of it",
            Self::EndChain { .. } => "take away what is left of it",
            Self::Rebuild { .. } => "build the chain anew as it is recorded",
            Self::DropClsact { .. } => "remove it unless others have filters on it, and its record",
            Self::Remove { .. } | Self::RemoveOldDatabase => "remove it",
            Self::SetJournalAside => "set the journal aside as journal.damaged",
        })
    }
}

impl<K: Kernel> Loader<K> {
    pub(super) fn mend(
        &self,
        guard: &mut Guard,
        what: &str,
        repair: &Repair,
    ) -> Result<(), LoaderError> {
        let pins = self.pins();
        let what = format!("repairing {what}");
        match repair {
            Repair::Prepare => self.prepare(),
            Repair::MakeFolder { path } => {
                change::run(&self.kernel, guard, &what, |change| change.create_dir(path))
            }
            Repair::Pin { program } => {
                let path = pins.program(*program);
                let handle = self.kernel.program_by_id(*program);
                self.pin_again(guard, &what, handle, &path)
            }
            Repair::PinMap { map, path } => {
                let handle = self.kernel.map_by_id(*map);
                self.pin_again(guard, &what, handle, path)
            }
            Repair::TakeOut { program } => self.unload(guard, *program),
            Repair::Forget { links } => {
                let mut records = guard.records_of_change()?.links()?;
                records.retain(|id, _| links.contains(id));
                let going = Going {
                    links: records,
                    ..Going::default()
                };
                change::run(&self.kernel, guard, &what, |change| {
                    remove(change, &pins, going)
                })
            }
            Repair::EndChain { key } => {
                let going = Going {
                    chain: Some(*key),
                    ..Going::default()
                };
                change::run(&self.kernel, guard, &what, |change| {
                    remove(change, &pins, going)
                })
            }
            Repair::Rebuild { key } => self.rebuild(guard, *key),
            Repair::DropClsact {
                nsid,
                ifindex,
                iface,
            } => change::run(&self.kernel, guard, &what, |change| {
                self.drop_clsact(change, *nsid, *ifindex, iface)
            }),
            Repair::Remove {
                pins: paths,
                folder,
            } => {
                let unpins = paths.iter().cloned().map(|path| CommitStep::Unpin { path });
                let folder = folder.iter().cloned();
                let folder = folder.map(|path| CommitStep::RemoveDir { path });
                let steps = unpins.chain(folder).collect();
                change::run(&self.kernel, guard, &what, |change| change.commit(steps))
            }
            Repair::SetJournalAside => Ok(guard.journal.set_aside()?),
            Repair::RemoveOldDatabase => Ok(guard.remove_old_database()?),
        }
    }

    fn pin_again(
        &self,
        guard: &mut Guard,
        what: &str,
        handle: Result<Option<K::Handle>, KernelError>,
        path: &Path,
    ) -> Result<(), LoaderError> {
        // It may have gone since it was found; then comparing again says so.
        let Some(handle) = handle.doing(|| what.to_owned())? else {
            return Ok(());
        };
        change::run(&self.kernel, guard, what, |change| {
            change.pin(&handle, path)
        })
    }

    fn drop_clsact(
        &self,
        change: &mut Change<'_, K>,
        nsid: u64,
        ifindex: u32,
        iface: &str,
    ) -> Result<(), LoaderError> {
        let clsact = change.records()?.clsact(nsid, ifindex)?;
        let netns = clsact.and_then(|clsact| clsact.netns);
        let put = change.records()?.remove(Key::Clsact { nsid, ifindex })?;
        let mut steps = Vec::new();
        let device = Device {
            ifindex,
            nsid,
            netns,
        };
        // Numbers are given out again: only an interface of the same name is taken for the same.
        if let Ok(state) = self.kernel.interface_state(&device)
            && state.name == iface
        {
            steps.push(CommitStep::RemoveClsact { device });
        }
        steps.push(CommitStep::Records { puts: vec![put] });
        change.commit(steps)
    }
}
