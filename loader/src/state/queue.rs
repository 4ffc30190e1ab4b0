//! The order in which processes that wait for the lock get it.
//!
//! Each has a ticket, a file in the folder `queue` that it locks: the lowest number is served next. The ticket of a
//! process that died is unlocked, and removed by one that waits. The lock itself is the file `lock`: a mistake here
//! costs the order, never the exclusion.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::MetadataExt as _;

use rustix::fs::{FlockOperation, flock};

use super::StateError;
use super::dir::Dir;

/// The folder.
const FOLDER: &str = "queue";
/// How often a number is tried that another process takes at the same time.
const ATTEMPTS: usize = 64;

/// Whether nobody waits.
pub(super) fn is_empty(dir: &Dir) -> Result<bool, StateError> {
    match dir.folder(FOLDER)? {
        None => Ok(true),
        Some(folder) => Ok(numbers(&folder)?.is_empty()),
    }
}

/// A place in the queue, given up when it is dropped.
#[derive(Debug)]
pub(super) struct Ticket {
    folder: Dir,
    number: u64,
    file: File,
    /// The ticket just before this one, when it was last looked at.
    ahead: Option<File>,
}

impl Ticket {
    /// Takes the place behind all others.
    pub(super) fn take(dir: &Dir) -> Result<Self, StateError> {
        let folder = dir.make_folder(FOLDER)?;
        for _ in 0..ATTEMPTS {
            let last = numbers(&folder)?.last().copied().unwrap_or(0);
            let number = last + 1;
            let Some(mut file) = locked_file(&folder, &number.to_string())? else {
                continue;
            };
            // Who waits, for `Ticket::is_stopped`.
            let _ = write!(file, "{}", std::process::id());
            return Ok(Self {
                folder,
                number,
                file,
                ahead: None,
            });
        }
        let busy = io::Error::from(io::ErrorKind::ResourceBusy);
        Err(StateError::io("queueing in", folder.path())(busy))
    }

    /// Whether somebody removed it, taking it for one of a process that died.
    pub(super) fn is_lost(&self) -> bool {
        is_removed(&self.file)
    }

    /// Whether nobody is before it who can take the lock.
    pub(super) fn is_first(&mut self) -> Result<bool, StateError> {
        if let Some(ahead) = &self.ahead
            && is_held(ahead)
        {
            return Ok(false);
        }
        self.ahead = None;
        let numbers = numbers(&self.folder)?;
        let before = numbers.into_iter().filter(|number| *number < self.number);
        for number in before.rev() {
            let name = number.to_string();
            let Some((file, _)) = self.folder.file(&name)? else {
                continue;
            };
            if is_held(&file) {
                if !is_stopped(&file) {
                    self.ahead = Some(file);
                    return Ok(false);
                }
            } else {
                self.folder.remove(&name)?;
            }
        }
        Ok(true)
    }

    /// Looks at the others again when it next asks whether it is first.
    pub(super) fn look_again(&mut self) {
        self.ahead = None;
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if !self.is_lost() {
            let _ = self.folder.remove(&self.number.to_string());
        }
    }
}

/// A file of that name, locked; `None` when another process has it.
fn locked_file(folder: &Dir, name: &str) -> Result<Option<File>, StateError> {
    let lock = |file: &File| flock(file, FlockOperation::NonBlockingLockExclusive).is_ok();
    // Locked before it has a name: nobody takes it for one of a process that died.
    if let Ok(file) = folder.unnamed_file()
        && lock(&file)
        && let Ok(linked) = folder.link(&file, name)
    {
        return Ok(linked.then_some(file));
    }
    // File systems without O_TMPFILE: whoever looks before it is locked may remove it.
    let file = folder.new_file(name)?;
    Ok(file.filter(|file| lock(file) && !is_removed(file)))
}

/// In ascending order.
fn numbers(folder: &Dir) -> Result<Vec<u64>, StateError> {
    let names = folder.names()?.into_iter();
    let mut numbers: Vec<u64> = names.filter_map(|name| name.parse().ok()).collect();
    numbers.sort_unstable();
    // No number of ours is that high, and none is to be above it.
    numbers.retain(|number| *number < u64::MAX);
    Ok(numbers)
}

/// Whether a living process has locked it.
fn is_held(ticket: &File) -> bool {
    flock(ticket, FlockOperation::NonBlockingLockShared).is_err()
}

fn is_removed(ticket: &File) -> bool {
    ticket.metadata().is_ok_and(|found| found.nlink() == 0)
}

/// Whether the process that waits with it was stopped (SIGSTOP, Ctrl-Z): it cannot take the lock.
fn is_stopped(ticket: &File) -> bool {
    use std::os::unix::fs::FileExt as _;

    let mut text = [0; 16];
    let state = || {
        let length = ticket.read_at(&mut text, 0).ok()?;
        let pid: u32 = std::str::from_utf8(text.get(..length)?)
            .ok()?
            .parse()
            .ok()?;
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name of the program, in brackets, may have any letters.
        stat.rsplit_once(") ")?.1.chars().next()
    };
    matches!({ state }(), Some('T' | 't'))
}
