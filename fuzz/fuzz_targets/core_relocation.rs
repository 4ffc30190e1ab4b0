//! Any BTF, relocations, types of a kernel and code give instructions or an error, never a panic, in bounded time.
//!
//! The first line has the byte order (`l` or `b`) and the lengths of `.BTF`, `.BTF.ext` and the kernel's BTF, which
//! follow; the rest is code.
#![no_main]

use bytecode_object::ByteOrder;
use bytecode_object::btf::Btf;
use bytecode_object::core_relocation::{Patch, Relocations};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = run(bytes);
});

fn apply<'a>(
    relocations: &Relocations<'a>,
    kernel: &Btf<'_>,
    code: &[u8],
) -> Option<Vec<Patch<'a>>> {
    let mut candidates = relocations.candidates(kernel).ok()?;
    // Its own types stand in for those of a module.
    if candidates.wants_modules() {
        candidates.add_module(kernel).ok()?;
    }
    relocations.apply(|_| Some(code), &mut candidates).ok()
}

fn run(bytes: &[u8]) -> Option<()> {
    let end = bytes.iter().position(|byte| *byte == b'\n')?;
    let mut words = std::str::from_utf8(&bytes[..end]).ok()?.split(' ');
    let order = match words.next()? {
        "l" => ByteOrder::Little,
        "b" => ByteOrder::Big,
        _ => return None,
    };
    let mut rest = &bytes[end + 1..];
    let mut part = || {
        let (part, after) = rest.split_at_checked(words.next()?.parse().ok()?)?;
        rest = after;
        Some(part)
    };
    let (local, ext, kernel) = (part()?, part()?, part()?);
    let code = rest;
    let mut relocations = Relocations::parse(local, ext, order).ok()?;
    let kernel = Btf::of_kernel(kernel, order).ok()?;
    let patches = apply(&relocations, &kernel, code)?;
    for patch in &patches {
        assert!(matches!(patch.bytes.len(), 8 | 16), "{patch:?}");
        assert!(
            patch.offset as usize + patch.bytes.len() <= code.len(),
            "{patch:?}"
        );
    }
    assert_eq!(apply(&relocations, &kernel, code).as_ref(), Some(&patches));
    relocations.retain(|_, offset| offset == 0);
    let few = apply(&relocations, &kernel, code)?;
    assert!(few.len() <= patches.len());
    Some(())
}
