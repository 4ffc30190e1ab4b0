//! The lock file.

use std::fs::File;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use log::{debug, warn};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::StateError;
use super::dir::Dir;
use super::fault::Operation;
use super::holder::Holder;
use super::queue::{self, Ticket};

/// Its name.
const FILE: &str = "lock";
/// First pause. A command holds the lock for some milliseconds.
const FIRST_PAUSE: Duration = Duration::from_micros(200);
/// Longest pause of the one who is served next, and of those behind: the lock is not to lie idle between two of them.
const LONGEST_PAUSE: Duration = Duration::from_millis(2);
/// How often the whole queue is looked at, not only the ticket ahead: a process may have been stopped.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// A wait of which the user is told.
const LONG_WAIT: Duration = Duration::from_secs(1);

/// The runtime folder, with its lock held until the file is closed or its process dies.
#[derive(Debug)]
pub(super) struct Locked {
    pub(super) dir: Dir,
    pub(super) file: File,
}

/// One try.
enum Attempt {
    Locked(Locked),
    Held { lock: File },
    NoFolder,
}

/// Locks the runtime folder `path`, waiting up to `patience`; `None` when there is no such folder. Those who wait are
/// served in the order in which they came.
pub(super) fn acquire(path: &Path, patience: Duration) -> Result<Option<Locked>, StateError> {
    let started = Instant::now();
    let mut pause = FIRST_PAUSE;
    let mut ticket: Option<Ticket> = None;
    let mut looked = started;
    let mut told = false;
    loop {
        let Some(dir) = Dir::open(path)? else {
            return Ok(None);
        };
        if ticket.as_ref().is_some_and(Ticket::is_lost) {
            ticket = None;
        }
        let is_next = match &mut ticket {
            Some(ticket) => ticket.is_first()?,
            None => queue::is_empty(&dir)?,
        };
        let waited = started.elapsed();
        let mut holder = None;
        // Whoever is ahead and does not move is passed by in the end.
        if is_next || waited >= patience / 2 {
            match attempt(dir, path)? {
                Attempt::Locked(locked) => {
                    Holder::note(&locked.file);
                    return Ok(Some(locked));
                }
                Attempt::Held { lock } => holder = Holder::read(&lock),
                Attempt::NoFolder => continue,
            }
        }
        if waited >= patience {
            return Err(StateError::Locked {
                path: path.join(FILE),
                waited,
                holder,
            });
        }
        if ticket.is_none()
            && let Some(dir) = Dir::open(path)?
        {
            match Ticket::take(&dir) {
                Ok(taken) => {
                    ticket = Some(taken);
                    continue;
                }
                // Where the file system is full, whoever is quickest is next.
                Err(error) => debug!("waiting without a ticket: {error}"),
            }
        }
        if waited >= LONG_WAIT && !told {
            told = true;
            let lock = path.join(FILE);
            warn!(
                "waiting for {}: held by {}",
                lock.display(),
                named(holder_now(path).as_ref())
            );
        }
        if looked.elapsed() >= LOOK_AGAIN {
            looked = Instant::now();
            if let Some(ticket) = &mut ticket {
                ticket.look_again();
            }
        }
        sleep(pause.min(patience.saturating_sub(waited)));
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Who holds the lock, as a message names it.
pub(super) fn named(holder: Option<&Holder>) -> String {
    holder.map_or_else(|| "another process".to_owned(), Holder::to_string)
}

fn holder_now(path: &Path) -> Option<Holder> {
    let (lock, _) = Dir::open(path).ok()??.file(FILE).ok()??;
    Holder::read(&lock)
}

fn attempt(dir: Dir, path: &Path) -> Result<Attempt, StateError> {
    let (file, _) = dir.make_file(FILE, Operation::Create)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(Errno::WOULDBLOCK | Errno::INTR) => return Ok(Attempt::Held { lock: file }),
        Err(errno) => return Err(StateError::io("locking", &path.join(FILE))(errno.into())),
    }
    // Somebody may have removed the folder meanwhile: then this is a lock on nothing.
    let held = file.metadata();
    let held = held.map_err(StateError::io("reading", &path.join(FILE)))?;
    let named = Dir::open(path)?.map(|dir| dir.stat(FILE)).transpose()?;
    match named.flatten() {
        Some(named) if (named.st_dev, named.st_ino) == (held.dev(), held.ino()) => {
            Ok(Attempt::Locked(Locked { dir, file }))
        }
        _ => Ok(Attempt::NoFolder),
    }
}
