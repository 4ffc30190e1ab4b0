use super::lock::{Lock, Mode};
use super::{OWN, Store, StoreAction, StoreError};
use crate::folder::Unsafe;

/// Leave to read: as long as this lives, nothing is removed from the store.
#[derive(Debug)]
pub struct Reader {
    lock: Option<Lock>,
}

impl Store {
    /// Waits for leave to read; only the removal of images is ever waited for.
    ///
    /// Writes nothing. Where there is no lock, as in a store that another tool filled, or none can be had (some network
    /// file systems), reading goes on without: then nobody has removed anything there yet.
    ///
    /// # Errors
    ///
    /// [`StoreError::Locked`] when images are being removed for longer than locks are waited for. [`StoreError::Io`] when
    /// the lock or its folder is something else than a file and a folder.
    pub fn reader(&self) -> Result<Reader, StoreError> {
        let Some(own) = self.folder(&[OWN])? else {
            return Ok(Reader { lock: None });
        };
        let path = own.join("lock");
        let file = match own.file("lock") {
            Ok(Some(file)) => file,
            Err(source) if Unsafe::in_error(&source).is_some() => {
                return Err(StoreError::io(StoreAction::Lock, &path, source));
            }
            Ok(None) | Err(_) => return Ok(Reader { lock: None }),
        };
        match Lock::wait(file, &path, Mode::Shared, self.lock_timeout) {
            Ok(lock) => Ok(Reader { lock: Some(lock) }),
            Err(StoreError::Io { .. }) => Ok(Reader { lock: None }),
            Err(error) => Err(error),
        }
    }
}

impl Reader {
    /// Whether there is a lock that keeps everything where it is.
    pub(crate) fn is_safe(&self) -> bool {
        self.lock.is_some()
    }
}
