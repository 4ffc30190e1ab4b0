//! From an object's bytes to maps and programs in the kernel.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::{fs, io};

use aya_obj::generated::{BPF_F_XDP_HAS_FRAGS, bpf_prog_type};
use bytecode_object::btf::{find, kind};
use bytecode_object::{ByteOrder, Section};

use super::parsed::Parsed;
use super::program_btf::{Joining, ProgramBtf, Records};
use super::program_types::{self, Kind};
use super::version::Version;
use super::{
    KernelError, LinuxKernel, core_relocation, externs, failed, links, maps, needs, probes,
    programs, sys,
};
use crate::globals;
use crate::kernel::{LoadAs, LoadSpec, Loaded, LoadedMap, LoadedProgram, ProgramSpec};
use crate::object::{
    CONFIG_SECTION, Entry, Jump, Object, Results, Target, Unfit, data_sections, results,
};

/// The running kernel's types.
pub(super) const KERNEL_BTF: &str = "/sys/kernel/btf/vmlinux";

pub(super) const HOST: ByteOrder = if cfg!(target_endian = "big") {
    ByteOrder::Big
} else {
    ByteOrder::Little
};

/// First and longest log that the verifier is given, in bytes: 64 KiB, then four times as much, up to 16 MiB.
const LOG_BYTES: (usize, usize) = (64 << 10, 16 << 20);

/// `ENOTSUPP`, the kernel's own: what a machine without trampolines gives.
pub(super) const ENOTSUPP: i32 = 524;

/// What the verifier says of EXT programs where it is not the program that is at fault: programs or their targets are
/// interpreted (`net.core.bpf_jit_enable`), or the kernel's BTF does not know global functions
/// (`bpf_check_attach_target` in kernel/bpf/verifier.c).
const NO_EXTENSIONS: [&str; 3] = [
    "Extension programs should be JITed",
    "Can attach to only JITed progs",
    "Cannot replace static functions",
];

/// Whether an architecture that takes EXT programs links them, too. Where `bpf_arch_text_poke` came later than the
/// rest, or never, only the link is refused.
const LINKS_EXTENSIONS: bool = cfg!(any(target_arch = "x86_64", target_arch = "aarch64"));

/// A program that is to be loaded.
struct Wanted<'a> {
    function: &'a str,
    kind: Kind,
    frags: bool,
    /// BTF id of the function to attach to, and the program that has it (`None`: the kernel).
    target: Option<(u32, Option<BorrowedFd<'a>>)>,
    /// The struct that a member of a chain gets a pointer to.
    context: Option<&'static str>,
}

pub(super) fn load(
    kernel: &LinuxKernel,
    spec: &LoadSpec<'_, OwnedFd>,
) -> Result<Loaded<OwnedFd>, KernelError> {
    load_with(kernel, spec, false).map(|(loaded, _)| loaded)
}

/// As [`load`]; with `frags`, all of it as XDP programs that take packets in several fragments, whatever their
/// sections say. Gives the object's BTF as well, as the kernel has it.
pub(super) fn load_with(
    kernel: &LinuxKernel,
    spec: &LoadSpec<'_, OwnedFd>,
    frags: bool,
) -> Result<(Loaded<OwnedFd>, Option<Vec<u8>>), KernelError> {
    kernel.raise_memlock();
    let object = Object::parse(spec.object)?;
    if object.byte_order() != HOST {
        return Err(KernelError::ByteOrder {
            found: object.byte_order(),
            expected: HOST,
        });
    }
    globals::check(object.variables(), spec.globals)?;
    let mut kernel_btf = KernelBtf(None);
    let mut wanted = Vec::with_capacity(spec.programs.len());
    for program in &spec.programs {
        let mut program = want(kernel, &object, program, &mut kernel_btf)?;
        if frags {
            program.kind.flags |= BPF_F_XDP_HAS_FRAGS;
        }
        wanted.push(program);
    }
    let names: Vec<&str> = wanted.iter().map(|wanted| wanted.function).collect();
    let shared = spec.shared_maps.keys().map(String::as_str).collect();
    let needs = object.needs(&names, &shared)?;
    let targets = jump_targets(&object, spec, &wanted, &needs.jumps)?;
    let resolved = externs::resolve(&needs.externs, &mut kernel_btf, kernel.version)?;
    let all: Vec<&Wanted<'_>> = wanted.iter().chain(&targets).collect();
    let names: Vec<&str> = all.iter().map(|wanted| wanted.function).collect();
    let mut copy = object.normalise(&names, &resolved)?;
    let unfit = core_relocation::fit(&object, &names, &mut kernel_btf, &mut copy)?;
    let mut parsed = Parsed::parse(&copy)?;

    for (name, value) in spec.globals {
        if let Some(variable) = object.variables().get(name) {
            parsed.set(variable, value);
        }
    }
    let joining: Vec<Joining<'_>> = wanted
        .iter()
        .filter_map(|wanted| {
            let function = wanted.function;
            wanted.context.map(|context| Joining { function, context })
        })
        .collect();
    // The kernel finds an exception callback by the object's BTF only.
    let btf = ProgramBtf::load(kernel, &mut parsed, &joining, !needs.callbacks.is_empty())?;
    let entries = object.entries()?;
    let (map_btf, sections) = match btf.of_maps() {
        Some((map_btf, bytes)) => (Some(map_btf), data_sections(bytes)?),
        None => (None, BTreeMap::new()),
    };
    let making = maps::Making {
        shared: &spec.shared_maps,
        btf: map_btf,
        sections: &sections,
        used: &needs.maps,
        extra: &object.map_extra()?,
        version: kernel.version,
    };
    let maps = maps::make(parsed.take_maps(), &making)?;
    maps::fill_with_maps(&maps, &entries, &spec.shared_maps)?;
    parsed.relocate(&maps, &needs.callbacks)?;

    let mut loaded = Vec::with_capacity(wanted.len());
    for (program, asked) in wanted.iter().zip(&spec.programs) {
        let handle = load_program(kernel, &parsed, program, &btf)
            .map_err(|error| name_missing(error, &parsed, &object, &unfit))?;
        let mut can_return = Results::ANY;
        if let LoadAs::Extension { target, function } = &asked.load_as {
            if !LINKS_EXTENSIONS {
                links::extension(kernel, &handle, target, function)?;
            }
            if let Some((_, function)) = parsed.program(program.function) {
                can_return = results(&function.instructions);
            }
        }
        loaded.push(LoadedProgram {
            function: program.function.to_owned(),
            id: programs::id(handle.as_fd())?,
            handle,
            xdp_frags: program.frags,
            results: can_return,
        });
    }
    fill_with_programs(
        kernel,
        &parsed,
        &btf,
        &targets,
        &loaded,
        &maps,
        &Filling {
            entries: &entries,
            used: &needs.maps,
            shared: &spec.shared_maps,
        },
    )?;
    let mut held = Vec::with_capacity(maps.len());
    for (name, handle, _) in maps {
        let info =
            sys::map_info(handle.as_fd()).map_err(failed(|| format!("reading map `{name}`")))?;
        held.push(LoadedMap {
            // As everybody else calls it.
            name: if name == CONFIG_SECTION {
                ".kconfig".to_owned()
            } else {
                name
            },
            handle,
            id: info.id,
        });
    }
    let loaded = Loaded {
        programs: loaded,
        maps: held,
    };
    Ok((loaded, btf.into_bytes()))
}

/// The programs that those asked for jump to: loaded as they are, so that one array takes them both.
fn jump_targets<'a>(
    object: &'a Object<'_>,
    spec: &LoadSpec<'_, OwnedFd>,
    wanted: &[Wanted<'a>],
    jumps: &'a [Jump],
) -> Result<Vec<Wanted<'a>>, KernelError> {
    let mut targets = Vec::with_capacity(jumps.len());
    for jump in jumps {
        let (Some(found), Some(from), Some(asked)) = (
            object.functions().get(&jump.target),
            wanted.iter().find(|wanted| wanted.function == jump.from),
            spec.programs
                .iter()
                .find(|program| program.function == jump.from),
        ) else {
            continue;
        };
        let section = Section::parse(&found.section_name);
        let kind = program_types::kind(asked.program_type, &section);
        let mut kind = kind.ok_or_else(|| KernelError::JumpTarget {
            from: jump.from.clone(),
            target: jump.target.clone().into(),
            section: found.section_name.clone().into(),
            program_type: asked.program_type,
        })?;
        // A member of a dispatcher may jump to programs of the dispatcher's type; an array compares attach types.
        kind.attach_type = from.kind.attach_type;
        targets.push(Wanted {
            function: &jump.target,
            kind,
            frags: section == Section::Xdp { frags: true },
            target: from.target.filter(|(_, program)| program.is_none()),
            context: None,
        });
    }
    Ok(targets)
}

/// Entries of program arrays, and which of them are to be filled in.
struct Filling<'a> {
    entries: &'a [Entry],
    used: &'a BTreeSet<String>,
    shared: &'a BTreeMap<String, PathBuf>,
}

/// Loads the programs that are jumped to and puts them into the arrays, which keep them from then on.
fn fill_with_programs(
    kernel: &LinuxKernel,
    parsed: &Parsed,
    btf: &ProgramBtf,
    targets: &[Wanted<'_>],
    loaded: &[LoadedProgram<OwnedFd>],
    maps: &maps::Made,
    filling: &Filling<'_>,
) -> Result<(), KernelError> {
    let mut held: BTreeMap<&str, OwnedFd> = BTreeMap::new();
    for program in targets {
        let handle = load_program(kernel, parsed, program, btf)?;
        held.insert(program.function, handle);
    }
    for entry in filling.entries {
        let Target::Program(name) = &entry.target else {
            continue;
        };
        if !filling.used.contains(&entry.map) || filling.shared.contains_key(&entry.map) {
            continue;
        }
        let asked = loaded.iter().find(|program| program.function == *name);
        let program = match asked {
            Some(program) => Some(program.handle.as_fd()),
            None => held.get(name.as_str()).map(AsFd::as_fd),
        };
        if let (Some(map), Some(program)) = (maps::find(maps, &entry.map), program) {
            maps::put(entry, map, program)?;
        }
    }
    Ok(())
}

/// Finds a program in the object and what the kernel is to be asked for.
fn want<'a>(
    kernel: &LinuxKernel,
    object: &Object<'_>,
    program: &'a ProgramSpec<'a, OwnedFd>,
    kernel_btf: &mut KernelBtf,
) -> Result<Wanted<'a>, KernelError> {
    let function = program.function;
    let found = object
        .functions()
        .get(function)
        .ok_or_else(|| KernelError::NoSuchFunction {
            function: function.to_owned(),
            available: object.functions().keys().cloned().collect(),
        })?;
    let section = Section::parse(&found.section_name);
    let kind = program_types::kind(program.program_type, &section).ok_or_else(|| {
        KernelError::WrongSection {
            function: function.to_owned(),
            section: found.section_name.clone(),
            program_type: program.program_type,
        }
    })?;
    let (kind, target) = match (&program.load_as, program.attach_function) {
        (LoadAs::Extension { target, function }, _) => {
            let id = kernel.function_of(target, function)?;
            (program_types::EXTENSION, Some((id, Some(target.as_fd()))))
        }
        (LoadAs::Plain, Some(name)) => {
            let id = kernel_btf.function(name)?;
            let id = id.ok_or_else(|| {
                let function = name.to_owned();
                match probes::module_of(name) {
                    Some(module) => KernelError::ModuleFunction { function, module },
                    None => KernelError::NoKernelFunction { function },
                }
            })?;
            (kind, Some((id, None)))
        }
        (LoadAs::Plain, None) => (kind, None),
    };
    Ok(Wanted {
        function,
        kind,
        frags: section == Section::Xdp { frags: true },
        target,
        context: match program.load_as {
            LoadAs::Extension { .. } => Some(program_types::context(program.program_type)),
            LoadAs::Plain => None,
        },
    })
}

fn load_program(
    kernel: &LinuxKernel,
    parsed: &Parsed,
    wanted: &Wanted<'_>,
    btf: &ProgramBtf,
) -> Result<OwnedFd, KernelError> {
    let name = wanted.function;
    let (program, function) = parsed
        .program(name)
        .ok_or_else(|| KernelError::NoSuchFunction {
            function: name.to_owned(),
            available: Vec::new(),
        })?;
    let records = btf.records(function);
    let attributes = sys::ProgramAttributes {
        program_type: wanted.kind.program_type,
        attach_type: wanted.kind.attach_type,
        flags: wanted.kind.flags,
        name,
        license: &program.license,
        kernel_version: program.kernel_version.unwrap_or_default(),
        instructions: &function.instructions,
        btf: records.as_ref().map(Records::info),
        target: wanted.target,
    };
    // Without a log first: writing it costs the verifier more than its work.
    match sys::program_load(&attributes, None) {
        Ok(program) => Ok(program),
        Err(error) if is_of_resources(&error) => {
            Err(refusal(wanted, kernel.version, error, String::new()))
        }
        Err(_) => with_log(&attributes).map_err(|(error, log)| {
            let found = function.instructions.len();
            match too_many(&error, found, &log) {
                Some(limit) => KernelError::TooManyInstructions {
                    function: name.to_owned(),
                    found,
                    limit,
                    source: error,
                },
                None => refusal(wanted, kernel.version, error, log),
            }
        }),
    }
}

/// What the kernel answers for want of descriptors or memory, or when a signal came: the verifier may have taken the
/// program before, and written so.
fn is_of_resources(error: &io::Error) -> bool {
    let codes = [
        libc::EMFILE,
        libc::ENFILE,
        libc::ENOMEM,
        libc::EAGAIN,
        libc::EINTR,
    ];
    error
        .raw_os_error()
        .is_some_and(|code| codes.contains(&code))
}

/// Whether the verifier refused. Lockdown and security modules refuse with EPERM what it took.
fn is_the_verifiers(error: &io::Error, log: &str) -> bool {
    let took = error.raw_os_error() == Some(libc::EPERM) && took_it(log);
    !is_of_resources(error) && !log.trim().is_empty() && !took
}

/// Whether a log says nothing but what the verifier did: it took the program, and something else refused it.
fn took_it(log: &str) -> bool {
    const DONE: [&str; 6] = [
        "processed ",
        "verification time ",
        "stack depth ",
        "Validating ",
        "func#",
        "Func#",
    ];
    log.lines()
        .map(str::trim)
        .all(|line| line.is_empty() || DONE.iter().any(|start| line.starts_with(start)))
}

/// The limit of instructions that a program is above of, where it is refused for that: before the verifier sees it
/// (`bpf_prog_load` in kernel/bpf/syscall.c).
fn too_many(error: &io::Error, found: usize, log: &str) -> Option<usize> {
    const MAXINSNS: usize = 4096;
    const COMPLEXITY_LIMIT_INSNS: usize = 1_000_000;
    if error.raw_os_error() != Some(libc::E2BIG) || !log.trim().is_empty() {
        return None;
    }
    [COMPLEXITY_LIMIT_INSNS, MAXINSNS]
        .into_iter()
        .find(|limit| found > *limit)
}

/// Says what the kernel does not have, where that is why it refused a program.
fn name_missing(
    error: KernelError,
    parsed: &Parsed,
    object: &Object<'_>,
    unfit: &[Unfit],
) -> KernelError {
    match error {
        KernelError::Rejected {
            function,
            log,
            source,
        } => {
            let functions = parsed.functions(&function, object);
            match core_relocation::missing(&log, unfit, &functions) {
                Some(missing) => KernelError::MissingType {
                    function,
                    missing: missing.into(),
                    log,
                },
                None => KernelError::Rejected {
                    function,
                    log,
                    source,
                },
            }
        }
        error => error,
    }
}

/// Loads again, to be told why not. `ENOSPC`: the log was too short.
fn with_log(attributes: &sys::ProgramAttributes<'_>) -> Result<OwnedFd, (io::Error, String)> {
    let (mut length, longest) = LOG_BYTES;
    loop {
        let mut log = vec![0; length];
        match sys::program_load(attributes, Some(&mut log)) {
            Ok(program) => return Ok(program),
            Err(error) if error.raw_os_error() == Some(libc::ENOSPC) && length < longest => {
                length *= 4
            }
            Err(error) => {
                let text = log.split(|&byte| byte == 0).next().unwrap_or_default();
                return Err((error, String::from_utf8_lossy(text).into_owned()));
            }
        }
    }
}

/// Which error a refused program is: the verifier says why, the rest of the kernel does not.
fn refusal(wanted: &Wanted<'_>, version: Version, source: io::Error, log: String) -> KernelError {
    let function = wanted.function.to_owned();
    // Lockdown gives EPERM, an architecture without trampolines ENOTSUPP, a kernel before 5.6 EINVAL.
    let kind_refused = [libc::EPERM, libc::EINVAL, libc::EOPNOTSUPP, ENOTSUPP];
    let kind_refused = source
        .raw_os_error()
        .is_some_and(|errno| kind_refused.contains(&errno));
    let host_refused = log
        .lines()
        .find(|line| NO_EXTENSIONS.iter().any(|text| line.contains(text)));
    match (wanted.kind.program_type, host_refused) {
        (bpf_prog_type::BPF_PROG_TYPE_EXT, Some(line)) => KernelError::NoExtensions {
            source: io::Error::new(source.kind(), format!("{source}: {}", line.trim())),
        },
        _ if is_the_verifiers(&source, &log) => KernelError::Rejected {
            function,
            log,
            source,
        },
        (bpf_prog_type::BPF_PROG_TYPE_EXT, _) if kind_refused => {
            KernelError::NoExtensions { source }
        }
        (bpf_prog_type::BPF_PROG_TYPE_TRACING, _) if kind_refused => {
            KernelError::NoTracing { source }
        }
        _ => KernelError::ProgramRefused {
            function,
            need: Some(source.raw_os_error())
                .filter(|errno| *errno == Some(libc::EINVAL))
                .and_then(|_| needs::program(wanted.kind, version))
                .map(Box::new),
            source,
        },
    }
}

/// The kernel's BTF, read when something needs it: it has some 6 MB.
pub(super) struct KernelBtf(Option<Vec<u8>>);

impl KernelBtf {
    pub(super) fn unread() -> Self {
        Self(None)
    }

    /// The id of a function; `None` where the kernel has none of that name.
    pub(super) fn function(&mut self, name: &str) -> Result<Option<u32>, KernelError> {
        self.find(kind::FUNC, name)
    }

    /// The id of a variable. A kernel has those that are per CPU, since 6.14 all global ones where it was built so.
    pub(super) fn variable(&mut self, name: &str) -> Result<Option<u32>, KernelError> {
        self.find(kind::VAR, name)
    }

    fn find(&mut self, kind: u32, name: &str) -> Result<Option<u32>, KernelError> {
        find(self.bytes()?, HOST, kind, name).map_err(|source| KernelError::KernelTypes {
            path: KERNEL_BTF.into(),
            source,
        })
    }

    pub(super) fn bytes(&mut self) -> Result<&[u8], KernelError> {
        match &mut self.0 {
            Some(bytes) => Ok(bytes),
            empty => {
                let bytes =
                    fs::read(KERNEL_BTF).map_err(|source| KernelError::NoKernelBtf { source })?;
                Ok(empty.insert(bytes))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_with_a_log_is_the_verifiers() {
        let refusal = |program_type, errno, log: &str| {
            let kind = Kind {
                program_type,
                attach_type: 0,
                flags: 0,
            };
            let wanted = Wanted {
                function: "f",
                kind,
                frags: false,
                target: None,
                context: None,
            };
            let source = io::Error::from_raw_os_error(errno);
            match super::refusal(&wanted, Version(6, 1), source, log.to_owned()) {
                KernelError::Rejected { .. } => "rejected",
                KernelError::NoExtensions { .. } => "no extensions",
                KernelError::NoTracing { .. } => "no tracing",
                KernelError::ProgramRefused { .. } => "refused",
                _ => "other",
            }
        };
        use bpf_prog_type::*;
        const TOOK: &str = "processed 5 insns (limit 1000000) max_states_per_insn 0\n";
        let cases = [
            (BPF_PROG_TYPE_XDP, libc::EACCES, "R0 !read_ok\n", "rejected"),
            (BPF_PROG_TYPE_XDP, libc::EPERM, "", "refused"),
            (BPF_PROG_TYPE_EXT, libc::EPERM, "", "no extensions"),
            (BPF_PROG_TYPE_EXT, ENOTSUPP, "", "no extensions"),
            (
                BPF_PROG_TYPE_EXT,
                libc::EINVAL,
                "Subprog compat_test doesn't exist\n",
                "rejected",
            ),
            (
                BPF_PROG_TYPE_EXT,
                libc::EINVAL,
                "Extension programs should be JITed\nprocessed 0 insns\n",
                "no extensions",
            ),
            (
                BPF_PROG_TYPE_EXT,
                libc::EINVAL,
                "Can attach to only JITed progs\n",
                "no extensions",
            ),
            (
                BPF_PROG_TYPE_TRACING,
                libc::EINVAL,
                "Can attach to only JITed progs\n",
                "rejected",
            ),
            (BPF_PROG_TYPE_EXT, libc::ENOMEM, "", "refused"),
            (BPF_PROG_TYPE_TRACING, libc::EPERM, "", "no tracing"),
            // The verifier took it, and wrote so, before a descriptor or memory was missing.
            (BPF_PROG_TYPE_XDP, libc::EMFILE, TOOK, "refused"),
            (BPF_PROG_TYPE_XDP, libc::ENFILE, TOOK, "refused"),
            (BPF_PROG_TYPE_XDP, libc::ENOMEM, TOOK, "refused"),
            (BPF_PROG_TYPE_EXT, libc::EMFILE, TOOK, "refused"),
            (BPF_PROG_TYPE_XDP, libc::EPERM, TOOK, "refused"),
            (
                BPF_PROG_TYPE_XDP,
                libc::EPERM,
                "function calls to other bpf functions are allowed for CAP_BPF\nprocessed 0 insns\n",
                "rejected",
            ),
            (
                BPF_PROG_TYPE_XDP,
                libc::E2BIG,
                "BPF program is too large. Processed 1000001 insn\nprocessed 1000001 insns\n",
                "rejected",
            ),
        ];
        for (program_type, errno, log, expected) in cases {
            assert_eq!(
                refusal(program_type, errno, log),
                expected,
                "{program_type:?} {errno} {log}"
            );
        }
    }
}
