//! A kernel in memory, for tests: programs, maps and links that live as long as a handle, a pin or another object
//! holds them, folders and pins of a bpffs, interfaces with one XDP link each, qdiscs, filters and TCX links.
//!
//! It does what was seen on real kernels and nothing else. One thing it leaves out: a real EXT program holds the
//! dispatcher that it was loaded for until it is attached.

mod arranging;
mod links;
mod looking;
mod object;
mod traffic;
mod world;

use std::cell::RefCell;

use std::io;
use std::path::{Path, PathBuf};
use std::rc::{Rc, Weak};

use bytecode_object::ObjectInfo;

use super::{
    Description, Device, DirEntry, DispatcherConfig, IngressQdisc, Interface, InterfaceState,
    Kernel, KernelError, LinkPlace, LinkSpec, LoadAs, LoadSpec, Loaded, LoadedMap, LoadedProgram,
    ProbeError, ProgramBrief, TcDispatcherConfig, TcFilter, TcxMember, UprobePlace,
    XdpDispatcherConfig, kept_name,
};
use crate::near::nearest;
use crate::object::Results;
use crate::{KernelState, TcDirection, UprobePoint, XdpMode};

pub use object::{Crash, Object};
use object::{LinkObject, Map, Program};
use world::World;

/// Number of our network namespace.
pub const NSID: u64 = 4_026_531_840;

/// A kernel in memory; a clone is the same kernel.
#[derive(Debug, Clone, Default)]
pub struct FakeKernel {
    world: Rc<RefCell<World>>,
}

impl FakeKernel {
    /// A kernel with no interface and nothing loaded.
    pub fn new() -> Self {
        Self::default()
    }

    /// As [`FakeKernel::call`], for calls that write to bpffs.
    fn write(&self, call: &'static str) -> Result<std::cell::RefMut<'_, World>, KernelError> {
        let world = self.call(call)?;
        if world.read_only_at.is_some_and(|from| world.calls >= from) {
            return Err(errno(call, libc::EROFS));
        }
        Ok(world)
    }

    /// Counts a call, and fails it when it is its turn.
    fn call(&self, call: &'static str) -> Result<std::cell::RefMut<'_, World>, KernelError> {
        let mut world = self.world.borrow_mut();
        world.calls += 1;
        let turn = Some(world.calls);
        if world.crash_at == turn {
            world.crash_at = None;
            drop(world);
            std::panic::resume_unwind(Box::new(Crash));
        }
        if world.fail_at == turn {
            world.fail_at = None;
            return Err(errno(call, libc::EIO));
        }
        Ok(world)
    }
}

fn errno(call: &str, code: i32) -> KernelError {
    KernelError::Syscall {
        call: call.to_owned(),
        source: io::Error::from_raw_os_error(code),
    }
}

fn brief(program: &Program) -> ProgramBrief {
    ProgramBrief {
        id: program.id,
        name: kept_name(&program.name),
        program_type: program.kind.to_owned(),
    }
}

impl Kernel for FakeKernel {
    type Handle = Object;

    fn mount_bpffs(&self, dir: &Path) -> Result<(), KernelError> {
        let mut world = self.call("mount")?;
        if world.refuse_mounts && !world.mounted {
            return Err(errno("mount", libc::EPERM));
        }
        world.mounted = true;
        world.dirs.insert(dir.to_owned());
        Ok(())
    }

    fn is_bpffs(&self, dir: &Path) -> Result<bool, KernelError> {
        let world = self.call("is bpffs")?;
        Ok(world.mounted && world.dirs.contains(dir))
    }

    fn load(&self, spec: &LoadSpec<'_, Object>) -> Result<Loaded<Object>, KernelError> {
        let mut world = self.call("load")?;
        let extension = |program: &super::ProgramSpec<'_, Object>| {
            matches!(program.load_as, LoadAs::Extension { .. })
        };
        if world.refuse_extensions && spec.programs.iter().any(extension) {
            let source = io::Error::from_raw_os_error(libc::EPERM);
            return Err(KernelError::NoExtensions { source });
        }
        let mut refused = spec.programs.iter().filter(|program| extension(program));
        if let Some(program) = refused.find(|program| world.only_alone.contains(program.function)) {
            return Err(KernelError::Rejected {
                function: program.function.to_owned(),
                log: "arg#0 is not what it should be\nprocessed 0 insns\n".to_owned(),
                source: io::Error::from_raw_os_error(libc::EINVAL),
            });
        }
        let mut maps = Vec::new();
        let object = ObjectInfo::parse(spec.object).map_err(|_| errno("load", libc::EINVAL))?;
        let mut names = world.object_maps.clone();
        names.extend(object.maps.into_keys());
        for name in names {
            let shared = spec
                .shared_maps
                .get(&name)
                .and_then(|path| world.pins.get(path));
            let map = match shared {
                Some(Object::Map(map)) => Rc::clone(map),
                _ => Rc::new(Map {
                    id: world.next_id(),
                    name,
                }),
            };
            maps.push(map);
        }
        maps.sort_by(|a, b| a.name.cmp(&b.name));
        let mut programs = Vec::new();
        for wanted in &spec.programs {
            let kind = if extension(wanted) {
                "ext"
            } else {
                wanted.program_type.kernel_type()
            };
            let mut program = Program::new(wanted.function, kind);
            program.maps.clone_from(&maps);
            let program = world.add_program(program);
            programs.push(LoadedProgram {
                function: wanted.function.to_owned(),
                id: program.id,
                handle: Object::Program(program),
                xdp_frags: world.frags.contains(wanted.function),
                results: world
                    .results
                    .get(wanted.function)
                    .copied()
                    .unwrap_or(Results::ANY),
            });
        }
        let maps = maps.into_iter().map(|map| LoadedMap {
            name: map.name.clone(),
            id: map.id,
            handle: Object::Map(map),
        });
        Ok(Loaded {
            programs,
            maps: maps.collect(),
        })
    }

    fn load_dispatcher(&self, config: &DispatcherConfig) -> Result<Object, KernelError> {
        let mut world = self.call("load dispatcher")?;
        let kind = match config {
            DispatcherConfig::Xdp(_) => "xdp",
            DispatcherConfig::Tc(_) => "tc",
        };
        let mut program = Program::new(config.function(), kind);
        program.config = Some(config.clone());
        Ok(Object::Program(world.add_program(program)))
    }

    fn program_brief(&self, id: u32) -> Result<Option<ProgramBrief>, KernelError> {
        let world = self.call("brief")?;
        let program = world.programs.get(&id).and_then(Weak::upgrade);
        Ok(program.map(|program| brief(&program)))
    }

    fn program_state(&self, program: &Object) -> Result<KernelState, KernelError> {
        let _world = self.call("state")?;
        let program = program
            .program()
            .ok_or_else(|| errno("state", libc::EINVAL))?;
        let brief = brief(&program);
        Ok(KernelState {
            id: brief.id,
            name: brief.name,
            program_type: brief.program_type,
            loaded_at: None,
            tag: [0; 8],
            gpl_compatible: true,
            map_ids: program.maps.iter().map(|map| map.id).collect(),
            btf_id: 0,
            size_translated: 16,
            size_jitted: 0,
            memory: 4096,
            verified_instructions: 2,
        })
    }

    fn program_by_id(&self, id: u32) -> Result<Option<Object>, KernelError> {
        let world = self.call("program by id")?;
        let program = world.programs.get(&id).and_then(Weak::upgrade);
        Ok(program.map(Object::Program))
    }

    fn map_by_id(&self, id: u32) -> Result<Option<Object>, KernelError> {
        Ok(self.call("map by id")?.map(id).map(Object::Map))
    }

    fn describe(&self, handle: &Object) -> Result<Description, KernelError> {
        let _world = self.call("describe")?;
        handle.description()
    }

    fn next_program_id(&self, id: u32) -> Result<Option<u32>, KernelError> {
        let world = self.call("next id")?;
        let mut later = world.programs.range(id.saturating_add(1)..);
        Ok(later
            .find(|(_, program)| program.strong_count() > 0)
            .map(|(id, _)| *id))
    }

    fn pin(&self, handle: &Object, path: &Path) -> Result<(), KernelError> {
        let mut world = self.write("pin")?;
        world.free_name("pin", path)?;
        world.pins.insert(path.to_owned(), handle.again());
        Ok(())
    }

    fn open_pin(&self, path: &Path) -> Result<Option<Object>, KernelError> {
        let world = self.call("open pin")?;
        Ok(world.pins.get(path).map(Object::again))
    }

    fn unpin(&self, path: &Path) -> Result<(), KernelError> {
        let object = self.write("unpin")?.pins.remove(path);
        drop(object);
        Ok(())
    }

    fn exists(&self, path: &Path) -> Result<bool, KernelError> {
        let world = self.call("stat")?;
        Ok(world.pins.contains_key(path) || world.dirs.contains(path))
    }

    fn create_dir(&self, path: &Path) -> Result<(), KernelError> {
        let mut world = self.write("mkdir")?;
        if world.dirs.contains(path) {
            return Ok(());
        }
        world.free_name("mkdir", path)?;
        world.dirs.insert(path.to_owned());
        Ok(())
    }

    fn remove_dir(&self, path: &Path) -> Result<(), KernelError> {
        let mut world = self.write("rmdir")?;
        let inside = |other: &PathBuf| other.parent() == Some(path);
        if world.pins.keys().any(inside) || world.dirs.iter().any(inside) {
            return Err(errno("rmdir", libc::ENOTEMPTY));
        }
        world.dirs.remove(path);
        Ok(())
    }

    fn list_dir(&self, path: &Path) -> Result<Vec<DirEntry>, KernelError> {
        Ok(self.call("list")?.entries(path))
    }

    fn link(&self, spec: &LinkSpec<'_, Object>) -> Result<Object, KernelError> {
        links::link(&mut *self.call("link")?, spec)
    }

    fn update_link(&self, link: &Object, program: &Object) -> Result<(), KernelError> {
        let world = self.call("update link")?;
        if let Some(code) = world.refuse_updates {
            return Err(errno("update link", code));
        }
        let Object::Link(link) = link else {
            return Err(errno("update link", libc::EINVAL));
        };
        let former = link.replace(program.of_kind("xdp")?)?;
        drop(former);
        Ok(())
    }

    fn link_interface(&self, link: &Object) -> Result<Option<u32>, KernelError> {
        let _world = self.call("link interface")?;
        match link {
            Object::Link(link) => link.interface(),
            _ => Err(errno("link interface", libc::EINVAL)),
        }
    }

    fn uprobe_place(&self, point: &UprobePoint) -> Result<UprobePlace<Object>, KernelError> {
        let world = self.call("uprobe place")?;
        let path = world.binaries.get(&point.target);
        let path = path.ok_or_else(|| ProbeError::NoLibrary {
            name: point.target.clone(),
            looked: vec!["the fake's binaries".to_owned()],
        })?;
        Ok(UprobePlace {
            binary: Object::Binary(path.clone()),
            path: path.clone(),
            offset: point.function.as_ref().map_or(0, |_| 0x1000) + point.offset,
        })
    }

    fn link_place(&self, link: &Object, known: &Device) -> Result<LinkPlace, KernelError> {
        let world = self.call("link place")?;
        let Object::Link(link) = link else {
            return Err(errno("link place", libc::EINVAL));
        };
        let (Some(iface), mode) = link.on()? else {
            return Ok(LinkPlace::Gone);
        };
        let (nsid, ifindex) = iface;
        let known = known.netns.as_deref().filter(|_| known.nsid == nsid);
        let (Ok(netns), Some(name)) = (world.path_of(nsid, known), world.name(iface)) else {
            return Ok(LinkPlace::Hidden { ifindex });
        };
        let device = Device {
            ifindex,
            nsid,
            netns,
        };
        Ok(LinkPlace::On { device, name, mode })
    }

    fn link_id(&self, link: &Object) -> Result<u32, KernelError> {
        let _world = self.call("link id")?;
        match link {
            Object::Link(link) => Ok(link.id()),
            _ => Err(errno("link id", libc::EINVAL)),
        }
    }

    fn tcx_members(
        &self,
        device: &Device,
        direction: TcDirection,
    ) -> Result<Vec<TcxMember>, KernelError> {
        let world = self.call("tcx members")?;
        let links = world.tcx(world.reach(device)?, direction);
        let member = |link: &Rc<LinkObject>| TcxMember {
            program_id: link.program().id,
            link_id: link.id(),
        };
        Ok(links.iter().map(member).collect())
    }

    fn near_function(&self, name: &str, _tracing: bool) -> Option<String> {
        let world = self.world.borrow();
        let functions = world.functions.iter().map(String::as_str);
        nearest(name, functions).map(str::to_owned)
    }

    fn near_tracepoint(&self, tracepoint: &str) -> Option<String> {
        let world = self.world.borrow();
        let names = world.tracepoints.iter().flatten().map(String::as_str);
        nearest(tracepoint, names).map(str::to_owned)
    }

    fn interfaces(&self, netns: Option<&Path>) -> Result<Vec<String>, KernelError> {
        let world = self.call("interfaces")?;
        let nsid = world.namespace(netns)?;
        let there = world.interfaces.keys().filter(|(ns, _)| *ns == nsid);
        Ok(there.map(|(_, name)| name.clone()).collect())
    }

    fn interface(&self, name: &str, netns: Option<&Path>) -> Result<Interface, KernelError> {
        let world = self.call("interface")?;
        let nsid = world.namespace(netns)?;
        let real = world.alternatives.get(name).map_or(name, String::as_str);
        let found = world.interfaces.get(&(nsid, real.to_owned()));
        let ifindex = found.ok_or_else(|| {
            let there = world.interfaces.keys().filter(|(ns, _)| *ns == nsid);
            KernelError::NoInterface {
                name: name.to_owned(),
                near: nearest(name, there.map(|(_, other)| other.as_str())).map(str::to_owned),
            }
        })?;
        Ok(Interface {
            name: real.to_owned(),
            ifindex: *ifindex,
            nsid,
        })
    }

    fn interface_state(&self, device: &Device) -> Result<InterfaceState, KernelError> {
        let world = self.call("interface state")?;
        let iface = world.reach(device)?;
        let link = world.xdp_link(iface);
        let xdp = link.and_then(|link| Some((link.on().ok()?.1?, link.program().id)));
        Ok(InterfaceState {
            name: world.name(iface).unwrap_or_default(),
            netns: world
                .path_of(device.nsid, device.netns.as_deref())
                .unwrap_or_default(),
            xdp: xdp.into_iter().collect(),
        })
    }

    fn ingress_qdisc(&self, device: &Device) -> Result<IngressQdisc, KernelError> {
        self.call("ingress qdisc")?.ingress_qdisc(device)
    }

    fn add_clsact(&self, device: &Device) -> Result<(), KernelError> {
        self.call("add clsact")?.add_clsact(device)
    }

    fn remove_unused_clsact(&self, device: &Device) -> Result<bool, KernelError> {
        Ok(self.call("remove clsact")?.remove_unused_clsact(device))
    }

    fn tc_filters(
        &self,
        device: &Device,
        direction: TcDirection,
    ) -> Result<Vec<TcFilter>, KernelError> {
        self.call("filters")?.tc_filters(device, direction)
    }

    fn add_tc_filter(
        &self,
        device: &Device,
        direction: TcDirection,
        program: &Object,
        handle: Option<u32>,
    ) -> Result<(), KernelError> {
        let mut world = self.call("add filter")?;
        world.add_tc_filter(device, direction, program.of_kind("tc")?, handle)
    }

    fn replace_tc_filter(
        &self,
        device: &Device,
        direction: TcDirection,
        old: u32,
        program: &Object,
    ) -> Result<bool, KernelError> {
        let mut world = self.call("replace filter")?;
        let program = program.of_kind("tc")?;
        let replaced = world.replace_tc_filter(device, direction, old, program);
        Ok(replaced.is_some())
    }

    fn remove_tc_filter(
        &self,
        device: &Device,
        direction: TcDirection,
        program: u32,
    ) -> Result<Option<u32>, KernelError> {
        let mut world = self.call("remove filter")?;
        Ok(world.remove_tc_filter(device, direction, program))
    }
}
