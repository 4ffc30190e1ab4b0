//! The built `bpfman`, run as a user runs it, with state, images and configuration of its own.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

/// The binary under test: `BPFMAN_BIN`, else the one that was built beside this test.
///
/// # Panics
///
/// When there is none.
#[must_use]
pub fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os("BPFMAN_BIN") {
        return PathBuf::from(path);
    }
    let test = std::env::current_exe().expect("the test knows its own file");
    let folders = test.ancestors().skip(1).take(2);
    let found = folders
        .map(|folder| folder.join("bpfman"))
        .find(|path| path.is_file());
    found.expect("bpfman is built: cargo build --workspace --all-targets")
}

/// What a run of the command ended with.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The exit status; `None` when a signal ended it.
    pub status: Option<i32>,
    /// Results.
    pub stdout: String,
    /// Everything else.
    pub stderr: String,
}

impl Outcome {
    fn of(output: &Output) -> Self {
        Self {
            status: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// The stdout of a run that worked.
    ///
    /// # Panics
    ///
    /// When it did not work.
    #[track_caller]
    pub fn ok(&self) -> &str {
        assert_eq!(
            self.status,
            Some(0),
            "exit status of a run that should work: {self:#?}"
        );
        &self.stdout
    }

    /// The stderr of a run that failed as a failure has to: exit status 1, no panic, nothing on stdout.
    ///
    /// # Panics
    ///
    /// When it did not.
    #[track_caller]
    pub fn failure(&self) -> &str {
        assert_eq!(
            self.status,
            Some(1),
            "exit status of a run that should fail: {self:#?}"
        );
        assert!(!self.stderr.contains("panicked"), "a panic: {self:#?}");
        assert_eq!(self.stdout, "", "results of a run that failed: {self:#?}");
        &self.stderr
    }

    /// The value of a line `Name:  value` of a table.
    ///
    /// # Panics
    ///
    /// When there is no such line.
    #[track_caller]
    #[must_use]
    pub fn field(&self, name: &str) -> String {
        let found = self.stdout.lines().find_map(|line| {
            let rest = line.trim_start().strip_prefix(name)?.strip_prefix(':')?;
            Some(rest.trim().to_owned())
        });
        found.unwrap_or_else(|| panic!("no line '{name}:' in {self:#?}"))
    }
}

/// A place to run `bpfman` in: its runtime folder (with a bpffs of its own), its images, no configuration.
#[derive(Debug)]
pub struct Bpfman {
    folder: TempDir,
    environment: Vec<(OsString, OsString)>,
}

impl Default for Bpfman {
    fn default() -> Self {
        Self::new()
    }
}

impl Bpfman {
    /// A new place.
    ///
    /// # Panics
    ///
    /// When no temporary folder can be made.
    #[must_use]
    pub fn new() -> Self {
        let folder = TempDir::new().expect("a temporary folder can be made");
        Self {
            folder,
            environment: Vec::new(),
        }
    }

    /// Sets a variable of every later run's environment.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// The runtime folder (`BPFMAN_RUNTIME_DIR`).
    #[must_use]
    pub fn runtime(&self) -> PathBuf {
        self.folder.path().join("run")
    }

    /// The image store (`BPFMAN_IMAGE_DIR`).
    #[must_use]
    pub fn images(&self) -> PathBuf {
        self.folder.path().join("images")
    }

    /// What signatures proved, apart from the store (`BPFMAN_ADMITTED_DIR`).
    #[must_use]
    pub fn admitted(&self) -> PathBuf {
        self.folder.path().join("admitted")
    }

    /// The command, ready to be run.
    #[must_use]
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(binary());
        command
            .args(arguments)
            .env("BPFMAN_RUNTIME_DIR", self.runtime())
            .env("BPFMAN_IMAGE_DIR", self.images())
            .env("BPFMAN_ADMITTED_DIR", self.admitted())
            .env("HOME", self.folder.path())
            .env("NO_COLOR", "1")
            .env_remove("BPFMAN_CONFIG")
            .env_remove("RUST_LOG")
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null());
        command
    }

    /// Runs the command to its end.
    ///
    /// # Panics
    ///
    /// When the binary cannot be run at all.
    #[must_use]
    pub fn run(&self, arguments: &[&str]) -> Outcome {
        Outcome::of(&self.command(arguments).output().expect("bpfman can be run"))
    }

    /// The pins in the runtime folder's bpffs: paths, sorted. Without the kernel's own (`maps.debug`, `progs.debug`), whose
    /// names have a dot, which no pin may have.
    #[must_use]
    pub fn pins(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        files_below(&self.runtime().join("fs"), &mut found);
        found.retain(|path| path.extension().is_none());
        found.sort();
        found
    }
}

impl Drop for Bpfman {
    fn drop(&mut self) {
        // Pins go with their bpffs, and what they held in the kernel goes with them.
        let fs = self.runtime().join("fs");
        if fs.is_dir() {
            let _ = Command::new("umount")
                .arg(&fs)
                .stderr(Stdio::null())
                .status();
        }
    }
}

fn files_below(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            files_below(&path, found);
        } else {
            found.push(path);
        }
    }
}
