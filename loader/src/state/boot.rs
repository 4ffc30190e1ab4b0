//! Which run of the machine records are of. Programs end with it, and then their ids are given to others; where the
//! runtime folder is on a disk, the records do not.

use std::fs;
use std::io;
use std::path::Path;

use log::warn;

use super::copy::Copy;
use super::{StateError, Store};

/// A new one at each start of the kernel.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
const FILE: &str = "boot_id";

/// Notes that the records are of this run.
pub(super) fn remember(dir: &Path) -> Result<(), StateError> {
    let Some(id) = running() else {
        return Ok(());
    };
    let path = dir.join(FILE);
    fs::write(&path, id).map_err(StateError::io("writing", &path))
}

/// Takes records and journal of a former run away. Without a note, they are of this one.
pub(super) fn forget_former(dir: &Path) -> Result<(), StateError> {
    let path = dir.join(FILE);
    let noted = match fs::read(&path) {
        Ok(noted) => noted,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(StateError::io("reading", &path)(error)),
    };
    if running().is_none_or(|id| id == noted) {
        return Ok(());
    }
    warn!(
        "the machine was started anew, which ended every eBPF program: forgetting the records in {}",
        dir.display()
    );
    // The note last: a process that dies here leaves the rest to the next one.
    Copy::in_dir(dir).discard()?;
    let (state, journal) = (Store::path(dir), dir.join("journal"));
    absent(fs::remove_dir_all(&state)).map_err(StateError::io("removing", &state))?;
    absent(fs::remove_file(&journal)).map_err(StateError::io("removing", &journal))?;
    absent(fs::remove_file(&path)).map_err(StateError::io("removing", &path))
}

fn running() -> Option<Vec<u8>> {
    fs::read(BOOT_ID).ok()
}

/// Takes what was not there for removed.
pub(super) fn absent(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}
