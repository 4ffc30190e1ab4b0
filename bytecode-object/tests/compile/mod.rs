//! Objects for the tests, made by clang from `bytecode-object/tests/programs`.

use std::process::Command;

use bpfman_tests::lanes;

/// Compiles `<name>.c`, or `None` after the test was skipped for want of clang.
pub(crate) fn object(name: &str, target: &str, flags: &[&str]) -> Option<Vec<u8>> {
    let clang = lanes::tool("clang")?;
    let source = lanes::repository().join(format!("bytecode-object/tests/programs/{name}.c"));
    let folder = tempfile::tempdir().expect("a temporary folder");
    let out = folder.path().join("object.o");
    let output = Command::new(clang)
        .args(["-target", target, "-O2", "-c"])
        .args(flags)
        .arg(&source)
        .arg("-o")
        .arg(&out)
        .output()
        .expect("clang can be run");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "clang {}: {errors}",
        source.display()
    );
    Some(std::fs::read(&out).expect("clang's output"))
}
