//! What kernel and bpffs have.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::recorded::Recorded;
use crate::LoaderError;
use crate::error::Doing;
use crate::kernel::{Description, Kernel, KernelError, TC_PREFERENCE};
use crate::paths::Pins;
use crate::state::{ChainKey, ChainRecord, Hook};

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
    /// The programs there: the one of XDP, or those of TC filters at our preference.
    Runs(Vec<u32>),
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
    for id in recorded.programs.keys() {
        if let Some(living) = living(kernel, *id)? {
            found.programs.insert(*id, living);
        }
    }
    for (key, chain) in &recorded.chains {
        found.hooks.insert(*key, on_hook(kernel, *key, chain)?);
    }
    Ok(found)
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
    match kernel.ingress_qdisc(&device) {
        Err(KernelError::InterfaceGone { .. }) => return Ok(OnHook::Gone),
        qdisc => qdisc.doing(doing)?,
    };
    let programs = match key.hook {
        Hook::Xdp => {
            let there = kernel.xdp_program_on(key.ifindex, device.netns.as_deref());
            there.doing(doing)?.into_iter().collect()
        }
        Hook::Tc(direction) | Hook::Tcx(direction) => {
            let filters = kernel.tc_filters(&device, direction).doing(doing)?;
            filters
                .into_iter()
                .filter(|filter| filter.preference == TC_PREFERENCE)
                .filter_map(|filter| filter.program_id)
                .collect()
        }
    };
    Ok(OnHook::Runs(programs))
}
