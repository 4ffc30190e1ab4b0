//! The loader on the kernel in memory, with the real store.

mod by_name;
mod chain;
mod crash;
pub(crate) mod disk;
mod doctor;
mod faults;
mod folders;
pub(crate) mod kill;
mod life;
mod locking;
mod moves;
mod netns;
mod probes;
mod recovery;
mod tc;
mod tcx;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytecode_object::ProgramType;
use object::write::{Object, Symbol, SymbolSection};
use object::{
    Architecture, BinaryFormat, Endianness, SectionKind, SymbolFlags, SymbolKind, SymbolScope,
};
use tempfile::TempDir;

use crate::kernel::Kernel;
use crate::kernel::fake::FakeKernel;
use crate::{
    AttachPoint, AttachRequest, Attachment, Config, Guard, Link, LinkFilter, LoadRequest, Loader,
    LoaderError, ProceedOn, Program, ProgramFilter, ProgramRequest, Source, TcDirection, XdpMode,
};

/// An eBPF object with one two-instruction program a function, in the section named.
pub(crate) fn elf(endianness: Endianness, programs: &[(&str, &str)]) -> Vec<u8> {
    elf_with(endianness, programs, &[])
}

/// The same with sections that hold these bytes.
fn elf_with(
    endianness: Endianness,
    programs: &[(&str, &str)],
    sections: &[(&str, Vec<u8>)],
) -> Vec<u8> {
    let mut object = Object::new(BinaryFormat::Elf, Architecture::Bpf, endianness);
    // r0 = 0; exit
    let code = [0xb7, 0, 0, 0, 0, 0, 0, 0, 0x95, 0, 0, 0, 0, 0, 0, 0];
    for (section, function) in programs {
        let section =
            object.add_section(Vec::new(), section.as_bytes().to_vec(), SectionKind::Text);
        let value = object.append_section_data(section, &code, 8);
        object.add_symbol(Symbol {
            name: function.as_bytes().to_vec(),
            value,
            size: code.len() as u64,
            kind: SymbolKind::Text,
            scope: SymbolScope::Dynamic,
            weak: false,
            section: SymbolSection::Section(section),
            flags: SymbolFlags::None,
        });
    }
    for (name, bytes) in sections {
        let section = object.add_section(Vec::new(), name.as_bytes().to_vec(), SectionKind::Data);
        object.append_section_data(section, bytes, 8);
    }
    object.write().unwrap()
}

/// A folder in memory, as `/run` is, where there is one.
fn memory_dir() -> TempDir {
    TempDir::new_in("/dev/shm")
        .or_else(|_| TempDir::new())
        .unwrap()
}

/// A loader on a fake kernel with interfaces `eth0` and `eth1`.
pub(crate) struct Bench {
    pub(crate) dir: TempDir,
    pub(crate) kernel: FakeKernel,
    pub(crate) loader: Loader<FakeKernel>,
}

impl Bench {
    pub(crate) fn new() -> Self {
        Self::with(|_| {})
    }

    pub(crate) fn with(change: impl FnOnce(&mut Config)) -> Self {
        let dir = memory_dir();
        let kernel = FakeKernel::new();
        kernel.add_interface("eth0");
        kernel.add_interface("eth1");
        kernel.set_object_maps(&["counts", ".rodata", "events"]);
        let mut config = Config::new(dir.path().join("run"));
        config.lock_retries = 1;
        config.lock_delay = Duration::from_millis(20);
        change(&mut config);
        Self {
            loader: Loader::new(kernel.clone(), config),
            dir,
            kernel,
        }
    }

    pub(crate) fn run_dir(&self) -> PathBuf {
        self.dir.path().join("run")
    }

    pub(crate) fn fs(&self, path: &str) -> PathBuf {
        self.run_dir().join("fs").join(path)
    }

    pub(crate) fn lock(&self) -> Guard {
        self.loader.lock().unwrap()
    }

    pub(crate) fn load(&self, words: &[&str]) -> Vec<u32> {
        ids(&self.loader.load(&mut self.lock(), request(words)).unwrap())
    }

    pub(crate) fn try_attach(&self, id: u32, point: AttachPoint) -> Result<Link, LoaderError> {
        let metadata = BTreeMap::new();
        self.loader
            .attach(&mut self.lock(), id, AttachRequest { point, metadata })
    }

    pub(crate) fn attach(&self, id: u32, point: AttachPoint) -> u32 {
        self.try_attach(id, point).unwrap().id
    }

    pub(crate) fn detach(&self, link: u32) {
        self.loader.detach(&mut self.lock(), link).unwrap();
    }

    pub(crate) fn unload(&self, id: u32) {
        self.loader.unload(&mut self.lock(), id).unwrap();
    }

    /// Somebody removes a program's pin.
    pub(crate) fn lose_program(&self, id: u32) {
        self.kernel.unpin(&self.fs(&format!("prog_{id}"))).unwrap();
    }

    pub(crate) fn records(&self) -> BTreeMap<String, String> {
        let guard = self.lock();
        let records = guard.records().unwrap().map(|records| records.dump());
        records.unwrap_or_default()
    }

    /// Link ids of the XDP chain of `iface`, by position.
    pub(crate) fn chain(&self, iface: &str) -> Vec<u32> {
        self.order(|attachment| match attachment {
            Attachment::Xdp {
                iface: on,
                position,
                ..
            } if on == iface => Some(*position),
            _ => None,
        })
    }

    /// Link ids of those that have a position by `place`, in its order, which has no gaps.
    pub(crate) fn order(&self, place: impl Fn(&Attachment) -> Option<u32>) -> Vec<u32> {
        let places = self.places(place);
        assert!(places.keys().copied().eq(0..places.len() as u32));
        places.into_values().collect()
    }

    /// Link ids by their positions.
    pub(crate) fn places(&self, place: impl Fn(&Attachment) -> Option<u32>) -> BTreeMap<u32, u32> {
        let links = self.loader.links(&self.lock(), &LinkFilter::default());
        let mut places = BTreeMap::new();
        for link in links.unwrap() {
            if let Some(position) = place(&link.attachment) {
                assert_eq!(
                    places.insert(position, link.id),
                    None,
                    "two links at {position}"
                );
            }
        }
        places
    }

    /// Store, kernel and bpffs tell the same, and nothing is left over, not even a program that nothing pins.
    pub(crate) fn assert_agreement(&self, context: &str) {
        let found = self.loader.doctor().unwrap();
        assert!(found.is_empty(), "{context}: {found:#?}");
        assert_eq!(
            std::fs::read(self.run_dir().join("journal")).unwrap_or_default(),
            b"",
            "{context}: journal"
        );
        let mut alive = self.kernel.foreign_programs();
        if let Some(records) = self.lock().records().unwrap() {
            alive.extend(records.programs().unwrap().into_keys());
            let chains = records.chains().unwrap().into_values();
            alive.extend(chains.map(|chain| chain.program_id));
        }
        assert_eq!(
            self.kernel.programs().into_keys().collect::<BTreeSet<_>>(),
            alive,
            "{context}: programs"
        );
    }
}

pub(crate) fn ids(programs: &[Program]) -> Vec<u32> {
    programs.iter().map(|program| program.kernel.id).collect()
}

/// A request for `TYPE:function` words, of an object with three XDP programs, three classifiers and two programs for
/// tracepoints.
pub(crate) fn request(words: &[&str]) -> LoadRequest {
    request_with(words, &[])
}

/// The same of an object that has these sections, too.
fn request_with(words: &[&str], sections: &[(&str, Vec<u8>)]) -> LoadRequest {
    let programs = words.iter().map(|word| {
        let (kind, function) = word.split_once(':').unwrap();
        ProgramRequest {
            program_type: kind.parse::<ProgramType>().unwrap(),
            function: function.to_owned(),
            attach_function: None,
        }
    });
    let object = elf_with(
        if cfg!(target_endian = "big") {
            Endianness::Big
        } else {
            Endianness::Little
        },
        &[
            ("xdp", "pass"),
            ("xdp", "xdp_stats"),
            ("xdp.frags", "big_packets"),
            ("classifier", "tc_pass"),
            ("tc/egress", "tc_stats"),
            ("tcx/ingress", "tcx_stats"),
            ("tracepoint/sched/sched_switch", "on_switch"),
            ("tp/syscalls/sys_enter_kill", "on_kill_with_a_long_name"),
        ],
        sections,
    );
    LoadRequest {
        object,
        source: Source::File {
            path: "prog.o".to_owned(),
        },
        programs: programs.collect(),
        globals: BTreeMap::new(),
        metadata: BTreeMap::new(),
        map_owner_id: None,
    }
}

pub(crate) fn xdp(iface: &str, priority: u32) -> AttachPoint {
    AttachPoint::Xdp {
        iface: iface.to_owned(),
        priority,
        proceed_on: None,
        mode: None,
        netns: None,
    }
}

pub(crate) fn tc(iface: &str, direction: TcDirection, priority: u32) -> AttachPoint {
    AttachPoint::Tc {
        iface: iface.to_owned(),
        direction,
        priority,
        proceed_on: None,
        netns: None,
    }
}

pub(crate) fn tcx(iface: &str, direction: TcDirection, priority: u32) -> AttachPoint {
    AttachPoint::Tcx {
        iface: iface.to_owned(),
        direction,
        priority,
        netns: None,
    }
}

/// The same point in a network namespace.
pub(crate) fn within(path: &str, point: AttachPoint) -> AttachPoint {
    let mut point = point;
    match &mut point {
        AttachPoint::Xdp { netns, .. }
        | AttachPoint::Tc { netns, .. }
        | AttachPoint::Tcx { netns, .. } => *netns = Some(path.into()),
        other => unreachable!("{other:?} knows no namespaces"),
    }
    point
}

pub(crate) fn tracepoint(name: &str) -> AttachPoint {
    AttachPoint::Tracepoint {
        tracepoint: name.to_owned(),
    }
}

pub(crate) fn listing(bench: &Bench, filter: &ProgramFilter) -> Vec<u32> {
    let programs = bench.loader.programs(&bench.lock(), filter).unwrap();
    programs.iter().map(|program| program.id).collect()
}

/// Copies what is in the files at this moment, whatever a process still holds in memory.
pub(crate) fn copy_dir(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_dir(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}
