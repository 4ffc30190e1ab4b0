use object::elf;
use object::elf::{
    PF_R, PF_X, PT_LOAD, SHT_DYNSYM, SHT_STRTAB, SHT_SYMTAB, STB_GLOBAL, STB_LOCAL, STT_FUNC,
    STT_GNU_IFUNC, STT_NOTYPE, STT_OBJECT,
};

use super::*;

/// Address and place in the file of the one executable segment, 0x1000 bytes long.
const ADDRESS: u64 = 0x40_0000;
const PLACE: u64 = 0x2000;

struct Symbol {
    name: &'static str,
    kind: elf::SymbolType,
    bind: elf::SymbolBind,
    value: u64,
    size: u64,
    defined: bool,
}

fn function(name: &'static str, value: u64) -> Symbol {
    Symbol {
        name,
        kind: STT_FUNC,
        bind: STB_GLOBAL,
        value,
        size: 16,
        defined: true,
    }
}

/// A 64-bit little-endian shared library: header, one loaded segment, symbol tables of these kinds.
fn library(tables: &[(elf::SectionType, &[Symbol])]) -> Vec<u8> {
    let mut bodies: Vec<(u32, u32, Vec<u8>)> = Vec::new();
    for (kind, symbols) in tables {
        let mut strings = vec![0];
        let mut rows = vec![0; 24];
        for symbol in *symbols {
            rows.extend((strings.len() as u32).to_le_bytes());
            rows.push((symbol.bind.0 << 4) | symbol.kind.0);
            rows.push(0);
            rows.extend(u16::from(symbol.defined).to_le_bytes());
            rows.extend(symbol.value.to_le_bytes());
            rows.extend(symbol.size.to_le_bytes());
            strings.extend(symbol.name.as_bytes());
            strings.push(0);
        }
        let strings_index = bodies.len() as u32 + 2;
        bodies.push((kind.0, strings_index, rows));
        bodies.push((SHT_STRTAB.0, 0, strings));
    }
    let mut file = b"\x7fELF\x02\x01\x01".to_vec();
    file.resize(16, 0);
    file.extend(3_u16.to_le_bytes());
    file.extend(62_u16.to_le_bytes());
    file.extend(1_u32.to_le_bytes());
    let body_bytes: usize = bodies
        .iter()
        .map(|(_, _, body)| body.len().next_multiple_of(8))
        .sum();
    let sections_at = 64 + 56 + body_bytes as u64;
    for value in [0, 64, sections_at] {
        file.extend(u64::to_le_bytes(value));
    }
    file.extend(0_u32.to_le_bytes());
    for value in [64, 56, 1, 64, bodies.len() as u16 + 1, 0] {
        file.extend(u16::to_le_bytes(value));
    }
    file.extend(PT_LOAD.0.to_le_bytes());
    file.extend((PF_R | PF_X).0.to_le_bytes());
    for value in [PLACE, ADDRESS, ADDRESS, 0x1000, 0x1000, 0x1000] {
        file.extend(value.to_le_bytes());
    }
    let mut headers = vec![0; 64];
    for (kind, link, body) in bodies {
        headers.extend(0_u32.to_le_bytes());
        headers.extend(kind.to_le_bytes());
        for value in [0, 0, file.len() as u64, body.len() as u64] {
            headers.extend(u64::to_le_bytes(value));
        }
        headers.extend(link.to_le_bytes());
        headers.extend(0_u32.to_le_bytes());
        headers.extend(8_u64.to_le_bytes());
        headers.extend(24_u64.to_le_bytes());
        let length = body.len().next_multiple_of(8);
        file.extend(&body);
        file.resize(file.len() + length - body.len(), 0);
    }
    file.extend(headers);
    file
}

fn found(offset: u64) -> Result<Function, SymbolError> {
    Ok(Function {
        offset: PLACE + offset,
        size: 16,
    })
}

#[test]
fn a_function_is_found_by_its_name() {
    let file = library(&[
        (
            SHT_DYNSYM,
            &[
                function("exported", ADDRESS + 0x10),
                Symbol {
                    defined: false,
                    ..function("imported", 0)
                },
                Symbol {
                    kind: STT_OBJECT,
                    ..function("data", ADDRESS + 0x20)
                },
                Symbol {
                    kind: STT_GNU_IFUNC,
                    ..function("chosen", ADDRESS + 0x30)
                },
                function("far", ADDRESS + 0x1000),
                function("before", ADDRESS - 1),
            ],
        ),
        (
            SHT_SYMTAB,
            &[
                Symbol {
                    bind: STB_LOCAL,
                    ..function("inner", ADDRESS + 0x40)
                },
                // The other table goes first.
                Symbol {
                    bind: STB_LOCAL,
                    ..function("exported", ADDRESS + 0x50)
                },
                Symbol {
                    kind: STT_NOTYPE,
                    ..function("label", ADDRESS + 0x60)
                },
                function("versioned@@NEW_2", ADDRESS + 0x70),
                function("versioned@OLD_1", ADDRESS + 0x80),
                Symbol {
                    bind: STB_LOCAL,
                    ..function("twice", ADDRESS + 0x90)
                },
                Symbol {
                    bind: STB_LOCAL,
                    ..function("twice", ADDRESS + 0xa0)
                },
                function("global", ADDRESS + 0xb0),
                Symbol {
                    bind: STB_LOCAL,
                    ..function("global", ADDRESS + 0xc0)
                },
                function("alias", ADDRESS + 0xd0),
                function("alias", ADDRESS + 0xd0),
            ],
        ),
    ]);
    let no_such = |name: &str, near: Option<&str>| {
        Err(SymbolError::NoSuchFunction {
            function: name.to_owned(),
            near: near.map(str::to_owned),
        })
    };
    let not_code = |name: &str| {
        Err(SymbolError::NotCode {
            function: name.to_owned(),
        })
    };
    for (name, expected) in [
        ("exported", found(0x10)),
        ("inner", found(0x40)),
        ("label", found(0x60)),
        ("versioned", found(0x70)),
        ("versioned@NEW_2", found(0x70)),
        ("versioned@@NEW_2", found(0x70)),
        ("versioned@OLD_1", found(0x80)),
        ("versioned@NEVER", no_such("versioned@NEVER", None)),
        ("global", found(0xb0)),
        ("alias", found(0xd0)),
        (
            "twice",
            Err(SymbolError::Several {
                function: "twice".to_owned(),
                found: 2,
            }),
        ),
        (
            "chosen",
            Err(SymbolError::Indirect {
                function: "chosen".to_owned(),
            }),
        ),
        ("far", not_code("far")),
        ("before", not_code("before")),
        ("exportd", no_such("exportd", Some("exported"))),
        ("imported", no_such("imported", Some("exported"))),
        ("data", no_such("data", None)),
    ] {
        assert_eq!(find(file.as_slice(), name), expected, "{name}");
    }
}

#[test]
fn files_without_symbols_and_other_files_are_told_apart() {
    let cases: [(&[u8], SymbolError); 3] = [
        (b"#!/bin/sh\necho", SymbolError::NotElf),
        (b"", SymbolError::NotElf),
        (
            &library(&[]),
            SymbolError::Stripped {
                function: "f".to_owned(),
                exported: false,
                near: None,
            },
        ),
    ];
    for (file, expected) in cases {
        assert_eq!(find(file, "f"), Err(expected));
    }
}

#[test]
fn a_file_with_exported_functions_only_is_called_stripped() {
    let exported: &[Symbol] = &[function("exported", ADDRESS)];
    let stripped = |exported: bool, near: Option<&str>| {
        Err(SymbolError::Stripped {
            function: "exportd".to_owned(),
            exported,
            near: near.map(str::to_owned),
        })
    };
    let near = Some("exported");
    let file = library(&[(SHT_DYNSYM, exported)]);
    assert_eq!(find(file.as_slice(), "exportd"), stripped(true, near));
    // A table that is left without functions is as good as none.
    let file = library(&[(SHT_DYNSYM, exported), (SHT_SYMTAB, &[])]);
    assert_eq!(find(file.as_slice(), "exportd"), stripped(true, near));
    let file = library(&[(SHT_DYNSYM, &[]), (SHT_SYMTAB, &[])]);
    assert_eq!(find(file.as_slice(), "exportd"), stripped(false, None));
    let file = library(&[(SHT_DYNSYM, exported), (SHT_SYMTAB, exported)]);
    assert!(matches!(
        find(file.as_slice(), "exportd"),
        Err(SymbolError::NoSuchFunction { .. })
    ));
}

#[test]
fn symbols_of_a_debug_file_are_placed_by_the_segments_of_the_file() {
    /// Place, address and size of the one segment.
    fn with_segment(mut file: Vec<u8>, place: u64, address: u64, size: u64) -> Vec<u8> {
        for (at, value) in [(8, place), (16, address), (24, address), (32, size)] {
            file[64 + at..][..8].copy_from_slice(&value.to_le_bytes());
        }
        file
    }
    let stripped = library(&[]);
    let symbols: &[Symbol] = &[
        function("f", ADDRESS + 0x10),
        function("far", ADDRESS + 0x1000),
    ];
    let debug = library(&[(SHT_SYMTAB, symbols)]);
    let by = |file: &[u8], debug: &[u8], name| find_by_debug_file(file, debug, name);
    assert_eq!(by(&stripped, &debug, "f"), found(0x10));
    assert!(matches!(
        by(&stripped, &debug, "far"),
        Err(SymbolError::NotCode { .. })
    ));
    assert!(matches!(
        by(&stripped, &debug, "g"),
        Err(SymbolError::NoSuchFunction { .. })
    ));
    // A debug file has none of the code: its own places and sizes mean nothing.
    let empty = with_segment(debug.clone(), 0, ADDRESS, 0);
    assert_eq!(by(&stripped, &empty, "f"), found(0x10));
    // The file was moved in memory since (prelink).
    let moved = with_segment(stripped.clone(), PLACE, ADDRESS + 0x10_0000, 0x1000);
    assert_eq!(by(&moved, &empty, "f"), found(0x10));
    let moved = with_segment(stripped.clone(), PLACE, ADDRESS - 0x10_0000, 0x1000);
    assert_eq!(by(&moved, &empty, "f"), found(0x10));
    // Without program headers the addresses are those of the file.
    let mut bare = debug.clone();
    bare[56..58].fill(0);
    assert_eq!(by(&stripped, &bare, "f"), found(0x10));
    // Another machine, or no code in the file.
    let mut other = debug.clone();
    other[18] = 183;
    assert_eq!(by(&stripped, &other, "f"), Err(SymbolError::OtherSegments));
    let mut no_code = stripped.clone();
    no_code[64 + 4] = PF_R.0 as u8;
    assert_eq!(by(&no_code, &debug, "f"), Err(SymbolError::OtherSegments));
    for (file, debug) in [(&b"no"[..], &debug[..]), (&stripped, b"no")] {
        assert_eq!(by(file, debug, "f"), Err(SymbolError::NotElf));
    }
}

#[test]
fn a_file_cut_anywhere_or_with_any_byte_changed_does_not_panic() {
    let whole = library(&[
        (SHT_DYNSYM, &[function("f", ADDRESS + 0x10)]),
        (SHT_SYMTAB, &[function("g@@V", ADDRESS + 0x20)]),
    ]);
    for at in 0..whole.len() {
        let _ = find(&whole[..at], "g");
        for byte in [0, 1, 0x7f, 0xff] {
            let mut spoiled = whole.clone();
            spoiled[at] = byte;
            let _ = find(spoiled.as_slice(), "g");
        }
    }
}

#[test]
fn versions_of_exported_functions_are_known() {
    // The C library has had a second pthread_create since 2.34.
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let Some(libc) = crate::binary::process_maps::find(&maps, "libc.so.6") else {
        return;
    };
    let file = std::fs::read(libc.path).unwrap();
    let plain = find(file.as_slice(), "malloc").unwrap();
    assert!(plain.offset > 0 && plain.offset < file.len() as u64);
    let missing = find(file.as_slice(), "malloc@NEVER_1");
    // Distributions strip it.
    assert!(
        matches!(
            missing,
            Err(SymbolError::NoSuchFunction { .. } | SymbolError::Stripped { .. })
        ),
        "{missing:?}"
    );
    if cfg!(target_arch = "x86_64") {
        assert_eq!(find(file.as_slice(), "malloc@GLIBC_2.2.5"), Ok(plain));
        assert_eq!(find(file.as_slice(), "malloc@@GLIBC_2.2.5"), Ok(plain));
        let indirect = find(file.as_slice(), "memmove");
        assert!(
            matches!(indirect, Err(SymbolError::Indirect { .. })),
            "{indirect:?}"
        );
    }
}

/// A file as long as a disk: its end is a hole.
fn with_hole(bytes: &[u8]) -> std::fs::File {
    use std::io::Write;
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file.set_len(1 << 42).unwrap();
    file
}

#[test]
fn no_table_is_read_because_a_header_says_so() {
    const HUGE: u64 = 1 << 40;
    let exported: &[Symbol] = &[function("exported", ADDRESS)];
    let whole = library(&[(SHT_DYNSYM, exported), (SHT_SYMTAB, &[])]);
    let sections = u64::from_le_bytes(whole[40..48].try_into().unwrap()) as usize;
    // `sh_type`, `sh_size` and `sh_link` of a section.
    let at = |section: usize, field: usize| sections + 64 * section + field;
    let (kind, size, link) = (4, 32, 40);
    let set = |file: &mut Vec<u8>, place: usize, bytes: &[u8]| {
        file[place..place + bytes.len()].copy_from_slice(bytes);
    };
    let huge = HUGE.to_le_bytes();
    type Spoil<'a> = &'a dyn Fn(&mut Vec<u8>);
    let cases: [(&str, Spoil<'_>); 5] = [
        ("symbols", &|file| set(file, at(1, size), &huge)),
        ("strings", &|file| set(file, at(2, size), &huge)),
        ("versions", &|file| {
            set(file, at(3, kind), &elf::SHT_GNU_VERSYM.0.to_le_bytes());
            set(file, at(3, link), &1_u32.to_le_bytes());
            set(file, at(3, size), &huge);
        }),
        ("sections", &|file| {
            // `e_shnum` is in the first of them.
            set(file, 60, &[0, 0]);
            set(file, at(0, size), &(1_u64 << 31).to_le_bytes());
        }),
        ("all together", &|file| {
            // Neither is too large by itself.
            set(file, at(1, size), &(24 * 5_000_000_u64).to_le_bytes());
            set(file, at(2, size), &MAX_TABLE_BYTES.to_le_bytes());
            set(file, at(3, kind), &elf::SHT_GNU_VERSYM.0.to_le_bytes());
            set(file, at(3, link), &1_u32.to_le_bytes());
            set(file, at(3, size), &(64_u64 << 20).to_le_bytes());
        }),
    ];
    for (what, spoil) in cases {
        let mut file = whole.clone();
        spoil(&mut file);
        let file = with_hole(&file);
        let cache = object::ReadCache::new(&file);
        let found = find(&cache, "exported");
        assert!(
            matches!(found, Err(SymbolError::TooLarge { .. })),
            "{what}: {found:?}"
        );
    }
    let file = with_hole(&whole);
    let cache = object::ReadCache::new(&file);
    assert_eq!(find(&cache, "exported"), found(0));
}

#[test]
fn names_without_an_end_are_none() {
    let mut file = library(&[(SHT_DYNSYM, &[function("exported", ADDRESS)])]);
    let name = file.windows(8).position(|bytes| bytes == b"exported");
    // Its NUL, the last byte of the names.
    file[name.unwrap() + 8] = b'x';
    assert!(matches!(
        find(file.as_slice(), "exportedx"),
        Err(SymbolError::Stripped {
            exported: false,
            ..
        })
    ));
}
