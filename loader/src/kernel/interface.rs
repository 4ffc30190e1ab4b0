//! Interfaces, and what is on them.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::XdpMode;

/// An interface in a network namespace, found by one of its names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// Its name (`IFLA_IFNAME`), which is not an alternative one.
    pub name: String,
    /// Index in its namespace.
    pub ifindex: u32,
    /// Inode of the namespace.
    pub nsid: u64,
}

/// An interface as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InterfaceState {
    /// Its name (`IFLA_IFNAME`).
    pub name: String,
    /// A path that leads to its namespace, `None` for ours.
    pub netns: Option<PathBuf>,
    /// XDP programs on it, by the mode in which they run: at most one per mode.
    pub xdp: Vec<(XdpMode, u32)>,
}

/// Where the interface of a link is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkPlace {
    /// The interface is gone, or the link was detached from it.
    Gone,
    /// On this interface.
    On {
        /// The interface; its `netns` is the path at which the namespace was found, `None` for ours.
        device: Device,
        /// Its name.
        name: String,
        /// Mode of an XDP link.
        mode: Option<XdpMode>,
    },
    /// On an interface in a network namespace that cannot be found.
    Hidden {
        /// Index in that namespace.
        ifindex: u32,
    },
}

/// A link on a TCX hook.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TcxMember {
    /// Id of its program.
    pub program_id: u32,
    /// The kernel's id of the link; 0 for a program that was attached without one.
    pub link_id: u32,
}

/// Programs that a TCX hook takes: `bpf_mprog_max` in include/linux/bpf_mprog.h.
pub const TCX_PROGRAMS: u32 = 63;

/// Where that number comes from.
pub const TCX_LIMIT: &str = "BPF_MPROG_MAX is 64, and one entry ends the list";

/// An interface that was found, as it is found again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// Index in its namespace.
    pub ifindex: u32,
    /// Inode of the namespace.
    pub nsid: u64,
    /// Path that the namespace was found at, `None` for ours.
    pub netns: Option<PathBuf>,
}
