//! The programs of `tests/bpf`, compiled when a test needs them.

use std::path::{Path, PathBuf};
use std::process::Command;

use bpfman_tests::lanes;

/// The object compiled from `tests/bpf/<name>.c`, or `None` after the test was skipped for want of clang.
/// `BPFMAN_TEST_OBJECTS` names a folder that has it already: a guest has no compiler.
pub(crate) fn object(name: &str) -> Option<Vec<u8>> {
    if let Some(folder) = std::env::var_os("BPFMAN_TEST_OBJECTS") {
        return Some(std::fs::read(PathBuf::from(folder).join(format!("{name}.o"))).unwrap());
    }
    let folder = tempfile::tempdir().unwrap();
    let object = folder.path().join("object.o");
    compile(name, &object)?;
    Some(std::fs::read(object).unwrap())
}

/// Compiles `tests/bpf/<name>.c`.
pub(crate) fn compile(name: &str, object: &Path) -> Option<()> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/bpf")
        .join(format!("{name}.c"));
    compile_for(HOST, &source, object)
}

/// clang's name for BPF of this machine's byte order.
pub(crate) const HOST: &str = if cfg!(target_endian = "big") {
    "bpfeb"
} else {
    "bpfel"
};

/// Compiles any source for either byte order.
pub(crate) fn compile_for(target: &str, source: &Path, object: &Path) -> Option<()> {
    let clang = lanes::tool("clang")?;
    let output = Command::new(clang)
        .args(["-target", target, "-O2", "-g", "-c"])
        .arg(source)
        .arg("-o")
        .arg(object)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "clang: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Some(())
}
