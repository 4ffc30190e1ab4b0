//! Objects of a real compiler, made ready for aya: only what is wanted is left, under names that it knows.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod objects;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use aya_obj::btf::BtfFeatures;
use bytecode_object::ByteOrder;
use loader::object::{NormaliseError, Object};

use objects::object;

/// A file that aligns as ELF wants.
fn parsed(bytes: &[u8]) -> Object<'_> {
    Object::parse(bytes).unwrap()
}

fn aya(bytes: &[u8]) -> aya_obj::Object {
    aya_obj::Object::parse(bytes).unwrap_or_else(|error| panic!("{error:?}"))
}

fn newest() -> BtfFeatures {
    BtfFeatures::new(true, true, true, true, true, true, true, true)
}

#[test]
fn each_program_alone_is_what_aya_finds() {
    for name in ["every_type", "tracepoint", "maps", "core", "xdp_count"] {
        let Some(bytes) = object(name) else { return };
        let object = parsed(&bytes);
        assert!(!object.functions().is_empty());
        for (function, place) in object.functions() {
            let copy = object.normalise(&[function], &BTreeMap::new()).unwrap();
            let mut found = aya(&copy);
            let names: Vec<&str> = found.programs.keys().map(String::as_str).collect();
            assert_eq!(names, [function], "{name}");
            let program = &found.programs[function];
            assert_eq!(
                program.section_index, place.section,
                "{function}: sections keep their numbers"
            );
            let code = &found.functions[&program.function_key()];
            // Its type and lines found their way to the section's new name.
            assert_eq!(
                code.func_info.len(),
                1,
                "{function} in {}",
                place.section_name
            );
            assert!(
                code.line_info.len() > 0,
                "{function} in {}",
                place.section_name
            );
            assert!(found.fixup_and_sanitize_btf(&newest()).unwrap().is_some());
        }
    }
}

#[test]
fn aya_alone_gives_up_on_what_is_normalised_here() {
    // When it no longer does, most of this can go.
    let Some(bytes) = object("every_type") else {
        return;
    };
    assert!(aya_obj::Object::parse(&bytes).is_err());
}

#[test]
fn several_programs_keep_their_instructions() {
    let Some(bytes) = object("every_type") else {
        return;
    };
    let object = parsed(&bytes);
    let wanted = [
        "tc_ingress",
        "xdp_named",
        "tracepoint_second",
        "kprobe_named",
        "tracepoint_optional",
    ];
    let found = aya(&object.normalise(&wanted, &BTreeMap::new()).unwrap());
    let names: BTreeSet<&str> = found.programs.keys().map(String::as_str).collect();
    assert_eq!(names, BTreeSet::from(wanted));
    let alone = aya(&object.normalise(&["xdp_named"], &BTreeMap::new()).unwrap());
    let code = |object: &aya_obj::Object| {
        let key = object.programs["xdp_named"].function_key();
        object.functions[&key].instructions.clone()
    };
    assert_eq!(format!("{:?}", code(&found)), format!("{:?}", code(&alone)));
    assert_eq!(found.maps.keys().collect::<Vec<_>>(), ["seen"]);
}

#[test]
fn types_of_the_kernel_are_needed_only_by_programs_that_look_at_them() {
    let Some(core) = object("core") else { return };
    let Some(other) = object("tracepoint") else {
        return;
    };
    let places = |bytes: &[u8], functions: &[&str]| {
        let object = parsed(bytes);
        let relocations = object.core_relocations(functions).unwrap();
        relocations.map_or(0, |relocations| relocations.places().count())
    };
    assert_eq!(places(&other, &["count"]), 0);
    let alone = places(&core, &["remember"]);
    assert!(alone > 0);
    // The sibling's are not resolved.
    assert!(places(&core, &["remember", "impossible"]) > alone);
    // They are not left to aya.
    let copy = parsed(&core)
        .normalise(&["remember"], &BTreeMap::new())
        .unwrap();
    assert!(!aya(&copy).has_btf_relocations());
}

#[test]
fn externs_stop_only_the_programs_that_use_them() {
    let Some(bytes) = object("externs") else {
        return;
    };
    let object = parsed(&bytes);
    let cases = [
        ("plain", None),
        ("with_weak_ksym", None),
        ("with_kconfig_below", Some("LINUX_KERNEL_VERSION")),
        ("with_kfunc", Some("bpf_rcu_read_lock")),
    ];
    for (function, expected) in cases {
        match (object.normalise(&[function], &BTreeMap::new()), expected) {
            (Ok(copy), None) => {
                // Types of externs that no kernel would take are gone.
                assert!(
                    aya(&copy)
                        .fixup_and_sanitize_btf(&newest())
                        .unwrap()
                        .is_some(),
                    "{function}"
                );
            }
            (Err(NormaliseError::Extern { symbol, .. }), Some(expected)) => {
                assert_eq!(symbol, expected)
            }
            (result, _) => panic!("{function}: {result:?}"),
        }
    }
}

#[test]
fn the_other_byte_order_reads_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let source = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bpf/every_type.c");
    let mut lists = Vec::new();
    for (target, order) in [("bpfel", ByteOrder::Little), ("bpfeb", ByteOrder::Big)] {
        let path = folder.path().join(target);
        if objects::compile_for(target, &source, &path).is_none() {
            return;
        }
        let bytes = std::fs::read(path).unwrap();
        let object = parsed(&bytes);
        assert_eq!(object.byte_order(), order);
        // aya reads only its machine's order; the copy is an object again, and nothing is left to take away.
        let copy = object
            .normalise(&["tc_egress", "xdp_named"], &BTreeMap::new())
            .unwrap();
        let again = parsed(&copy);
        again
            .normalise(&["tc_egress", "xdp_named"], &BTreeMap::new())
            .unwrap();
        lists.push((again.functions().clone(), object.functions().clone()));
    }
    assert_eq!(lists[0], lists[1]);
    let left: Vec<&str> = lists[0]
        .0
        .values()
        .map(|function| function.section_name.as_str())
        .collect();
    assert_eq!(left.len(), 2);
    assert!(
        left[0].starts_with("tp/") && left[0].ends_with("/tc/egress"),
        "{left:?}"
    );
}

#[test]
fn variables_are_found_with_their_sizes() {
    let Some(bytes) = object("maps") else { return };
    let object = parsed(&bytes);
    let sizes: Vec<(&str, u64)> = object
        .variables()
        .iter()
        .map(|(name, it)| (name.as_str(), it.size))
        .collect();
    assert_eq!(sizes, [("in_bss", 4), ("in_data", 4), ("in_rodata", 8)]);
}

#[test]
fn a_function_that_is_not_there_is_named() {
    let Some(bytes) = object("tracepoint") else {
        return;
    };
    let error = parsed(&bytes)
        .normalise(&["count", "nothing"], &BTreeMap::new())
        .unwrap_err();
    let function = "nothing".to_owned();
    assert_eq!(error, NormaliseError::NoSuchFunction { function });
}

#[test]
fn a_program_may_not_call_more_functions_than_the_kernel_takes() {
    let folder = tempfile::tempdir().unwrap();
    for (functions, fits) in [(255, true), (256, false)] {
        let mut source =
            String::from("char _license[] __attribute__((section(\"license\"))) = \"GPL\";\n");
        writeln!(
            source,
            "static __attribute__((noinline)) int f0(volatile int *x) {{ return *x; }}"
        )
        .unwrap();
        for number in 1..functions {
            let before = number - 1;
            let body = format!("return f{before}(x) + *x + {number};");
            writeln!(
                source,
                "static __attribute__((noinline)) int f{number}(volatile int *x) {{ {body} }}"
            )
            .unwrap();
        }
        let last = functions - 1;
        writeln!(
            source,
            "__attribute__((section(\"xdp\"))) int deep(void *c) {{ volatile int x = 1; return f{last}(&x); }}"
        )
        .unwrap();
        let file = folder.path().join("deep.c");
        std::fs::write(&file, source).unwrap();
        let path = folder.path().join("deep.o");
        if objects::compile_for(objects::HOST, &file, &path).is_none() {
            return;
        }
        let bytes = std::fs::read(&path).unwrap();
        let result = parsed(&bytes).normalise(&["deep"], &BTreeMap::new());
        match result {
            Ok(copy) => {
                assert!(fits, "{functions}");
                assert_eq!(aya(&copy).programs.len(), 1);
            }
            Err(NormaliseError::TooMany { limit: 256, .. }) => assert!(!fits, "{functions}"),
            Err(error) => panic!("{functions}: {error}"),
        }
    }
}

/// Where the header of the section of that name is.
fn header(bytes: &[u8], name: &str) -> usize {
    let object = object::read::elf::ElfFile64::<object::Endianness>::parse(bytes).unwrap();
    use object::{Object as _, ObjectSection as _};
    let index = object.section_by_name(name).unwrap().index().0;
    let headers = u64::from_ne_bytes(bytes[40..48].try_into().unwrap()) as usize;
    headers + index * 64
}

#[test]
fn sections_may_not_ask_for_more_than_the_file_has() {
    let Some(bytes) = object("maps") else { return };
    let put = |section: &str, field: usize, value: u64| {
        let mut bytes = bytes.clone();
        let at = header(&bytes, section) + field;
        bytes[at..at + 8].copy_from_slice(&value.to_ne_bytes());
        bytes
    };
    let huge = put(".bss", 32, 1 << 60);
    let error = parsed(&huge)
        .normalise(&["classify"], &BTreeMap::new())
        .unwrap_err();
    assert!(
        matches!(
            error,
            NormaliseError::TooMany {
                what: "bytes of .bss",
                ..
            }
        ),
        "{error}"
    );
    let mut over = put(".data", 32, bytes.len() as u64);
    let at = header(&over, ".data") + 24;
    over[at..at + 8].copy_from_slice(&0_u64.to_ne_bytes());
    let error = parsed(&over)
        .normalise(&["classify"], &BTreeMap::new())
        .unwrap_err();
    assert!(
        matches!(
            error,
            NormaliseError::Damaged {
                what: "sections that lie over each other"
            }
        ),
        "{error}"
    );
    let outside = put(".data", 24, 1 << 40);
    assert!(matches!(
        Object::parse(&outside),
        Err(NormaliseError::Elf { .. })
    ));
}

/// What is done with the bytes of an object before the kernel sees any of it, without a panic of ours.
fn walk(bytes: &[u8]) {
    let Ok(object) = Object::parse(bytes) else {
        return;
    };
    let names: Vec<&str> = object.functions().keys().map(String::as_str).collect();
    for wanted in [
        &names[..],
        names.first().map(std::slice::from_ref).unwrap_or_default(),
    ] {
        if let Ok(copy) = object.normalise(wanted, &BTreeMap::new()) {
            // aya may panic: the loader turns it into an error at that boundary. It may not end the process.
            let _ = std::panic::catch_unwind(|| aya_obj::Object::parse(&copy).is_ok());
        }
    }
}

#[test]
fn damaged_files_are_errors() {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        // aya's own are caught, and expected here.
        if panic
            .location()
            .is_none_or(|place| !place.file().contains("aya-obj"))
        {
            hook(panic);
        }
    }));
    for name in ["tracepoint", "externs", "core"] {
        let Some(bytes) = object(name) else { return };
        for length in (0..bytes.len()).step_by(31) {
            walk(&bytes[..length]);
        }
        // Values that break lengths, offsets and kinds; 11 has no factor in common with any structure's size.
        for at in (0..bytes.len()).step_by(11) {
            let mut damaged = bytes.clone();
            for value in [0, 1, 0x7f, 0xff, bytes[at] ^ 0x10] {
                damaged[at] = value;
                walk(&damaged);
            }
        }
    }
}
