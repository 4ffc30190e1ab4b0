//! What probes are tried with and on: programs that count, a library, and a program that calls it when it is told to.

use std::path::PathBuf;
use std::process::Command;

use bpfman_tests::lanes;
use bpfman_tests::objects::Object;
use tempfile::TempDir;

/// The functions of `probes.bpf.c` in the order of their entries in the map `hits`.
pub(crate) const PROGRAMS: [&str; 6] = [
    "kprobe:on_entry",
    "kprobe:on_return",
    "uprobe:at_entry",
    "uprobe:at_return",
    "fentry:traced_entry:vfs_unlink",
    "fexit:traced_return:vfs_unlink",
];

pub(crate) fn programs() -> Option<Object> {
    Object::compile(include_str!("probes.bpf.c"))
}

/// `libprobed.so.1` and `target`, compiled for this machine.
pub(crate) struct Probed(TempDir);

impl Probed {
    /// Compiles both, or `None` after the test was skipped for want of a compiler.
    pub(crate) fn compile() -> Option<Self> {
        let compiler = lanes::tool("cc")?;
        let probed = Self(TempDir::new().unwrap());
        let sources = lanes::repository().join("tests/tests/probed");
        let versions = probed.0.path().join("versions");
        std::fs::write(&versions, "PROBED_1 { global: probed; local: *; };").unwrap();
        let script = format!("-Wl,--version-script={}", versions.display());
        let library = ["-shared", "-fPIC", "-Wl,-soname,libprobed.so.1", &script];
        let folder = format!("-L{}", probed.0.path().display());
        let target = [folder.as_str(), "-l:libprobed.so.1"];
        let steps: [(&str, PathBuf, &[&str]); 2] = [
            ("library.c", probed.library(), &library),
            ("target.c", probed.target(), &target),
        ];
        for (source, output, arguments) in steps {
            let done = Command::new(&compiler)
                .arg("-O1")
                .arg(sources.join(source))
                .args(arguments)
                .arg("-o")
                .arg(output)
                .output()
                .unwrap();
            let said = String::from_utf8_lossy(&done.stderr);
            assert!(done.status.success(), "{source}: {said}");
        }
        Some(probed)
    }

    pub(crate) fn library(&self) -> PathBuf {
        self.0.path().join("libprobed.so.1")
    }

    pub(crate) fn target(&self) -> PathBuf {
        self.0.path().join("target")
    }

    /// Where `inner` lies in the file `target`, in bytes, as objdump tells it; `None` after the test was skipped.
    pub(crate) fn place_of_inner(&self) -> Option<String> {
        let output = Command::new(lanes::tool("objdump")?)
            .args(["-d", "-F", "--disassemble=inner"])
            .arg(self.target())
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        let (_, place) = text.split_once("<inner> (File Offset: 0x").unwrap();
        let (place, _) = place.split_once(')').unwrap();
        Some(u64::from_str_radix(place, 16).unwrap().to_string())
    }
}
