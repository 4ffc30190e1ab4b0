//! CO-RE: the instructions of an object's copy are fitted to the types of this machine's kernel.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod objects;

use std::collections::BTreeMap;

use bpfman_tests::lanes;
use bytecode_object::ByteOrder;
use bytecode_object::btf::{Btf, find, kind};
use bytecode_object::core_relocation::Missing;
use loader::object::{Object, Unfit};

const HOST: ByteOrder = if cfg!(target_endian = "big") {
    ByteOrder::Big
} else {
    ByteOrder::Little
};

fn vmlinux() -> Option<Vec<u8>> {
    let read = std::fs::read("/sys/kernel/btf/vmlinux");
    if let Err(error) = &read {
        lanes::skip_or_fail(&format!("reading the kernel's BTF: {error}"));
    }
    read.ok()
}

/// The copy of an object with one program, before and after it was fitted, and what does not fit.
fn fit(bytes: &[u8], program: &str, kernel: &Btf<'_>) -> (Vec<u8>, Vec<u8>, Vec<Unfit>) {
    let object = Object::parse(bytes).unwrap();
    let copy = object.normalise(&[program], &BTreeMap::new()).unwrap();
    let mut fitted = copy.clone();
    let relocations = object.core_relocations(&[program]).unwrap().unwrap();
    let mut candidates = relocations.candidates(kernel).unwrap();
    let patches = relocations
        .apply(|section| object.code(section), &mut candidates)
        .unwrap();
    let unfit = object.patch(&mut fitted, &patches).unwrap();
    (copy, fitted, unfit)
}

#[test]
fn copy_has_the_instructions_for_the_kernel() {
    let (Some(kernel), Some(kinds), Some(core)) = (
        vmlinux(),
        objects::object("core_kinds"),
        objects::object("core"),
    ) else {
        return;
    };
    let kernel = Btf::of_kernel(&kernel, HOST).unwrap();
    for (bytes, program) in [(&kinds, "kinds"), (&kinds, "number"), (&core, "remember")] {
        let (before, after, unfit) = fit(bytes, program, &kernel);
        assert_ne!(before, after, "{program}");
        assert_eq!(unfit, [], "{program}");
        aya_obj::Object::parse(&after).unwrap();
    }
    let (_, _, unfit) = fit(&core, "impossible", &kernel);
    let [unfit] = unfit.as_slice() else {
        panic!("{unfit:?}");
    };
    assert_eq!(unfit.function, "impossible");
    assert_eq!(
        unfit.missing,
        Missing::Type {
            name: "struct no_such_struct_anywhere".to_owned()
        }
    );
}

#[test]
fn functions_and_variables_of_the_kernel_have_ids() {
    let Some(kernel) = vmlinux() else { return };
    let id = |kind, name| find(&kernel, HOST, kind, name).unwrap();
    let vfs_read = id(kind::FUNC, "vfs_read");
    let btf = Btf::of_kernel(&kernel, HOST).unwrap();
    let found = btf.get(vfs_read.unwrap()).unwrap();
    assert_eq!(found.kind(), kind::FUNC);
    assert_eq!(btf.string(found.name).unwrap(), b"vfs_read");
    assert_eq!(id(kind::FUNC, "vfs_rea"), None);
    assert_eq!(id(kind::FUNC, ""), None);
    assert_ne!(id(kind::VAR, "runqueues"), vfs_read);
    assert_eq!(id(kind::VAR, "no_such_variable"), None);
    assert!(find(&kernel[..kernel.len() / 2], HOST, kind::FUNC, "vfs_read").is_err());
}
