//! The lock file.

use std::fs::File;
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::StateError;

/// First pause. A command holds the lock for some milliseconds.
const FIRST_PAUSE: Duration = Duration::from_micros(200);
/// Longest pause: who waits longer between two tries than others loses to them again and again.
const LONGEST_PAUSE: Duration = Duration::from_millis(2);

/// Locks the file `path`, made when absent, waiting up to `patience`. The lock goes when the file is closed, or its
/// process dies.
pub(super) fn acquire(path: &Path, patience: Duration) -> Result<File, StateError> {
    let started = Instant::now();
    let mut pause = FIRST_PAUSE;
    loop {
        if let Some(file) = attempt(path)? {
            return Ok(file);
        }
        let waited = started.elapsed();
        if waited >= patience {
            return Err(StateError::Locked {
                path: path.to_owned(),
                waited,
            });
        }
        sleep(pause.min(patience - waited));
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

fn attempt(path: &Path) -> Result<Option<File>, StateError> {
    let failed = |doing| StateError::io(doing, path);
    let file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(failed("opening"))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(Errno::WOULDBLOCK | Errno::INTR) => return Ok(None),
        Err(errno) => return Err(failed("locking")(errno.into())),
    }
    // Somebody may have removed the folder while we waited: then this is a lock on nothing.
    let held = file.metadata().map_err(failed("reading"))?;
    match path.metadata() {
        Ok(named) if (named.dev(), named.ino()) == (held.dev(), held.ino()) => Ok(Some(file)),
        Ok(_) => Ok(None),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed("reading")(error)),
    }
}
