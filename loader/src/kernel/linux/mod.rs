//! The running kernel.
//!
//! aya-obj reads objects, fits their types to the kernel's and ties them to their maps; `sys` asks the kernel. aya's
//! own loader is not used: in 0.14 it reads the kernel's BTF (6 MB) whether an object needs it or not, and tries out
//! some twenty features of the kernel before its first load.

mod binary;
mod bpffs;
mod capabilities;
mod core_relocation;
mod debug_files;
mod describe;
mod dispatcher;
mod externs;
mod libraries;
mod links;
mod load;
mod maps;
mod near_function;
mod needs;
mod net;
mod netlink;
mod netns;
mod parsed;
mod places;
mod probes;
mod program_btf;
mod program_types;
mod programs;
mod sys;
mod tc;
mod tracepoints;
mod version;

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, Once, PoisonError};

use rustix::process::{Resource, Rlimit, setrlimit};

pub use self::capabilities::{Capability, missing_capabilities};
use self::version::Version;
use super::{
    Description, Device, DirEntry, DispatcherConfig, IngressQdisc, Interface, InterfaceState,
    Kernel, KernelError, LinkPlace, LinkSpec, LoadSpec, Loaded, ProgramBrief, TcFilter, TcxMember,
    UprobePlace,
};
use crate::program::KernelState;
use crate::{TcDirection, UprobePoint};

/// The kernel that this process runs on. Handles are file descriptors.
#[derive(Debug)]
pub struct LinuxKernel {
    version: Version,
    memlock: Once,
    functions: Mutex<dispatcher::Functions>,
}

impl LinuxKernel {
    /// Asks the kernel for nothing but its version.
    pub fn new() -> Self {
        Self {
            version: Version::running(),
            memlock: Once::new(),
            functions: Mutex::default(),
        }
    }

    /// Before 5.11 memory of BPF objects counts against a limit that is low by default. Failing to raise it is no
    /// error: it may be enough.
    fn raise_memlock(&self) {
        if !self.version.charges_memlock() {
            return;
        }
        self.memlock.call_once(|| {
            let unlimited = Rlimit {
                current: None,
                maximum: None,
            };
            if let Err(error) = setrlimit(Resource::Memlock, unlimited) {
                log::debug!("raising RLIMIT_MEMLOCK: {error}");
            }
        });
    }

    /// BTF id of a function of a loaded program.
    fn function_of(&self, program: &OwnedFd, function: &str) -> Result<u32, KernelError> {
        self.functions().find(program, function)
    }

    /// Remembers the BTF of a dispatcher that was loaded.
    fn has_functions(&self, program: &OwnedFd, btf: Vec<u8>) -> Result<(), KernelError> {
        self.functions().add(program, btf)
    }

    fn functions(&self) -> MutexGuard<'_, dispatcher::Functions> {
        let functions = self.functions.lock();
        functions.unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for LinuxKernel {
    fn default() -> Self {
        Self::new()
    }
}

impl Kernel for LinuxKernel {
    type Handle = OwnedFd;

    fn mount_bpffs(&self, dir: &Path) -> Result<(), KernelError> {
        bpffs::mount(dir)
    }

    fn is_bpffs(&self, dir: &Path) -> Result<bool, KernelError> {
        bpffs::is_mounted(dir)
    }

    fn load(&self, spec: &LoadSpec<'_, OwnedFd>) -> Result<Loaded<OwnedFd>, KernelError> {
        load::load(self, spec)
    }

    fn load_dispatcher(&self, config: &DispatcherConfig) -> Result<OwnedFd, KernelError> {
        dispatcher::load(self, config)
    }

    fn program_brief(&self, id: u32) -> Result<Option<ProgramBrief>, KernelError> {
        programs::brief(id)
    }

    fn program_state(&self, program: &OwnedFd) -> Result<KernelState, KernelError> {
        programs::state(program.as_fd())
    }

    fn program_by_id(&self, id: u32) -> Result<Option<OwnedFd>, KernelError> {
        programs::by_id(id)
    }

    fn map_by_id(&self, id: u32) -> Result<Option<OwnedFd>, KernelError> {
        describe::map_by_id(id)
    }

    fn describe(&self, handle: &OwnedFd) -> Result<Description, KernelError> {
        describe::describe(handle.as_fd())
    }

    fn next_program_id(&self, id: u32) -> Result<Option<u32>, KernelError> {
        programs::next_id(id)
    }

    fn pin(&self, handle: &OwnedFd, path: &Path) -> Result<(), KernelError> {
        bpffs::pin(handle.as_fd(), path)
    }

    fn open_pin(&self, path: &Path) -> Result<Option<OwnedFd>, KernelError> {
        bpffs::open(path)
    }

    fn unpin(&self, path: &Path) -> Result<(), KernelError> {
        bpffs::unpin(path)
    }

    fn exists(&self, path: &Path) -> Result<bool, KernelError> {
        bpffs::exists(path)
    }

    fn create_dir(&self, path: &Path) -> Result<(), KernelError> {
        bpffs::create_dir(path)
    }

    fn remove_dir(&self, path: &Path) -> Result<(), KernelError> {
        bpffs::remove_dir(path)
    }

    fn list_dir(&self, path: &Path) -> Result<Vec<DirEntry>, KernelError> {
        bpffs::list_dir(path)
    }

    fn link(&self, spec: &LinkSpec<'_, OwnedFd>) -> Result<OwnedFd, KernelError> {
        links::link(self, spec)
    }

    fn update_link(&self, link: &OwnedFd, program: &OwnedFd) -> Result<(), KernelError> {
        sys::link_update(link.as_fd(), program.as_fd())
            .map_err(failed(|| "putting another program under a link".to_owned()))
    }

    fn link_interface(&self, link: &OwnedFd) -> Result<Option<u32>, KernelError> {
        let found = sys::link_interface(link.as_fd());
        found.map_err(failed(|| "reading the interface of a link".to_owned()))
    }

    fn uprobe_place(&self, point: &UprobePoint) -> Result<UprobePlace<OwnedFd>, KernelError> {
        binary::place(point)
    }

    fn link_place(&self, link: &OwnedFd, known: &Device) -> Result<LinkPlace, KernelError> {
        places::of_link(link.as_fd(), known)
    }

    fn link_id(&self, link: &OwnedFd) -> Result<u32, KernelError> {
        let found = sys::link_info(link.as_fd());
        let found = found.map_err(failed(|| "reading the id of a link".to_owned()))?;
        Ok(found.id)
    }

    fn tcx_members(
        &self,
        device: &Device,
        direction: TcDirection,
    ) -> Result<Vec<TcxMember>, KernelError> {
        places::tcx_members(device, direction)
    }

    fn near_function(&self, name: &str, tracing: bool) -> Option<String> {
        near_function::near(name, tracing)
    }

    fn near_tracepoint(&self, tracepoint: &str) -> Option<String> {
        tracepoints::near_tracepoint(tracepoint)
    }

    fn interfaces(&self, netns: Option<&Path>) -> Result<Vec<String>, KernelError> {
        net::interfaces(netns)
    }

    fn interface(&self, name: &str, netns: Option<&Path>) -> Result<Interface, KernelError> {
        net::interface(name, netns)
    }

    fn interface_state(&self, device: &Device) -> Result<InterfaceState, KernelError> {
        net::interface_state(device)
    }

    fn ingress_qdisc(&self, device: &Device) -> Result<IngressQdisc, KernelError> {
        tc::ingress_qdisc(device)
    }

    fn add_clsact(&self, device: &Device) -> Result<(), KernelError> {
        tc::add_clsact(device)
    }

    fn remove_unused_clsact(&self, device: &Device) -> Result<bool, KernelError> {
        tc::remove_unused_clsact(device)
    }

    fn tc_filters(
        &self,
        device: &Device,
        direction: TcDirection,
    ) -> Result<Vec<TcFilter>, KernelError> {
        tc::filters(device, direction)
    }

    fn add_tc_filter(
        &self,
        device: &Device,
        direction: TcDirection,
        program: &OwnedFd,
        handle: Option<u32>,
    ) -> Result<(), KernelError> {
        tc::add_filter(device, direction, program, handle)
    }

    fn replace_tc_filter(
        &self,
        device: &Device,
        direction: TcDirection,
        old: u32,
        program: &OwnedFd,
    ) -> Result<bool, KernelError> {
        tc::replace_filter(device, direction, old, program)
    }

    fn remove_tc_filter(
        &self,
        device: &Device,
        direction: TcDirection,
        program: u32,
    ) -> Result<Option<u32>, KernelError> {
        tc::remove_filter(device, direction, program)
    }
}

/// Says what was being done when a system call failed.
fn failed<E: Into<io::Error>>(call: impl FnOnce() -> String) -> impl FnOnce(E) -> KernelError {
    |error| KernelError::Syscall {
        call: call(),
        source: error.into(),
    }
}
