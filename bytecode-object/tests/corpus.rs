//! Objects that others have compiled, out of Debian's packages, by several compilers and in both byte orders: programs and
//! maps are what `llvm-readelf` and `bpftool btf dump` say.

// Helpers outside #[test] functions are test code too.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]

mod packages;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use bpfman_tests::lanes;
use bytecode_object::{ByteOrder, ObjectError, ObjectInfo, map_type_name};
use serde_json::Value;

/// Fewest objects that these packages are known to have.
const FEWEST: usize = 100;

fn run(tool: &Path, arguments: &[&str], file: &Path) -> Option<String> {
    let output = Command::new(tool)
        .args(arguments)
        .arg(file)
        .output()
        .unwrap();
    output
        .status
        .success()
        .then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Programs and the section of each, and where the definition of each legacy map lies in the file, by the tables that
/// llvm-readelf prints.
fn by_readelf(table: &str) -> (BTreeMap<String, String>, BTreeMap<String, usize>) {
    let mut sections: BTreeMap<String, (String, bool, usize)> = BTreeMap::new();
    let (mut programs, mut maps) = (BTreeMap::new(), BTreeMap::new());
    let hex = |text: &str| usize::from_str_radix(text, 16).unwrap();
    for line in table.lines() {
        if let Some((number, rest)) = line
            .trim()
            .strip_prefix('[')
            .and_then(|line| line.split_once(']'))
        {
            let fields: Vec<&str> = rest.split_whitespace().collect();
            // Name, type, address, offset, size, entry size, flags: these are left out when there are none.
            if let [name, "PROGBITS", _, offset, _, _, flags, _, _, _] = fields.as_slice() {
                let section = ((*name).to_owned(), flags.contains('X'), hex(offset));
                sections.insert(number.trim().to_owned(), section);
            }
            continue;
        }
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [_, value, _, kind, bind, _, index, name] = fields.as_slice() else {
            continue;
        };
        let Some((section, executable, offset)) = sections.get(*index) else {
            continue;
        };
        let text = section == ".text" || section.starts_with(".text.");
        if *executable && !text && *kind == "FUNC" && *bind != "LOCAL" {
            programs.insert((*name).to_owned(), section.clone());
        }
        if (section == "maps" || section.starts_with("maps/")) && *kind != "SECTION" {
            maps.insert((*name).to_owned(), offset + hex(value));
        }
    }
    (programs, maps)
}

/// Maps of `.maps` and the type of each, by the JSON that bpftool prints.
fn by_bpftool(dump: &str) -> BTreeMap<String, u64> {
    let dump: Value = serde_json::from_str(dump).unwrap();
    let types = dump["types"].as_array().unwrap();
    let by_id: BTreeMap<u64, &Value> = types
        .iter()
        .map(|found| (found["id"].as_u64().unwrap(), found))
        .collect();
    let target = |found: &Value| by_id[&found["type_id"].as_u64().unwrap()];
    let mut maps = BTreeMap::new();
    for section in types
        .iter()
        .filter(|found| found["name"] == ".maps" && found["kind"] == "DATASEC")
    {
        for variable in section["vars"].as_array().unwrap() {
            let variable = target(variable);
            let mut definition = target(variable);
            while definition["kind"] == "TYPEDEF" {
                definition = target(definition);
            }
            let members = definition["members"].as_array().unwrap();
            let kind = members
                .iter()
                .find(|member| member["name"] == "type")
                .unwrap();
            // __uint(type, N) is a pointer to an array of N.
            let kind = target(target(kind))["nr_elems"].as_u64().unwrap();
            maps.insert(variable["name"].as_str().unwrap().to_owned(), kind);
        }
    }
    maps
}

/// The label of a section, by the beginning of its name: what these packages have, written down beside libbpf's table
/// (`section_defs`), not taken from ours.
fn labelled(section: &str) -> &'static str {
    const TABLE: [(&str, &str); 38] = [
        ("action", "sched_act"),
        ("cgroup/bind", "cgroup_sock_addr"),
        ("cgroup/connect", "cgroup_sock_addr"),
        ("cgroup/dev", "cgroup_device"),
        ("cgroup/getsockopt", "cgroup_sockopt"),
        ("cgroup/setsockopt", "cgroup_sockopt"),
        ("cgroup/sock", "cgroup_sock"),
        ("cgroup/post_bind", "cgroup_sock"),
        ("cgroup/sysctl", "cgroup_sysctl"),
        ("cgroup_skb/", "cgroup_skb"),
        ("classifier", "tc"),
        ("fentry", "fentry"),
        ("fexit", "fexit"),
        ("fmod_ret", "tracing"),
        ("freplace", "ext"),
        ("iter", "tracing"),
        ("kprobe", "kprobe"),
        ("kretprobe", "kprobe"),
        ("ksyscall", "kprobe"),
        ("kretsyscall", "kprobe"),
        ("lsm", "lsm"),
        ("perf_event", "perf_event"),
        ("raw_tp.w", "raw_tracepoint_writable"),
        ("raw_tracepoint.w", "raw_tracepoint_writable"),
        ("raw_tp", "raw_tracepoint"),
        ("raw_tracepoint", "raw_tracepoint"),
        ("sk_lookup", "sk_lookup"),
        ("sk_skb", "sk_skb"),
        ("socket", "socket_filter"),
        ("sockops", "sock_ops"),
        ("struct_ops", "struct_ops"),
        ("syscall", "syscall"),
        ("tcx/", "tcx"),
        ("tc", "tc"),
        ("tp_btf", "tracing"),
        ("tp", "tracepoint"),
        ("tracepoint", "tracepoint"),
        ("xdp", "xdp"),
    ];
    let name = section.strip_prefix('?').unwrap_or(section);
    let probes = [
        ("uprobe.multi", "kprobe"),
        ("uretprobe.multi", "kprobe"),
        ("usdt", "kprobe"),
    ];
    let known = probes.iter().chain(&TABLE);
    let known = known.chain(&[("uprobe", "uprobe"), ("uretprobe", "uprobe")]);
    let mut found = known.filter(|(head, _)| name.starts_with(head));
    match found.next() {
        // These are for entries of maps.
        Some((_, "xdp")) if name.contains("/devmap") => "xdp_devmap",
        Some((_, "xdp")) if name.contains("/cpumap") => "xdp_cpumap",
        Some((_, label)) => label,
        None => "unspec",
    }
}

#[test]
fn objects_of_packages() {
    let (Some(readelf), Some(bpftool)) = (lanes::tool("llvm-readelf"), lanes::tool("bpftool"))
    else {
        return;
    };
    let Some(found) = packages::objects(&packages::TRIXIE) else {
        return;
    };
    assert!(found.len() >= FEWEST, "only {} objects", found.len());
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("object.o");
    for (object, name) in &found {
        std::fs::write(&file, object).unwrap();
        let table = run(&readelf, &["-S", "-s", "-W"], &file).expect("llvm-readelf reads it");
        let (programs, legacy) = by_readelf(&table);
        let info = match ObjectInfo::parse(object) {
            Ok(info) => info,
            Err(ObjectError::NoProgram) => {
                assert_eq!(programs, BTreeMap::new(), "{name}");
                continue;
            }
            Err(error) => panic!("{name}: {error}"),
        };
        let ours: BTreeMap<String, String> = info
            .programs
            .iter()
            .map(|(program, found)| (program.clone(), found.section_name.clone()))
            .collect();
        assert_eq!(ours, programs, "programs of {name}");
        for (program, found) in &info.programs {
            let (section, label) = (&found.section_name, found.section.label());
            assert_eq!(label, labelled(section), "{program} of {name}: {section}");
        }

        // An object without BTF has no `.maps`.
        let dump = run(&bpftool, &["-j", "btf", "dump", "file"], &file);
        let of_btf = dump.map(|dump| by_bpftool(&dump)).unwrap_or_default();
        let mut names: Vec<&String> = of_btf.keys().chain(legacy.keys()).collect();
        names.sort();
        assert_eq!(
            info.maps.keys().collect::<Vec<_>>(),
            names,
            "maps of {name}"
        );
        // `type` is the first word of a definition.
        let word = |at: usize| {
            let bytes = object[at..at + 4].try_into().unwrap();
            match info.byte_order {
                ByteOrder::Little => u32::from_le_bytes(bytes),
                ByteOrder::Big => u32::from_be_bytes(bytes),
            }
        };
        let legacy = legacy.iter();
        let legacy = legacy.map(|(map, at)| (map.clone(), u64::from(word(*at))));
        for (map, kind) in of_btf.into_iter().chain(legacy) {
            let ours = info.maps[&map].map_type;
            assert_eq!(u64::from(ours), kind, "map {map} of {name}");
            assert!(map_type_name(ours).is_some(), "map {map} of {name}: {kind}");
        }
    }
}
