//! Loads on this machine's kernel, and what they left in its maps.
#![allow(dead_code)] // each test binary uses some of it

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::Command;

use aya::maps::{Array, Map, MapData};
use aya::programs::{SchedClassifier, TestRun as _, TestRunOptions};
use bytecode_object::ProgramType;
use loader::kernel::linux::LinuxKernel;
use loader::kernel::{Kernel, KernelError, LoadAs, LoadSpec, Loaded, ProgramSpec};

pub(crate) type Globals = BTreeMap<String, Vec<u8>>;

pub(crate) fn program(function: &str, program_type: ProgramType) -> ProgramSpec<'_, OwnedFd> {
    ProgramSpec {
        function,
        program_type,
        attach_function: None,
        load_as: LoadAs::Plain,
    }
}

pub(crate) fn load(
    kernel: &LinuxKernel,
    object: &[u8],
    programs: Vec<ProgramSpec<'_, OwnedFd>>,
    globals: &Globals,
) -> Result<Loaded<OwnedFd>, KernelError> {
    kernel.load(&LoadSpec {
        object,
        programs,
        globals,
        shared_maps: BTreeMap::new(),
    })
}

/// The number in the one entry of an array map.
pub(crate) fn number<T: aya::Pod>(loaded: &Loaded<OwnedFd>, map: &str) -> T {
    let id = loaded
        .maps
        .iter()
        .find(|candidate| candidate.name == map)
        .unwrap()
        .id;
    number_in(id)
}

/// The same, of a map by its id.
pub(crate) fn number_in<T: aya::Pod>(id: u32) -> T {
    let array = Array::<_, T>::try_from(Map::Array(MapData::from_id(id).unwrap())).unwrap();
    array.get(&0, 0).unwrap()
}

/// A bpffs of our own, unmounted at the end.
pub(crate) struct Bpffs(tempfile::TempDir);

impl Bpffs {
    pub(crate) fn mount(kernel: &LinuxKernel) -> Self {
        let folder = tempfile::tempdir().unwrap();
        kernel.mount_bpffs(&folder.path().join("fs")).unwrap();
        Self(folder)
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.0.path().join("fs")
    }
}

impl Drop for Bpffs {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.path()).status();
    }
}

/// Runs an XDP or TC program that is pinned there once, on a packet of noughts, and gives what it returned.
pub(crate) fn run(pin: &std::path::Path) -> u32 {
    // The call is the same for both.
    let program = SchedClassifier::from_pin(pin).unwrap();
    let packet = [0; 64];
    let options = TestRunOptions {
        data_in: Some(&packet),
        ..TestRunOptions::new()
    };
    program.test_run(options).unwrap().return_value
}
