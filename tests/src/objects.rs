//! eBPF objects, compiled when a test needs them.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::lanes;

/// The head of every source: the types and helpers that a program needs.
pub(crate) const HEAD: &str = "#include <linux/bpf.h>\n#include <bpf/bpf_helpers.h>\nchar _license[] SEC(\"license\") = \"GPL\";\n";

/// A compiled object in a folder of its own.
#[derive(Debug)]
pub struct Object {
    path: PathBuf,
    _folder: TempDir,
}

impl Object {
    /// Compiles a C source, headers and licence put before it, or `None` after the test was skipped for want of clang.
    ///
    /// # Panics
    ///
    /// When clang refuses the source.
    #[must_use]
    pub fn compile(source: &str) -> Option<Self> {
        let folder = TempDir::new().expect("a temporary folder can be made");
        let file = folder.path().join("program.bpf.c");
        std::fs::write(&file, format!("{HEAD}{source}")).expect("the source can be written");
        Self::compile_file(&file, folder)
    }

    /// Compiles the example of that name, or `None` after the test was skipped.
    #[must_use]
    pub fn example(name: &str) -> Option<Self> {
        let file = format!("examples/{name}/{}.bpf.c", name.replace('-', "_"));
        let folder = TempDir::new().expect("a temporary folder can be made");
        Self::compile_file(&lanes::repository().join(file), folder)
    }

    /// A host program of a shared library or executable kind: an ELF file that is no eBPF object.
    #[must_use]
    pub fn of_the_host() -> PathBuf {
        std::env::current_exe().expect("the test knows its own file")
    }

    fn compile_file(source: &Path, folder: TempDir) -> Option<Self> {
        let path = folder.path().join("bpf_x86_bpfel.o");
        let order = if cfg!(target_endian = "little") {
            "bpfel"
        } else {
            "bpfeb"
        };
        clang(source, order, &[], &path)?;
        Some(Self {
            path,
            _folder: folder,
        })
    }
    /// The object's file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The object's file, as an argument.
    #[must_use]
    pub fn arg(&self) -> &str {
        self.path
            .to_str()
            .expect("a temporary folder's name is text")
    }

    /// The object's bytes.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        std::fs::read(&self.path).expect("the object can be read")
    }
}

/// Compiles a source for a byte order (`bpfel`, `bpfeb`), or `None` after the test was skipped for want of clang.
pub(crate) fn clang(source: &Path, order: &str, defines: &[&str], into: &Path) -> Option<()> {
    let clang = lanes::tool("clang")?;
    let headers = format!("/usr/include/{}-linux-gnu", std::env::consts::ARCH);
    let output = Command::new(clang)
        .args(["-target", order, "-O2", "-g", "-mcpu=v3"])
        .args(["-Wall", "-Werror", "-idirafter", &headers])
        .args(defines)
        .arg("-c")
        .arg(source)
        .arg("-o")
        .arg(into)
        .output()
        .expect("clang can be run");
    assert!(
        output.status.success(),
        "clang: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Some(())
}
