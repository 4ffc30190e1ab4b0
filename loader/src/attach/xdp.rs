use std::path::PathBuf;

use log::warn;

use crate::change::{self, Change};
use crate::dispatcher::plan::{self, MAX_MEMBERS, Member};
use crate::dispatcher::{action, xdp};
use crate::error::Doing;
use crate::kernel::{Kernel, KernelError, LinkSpec};
use crate::show;
use crate::state::{
    ChainKey, ChainRecord, CommitStep, Guard, Key, LinkRecord, ModeRecord, PlaceRecord, Put,
};
use crate::{Link, Loader, LoaderError, ProceedOn, XdpMode};

use super::Attaching;

/// Where on an interface.
pub(super) struct Hook {
    pub(super) iface: String,
    pub(super) priority: u32,
    pub(super) proceed_on: Option<ProceedOn>,
    pub(super) mode: Option<XdpMode>,
    pub(super) netns: Option<PathBuf>,
}

/// An interface and the link to be made on it.
struct Place<'a> {
    iface: &'a str,
    key: ChainKey,
    program_id: u32,
    link_id: u32,
    record: &'a LinkRecord,
}

impl<K: Kernel> Loader<K> {
    pub(super) fn attach_xdp(
        &self,
        guard: &mut Guard,
        attaching: Attaching,
        hook: Hook,
    ) -> Result<Link, LoaderError> {
        let id = attaching.program_id;
        if hook.netns.is_some() {
            return Err(LoaderError::NotBuiltYet("attach xdp --netns"));
        }
        if !(1..=1000).contains(&hook.priority) {
            return Err(LoaderError::Priority {
                id,
                iface: hook.iface,
                found: hook.priority,
            });
        }
        let proceed_on = action::mask(hook.proceed_on.as_ref())?;
        let what = format!("attaching program {id} to {}", hook.iface);
        let interface = self
            .kernel
            .interface(&hook.iface, None)
            .doing(|| what.clone())?;
        let key = ChainKey {
            nsid: interface.nsid,
            ifindex: interface.ifindex,
        };
        let record = LinkRecord {
            program_id: id,
            sequence: attaching.sequence,
            metadata: attaching.metadata,
            place: PlaceRecord::Xdp {
                iface: hook.iface.clone(),
                nsid: key.nsid,
                ifindex: key.ifindex,
                priority: hook.priority,
                proceed_on,
                netns: None,
            },
        };
        let records = guard.records_of_change()?;
        let chain = records.chain(key)?;
        let program_xdp = attaching.program.xdp.unwrap_or_default();
        let mut members = xdp::members(records, attaching.links, key)?;
        if let Some(chain) = &chain {
            join(chain, &members, id, program_xdp.extension, &hook)?;
        }
        members.push(Member {
            link_id: attaching.link_id,
            program_id: id,
            priority: hook.priority,
            sequence: attaching.sequence,
            proceed_on,
            xdp: program_xdp,
        });
        plan::sort(&mut members);
        let position = members
            .iter()
            .position(|member| member.link_id == attaching.link_id);
        let position = position.unwrap_or_default();

        let place = Place {
            iface: &hook.iface,
            key,
            program_id: id,
            link_id: attaching.link_id,
            record: &record,
        };
        self.prepare()?;
        change::run(&self.kernel, guard, &what, |change| match chain {
            Some(chain) => self.grow(change, &place, &chain, &members),
            None => {
                let mode = hook
                    .mode
                    .or_else(|| self.config.xdp_modes.get(&hook.iface).copied());
                self.found(change, &place, mode, &members, program_xdp.extension)
            }
        })?;
        Ok(show::link(
            attaching.link_id,
            record,
            &attaching.program,
            position,
        ))
    }

    /// The first program on an interface.
    fn found(
        &self,
        change: &mut Change<'_, K>,
        place: &Place<'_>,
        mode: Option<XdpMode>,
        members: &[Member],
        extension: bool,
    ) -> Result<(), LoaderError> {
        let there = self.kernel.xdp_program_on(place.key.ifindex, None);
        let there = there.doing(|| format!("looking for XDP programs on {}", place.iface))?;
        if let Some(foreign) = there {
            return Err(LoaderError::ForeignXdp {
                id: place.program_id,
                iface: place.iface.to_owned(),
                foreign,
            });
        }
        let pins = self.pins();
        let (program, chain) = if extension {
            let revision = xdp::next_revision(0);
            let built = xdp::build(change, &pins, place.key, revision, members)?;
            let chain = ChainRecord {
                revision,
                program_id: built.id,
                mode: None,
                direct: false,
            };
            (built.dispatcher, chain)
        } else {
            let chain = ChainRecord {
                revision: 0,
                program_id: place.program_id,
                mode: None,
                direct: true,
            };
            (
                xdp::open_program(&self.kernel, &pins, place.program_id)?,
                chain,
            )
        };
        let (link, mode) = self.link_in_mode(place, &program, mode)?;
        let chain = ChainRecord {
            mode: mode.map(ModeRecord::from),
            ..chain
        };
        change.pin(&link, &pins.xdp_link(place.key))?;
        let puts = puts(change, place, &chain)?;
        change.record(puts)
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
        let link = pins.xdp_link(place.key);
        let there = self.kernel.open_pin(&link);
        if there
            .doing(|| format!("opening {}", link.display()))?
            .is_none()
        {
            let others = members
                .iter()
                .filter(|member| member.link_id != place.link_id);
            return Err(LoaderError::ChainGone {
                iface: place.iface.to_owned(),
                path: link,
                links: others.map(|member| member.link_id).collect(),
            });
        }
        let revision = xdp::next_revision(chain.revision);
        let built = xdp::build(change, &pins, place.key, revision, members)?;
        let next = ChainRecord {
            revision,
            program_id: built.id,
            ..chain.clone()
        };
        let mut steps = vec![
            CommitStep::Swap {
                link,
                old: chain.program_id,
                new: built.id,
                may_be_gone: false,
            },
            CommitStep::Records {
                puts: puts(change, place, &next)?,
            },
        ];
        steps.extend(xdp::removal(
            &self.kernel,
            &pins,
            place.key,
            chain.revision,
        )?);
        change.commit(steps)
    }

    /// Makes the XDP link; without a mode in the kernel's choice, then in generic mode where the driver refuses.
    fn link_in_mode(
        &self,
        place: &Place<'_>,
        program: &K::Handle,
        mode: Option<XdpMode>,
    ) -> Result<(K::Handle, Option<XdpMode>), LoaderError> {
        let attempt = |mode| {
            self.kernel.link(&LinkSpec::Xdp {
                program,
                ifindex: place.key.ifindex,
                mode,
                netns: None,
            })
        };
        let what = || format!("attaching the XDP link to {}", place.iface);
        match (attempt(mode), mode) {
            (Ok(link), mode) => Ok((link, mode)),
            (Err(error), None) if is_mode_refused(&error) => {
                warn!(
                    "the driver of {} refuses XDP programs ({error}): attaching in generic (skb) mode, which is slower",
                    place.iface
                );
                let link = attempt(Some(XdpMode::Skb)).doing(what)?;
                Ok((link, Some(XdpMode::Skb)))
            }
            (Err(source), Some(mode)) if is_mode_refused(&source) => {
                Err(LoaderError::ModeRefused {
                    id: place.program_id,
                    iface: place.iface.to_owned(),
                    mode: mode_word(Some(mode.into())),
                    source,
                })
            }
            (Err(error), _) => Err(error).doing(what),
        }
    }
}

/// Whether a program may join a chain that is there.
fn join(
    chain: &ChainRecord,
    members: &[Member],
    id: u32,
    extension: bool,
    hook: &Hook,
) -> Result<(), LoaderError> {
    let iface = hook.iface.clone();
    if chain.direct || !extension {
        let holder = members
            .first()
            .map_or(chain.program_id, |member| member.program_id);
        return Err(LoaderError::NoChain { id, iface, holder });
    }
    if members.len() >= MAX_MEMBERS {
        return Err(LoaderError::ChainFull {
            id,
            iface,
            limit: MAX_MEMBERS,
        });
    }
    let asked = hook.mode.map(ModeRecord::from);
    if asked.is_some() && asked != chain.mode {
        return Err(LoaderError::ModeDiffers {
            id,
            iface,
            asked: mode_word(asked),
            found: mode_word(chain.mode),
        });
    }
    Ok(())
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

/// What drivers, and the kernel for those without an XDP hook, answer when they cannot (`dev_xdp_attach` in
/// net/core/dev.c, `ndo_bpf` of the drivers).
fn is_mode_refused(error: &KernelError) -> bool {
    let KernelError::Syscall { source, .. } = error else {
        return false;
    };
    matches!(
        source.raw_os_error(),
        Some(libc::EOPNOTSUPP | libc::EINVAL | libc::ERANGE)
    )
}

impl From<XdpMode> for ModeRecord {
    fn from(mode: XdpMode) -> Self {
        match mode {
            XdpMode::Driver => Self::Drv,
            XdpMode::Skb => Self::Skb,
            XdpMode::Hardware => Self::Hw,
        }
    }
}

fn mode_word(mode: Option<ModeRecord>) -> &'static str {
    match mode {
        Some(ModeRecord::Drv) => "drv",
        Some(ModeRecord::Skb) => "skb",
        Some(ModeRecord::Hw) => "hw",
        None => "the kernel's choice of",
    }
}
