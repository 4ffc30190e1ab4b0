mod hint;

pub(crate) use hint::{quoted, within};

use std::fmt;
use std::path::PathBuf;

use bytecode_object::{ByteOrder, KernelBtfUse, ObjectError, ProgramType, section_family};

use crate::kernel::KernelError;
use crate::metadata::MetadataError;
use crate::state::StateError;
use crate::{TcDirection, XdpMode};

/// A hook of an interface, as a message names it: `eth0`, `eth0 ingress`, `eth0 ingress in /run/netns/blue`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HookPlace {
    /// Interface name.
    pub iface: String,
    /// Direction, for TC and TCX.
    pub direction: Option<TcDirection>,
    /// Path of a network namespace, `None` for ours.
    pub netns: Option<PathBuf>,
}

impl fmt::Display for HookPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.iface)?;
        if let Some(direction) = self.direction {
            write!(f, " {direction}")?;
        }
        if let Some(netns) = &self.netns {
            write!(f, " in {}", netns.display())?;
        }
        Ok(())
    }
}

/// Why the loader could not do what was asked. The text says what was being done and what was found; the cause below
/// it is the [`source`](std::error::Error::source), what to do about it the [`hint`](LoaderError::hint).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoaderError {
    /// No such program, ours or the kernel's.
    #[error("there is no program with id {id}")]
    NoSuchProgram {
        /// Id asked for.
        id: u32,
    },
    /// The program is the kernel's, but was not loaded by us.
    #[error("program {id} was not loaded by bpfman")]
    NotOurs {
        /// Id asked for.
        id: u32,
    },
    /// No such link of ours.
    #[error("there is no link with id {id}")]
    NoSuchLink {
        /// Id asked for.
        id: u32,
    },
    /// The program whose maps are to be shared is none of ours.
    #[error("sharing the maps of program {id}: bpfman has no program with that id")]
    NoSuchMapOwner {
        /// Id asked for.
        id: u32,
    },
    /// The two objects have no map of the same name.
    #[error(
        "loading {from} with the maps of program {owner}: the object has {}, program {owner} has {}; none has the same name",
        .expected.join(", "), list(.found)
    )]
    NothingShared {
        /// File or image.
        from: String,
        /// Program whose maps were to be shared.
        owner: u32,
        /// Maps of the object, sorted.
        expected: Vec<String>,
        /// Maps of the owner, sorted.
        found: Vec<String>,
    },
    /// We have a record of a program that the kernel or bpffs no longer has.
    #[error("program {id} is recorded but gone: {} is not there", .path.display())]
    ProgramGone {
        /// Its id.
        id: u32,
        /// Its pin.
        path: PathBuf,
    },
    /// A chain whose pin is gone, and that runs all the same.
    #[error("the chain on {place} still runs (program {program}), but its pin is gone: {} is not there", .path.display())]
    ChainHeld {
        /// Where.
        place: Box<HookPlace>,
        /// Pin of its XDP link.
        path: PathBuf,
        /// Its dispatcher, or its one program.
        program: u32,
    },
    /// A TC filter of ours that somebody removed while we were at it.
    #[error("the TC {direction} filter of interface {ifindex} that runs program {program} is gone")]
    FilterGone {
        /// Interface index.
        ifindex: u32,
        /// Direction.
        direction: TcDirection,
        /// Dispatcher.
        program: u32,
    },
    /// The object cannot be read.
    #[error("reading the object of {from}")]
    Object {
        /// File or image.
        from: String,
        /// What is wrong with it.
        source: ObjectError,
    },
    /// Compiled for hosts of the other byte order.
    #[error("loading {from}: the object is {found}, this host {host}")]
    ByteOrder {
        /// File or image.
        from: String,
        /// Byte order of the object.
        found: ByteOrder,
        /// Byte order of this host.
        host: ByteOrder,
    },
    /// Nothing to load was named.
    #[error("loading {from}: no program was asked for")]
    NothingAsked {
        /// File or image.
        from: String,
    },
    /// A function that the object does not have.
    #[error("loading {from}: the object has no program `{function}`; it has {}", .available.join(", "))]
    FunctionNotFound {
        /// File or image.
        from: String,
        /// Function asked for.
        function: String,
        /// Programs there are, sorted.
        available: Vec<String>,
        /// The one of them that was most likely meant.
        near: Option<String>,
    },
    /// Metadata that is longer than its cap, or damaged.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
    /// A function asked for twice in one load.
    #[error("loading {from}: program `{function}` was asked for twice")]
    AskedTwice {
        /// File or image.
        from: String,
        /// Function.
        function: String,
    },
    /// TYPE and section do not go together.
    #[error(
        "loading `{function}` of {from} as {asked}: it is in section `{section}`, which is for {}",
        types(.section, .fits)
    )]
    TypeMismatch {
        /// File or image.
        from: String,
        /// Function.
        function: String,
        /// TYPE asked for.
        asked: ProgramType,
        /// ELF section of the function.
        section: String,
        /// TYPEs that section is good for; none for sections that cannot be loaded.
        fits: Vec<ProgramType>,
    },
    /// fentry or fexit without its kernel function.
    #[error("loading `{function}` as {program_type}: the kernel function to trace is missing")]
    NoAttachFunction {
        /// Function.
        function: String,
        /// fentry or fexit.
        program_type: ProgramType,
    },
    /// A program of another type than the hook's.
    #[error("attaching program {id} to {hook}: it was loaded as {program_type}")]
    WrongHook {
        /// Program.
        id: u32,
        /// Hook asked for.
        hook: ProgramType,
        /// What it was loaded as.
        program_type: ProgramType,
    },
    /// A priority that no chain has.
    #[error("attaching program {id} to {place}: priority {found} is outside 1 to 1000")]
    Priority {
        /// Program.
        id: u32,
        /// Where.
        place: Box<HookPlace>,
        /// Priority asked for.
        found: u32,
    },
    /// A `--proceed-on` word that is no action of the hook.
    #[error("`{word}` is no {family} action: expected {}", .expected.join(", "))]
    ProceedOn {
        /// Word found.
        word: String,
        /// `XDP` or `TC`.
        family: &'static str,
        /// Words there are.
        expected: Vec<&'static str>,
    },
    /// A tracepoint without category or name.
    #[error("`{found}` is no tracepoint: expected category/name, as in syscalls/sys_enter_openat")]
    TracepointName {
        /// What was asked for.
        found: String,
    },
    /// An offset with a kretprobe.
    #[error(
        "attaching program {id} to kernel function {function}: it is a kretprobe, which takes no offset, and {offset} was given"
    )]
    KretprobeOffset {
        /// Program.
        id: u32,
        /// Function asked for.
        function: String,
        /// Offset asked for.
        offset: u64,
    },
    /// A uprobe with neither function nor offset: the start of a file is its header, never run.
    #[error("attaching program {id} to {target}: neither a function nor an offset was given")]
    NoUprobePlace {
        /// Program.
        id: u32,
        /// Target asked for.
        target: String,
    },
    /// fentry or fexit, attached already.
    #[error(
        "attaching program {id} to kernel function {function}: it is attached there, by link {link}, \
         and a tracing program can be only once"
    )]
    TracesAlready {
        /// Program.
        id: u32,
        /// Its function.
        function: String,
        /// Its link.
        link: u32,
    },
    /// A function or tracepoint that the running kernel does not have.
    #[error("{what}")]
    NotInKernel {
        /// What was being done to what.
        what: String,
        /// The one that was most likely meant.
        near: Option<String>,
        /// What the kernel said.
        source: Box<KernelError>,
    },
    /// All slots of the dispatcher are taken.
    #[error(
        "attaching program {id} to {place}: its chain has {limit} programs, the most there can be"
    )]
    ChainFull {
        /// Program.
        id: u32,
        /// Where.
        place: Box<HookPlace>,
        /// Ten.
        limit: usize,
    },
    /// Somebody else's XDP program is there.
    #[error(
        "attaching program {id} to {place}: XDP program {foreign}, not loaded by bpfman, is attached there"
    )]
    ForeignXdp {
        /// Program.
        id: u32,
        /// Where.
        place: Box<HookPlace>,
        /// Id of the program there.
        foreign: u32,
        /// Mode in which it runs.
        mode: XdpMode,
    },
    /// The ingress place of an interface has a qdisc that takes no filters for both directions.
    #[error(
        "attaching program {id} to {place}: the interface has the qdisc `{kind}` where clsact would be"
    )]
    ForeignQdisc {
        /// Program.
        id: u32,
        /// Where.
        place: Box<HookPlace>,
        /// Its kind.
        kind: String,
    },
    /// Somebody else's filters are at our preference and are of another kind.
    #[error(
        "attaching program {id} to {place}: preference {preference}, which bpfman uses, has `{kind}` filters \
         (protocol {protocol:#06x}) that are not bpfman's"
    )]
    ForeignFilter {
        /// Program.
        id: u32,
        /// Where.
        place: Box<HookPlace>,
        /// Ours.
        preference: u16,
        /// Kind of the filters there.
        kind: String,
        /// Their protocol.
        protocol: u16,
    },
    /// The kernel runs a program once on a TCX hook.
    #[error("attaching program {id} (`{function}`) to {place}: it is attached there already{}", by_link(.link))]
    TcxTwice {
        /// Program.
        id: u32,
        /// Its function.
        function: String,
        /// Where.
        place: Box<HookPlace>,
        /// The link that is there, where it is ours.
        link: Option<u32>,
    },
    /// The kernel runs a program once on a tracepoint.
    #[error("{what} (`{function}`): it is attached there already{}", by_link(.link))]
    TracepointTwice {
        /// What was being done.
        what: String,
        /// The program's function.
        function: String,
        /// The link that is there, where it is ours.
        link: Option<u32>,
    },
    /// Without EXT programs there are no chains, and the one place is taken.
    #[error(
        "attaching program {id} to {place}: program {alone} was loaded without a dispatcher and can only be attached \
         alone, and program {holder} is attached there"
    )]
    NoChain {
        /// Program.
        id: u32,
        /// Where.
        place: Box<HookPlace>,
        /// The other program.
        holder: u32,
        /// Which of the two cannot share the hook.
        alone: u32,
    },
    /// The mode asked for is not the chain's.
    #[error(
        "attaching program {id} to {place} in {asked} mode: the chain there is in {found} mode"
    )]
    ModeDiffers {
        /// Program.
        id: u32,
        /// Where.
        place: Box<HookPlace>,
        /// Mode asked for.
        asked: &'static str,
        /// Mode of the chain.
        found: &'static str,
    },
    /// The driver does not do the mode that was asked for.
    #[error("attaching program {id} to {place}: it does not take XDP programs in {mode} mode")]
    ModeRefused {
        /// Program.
        id: u32,
        /// Where.
        place: Box<HookPlace>,
        /// Mode asked for.
        mode: &'static str,
        /// What the kernel said.
        source: KernelError,
    },
    /// The driver of an interface does not take a chain as it would be now.
    #[error("replacing the dispatcher at {}: the interface's driver refuses the new one", path.display())]
    ChainRefused {
        /// Pin of the chain's link.
        path: PathBuf,
        /// What the kernel said.
        source: KernelError,
    },
    /// The running kernel shows no types of its own, and programs asked for want them.
    #[error("{what}: {}", wants(wanting))]
    NoKernelTypes {
        /// What was being done to what.
        what: String,
        /// Programs that want them, and why.
        wanting: Vec<(String, KernelBtfUse)>,
        /// Programs of the object that do not.
        plain: Vec<String>,
        /// What the kernel said.
        source: Box<KernelError>,
    },
    /// A step that the kernel refused.
    #[error("{what}")]
    Kernel {
        /// What was being done to what.
        what: String,
        /// What the kernel said.
        source: KernelError,
    },
    /// A path of ours is taken by something that no record has.
    #[error("{what}: {} is there already, and no record of bpfman has it", .path.display())]
    InTheWay {
        /// What was being done to what.
        what: String,
        /// Pin or folder.
        path: PathBuf,
    },
    /// What a process that died had left can be neither finished nor undone.
    #[error("settling what an interrupted command left ({what})")]
    Recovery {
        /// That command.
        what: String,
        /// The step that failed.
        source: Box<LoaderError>,
    },
    /// Lock, journal or records.
    #[error(transparent)]
    State(#[from] StateError),
}

fn by_link(link: &Option<u32>) -> String {
    link.map_or_else(String::new, |link| format!(", by link {link}"))
}

fn types(section: &str, fits: &[ProgramType]) -> String {
    if fits.is_empty() {
        return match section_family(section) {
            Some(family) => format!("{family} programs, which bpfman does not support yet"),
            None => "no known type of program".to_owned(),
        };
    }
    let words: Vec<_> = fits.iter().map(|kind| kind.as_str()).collect();
    words.join(" or ")
}

fn list(names: &[String]) -> String {
    if names.is_empty() {
        return "none".to_owned();
    }
    names.join(", ")
}

/// Says what was being done when the kernel refused.
pub(crate) trait Doing<T> {
    /// `what` as in "pinning program 7".
    fn doing(self, what: impl FnOnce() -> String) -> Result<T, LoaderError>;
}

fn wants(wanting: &[(String, KernelBtfUse)]) -> String {
    let one = |(name, why): &(String, KernelBtfUse)| format!("program `{name}` {why}");
    let all: Vec<_> = wanting.iter().map(one).collect();
    all.join(", ")
}

impl<T> Doing<T> for Result<T, KernelError> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T, LoaderError> {
        self.map_err(|source| LoaderError::Kernel {
            what: what(),
            source,
        })
    }
}
