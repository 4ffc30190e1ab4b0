//! CO-RE against the running kernel's BTF: the types that an object names are enough, and are read in a fraction of it.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod objects;

use std::collections::{BTreeMap, BTreeSet};

use aya_obj::btf::Btf;
use bpfman_tests::lanes;
use loader::object::{KernelTypes, Object, function_id, subset, variable_id};

fn vmlinux() -> Option<Vec<u8>> {
    let read = std::fs::read("/sys/kernel/btf/vmlinux");
    if let Err(error) = &read {
        lanes::skip_or_fail(&format!("reading the kernel's BTF: {error}"));
    }
    read.ok()
}

/// The instructions of a program once its types are those of `kernel`.
fn relocated(copy: &[u8], program: &str, kernel: &[u8]) -> String {
    let mut object = aya_obj::Object::parse(copy).unwrap();
    let kernel = Btf::parse(kernel, object.endianness).unwrap();
    object.relocate_btf(&kernel).unwrap();
    let key = object.programs[program].function_key();
    format!("{:?}", object.functions[&key].instructions)
}

fn types(copy: &[u8]) -> KernelTypes {
    Object::parse(copy).unwrap().kernel_types().unwrap()
}

#[test]
fn the_types_named_say_the_same_as_all_of_them() {
    let (Some(kernel), Some(kinds), Some(core)) = (
        vmlinux(),
        objects::object("core_kinds"),
        objects::object("core"),
    ) else {
        return;
    };
    for (bytes, program, names) in [
        (
            &kinds,
            "kinds",
            &[
                "bpf_map_type",
                "btf_trace_sched_switch",
                "nowhere_to_be_found",
                "pid_t",
                "sk_buff",
                "task_struct",
            ][..],
        ),
        (&core, "remember", &["task_struct"]),
        (&core, "impossible", &["no_such_struct_anywhere"]),
    ] {
        let copy = Object::parse(bytes)
            .unwrap()
            .normalise(&[program], &BTreeMap::new())
            .unwrap();
        let KernelTypes::Named(found) = types(&copy) else {
            panic!("{program}");
        };
        let expected: BTreeSet<Vec<u8>> =
            names.iter().map(|name| name.as_bytes().to_vec()).collect();
        assert_eq!(found, expected);
        let few = subset(&kernel, &found).unwrap();
        assert!(few.len() * 8 < kernel.len(), "{program}: {}", few.len());
        assert_eq!(
            relocated(&copy, program, &few),
            relocated(&copy, program, &kernel),
            "{program}"
        );
    }
    let copy = Object::parse(&kinds)
        .unwrap()
        .normalise(&["number"], &BTreeMap::new())
        .unwrap();
    assert_eq!(types(&copy), KernelTypes::All);
}

#[test]
fn functions_and_variables_of_the_kernel_have_numbers() {
    let Some(kernel) = vmlinux() else { return };
    let id = function_id(&kernel, "vfs_read").unwrap();
    assert!(id.is_some());
    assert_eq!(function_id(&kernel, "vfs_rea").unwrap(), None);
    assert_ne!(variable_id(&kernel, "runqueues").unwrap(), id);
    assert_eq!(variable_id(&kernel, "no_such_variable").unwrap(), None);
}

#[test]
fn damaged_kernel_types_are_an_error_or_harmless() {
    let Some(object) = objects::object("core_kinds") else {
        return;
    };
    // Any BTF will do: its own, which is small enough to be damaged everywhere.
    let copy = Object::parse(&object)
        .unwrap()
        .normalise(&["kinds"], &BTreeMap::new())
        .unwrap();
    let own = aya_obj::Object::parse(&copy)
        .unwrap()
        .btf
        .unwrap()
        .to_bytes();
    let names: BTreeSet<Vec<u8>> = ["task_struct", "sk_buff"]
        .map(|name| name.as_bytes().to_vec())
        .into();
    let whole = subset(&own, &names).unwrap();
    assert!(whole.len() > 200, "{}", whole.len());
    for at in 0..own.len() {
        for value in [0, 0xff] {
            let mut damaged = own.clone();
            damaged[at] = value;
            let _ = subset(&damaged, &names);
        }
        let _ = subset(&own[..at], &names);
    }
}
