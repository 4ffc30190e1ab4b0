//! Scripts run as root on a real kernel: `tests/vm/run`.

use std::path::Path;
use std::process::Command;

use crate::{cli, lanes};

/// Functions for scripts in the guest: `load`, `attach`, `value` and the like. Set before the script.
pub const HELPERS: &str = include_str!("guest.sh");

/// A run to be made. The guest has busybox, bpffs at `/sys/fs/bpf`, and `bpfman`.
#[derive(Debug)]
pub struct Vm {
    command: Command,
}

/// What a run in the guest ended with.
#[derive(Debug)]
pub struct VmOutcome {
    /// The script's exit status; 124: it took too long, 125: no run was whole.
    pub status: Option<i32>,
    /// What the script printed on stdout and stderr, in order.
    pub output: String,
    /// What the run itself had to say: broken runs, the end of the kernel's log.
    pub said: String,
}

impl Vm {
    /// A run with the built `bpfman` in the guest, or `None` after the test was skipped because a VM cannot run here.
    #[must_use]
    pub fn new() -> Option<Self> {
        Self::of(&cli::binary())
    }

    /// The same with another build of `bpfman`.
    #[must_use]
    pub fn of(binary: &Path) -> Option<Self> {
        for tool in ["qemu-system-x86_64", "busybox", "cpio", "modprobe"] {
            lanes::tool(tool)?;
        }
        let mut command = Command::new(lanes::repository().join("tests/vm/run"));
        command
            .arg("--file")
            .arg(format!("{}:/bin/bpfman", binary.display()));
        Some(Self { command })
    }

    /// Puts a program of this machine into the guest's `/bin`, or `None` after the test was skipped for want of it.
    #[must_use]
    pub fn tool(mut self, name: &str) -> Option<Self> {
        let path = lanes::tool(name)?;
        self.command.arg("--file").arg(path);
        Some(self)
    }

    /// Puts a file at a path of the guest.
    #[must_use]
    pub fn file(mut self, host: &Path, guest: &str) -> Self {
        self.command
            .arg("--file")
            .arg(format!("{}:{guest}", host.display()));
        self
    }

    /// Passes an option to `tests/vm/run`.
    #[must_use]
    pub fn option(mut self, option: &str, value: &str) -> Self {
        self.command.args([option, value]);
        self
    }

    /// Runs the shell script in the guest.
    ///
    /// # Panics
    ///
    /// When `tests/vm/run` cannot be run.
    #[must_use]
    pub fn run(mut self, script: &str) -> VmOutcome {
        self.command.args(["--", "sh", "-c", script]);
        let output = self.command.output().expect("tests/vm/run can be run");
        VmOutcome {
            status: output.status.code(),
            output: String::from_utf8_lossy(&output.stdout).into_owned(),
            said: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl VmOutcome {
    /// The output of a script that ended with 0.
    ///
    /// # Panics
    ///
    /// When it did not.
    #[track_caller]
    #[must_use]
    pub fn ok(&self) -> &str {
        assert_eq!(
            self.status,
            Some(0),
            "in the guest:\n{}\n{}",
            self.output,
            self.said
        );
        &self.output
    }

    /// The text after `NAME=` in the first line that begins so: how a script hands values to its test.
    ///
    /// # Panics
    ///
    /// When there is no such line.
    #[track_caller]
    #[must_use]
    pub fn value(&self, name: &str) -> &str {
        let found = self
            .output
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        found.unwrap_or_else(|| panic!("the guest printed no line {name}=…:\n{}", self.output))
    }
}
