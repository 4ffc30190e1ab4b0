use std::fs::File;

use crate::store::Store;

/// Leave to read: as long as this lives, nothing is removed from the store.
#[derive(Debug)]
pub struct Reader {
    lock: Option<File>,
}

impl Store {
    /// Waits for leave to read; only the removal of images is ever waited for.
    ///
    /// Writes nothing. Where there is no lock, as in a store that another tool filled, or none can be had (some network
    /// file systems), reading goes on without: then nobody has removed anything there yet.
    pub fn reader(&self) -> Reader {
        let lock = File::open(self.lock_path())
            .and_then(|file| file.lock_shared().map(|()| file))
            .ok();
        Reader { lock }
    }
}

impl Reader {
    /// Whether there is a lock that keeps everything where it is.
    pub(crate) fn is_safe(&self) -> bool {
        self.lock.is_some()
    }
}
