//! The eBPF objects in packages of Debian.

use std::collections::BTreeMap;
use std::io::BufRead;
use std::path::Path;

use bpfman_tests::lanes;

/// Packages of Debian with eBPF objects, by suite: as files, or inside their programs (libbpf's skeletons).
pub(crate) const TRIXIE: [(&str, &str); 5] = [
    ("trixie", "bpftool"),
    ("trixie", "golang-github-cilium-ebpf-dev"),
    ("trixie", "libbpf-tools"),
    ("trixie", "libxdp1"),
    ("trixie", "xdp-tools"),
];

/// Every object of the packages, with a name that says where it came from, or `None` after the test was skipped.
pub(crate) fn objects(packages: &[(&str, &str)]) -> Option<BTreeMap<Vec<u8>, String>> {
    let mut found = BTreeMap::new();
    for (suite, package) in packages {
        collect(&lanes::foreign_package(suite, package)?, &mut found);
    }
    Some(found)
}

/// Every eBPF object in a file: the whole of it, or one that a program carries with it.
fn objects_in(bytes: &[u8]) -> Vec<&[u8]> {
    let mut found = Vec::new();
    let mut rest = bytes;
    // The standard library searches fast in a debug build too; a loop over bytes would not.
    while rest.skip_until(0x7f).unwrap() > 0 {
        if rest.starts_with(b"ELF\x02") {
            found.extend(object(&bytes[bytes.len() - rest.len() - 1..]));
        }
    }
    found
}

/// The eBPF object that begins here, up to the end of its last section.
fn object(bytes: &[u8]) -> Option<&[u8]> {
    let big = *bytes.get(5)? == 2;
    let number = |at: usize, size: usize| {
        let field = bytes.get(at..at.checked_add(size)?)?;
        let fold = |value: u64, byte: &u8| value << 8 | u64::from(*byte);
        let value = if big {
            field.iter().fold(0, fold)
        } else {
            field.iter().rev().fold(0, fold)
        };
        usize::try_from(value).ok()
    };
    // e_type is ET_REL, e_machine EM_BPF.
    if (number(16, 2)?, number(18, 2)?) != (1, 247) {
        return None;
    }
    let (headers, size, count) = (number(40, 8)?, number(58, 2)?, number(60, 2)?);
    let mut end = headers.checked_add(size * count)?;
    for header in (0..count).map(|index| headers + index * size) {
        // SHT_NOBITS has no bytes in the file.
        if number(header + 4, 4)? != 8 {
            end = end.max(number(header + 24, 8)?.checked_add(number(header + 32, 8)?)?);
        }
    }
    bytes.get(..end)
}

/// Every object of a folder and below, with a name that says where it came from.
fn collect(folder: &Path, found: &mut BTreeMap<Vec<u8>, String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            collect(&entry.path(), found);
        } else if kind.is_file() {
            for object in objects_in(&std::fs::read(entry.path()).unwrap()) {
                let name = entry.path().display().to_string();
                found.entry(object.to_vec()).or_insert(name);
            }
        }
    }
}
