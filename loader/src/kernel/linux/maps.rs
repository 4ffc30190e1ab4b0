//! Maps of an object: made anew, or those of another program.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::{fs, io};

use aya_obj::generated::bpf_map_type::{self, *};
use aya_obj::{EbpfSectionKind, Map};

use super::{KernelError, bpffs, failed, sys};

/// Where the kernel lists the CPUs that there may ever be.
const POSSIBLE_CPUS: &str = "/sys/devices/system/cpu/possible";

/// Maps with their names; what the object says of each is needed for its relocations.
pub(super) type Made = Vec<(String, OwnedFd, Map)>;

/// Makes the maps, or opens those that are shared; sorted by name.
pub(super) fn make(
    maps: BTreeMap<String, Map>,
    shared: &BTreeMap<String, PathBuf>,
    btf: Option<BorrowedFd<'_>>,
) -> Result<Made, KernelError> {
    let mut made = Vec::with_capacity(maps.len());
    for (name, mut map) in maps {
        fit(&mut map)?;
        let fd = match shared.get(&name) {
            Some(pin) => open(&name, &map, pin)?,
            None => create(&name, &map, btf)?,
        };
        made.push((name, fd, map));
    }
    Ok(made)
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

fn create(name: &str, map: &Map, btf: Option<BorrowedFd<'_>>) -> Result<OwnedFd, KernelError> {
    let call = || format!("making map `{name}`");
    let inner = match map.inner() {
        Some(inner) => {
            Some(sys::map_create(&attributes("inner", &inner, btf)).map_err(failed(call))?)
        }
        None => None,
    };
    let attributes = sys::MapAttributes {
        inner: inner.as_ref().map(AsFd::as_fd),
        ..attributes(name, map, btf)
    };
    let fd = sys::map_create(&attributes).map_err(failed(call))?;
    let kind = map.section_kind();
    if !matches!(
        kind,
        EbpfSectionKind::Data | EbpfSectionKind::Rodata | EbpfSectionKind::Bss
    ) {
        return Ok(fd);
    }
    // A new map is all noughts.
    if map.data().iter().any(|&byte| byte != 0) {
        sys::array_write(fd.as_fd(), map.data())
            .map_err(failed(|| format!("filling map `{name}`")))?;
    }
    if kind == EbpfSectionKind::Rodata {
        sys::map_freeze(fd.as_fd()).map_err(failed(|| format!("freezing map `{name}`")))?;
    }
    Ok(fd)
}

fn attributes<'a>(name: &'a str, map: &Map, btf: Option<BorrowedFd<'a>>) -> sys::MapAttributes<'a> {
    let types = match map {
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
        extra: map.map_extra(),
        name,
        inner: None,
        btf: btf.zip(types).map(|(btf, (key, value))| (btf, key, value)),
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
    let pairs = [
        ("type", map.map_type(), info.type_),
        ("key size", map.key_size(), info.key_size),
        ("value size", map.value_size(), info.value_size),
        ("number of entries", map.max_entries(), info.max_entries),
    ];
    match pairs
        .into_iter()
        .find(|(_, expected, found)| expected != found)
    {
        None => Ok(fd),
        Some((what, expected, found)) => Err(KernelError::MapMismatch {
            map: name.to_owned(),
            what,
            expected,
            found,
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
