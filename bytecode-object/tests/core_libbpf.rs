//! CO-RE relocations, compared with libbpf's: of every object of some packages, against the types of three kernels, each
//! instruction that libbpf patches is the same here, and what libbpf refuses is refused.

// Helpers outside #[test] functions are test code too.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used
)]

mod compile;
mod packages;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use bpfman_tests::lanes;
use bytecode_object::ByteOrder;
use bytecode_object::btf::Btf;
use bytecode_object::core_relocation::Relocations;
use object::{Object as _, ObjectSection as _, ObjectSymbol as _};

/// The kernels of tests/vm/fetch-kernel.
const KERNELS: [&str; 3] = ["6.1", "6.12", "newest"];

/// More packages, whose objects other versions of clang made.
const MORE: [(&str, &str); 5] = [
    ("bookworm", "libbpf-tools"),
    ("sid", "libbpf-tools"),
    ("sid", "libbpftune0"),
    ("sid", "udev-hid-bpf"),
    ("sid", "systemd"),
];

/// Fewest objects with relocations that the packages are known to have.
const FEWEST: usize = 150;

/// A function of an object and the number of an instruction in it.
type Instruction = (String, u32);

/// Relocated instructions in the order of the relocations, `None` for those that were refused.
type Relocated = Vec<(Instruction, Option<String>)>;

/// libbpf's answers, by the numbers of the files.
struct Witness {
    program: PathBuf,
    _folder: tempfile::TempDir,
}

impl Witness {
    /// Builds `libbpf/relocate.c` with the newest libbpf of Debian, or `None` after the test was skipped.
    fn build() -> Option<Self> {
        let gcc = lanes::tool("gcc")?;
        let package = lanes::foreign_package("sid", "libbpf-dev")?;
        let source = lanes::repository().join("bytecode-object/tests/libbpf/relocate.c");
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("relocate");
        let library = format!("usr/lib/{}-linux-gnu/libbpf.a", std::env::consts::ARCH);
        let output = Command::new(gcc)
            .args(["-O1", "-Wall", "-Werror", "-I"])
            .arg(package.join("usr/include"))
            .arg(source)
            .arg(package.join(library))
            .arg("-Wl,--wrap=bpf_core_calc_relo_insn,--wrap=bpf_core_patch_insn,--wrap=syscall")
            .args(["-lelf", "-lz", "-o"])
            .arg(&program)
            .output()
            .unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "gcc: {errors}");
        Some(Self {
            program,
            _folder: folder,
        })
    }

    /// What libbpf makes of each file, in their order; `None` where it does not come to the relocations.
    fn relocate(&self, kernel: &Path, files: &[PathBuf]) -> Vec<Relocated> {
        let output = Command::new(&self.program).arg(kernel).args(files).output();
        let output = output.unwrap();
        assert!(output.status.success(), "{output:?}");
        let mut all: Vec<Relocated> = Vec::new();
        for line in String::from_utf8(output.stdout).unwrap().lines() {
            let mut words = line.split(' ');
            let mut word = || words.next().unwrap_or_default();
            match word() {
                "object" => all.push(Vec::new()),
                "end" => {}
                mark => {
                    let instruction = (word().to_owned(), word().parse().unwrap());
                    let bytes = (mark == "=").then(|| word().to_owned());
                    all.last_mut().unwrap().push((instruction, bytes));
                }
            }
        }
        assert_eq!(all.len(), files.len());
        all
    }
}

/// What we make of an object.
fn relocate(bytes: &[u8], kernel: &Btf<'_>) -> Relocated {
    let file = object::File::parse(bytes).unwrap();
    let data = |name: &str| {
        let section = file.section_by_name(name)?;
        section.data().ok()
    };
    let (Some(btf), Some(ext)) = (data(".BTF"), data(".BTF.ext")) else {
        return Vec::new();
    };
    let relocations = Relocations::parse(btf, ext, ByteOrder::Little).unwrap();
    let mut candidates = relocations.candidates(kernel).unwrap();
    let mut functions: BTreeMap<(&str, u64), (&str, u64)> = BTreeMap::new();
    for symbol in file
        .symbols()
        .filter(|symbol| symbol.kind() == object::SymbolKind::Text)
    {
        let Some(index) = symbol.section_index() else {
            continue;
        };
        let section = file.section_by_index(index).unwrap();
        let name = section.name().unwrap().to_owned();
        let name = file
            .section_by_name_bytes(name.as_bytes())
            .unwrap()
            .name()
            .unwrap();
        functions.insert(
            (name, symbol.address()),
            (symbol.name().unwrap(), symbol.size()),
        );
    }
    // One after the other: an error ends only its own.
    let mut all = Vec::new();
    let mut seen = BTreeSet::new();
    for (section, offset) in relocations.places() {
        if !seen.insert((section, offset)) {
            continue;
        }
        let before = functions.range(..=(section, u64::from(offset))).next_back();
        let Some((&(_, start), &(function, size))) = before.filter(|((name, start), (_, size))| {
            *name == section && u64::from(offset) < start + size
        }) else {
            // Of a function that the linker dropped.
            continue;
        };
        assert!(size > 0);
        let mut one = relocations.clone();
        one.retain(|name, at| name == section && at == offset);
        let instruction = (function.to_owned(), (offset - start as u32) / 8);
        match one.apply(data, &mut candidates) {
            Ok(patches) => {
                for patch in patches {
                    let bytes = patch.bytes.iter().map(|byte| format!("{byte:02x}"));
                    all.push((instruction.clone(), Some(bytes.collect())));
                }
            }
            Err(_) => all.push((instruction, None)),
        }
    }
    all
}

#[test]
fn instructions_equal_libbpfs() {
    let packages = [&packages::TRIXIE[..], &MORE].concat();
    let (Some(witness), Some(packages)) = (Witness::build(), packages::objects(&packages)) else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let mut objects = Vec::new();
    for (bytes, name) in packages {
        let file = object::File::parse(&*bytes).unwrap();
        if file.is_little_endian() && file.section_by_name(".BTF.ext").is_some() {
            let mut bytes = bytes;
            weaken_externs(&mut bytes);
            objects.push((name, bytes));
        }
    }
    // The same with questions whether types match.
    for at in 0..objects.len() {
        let (name, mut bytes) = objects[at].clone();
        if ask_for_matches(&mut bytes) > 0 {
            objects.push((format!("{name}, matches"), bytes));
        }
    }
    let mut files = Vec::new();
    for (number, (_, bytes)) in objects.iter().enumerate() {
        let path = folder.path().join(format!("{number}.o"));
        std::fs::write(&path, bytes).unwrap();
        files.push(path);
    }
    for version in KERNELS {
        let Some(path) = kernel_btf(version) else {
            return;
        };
        let compared = compare(&witness, version, &path, &objects, &files);
        assert!(compared >= FEWEST, "{compared} objects");
    }
}

#[test]
fn every_kind_equals_libbpfs() {
    let (Some(witness), Some(program), Some(kernel)) = (
        Witness::build(),
        compile::object("core", "bpfel", &["-g"]),
        compile::object("core_kernel", "bpfel", &["-g"]),
    ) else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kernel");
    let file = object::File::parse(&*kernel).unwrap();
    let btf = file.section_by_name(".BTF").unwrap();
    std::fs::write(&path, btf.data().unwrap()).unwrap();
    let mut matches = program.clone();
    assert!(ask_for_matches(&mut matches) > 0);
    let objects = [
        ("core".to_owned(), program),
        ("core, matches".to_owned(), matches),
    ];
    let files = ["one.o", "two.o"].map(|name| folder.path().join(name));
    for (file, (_, bytes)) in files.iter().zip(&objects) {
        std::fs::write(file, bytes).unwrap();
    }
    assert_eq!(
        compare(&witness, "of core_kernel.c", &path, &objects, &files),
        2
    );
}

/// Compares every object on a kernel. How many there were that libbpf relocates.
fn compare(
    witness: &Witness,
    version: &str,
    path: &Path,
    objects: &[(String, Vec<u8>)],
    files: &[PathBuf],
) -> usize {
    let bytes = std::fs::read(path).unwrap();
    let kernel = Btf::of_kernel(&bytes, ByteOrder::Little).unwrap();
    let answers = witness.relocate(path, files);
    let (mut equal, mut instructions, mut compared, mut stopped) = (0, 0, 0, Vec::new());
    for ((name, bytes), theirs) in objects.iter().zip(answers) {
        let ours = relocate(bytes, &kernel);
        if theirs.is_empty() {
            if !ours.is_empty() {
                stopped.push(name);
            }
            continue;
        }
        let mut theirs_left = theirs.iter();
        let (mut programs, mut differ) = (BTreeSet::new(), Vec::new());
        for (instruction, bytes) in &ours {
            programs.insert(&instruction.0);
            match theirs_left.next() {
                Some((other, expected)) if other == instruction && expected == bytes => {}
                other => differ.push((instruction, bytes, other)),
            }
        }
        assert!(
            differ.is_empty() && theirs_left.next().is_none(),
            "{name}, kernel {version}: {differ:?}, left {theirs_left:?}"
        );
        compared += 1;
        equal += programs.len();
        instructions += ours.len();
    }
    println!(
        "kernel {version}: {equal} programs of {compared} objects equal libbpf's ({instructions} relocations); \
             libbpf does not come to those of {}",
        stopped.len()
    );
    compared
}

/// Makes every extern weak (`STB_WEAK`): libbpf resolves externs before it relocates, and the running kernel may not have
/// them.
fn weaken_externs(bytes: &mut [u8]) {
    let file = object::File::parse(&*bytes).unwrap();
    let table = file
        .sections()
        .find(|section| section.name() == Ok(".symtab"));
    let Some((start, _)) = table.and_then(|table| table.file_range()) else {
        return;
    };
    let externs = file
        .symbols()
        .filter(|symbol| symbol.is_undefined() && symbol.is_global());
    let places: Vec<usize> = externs
        .map(|symbol| start as usize + symbol.index().0 * 24 + 4)
        .collect();
    for at in places {
        bytes[at] = 2 << 4 | bytes[at] & 0xf;
    }
}

/// Turns questions whether a type exists (`BPF_CORE_TYPE_EXISTS`) into whether it matches (`BPF_CORE_TYPE_MATCHES`),
/// which clang 14 cannot ask. How many there were.
fn ask_for_matches(bytes: &mut [u8]) -> usize {
    let file = object::File::parse(&*bytes).unwrap();
    let section = file.section_by_name(".BTF.ext").unwrap();
    let (start, size) = section.file_range().unwrap();
    let part = &mut bytes[start as usize..(start + size) as usize];
    let word =
        |part: &[u8], at: usize| u32::from_le_bytes(part[at..at + 4].try_into().unwrap()) as usize;
    if word(part, 4) < 32 {
        return 0;
    }
    let mut at = word(part, 4) + word(part, 24);
    let end = at + word(part, 28);
    let mut count = 0;
    let record = if at < end { word(part, at) } else { 0 };
    at += 4;
    while at < end {
        let records = word(part, at + 4);
        at += 8;
        for _ in 0..records {
            if part[at + 12] == 8 {
                part[at + 12] = 12;
                count += 1;
            }
            at += record;
        }
    }
    count
}

/// The file with the BTF of a kernel, or `None` after the test was skipped.
fn kernel_btf(version: &str) -> Option<PathBuf> {
    let script = lanes::repository().join("tests/vm/kernel-btf");
    let output = Command::new(script).arg(version).output().unwrap();
    if !output.status.success() {
        let reason = String::from_utf8_lossy(&output.stderr);
        lanes::skip_or_fail(&format!("no BTF of kernel {version}: {}", reason.trim()));
        return None;
    }
    Some(PathBuf::from(
        String::from_utf8(output.stdout).unwrap().trim(),
    ))
}
