//! Building, replacing and removing the revisions of an XDP chain.

use crate::LoaderError;
use crate::change::Change;
use crate::error::Doing;
use crate::kernel::{Kernel, LinkSpec};
use crate::paths::{Pins, slot_pin};
use crate::state::{ChainKey, ChainRecord, CommitStep, Key, LinkRecord, PlaceRecord, Store};

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
        if link.chain() != Some(key) {
            continue;
        }
        if let PlaceRecord::Xdp {
            priority,
            proceed_on,
            ..
        } = link.place
        {
            let program_id = link.program_id;
            let program = records.program(program_id)?;
            let xdp = program.and_then(|program| program.xdp);
            members.push(Member {
                link_id,
                program_id,
                priority,
                sequence: link.sequence,
                proceed_on,
                xdp: xdp.unwrap_or_default(),
            });
        }
    }
    plan::sort(&mut members);
    Ok(members)
}

/// Builds a revision from the ground: dispatcher, every member in its slot, every slot pinned.
pub(crate) fn build<K: Kernel>(
    change: &mut Change<'_, K>,
    pins: &Pins,
    key: ChainKey,
    revision: u32,
    members: &[Member],
) -> Result<Built<K::Handle>, LoaderError> {
    let kernel = change.kernel;
    let folder = pins.xdp_revision(key, revision);
    change.create_dir(&folder)?;
    let dispatcher = kernel
        .load_xdp_dispatcher(&plan::config(members))
        .doing(|| "loading the XDP dispatcher".to_owned())?;
    let id = kernel
        .program_state(&dispatcher)
        .doing(|| "reading the XDP dispatcher's id".to_owned())?
        .id;
    for (position, member) in members.iter().enumerate() {
        let program = open_program(kernel, pins, member.program_id)?;
        let function = plan::slot_function(position);
        let spec = LinkSpec::Extension {
            program: &program,
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
    let path = pins.program(id);
    let opened = kernel
        .open_pin(&path)
        .doing(|| format!("opening program {id}"))?;
    opened.ok_or(LoaderError::ProgramGone { id, path })
}

/// Steps that remove a revision that no interface uses.
pub(crate) fn removal<K: Kernel>(
    kernel: &K,
    pins: &Pins,
    key: ChainKey,
    revision: u32,
) -> Result<Vec<CommitStep>, LoaderError> {
    let folder = pins.xdp_revision(key, revision);
    let names = kernel
        .list_dir(&folder)
        .doing(|| format!("listing {}", folder.display()))?;
    let unpins = names.iter().map(|name| CommitStep::Unpin {
        path: folder.join(name),
    });
    let mut steps: Vec<_> = unpins.collect();
    steps.push(CommitStep::RemoveDir { path: folder });
    Ok(steps)
}

/// The revision after this one. Numbers are used again only after four thousand millions.
pub(crate) fn next_revision(revision: u32) -> u32 {
    revision.checked_add(1).unwrap_or(1)
}

/// What taking members out of a chain comes to.
#[derive(Debug, Default)]
pub(crate) struct Shrunk {
    /// First: no packet is to see what is taken away.
    pub(crate) swaps: Vec<CommitStep>,
    pub(crate) puts: Vec<crate::state::Put>,
    pub(crate) rest: Vec<CommitStep>,
}

/// Takes the links `gone` out of a chain: builds the revision without them, or plans the chain's end.
pub(crate) fn shrink<K: Kernel>(
    change: &mut Change<'_, K>,
    pins: &Pins,
    key: ChainKey,
    gone: &[u32],
) -> Result<Shrunk, LoaderError> {
    let kernel = change.kernel;
    let records = change.records()?;
    let Some(chain) = records.chain(key)? else {
        return Ok(Shrunk::default());
    };
    let mut left = members(records, records.links()?, key)?;
    left.retain(|member| !gone.contains(&member.link_id));
    let link = pins.xdp_link(key);
    if left.is_empty() {
        let mut rest = vec![CommitStep::Unpin { path: link }];
        if !chain.direct {
            rest.extend(removal(kernel, pins, key, chain.revision)?);
        }
        return Ok(Shrunk {
            swaps: Vec::new(),
            puts: vec![records.remove(Key::Chain(key))?],
            rest,
        });
    }
    let there = kernel
        .open_pin(&link)
        .doing(|| format!("opening {}", link.display()))?;
    if there.is_none() {
        // bpffs was unmounted: nothing of the chain runs any more, only its records are left.
        return Ok(Shrunk::default());
    }
    let revision = next_revision(chain.revision);
    let built = build(change, pins, key, revision, &left)?;
    let rest = removal(kernel, pins, key, chain.revision)?;
    let next = ChainRecord {
        revision,
        program_id: built.id,
        ..chain.clone()
    };
    Ok(Shrunk {
        swaps: vec![CommitStep::Swap {
            link,
            old: chain.program_id,
            new: built.id,
            may_be_gone: true,
        }],
        puts: vec![change.records()?.put(Key::Chain(key), Some(&next))?],
        rest,
    })
}
