use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::rc::{Rc, Weak};

use super::object::{Iface, LinkObject, Map, Object, Place, Program};
use super::traffic::Traffic;
use super::{DirEntry, KernelError, NSID, XdpMode, errno};
use crate::object::Results;

/// Everything that the kernel holds, and what the test asked of it.
#[derive(Debug, Default)]
pub(super) struct World {
    pub(super) last_id: u32,
    pub(super) programs: BTreeMap<u32, Weak<Program>>,
    pub(super) links: BTreeMap<u32, Weak<LinkObject>>,
    pub(super) mounted: bool,
    pub(super) dirs: BTreeSet<PathBuf>,
    pub(super) pins: BTreeMap<PathBuf, Object>,
    /// By namespace and name.
    pub(super) interfaces: BTreeMap<(u64, String), u32>,
    /// Alternative names of interfaces.
    pub(super) alternatives: BTreeMap<String, String>,
    /// Namespaces other than ours, by path.
    pub(super) namespaces: BTreeMap<PathBuf, u64>,
    /// Paths of those that are found at them only by who knows them.
    pub(super) hidden: BTreeSet<PathBuf>,
    pub(super) traffic: Traffic,
    /// What others attached: keeps them alive.
    pub(super) foreign: Vec<Rc<LinkObject>>,
    pub(super) object_maps: Vec<String>,
    pub(super) frags: BTreeSet<String>,
    /// What functions return; of others nothing is known.
    pub(super) results: BTreeMap<String, Results>,
    /// Functions of the kernel that can be traced.
    pub(super) functions: BTreeSet<String>,
    /// Tracepoints, `category/name`; `None`: every one.
    pub(super) tracepoints: Option<BTreeSet<String>>,
    /// Binaries of user space: the name asked for → path.
    pub(super) binaries: BTreeMap<String, PathBuf>,
    pub(super) refuse_extensions: bool,
    /// Functions that the verifier takes as they are and not as EXT programs.
    pub(super) only_alone: BTreeSet<String>,
    pub(super) refused_modes: Vec<XdpMode>,
    pub(super) refuse_updates: Option<i32>,
    pub(super) refuse_mounts: bool,
    pub(super) calls: usize,
    pub(super) read_only_at: Option<usize>,
    pub(super) fail_at: Option<usize>,
    pub(super) crash_at: Option<usize>,
}

impl World {
    pub(super) fn next_id(&mut self) -> u32 {
        self.last_id += 1;
        self.last_id
    }

    pub(super) fn add_program(&mut self, program: Program) -> Rc<Program> {
        let id = self.next_id();
        let program = Rc::new(Program { id, ..program });
        self.programs.insert(id, Rc::downgrade(&program));
        program
    }

    pub(super) fn add_link(&mut self, place: Place, program: Rc<Program>) -> Rc<LinkObject> {
        let id = self.next_id();
        let link = Rc::new(LinkObject::new(id, place, program));
        self.links.insert(id, Rc::downgrade(&link));
        link
    }

    /// An interface in our namespace.
    pub(super) fn interface(&self, name: &str) -> Option<Iface> {
        let found = self.interfaces.get(&(NSID, name.to_owned())).copied();
        found.map(|ifindex| (NSID, ifindex))
    }

    /// Name of an interface.
    pub(super) fn name(&self, iface: Iface) -> Option<String> {
        let mut there = self.interfaces.iter();
        let found = there.find(|((nsid, _), ifindex)| (*nsid, **ifindex) == iface);
        found.map(|((_, name), _)| name.clone())
    }

    /// A path of a namespace, `None` for ours; an error for one that is not found.
    pub(super) fn path_of(&self, nsid: u64, known: Option<&Path>) -> Result<Option<PathBuf>, ()> {
        if nsid == NSID {
            return Ok(None);
        }
        let leads = |path: &Path| self.namespaces.get(path) == Some(&nsid);
        if let Some(known) = known.filter(|path| leads(path)) {
            return Ok(Some(known.to_owned()));
        }
        let mut paths = self.namespaces.keys();
        let found = paths.find(|path| leads(path) && !self.hidden.contains(*path));
        found.cloned().map(Some).ok_or(())
    }

    /// Inode of a namespace.
    pub(super) fn namespace(&self, path: Option<&Path>) -> Result<u64, KernelError> {
        let Some(path) = path else { return Ok(NSID) };
        let found = self.namespaces.get(path).copied();
        found.ok_or_else(|| KernelError::NoNamespace {
            path: path.to_owned(),
            source: std::io::Error::from_raw_os_error(libc::ENOENT),
        })
    }

    /// Whether the namespace of an interface is found: ours, or one at the path that it was found at or at another one.
    pub(super) fn finds(&self, nsid: u64, known: Option<&Path>) -> bool {
        let mut others = self.namespaces.iter().filter(|(_, id)| **id == nsid);
        nsid == NSID
            || others.any(|(path, _)| known == Some(path.as_path()) || !self.hidden.contains(path))
    }

    /// Whether that interface is in that namespace.
    pub(super) fn is_there(&self, nsid: u64, ifindex: u32) -> bool {
        let mut there = self.interfaces.iter();
        there.any(|((ns, _), known)| (*ns, *known) == (nsid, ifindex))
    }

    pub(super) fn xdp_link(&self, iface: Iface) -> Option<Rc<LinkObject>> {
        let mut links = self.links.values().filter_map(Weak::upgrade);
        links.find(|link| link.is_on(iface))
    }

    /// Whether the program has a link.
    pub(super) fn is_linked(&self, program: u32) -> bool {
        let mut links = self.links.values().filter_map(Weak::upgrade);
        links.any(|link| link.program().id == program)
    }

    /// A map that a program or a pin holds.
    pub(super) fn map(&self, id: u32) -> Option<Rc<Map>> {
        let programs = self.programs.values().filter_map(Weak::upgrade);
        let of_programs = programs.flat_map(|program| program.maps.clone());
        let pinned = self.pins.values().filter_map(|object| match object {
            Object::Map(map) => Some(Rc::clone(map)),
            _ => None,
        });
        of_programs.chain(pinned).find(|map| map.id == id)
    }

    /// What is in a folder, by name.
    pub(super) fn entries(&self, folder: &Path) -> Vec<DirEntry> {
        let pins = self.pins.keys().map(|path| (path, false));
        let dirs = self.dirs.iter().map(|path| (path, true));
        let inside = pins
            .chain(dirs)
            .filter(|(path, _)| path.parent() == Some(folder));
        let mut entries: Vec<_> = inside
            .filter_map(|(path, is_dir)| {
                let name = path.file_name()?.to_string_lossy().into_owned();
                Some(DirEntry { name, is_dir })
            })
            .collect();
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        entries
    }

    /// bpffs: the parent is there, the name is free and has no dot (`bpf_lookup` in kernel/bpf/inode.c).
    pub(super) fn free_name(&self, call: &'static str, path: &Path) -> Result<(), KernelError> {
        let parent = path
            .parent()
            .is_some_and(|parent| self.dirs.contains(parent));
        if !self.mounted || !parent {
            return Err(errno(call, libc::ENOENT));
        }
        if path
            .file_name()
            .is_some_and(|name| name.to_string_lossy().contains('.'))
        {
            return Err(errno(call, libc::EPERM));
        }
        if self.pins.contains_key(path) || self.dirs.contains(path) {
            return Err(errno(call, libc::EEXIST));
        }
        Ok(())
    }
}
