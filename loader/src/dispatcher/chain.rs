//! Building, replacing and removing the revisions of a chain.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use log::warn;

use crate::change::Change;
use crate::error::Doing;
use crate::kernel::{Device, Kernel, KernelError, LinkSpec, TC_PREFERENCE};
use crate::paths::{Pins, slot_pin};
use crate::state::{
    ChainKey, ChainRecord, CommitStep, Hook, Key, LinkRecord, ProgramRecord, Put, Store,
};
use crate::{LoaderError, TcDirection};

use super::plan::{self, Member};

/// A dispatcher with its members attached, not on any interface yet.
#[derive(Debug)]
pub(crate) struct Built<H> {
    pub(crate) dispatcher: H,
    pub(crate) id: u32,
}

/// Members of a chain, in order.
pub(crate) fn members(
    records: &Store,
    links: impl IntoIterator<Item = (u32, LinkRecord)>,
    key: ChainKey,
) -> Result<Vec<Member>, LoaderError> {
    let mut members = Vec::new();
    for (link_id, link) in links {
        if link.chain() == Some(key) {
            let program = records.program(link.program_id)?;
            members.extend(member(link_id, &link, program.as_ref()));
        }
    }
    plan::sort(&mut members);
    Ok(members)
}

/// Names that the interface of a chain had when its links were recorded.
pub(crate) fn recorded_names(links: &BTreeMap<u32, LinkRecord>, key: ChainKey) -> BTreeSet<String> {
    let of_chain = links.values().filter(|link| link.chain() == Some(key));
    of_chain
        .filter_map(LinkRecord::hook)
        .map(|hook| hook.iface)
        .collect()
}

/// A link as a member of its chain; `None` when it is in none.
pub(crate) fn member(
    link_id: u32,
    link: &LinkRecord,
    program: Option<&ProgramRecord>,
) -> Option<Member> {
    let (_, priority) = link.order()?;
    let loaded = program.and_then(|program| program.member);
    Some(Member {
        link_id,
        program_id: link.program_id,
        priority,
        sequence: link.sequence,
        proceed_on: link.proceed_on()?,
        loaded: loaded.unwrap_or_default(),
    })
}

/// Builds a revision from the ground: dispatcher, every member's program in its slot, every slot pinned.
pub(crate) fn build<K: Kernel>(
    change: &mut Change<'_, K>,
    pins: &Pins,
    key: ChainKey,
    revision: u32,
    members: &[Member],
    programs: &[K::Handle],
) -> Result<Built<K::Handle>, LoaderError> {
    let kernel = change.kernel;
    let folder = pins.revision(key, revision);
    change.create_dir(&folder)?;
    let config = plan::config(key.hook, members);
    let dispatcher = kernel
        .load_dispatcher(&config)
        .doing(|| "loading the dispatcher".to_owned())?;
    let id = kernel
        .program_state(&dispatcher)
        .doing(|| "reading the dispatcher's id".to_owned())?
        .id;
    for (position, (member, program)) in members.iter().zip(programs).enumerate() {
        let function = if plan::is_whole(key.hook, members) {
            config.function().to_owned()
        } else {
            plan::slot_function(position)
        };
        let spec = LinkSpec::Extension {
            program,
            target: &dispatcher,
            function: &function,
        };
        let link = kernel
            .link(&spec)
            .doing(|| format!("putting program {} into the dispatcher", member.program_id))?;
        change.pin(&link, &folder.join(slot_pin(position)))?;
    }
    Ok(Built { dispatcher, id })
}

/// Opens a program of ours by its pin.
pub(crate) fn open_program<K: Kernel>(
    kernel: &K,
    pins: &Pins,
    id: u32,
) -> Result<K::Handle, LoaderError> {
    find_program(kernel, pins, id)?.ok_or_else(|| LoaderError::ProgramGone {
        id,
        path: pins.program(id),
    })
}

fn find_program<K: Kernel>(
    kernel: &K,
    pins: &Pins,
    id: u32,
) -> Result<Option<K::Handle>, LoaderError> {
    let opened = kernel.open_pin(&pins.program(id));
    opened.doing(|| format!("opening program {id}"))
}

/// Opens the programs of members.
pub(crate) fn open_programs<K: Kernel>(
    kernel: &K,
    pins: &Pins,
    members: &[Member],
) -> Result<Vec<K::Handle>, LoaderError> {
    let ids = members.iter().map(|member| member.program_id);
    ids.map(|id| open_program(kernel, pins, id)).collect()
}

/// Opens the programs of members that stay when others go. One that is gone must not keep those: it is left out.
fn open_present<K: Kernel>(
    kernel: &K,
    pins: &Pins,
    members: Vec<Member>,
) -> Result<(Vec<Member>, Vec<K::Handle>), LoaderError> {
    let mut present = Vec::with_capacity(members.len());
    let mut programs = Vec::with_capacity(members.len());
    for member in members {
        let id = member.program_id;
        match find_program(kernel, pins, id)? {
            Some(program) => {
                present.push(member);
                programs.push(program);
            }
            None => warn!(
                "program {id} is recorded but gone ({} is not there): link {} is left out of its chain; \
                 `bpfman unload {id}` removes the records",
                pins.program(id).display(),
                member.link_id
            ),
        }
    }
    Ok((present, programs))
}

/// Steps that remove a revision that no interface uses.
pub(crate) fn removal<K: Kernel>(
    kernel: &K,
    pins: &Pins,
    key: ChainKey,
    revision: u32,
) -> Result<Vec<CommitStep>, LoaderError> {
    let folder = pins.revision(key, revision);
    let entries = kernel
        .list_dir(&folder)
        .doing(|| format!("listing {}", folder.display()))?;
    let pins = entries.iter().filter(|entry| !entry.is_dir);
    let unpins = pins.map(|pin| CommitStep::Unpin {
        path: folder.join(&pin.name),
    });
    let mut steps: Vec<_> = unpins.collect();
    steps.push(CommitStep::RemoveDir { path: folder });
    Ok(steps)
}

/// The first revision after this one whose folder is not there: one may be left over from records that were removed.
/// Numbers are used again only after four thousand millions.
pub(crate) fn next_revision<K: Kernel>(
    kernel: &K,
    pins: &Pins,
    key: ChainKey,
    revision: u32,
) -> Result<u32, LoaderError> {
    let mut revision = revision;
    loop {
        revision = revision.checked_add(1).unwrap_or(1);
        let folder = pins.revision(key, revision);
        let there = kernel.exists(&folder);
        if !there.doing(|| format!("looking at {}", folder.display()))? {
            return Ok(revision);
        }
    }
}

impl ChainRecord {
    /// The interface of a chain, as TC finds it again.
    pub(crate) fn device(&self, key: ChainKey) -> Device {
        Device {
            ifindex: key.ifindex,
            nsid: key.nsid,
            netns: self.netns.clone(),
        }
    }
}

/// The step that puts program `new` in the place of what runs on a chain's hook.
pub(crate) fn swap(
    pins: &Pins,
    key: ChainKey,
    chain: &ChainRecord,
    new: u32,
    may_be_gone: bool,
) -> CommitStep {
    let old = chain.program_id;
    match key.hook {
        Hook::Xdp => CommitStep::Swap {
            link: pins.xdp_link(key),
            old,
            new,
            may_be_gone,
        },
        Hook::Tc(direction) | Hook::Tcx(direction) => CommitStep::SwapFilter {
            device: chain.device(key),
            direction,
            old,
            new,
            may_be_gone,
        },
    }
}

/// Whether a chain of the records still runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pulse {
    Runs,
    /// Its interface is gone, or somebody took what ran there away.
    Stopped,
    /// Its pin is gone: bpffs was unmounted.
    Unpinned,
}

/// Looks for what a chain's record says is on its hook.
pub(crate) fn pulse<K: Kernel>(
    kernel: &K,
    pins: &Pins,
    key: ChainKey,
    chain: &ChainRecord,
) -> Result<Pulse, LoaderError> {
    match key.hook {
        Hook::Xdp => {
            let link = pins.xdp_link(key);
            let what = || format!("opening {}", link.display());
            let Some(link) = kernel.open_pin(&link).doing(what)? else {
                return Ok(Pulse::Unpinned);
            };
            Ok(match kernel.link_interface(&link).doing(what)? {
                Some(_) => Pulse::Runs,
                None => Pulse::Stopped,
            })
        }
        Hook::Tc(direction) | Hook::Tcx(direction) => {
            let folder = pins.revision(key, chain.revision);
            let listed = kernel.list_dir(&folder);
            let listed = listed.doing(|| format!("listing {}", folder.display()))?;
            if !chain.direct && listed.is_empty() {
                return Ok(Pulse::Unpinned);
            }
            let runs = has_filter(kernel, key, direction, chain)?;
            Ok(if runs { Pulse::Runs } else { Pulse::Stopped })
        }
    }
}

/// Whether the filter of a TC chain is where it was put.
pub(crate) fn has_filter<K: Kernel>(
    kernel: &K,
    key: ChainKey,
    direction: TcDirection,
    chain: &ChainRecord,
) -> Result<bool, LoaderError> {
    let filters = match kernel.tc_filters(&chain.device(key), direction) {
        Err(KernelError::InterfaceGone { .. }) => return Ok(false),
        filters => filters.doing(|| format!("looking for the TC {direction} filter"))?,
    };
    Ok(filters.iter().any(|filter| {
        filter.preference == TC_PREFERENCE && filter.program_id == Some(chain.program_id)
    }))
}

/// What taking members out of a chain comes to.
#[derive(Debug, Default)]
pub(crate) struct Shrunk {
    /// First: no packet is to see what is taken away.
    pub(crate) swaps: Vec<CommitStep>,
    pub(crate) puts: Vec<Put>,
    pub(crate) rest: Vec<CommitStep>,
    /// This TC chain ends.
    pub(crate) ended: Option<Ended>,
}

/// A TC chain that ends.
#[derive(Debug)]
pub(crate) struct Ended {
    key: ChainKey,
    device: Device,
    /// Whether its filter was still there. If not, the interface may be another one that was given the same numbers,
    /// and a clsact on it somebody else's.
    ran: bool,
}

/// Takes the links `gone` out of a chain: builds the revision without them, or plans the chain's end.
///
/// `netns` is a path that leads to the chain's namespace now, where the caller knows one.
pub(crate) fn shrink<K: Kernel>(
    change: &mut Change<'_, K>,
    pins: &Pins,
    key: ChainKey,
    gone: &[u32],
    netns: Option<&Path>,
) -> Result<Shrunk, LoaderError> {
    let kernel = change.kernel;
    let records = change.records()?;
    let Some(mut chain) = records.chain(key)? else {
        return Ok(Shrunk::default());
    };
    if let Some(netns) = netns {
        chain.netns = Some(netns.to_owned());
    }
    let mut left = members(records, records.links()?, key)?;
    left.retain(|member| !gone.contains(&member.link_id));
    if left.is_empty() {
        return end(kernel, pins, key, &chain, records);
    }
    match pulse(kernel, pins, key, &chain)? {
        Pulse::Runs => {}
        // Nothing of the chain runs any more: no revision is needed, and only the records of other links stay.
        Pulse::Stopped => return end(kernel, pins, key, &chain, records),
        Pulse::Unpinned => return Ok(Shrunk::default()),
    }
    let (left, programs) = open_present(kernel, pins, left)?;
    if left.is_empty() {
        return end(kernel, pins, key, &chain, records);
    }
    let revision = next_revision(kernel, pins, key, chain.revision)?;
    let built = build(change, pins, key, revision, &left, &programs)?;
    let rest = removal(kernel, pins, key, chain.revision)?;
    let next = ChainRecord {
        revision,
        program_id: built.id,
        ..chain.clone()
    };
    Ok(Shrunk {
        swaps: vec![swap(pins, key, &chain, built.id, true)],
        puts: vec![change.records()?.put(Key::Chain(key), Some(&next))?],
        rest,
        ended: None,
    })
}

/// Takes a chain away, with whatever is left of it.
fn end<K: Kernel>(
    kernel: &K,
    pins: &Pins,
    key: ChainKey,
    chain: &ChainRecord,
    records: &Store,
) -> Result<Shrunk, LoaderError> {
    let mut ended = Shrunk {
        puts: vec![records.remove(Key::Chain(key))?],
        ..Shrunk::default()
    };
    match key.hook {
        Hook::Xdp => ended.rest.push(CommitStep::Unpin {
            path: pins.xdp_link(key),
        }),
        Hook::Tc(direction) | Hook::Tcx(direction) => {
            let device = chain.device(key);
            let ran = has_filter(kernel, key, direction, chain)?;
            if ran {
                ended.swaps.push(CommitStep::RemoveFilter {
                    device: device.clone(),
                    direction,
                    program: chain.program_id,
                });
            }
            ended.ended = Some(Ended { key, device, ran });
        }
    }
    if !chain.direct {
        ended
            .rest
            .extend(removal(kernel, pins, key, chain.revision)?);
    }
    Ok(ended)
}

/// Removes every clsact of ours that is left without a chain when those of `ended` are gone.
pub(crate) fn unused_clsacts(
    records: &Store,
    ended: &[Ended],
) -> Result<(Vec<CommitStep>, Vec<Put>), LoaderError> {
    let (mut steps, mut puts) = (Vec::new(), Vec::new());
    let mut seen = BTreeSet::new();
    for Ended { device, .. } in ended {
        let (nsid, ifindex) = (device.nsid, device.ifindex);
        let here = |ended: &&Ended| (ended.device.nsid, ended.device.ifindex) == (nsid, ifindex);
        if !seen.insert((nsid, ifindex)) || records.clsact(nsid, ifindex)?.is_none() {
            continue;
        }
        let mut used = false;
        for direction in [TcDirection::Ingress, TcDirection::Egress] {
            let key = ChainKey {
                hook: Hook::Tc(direction),
                nsid,
                ifindex,
            };
            let ends = ended.iter().any(|ended| ended.key == key);
            used |= !ends && records.chain(key)?.is_some();
        }
        if !used {
            if ended.iter().filter(here).any(|ended| ended.ran) {
                let device = device.clone();
                steps.push(CommitStep::RemoveClsact { device });
            }
            puts.push(records.remove(Key::Clsact { nsid, ifindex })?);
        }
    }
    Ok((steps, puts))
}
