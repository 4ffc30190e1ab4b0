//! Objects for the tests, made by clang from `tests/programs`.

use std::path::Path;
use std::process::Command;

/// Compiles `tests/programs/<name>.c`. `None` (with the reason on stderr) where clang is missing, unless `CI` is set.
pub(crate) fn object(name: &str, target: &str, flags: &[&str]) -> Option<Vec<u8>> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/programs/{name}.c"));
    let folder = tempfile::tempdir().expect("a temporary folder");
    let out = folder.path().join("object.o");
    let run = Command::new("clang")
        .args(["-target", target, "-O2", "-c"])
        .args(flags)
        .arg(&source)
        .arg("-o")
        .arg(&out)
        .output();
    let output = match run {
        Ok(output) => output,
        Err(error) if std::env::var_os("CI").is_none() => {
            eprintln!("skipped: clang: {error}");
            return None;
        }
        Err(error) => panic!("clang: {error}"),
    };
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "clang {}: {errors}",
        source.display()
    );
    Some(std::fs::read(&out).expect("clang's output"))
}
