//! Which lanes can run here. A lane whose tool is missing is skipped with its reason, and fails under `CI=true`.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The root of the repository.
#[must_use]
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("tests/ lies in the repository")
        .to_owned()
}

/// Says that the running test is skipped and why: a line on stderr and in the file `BPFMAN_TEST_SKIPS`, which
/// `tests/lanes` counts. The test then has to return.
///
/// # Panics
///
/// Under `CI=true`, where nothing may be skipped.
pub fn skip_or_fail(reason: &str) {
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("a test");
    assert!(
        std::env::var("CI").as_deref() != Ok("true"),
        "{test} would be skipped: {reason}; under CI=true it fails"
    );
    eprintln!("skipped {test}: {reason}");
    if let Some(path) = std::env::var_os("BPFMAN_TEST_SKIPS") {
        let file = std::fs::OpenOptions::new()
            .append(true)
            .create(true)
            .open(path);
        let mut file = file.expect("the file of BPFMAN_TEST_SKIPS can be written");
        writeln!(file, "{test}: {reason}").expect("the file of BPFMAN_TEST_SKIPS can be written");
    }
}

/// The path of a program, or `None` after the test was skipped for want of it (see [`skip_or_fail`]).
#[must_use]
pub fn tool(name: &str) -> Option<PathBuf> {
    if name == "bpftool" {
        // Ubuntu's is a bash script that looks for the running kernel's, of no use in a VM.
        return foreign_tool(name);
    }
    let found = find(name);
    if found.is_none() {
        skip_or_fail(&format!("no {name}: tests/setup/install"));
    }
    found
}

/// The path of a program of another suite (those of tests/setup/fetch-tool), or `None` after the test was skipped.
#[must_use]
pub fn foreign_tool(name: &str) -> Option<PathBuf> {
    let script = repository().join("tests/setup/fetch-tool");
    let output = Command::new(script)
        .arg(name)
        .output()
        .expect("tests/setup/fetch-tool can be run");
    if output.status.success() {
        let path = String::from_utf8(output.stdout).expect("a path is text");
        return Some(PathBuf::from(path.trim()));
    }
    skip_or_fail(&format!(
        "no {name}: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    ));
    None
}

/// The folder that a package of that Debian suite was unpacked into, or `None` after the test was skipped.
///
/// # Panics
///
/// When the script cannot be run.
#[must_use]
pub fn foreign_package(suite: &str, package: &str) -> Option<PathBuf> {
    let output = Command::new(repository().join("tests/setup/fetch-package"))
        .args([suite, package])
        .output()
        .expect("tests/setup/fetch-package can be run");
    if output.status.success() {
        let path = String::from_utf8(output.stdout).expect("a path is text");
        return Some(PathBuf::from(path.trim()));
    }
    let reason = String::from_utf8_lossy(&output.stderr);
    skip_or_fail(&format!("no package {package}: {}", reason.trim()));
    None
}

/// Whether the test runs as root; if not, the test was skipped.
#[must_use]
pub fn root() -> bool {
    let uid = Command::new("id")
        .arg("-u")
        .output()
        .expect("id can be run")
        .stdout;
    let root = uid.trim_ascii() == b"0";
    if !root {
        skip_or_fail("it changes this machine's kernel, which takes root");
    }
    root
}

/// The command that runs another one in a mount namespace of its own, or `None` after the test was skipped.
///
/// `unshare --mount` makes every mount private first, which fails where `/` is no mount point (a chroot). There the mounts
/// stay as they are; if they are shared, what the test mounts would reach the machine.
#[must_use]
pub fn mount_namespace() -> Option<&'static [&'static str]> {
    tool("unshare")?;
    let works = Command::new("unshare").args(["--mount", "true"]).output();
    if works.is_ok_and(|output| output.status.success()) {
        return Some(&["unshare", "--mount"]);
    }
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    if mounts.is_empty() || mounts.contains(" shared:") {
        skip_or_fail("`/` is no mount point, and mounts are shared with the machine");
        return None;
    }
    Some(&["unshare", "--mount", "--propagation", "unchanged"])
}

/// Whether tracefs is where tracepoints are looked up, mounted if it was not; if it cannot be, the test was skipped.
#[must_use]
pub fn tracefs() -> bool {
    let events = Path::new("/sys/kernel/tracing/events");
    if events.is_dir() {
        return true;
    }
    // A machine with systemd has it. Two tests may try at once: what counts is that it is there.
    let _ = Command::new("mount")
        .args(["-t", "tracefs", "tracefs", "/sys/kernel/tracing"])
        .output();
    if !events.is_dir() {
        skip_or_fail("tracefs cannot be mounted at /sys/kernel/tracing");
    }
    events.is_dir()
}

/// A program in `PATH` or where system programs lie.
fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&path)
        .chain(system)
        .map(|folder| folder.join(name))
        .find(|path| path.is_file())
}
