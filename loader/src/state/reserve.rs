//! Replacing files, and room for it on a file system that is full.
//!
//! Detaching and unloading make files, too: the journal of the change, and the record of the chain that stays. Their
//! room is set aside while there is some, as a file that takes the new one's place.

use std::io;

use log::debug;

use super::StateError;
use super::dir::{Dir, is_full, reserve, write};
use super::fault::Operation;

/// A file before it gets its name.
const NEW: &str = "new";
/// The file with room set aside.
const RESERVE: &str = "reserve";
/// Its room, a page: the record of a chain is some hundred bytes.
const RESERVED: u64 = 4096;

/// Whether a file may take the room that was set aside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Room {
    /// No: it adds something.
    Free,
    /// Yes: it takes something away, or takes the place of another one.
    Reserved,
}

/// Makes a file in a folder of `root`, or replaces it, in one step.
pub(super) fn replace(
    root: &Dir,
    folder: &Dir,
    name: &str,
    bytes: &[u8],
    room: Room,
) -> Result<(), StateError> {
    match fill(root, NEW, bytes, (Operation::Create, Operation::Write)) {
        Ok(()) => root.put(NEW, folder, name),
        Err(StateError::Io { source, .. }) if room == Room::Reserved && is_full(&source) => {
            debug!(
                "{}: {source}: using the room set aside",
                root.path().display()
            );
            fill(
                root,
                RESERVE,
                bytes,
                (Operation::Reserve, Operation::Append),
            )?;
            root.put(RESERVE, folder, name)?;
            // The file that was replaced has left as much.
            if let Err(error) = set_aside(root) {
                debug!("no room is set aside: {error}");
            }
            Ok(())
        }
        Err(error) => Err(error),
    }
}

/// Sets room aside, unless that is done.
pub(super) fn set_aside(root: &Dir) -> Result<(), StateError> {
    let (file, found) = root.make_file(RESERVE, Operation::Reserve)?;
    let reserved = reserve(&file, &found, RESERVED);
    reserved.map_err(StateError::io("reserving room in", root.path()))
}

/// Gives a file these bytes. One that cannot have them is removed, unless it has room of its own.
fn fill(
    root: &Dir,
    name: &str,
    bytes: &[u8],
    (make, fill): (Operation, Operation),
) -> Result<(), StateError> {
    let (mut file, found) = root.make_file(name, make)?;
    let filled = (|| -> io::Result<()> {
        // Left by a process that died. The room set aside is not to be given back.
        if found.st_size != 0 {
            file.set_len(0)?;
        }
        write(&mut file, bytes, fill)
    })();
    filled.map_err(|error| {
        if name == NEW {
            let _ = root.remove(NEW);
        } else {
            let _ = file.set_len(0);
        }
        StateError::io("writing", &root.join(name))(error)
    })
}
