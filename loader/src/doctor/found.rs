//! What kernel and bpffs have.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::recorded::Recorded;
use crate::change::with_causes;
use crate::error::{Doing, HookPlace};
use crate::kernel::{
    Description, Device, Kernel, KernelError, TC_FILTER_NAME, TC_PREFERENCE, TcFilter,
};
use crate::paths::Pins;
use crate::state::{ChainKey, ChainRecord, Hook};
use crate::whereabouts::Survey;
use crate::{LoaderError, TcDirection};

/// What there is.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Whether bpffs is mounted.
    pub(super) mounted: bool,
    /// Everything below its mount point, in order.
    pub(super) entries: BTreeMap<PathBuf, Entry>,
    /// Programs of the records that live.
    pub(super) programs: BTreeMap<u32, Living>,
    /// The hooks of chains of the records.
    pub(super) hooks: BTreeMap<ChainKey, OnHook>,
    /// Hooks of links of interfaces, by the names of today.
    pub(super) places: BTreeMap<u32, HookPlace>,
    /// Links of which it cannot be told where they are, and why.
    pub(super) unplaced: BTreeMap<u32, String>,
    /// TC filters at our preference and with our name, in our namespace and those of the records.
    pub(super) filters: Vec<Filter>,
    /// Where such filters could not be looked for, and why.
    pub(super) unread: Vec<(String, String)>,
}

/// A TC filter that looks like ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Filter {
    pub(super) key: ChainKey,
    pub(super) place: HookPlace,
    pub(super) handle: u32,
    pub(super) program_id: u32,
}

/// Something in bpffs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Entry {
    Folder,
    Pin(Description),
    /// A file that is no pin, or one that cannot be opened.
    Unreadable(String),
}

/// A program that lives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Living {
    /// As the kernel keeps it.
    pub(super) name: String,
    /// Its maps: id and name, as the kernel keeps it.
    pub(super) maps: BTreeMap<u32, String>,
}

/// What is on a hook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum OnHook {
    /// The interface is gone.
    Gone,
    /// An interface with that index is there.
    There {
        /// Its name.
        name: String,
        /// The programs there: those of XDP, or of TC filters at our preference.
        programs: Vec<u32>,
    },
    /// Why that cannot be told.
    Unknown(String),
}

/// Looks at kernel and bpffs.
pub(super) fn look<K: Kernel>(
    kernel: &K,
    pins: &Pins,
    recorded: &Recorded,
) -> Result<Found, LoaderError> {
    let mut found = Found {
        mounted: kernel
            .is_bpffs(pins.fs())
            .doing(|| format!("looking at {}", pins.fs().display()))?,
        ..Found::default()
    };
    if found.mounted {
        found.entries = entries(kernel, pins.fs())?;
    }
    let mut survey = Survey::new(kernel, pins);
    for (id, link) in &recorded.links {
        let chain = |key| Ok(recorded.chains.get(&key).cloned());
        let whereabouts = match survey.find(*id, link, chain) {
            Some(Err(error)) => {
                found.unplaced.insert(*id, with_causes(&error));
                None
            }
            whereabouts => whereabouts.and_then(Result::ok),
        };
        if let Some(place) = link.hook_at(whereabouts.as_ref()) {
            found.places.insert(*id, place);
        }
    }
    for id in recorded.programs.keys() {
        if let Some(living) = living(kernel, *id)? {
            found.programs.insert(*id, living);
        }
    }
    for (key, chain) in &recorded.chains {
        let on_hook = on_hook(kernel, *key, chain);
        let on_hook = on_hook.unwrap_or_else(|error| OnHook::Unknown(with_causes(&error)));
        found.hooks.insert(*key, on_hook);
    }
    let of_chains = recorded.chains.values().map(|chain| chain.netns.clone());
    let namespaces: BTreeSet<Option<PathBuf>> = of_chains.chain([None]).collect();
    for netns in namespaces {
        found.filters_of(kernel, netns.as_deref());
    }
    Ok(found)
}

impl Found {
    /// Looks for filters of ours on every interface of a namespace. One that cannot be read hides no other.
    fn filters_of<K: Kernel>(&mut self, kernel: &K, netns: Option<&Path>) {
        let inside = netns.map_or(String::new(), |path| format!(" in {}", path.display()));
        let ifaces = match kernel.interfaces(netns) {
            Ok(ifaces) => ifaces,
            // It is told with the chain that is there.
            Err(KernelError::NoNamespace { .. } | KernelError::NotANamespace { .. }) => return,
            Err(error) => {
                return self.unread(format!("every interface{inside}"), error);
            }
        };
        for iface in ifaces {
            match filters(kernel, netns, &iface) {
                Ok(filters) => self.filters.extend(filters),
                // It went meanwhile.
                Err(KernelError::NoInterface { .. } | KernelError::InterfaceGone { .. }) => {}
                Err(error) => self.unread(format!("{iface}{inside}"), error),
            }
        }
    }

    fn unread(&mut self, place: String, error: KernelError) {
        let why = with_causes(&LoaderError::Kernel {
            what: format!("looking at {place}"),
            source: error,
        });
        self.unread.push((place, why));
    }
}

fn filters<K: Kernel>(
    kernel: &K,
    netns: Option<&Path>,
    iface: &str,
) -> Result<Vec<Filter>, KernelError> {
    let mut ours = Vec::new();
    let found = kernel.interface(iface, netns)?;
    let device = Device {
        ifindex: found.ifindex,
        nsid: found.nsid,
        netns: netns.map(Path::to_owned),
    };
    for direction in [TcDirection::Ingress, TcDirection::Egress] {
        let there = kernel.tc_filters(&device, direction)?;
        let named = |filter: &TcFilter| {
            filter.preference == TC_PREFERENCE && filter.name.as_deref() == Some(TC_FILTER_NAME)
        };
        for filter in there.into_iter().filter(named) {
            ours.extend(filter.program_id.map(|program_id| Filter {
                key: ChainKey {
                    hook: Hook::Tc(direction),
                    nsid: found.nsid,
                    ifindex: found.ifindex,
                },
                place: HookPlace {
                    iface: iface.to_owned(),
                    direction: Some(direction),
                    netns: device.netns.clone(),
                },
                handle: filter.handle,
                program_id,
            }));
        }
    }
    Ok(ours)
}

fn entries<K: Kernel>(kernel: &K, root: &Path) -> Result<BTreeMap<PathBuf, Entry>, LoaderError> {
    let mut entries = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        let listed = kernel.list_dir(&folder);
        for listed in listed.doing(|| format!("listing {}", folder.display()))? {
            // The kernel's own `maps.debug` and `progs.debug`; nobody else can make names with a dot.
            if listed.name.contains('.') {
                continue;
            }
            let path = folder.join(listed.name);
            if listed.is_dir {
                folders.push(path.clone());
                entries.insert(path, Entry::Folder);
            } else if let Some(entry) = pinned(kernel, &path) {
                entries.insert(path, entry);
            }
        }
    }
    Ok(entries)
}

/// What a pin is of; `None` when it went meanwhile.
fn pinned<K: Kernel>(kernel: &K, path: &Path) -> Option<Entry> {
    let described = match kernel.open_pin(path) {
        Ok(handle) => kernel.describe(&handle?),
        Err(error) => Err(error),
    };
    Some(match described {
        Ok(description) => Entry::Pin(description),
        Err(error) => Entry::Unreadable(error.to_string()),
    })
}

fn living<K: Kernel>(kernel: &K, id: u32) -> Result<Option<Living>, LoaderError> {
    let doing = || format!("reading program {id}");
    let Some(program) = kernel.program_by_id(id).doing(doing)? else {
        return Ok(None);
    };
    let state = kernel.program_state(&program).doing(doing)?;
    let mut maps = BTreeMap::new();
    for map in state.map_ids {
        let doing = || format!("reading map {map}");
        let Some(handle) = kernel.map_by_id(map).doing(doing)? else {
            continue;
        };
        if let Description::Map { id, name } = kernel.describe(&handle).doing(doing)? {
            maps.insert(id, name);
        }
    }
    Ok(Some(Living {
        name: state.name,
        maps,
    }))
}

fn on_hook<K: Kernel>(
    kernel: &K,
    key: ChainKey,
    chain: &ChainRecord,
) -> Result<OnHook, LoaderError> {
    let device = chain.device(key);
    let doing = || format!("looking at interface {}", key.ifindex);
    // What dumps say of an interface that is gone is nothing: only this tells.
    let state = match kernel.interface_state(&device) {
        Err(KernelError::InterfaceGone { .. }) => return Ok(OnHook::Gone),
        state => state.doing(doing)?,
    };
    let programs = match key.hook {
        Hook::Xdp => state.xdp.into_iter().map(|(_, id)| id).collect(),
        Hook::Tc(direction) | Hook::Tcx(direction) => {
            let filters = match kernel.tc_filters(&device, direction) {
                Err(KernelError::InterfaceGone { .. }) => return Ok(OnHook::Gone),
                filters => filters.doing(doing)?,
            };
            filters
                .into_iter()
                .filter(|filter| filter.preference == TC_PREFERENCE)
                .filter_map(|filter| filter.program_id)
                .collect()
        }
    };
    Ok(OnHook::There {
        name: state.name,
        programs,
    })
}
