use std::path::PathBuf;

use bytecode_object::ProgramType;

use super::{ExternError, Need, ProbeError};

/// A step that a kernel refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KernelError {
    /// A system call failed.
    #[error("{call}: {source}")]
    Syscall {
        /// Which call, and on what.
        call: String,
        /// Its errno.
        source: std::io::Error,
    },
    /// The verifier said no.
    #[error("the verifier rejected `{function}`: {source}")]
    Rejected {
        /// Program.
        function: String,
        /// Its whole log.
        log: String,
        /// Errno of `BPF_PROG_LOAD`.
        source: std::io::Error,
    },
    /// The verifier said no because the program uses types or fields that this kernel does not have (CO-RE).
    #[error("cannot load program `{function}`: {missing}")]
    MissingType {
        /// Program.
        function: String,
        /// What the kernel does not have.
        missing: Box<str>,
        /// The verifier's whole log.
        log: String,
    },
    /// A CO-RE relocation that makes no sense.
    #[error(transparent)]
    CoreRelocation(#[from] Box<bytecode_object::core_relocation::CoreError>),
    /// The kernel's own BTF contradicts itself, or is newer than this.
    #[error("reading {}: {source}", .path.display())]
    KernelTypes {
        /// Its file.
        path: PathBuf,
        /// What is wrong with it.
        source: bytecode_object::ObjectError,
    },
    /// The kernel takes no EXT programs (lockdown, no trampolines on this architecture).
    #[error("this kernel refuses EXT programs: {source}")]
    NoExtensions {
        /// Errno.
        source: std::io::Error,
    },
    /// The kernel takes no fentry and fexit programs (lockdown, no trampolines on this architecture).
    #[error("this kernel refuses fentry and fexit programs: {source}")]
    NoTracing {
        /// Errno.
        source: std::io::Error,
    },
    /// A program was refused, and the verifier had no say in it.
    #[error("loading program `{function}`: {source}")]
    ProgramRefused {
        /// Program.
        function: String,
        /// What this kernel may lack.
        need: Option<Box<Need>>,
        /// Errno of `BPF_PROG_LOAD`.
        source: std::io::Error,
    },
    /// A program with more instructions than a kernel looks at.
    #[error(
        "loading program `{function}`: it has {found} instructions, the most is {limit}: {source}"
    )]
    TooManyInstructions {
        /// Program.
        function: String,
        /// Its instructions.
        found: usize,
        /// `BPF_COMPLEXITY_LIMIT_INSNS`, or `BPF_MAXINSNS` without CAP_BPF.
        limit: usize,
        /// Errno of `BPF_PROG_LOAD`.
        source: std::io::Error,
    },
    /// A map was refused.
    #[error("making {}map `{map}` (of type {map_type}): {source}", if *.inner { "the inner map of " } else { "" })]
    MapRefused {
        /// Map.
        map: String,
        /// Whether it is the map that describes the entries of this one that was refused.
        inner: bool,
        /// Its type, as in labels.
        map_type: Box<str>,
        /// What this kernel may lack.
        need: Option<Box<Need>>,
        /// Errno of `BPF_MAP_CREATE`.
        source: std::io::Error,
    },
    /// Something that the object leaves to the kernel, and that the kernel does not have.
    #[error("`{function}` uses `{symbol}`, an extern of the kernel")]
    Extern {
        /// Program or function.
        function: String,
        /// Name of the extern.
        symbol: String,
        /// Why it cannot be filled in.
        source: Box<ExternError>,
    },
    /// A program that one of those asked for jumps to cannot be loaded as that one is.
    #[error(
        "`{from}` jumps to `{target}` by an entry of a program array, but `{target}` is in section `{section}` and cannot \
         be loaded as {program_type}"
    )]
    JumpTarget {
        /// Program asked for.
        from: String,
        /// Where it jumps to.
        target: Box<str>,
        /// Section of that.
        section: Box<str>,
        /// Type of the program asked for.
        program_type: ProgramType,
    },
    /// A function was asked for that the object does not have.
    #[error("no program `{function}` in the object; it has {}", .available.join(", "))]
    NoSuchFunction {
        /// Function asked for.
        function: String,
        /// Programs there are, sorted.
        available: Vec<String>,
    },
    /// The program's section and what it is asked to be do not go together.
    #[error(
        "program `{function}` is in section `{section}` and cannot be loaded as {program_type}"
    )]
    WrongSection {
        /// Program.
        function: String,
        /// Its ELF section.
        section: String,
        /// What was asked.
        program_type: ProgramType,
    },
    /// The object is no eBPF object, or a damaged one.
    #[error("reading the object: {source}")]
    Object {
        /// What is wrong with it.
        #[source]
        source: bytecode_object::ObjectError,
    },
    /// The object is for machines of the other byte order.
    #[error("the object is {found}, this machine is {expected}")]
    ByteOrder {
        /// The object's.
        found: bytecode_object::ByteOrder,
        /// The machine's.
        expected: bytecode_object::ByteOrder,
    },
    /// The object's headers could not be rewritten.
    #[error("preparing the object: {source}")]
    Normalise {
        /// What is wrong with it.
        #[from]
        source: crate::object::NormaliseError,
    },
    /// aya could not make sense of the object, its maps, its relocations or its BTF.
    #[error("the object cannot be used: {doing}: {source}")]
    Aya {
        /// What was being done with it.
        doing: &'static str,
        /// aya's own error, with its causes.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// aya panicked on the object.
    #[error("the object cannot be used: {doing}: the eBPF library gave up: {message}")]
    Panicked {
        /// What was being done with it.
        doing: &'static str,
        /// The panic's message.
        message: String,
    },
    /// A global was asked for that does not fit the object.
    #[error(transparent)]
    Global(#[from] crate::globals::GlobalError),
    /// A function that the running kernel does not have: not in its BTF (fentry, fexit), not among its symbols (kprobes).
    #[error("the kernel has no function `{function}` that can be traced")]
    NoKernelFunction {
        /// Function asked for.
        function: String,
    },
    /// This process alone is in a mount namespace, so what it mounts ends with it.
    #[error(
        "this command runs in a mount namespace of its own: a bpffs at {} would end with it, and with that every program",
        .dir.display()
    )]
    PrivateMounts {
        /// Where the mount was to be.
        dir: PathBuf,
    },
    /// A function of a module, for fentry or fexit: the BTF of modules is not looked up.
    #[error(
        "`{function}` is a function of the module {module}; fentry and fexit programs are loaded for those of the kernel itself"
    )]
    ModuleFunction {
        /// Function asked for.
        function: String,
        /// Its module.
        module: String,
    },
    /// The running kernel's BTF is needed (CO-RE relocations, fentry, fexit) and cannot be read.
    #[error("reading the kernel's BTF at /sys/kernel/btf/vmlinux: {source}")]
    NoKernelBtf {
        /// Why not.
        source: std::io::Error,
    },
    /// A map that is to be shared is not pinned where it should be.
    #[error("map `{map}` is to be shared, but nothing is pinned at {}", .path.display())]
    NoSharedMap {
        /// Map.
        map: String,
        /// Where it was looked for.
        path: PathBuf,
    },
    /// A map that is to be shared is another one than the object describes.
    #[error("map `{map}` cannot be shared: its {what} is {found}, the object has {expected}")]
    MapMismatch {
        /// Map.
        map: Box<str>,
        /// What differs.
        what: &'static str,
        /// In the object.
        expected: Box<str>,
        /// In the map that is there.
        found: Box<str>,
    },
    /// No tracepoint of that name.
    #[error("the kernel has no tracepoint `{category}/{name}` ({path} is not there)")]
    NoTracepoint {
        /// Category.
        category: String,
        /// Name.
        name: String,
        /// Its id file.
        path: PathBuf,
    },
    /// Neither tracefs nor debugfs is mounted where it belongs.
    #[error(
        "tracefs is not mounted (neither at /sys/kernel/tracing nor at /sys/kernel/debug/tracing)"
    )]
    NoTracefs,
    /// A probe that cannot be placed.
    #[error(transparent)]
    Probe(Box<ProbeError>),
    /// No interface of that name in the namespace.
    #[error("no interface `{name}`")]
    NoInterface {
        /// Name asked for.
        name: String,
        /// The one there that was most likely meant.
        near: Option<String>,
    },
    /// A part of traffic control that is neither built into the kernel nor a module of it.
    #[error("this kernel has no {what}: {source}")]
    NoTrafficControl {
        /// Qdisc or classifier.
        what: &'static str,
        /// Option of the kernel's configuration.
        option: &'static str,
        /// Module that it may be built as.
        module: &'static str,
        /// Errno.
        source: std::io::Error,
    },
    /// An interface that was there, or its namespace, is gone.
    #[error("interface {ifindex} of network namespace {nsid} is gone")]
    InterfaceGone {
        /// Its index.
        ifindex: u32,
        /// Inode of its namespace.
        nsid: u64,
    },
    /// A network namespace that cannot be opened.
    #[error("opening the network namespace {}: {source}", .path.display())]
    NoNamespace {
        /// Path asked for.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// A path that is something else than a network namespace.
    #[error("{} is no network namespace", .path.display())]
    NotANamespace {
        /// Path asked for.
        path: PathBuf,
    },
    /// A kernel that is too old.
    #[error("{what} needs kernel {needs} or newer, this is {running}: {source}")]
    TooOld {
        /// What was asked for.
        what: &'static str,
        /// First release that has it.
        needs: &'static str,
        /// Release of this one.
        running: String,
        /// What it said.
        source: std::io::Error,
    },
    /// A hook with as many programs as a kernel takes there.
    #[error("{what} has {limit} programs, the most that the kernel takes ({constant}): {source}")]
    Full {
        /// Hook.
        what: String,
        /// How many.
        limit: u32,
        /// The kernel's name for the limit.
        constant: &'static str,
        /// Errno.
        source: std::io::Error,
    },
    /// A function that is not in a dispatcher.
    #[error("the dispatcher has no function `{function}`")]
    NoSlot {
        /// Function asked for.
        function: String,
    },
}

impl KernelError {
    /// Whether a driver does not take an XDP program as it is: what drivers, and the kernel for those without an XDP hook,
    /// answer when they cannot (`dev_xdp_attach` in net/core/dev.c, `ndo_bpf` of the drivers).
    pub(crate) fn is_drivers(&self) -> bool {
        let Self::Syscall { source, .. } = self else {
            return false;
        };
        matches!(
            source.raw_os_error(),
            Some(libc::EOPNOTSUPP | libc::EINVAL | libc::ERANGE)
        )
    }
}
