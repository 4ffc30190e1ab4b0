use std::collections::BTreeMap;
use std::path::PathBuf;

use bytecode_object::ProgramType;

use crate::{TcDirection, UprobePoint, XdpMode};

/// A link as it is shown.
#[derive(Debug, Clone)]
pub struct Link {
    /// Id, ours, stable while a dispatcher is rebuilt under it.
    pub id: u32,
    /// Program it belongs to.
    pub program_id: u32,
    /// Its function name, whole.
    pub function: String,
    /// What that program was loaded as.
    pub program_type: ProgramType,
    /// Where it is attached.
    pub attachment: Attachment,
    /// The program's metadata and its own, its own winning.
    pub metadata: BTreeMap<String, String>,
    /// It leads nowhere any more: its interface or namespace is gone, or somebody took away what ran there.
    pub gone: bool,
    /// Its interface, for XDP, TC and TCX. Name and namespace of today are in [`Link::attachment`].
    pub interface: Option<LinkInterface>,
}

/// The interface of a link, as it is now; of a link that is gone, as it was recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkInterface {
    /// Index in its namespace.
    pub ifindex: u32,
    /// Inode of its network namespace; `None` when it was moved to one that cannot be found.
    pub nsid: Option<u64>,
    /// The name that it had when the link was recorded.
    pub recorded_name: String,
    /// Mode in which the kernel runs an XDP link.
    pub mode: Option<XdpMode>,
}

/// Where a link is attached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attachment {
    /// XDP on an interface.
    Xdp {
        /// Name of the interface now.
        iface: String,
        /// 1 to 1000.
        priority: u32,
        /// Place in the chain, from 0.
        position: u32,
        /// Words after which the chain goes on, in the kernel's order of their codes.
        proceed_on: Vec<String>,
        /// A path that leads to its network namespace, `None` for ours.
        netns: Option<PathBuf>,
    },
    /// TC on one direction of an interface.
    Tc {
        /// Name of the interface now.
        iface: String,
        /// Direction.
        direction: TcDirection,
        /// 1 to 1000.
        priority: u32,
        /// Place in the chain, from 0.
        position: u32,
        /// Words after which the chain goes on, in the kernel's order of their codes.
        proceed_on: Vec<String>,
        /// A path that leads to its network namespace, `None` for ours.
        netns: Option<PathBuf>,
    },
    /// TCX on one direction of an interface.
    Tcx {
        /// Name of the interface now.
        iface: String,
        /// Direction.
        direction: TcDirection,
        /// 1 to 1000.
        priority: u32,
        /// Place among all TCX links there, those of others included, from 0.
        position: u32,
        /// A path that leads to its network namespace, `None` for ours.
        netns: Option<PathBuf>,
    },
    /// A kernel tracepoint.
    Tracepoint {
        /// `category/name`.
        tracepoint: String,
    },
    /// A function of the kernel.
    Kprobe {
        /// Its name.
        function: String,
        /// Bytes from its start.
        offset: u64,
        /// At its return.
        retprobe: bool,
    },
    /// A function of user space.
    Uprobe {
        /// What was asked for.
        point: UprobePoint,
        /// The file that was found, as its file system has it.
        path: PathBuf,
        /// At its return.
        retprobe: bool,
    },
    /// A function of the kernel, at its start, fixed when the program was loaded.
    Fentry {
        /// Its name.
        function: String,
    },
    /// A function of the kernel, at its return, fixed when the program was loaded.
    Fexit {
        /// Its name.
        function: String,
    },
}
