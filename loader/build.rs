//! Compiles the dispatchers of `bpf/` for the byte order of the target, to be embedded.

#![allow(clippy::print_stdout)] // how a build script talks to cargo

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// Sources in `bpf/`, without `.bpf.c`.
const OBJECTS: [&str; 2] = ["xdp_dispatcher", "tc_dispatcher"];

fn main() -> ExitCode {
    println!("cargo::rerun-if-env-changed=CLANG");
    match compile_all() {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            println!("cargo::error={message}");
            ExitCode::FAILURE
        }
    }
}

fn compile_all() -> Result<(), String> {
    let sources = Path::new(&variable("CARGO_MANIFEST_DIR")?).join("../bpf");
    let out = PathBuf::from(variable("OUT_DIR")?);
    let target = match variable("CARGO_CFG_TARGET_ENDIAN")?.as_str() {
        "big" => "bpfeb",
        _ => "bpfel",
    };
    for name in OBJECTS {
        let source = sources.join(format!("{name}.bpf.c"));
        println!("cargo::rerun-if-changed={}", source.display());
        compile(target, &source, &out.join(format!("{name}.o")))?;
    }
    Ok(())
}

fn compile(target: &str, source: &Path, object: &Path) -> Result<(), String> {
    let clang = std::env::var("CLANG").unwrap_or_else(|_| "clang".to_owned());
    // -mcpu=v3 (kernel 5.1): 32-bit comparisons, fewer instructions a slot. -g is where BTF comes from.
    let output = Command::new(&clang)
        .args(["-target", target, "-mcpu=v3", "-O2", "-g", "-Wall", "-Wextra", "-Werror", "-c"])
        .arg(source)
        .arg("-o")
        .arg(object)
        .output()
        .map_err(|error| {
            format!(
                "compiling {} needs clang with a BPF back end (Debian, Ubuntu: `apt-get install clang`; CLANG names another one): \
                 running `{clang}`: {error}",
                source.display()
            )
        })?;
    if output.status.success() {
        return Ok(());
    }
    let report = String::from_utf8_lossy(&output.stderr);
    // A cargo::error is one line.
    Err(format!(
        "{clang} -target {target} {}: {}",
        source.display(),
        report.trim().replace('\n', " | ")
    ))
}

fn variable(name: &str) -> Result<String, String> {
    std::env::var(name).map_err(|error| format!("{name}: {error}"))
}
