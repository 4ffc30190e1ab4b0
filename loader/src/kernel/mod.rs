//! The one thin trait between the loader and a kernel: `linux` is the real one (aya, and raw `bpf(2)` calls where
//! aya has none), `fake` the one of the tests.
//!
//! Each method is one step that can fail by itself, so that a test can make the Nth of them fail. Paths are
//! absolute and lie under our bpffs. A [`Kernel::Handle`] keeps its kernel object alive, as a file descriptor does.

mod error;
#[cfg(any(test, feature = "fake"))]
pub mod fake;
mod interface;
pub mod linux;
mod probe;
mod refusal;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::object::Results;
use crate::program::KernelState;
use crate::request::{TcDirection, UprobePoint, XdpMode};
use bytecode_object::ProgramType;

pub use error::KernelError;
pub use interface::{
    Device, Interface, InterfaceState, LinkPlace, TCX_LIMIT, TCX_PROGRAMS, TcxMember,
};
pub use probe::{ProbeError, UprobePlace};

pub(crate) use refusal::advice;
pub use refusal::{ExternError, Need};

/// How a program of an object is to be loaded.
#[derive(Debug)]
pub enum LoadAs<'a, H> {
    /// With the type of its section.
    Plain,
    /// As `BPF_PROG_TYPE_EXT` for a function of a dispatcher.
    Extension {
        /// The loaded dispatcher.
        target: &'a H,
        /// Function in it whose signature the program must have (`compat_test`).
        function: &'a str,
    },
}

/// One program to load.
#[derive(Debug)]
pub struct ProgramSpec<'a, H> {
    /// Function name in the object.
    pub function: &'a str,
    /// What it is to be.
    pub program_type: ProgramType,
    /// Kernel function, for fentry and fexit.
    pub attach_function: Option<&'a str>,
    /// How.
    pub load_as: LoadAs<'a, H>,
}

/// One object to load: its maps are made (or opened), then the programs named, and no other.
#[derive(Debug)]
pub struct LoadSpec<'a, H> {
    /// The ELF file, unchanged.
    pub object: &'a [u8],
    /// Programs wanted.
    pub programs: Vec<ProgramSpec<'a, H>>,
    /// Globals to set.
    pub globals: &'a BTreeMap<String, Vec<u8>>,
    /// Maps that exist already: name → pin to open instead of making a new one.
    pub shared_maps: BTreeMap<String, PathBuf>,
}

/// A program that was loaded; not pinned yet.
#[derive(Debug)]
pub struct LoadedProgram<H> {
    /// Function name.
    pub function: String,
    /// Handle.
    pub handle: H,
    /// Kernel id.
    pub id: u32,
    /// Whether it was loaded from `xdp.frags`.
    pub xdp_frags: bool,
    /// What its instructions can return; looked into for [`LoadAs::Extension`] only.
    pub results: Results,
}

/// A map of the object; not pinned yet, unless it was shared.
#[derive(Debug)]
pub struct LoadedMap<H> {
    /// Name in the object.
    pub name: String,
    /// Handle.
    pub handle: H,
    /// Kernel id.
    pub id: u32,
}

/// What a load made: programs in the order asked, maps sorted by name.
#[derive(Debug)]
pub struct Loaded<H> {
    /// Programs.
    pub programs: Vec<LoadedProgram<H>>,
    /// Maps, compiler's sections included.
    pub maps: Vec<LoadedMap<H>>,
}

/// Contents of the XDP dispatcher's `.rodata` (`struct xdp_dispatcher_conf` of libxdp, version 2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct XdpDispatcherConfig {
    /// Slots in use, 0 to 10.
    pub num_progs_enabled: u8,
    /// Whether the dispatcher is loaded with `BPF_F_XDP_HAS_FRAGS`.
    pub is_xdp_frags: bool,
    /// One mask a slot: bit `1 << action` set means "go on".
    pub chain_call_actions: [u32; 10],
    /// One priority a slot.
    pub run_prios: [u32; 10],
    /// Load flags of each slot's program.
    pub program_flags: [u32; 10],
}

/// Contents of the TC dispatcher's `.rodata` (`bpf/tc_dispatcher.bpf.c`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TcDispatcherConfig {
    /// Slots in use, 0 to 10.
    pub num_progs_enabled: u8,
    /// One mask a slot: bit `1 << (action + 1)` set means "go on".
    pub chain_call_actions: [u32; 10],
    /// One priority a slot.
    pub run_prios: [u32; 10],
}

/// Which of the embedded dispatchers, and what it is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DispatcherConfig {
    /// `xdp_dispatcher`.
    Xdp(XdpDispatcherConfig),
    /// `tc_dispatcher`.
    Tc(TcDispatcherConfig),
}

impl DispatcherConfig {
    /// The function that the dispatcher begins with.
    pub const fn function(&self) -> &'static str {
        match self {
            Self::Xdp(_) => "xdp_dispatcher",
            Self::Tc(_) => "tc_dispatcher",
        }
    }
}

/// What a list shows of a program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProgramBrief {
    /// Kernel id.
    pub id: u32,
    /// Name, at most 15 bytes.
    pub name: String,
    /// Type word, as in [`KernelState::program_type`], except that a member of a dispatcher shows as `ext`.
    pub program_type: String,
}

/// A link to make.
#[derive(Debug)]
pub enum LinkSpec<'a, H> {
    /// `BPF_LINK_CREATE` of an XDP program on an interface (kernel 5.9).
    Xdp {
        /// Program (a dispatcher, or a plain XDP program).
        program: &'a H,
        /// Interface.
        device: &'a Device,
        /// Mode. There is always one: without its flag the kernel takes the generic hook where the driver has none,
        /// and does not say so.
        mode: XdpMode,
    },
    /// `BPF_LINK_CREATE` of an EXT program in place of a function of a dispatcher (kernel 5.10).
    Extension {
        /// EXT program.
        program: &'a H,
        /// Dispatcher.
        target: &'a H,
        /// `prog0` … `prog9`, or the one that the dispatcher begins with, in place of all of it.
        function: &'a str,
    },
    /// `BPF_LINK_CREATE` of a classifier on one direction of an interface (kernel 6.6), last of all or beside a link.
    Tcx {
        /// Classifier.
        program: &'a H,
        /// Interface.
        device: &'a Device,
        /// Direction.
        direction: TcDirection,
        /// Another TCX link there, and on which side of it; `None`: behind all that are there.
        beside: Option<(Side, &'a H)>,
    },
    /// Perf event of a tracepoint with a BPF link on it (kernel 5.15).
    Tracepoint {
        /// Program.
        program: &'a H,
        /// Category.
        category: &'a str,
        /// Name.
        name: &'a str,
    },
    /// Perf event of a function of the kernel with a BPF link on it (kernel 5.15).
    Kprobe {
        /// Program.
        program: &'a H,
        /// Function.
        function: &'a str,
        /// Bytes from its start.
        offset: u64,
        /// At its return.
        retprobe: bool,
    },
    /// Perf event of a place in a file with a BPF link on it (kernel 5.15).
    Uprobe {
        /// Program.
        program: &'a H,
        /// The file.
        binary: &'a H,
        /// Bytes from the start of the file.
        offset: u64,
        /// Only in this process; `None` for all.
        pid: Option<u32>,
        /// At the return of the function that starts there.
        retprobe: bool,
    },
    /// fentry or fexit on the function that the program was loaded for (`BPF_RAW_TRACEPOINT_OPEN`, kernel 5.7 for a
    /// link that can be pinned).
    Tracing {
        /// Program.
        program: &'a H,
    },
}

/// On which side of another link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// `BPF_F_BEFORE`.
    Before,
    /// `BPF_F_AFTER`.
    After,
}

/// The qdisc in an interface's ingress place, which is the place of clsact, too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IngressQdisc {
    /// None.
    None,
    /// clsact: takes filters for both directions.
    Clsact,
    /// Another (`ingress`).
    Other {
        /// Its kind.
        kind: String,
    },
}

/// A traffic control filter on one direction of an interface's clsact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TcFilter {
    /// Preference, lower first.
    pub preference: u16,
    /// Protocol (`ETH_P_ALL` is 3).
    pub protocol: u16,
    /// Number of the filter chain, 0 where nobody asked for another.
    pub chain: u32,
    /// Kind (`bpf`, `flower`, …).
    pub kind: String,
    /// Handle; 0 stands for the preference as such.
    pub handle: u32,
    /// Id of its BPF program.
    pub program_id: Option<u32>,
    /// What it is called in `tc filter show`.
    pub name: Option<String>,
}

/// Preference of our filters.
pub const TC_PREFERENCE: u16 = 50;

/// What our filters are called.
pub const TC_FILTER_NAME: &str = "bpfman";

/// What is in a folder of bpffs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirEntry {
    /// Its name.
    pub name: String,
    /// Whether it is a folder; else it is a pin.
    pub is_dir: bool,
}

/// What a handle is of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Description {
    /// A program.
    Program {
        /// Its id.
        id: u32,
    },
    /// A map.
    Map {
        /// Its id.
        id: u32,
        /// What the kernel keeps of its name.
        name: String,
    },
    /// A link.
    Link {
        /// Id of the program that it runs.
        program_id: u32,
        /// What it leads to.
        kind: LinkKind,
    },
}

/// What a link leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkKind {
    /// The XDP hook of an interface; `None` once that is gone, or the link was detached.
    Xdp(Option<u32>),
    /// A TCX hook of an interface; `None` as for XDP.
    Tcx(Option<u32>),
    /// A function of the program of that id, or of the kernel (then the id is that of its BTF).
    Function(u32),
    /// Something else.
    Other,
}

/// What the kernel keeps of the name of a program or map: 15 bytes (`BPF_OBJ_NAME_LEN` less the NUL) of letters,
/// digits, `_` and `.`. Others (Rust's `$`) become `_`.
pub fn kept_name(name: &str) -> String {
    let kept = |byte: u8| {
        let taken = byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'.';
        char::from(if taken { byte } else { b'_' })
    };
    name.bytes().take(15).map(kept).collect()
}

/// What a kernel can be asked to do. One call, one step.
pub trait Kernel {
    /// Owned handle to a program, map, link or file of user space.
    type Handle;

    /// Mounts a bpffs at `dir` unless one is there; makes `dir` when absent.
    fn mount_bpffs(&self, dir: &Path) -> Result<(), KernelError>;
    /// Whether a bpffs is mounted there.
    fn is_bpffs(&self, dir: &Path) -> Result<bool, KernelError>;
    /// Makes maps, loads programs. All or nothing: on failure no handle outlives the call.
    fn load(&self, spec: &LoadSpec<'_, Self::Handle>) -> Result<Loaded<Self::Handle>, KernelError>;
    /// Loads an embedded dispatcher.
    fn load_dispatcher(&self, config: &DispatcherConfig) -> Result<Self::Handle, KernelError>;
    /// What a list shows of a program, at the lowest cost; `None` when there is none with that id.
    fn program_brief(&self, id: u32) -> Result<Option<ProgramBrief>, KernelError>;
    /// State of a program, its memory included (one read of its fdinfo).
    fn program_state(&self, program: &Self::Handle) -> Result<KernelState, KernelError>;
    /// Opens a program by id; `None` when there is none.
    fn program_by_id(&self, id: u32) -> Result<Option<Self::Handle>, KernelError>;
    /// Opens a map by id; `None` when there is none.
    fn map_by_id(&self, id: u32) -> Result<Option<Self::Handle>, KernelError>;
    /// What a handle is of. `EINVAL` for a file of user space.
    fn describe(&self, handle: &Self::Handle) -> Result<Description, KernelError>;
    /// The smallest program id above `id`.
    fn next_program_id(&self, id: u32) -> Result<Option<u32>, KernelError>;
    /// Pins with mode 0660.
    fn pin(&self, handle: &Self::Handle, path: &Path) -> Result<(), KernelError>;
    /// Opens a pin; `None` when nothing is there.
    fn open_pin(&self, path: &Path) -> Result<Option<Self::Handle>, KernelError>;
    /// Removes a pin; one that is gone already is no error.
    fn unpin(&self, path: &Path) -> Result<(), KernelError>;
    /// Whether anything is there: a pin or a folder.
    fn exists(&self, path: &Path) -> Result<bool, KernelError>;
    /// Makes a folder (mode 0770) and its parents in bpffs; one that is there is no error.
    fn create_dir(&self, path: &Path) -> Result<(), KernelError>;
    /// Removes an empty folder; one that is gone already is no error.
    fn remove_dir(&self, path: &Path) -> Result<(), KernelError>;
    /// What is in a folder, sorted by name; a folder that is gone has nothing.
    fn list_dir(&self, path: &Path) -> Result<Vec<DirEntry>, KernelError>;
    /// Makes a link. It goes when its last handle and pin go.
    fn link(&self, spec: &LinkSpec<'_, Self::Handle>) -> Result<Self::Handle, KernelError>;
    /// Puts another program under a link in one step (`BPF_LINK_UPDATE`).
    fn update_link(&self, link: &Self::Handle, program: &Self::Handle) -> Result<(), KernelError>;
    /// Index of the interface that an XDP or TCX link is on; `None` once that is gone, or the link was detached.
    fn link_interface(&self, link: &Self::Handle) -> Result<Option<u32>, KernelError>;
    /// Where the interface of an XDP or TCX link is now: at `known`, or in whatever namespace it was moved to.
    fn link_place(&self, link: &Self::Handle, known: &Device) -> Result<LinkPlace, KernelError>;
    /// The kernel's id of a link.
    fn link_id(&self, link: &Self::Handle) -> Result<u32, KernelError>;
    /// What runs on a TCX hook, in order, links of others included.
    fn tcx_members(
        &self,
        device: &Device,
        direction: TcDirection,
    ) -> Result<Vec<TcxMember>, KernelError>;
    /// Opens the binary that is asked for, and finds the place in it.
    fn uprobe_place(&self, point: &UprobePoint) -> Result<UprobePlace<Self::Handle>, KernelError>;
    /// The function of the kernel whose name is nearest to one that there is not, and that takes a probe (`tracing`:
    /// fentry and fexit); `None` when none is near or it cannot be told.
    fn near_function(&self, name: &str, tracing: bool) -> Option<String>;
    /// The tracepoint, `category/name`, that is nearest to one that there is not.
    fn near_tracepoint(&self, tracepoint: &str) -> Option<String>;
    /// Names of all interfaces.
    fn interfaces(&self, netns: Option<&Path>) -> Result<Vec<String>, KernelError>;
    /// Looks an interface up by its name or an alternative one.
    fn interface(&self, name: &str, netns: Option<&Path>) -> Result<Interface, KernelError>;
    /// Name of an interface and XDP programs on it, now. [`KernelError::InterfaceGone`] when there is none with that
    /// index.
    fn interface_state(&self, device: &Device) -> Result<InterfaceState, KernelError>;
    /// The qdisc in the ingress place of an interface; none for an interface that is gone, as the kernel's dump says.
    fn ingress_qdisc(&self, device: &Device) -> Result<IngressQdisc, KernelError>;
    /// Puts clsact on an interface that has no qdisc in that place.
    fn add_clsact(&self, device: &Device) -> Result<(), KernelError>;
    /// Removes clsact unless there is a filter on it. Whether it was removed: nothing there to remove is no error.
    fn remove_unused_clsact(&self, device: &Device) -> Result<bool, KernelError>;
    /// The filters of one direction; none where there is no clsact, or no interface: the kernel's dump of an interface
    /// that is gone is empty (`tc_dump_tfilter` in net/sched/cls_api.c).
    fn tc_filters(
        &self,
        device: &Device,
        direction: TcDirection,
    ) -> Result<Vec<TcFilter>, KernelError>;
    /// Adds a direct-action filter for every protocol at [`TC_PREFERENCE`], before those that are there; without a
    /// handle, with the lowest that is free.
    fn add_tc_filter(
        &self,
        device: &Device,
        direction: TcDirection,
        program: &Self::Handle,
        handle: Option<u32>,
    ) -> Result<(), KernelError>;
    /// Puts another program into the filter at [`TC_PREFERENCE`] that runs program `old`, in one step: no packet sees
    /// none of the two or both. Whether there was such a filter.
    fn replace_tc_filter(
        &self,
        device: &Device,
        direction: TcDirection,
        old: u32,
        program: &Self::Handle,
    ) -> Result<bool, KernelError>;
    /// Removes the filter at [`TC_PREFERENCE`] that runs `program`. Its handle, where there was one.
    fn remove_tc_filter(
        &self,
        device: &Device,
        direction: TcDirection,
        program: u32,
    ) -> Result<Option<u32>, KernelError>;
}
