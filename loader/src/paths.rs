//! Where things are pinned under the bpffs.

use std::path::{Path, PathBuf};

use crate::TcDirection::{Egress, Ingress};
use crate::state::{ChainKey, Hook};

/// Paths under one bpffs.
#[derive(Debug, Clone)]
pub(crate) struct Pins {
    fs: PathBuf,
}

impl Pins {
    pub(crate) fn new(runtime_dir: &Path) -> Self {
        Self {
            fs: runtime_dir.join("fs"),
        }
    }

    /// Mount point.
    pub(crate) fn fs(&self) -> &Path {
        &self.fs
    }

    /// Folders that are made once and stay.
    pub(crate) fn standing(&self) -> [PathBuf; 6] {
        let [xdp, ingress, egress] =
            [Hook::Xdp, Hook::Tc(Ingress), Hook::Tc(Egress)].map(Hook::folder);
        ["links", "maps", "maps/by-name", xdp, ingress, egress].map(|name| self.fs.join(name))
    }

    pub(crate) fn program(&self, id: u32) -> PathBuf {
        self.fs.join(format!("prog_{id}"))
    }

    /// Folder of the maps of one load, named by its first program.
    pub(crate) fn maps(&self, folder: u32) -> PathBuf {
        self.fs.join("maps").join(folder.to_string())
    }

    /// A map that objects share by name (`LIBBPF_PIN_BY_NAME`).
    pub(crate) fn map_by_name(&self, name: &str) -> PathBuf {
        self.fs.join("maps").join("by-name").join(name)
    }

    pub(crate) fn link(&self, id: u32) -> PathBuf {
        self.fs.join("links").join(id.to_string())
    }

    /// The XDP link of an interface.
    pub(crate) fn xdp_link(&self, key: ChainKey) -> PathBuf {
        self.chain(key, "link")
    }

    /// Folder of one revision of a chain.
    pub(crate) fn revision(&self, key: ChainKey, revision: u32) -> PathBuf {
        self.chain(key, &revision.to_string())
    }

    fn chain(&self, key: ChainKey, what: &str) -> PathBuf {
        let name = format!("dispatcher_{}_{}_{what}", key.nsid, key.ifindex);
        self.fs.join(key.hook.folder()).join(name)
    }
}

/// Name of a member's link in the folder of its revision.
pub(crate) fn slot_pin(position: usize) -> String {
    format!("link_{position}")
}

/// bpffs refuses names with a dot (`bpf_lookup` in kernel/bpf/inode.c), which the compiler's data sections have.
pub(crate) fn can_be_pinned(name: &str) -> bool {
    !name.contains('.')
}
