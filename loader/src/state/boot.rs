//! The boot that records are of. Programs end with it, and their ids are given to others; where the runtime folder is on
//! a disk, the records do not.

use std::fs;

use log::warn;

use super::StateError;
use super::dir::Dir;
use super::reserve::{Room, replace};
use super::{DATABASE, JOURNAL, RECORDS};

/// A new one at each start of the kernel.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
const FILE: &str = "boot_id";

/// Notes that the records are of this boot.
pub(super) fn remember(dir: &Dir) -> Result<(), StateError> {
    match running() {
        Some(id) => replace(dir, dir, FILE, &id, Room::Free),
        None => Ok(()),
    }
}

/// Removes records and journal of a previous boot. Without a note, they are of this one.
pub(super) fn forget_former(dir: &Dir) -> Result<(), StateError> {
    let Some(noted) = dir.read(FILE)? else {
        return Ok(());
    };
    if running().is_none_or(|id| id == noted) {
        return Ok(());
    }
    warn!(
        "discarding the records in {} from a previous boot, which ended every eBPF program",
        dir.path().display()
    );
    // The note last: a process that dies here leaves the rest to the next one.
    for name in [RECORDS, DATABASE, JOURNAL] {
        dir.remove_tree(name)?;
    }
    dir.remove(FILE)
}

fn running() -> Option<Vec<u8>> {
    fs::read(BOOT_ID).ok()
}
