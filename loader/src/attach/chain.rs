//! Attaching to a hook that has a dispatcher: XDP and TC.

use std::path::{Path, PathBuf};

use crate::change::{self, Change};
use crate::dispatcher::action;
use crate::dispatcher::chain::{self, Pulse};
use crate::dispatcher::plan::{self, MAX_MEMBERS, Member};
use crate::error::{Doing, HookPlace};
use crate::kernel::{Device, Kernel, KernelError};
use crate::show;
use crate::state::{
    ChainKey, ChainRecord, CommitStep, Guard, Hook, Key, LinkRecord, ModeRecord, PlaceRecord, Put,
};
use crate::{Link, Loader, LoaderError, ProceedOn, XdpMode};

use super::Attaching;

/// What was asked for.
pub(super) struct Joining {
    pub(super) hook: Hook,
    pub(super) iface: String,
    pub(super) priority: u32,
    pub(super) proceed_on: Option<ProceedOn>,
    pub(super) mode: Option<XdpMode>,
    pub(super) netns: Option<PathBuf>,
}

/// An interface's hook and the link to be made on it.
pub(super) struct Place<'a> {
    /// As it was asked for.
    pub(super) name: Box<HookPlace>,
    /// The interface's own name.
    pub(super) iface: String,
    pub(super) key: ChainKey,
    pub(super) device: Device,
    pub(super) program_id: u32,
    pub(super) link_id: u32,
    pub(super) record: &'a LinkRecord,
}

/// How the first program of a chain came onto its hook.
#[derive(Default)]
pub(super) struct Founded {
    /// Of an XDP link.
    pub(super) mode: Option<XdpMode>,
    /// Records of what else was made.
    pub(super) puts: Vec<Put>,
}

impl<K: Kernel> Loader<K> {
    pub(super) fn attach_to_chain(
        &self,
        guard: &mut Guard,
        attaching: Attaching,
        joining: Joining,
    ) -> Result<Link, LoaderError> {
        let id = attaching.program_id;
        let name = Box::new(HookPlace {
            iface: joining.iface.clone(),
            direction: match joining.hook {
                Hook::Xdp => None,
                Hook::Tc(direction) | Hook::Tcx(direction) => Some(direction),
            },
            netns: joining.netns.clone(),
        });
        super::check_priority(id, &name, joining.priority)?;
        let proceed_on = action::mask(joining.hook, joining.proceed_on.as_ref())?;
        let what = format!("attaching program {id} to {name}");
        let (device, iface) = self.device(&what, &joining.iface, joining.netns.as_deref())?;
        let key = ChainKey {
            hook: joining.hook,
            nsid: device.nsid,
            ifindex: device.ifindex,
        };
        let mut attaching = attaching;
        if self.follow(guard, &what, key, (&device, &iface), &name)? {
            attaching.links = guard.records_of_change()?.links()?;
        }
        let record = LinkRecord {
            program_id: id,
            sequence: attaching.sequence,
            metadata: attaching.metadata,
            place: place(&joining, &iface, key, proceed_on),
        };
        let loaded = attaching.program.member.unwrap_or_default();
        let mut chain = guard.records_of_change()?.chain(key)?;
        let mut members = chain::members(guard.records_of_change()?, attaching.links.clone(), key)?;
        if let Some(found) = &mut chain {
            // A path that it was reached at before may lead there no more.
            found.netns.clone_from(&device.netns);
            match chain::pulse(&self.kernel, &self.pins(), key, found)? {
                Pulse::Runs => join(found, &members, id, loaded.extension, &joining, &name)?,
                // bpffs was unmounted: what is left of the chain leads nowhere.
                Pulse::Unpinned if !self.is_held(&device, key, found)? => chain = None,
                Pulse::Unpinned => {
                    return Err(LoaderError::ChainHeld {
                        place: name,
                        path: self.pins().xdp_link(key),
                        program: found.program_id,
                    });
                }
                Pulse::Stopped => chain = None,
            }
        }
        if chain.is_none() && !members.is_empty() {
            let stale = attaching.links.into_iter();
            let stale = stale.filter(|(_, link)| link.chain() == Some(key));
            self.forget(guard, &name, stale.collect())?;
            members.clear();
        }
        members.push(Member {
            link_id: attaching.link_id,
            program_id: id,
            priority: joining.priority,
            sequence: attaching.sequence,
            proceed_on,
            loaded,
        });
        plan::sort(&mut members);
        let position = members
            .iter()
            .position(|member| member.link_id == attaching.link_id);
        let position = position.unwrap_or_default();

        let place = Place {
            name,
            iface,
            key,
            device,
            program_id: id,
            link_id: attaching.link_id,
            record: &record,
        };
        self.prepare()?;
        change::run(&self.kernel, guard, &what, |change| match chain {
            Some(chain) => self.grow(change, &place, &chain, &members),
            None => self.found(change, &place, joining.mode, &members, loaded.extension),
        })?;
        let link = show::link(
            attaching.link_id,
            record.clone(),
            &attaching.program,
            position,
        );
        Ok(self.located(guard, link, &record))
    }

    /// The first program on a hook.
    fn found(
        &self,
        change: &mut Change<'_, K>,
        place: &Place<'_>,
        mode: Option<XdpMode>,
        members: &[Member],
        extension: bool,
    ) -> Result<(), LoaderError> {
        let pins = self.pins();
        self.refuse_foreign(place)?;
        let (program, revision, program_id) = if extension {
            let revision = chain::next_revision(&self.kernel, &pins, place.key, 0)?;
            let programs = chain::open_programs(&self.kernel, &pins, members)?;
            let built = chain::build(change, &pins, place.key, revision, members, &programs)?;
            (built.dispatcher, revision, built.id)
        } else {
            let program = chain::open_program(&self.kernel, &pins, place.program_id)?;
            (program, 0, place.program_id)
        };
        let founded = self.put_on_hook(change, place, &program, program_id, mode)?;
        let chain = ChainRecord {
            revision,
            program_id,
            mode: founded.mode.map(ModeRecord::from),
            direct: !extension,
            netns: place.device.netns.clone(),
        };
        let mut puts = puts(change, place, &chain)?;
        puts.extend(founded.puts);
        change.record(puts)
    }

    pub(super) fn refuse_foreign(&self, place: &Place<'_>) -> Result<(), LoaderError> {
        match place.key.hook {
            Hook::Xdp => self.refuse_foreign_xdp(place),
            Hook::Tc(direction) | Hook::Tcx(direction) => {
                self.refuse_foreign_filters(place, direction)
            }
        }
    }

    /// Lets an empty hook run a program of that id.
    pub(super) fn put_on_hook(
        &self,
        change: &mut Change<'_, K>,
        place: &Place<'_>,
        program: &K::Handle,
        program_id: u32,
        mode: Option<XdpMode>,
    ) -> Result<Founded, LoaderError> {
        match place.key.hook {
            Hook::Xdp => self.found_xdp(change, place, program, mode),
            Hook::Tc(direction) | Hook::Tcx(direction) => {
                self.found_tc(change, place, direction, program, program_id)
            }
        }
    }

    /// One more program in a chain.
    fn grow(
        &self,
        change: &mut Change<'_, K>,
        place: &Place<'_>,
        chain: &ChainRecord,
        members: &[Member],
    ) -> Result<(), LoaderError> {
        let pins = self.pins();
        let revision = chain::next_revision(&self.kernel, &pins, place.key, chain.revision)?;
        let programs = chain::open_programs(&self.kernel, &pins, members)?;
        let built = chain::build(change, &pins, place.key, revision, members, &programs)?;
        let next = ChainRecord {
            revision,
            program_id: built.id,
            ..chain.clone()
        };
        let mut steps = vec![
            chain::swap(&pins, place.key, chain, built.id, false),
            CommitStep::Records {
                puts: puts(change, place, &next)?,
            },
        ];
        steps.extend(chain::removal(
            &self.kernel,
            &pins,
            place.key,
            chain.revision,
        )?);
        change.commit(steps)
    }

    /// Whether an XDP link without its pin still runs, because some process has it open.
    fn is_held(
        &self,
        device: &Device,
        key: ChainKey,
        chain: &ChainRecord,
    ) -> Result<bool, LoaderError> {
        if key.hook != Hook::Xdp {
            return Ok(false);
        }
        Ok(self.xdp_programs(device)?.contains(&chain.program_id))
    }

    /// Ids of the XDP programs on an interface; none on one that is gone.
    pub(super) fn xdp_programs(&self, device: &Device) -> Result<Vec<u32>, LoaderError> {
        match self.kernel.interface_state(device) {
            Ok(state) => Ok(state.xdp.into_iter().map(|(_, id)| id).collect()),
            Err(KernelError::InterfaceGone { .. }) => Ok(Vec::new()),
            Err(error) => Err(error).doing(|| format!("looking at interface {}", device.ifindex)),
        }
    }

    /// Looks an interface up by any of its names, and gives its own one as well.
    pub(super) fn device(
        &self,
        what: &str,
        iface: &str,
        netns: Option<&Path>,
    ) -> Result<(Device, String), LoaderError> {
        let found = self.kernel.interface(iface, netns);
        let found = found.doing(|| what.to_owned())?;
        let device = Device {
            ifindex: found.ifindex,
            nsid: found.nsid,
            netns: netns.map(Path::to_owned),
        };
        Ok((device, found.name))
    }
}

/// Whether a program may join a chain that is there.
fn join(
    chain: &ChainRecord,
    members: &[Member],
    id: u32,
    extension: bool,
    joining: &Joining,
    name: &HookPlace,
) -> Result<(), LoaderError> {
    let place = Box::new(name.clone());
    if chain.direct || !extension {
        let holder = members
            .first()
            .map_or(chain.program_id, |member| member.program_id);
        return Err(LoaderError::NoChain {
            id,
            place,
            holder,
            alone: if extension { holder } else { id },
        });
    }
    if members.len() >= MAX_MEMBERS {
        return Err(LoaderError::ChainFull {
            id,
            place,
            limit: MAX_MEMBERS,
        });
    }
    let asked = joining.mode.map(ModeRecord::from);
    if asked.is_some() && asked != chain.mode {
        return Err(LoaderError::ModeDiffers {
            id,
            place,
            asked: super::xdp::mode_word(asked),
            found: super::xdp::mode_word(chain.mode),
        });
    }
    Ok(())
}

fn place(joining: &Joining, iface: &str, key: ChainKey, proceed_on: u32) -> PlaceRecord {
    let ChainKey {
        hook,
        nsid,
        ifindex,
    } = key;
    let iface = iface.to_owned();
    let priority = joining.priority;
    let netns = joining.netns.clone();
    match hook {
        Hook::Xdp => PlaceRecord::Xdp {
            iface,
            nsid,
            ifindex,
            priority,
            proceed_on,
            netns,
        },
        Hook::Tc(direction) | Hook::Tcx(direction) => PlaceRecord::Tc {
            iface,
            direction,
            nsid,
            ifindex,
            priority,
            proceed_on,
            netns,
        },
    }
}

fn puts<K: Kernel>(
    change: &Change<'_, K>,
    place: &Place<'_>,
    chain: &ChainRecord,
) -> Result<Vec<Put>, LoaderError> {
    let records = change.records()?;
    Ok(vec![
        records.put(Key::Chain(place.key), Some(chain))?,
        records.put(Key::Link(place.link_id), Some(place.record))?,
    ])
}
