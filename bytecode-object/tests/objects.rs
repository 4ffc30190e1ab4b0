//! Objects of a real compiler, in both byte orders.

// Helpers outside #[test] functions are test code too.
#![allow(clippy::expect_used, clippy::panic)]

mod compile;

use bytecode_object::{ByteOrder, KernelBtfUse, ObjectError, ObjectInfo, Section};
use compile::object;

const TARGETS: [(&str, ByteOrder); 2] = [("bpfel", ByteOrder::Little), ("bpfeb", ByteOrder::Big)];

#[test]
fn labels_are_the_same_in_both_byte_orders() {
    let table = [
        (
            "counter",
            r#"{"count":"xdp"}"#,
            r#"{"counts":"per_cpu_array"}"#,
            Some("Dual BSD/GPL"),
            false,
        ),
        (
            "many",
            concat!(
                r#"{"allocate":"uprobe","caller":"xdp","enter":"kprobe","leave":"kprobe","leaving":"cgroup_skb","#,
                r#""one":"tc","opened":"tracepoint","reading":"fentry","strange":"unspec","two":"tc","weak_one":"xdp"}"#
            ),
            concat!(
                r#"{"events":"ringbuf","first":"array","from_the_future":"250","outer":"array_of_maps","#,
                r#""qualified":"hash"}"#
            ),
            None,
            false,
        ),
        (
            "legacy",
            r#"{"filter":"tc"}"#,
            r#"{"jump":"prog_array","table":"hash"}"#,
            Some("GPL"),
            false,
        ),
        (
            "relocated",
            r#"{"scheduled":"fexit"}"#,
            "{}",
            Some("GPL"),
            true,
        ),
    ];
    for (source, programs, maps, license, relocated) in table {
        for (target, order) in TARGETS {
            let Some(bytes) = object(source, target, &["-g"]) else {
                return;
            };
            let info = ObjectInfo::parse(&bytes)
                .unwrap_or_else(|error| panic!("{source} {target}: {error}"));
            assert_eq!(info.byte_order, order, "{source} {target}");
            assert_eq!(info.programs_label(), programs, "{source} {target}");
            assert_eq!(info.maps_label(), maps, "{source} {target}");
            assert_eq!(info.license.as_deref(), license, "{source} {target}");
            let found = info.programs.values().any(|found| found.core_relocations);
            assert_eq!(found, relocated, "{source} {target}");
        }
    }
}

/// A source, the compiler's flags, a map, and its sizes of key, value and entries.
type Shape = (
    &'static str,
    &'static [&'static str],
    &'static str,
    [Option<u32>; 3],
);

#[test]
fn sizes_of_maps() {
    let table: &[Shape] = &[
        ("counter", &[], "counts", [Some(4), Some(8), Some(1)]),
        ("legacy", &[], "table", [Some(4), Some(8), Some(10)]),
        ("many", &[], "events", [None, None, Some(4096)]),
        ("many", &[], "first", [Some(4), Some(8), Some(1)]),
        // Arrays in a struct behind a typedef, a pointer, an array, and nothing.
        (
            "shapes",
            &["-DVALUE=pair", "-DENTRIES=7"],
            "table",
            [Some(4), Some(24), Some(7)],
        ),
        (
            "shapes",
            &["-DVALUE=pair *const"],
            "table",
            [Some(4), Some(8), Some(1)],
        ),
        (
            "shapes",
            &["-DVALUE=void"],
            "table",
            [Some(4), None, Some(1)],
        ),
    ];
    for (source, flags, map, expected) in table {
        for (target, _) in TARGETS {
            let flags = [["-g"].as_slice(), flags].concat();
            let Some(bytes) = object(source, target, &flags) else {
                return;
            };
            let info = ObjectInfo::parse(&bytes).expect("a good object");
            let found = &info.maps[*map];
            let found = [found.key_size, found.value_size, found.max_entries];
            assert_eq!(found, *expected, "{source} {flags:?} {target}");
        }
    }
}

#[test]
fn licences_that_end_without_a_nul() {
    let table = [
        (
            r#"-DLICENSE=char _license[3] SEC("license")="GPL";"#,
            Some("GPL"),
        ),
        (
            r#"-DLICENSE=__asm__(".section license,\"aw\"\n.previous");"#,
            Some(""),
        ),
        ("-DLICENSE=", None),
    ];
    for (flag, expected) in table {
        let Some(bytes) = object("shapes", "bpfel", &["-g", flag]) else {
            return;
        };
        let info = ObjectInfo::parse(&bytes).unwrap_or_else(|error| panic!("{flag}: {error}"));
        assert_eq!(info.license.as_deref(), expected, "{flag}");
    }
}

/// An object that aya makes takes bpf-linker, which no distribution has; one of the same layout takes clang.
#[test]
fn objects_as_aya_lays_them_out() {
    for (target, order) in TARGETS {
        let Some(bytes) = object("aya", target, &[]) else {
            return;
        };
        let info = ObjectInfo::parse(&bytes).expect("a good object");
        assert_eq!(info.byte_order, order);
        assert_eq!(
            info.programs_label(),
            r#"{"allocate":"uprobe","count":"xdp","pass":"tc"}"#
        );
        assert_eq!(
            info.maps_label(),
            r#"{"COUNTS":"per_cpu_array","EVENTS":"ringbuf","JUMPS":"prog_array"}"#
        );
        assert_eq!(info.license.as_deref(), Some("GPL"));
        let jumps = &info.maps["JUMPS"];
        let sizes = (jumps.key_size, jumps.value_size, jumps.max_entries);
        assert_eq!(sizes, (Some(4), Some(4), Some(4)));
    }
}

#[test]
fn what_is_asked_of_a_kernel() {
    for (target, _) in TARGETS {
        let parse = |source, flags: &[&str]| {
            let bytes = object(source, target, &[["-g"].as_slice(), flags].concat())?;
            Some(ObjectInfo::parse(&bytes).expect("a good object"))
        };
        let (Some(many), Some(relocated), Some(needs)) = (
            parse("many", &[]),
            parse("relocated", &[]),
            parse("needs", &[]),
        ) else {
            return;
        };
        let asked = |info: &ObjectInfo, programs: &[&str]| {
            let needs = info.needs(programs.iter().copied());
            let kernel = needs.kernel.map(|(since, what)| format!("{since}: {what}"));
            (kernel.unwrap_or_default(), needs.kernel_btf)
        };
        let own = |name: &str, why| (name.to_owned(), why);
        assert_eq!(
            asked(&many, &["one", "nobody"]),
            ("5.8: map events (ringbuf)".to_owned(), Vec::new())
        );
        assert_eq!(
            asked(&many, &["one", "reading", "caller"]),
            (
                "5.18: program caller (xdp.frags)".to_owned(),
                vec![own("reading", KernelBtfUse::Attach)]
            )
        );
        assert_eq!(
            asked(&relocated, &["scheduled"]).1,
            [own("scheduled", KernelBtfUse::Attach)]
        );
        // Two programs of one section, of which one has a relocation.
        assert_eq!(
            asked(&needs, &["plain", "fitted"]).1,
            [own("fitted", KernelBtfUse::Relocations)]
        );
        let Some(symbols) = parse("needs", &["-DKFUNC"]) else {
            return;
        };
        assert_eq!(
            asked(&symbols, &["plain"]).1,
            [own("plain", KernelBtfUse::Symbols)]
        );
        let Some(called) = parse("needs", &["-DCALLED"]) else {
            return;
        };
        assert_eq!(
            asked(&called, &["plain"]).1,
            [own("plain", KernelBtfUse::Relocations)]
        );
    }
}

#[test]
fn section_names_are_kept_as_they_stand() {
    let Some(bytes) = object("many", "bpfel", &["-g"]) else {
        return;
    };
    let info = ObjectInfo::parse(&bytes).expect("a good object");
    let opened = &info.programs["opened"];
    assert_eq!(opened.section_name, "?tracepoint/syscalls/sys_enter_openat");
    assert_eq!(opened.section, Section::Tracepoint);
    assert_eq!(info.programs["leave"].section, Section::Kretprobe);
    assert_eq!(info.programs["strange"].section, Section::Unknown);
}

#[test]
fn an_object_at_any_alignment_is_read() {
    let Some(bytes) = object("counter", "bpfel", &["-g"]) else {
        return;
    };
    for shift in 0..8 {
        let shifted: Vec<u8> = std::iter::repeat_n(0, shift)
            .chain(bytes.iter().copied())
            .collect();
        assert_eq!(
            ObjectInfo::parse(&shifted[shift..]),
            ObjectInfo::parse(&bytes),
            "shift {shift}"
        );
    }
}

#[test]
fn what_is_no_object_is_named() {
    let Some(good) = object("counter", "bpfel", &["-g"]) else {
        return;
    };
    let Some(without_btf) = object("counter", "bpfel", &[]) else {
        return;
    };
    let Some(library) = object("nothing", "bpfel", &["-g"]) else {
        return;
    };
    let host =
        std::fs::read(std::env::current_exe().expect("this test")).expect("this test's file");

    let parse = |bytes: &[u8]| ObjectInfo::parse(bytes).expect_err("refused");
    assert_eq!(parse(&[]), ObjectError::Empty);
    assert_eq!(parse(b"\x7fEL"), ObjectError::NotElf);
    assert_eq!(parse(b"#!/bin/sh"), ObjectError::NotElf);
    assert_eq!(parse(&without_btf), ObjectError::NoBtf);
    assert_eq!(parse(&library), ObjectError::NoProgram);
    assert!(matches!(parse(&host[..4096]), ObjectError::NotBpf { .. }));
    assert!(matches!(
        parse(&good[..good.len() / 2]),
        ObjectError::Damaged { .. }
    ));
    assert!(matches!(parse(&good[..40]), ObjectError::Damaged { .. }));
    let mut linked = good.clone();
    linked[16] = 3;
    assert_eq!(
        parse(&linked),
        ObjectError::NotRelocatable {
            found: "ET_DYN (a shared library)".to_owned()
        }
    );
    let mut padded = good;
    padded.resize((32 << 20) + 1, 0);
    assert_eq!(
        parse(&padded),
        ObjectError::TooLarge {
            size: (32 << 20) + 1,
            limit: 32 << 20
        }
    );
}
