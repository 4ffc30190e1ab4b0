//! Maps of an object: made anew, or those of another program.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::{fs, io};

use aya_obj::generated::BPF_F_RDONLY_PROG;
use aya_obj::generated::bpf_map_type::{self, *};
use aya_obj::{EbpfSectionKind, Map};

use bytecode_object::map_type_name;

use super::version::Version;
use super::{KernelError, bpffs, failed, needs, sys};
use crate::kernel::Need;
use crate::object::{Entry, Target};

/// Where the kernel lists the CPUs that there may ever be.
const POSSIBLE_CPUS: &str = "/sys/devices/system/cpu/possible";

/// Maps with their names; what the object says of each is needed for its relocations.
pub(super) type Made = Vec<(String, OwnedFd, Map)>;

/// What maps are made with.
pub(super) struct Making<'a> {
    pub(super) shared: &'a BTreeMap<String, PathBuf>,
    pub(super) btf: Option<BorrowedFd<'a>>,
    /// Numbers of the data sections in it, by name.
    pub(super) sections: &'a BTreeMap<String, u32>,
    /// Those that the programs use. A map that is refused and not among them is left out.
    pub(super) used: &'a BTreeSet<String>,
    /// `map_extra` by map, where aya did not read it.
    pub(super) extra: &'a BTreeMap<String, u64>,
    pub(super) version: Version,
}

/// Makes the maps, or opens those that are shared; sorted by name.
pub(super) fn make(maps: BTreeMap<String, Map>, making: &Making<'_>) -> Result<Made, KernelError> {
    let mut made = Vec::with_capacity(maps.len());
    for (name, mut map) in maps {
        fit(&mut map)?;
        let extra = making.extra.get(&name).copied();
        let extra = extra.unwrap_or_else(|| map.map_extra());
        let fd = match making.shared.get(&name) {
            Some(pin) => open(&name, &map, pin),
            None => create(&name, &map, extra, making),
        };
        match fd {
            Ok(fd) => made.push((name, fd, map)),
            Err(error) if is_data(&map) || making.used.contains(&name) => return Err(error),
            Err(error) => {
                log::warn!("map `{name}`, which none of these programs uses, is left out: {error}");
            }
        }
    }
    Ok(made)
}

/// Puts other maps into those that have some of them as entries in the object.
pub(super) fn fill_with_maps(
    made: &Made,
    entries: &[Entry],
    shared: &BTreeMap<String, PathBuf>,
) -> Result<(), KernelError> {
    for entry in entries {
        let Target::Map(inner) = &entry.target else {
            continue;
        };
        if shared.contains_key(&entry.map) {
            continue;
        }
        if let (Some(map), Some(inner)) = (find(made, &entry.map), find(made, inner)) {
            put(entry, map, inner)?;
        }
    }
    Ok(())
}

/// The handle of a map that was made.
pub(super) fn find<'m>(made: &'m Made, name: &str) -> Option<BorrowedFd<'m>> {
    let mut made = made.iter();
    made.find(|(known, ..)| known == name)
        .map(|(_, fd, _)| fd.as_fd())
}

/// Puts one entry into its map.
pub(super) fn put(
    entry: &Entry,
    map: BorrowedFd<'_>,
    value: BorrowedFd<'_>,
) -> Result<(), KernelError> {
    sys::descriptor_write(map, entry.index, value).map_err(failed(|| {
        format!("putting entry {} into map `{}`", entry.index, entry.map)
    }))
}

fn is_data(map: &Map) -> bool {
    matches!(
        map.section_kind(),
        EbpfSectionKind::Data | EbpfSectionKind::Rodata | EbpfSectionKind::Bss
    )
}

/// Sizes that depend on the machine.
fn fit(map: &mut Map) -> Result<(), KernelError> {
    let entries = map.max_entries();
    match bpf_map_type::try_from(map.map_type()) {
        Ok(BPF_MAP_TYPE_PERF_EVENT_ARRAY) => {
            let cpus = possible_cpus()?;
            if entries == 0 || entries > cpus {
                map.set_max_entries(cpus);
            }
        }
        Ok(BPF_MAP_TYPE_RINGBUF | BPF_MAP_TYPE_USER_RINGBUF) => {
            map.set_value_size(0);
            let page = u32::try_from(rustix::param::page_size()).unwrap_or(4096);
            map.set_max_entries(ring_bytes(entries, page));
        }
        // Where its entries are given, nothing says how long one is: a descriptor.
        Ok(BPF_MAP_TYPE_PROG_ARRAY) if map.value_size() == 0 => map.set_value_size(4),
        // The program id was added to the value in 5.8; both lengths are taken since.
        Ok(BPF_MAP_TYPE_CPUMAP | BPF_MAP_TYPE_DEVMAP | BPF_MAP_TYPE_DEVMAP_HASH)
            if map.value_size() == 0 =>
        {
            map.set_value_size(4);
        }
        _ => {}
    }
    Ok(())
}

/// The smallest power of two of pages that holds `bytes`; nought stays nought, for the kernel to refuse.
fn ring_bytes(bytes: u32, page: u32) -> u32 {
    if bytes == 0 {
        return 0;
    }
    let pages = bytes.div_ceil(page).checked_next_power_of_two();
    pages
        .and_then(|pages| pages.checked_mul(page))
        .unwrap_or(bytes)
}

fn create(name: &str, map: &Map, extra: u64, making: &Making<'_>) -> Result<OwnedFd, KernelError> {
    let refused = |map_type, inner| {
        move |source| KernelError::MapRefused {
            map: name.to_owned(),
            inner,
            map_type: type_name(map_type).into(),
            need: needs::map(map_type, making.version)
                .filter(|need| may_be_why(&source, *need))
                .map(Box::new),
            source,
        }
    };
    let inner = match map.inner() {
        Some(mut inner) => {
            fit(&mut inner)?;
            let attributes = attributes("inner", &inner, inner.map_extra(), making);
            Some(create_any(&attributes).map_err(refused(inner.map_type(), true))?)
        }
        None => None,
    };
    let attributes = sys::MapAttributes {
        inner: inner.as_ref().map(AsFd::as_fd),
        ..attributes(name, map, extra, making)
    };
    let fd = create_any(&attributes).map_err(refused(map.map_type(), false))?;
    if map.map_type() == BPF_MAP_TYPE_ARENA as u32 && extra == 0 {
        let bytes = (map.max_entries() as usize).saturating_mul(rustix::param::page_size());
        sys::arena_place(fd.as_fd(), bytes)
            .map_err(failed(|| format!("finding a place for arena `{name}`")))?;
    }
    if !is_data(map) {
        return Ok(fd);
    }
    // A new map is all noughts.
    if map.data().iter().any(|&byte| byte != 0) {
        sys::array_write(fd.as_fd(), map.data())
            .map_err(failed(|| format!("filling map `{name}`")))?;
    }
    if map.section_kind() == EbpfSectionKind::Rodata {
        sys::map_freeze(fd.as_fd()).map_err(failed(|| format!("freezing map `{name}`")))?;
    }
    Ok(fd)
}

/// Makes a map with its types, or without them where the kernel refuses it with them: a program that needs them is
/// refused later, with the verifier's reason. libbpf does the same.
fn create_any(attributes: &sys::MapAttributes<'_>) -> io::Result<OwnedFd> {
    match sys::map_create(attributes) {
        Err(error) if attributes.btf.is_some() => {
            log::info!(
                "map `{}` is made without its types, which the kernel refuses: {error}",
                attributes.name
            );
            sys::map_create(&sys::MapAttributes {
                btf: None,
                ..*attributes
            })
        }
        made => made,
    }
}

/// Whether a refusal can come from what a kernel lacks: a version always, an option only where the type is not known.
fn may_be_why(error: &io::Error, need: Need) -> bool {
    matches!(need, Need::Kernel { .. })
        || matches!(
            error.raw_os_error(),
            Some(libc::EINVAL | libc::EOPNOTSUPP | libc::ENOSYS)
        )
}

fn type_name(map_type: u32) -> String {
    map_type_name(map_type).map_or_else(|| format!("type_{map_type}"), str::to_owned)
}

fn attributes<'a>(
    name: &'a str,
    map: &Map,
    extra: u64,
    making: &Making<'a>,
) -> sys::MapAttributes<'a> {
    let types = match map {
        // A data section has no key.
        _ if is_data(map) => making.sections.get(name).map(|section| (0, *section)),
        Map::Btf(map) => types(
            map.def.btf_key_type_id,
            map.def.btf_value_type_id,
            self::kind(map),
        ),
        Map::Legacy(_) => None,
    };
    sys::MapAttributes {
        map_type: map.map_type(),
        key_size: map.key_size(),
        value_size: map.value_size(),
        max_entries: map.max_entries(),
        flags: map.map_flags(),
        extra,
        name,
        inner: None,
        btf: making
            .btf
            .zip(types)
            .map(|(btf, (key, value))| (btf, key, value)),
    }
}

fn kind(map: &aya_obj::maps::BtfMap) -> Option<bpf_map_type> {
    bpf_map_type::try_from(Map::Btf(map.clone()).map_type()).ok()
}

/// BTF ids of key and value, for the kinds of map whose `map_check_btf` takes them (`kernel/bpf/*map.c`; libbpf's
/// `bpf_object__create_map` has the same list).
fn types(key: u32, value: u32, kind: Option<bpf_map_type>) -> Option<(u32, u32)> {
    match kind? {
        BPF_MAP_TYPE_PERF_EVENT_ARRAY
        | BPF_MAP_TYPE_CGROUP_ARRAY
        | BPF_MAP_TYPE_STACK_TRACE
        | BPF_MAP_TYPE_ARRAY_OF_MAPS
        | BPF_MAP_TYPE_HASH_OF_MAPS
        | BPF_MAP_TYPE_DEVMAP
        | BPF_MAP_TYPE_DEVMAP_HASH
        | BPF_MAP_TYPE_CPUMAP
        | BPF_MAP_TYPE_XSKMAP
        | BPF_MAP_TYPE_SOCKMAP
        | BPF_MAP_TYPE_SOCKHASH
        | BPF_MAP_TYPE_QUEUE
        | BPF_MAP_TYPE_STACK
        | BPF_MAP_TYPE_RINGBUF
        | BPF_MAP_TYPE_USER_RINGBUF => None,
        // Without keys.
        BPF_MAP_TYPE_BLOOM_FILTER => Some((0, value)),
        _ if value == 0 => None,
        _ => Some((key, value)),
    }
}

/// Opens another program's map, which must be like the one that the object describes.
fn open(name: &str, map: &Map, pin: &Path) -> Result<OwnedFd, KernelError> {
    let fd = bpffs::open(pin)?.ok_or_else(|| KernelError::NoSharedMap {
        map: name.to_owned(),
        path: pin.to_owned(),
    })?;
    let info =
        sys::map_info(fd.as_fd()).map_err(failed(|| format!("reading map {}", pin.display())))?;
    let number = |name, expected: u32, found: u32| {
        (expected != found).then(|| (name, expected.to_string(), found.to_string()))
    };
    let differs = (map.map_type() != info.type_)
        .then(|| ("type", type_name(map.map_type()), type_name(info.type_)))
        .or_else(|| number("key size", map.key_size(), info.key_size))
        .or_else(|| number("value size", map.value_size(), info.value_size))
        .or_else(|| number("number of entries", map.max_entries(), info.max_entries))
        .or_else(|| {
            let flags = |flags: u32| flags & !BPF_F_RDONLY_PROG;
            let (expected, found) = (flags(map.map_flags()), flags(info.map_flags));
            (expected != found).then(|| {
                (
                    "set of flags",
                    format!("{expected:#x}"),
                    format!("{found:#x}"),
                )
            })
        });
    match differs {
        None => Ok(fd),
        Some((what, expected, found)) => Err(KernelError::MapMismatch {
            map: name.into(),
            what,
            expected: expected.into(),
            found: found.into(),
        }),
    }
}

fn possible_cpus() -> Result<u32, KernelError> {
    let call = || format!("reading {POSSIBLE_CPUS}");
    let text = fs::read_to_string(POSSIBLE_CPUS).map_err(failed(call))?;
    cpus(&text).ok_or_else(|| failed(call)(io::ErrorKind::InvalidData))
}

/// `0-3,8` → 9: one more than the highest.
fn cpus(list: &str) -> Option<u32> {
    let highest: u32 = list.trim().rsplit([',', '-']).next()?.parse().ok()?;
    highest.checked_add(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rings_are_powers_of_two_of_pages() {
        let cases = [
            (0, 0),
            (1, 4096),
            (4096, 4096),
            (4097, 8192),
            (3 * 4096, 4 * 4096),
            (u32::MAX, u32::MAX),
        ];
        for (bytes, expected) in cases {
            assert_eq!(ring_bytes(bytes, 4096), expected, "{bytes}");
        }
    }

    #[test]
    fn cpus_are_counted_by_the_highest() {
        let cases = [
            ("0-3\n", Some(4)),
            ("0", Some(1)),
            ("0-3,8-11", Some(12)),
            ("", None),
            ("x", None),
        ];
        for (list, expected) in cases {
            assert_eq!(cpus(list), expected, "{list:?}");
        }
    }
}
