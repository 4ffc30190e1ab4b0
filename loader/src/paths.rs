//! Where things are pinned under the bpffs.

use std::path::{Path, PathBuf};
use std::str::FromStr;

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
        let [xdp, ingress, egress] = Hook::CHAINED.map(Hook::folder);
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

/// What a path of ours is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Use {
    Program(u32),
    Link(u32),
    /// Folder of the maps of one load.
    Maps(u32),
    MapByName,
    XdpLink(ChainKey),
    Revision(ChainKey),
}

impl Pins {
    /// What a path is for, were it ours: what the other methods say, the other way round.
    pub(crate) fn meaning(&self, path: &Path) -> Option<Use> {
        let below = path.strip_prefix(&self.fs).ok()?.to_str()?;
        let Some((folder, name)) = below.rsplit_once('/') else {
            return Some(Use::Program(number(below.strip_prefix("prog_")?)?));
        };
        match folder {
            "links" => return Some(Use::Link(number(name)?)),
            "maps" => return Some(Use::Maps(number(name)?)),
            "maps/by-name" => return Some(Use::MapByName),
            _ => {}
        }
        let hook = Hook::CHAINED
            .into_iter()
            .find(|hook| hook.folder() == folder)?;
        let (nsid, rest) = name.strip_prefix("dispatcher_")?.split_once('_')?;
        let (ifindex, what) = rest.split_once('_')?;
        let key = ChainKey {
            hook,
            nsid: number(nsid)?,
            ifindex: number(ifindex)?,
        };
        match what {
            "link" if hook == Hook::Xdp => Some(Use::XdpLink(key)),
            "link" => None,
            revision => number::<u32>(revision).map(|_| Use::Revision(key)),
        }
    }
}

/// A number as we write it: without signs and leading noughts.
fn number<N: FromStr + ToString>(text: &str) -> Option<N> {
    let number: N = text.parse().ok()?;
    (number.to_string() == text).then_some(number)
}

/// Whether a name is one that [`slot_pin`] gives.
pub(crate) fn is_slot_pin(name: &str) -> bool {
    name.strip_prefix("link_")
        .is_some_and(|position| number::<usize>(position).is_some())
}

/// Name of a member's link in the folder of its revision.
pub(crate) fn slot_pin(position: usize) -> String {
    format!("link_{position}")
}

/// bpffs refuses names with a dot (`bpf_lookup` in kernel/bpf/inode.c), which the compiler's data sections have.
pub(crate) fn can_be_pinned(name: &str) -> bool {
    !name.contains('.')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TcDirection::Egress;

    #[test]
    fn paths_tell_what_they_are_for() {
        let pins = Pins::new(Path::new("/run/bpfman"));
        let key = |hook| ChainKey {
            hook,
            nsid: 4_026_531_840,
            ifindex: 7,
        };
        let [xdp, egress] = [key(Hook::Xdp), key(Hook::Tc(Egress))];
        let at = |path: &str| pins.fs().join(path);
        let cases = [
            (pins.program(9), Some(Use::Program(9))),
            (pins.link(u32::MAX), Some(Use::Link(u32::MAX))),
            (pins.maps(9), Some(Use::Maps(9))),
            (pins.map_by_name("a_map"), Some(Use::MapByName)),
            (pins.xdp_link(xdp), Some(Use::XdpLink(xdp))),
            (pins.revision(xdp, 3), Some(Use::Revision(xdp))),
            (pins.revision(egress, 1), Some(Use::Revision(egress))),
            (pins.xdp_link(egress), None),
            (at("prog_09"), None),
            (at("prog_+9"), None),
            (at("links/x"), None),
            (at("xdp/dispatcher_1_2"), None),
            (at("other/dispatcher_1_2_3"), None),
            (at("maps/9/counts"), None),
            (PathBuf::from("/elsewhere/prog_9"), None),
        ];
        for (path, expected) in cases {
            assert_eq!(pins.meaning(&path), expected, "{}", path.display());
        }
        for (name, expected) in [
            (slot_pin(0), true),
            (slot_pin(9), true),
            ("link_x".into(), false),
        ] {
            assert_eq!(is_slot_pin(&name), expected, "{name}");
        }
    }
}
