//! What a test may arrange before it, or have somebody else do.

use std::path::Path;
use std::rc::Weak;

use super::object::{Object, Place, Program};
use super::{FakeKernel, KernelError, NSID, TcDirection, XdpMode, errno};
use crate::object::Results;

impl FakeKernel {
    /// Adds an interface.
    pub fn add_interface(&self, name: &str) {
        let mut world = self.world.borrow_mut();
        let ifindex = world.next_id();
        world.interfaces.insert((NSID, name.to_owned()), ifindex);
    }

    /// Adds a network namespace with one interface. Namespaces and indices are given out again once they are gone.
    pub fn add_namespace(&self, path: &str, nsid: u64, interface: &str, ifindex: u32) {
        let mut world = self.world.borrow_mut();
        world.namespaces.insert(path.into(), nsid);
        let key = (nsid, interface.to_owned());
        world.interfaces.insert(key, ifindex);
    }

    /// Lets a namespace be at another path only, where nobody finds it who does not know the path: a mount in another
    /// mount namespace, below `/proc/<pid>/root`.
    pub fn hide_namespace(&self, from: &str, to: &str) {
        let mut world = self.world.borrow_mut();
        if let Some(nsid) = world.namespaces.remove(Path::new(from)) {
            world.namespaces.insert(to.into(), nsid);
            world.hidden.insert(to.into());
        }
    }

    /// Removes a network namespace with its interfaces.
    pub fn remove_namespace(&self, path: &str) {
        let mut world = self.world.borrow_mut();
        if let Some(nsid) = world.namespaces.remove(Path::new(path)) {
            world.remove_interfaces(|(ns, _)| *ns == nsid);
        }
    }

    /// Removes an interface: XDP and TCX links on it stay, but lead nowhere; qdisc and filters go.
    pub fn remove_interface(&self, name: &str) {
        let mut world = self.world.borrow_mut();
        world.remove_interfaces(|(ns, known)| *ns == NSID && known == name);
    }

    /// Adds an interface with an index that was another one's before.
    pub fn add_interface_at(&self, name: &str, ifindex: u32) {
        let mut world = self.world.borrow_mut();
        world.interfaces.insert((NSID, name.to_owned()), ifindex);
    }

    /// Gives an interface of our namespace another name. Nothing else of it changes.
    pub fn rename_interface(&self, from: &str, to: &str) {
        let mut world = self.world.borrow_mut();
        if let Some(ifindex) = world.interfaces.remove(&(NSID, from.to_owned())) {
            world.interfaces.insert((NSID, to.to_owned()), ifindex);
        }
    }

    /// Moves an interface to another namespace (`None`: ours), where it has this index.
    pub fn move_interface(
        &self,
        (from, name): (Option<&str>, &str),
        to: Option<&str>,
        ifindex: u32,
    ) {
        let mut world = self.world.borrow_mut();
        let inode = |path: Option<&str>| world.namespace(path.map(Path::new)).unwrap_or_default();
        let (from, to) = (inode(from), inode(to));
        if let Some(before) = world.interfaces.remove(&(from, name.to_owned())) {
            world.interfaces.insert((to, name.to_owned()), ifindex);
            world.move_interface((from, before), (to, ifindex));
        }
    }

    /// Gives an interface of our namespace one more name.
    pub fn add_alternative_name(&self, interface: &str, alternative: &str) {
        let mut world = self.world.borrow_mut();
        let names = (alternative.to_owned(), interface.to_owned());
        world.alternatives.extend([names]);
    }

    /// Puts somebody else's XDP program on an interface and returns its id.
    pub fn attach_foreign_xdp(&self, name: &str) -> Result<u32, KernelError> {
        let mut world = self.world.borrow_mut();
        let iface = world
            .interface(name)
            .ok_or_else(|| errno("foreign", libc::ENODEV))?;
        let program = world.add_program(Program::new("foreign", "xdp"));
        let id = program.id;
        let link = world.add_link(Place::Xdp(Some(iface), XdpMode::Driver), program);
        world.foreign.push(link);
        Ok(id)
    }

    /// Loads a program as somebody else and keeps it for ever.
    pub fn load_foreign(&self, name: &str, kind: &'static str) -> u32 {
        let mut world = self.world.borrow_mut();
        let program = world.add_program(Program::new(name, kind));
        let id = program.id;
        let link = world.add_link(Place::Tracepoint(String::new()), program);
        world.foreign.push(link);
        id
    }

    /// Maps that every object loaded from now on has, beside those that it defines itself.
    pub fn set_object_maps(&self, names: &[&str]) {
        self.world.borrow_mut().object_maps = names.iter().map(|name| (*name).to_owned()).collect();
    }

    /// What a function always returns.
    pub fn set_result(&self, function: &str, result: i32) {
        let mut world = self.world.borrow_mut();
        let result = Results::one(result);
        world.results.insert(function.to_owned(), result);
    }

    /// Functions that come from `xdp.frags`.
    pub fn set_frags(&self, functions: &[&str]) {
        self.world.borrow_mut().frags = functions.iter().map(|name| (*name).to_owned()).collect();
    }

    /// Functions that the kernel has.
    pub fn set_functions(&self, names: &[&str]) {
        self.world.borrow_mut().functions = names.iter().map(|name| (*name).to_owned()).collect();
    }

    /// Tracepoints that the kernel has; before, it has every one.
    pub fn set_tracepoints(&self, names: &[&str]) {
        let names = names.iter().map(|name| (*name).to_owned());
        self.world.borrow_mut().tracepoints = Some(names.collect());
    }

    /// Adds a binary of user space, under the name that it is asked for by. Its functions start at 0x1000.
    pub fn add_binary(&self, name: &str, path: &str) {
        let mut world = self.world.borrow_mut();
        world.binaries.insert(name.to_owned(), path.into());
    }

    /// Refuses EXT programs, as a kernel in lockdown does.
    pub fn refuse_extensions(&self, refuse: bool) {
        self.world.borrow_mut().refuse_extensions = refuse;
    }

    /// Has the verifier refuse these functions as EXT programs.
    pub fn refuse_as_members(&self, functions: &[&str]) {
        let functions = functions.iter().map(|name| (*name).to_owned());
        self.world.borrow_mut().only_alone = functions.collect();
    }

    /// Refuses these modes of XDP, as drivers do (and the kernel, in the place of those without an XDP hook).
    pub fn refuse_modes(&self, modes: &[XdpMode]) {
        self.world.borrow_mut().refused_modes = modes.to_vec();
    }

    /// Loses every pin and folder, as `umount` does.
    pub fn unmount(&self) {
        let pins = {
            let mut world = self.world.borrow_mut();
            world.mounted = false;
            world.dirs.clear();
            std::mem::take(&mut world.pins)
        };
        drop(pins);
    }

    /// Answers `BPF_LINK_UPDATE` with that errno, as a driver does that cannot take the new program.
    pub fn refuse_updates(&self, code: Option<i32>) {
        self.world.borrow_mut().refuse_updates = code;
    }

    /// Refuses to mount bpffs, as a container's kernel does.
    pub fn refuse_mounts(&self, refuse: bool) {
        self.world.borrow_mut().refuse_mounts = refuse;
    }

    /// Pins a program of somebody else.
    pub fn pin_foreign(&self, path: &Path) {
        let id = self.load_foreign("foreign", "tracepoint");
        let mut world = self.world.borrow_mut();
        if let Some(program) = world.programs.get(&id).and_then(Weak::upgrade) {
            world.pins.insert(path.to_owned(), Object::Program(program));
        }
    }

    /// From the `n`th call from now on, from 1, bpffs is mounted read-only. 0 is never.
    pub fn read_only_at(&self, n: usize) {
        let mut world = self.world.borrow_mut();
        world.calls = 0;
        world.read_only_at = (n > 0).then_some(n);
    }

    /// The `n`th call from now, from 1, fails with EIO. Returns to normal after it; 0 is never.
    pub fn fail_at(&self, n: usize) {
        let mut world = self.world.borrow_mut();
        world.calls = 0;
        world.fail_at = (n > 0).then_some(n);
    }

    /// The `n`th call from now, from 1, is not done: the process dies, by unwinding with [`Crash`]. 0 is never.
    pub fn crash_at(&self, n: usize) {
        let mut world = self.world.borrow_mut();
        world.calls = 0;
        world.crash_at = (n > 0).then_some(n);
    }

    /// Whether the failure or the crash that was asked for is still to come.
    pub fn is_armed(&self) -> bool {
        let world = self.world.borrow();
        world.fail_at.is_some() || world.crash_at.is_some()
    }

    /// Puts a program of somebody else behind all TCX links on a hook and returns its id.
    pub fn attach_foreign_tcx(
        &self,
        interface: &str,
        direction: TcDirection,
    ) -> Result<u32, KernelError> {
        let mut world = self.world.borrow_mut();
        let iface = world
            .interface(interface)
            .ok_or_else(|| errno("foreign", libc::ENODEV))?;
        let program = world.add_program(Program::new("foreign", "tc"));
        let id = program.id;
        if let Object::Link(link) = world.add_tcx(iface, direction, None, program)? {
            world.foreign.push(link);
        }
        Ok(id)
    }

    /// The qdisc of somebody else in an interface's ingress place.
    pub fn set_qdisc(&self, interface: &str, kind: Option<&'static str>) {
        let mut world = self.world.borrow_mut();
        if let Some(iface) = world.interface(interface) {
            world.set_qdisc(iface, kind);
        }
    }

    /// A filter of somebody else.
    pub fn add_foreign_filter(
        &self,
        interface: &str,
        direction: TcDirection,
        preference: u16,
        kind: &'static str,
    ) {
        let mut world = self.world.borrow_mut();
        if let Some(iface) = world.interface(interface) {
            world.add_foreign_filter(iface, direction, preference, kind);
        }
    }

    /// Somebody takes the filters away that others than we put there.
    pub fn remove_foreign_filters(&self, interface: &str, direction: TcDirection) {
        let mut world = self.world.borrow_mut();
        if let Some(iface) = world.interface(interface) {
            world.remove_foreign_filters(iface, direction);
        }
    }
}
