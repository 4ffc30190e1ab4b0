//! Which process holds the lock: it says so in the lock file.

use std::fmt;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::time::SystemTime;

use jiff::{Timestamp, Unit};
use serde::{Deserialize, Serialize};

/// Bytes of the lock file. A note is always as long, so that writing it needs no room after the first time.
const LENGTH: usize = 256;
/// Longest command in it.
const LONGEST_COMMAND: usize = 80;

/// A process that holds a lock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// Its id.
    pub pid: u32,
    /// Its program and the words of its command line before the first option: options may have secrets.
    pub command: String,
    /// Since when, as in RFC 3339.
    pub since: String,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            pid,
            command,
            since,
        } = self;
        write!(f, "process {pid} (`{command}`) since {since}")
    }
}

impl Holder {
    /// This process, from now on.
    fn this() -> Self {
        let now = Timestamp::try_from(SystemTime::now()).unwrap_or_default();
        let now = now.round(Unit::Second).unwrap_or(now);
        Self {
            pid: std::process::id(),
            command: command(std::env::args()),
            since: now.to_string(),
        }
    }

    /// Says in the lock file that this process has it. A file system that is full may keep it from that.
    pub(super) fn note(lock: &File) {
        let Ok(mut text) = serde_json::to_vec(&Self::this()) else {
            return;
        };
        if text.len() < LENGTH {
            text.resize(LENGTH - 1, b' ');
            text.push(b'\n');
            let _ = lock.write_all_at(&text, 0);
        }
    }

    /// What the lock file says, unless that process has ended: then the holder has not noted itself yet.
    pub(super) fn read(lock: &File) -> Option<Self> {
        let mut text = [0; LENGTH];
        let length = lock.read_at(&mut text, 0).ok()?;
        let holder: Self = serde_json::from_slice(text.get(..length)?).ok()?;
        let pid = i32::try_from(holder.pid).ok()?;
        let pid = rustix::process::Pid::from_raw(pid)?;
        let gone = rustix::process::test_kill_process(pid) == Err(rustix::io::Errno::SRCH);
        (!gone).then(|| Self {
            command: printable(&holder.command),
            since: printable(&holder.since),
            ..holder
        })
    }
}

/// The program's name and the words before the first option.
fn command(words: impl Iterator<Item = String>) -> String {
    let mut words = words.take_while(|word| !word.starts_with('-'));
    let program = words.next().unwrap_or_default();
    let program = program.rsplit('/').next().unwrap_or_default().to_owned();
    let words: Vec<_> = std::iter::once(program).chain(words.take(3)).collect();
    let text = printable(&words.join(" "));
    text.chars().take(LONGEST_COMMAND).collect()
}

fn printable(text: &str) -> String {
    let shown = |letter: &char| letter.is_ascii_graphic() || *letter == ' ';
    text.chars().filter(shown).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_ends_before_the_first_option() {
        for (line, expected) in [
            (
                "/usr/bin/bpfman load image -r user:secret -i x",
                "bpfman load image",
            ),
            ("bpfman --verbose list", "bpfman"),
            ("bpfman unload 17", "bpfman unload 17"),
            ("bpfman attach 17 xdp eth0 more", "bpfman attach 17 xdp"),
            ("", ""),
        ] {
            let words = line.split_whitespace().map(str::to_owned);
            assert_eq!(command(words), expected, "{line}");
        }
        let long = "x".repeat(4096) + "\u{1b}[2J";
        assert_eq!(command([long].into_iter()).len(), LONGEST_COMMAND);
    }

    #[test]
    fn note_is_read_back_over_a_longer_one() {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(&[b'x'; LENGTH], 0).unwrap();
        assert_eq!(Holder::read(&file), None);
        Holder::note(&file);
        let holder = Holder::read(&file).unwrap();
        assert_eq!(holder.pid, std::process::id());
        assert!(holder.since.parse::<Timestamp>().is_ok(), "{holder}");
        assert_eq!(file.metadata().unwrap().len(), LENGTH as u64);
    }
}
