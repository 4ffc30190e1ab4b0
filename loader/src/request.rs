use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use bytecode_object::ProgramType;
use serde::{Deserialize, Serialize};

/// One `--programs` word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProgramRequest {
    /// What the program is to be.
    pub program_type: ProgramType,
    /// Name of its function in the object (not of its section).
    pub function: String,
    /// Kernel function to trace; fentry and fexit have it, the others do not.
    pub attach_function: Option<String>,
}

/// Where an object came from: kept with its programs and shown, never opened again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A local file.
    File {
        /// Path as the user typed it.
        path: String,
    },
    /// An image.
    Image {
        /// Reference as the user typed it.
        url: String,
        /// Digest of the platform's manifest that was loaded, `sha256:…`.
        digest: String,
        /// Pull policy word.
        pull_policy: String,
    },
}

/// `load file` and `load image`, once the object is at hand.
#[derive(Debug, Clone)]
pub struct LoadRequest {
    /// The ELF file.
    pub object: Vec<u8>,
    /// Where it came from.
    pub source: Source,
    /// Programs to load, in the order asked; at least one.
    pub programs: Vec<ProgramRequest>,
    /// Global variables and their bytes, in memory order.
    pub globals: BTreeMap<String, Vec<u8>>,
    /// Metadata, `bpfman_application` among it.
    pub metadata: BTreeMap<String, String>,
    /// Program whose maps are to be shared.
    pub map_owner_id: Option<u32>,
}

/// How an XDP program sits on its interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum XdpMode {
    /// In the driver (`XDP_FLAGS_DRV_MODE`).
    Driver,
    /// In the generic hook, after the skb is made (`XDP_FLAGS_SKB_MODE`).
    Skb,
    /// On the card (`XDP_FLAGS_HW_MODE`).
    Hardware,
}

impl XdpMode {
    /// The word for it, as `--mode` takes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Driver => "drv",
            Self::Skb => "skb",
            Self::Hardware => "hw",
        }
    }
}

impl fmt::Display for XdpMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Which packets a TC or TCX program sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TcDirection {
    /// Those that come in.
    Ingress,
    /// Those that go out.
    Egress,
}

impl TcDirection {
    /// Word of the command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ingress => "ingress",
            Self::Egress => "egress",
        }
    }
}

impl fmt::Display for TcDirection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Return codes after which a chain goes on, as a set of the words of the guide.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProceedOn(pub Vec<String>);

/// `attach`.
#[derive(Debug, Clone)]
pub struct AttachRequest {
    /// Where.
    pub point: AttachPoint,
    /// The link's own metadata; the program's is added where the keys differ.
    pub metadata: BTreeMap<String, String>,
}

/// Where a program is to be attached. A later issue adds the other hooks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AttachPoint {
    /// XDP on an interface, through the dispatcher.
    Xdp {
        /// Interface name.
        iface: String,
        /// 1 to 1000, lower first.
        priority: u32,
        /// Words after which the chain goes on; `None` for the default of the guide.
        proceed_on: Option<ProceedOn>,
        /// Mode; `None`: driver, then generic where the driver refuses.
        mode: Option<XdpMode>,
        /// Path of a network namespace; `None` for ours.
        netns: Option<PathBuf>,
    },
    /// A traffic control classifier on one direction of an interface, through the dispatcher.
    Tc {
        /// Interface name.
        iface: String,
        /// Direction.
        direction: TcDirection,
        /// 1 to 1000, lower first.
        priority: u32,
        /// Words after which the chain goes on; `None` for the default of the guide.
        proceed_on: Option<ProceedOn>,
        /// Path of a network namespace; `None` for ours.
        netns: Option<PathBuf>,
    },
    /// A classifier on one direction of an interface, by a link of its own (kernel 6.6).
    Tcx {
        /// Interface name.
        iface: String,
        /// Direction.
        direction: TcDirection,
        /// 1 to 1000, lower first among our own.
        priority: u32,
        /// Path of a network namespace; `None` for ours.
        netns: Option<PathBuf>,
    },
    /// A kernel tracepoint.
    Tracepoint {
        /// `category/name`.
        tracepoint: String,
    },
    /// A function of the kernel: its start, or its return where the program is a kretprobe.
    Kprobe {
        /// Its name.
        function: String,
        /// Bytes from its start; a kretprobe takes none.
        offset: u64,
    },
    /// A function of user space: its start, or its return where the program is a uretprobe.
    Uprobe(UprobePoint),
    /// The function that the program was loaded for, at its start.
    Fentry,
    /// The function that the program was loaded for, at its return.
    Fexit,
}

/// A place in a binary of user space.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UprobePoint {
    /// Absolute path of an executable or library, or a library's name (`libc`, `libc.so.6`).
    pub target: String,
    /// Function; `None`: the offset counts from the start of the file.
    pub function: Option<String>,
    /// Bytes from the start of the function, or of the file.
    pub offset: u64,
    /// Process to watch, whose libraries are looked up first; `None` for every process.
    pub pid: Option<u32>,
    /// Process in whose file system the target is looked up; `None` for ours.
    pub container_pid: Option<u32>,
}

/// Which programs `list programs` shows; all conditions must hold.
#[derive(Debug, Clone, Default)]
pub struct ProgramFilter {
    /// Kernel type with underscores (`socket_filter`, `tc`, `probe`).
    pub kernel_type: Option<String>,
    /// Metadata that must be there.
    pub metadata: BTreeMap<String, String>,
    /// Programs of others too.
    pub all: bool,
}

/// Which links `list links` shows; all conditions must hold.
#[derive(Debug, Clone, Default)]
pub struct LinkFilter {
    /// Kernel type with underscores.
    pub kernel_type: Option<String>,
    /// Metadata that must be there, the program's or the link's own.
    pub metadata: BTreeMap<String, String>,
}
