//! The built `bpfman`, run as a user runs it, with state, images and configuration of its own.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;
use wait4::Wait4 as _;

use crate::lanes;

/// What `image pull` prints when it fetched something.
pub const DOWNLOADED: &str = "Successfully downloaded bytecode\n";

/// What `image pull` prints when the store had all of it.
pub const HELD: &str = "Bytecode is in the local store already, nothing was downloaded\n";

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

/// A `bpfman` that kills itself at the moment that `BPFMAN_FAILPOINT` names, or `None` after the test was skipped.
#[must_use]
pub fn failpoints_binary() -> Option<PathBuf> {
    let path = std::env::var_os("BPFMAN_FAILPOINTS_BIN").map(PathBuf::from);
    if path.is_none() {
        lanes::skip_or_fail("no build with failpoints: `tests/lanes kernel` makes it");
    }
    path
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
    /// Of any command's output.
    #[must_use]
    pub fn of(output: &Output) -> Self {
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

    /// A pull that ended well, whether or not anything had to be downloaded for it.
    ///
    /// # Panics
    ///
    /// When it failed, or said something else.
    pub fn pulled(&self) {
        let said = self.ok();
        assert!(said == DOWNLOADED || said == HELD, "{self:#?}");
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

/// Variables that would bring this machine's logins, registries, proxies and engines into a test.
const NOT_OURS: [&str; 21] = [
    "ALL_PROXY",
    "CONTAINERS_REGISTRIES_CONF",
    "CONTAINER_HOST",
    "DOCKER_BUILDKIT",
    "DOCKER_CONFIG",
    "DOCKER_CONTEXT",
    "DOCKER_HOST",
    "HTTPS_PROXY",
    "HTTP_PROXY",
    "NO_PROXY",
    "REGISTRY_AUTH_FILE",
    "RUST_LOG",
    "SOURCE_DATE_EPOCH",
    "XDG_CACHE_HOME",
    "XDG_CONFIG_HOME",
    "XDG_DATA_HOME",
    "XDG_RUNTIME_DIR",
    "all_proxy",
    "http_proxy",
    "https_proxy",
    "no_proxy",
];

/// A place to run `bpfman` in: its runtime folder (with a bpffs of its own), its images, an empty
/// configuration. Its home has a `registries.conf` of its own, so that the machine's is not read.
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
        let containers = folder.path().join(".config/containers");
        std::fs::create_dir_all(&containers)
            .and_then(|()| std::fs::write(containers.join("registries.conf"), ""))
            .and_then(|()| std::fs::write(folder.path().join("bpfman.toml"), ""))
            .expect("a temporary folder can be filled");
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

    /// The home of its user, in which runtime folder and image store lie too.
    #[must_use]
    pub fn home(&self) -> &Path {
        self.folder.path()
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

    /// What signatures proved (`BPFMAN_ADMITTED_DIR`).
    #[must_use]
    pub fn admitted(&self) -> PathBuf {
        self.folder.path().join("admitted")
    }

    /// The command, ready to be run.
    #[must_use]
    pub fn command(&self, arguments: &[&str]) -> Command {
        self.command_by(&[], arguments)
    }

    /// The command, run by another program (`unshare -n`) that gets its words after its own.
    #[must_use]
    pub fn command_by(&self, by: &[&str], arguments: &[&str]) -> Command {
        let mut command = match by.split_first() {
            Some((program, words)) => {
                let mut command = Command::new(program);
                command.args(words).arg(binary());
                command
            }
            None => Command::new(binary()),
        };
        for name in NOT_OURS {
            command.env_remove(name);
        }
        command
            .args(arguments)
            .env("BPFMAN_RUNTIME_DIR", self.runtime())
            .env("BPFMAN_IMAGE_DIR", self.images())
            .env("BPFMAN_ADMITTED_DIR", self.admitted())
            // The machine's own is not read.
            .env("BPFMAN_CONFIG", self.home().join("bpfman.toml"))
            .env("HOME", self.home())
            // Without it, root's logins are looked for in /run/containers/0.
            .env("XDG_RUNTIME_DIR", self.home().join("run/user"))
            .env("NO_COLOR", "1")
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
        self.run_by(&[], arguments)
    }

    /// Runs [`command_by`](Self::command_by) to its end.
    ///
    /// # Panics
    ///
    /// When it cannot be run at all.
    #[must_use]
    pub fn run_by(&self, by: &[&str], arguments: &[&str]) -> Outcome {
        let output = self.command_by(by, arguments).output();
        Outcome::of(&output.expect("bpfman can be run"))
    }

    /// Runs the command to its end, and tells its peak memory in KiB too (`ru_maxrss`). The memory of the caller counts, because
    /// it is the command's until the command is executed.
    ///
    /// # Panics
    ///
    /// When the binary cannot be run at all.
    #[must_use]
    pub fn measured(&self, arguments: &[&str]) -> (Outcome, u64) {
        // Files, not pipes: nobody has to read while it runs.
        let [stdout, stderr] = ["stdout", "stderr"].map(|name| self.home().join(name));
        let file = |path: &Path| std::fs::File::create(path).expect("a file can be made");
        let child = self
            .command(arguments)
            .stdout(file(&stdout))
            .stderr(file(&stderr))
            .spawn();
        let ended = child.and_then(|child| child.wait4());
        let ended = ended.expect("bpfman can be run");
        let text = |path: &Path| {
            let bytes = std::fs::read(path).expect("a file that was written can be read");
            String::from_utf8_lossy(&bytes).into_owned()
        };
        let outcome = Outcome {
            status: ended.status.code(),
            stdout: text(&stdout),
            stderr: text(&stderr),
        };
        (outcome, ended.rusage.maxrss / 1024)
    }

    /// Unmounts the runtime folder's bpffs, and waits until the kernel has let go of the programs that only its pins held:
    /// that takes a grace period (`bpf_free_inode` in kernel/bpf/inode.c).
    ///
    /// # Panics
    ///
    /// When it cannot be unmounted, or a program stays.
    pub fn unmount(&self, held: &[&str]) {
        let umount = Command::new("umount")
            .arg(self.runtime().join("fs"))
            .status();
        assert!(umount.expect("umount can be run").success());
        let stranger = Self::new();
        for id in held {
            let gone = || stranger.run(&["get", "program", id]).status != Some(0);
            assert!((0..10_000).any(|_| gone()), "program {id} stays");
        }
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
