//! Taking links and programs away.

use std::collections::BTreeMap;
use std::path::PathBuf;

use log::warn;

use crate::change::{self, Change};
use crate::dispatcher::chain;
use crate::error::{Doing, HookPlace};
use crate::kernel::Kernel;
use crate::paths::Pins;
use crate::state::{ChainKey, CommitStep, Guard, Key, LinkRecord, ProgramRecord};
use crate::{Loader, LoaderError};

impl<K: Kernel> Loader<K> {
    /// Takes a link away.
    ///
    /// # Errors
    ///
    /// [`LoaderError::NoSuchLink`], or a refusal of the kernel.
    pub fn detach(&self, guard: &mut Guard, link_id: u32) -> Result<(), LoaderError> {
        let missing = LoaderError::NoSuchLink { id: link_id };
        let Some(records) = guard.records()? else {
            return Err(missing);
        };
        let link = records.link(link_id)?.ok_or(missing)?;
        let what = format!("detaching link {link_id}");
        let going = Going {
            links: BTreeMap::from([(link_id, link)]),
            ..Going::default()
        };
        change::run(&self.kernel, guard, &what, |change| {
            remove(change, &self.pins(), going)
        })
    }

    /// Takes a program and its links away. A program whose pins are gone is taken out of the records.
    ///
    /// # Errors
    ///
    /// [`LoaderError::NoSuchProgram`], or a refusal of the kernel.
    pub fn unload(&self, guard: &mut Guard, program_id: u32) -> Result<(), LoaderError> {
        let program = self.managed(guard, program_id)?;
        let mut links = guard.records_of_change()?.links()?;
        links.retain(|_, link| link.program_id == program_id);
        let what = format!("unloading program {program_id}");
        let going = Going {
            links,
            program: Some((program_id, program)),
            ..Going::default()
        };
        change::run(&self.kernel, guard, &what, |change| {
            remove(change, &self.pins(), going)
        })
    }

    /// Takes links out of the records that lead nowhere any more, with what is left of them.
    pub(crate) fn forget(
        &self,
        guard: &mut Guard,
        place: &HookPlace,
        links: BTreeMap<u32, LinkRecord>,
    ) -> Result<(), LoaderError> {
        let ids: Vec<_> = links.keys().map(u32::to_string).collect();
        let ids = ids.join(", ");
        warn!(
            "{place}: what bpfman had attached there is gone with its interface or was removed: forgetting links {ids}"
        );
        let what = format!("forgetting links {ids}");
        let going = Going {
            links,
            netns: place.netns.clone(),
            ..Going::default()
        };
        change::run(&self.kernel, guard, &what, |change| {
            remove(change, &self.pins(), going)
        })
    }
}

/// What is to go.
#[derive(Debug, Default)]
pub(crate) struct Going {
    pub(crate) links: BTreeMap<u32, LinkRecord>,
    /// The program that the links are of.
    pub(crate) program: Option<(u32, ProgramRecord)>,
    /// A chain that goes if it has no members.
    pub(crate) chain: Option<ChainKey>,
    /// A path that leads to the namespace of all of them, where one is known.
    pub(crate) netns: Option<PathBuf>,
}

/// Removes links, the program that they are of and what is left of their chains: one change for all.
pub(crate) fn remove<K: Kernel>(
    change: &mut Change<'_, K>,
    pins: &Pins,
    going: Going,
) -> Result<(), LoaderError> {
    let Going {
        links,
        program,
        chain,
        netns,
    } = going;
    let mut steps = Vec::new();
    let mut puts = Vec::new();
    let mut rest = Vec::new();
    let mut chains: BTreeMap<ChainKey, Vec<u32>> =
        chain.into_iter().map(|key| (key, Vec::new())).collect();
    for (id, link) in links {
        match link.chain() {
            Some(key) => chains.entry(key).or_default().push(id),
            None => rest.push(CommitStep::Unpin {
                path: pins.link(id),
            }),
        }
        puts.push(change.records()?.remove(Key::Link(id))?);
    }
    let mut ended = Vec::new();
    for (key, gone) in chains {
        let shrunk = chain::shrink(change, pins, key, &gone, netns.as_deref())?;
        steps.extend(shrunk.swaps);
        puts.extend(shrunk.puts);
        rest.extend(shrunk.rest);
        ended.extend(shrunk.ended);
    }
    let (removals, forgotten) = chain::unused_clsacts(change.records()?, &ended)?;
    steps.extend(removals);
    puts.extend(forgotten);
    if let Some((id, record)) = program {
        puts.push(change.records()?.remove(Key::Program(id))?);
        rest.push(CommitStep::Unpin {
            path: pins.program(id),
        });
        rest.extend(maps_removal(change, pins, id, &record)?);
    }
    steps.push(CommitStep::Records { puts });
    steps.extend(rest);
    change.commit(steps)
}

/// The folder of maps goes with the last program that uses it, and so does each map that is shared by name.
fn maps_removal<K: Kernel>(
    change: &Change<'_, K>,
    pins: &Pins,
    program_id: u32,
    record: &ProgramRecord,
) -> Result<Vec<CommitStep>, LoaderError> {
    let mut others = change.records()?.programs()?;
    others.remove(&program_id);
    let mut steps = Vec::new();
    for name in &record.maps_by_name {
        let used = |other: &ProgramRecord| other.maps_by_name.contains(name);
        if !others.values().any(used) {
            steps.push(CommitStep::Unpin {
                path: pins.map_by_name(name),
            });
        }
    }
    if others
        .values()
        .any(|other| other.maps_folder == record.maps_folder)
    {
        return Ok(steps);
    }
    let folder = pins.maps(record.maps_folder);
    let entries = change.kernel.list_dir(&folder);
    let entries = entries.doing(|| format!("listing {}", folder.display()))?;
    let pinned = entries.iter().filter(|entry| !entry.is_dir);
    steps.extend(pinned.map(|pin| CommitStep::Unpin {
        path: folder.join(&pin.name),
    }));
    steps.push(CommitStep::RemoveDir { path: folder });
    Ok(steps)
}
