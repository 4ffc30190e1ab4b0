//! Interfering with the system calls of a command: see `tracer.c`.

use std::path::PathBuf;
use std::process::Command;

use bpfman_tests::cli::{Bpfman, Outcome};
use bpfman_tests::lanes;
use tempfile::TempDir;

/// Seconds after which a command hangs. It takes some milliseconds, and the machine may have other work.
const HANGS: &str = "60";

/// The compiled tracer.
pub(crate) struct Tracer {
    folder: TempDir,
}

impl Tracer {
    /// `None` after the test was skipped.
    pub(crate) fn new() -> Option<Self> {
        let compiler = lanes::tool("cc")?;
        let folder = TempDir::new().unwrap();
        let source = lanes::repository().join("tests/tests/syscalls/tracer.c");
        let compiled = Command::new(compiler)
            .args(["-O1", "-Wall", "-Werror", "-o"])
            .arg(folder.path().join("tracer"))
            .arg(source)
            .status();
        assert!(compiled.unwrap().success());
        Some(Self { folder })
    }

    fn run(&self, bpfman: &Bpfman, words: &[&str], arguments: &[String]) -> Outcome {
        let tracer = self.folder.path().join("tracer");
        let mut by = vec!["timeout", "-s", "KILL", HANGS, tracer.to_str().unwrap()];
        by.extend(words);
        let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
        bpfman.run_by(&by, &arguments)
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    /// The kinds of a command's calls, in order.
    pub(crate) fn calls(&self, bpfman: &Bpfman, arguments: &[String]) -> Vec<String> {
        let log = self.log();
        self.run(bpfman, &[log.to_str().unwrap()], arguments).ok();
        let text = std::fs::read_to_string(log).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    /// Kills a command before its `n`th call; whether it had as many.
    pub(crate) fn kill(&self, bpfman: &Bpfman, n: usize, arguments: &[String]) -> bool {
        let outcome = self.run(bpfman, &["kill", &n.to_string()], arguments);
        assert!(
            matches!(outcome.status, Some(0 | 137)),
            "killed before call {n}: {outcome:#?}"
        );
        outcome.status == Some(137)
    }

    /// Lets the `n`th call of a command that works on files fail.
    pub(crate) fn fail(
        &self,
        bpfman: &Bpfman,
        n: usize,
        errno: i32,
        arguments: &[String],
    ) -> Outcome {
        let words = ["fail", &n.to_string(), &errno.to_string()];
        self.run(bpfman, &words, arguments)
    }
}
