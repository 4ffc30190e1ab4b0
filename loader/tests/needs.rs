//! What objects leave to others to fill in: externs of the kernel, entries of maps, numbers that aya does not read.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod objects;

use std::collections::{BTreeMap, BTreeSet};

use loader::object::{ConfigType, ExternKind, Object, Resolved, Target};

use objects::object;

fn parsed(bytes: &[u8]) -> Object<'_> {
    Object::parse(bytes).unwrap()
}

fn aya(bytes: &[u8]) -> aya_obj::Object {
    aya_obj::Object::parse(bytes).unwrap_or_else(|error| panic!("{error:?}"))
}

#[test]
fn entries_of_maps_and_who_jumps_where_are_read() {
    let Some(bytes) = object("filled") else {
        return;
    };
    let object = parsed(&bytes);
    let entries: Vec<(String, u32, Target)> = object
        .entries()
        .unwrap()
        .into_iter()
        .map(|entry| (entry.map, entry.index, entry.target))
        .collect();
    let program = |name: &str| Target::Program(name.to_owned());
    let map = |name: &str| Target::Map(name.to_owned());
    for (name, index, target) in [
        ("jumps", 1, program("between")),
        ("jumps", 3, program("target")),
        ("second", 0, program("target")),
        ("outer", 0, map("first_inner")),
        ("outer", 2, map("second_inner")),
        ("wrong", 0, program("of_another_type")),
    ] {
        assert!(
            entries.contains(&(name.to_owned(), index, target)),
            "{name} {index}: {entries:?}"
        );
    }
    assert_eq!(entries.len(), 6);
    let jumps = |function: &str, shared: &[&str]| -> Vec<String> {
        let shared = shared.iter().copied().collect();
        let needs = object.needs(&[function], &shared).unwrap();
        assert!(needs.jumps.iter().all(|jump| jump.from == function));
        needs.jumps.into_iter().map(|jump| jump.target).collect()
    };
    assert_eq!(jumps("jump", &[]), ["between", "target"]);
    assert_eq!(jumps("between", &[]), ["target"]);
    assert_eq!(jumps("jump", &["second"]), ["between", "target"]);
    assert!(jumps("jump", &["jumps"]).is_empty());
    for function in ["target", "jump_nowhere", "count_inside"] {
        assert!(jumps(function, &[]).is_empty(), "{function}");
        aya(&object.normalise(&[function], &BTreeMap::new()).unwrap());
    }
}

#[test]
fn externs_are_what_the_object_declares() {
    let Some(bytes) = object("externs") else {
        return;
    };
    let object = parsed(&bytes);
    let int = |size, signed| {
        let letter = size == 1;
        ExternKind::Config(ConfigType::Int {
            size,
            signed,
            letter,
        })
    };
    let config = ExternKind::Config;
    type Found<'a> = (&'a str, bool, ExternKind);
    let cases: &[(&str, &[Found<'_>])] = &[
        ("plain", &[]),
        (
            "with_kconfig",
            &[
                ("CONFIG_BPF_SYSCALL", false, config(ConfigType::Bool)),
                (
                    "CONFIG_DEFAULT_HOSTNAME",
                    false,
                    config(ConfigType::Text { size: 7 }),
                ),
                ("CONFIG_HZ", false, int(8, false)),
                ("CONFIG_NET", false, config(ConfigType::Tristate)),
                ("CONFIG_NO_SUCH_OPTION", true, int(4, true)),
                ("LINUX_HAS_BPF_COOKIE", false, config(ConfigType::Bool)),
                ("LINUX_KERNEL_VERSION", false, int(4, true)),
            ],
        ),
        (
            "with_kconfig_below",
            &[("LINUX_KERNEL_VERSION", false, int(4, true))],
        ),
        (
            "with_kfunc",
            &[
                ("bpf_rcu_read_lock", false, ExternKind::Function),
                ("bpf_rcu_read_unlock", false, ExternKind::Function),
            ],
        ),
        (
            "with_weak_kfunc",
            &[("bpf_no_such_weak_kfunc", true, ExternKind::Function)],
        ),
        (
            "with_weak_ksym",
            &[
                ("init_task", true, ExternKind::Variable { typed: false }),
                (
                    "no_such_weak_symbol",
                    true,
                    ExternKind::Variable { typed: false },
                ),
            ],
        ),
        (
            "with_typed_ksym",
            &[("runqueues", false, ExternKind::Variable { typed: true })],
        ),
    ];
    for (function, expected) in cases {
        let needs = object.needs(&[function], &BTreeSet::new()).unwrap();
        let found: Vec<Found<'_>> = needs
            .externs
            .iter()
            .map(|found| (found.name.as_str(), found.weak, found.kind.unwrap()))
            .collect();
        assert_eq!(&found, expected, "{function}");
    }
    // What is put in is there for aya: a section more, whose contents are the values.
    let values = BTreeMap::from([(
        "LINUX_KERNEL_VERSION".to_owned(),
        Resolved::Value(0x0006_0c00_u32.to_ne_bytes().to_vec()),
    )]);
    let found = aya(&object.normalise(&["with_kconfig_below"], &values).unwrap());
    let map = &found.maps[loader::object::CONFIG_SECTION];
    assert_eq!(map.data(), &0x0006_0c00_u32.to_ne_bytes());
}

#[test]
fn map_extra_of_64_bits_is_read_beside_aya() {
    let Some(bytes) = object("siblings") else {
        return;
    };
    let extra = parsed(&bytes).map_extra().unwrap();
    assert_eq!(extra, BTreeMap::from([("arena".to_owned(), 0x1000_0000)]));
}
