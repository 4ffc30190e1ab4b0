//! Where links of interfaces are today. Records know namespace, index and name of the time when a link was made;
//! interfaces are renamed, moved to other namespaces and deleted since, and their numbers are given out again.

use std::collections::BTreeMap;
use std::path::Path;

use log::{debug, warn};

use crate::change::with_causes;
use crate::dispatcher::chain;
use crate::error::{Doing, HookPlace};
use crate::kernel::{Device, Kernel, KernelError, LinkPlace, TcxMember};
use crate::paths::Pins;
use crate::state::{ChainKey, ChainRecord, Guard, Hook, LinkRecord, Records};
use crate::{Attachment, Link, Loader, LoaderError, TcDirection, XdpMode};

/// Where a link is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Whereabouts {
    On(Place),
    /// On an interface in a namespace that cannot be found.
    Hidden {
        ifindex: u32,
    },
    /// Its interface is gone, or it was taken away from it.
    Gone,
    /// Its pin is gone: bpffs was unmounted.
    Unpinned,
}

/// An interface as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) device: Device,
    pub(crate) name: String,
    /// Mode in which an XDP program runs there.
    pub(crate) mode: Option<XdpMode>,
}

/// Where a chain is.
pub(crate) fn of_chain<K: Kernel>(
    kernel: &K,
    pins: &Pins,
    key: ChainKey,
    record: &ChainRecord,
) -> Result<Whereabouts, LoaderError> {
    let device = record.device(key);
    match key.hook {
        Hook::Xdp => of_pin(kernel, &pins.xdp_link(key), &device),
        // The filter tells whether it is the same interface: another one with its numbers has none of ours.
        Hook::Tc(_) | Hook::Tcx(_) => match chain::pulse(kernel, pins, key, record)? {
            chain::Pulse::Runs => Ok(now(kernel, device)?),
            chain::Pulse::Stopped => Ok(Whereabouts::Gone),
            chain::Pulse::Unpinned => Ok(Whereabouts::Unpinned),
        },
    }
}

/// Where a TCX link is.
pub(crate) fn of_tcx<K: Kernel>(
    kernel: &K,
    pins: &Pins,
    id: u32,
    key: ChainKey,
    record: &LinkRecord,
) -> Result<Whereabouts, LoaderError> {
    let device = Device {
        ifindex: key.ifindex,
        nsid: key.nsid,
        netns: record.hook().and_then(|hook| hook.netns),
    };
    of_pin(kernel, &pins.link(id), &device)
}

fn of_pin<K: Kernel>(kernel: &K, path: &Path, known: &Device) -> Result<Whereabouts, LoaderError> {
    let what = || format!("looking for what {} is on", path.display());
    let Some(link) = kernel.open_pin(path).doing(what)? else {
        return Ok(Whereabouts::Unpinned);
    };
    Ok(match kernel.link_place(&link, known).doing(what)? {
        LinkPlace::Gone => Whereabouts::Gone,
        LinkPlace::Hidden { ifindex } => Whereabouts::Hidden { ifindex },
        LinkPlace::On { device, name, mode } => Whereabouts::On(Place { device, name, mode }),
    })
}

fn now<K: Kernel>(kernel: &K, device: Device) -> Result<Whereabouts, LoaderError> {
    match kernel.interface_state(&device) {
        Ok(state) => Ok(Whereabouts::On(Place {
            device: Device {
                netns: state.netns,
                ..device
            },
            name: state.name,
            mode: None,
        })),
        Err(KernelError::InterfaceGone { .. }) => Ok(Whereabouts::Gone),
        Err(error) => Err(error).doing(|| "looking at an interface".to_owned()),
    }
}

/// Answers of the kernel about many links: each interface and chain is asked for once.
pub(crate) struct Survey<'a, K: Kernel> {
    kernel: &'a K,
    pins: &'a Pins,
    chains: BTreeMap<ChainKey, Whereabouts>,
    members: BTreeMap<(u64, u32, TcDirection), Vec<TcxMember>>,
}

impl<'a, K: Kernel> Survey<'a, K> {
    pub(crate) fn new(kernel: &'a K, pins: &'a Pins) -> Self {
        Self {
            kernel,
            pins,
            chains: BTreeMap::new(),
            members: BTreeMap::new(),
        }
    }

    /// Where a link of an interface is; `chain` reads the record of its chain. `None` for a link on no interface.
    pub(crate) fn find(
        &mut self,
        id: u32,
        record: &LinkRecord,
        chain: impl FnOnce(ChainKey) -> Result<Option<ChainRecord>, LoaderError>,
    ) -> Option<Result<Whereabouts, LoaderError>> {
        let (key, _) = record.order()?;
        if let Hook::Tcx(_) = key.hook {
            return Some(of_tcx(self.kernel, self.pins, id, key, record));
        }
        // The links of a chain go together.
        if let Some(found) = self.chains.get(&key) {
            return Some(Ok(found.clone()));
        }
        let found = chain(key).and_then(|found| match found {
            Some(found) => of_chain(self.kernel, self.pins, key, &found),
            None => Ok(Whereabouts::Gone),
        });
        if let Ok(found) = &found {
            self.chains.insert(key, found.clone());
        }
        Some(found)
    }

    /// Position of a TCX link among all that are on its hook, those of others included; `None` where the kernel does not
    /// say.
    pub(crate) fn tcx_position(
        &mut self,
        id: u32,
        place: &Place,
        direction: TcDirection,
    ) -> Option<usize> {
        let device = &place.device;
        let members = self
            .members
            .entry((device.nsid, device.ifindex, direction))
            .or_insert_with(|| match self.kernel.tcx_members(device, direction) {
                Ok(members) => members,
                Err(error) => {
                    debug!("listing the TCX links of {}: {error}", place.name);
                    Vec::new()
                }
            });
        let link = self.kernel.open_pin(&self.pins.link(id)).ok()??;
        let link = self.kernel.link_id(&link).ok()?;
        members.iter().position(|member| member.link_id == link)
    }
}

impl<K: Kernel> Loader<K> {
    /// Says of links of interfaces where they are now. What cannot be told stays as it is recorded.
    pub(crate) fn locate(
        &self,
        records: &Records,
        recorded: &BTreeMap<u32, LinkRecord>,
        links: &mut [Link],
    ) {
        let pins = self.pins();
        let mut survey = Survey::new(&self.kernel, &pins);
        for link in links {
            let Some(record) = recorded.get(&link.id) else {
                continue;
            };
            let mut mode = None;
            let found = survey.find(link.id, record, |key| Ok(records.chain(key)?));
            if let Some(key) = record.chain()
                && let Ok(Some(chain)) = records.chain(key)
            {
                mode = chain.mode.map(XdpMode::from);
            }
            self.update(link, known(link.id, found), mode, &mut survey);
        }
    }

    /// A link that was just made, as [`Loader::links`] shows it. It is attached: a record that cannot be read leaves out
    /// its mode and does not fail the command.
    pub(crate) fn located(&self, guard: &Guard, mut link: Link, record: &LinkRecord) -> Link {
        let pins = self.pins();
        let mut survey = Survey::new(&self.kernel, &pins);
        let chain = |key| Ok::<_, LoaderError>(guard.records_of_change()?.chain(key)?);
        let found = known(link.id, survey.find(link.id, record, chain));
        let recorded = record.chain().map(chain).transpose();
        let recorded = recorded.map(Option::flatten).unwrap_or_else(|error| {
            let error = with_causes(&error);
            warn!(
                "link {} is attached, but its chain cannot be read: {error}",
                link.id
            );
            None
        });
        let mode = recorded.and_then(|chain| chain.mode);
        self.update(&mut link, found, mode.map(XdpMode::from), &mut survey);
        link
    }

    /// `recorded`: the mode that the link's chain was made with.
    fn update(
        &self,
        link: &mut Link,
        found: Option<Whereabouts>,
        recorded: Option<XdpMode>,
        survey: &mut Survey<'_, K>,
    ) {
        let Some(interface) = &mut link.interface else {
            return;
        };
        interface.mode = recorded;
        match found {
            None => {}
            Some(Whereabouts::Gone | Whereabouts::Unpinned) => link.gone = true,
            Some(Whereabouts::Hidden { ifindex }) => {
                interface.ifindex = ifindex;
                interface.nsid = None;
            }
            Some(Whereabouts::On(place)) => {
                interface.ifindex = place.device.ifindex;
                interface.nsid = Some(place.device.nsid);
                interface.mode = place.mode.or(recorded);
                match &mut link.attachment {
                    Attachment::Xdp { iface, netns, .. } | Attachment::Tc { iface, netns, .. } => {
                        iface.clone_from(&place.name);
                        netns.clone_from(&place.device.netns);
                    }
                    Attachment::Tcx {
                        iface,
                        netns,
                        direction,
                        position,
                        ..
                    } => {
                        iface.clone_from(&place.name);
                        netns.clone_from(&place.device.netns);
                        if let Some(at) = survey.tcx_position(link.id, &place, *direction) {
                            *position = u32::try_from(at).unwrap_or(u32::MAX);
                        }
                    }
                    _ => {}
                }
            }
        }
    }
}

/// For lists: a link of unknown state is not shown as gone.
fn known(id: u32, found: Option<Result<Whereabouts, LoaderError>>) -> Option<Whereabouts> {
    match found? {
        Ok(found) => Some(found),
        Err(error) => {
            debug!(
                "looking for what link {id} leads to: {}",
                with_causes(&error)
            );
            None
        }
    }
}

impl LinkRecord {
    /// Its hook by the names of today, as far as they are known.
    pub(crate) fn hook_at(&self, found: Option<&Whereabouts>) -> Option<HookPlace> {
        let mut hook = self.hook()?;
        if let Some(Whereabouts::On(place)) = found {
            hook.iface.clone_from(&place.name);
            hook.netns.clone_from(&place.device.netns);
        }
        Some(hook)
    }
}
