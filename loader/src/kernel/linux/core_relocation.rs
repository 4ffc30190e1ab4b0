//! CO-RE against the running kernel: its types and those of its modules, and what a refused program misses.

use std::collections::BTreeSet;
use std::{fs, io};

use bytecode_object::btf::Btf;
use bytecode_object::core_relocation::POISON;

use super::KernelError;
use super::load::{HOST, KERNEL_BTF, KernelBtf};
use crate::object::{Object, Unfit};

/// The types of the kernel (`vmlinux`) and of each module.
const BTF_FOLDER: &str = "/sys/kernel/btf";

/// Fits the programs `wanted` in the copy of an object, and what they call, to the running kernel's types. Gives the
/// instructions that do not fit.
pub(super) fn fit(
    object: &Object<'_>,
    wanted: &[&str],
    kernel_btf: &mut KernelBtf,
    copy: &mut [u8],
) -> Result<Vec<Unfit>, KernelError> {
    let Some(relocations) = object.core_relocations(wanted)? else {
        return Ok(Vec::new());
    };
    let damaged = |source| KernelError::KernelTypes {
        path: KERNEL_BTF.into(),
        source,
    };
    let kernel = Btf::of_kernel(kernel_btf.bytes()?, HOST).map_err(damaged)?;
    // Made before the candidates, which refer to them.
    let (files, modules);
    let mut candidates = relocations.candidates(&kernel).map_err(damaged)?;
    if candidates.wants_modules() {
        files = module_files();
        modules = read_modules(&files, &kernel);
        for module in &modules {
            candidates.add_module(module).map_err(damaged)?;
        }
    }
    let patches = relocations
        .apply(|section| object.code(section), &mut candidates)
        .map_err(Box::new)?;
    Ok(object.patch(copy, &patches)?)
}

/// Names and contents of the BTF of each module. Without them a program still loads if it is guarded.
fn module_files() -> Vec<(String, Vec<u8>)> {
    let read = || -> io::Result<Vec<(String, Vec<u8>)>> {
        let mut names = BTreeSet::new();
        for entry in fs::read_dir(BTF_FOLDER)? {
            names.extend(entry?.file_name().into_string().ok());
        }
        names.remove("vmlinux");
        let read = |name: String| match fs::read(format!("{BTF_FOLDER}/{name}")) {
            Ok(bytes) => Some((name, bytes)),
            // A module that was removed in the meantime.
            Err(error) => {
                log::debug!("reading {BTF_FOLDER}/{name}: {error}");
                None
            }
        };
        Ok(names.into_iter().filter_map(read).collect())
    };
    read().unwrap_or_else(|error| {
        log::warn!("cannot read types of modules: {BTF_FOLDER}: {error}");
        Vec::new()
    })
}

fn read_modules<'a>(files: &'a [(String, Vec<u8>)], kernel: &'a Btf<'a>) -> Vec<Btf<'a>> {
    let parse = |(name, bytes): &'a (String, Vec<u8>)| match Btf::of_module(bytes, kernel) {
        Ok(module) => Some(module),
        Err(error) => {
            log::warn!("skipping types of module {name}: {error}");
            None
        }
    };
    files.iter().filter_map(parse).collect()
}

/// What a program misses that was refused with this log. `functions` has the instructions at which functions begin in
/// the program as it was loaded, in order, with their names.
pub(super) fn missing(log: &str, unfit: &[Unfit], functions: &[(u64, String)]) -> Option<String> {
    let call = format!("call unknown#{POISON}");
    let mut refused = log.lines().rev().filter(|line| line.contains(&call));
    let instruction = refused
        .next()
        .and_then(|line| line.split_once(':')?.0.trim().parse::<u64>().ok());
    if instruction.is_none() && !log.contains(&format!("unknown#{POISON}")) {
        return None;
    }
    let found = instruction.and_then(|instruction| {
        let before = functions.iter().rev();
        let (start, function) = before.clone().find(|(start, _)| *start <= instruction)?;
        // The second half of a 64-bit constant was replaced, too.
        let at = instruction - start;
        unfit.iter().find(|unfit| {
            unfit.function == *function
                && at - at.min(unfit.instruction) < 2
                && at >= unfit.instruction
        })
    });
    match found {
        Some(unfit) => Some(unfit.missing.to_string()),
        None => {
            let all: BTreeSet<String> = unfit
                .iter()
                .map(|unfit| unfit.missing.to_string())
                .collect();
            (!all.is_empty()).then(|| all.into_iter().collect::<Vec<_>>().join(", or "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytecode_object::core_relocation::Missing;

    #[test]
    fn refused_instruction_names_what_is_missing() {
        let unfit = |function: &str, instruction, name: &str| Unfit {
            function: function.to_owned(),
            instruction,
            missing: Missing::Type {
                name: name.to_owned(),
            },
        };
        let unfit = [
            unfit("main", 2, "a"),
            unfit("main", 6, "b"),
            unfit("called", 1, "c"),
        ];
        let functions = [(0, "main".to_owned()), (10, "called".to_owned())];
        let log = |at: u32| {
            format!(
                "1: (b7) r1 = 0\n{at}: (85) call unknown#195896080\ninvalid func unknown#195896080\n"
            )
        };
        let any = "the kernel has no type `a`, or the kernel has no type `b`, or the kernel has no type `c`";
        let cases = [
            (log(2), Some("the kernel has no type `a`")),
            (log(3), Some("the kernel has no type `a`")),
            (log(6), Some("the kernel has no type `b`")),
            (log(11), Some("the kernel has no type `c`")),
            (log(9), Some(any)),
            ("invalid func unknown#195896080\n".to_owned(), Some(any)),
            ("R0 !read_ok\n".to_owned(), None),
        ];
        for (log, expected) in cases {
            assert_eq!(
                missing(&log, &unfit, &functions).as_deref(),
                expected,
                "{log}"
            );
        }
        assert_eq!(missing(&log(2), &[], &functions), None);
    }
}
