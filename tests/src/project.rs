//! A cilium/ebpf project: one program, compiled for several architectures under bpf2go's file names.

use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::objects::{HEAD, clang};

/// GOARCH, bpf2go's file name and the flag of `image build`, ordered by GOARCH: the table of the formats.
pub const ALL: [(&str, &str, &str); 13] = [
    ("386", "bpf_386_bpfel.o", "--bc-386-el"),
    ("amd64", "bpf_x86_bpfel.o", "--bc-amd64-el"),
    ("arm", "bpf_arm_bpfel.o", "--bc-arm-el"),
    ("arm64", "bpf_arm64_bpfel.o", "--bc-arm64-el"),
    ("loong64", "bpf_loongarch_bpfel.o", "--bc-loong64-el"),
    ("mips", "bpf_mips_bpfeb.o", "--bc-mips-eb"),
    ("mips64", "bpf_mips64_bpfeb.o", "--bc-mips64-eb"),
    ("mips64le", "bpf_mips64_bpfel.o", "--bc-mips64le-el"),
    ("mipsle", "bpf_mips_bpfel.o", "--bc-mipsle-el"),
    ("ppc64", "bpf_powerpc_bpfeb.o", "--bc-ppc64-eb"),
    ("ppc64le", "bpf_powerpc_bpfel.o", "--bc-ppc64le-el"),
    ("riscv64", "bpf_riscv_bpfel.o", "--bc-riscv64-el"),
    ("s390x", "bpf_s390_bpfeb.o", "--bc-s390x-eb"),
];

/// The labels of every object of a project.
pub const PROGRAMS: &str = r#"{"count":"xdp"}"#;
/// The labels of every object of a project.
pub const MAPS: &str = r#"{"counts":"per_cpu_array"}"#;

/// A program that is other bytes for every architecture, but offers the same.
const SOURCE: &str = r#"
struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __uint(max_entries, 1);
    __type(key, __u32);
    __type(value, __u64);
} counts SEC(".maps");
SEC("xdp")
int count(struct xdp_md *ctx)
{
    __u32 key = 0;
    __u64 *value = bpf_map_lookup_elem(&counts, &key);
    if (value)
        *value += ARCHITECTURE;
    return XDP_PASS;
}
"#;

/// A project's folder.
#[derive(Debug)]
pub struct Project {
    folder: TempDir,
    architectures: Vec<&'static str>,
}

impl Project {
    /// Compiles the program for these GOARCHs, or gives `None` after the test was skipped for want of clang.
    ///
    /// # Panics
    ///
    /// When a GOARCH is none of bytecode's.
    #[must_use]
    pub fn compile(architectures: &[&'static str]) -> Option<Self> {
        Self::compile_source(SOURCE, architectures)
    }

    /// Compiles another program, whose bytes depend on the number `ARCHITECTURE` or do not.
    ///
    /// # Panics
    ///
    /// As [`compile`](Self::compile).
    #[must_use]
    pub fn compile_source(program: &str, architectures: &[&'static str]) -> Option<Self> {
        let folder = TempDir::new().expect("a temporary folder can be made");
        let source = TempDir::new().expect("a temporary folder can be made");
        let source = source.path().join("count.bpf.c");
        std::fs::write(&source, format!("{HEAD}{program}")).expect("the source can be written");
        for architecture in architectures {
            let number = ALL.iter().position(|(goarch, ..)| goarch == architecture);
            let number = number.expect("an architecture of bytecode images");
            let name = ALL[number].1;
            let order = if name.ends_with("eb.o") {
                "bpfeb"
            } else {
                "bpfel"
            };
            let define = format!("-DARCHITECTURE={}", number + 1);
            clang(&source, order, &[&define], &folder.path().join(name))?;
        }
        Some(Self {
            folder,
            architectures: architectures.to_vec(),
        })
    }

    /// Compiles for all thirteen.
    #[must_use]
    pub fn thirteen() -> Option<Self> {
        Self::compile(&ALL.map(|(goarch, ..)| goarch))
    }

    /// The folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// The folder, as an argument.
    ///
    /// # Panics
    ///
    /// Never: temporary folders have names that are text.
    #[must_use]
    pub fn arg(&self) -> &str {
        self.path().to_str().expect("a temporary folder is text")
    }

    /// GOARCHs, in the order they were asked for.
    #[must_use]
    pub fn architectures(&self) -> &[&'static str] {
        &self.architectures
    }

    /// The object's file of a GOARCH.
    ///
    /// # Panics
    ///
    /// When it is none of bytecode's.
    #[must_use]
    pub fn file(&self, architecture: &str) -> PathBuf {
        let row = ALL.iter().find(|(goarch, ..)| *goarch == architecture);
        self.path().join(row.expect("a known architecture").1)
    }
}
