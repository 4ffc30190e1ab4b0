//! The store of pulled images: an OCI image layout (image-spec 1.1, image-layout.md) that `skopeo`, `oras` and `crane`
//! read and write.
//!
//! ```text
//! oci-layout
//! index.json                  one entry a name (annotation `org.opencontainers.image.ref.name`: the whole reference)
//! blobs/sha256/<hex>          manifests, indexes, configurations, layers
//! .bpfman/lock                shared while somebody reads or writes, exclusive to remove what nobody needs
//! .bpfman/index.lock          exclusive while blobs get or lose their names and index.json is changed
//! .bpfman/tmp/                what is being written; renamed when it is whole and checked
//! .bpfman/damaged/<hex>       blobs whose content was not what their name says
//! .bpfman/pushed              which repositories got which blobs from this host
//! ```
//!
//! Reading writes nothing (but sets damaged blobs aside where it may), so that a store on read-only media works. It holds
//! the lock where there is one: nothing is removed under a reader ([`Store::reader`]). Blobs are read once, into memory,
//! and hashed there ([`Store::read`]). An image is on disk before the index names it, so that a crash leaves the old
//! index or a whole image.
//!
//! A store may belong to another user, who may put links, FIFOs and devices into it at any time: nothing in it is
//! followed, waited for or touched, and it is changed only when its folders belong to root or to the caller.
//!
//! What signatures proved is not kept in the store, which may come from elsewhere: [`Store::with_admissions`].

mod admission;
mod catalog;
mod change;
mod error;
mod gc;
pub(crate) mod index;
pub(crate) mod links;
mod lock;
mod pushed;
mod read;
mod signatures;
mod write;

use std::path::{Path, PathBuf};
use std::time::Duration;

pub use admission::Admission;
pub use catalog::{Held, State, StoredImage, StoredPlatform};
pub use error::{StoreAction, StoreError};
pub use gc::{FOREIGN_GRACE, Freed};
pub use index::{Entry, REFERENCE_ANNOTATION};
pub use lock::{Holder, LOCK_TIMEOUT};
pub use pushed::Pushed;
pub use read::Reader;
pub(crate) use write::LAYOUT;
pub use write::{Named, NewBlob, Writer};

use self::write::Folders;
use crate::digest::{Digest, VerifiedBytes};
use crate::folder::Folder;
use crate::reference::Reference;

/// Folder of the blobs, from the store's.
const BLOBS: [&str; 2] = ["blobs", "sha256"];
/// Folder of what only bpfman reads.
const OWN: &str = ".bpfman";
/// Folder of damaged blobs, in [`OWN`].
const DAMAGED: &str = "damaged";
/// The index of the layout.
const INDEX: &str = "index.json";

/// A store in a folder.
#[derive(Debug, Clone)]
pub struct Store {
    dir: PathBuf,
    /// Where this host keeps what it admitted.
    admissions: Option<PathBuf>,
    lock_timeout: Duration,
}

impl Store {
    /// The store in this folder. Nothing is read or made yet: the folder is made (0700) at the first write.
    pub fn open(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            admissions: None,
            lock_timeout: LOCK_TIMEOUT,
        }
    }

    /// The same store, whose locks are waited for at most this long.
    #[must_use]
    pub fn with_lock_timeout(mut self, timeout: Duration) -> Self {
        self.lock_timeout = timeout;
        self
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Every entry of the index, in its order. A store that does not exist has none.
    ///
    /// # Errors
    ///
    /// When `index.json` cannot be read, is no index, or is larger than its cap.
    pub fn entries(&self) -> Result<Vec<Entry>, StoreError> {
        Ok(self.index()?.entries())
    }

    fn index(&self) -> Result<index::Index, StoreError> {
        index::read(self.folder(&[])?.as_ref())
    }

    /// What a reference names in this store: by its digest where it has one (a blob of that digest, whoever named it),
    /// else the entry whose annotation means the same reference.
    ///
    /// # Errors
    ///
    /// As [`entries`](Self::entries).
    pub fn find(&self, reference: &Reference) -> Result<Option<Digest>, StoreError> {
        if let Some(digest) = reference.digest() {
            return Ok(self.has(digest)?.then_some(digest));
        }
        let entries = self.entries()?;
        Ok(entries
            .into_iter()
            .find(|entry| entry.reference.as_ref() == Some(reference))
            .map(|entry| entry.digest))
    }

    /// Whether there is a blob of this name, whatever its content.
    pub(crate) fn has(&self, digest: Digest) -> Result<bool, StoreError> {
        let Some(blobs) = self.blobs()? else {
            return Ok(false);
        };
        let name = digest.hex();
        let found = blobs.length(&name);
        let failed = |source| StoreError::io(StoreAction::Read, &blobs.join(&name), source);
        Ok(found.map_err(failed)?.is_some())
    }

    /// A blob, read once into memory and hashed there; `None` when the store does not have it.
    ///
    /// # Errors
    ///
    /// [`StoreError::Damaged`] when its content is not what its name says: it is then set aside. [`StoreError::TooLarge`]
    /// over `limit` bytes. [`StoreError::Io`] when it cannot be read, or is no regular file.
    pub fn read(&self, digest: Digest, limit: u64) -> Result<Option<VerifiedBytes>, StoreError> {
        let Some(blobs) = self.blobs()? else {
            return Ok(None);
        };
        let mut found = match hashed(&blobs, digest, limit)? {
            None => return Ok(None),
            Some(Ok(bytes)) => return Ok(Some(bytes)),
            Some(Err(found)) => found,
        };
        // A writer may have put a good one there meanwhile. Under the lock nobody does, so it is read again.
        let folders = self.folders().ok();
        let locked = folders.as_ref().and_then(|folders| {
            let lock = self.try_lock_index(folders)?;
            Some((folders, lock))
        });
        if locked.is_some()
            && let Some(now) = hashed(&blobs, digest, limit)?
        {
            match now {
                Ok(bytes) => return Ok(Some(bytes)),
                Err(now) => found = now,
            }
        }
        let aside = locked.and_then(|(folders, _lock)| set_aside(folders, digest));
        Err(StoreError::Damaged {
            digest,
            found,
            path: blobs.join(&digest.hex()),
            aside,
        })
    }

    /// A folder of the store, for reading; `None` where there is none.
    fn folder(&self, names: &[&str]) -> Result<Option<Folder>, StoreError> {
        let failed = |path: &Path, source| StoreError::io(StoreAction::Read, path, source);
        let Some(mut folder) = Folder::find(&self.dir).map_err(|error| failed(&self.dir, error))?
        else {
            return Ok(None);
        };
        for name in names {
            let next = folder.folder(name);
            match next.map_err(|error| failed(&folder.join(name), error))? {
                Some(next) => folder = next,
                None => return Ok(None),
            }
        }
        Ok(Some(folder))
    }

    fn blobs(&self) -> Result<Option<Folder>, StoreError> {
        self.folder(&BLOBS)
    }
}

/// A blob, read once and hashed: its bytes, or the digest that they have instead; `None` when it is not there.
fn hashed(
    blobs: &Folder,
    digest: Digest,
    limit: u64,
) -> Result<Option<Result<VerifiedBytes, Digest>>, StoreError> {
    let name = digest.hex();
    let failed = |source| StoreError::io(StoreAction::Read, &blobs.join(&name), source);
    let Some(file) = blobs.file(&name).map_err(failed)? else {
        return Ok(None);
    };
    let found = file.metadata().map_err(failed)?.len();
    if found > limit {
        let path = blobs.join(&name);
        return Err(StoreError::TooLarge { path, found, limit });
    }
    let bytes = crate::folder::read(&file, limit).map_err(failed)?;
    Ok(Some(VerifiedBytes::with_digest(bytes, digest)))
}

/// Where a damaged blob was moved to, if it could be. The caller holds the index's lock.
fn set_aside(folders: &Folders, digest: Digest) -> Option<PathBuf> {
    let damaged = folders.own.make_folder(DAMAGED).ok()?;
    let name = digest.hex();
    folders.blobs.rename(&name, &damaged, &name).ok()?;
    Some(damaged.join(&name))
}
