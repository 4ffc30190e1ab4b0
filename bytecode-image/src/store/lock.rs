//! The locks of the store: waited for at most as long as the configuration says, and the holder is named then.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use jiff::{Timestamp, ToSpan};
use rustix::fs::{FlockOperation, flock, fstat, major, minor};
use rustix::io::Errno;

use super::{StoreAction, StoreError};
use crate::printable::printable;

/// How long a lock is waited for unless the configuration says otherwise: 10 s, as for the loader's.
pub const LOCK_TIMEOUT: Duration = Duration::from_secs(10);

/// First pause between two attempts. Most commands hold a lock for some milliseconds.
const FIRST_PAUSE: Duration = Duration::from_micros(200);
/// Longest pause: a process that pauses longer than others loses to them again and again.
const LONGEST_PAUSE: Duration = Duration::from_millis(2);

/// Clock ticks per second in `/proc`: `USER_HZ` of every architecture that bpfman is built for.
const USER_HZ: u64 = 100;

/// How much of a holder's command line a message shows.
const COMMAND_CHARS: usize = 120;

/// A lock that is held as long as this lives.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

/// How a lock is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    Shared,
    Exclusive,
}

impl Lock {
    /// Takes the lock if that is possible now.
    pub(super) fn attempt(file: &File, mode: Mode) -> io::Result<bool> {
        let operation = match mode {
            Mode::Shared => FlockOperation::NonBlockingLockShared,
            Mode::Exclusive => FlockOperation::NonBlockingLockExclusive,
        };
        match flock(file, operation) {
            Ok(()) => Ok(true),
            Err(Errno::WOULDBLOCK | Errno::INTR) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// With the file of a lock that was taken.
    pub(super) fn taken(file: File) -> Self {
        Self { _file: file }
    }

    /// Waits for the lock, at most `timeout`.
    pub(super) fn wait(
        file: File,
        path: &Path,
        mode: Mode,
        timeout: Duration,
    ) -> Result<Self, StoreError> {
        let started = Instant::now();
        let mut pause = FIRST_PAUSE;
        loop {
            let attempt = Self::attempt(&file, mode);
            if attempt.map_err(|source| StoreError::io(StoreAction::Lock, path, source))? {
                return Ok(Self::taken(file));
            }
            let waited = started.elapsed();
            if waited >= timeout {
                return Err(StoreError::Locked {
                    path: path.to_owned(),
                    holder: holder(&file),
                    waited: timeout,
                });
            }
            sleep(pause.min(timeout.saturating_sub(waited)));
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
}

/// The process that holds a lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Its number.
    pub pid: u32,
    /// Its command line, shortened; its name where that cannot be read.
    pub command: String,
    /// When it was started; `None` where the system does not say.
    pub since: Option<Timestamp>,
    /// Whether it is stopped (`SIGSTOP`, Ctrl-Z, a debugger).
    pub stopped: bool,
}

/// The first process that holds a lock on this file. `None`: it may not be seen from here (another PID namespace,
/// another host), or has just let go.
fn holder(file: &File) -> Option<Holder> {
    let own = std::process::id();
    let pid = by_locks(file)
        .filter(|pid| *pid != own && Path::new("/proc").join(pid.to_string()).exists())
        .or_else(|| by_descriptors(file).filter(|pid| *pid != own))?;
    about(pid)
}

/// By the kernel's list of locks, which everybody may read (proc_locks(5)):
/// `1: FLOCK  ADVISORY  WRITE 1234 08:01:5678 0 EOF`.
fn by_locks(file: &File) -> Option<u32> {
    let found = fstat(file).ok()?;
    let inode = format!(
        "{:02x}:{:02x}:{}",
        major(found.st_dev),
        minor(found.st_dev),
        found.st_ino
    );
    let locks = fs::read_to_string("/proc/locks").ok()?;
    locks.lines().find_map(|line| holds(line, &inode))
}

/// The process of a line when it holds a lock on this inode; those that wait have `->` before the kind.
fn holds(line: &str, inode: &str) -> Option<u32> {
    let mut words = line.split_ascii_whitespace().skip(1);
    let (kind, _advisory, _mode) = (words.next()?, words.next()?, words.next()?);
    let pid = words.next()?.parse().ok()?;
    (kind == "FLOCK" && words.next()? == inode && pid != 0).then_some(pid)
}

/// By the open files of all processes: the list names other devices than `fstat` on overlayfs and btrfs, and the process
/// that took a lock may have left it to a child.
fn by_descriptors(file: &File) -> Option<u32> {
    let wanted = file.metadata().ok()?;
    let processes = fs::read_dir("/proc").ok()?.flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.into_iter().find(|pid| {
        let process = PathBuf::from(format!("/proc/{pid}"));
        let descriptors = fs::read_dir(process.join("fd")).into_iter().flatten();
        descriptors.flatten().any(|descriptor| {
            let same = fs::metadata(descriptor.path())
                .is_ok_and(|found| (found.dev(), found.ino()) == (wanted.dev(), wanted.ino()));
            let info = || process.join("fdinfo").join(descriptor.file_name());
            same && fs::read_to_string(info())
                .is_ok_and(|info| info.lines().any(|line| line.starts_with("lock:")))
        })
    })
}

fn about(pid: u32) -> Option<Holder> {
    let process = PathBuf::from(format!("/proc/{pid}"));
    let stat = fs::read(process.join("stat")).ok()?;
    let stat = String::from_utf8_lossy(&stat);
    // The name, in parentheses, may have parentheses and blanks in it.
    let (name, rest) = stat.rsplit_once(')')?;
    let name = name.split_once('(')?.1;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    let line = fs::read(process.join("cmdline")).unwrap_or_default();
    let line = String::from_utf8_lossy(&line).replace('\0', " ");
    let line = printable(line.trim(), COMMAND_CHARS);
    Some(Holder {
        pid,
        command: match line.is_empty() {
            true => printable(name, COMMAND_CHARS),
            false => line,
        },
        // Fields 3 and 22 of proc_pid_stat(5).
        stopped: matches!(fields.first(), Some(&"T" | &"t")),
        since: fields
            .get(19)
            .and_then(|ticks| started(ticks.parse().ok()?)),
    })
}

/// When a process was started, by its clock ticks since the boot.
fn started(ticks: u64) -> Option<Timestamp> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    let boot = stat.lines().find_map(|line| line.strip_prefix("btime "))?;
    let seconds = ticks / USER_HZ;
    Timestamp::from_second(boot.trim().parse().ok()?)
        .ok()?
        .checked_add(i64::try_from(seconds).ok()?.seconds())
        .ok()
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};

    use super::*;

    #[test]
    fn lines_of_the_list_of_locks() {
        let inode = "08:01:5678";
        let cases = [
            (
                "1: FLOCK  ADVISORY  WRITE 1234 08:01:5678 0 EOF",
                Some(1234),
            ),
            ("2: FLOCK  ADVISORY  READ  7 08:01:5678 0 EOF", Some(7)),
            ("2: -> FLOCK  ADVISORY  READ  7 08:01:5678 0 EOF", None),
            ("3: POSIX  ADVISORY  WRITE 1234 08:01:5678 0 EOF", None),
            ("4: FLOCK  ADVISORY  WRITE 1234 08:01:56 0 EOF", None),
            ("5: FLOCK  ADVISORY  WRITE 0 08:01:5678 0 EOF", None),
            ("6: FLOCK", None),
            ("", None),
        ];
        for (line, expected) in cases {
            assert_eq!(holds(line, inode), expected, "{line}");
        }
    }

    #[test]
    fn a_holder_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        fs::write(&path, "").unwrap();
        let mut holder = Command::new("flock")
            .arg(&path)
            .args(["-c", "echo held; read -r line"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut out = io::BufReader::new(holder.stdout.take().unwrap());
        io::BufRead::read_line(&mut out, &mut String::new()).unwrap();
        let pid = Pid::from_child(&holder);
        kill_process(pid, Signal::STOP).unwrap();
        waitpid(Some(pid), WaitOptions::UNTRACED).unwrap();

        let file = || File::open(&path).unwrap();
        let found = about(by_locks(&file()).unwrap()).unwrap();
        assert_eq!(found.pid, holder.id());
        assert!(
            found.command.contains("echo held") && found.stopped,
            "{found:?}"
        );
        assert!(found.since.is_some_and(|since| since <= Timestamp::now()));
        // The shell has the file open too.
        let found = about(by_descriptors(&file()).unwrap()).unwrap();
        assert!(found.command.contains("echo held"), "{found:?}");

        let short = Duration::from_millis(5);
        let error = Lock::wait(file(), &path, Mode::Shared, short).unwrap_err();
        let text = error.to_string();
        let start = format!(
            "cannot lock {}: held by process {} (`",
            path.display(),
            holder.id()
        );
        assert!(text.starts_with(&start), "{text}");
        assert!(
            text.contains("`) since 2") && text.ends_with(", which is stopped"),
            "{text}"
        );
        assert!(error.hint().unwrap().contains("kill -CONT"));

        kill_process(pid, Signal::CONT).unwrap();
        drop(holder.stdin.take());
        holder.wait().unwrap();
        Lock::wait(file(), &path, Mode::Exclusive, Duration::ZERO).unwrap();
    }
}
