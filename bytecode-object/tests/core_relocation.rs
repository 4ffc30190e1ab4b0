//! CO-RE relocations of `programs/core.c` against the types of `programs/core_kernel.c`, in both byte orders. What libbpf
//! makes of them is compared in `core_libbpf.rs`.

// Helpers outside #[test] functions are test code too.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]

mod compile;

use bytecode_object::ByteOrder;
use bytecode_object::btf::{Btf, kind};
use bytecode_object::core_relocation::{CoreError, Relocations};
use object::{Object as _, ObjectSection as _};
use proptest::prelude::*;

const ORDERS: [(ByteOrder, &str); 2] = [(ByteOrder::Little, "bpfel"), (ByteOrder::Big, "bpfeb")];

/// An object with relocations, and the BTF of its kernel.
struct Case {
    order: ByteOrder,
    btf: Vec<u8>,
    ext: Vec<u8>,
    code: Vec<u8>,
    kernel: Vec<u8>,
}

/// What a relocation made of its instruction: code, offset and constant, and what was missing.
#[derive(Debug, PartialEq, Eq)]
struct Fitted {
    code: u8,
    offset: i16,
    constant: i64,
    missing: Option<String>,
}

impl Case {
    fn compile(order: ByteOrder, target: &str) -> Option<Self> {
        let program = compile::object("core", target, &["-g"])?;
        let kernel = compile::object("core_kernel", target, &["-g"])?;
        Some(Self {
            order,
            btf: section(&program, ".BTF"),
            ext: section(&program, ".BTF.ext"),
            code: section(&program, "tracepoint"),
            kernel: section(&kernel, ".BTF"),
        })
    }

    fn relocate(&self, module: Option<&[u8]>) -> Result<Vec<Fitted>, CoreError> {
        let relocations = Relocations::parse(&self.btf, &self.ext, self.order).unwrap();
        let kernel = Btf::of_kernel(&self.kernel, self.order).unwrap();
        let module = module.map(|bytes| Btf::of_module(bytes, &kernel).unwrap());
        let mut candidates = relocations.candidates(&kernel).unwrap();
        assert!(candidates.wants_modules());
        if let Some(module) = &module {
            candidates.add_module(module).unwrap();
        }
        let patches = relocations.apply(|_| Some(&self.code), &mut candidates)?;
        let fitted = patches.iter().map(|patch| {
            let word = |at: usize| {
                let bytes = patch.bytes[at..at + 4].try_into().unwrap();
                match self.order {
                    ByteOrder::Little => i32::from_le_bytes(bytes),
                    ByteOrder::Big => i32::from_be_bytes(bytes),
                }
            };
            let offset = patch.bytes[2..4].try_into().unwrap();
            let high = if patch.bytes.len() == 16 { word(12) } else { 0 };
            Fitted {
                code: patch.bytes[0],
                offset: match self.order {
                    ByteOrder::Little => i16::from_le_bytes(offset),
                    ByteOrder::Big => i16::from_be_bytes(offset),
                },
                constant: i64::from(high) << 32 | i64::from(word(4)),
                missing: patch.missing.as_ref().map(ToString::to_string),
            }
        });
        Ok(fitted.collect())
    }
}

fn section(bytes: &[u8], name: &str) -> Vec<u8> {
    let file = object::File::parse(bytes).unwrap();
    file.section_by_name(name).unwrap().data().unwrap().to_vec()
}

#[test]
fn every_kind_has_the_kernels_value_in_both_byte_orders() {
    for (order, target) in ORDERS {
        let Some(case) = Case::compile(order, target) else {
            return;
        };
        let found = case.relocate(None).unwrap();
        // Bit fields begin at the other end of a word.
        let (narrow, hidden, shift) = match order {
            ByteOrder::Little => (4, 0, 40),
            ByteOrder::Big => (4, 0, 36),
        };
        let load = |code: u8, offset: i16| (code, offset, 0);
        let constant = |value: i64| (0xb7, 0, value);
        let wide = |value: i64| (0x18, 0, value);
        let (double, word, byte) = (0x79, 0x61, 0x71);
        let expected = [
            load(double, 8),
            load(byte, narrow),
            load(word, 52),
            load(word, 148),
            load(word, hidden),
            load(double, 120),
            constant(20),
            constant(4),
            constant(shift),
            constant(44),
            constant(0),
            constant(0),
            constant(0),
            constant(1),
            constant(96),
            constant(32),
            constant(32),
            (0x73, narrow, 0),
            constant(1),
            constant(128),
            constant(0),
            constant(0),
            constant(1),
            constant(1),
        ];
        for (at, expected) in expected.iter().enumerate() {
            let Fitted {
                code,
                offset,
                constant,
                ..
            } = &found[at];
            // The registers of a constant, and ALU on 32 or 64 bits, are the compiler's to choose.
            assert_eq!(
                &(*code, *offset, *constant),
                expected,
                "relocation {at}, {target}"
            );
        }
        // Ids: of the object's own type, of the kernel's, and of one that it does not have.
        let ids: Vec<_> = found[24..27].iter().map(|found| found.constant).collect();
        assert!(ids[0] > 0 && ids[1] > 0 && ids[2] == 0, "{ids:?}");
        assert_eq!(
            (found[27].code, found[27].offset, found[27].constant),
            wide(77)
        );
        assert_eq!(found[28].constant, 0);
    }
}

#[test]
fn missing_targets_are_poisoned_and_named() {
    for (order, target) in ORDERS {
        let Some(case) = Case::compile(order, target) else {
            return;
        };
        let found = case.relocate(None).unwrap();
        let poisoned = found.iter().filter(|found| found.code == 0x85);
        let poisoned: Vec<_> = poisoned
            .map(|found| {
                assert_eq!(found.constant & 0xffff_ffff, 0x0bad_2310);
                found.missing.as_deref().unwrap()
            })
            .collect();
        assert_eq!(
            poisoned,
            [
                "kernel type `event` has no field `gone`",
                "the kernel has no type `struct absent`",
                "kernel enum `color` has no value `BLUE`",
                "field `minus` of kernel type `grown` has another size or sign than in the program",
            ]
        );
        assert_eq!(
            found.iter().filter(|found| found.missing.is_some()).count(),
            poisoned.len()
        );
    }
}

/// The BTF of a module: `struct absent { long before; int member; }`, on top of a kernel's.
fn module(kernel: &[u8], order: ByteOrder) -> Vec<u8> {
    let word = |value: u32| match order {
        ByteOrder::Little => value.to_le_bytes(),
        ByteOrder::Big => value.to_be_bytes(),
    };
    let number = |at: usize| {
        let bytes = kernel[at..at + 4].try_into().unwrap();
        match order {
            ByteOrder::Little => u32::from_le_bytes(bytes),
            ByteOrder::Big => u32::from_be_bytes(bytes),
        }
    };
    let (strings, base) = (b"absent\0member\0", number(20));
    let own = Btf::of_kernel(kernel, order).unwrap();
    let int = (1..)
        .find(|id| {
            let found = own.get(*id).unwrap();
            found.kind() == kind::INT && own.string(found.name).unwrap() == b"int"
        })
        .unwrap();
    let mut bytes = kernel[..4].to_vec();
    let types = [base, 4 << 24 | 1, 12, base + 7, int, 64];
    let types: Vec<u8> = types.into_iter().flat_map(word).collect();
    let (length, end) = (types.len() as u32, strings.len() as u32);
    bytes.extend([24, 0, length, length, end].into_iter().flat_map(word));
    bytes.extend(types);
    bytes.extend(strings);
    bytes
}

#[test]
fn types_of_modules_are_found_when_the_kernel_lacks_them() {
    for (order, target) in ORDERS {
        let Some(case) = Case::compile(order, target) else {
            return;
        };
        let module = module(&case.kernel, order);
        let (before, after) = (
            case.relocate(None).unwrap(),
            case.relocate(Some(&module)).unwrap(),
        );
        let changed: Vec<_> = before
            .iter()
            .zip(&after)
            .filter(|(before, after)| before != after)
            .map(|(_, after)| (after.code, after.offset, after.constant != 0))
            .collect();
        assert_eq!(
            changed,
            [
                // It exists, has a size and an id, and the member lies at 8.
                (0xb7, 0, true),
                (0xb7, 0, true),
                (0x18, 0, true),
                (0x61, 8, false)
            ]
        );
    }
}

#[test]
fn relocations_that_make_no_sense_are_refused() {
    let Some(mut case) = Case::compile(ByteOrder::Little, "bpfel") else {
        return;
    };
    let relocations = Relocations::parse(&case.btf, &case.ext, case.order).unwrap();
    let (_, first) = relocations.places().next().unwrap();
    // Another offset than the compiler's, and no load at all.
    let first = first as usize;
    let before = case.code.clone();
    case.code[first + 2] += 1;
    let error = case.relocate(None).unwrap_err().to_string();
    assert!(
        error.contains("`id` of `struct event___here` (instruction 0 of section `tracepoint`)")
            && error.contains("value 1, expected 0"),
        "{error}"
    );
    case.code.clone_from(&before);
    case.code[first] = 0x95;
    let error = case.relocate(None).unwrap_err().to_string();
    assert!(error.contains("0x95 cannot be relocated"), "{error}");
    case.code.truncate(first);
    assert!(case.relocate(None).is_err());
}

fn hostile() -> &'static [Case] {
    static CASES: std::sync::OnceLock<Vec<Case>> = std::sync::OnceLock::new();
    CASES.get_or_init(|| {
        let cases = ORDERS.iter();
        cases
            .filter_map(|(order, target)| Case::compile(*order, target))
            .collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn damage_is_an_error_or_harmless(
        big in any::<bool>(),
        part in 0..4usize,
        words in proptest::collection::vec((any::<prop::sample::Index>(), prop::sample::select(vec![0u8, 1, 4, 0x7f, 0xff])), 1..6),
    ) {
        let Some(case) = hostile().get(usize::from(big)) else {
            return Ok(());
        };
        let mut parts = [&case.btf, &case.ext, &case.code, &case.kernel].map(Clone::clone);
        for (at, value) in words {
            let at = at.index(parts[part].len());
            parts[part][at] = value;
        }
        let [btf, ext, code, kernel] = &parts;
        let (Ok(relocations), Ok(kernel)) = (Relocations::parse(btf, ext, case.order), Btf::of_kernel(kernel, case.order)) else {
            return Ok(());
        };
        if let Ok(mut candidates) = relocations.candidates(&kernel)
            && let Ok(patches) = relocations.apply(|_| Some(code), &mut candidates)
        {
            prop_assert_eq!(patches.len(), relocations.places().count());
        }
    }
}
