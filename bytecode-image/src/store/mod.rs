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
//! the lock where there is one: nothing is removed under a reader ([`Store::reader`]). Blobs are hashed at every read.
//! An image is on disk before the index names it, so that a crash leaves the old index or a whole image.
//!
//! What signatures proved is not kept in the store, which may come from elsewhere: [`Store::with_admissions`].

mod admission;
mod catalog;
mod change;
mod error;
mod gc;
pub(crate) mod index;
pub(crate) mod links;
mod pushed;
mod read;
mod signatures;
mod write;

use std::fs::{self, File};
use std::io::{self, Read, Seek};
use std::path::{Path, PathBuf};

pub use admission::Admission;
pub use catalog::{Held, State, StoredImage, StoredPlatform};
pub use error::{StoreAction, StoreError};
pub use gc::{FOREIGN_GRACE, Freed};
pub use index::{Entry, REFERENCE_ANNOTATION};
pub use pushed::Pushed;
pub use read::Reader;
pub(crate) use write::LAYOUT;
pub use write::{Named, NewBlob, Writer};

use crate::digest::{Digest, Hasher};
use crate::reference::Reference;

/// A store in a folder.
#[derive(Debug, Clone)]
pub struct Store {
    dir: PathBuf,
    /// Where this host keeps what it admitted.
    admissions: Option<PathBuf>,
}

impl Store {
    /// The store in this folder. Nothing is read or made yet: the folder is made (0700) at the first write.
    pub fn open(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            admissions: None,
        }
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
        Ok(index::read(&self.index_path())?.entries())
    }

    /// What a reference names in this store: by its digest where it has one (a blob of that digest, whoever named it),
    /// else the entry whose annotation means the same reference.
    ///
    /// # Errors
    ///
    /// As [`entries`](Self::entries).
    pub fn find(&self, reference: &Reference) -> Result<Option<Digest>, StoreError> {
        if let Some(digest) = reference.digest() {
            return Ok(self.blob_path(digest).exists().then_some(digest));
        }
        let entries = self.entries()?;
        Ok(entries
            .into_iter()
            .find(|entry| entry.reference.as_ref() == Some(reference))
            .map(|entry| entry.digest))
    }

    /// A blob that was hashed and found right, open at its start; `None` when the store does not have it.
    ///
    /// # Errors
    ///
    /// [`StoreError::Damaged`] when its content is not what its name says: it is then set aside. [`StoreError::TooLarge`]
    /// over `limit` bytes. [`StoreError::Io`] when it cannot be read.
    pub fn blob(&self, digest: Digest, limit: u64) -> Result<Option<File>, StoreError> {
        let path = self.blob_path(digest);
        let Some((file, mut found)) = hashed(&path, limit)? else {
            return Ok(None);
        };
        if found == digest {
            return Ok(Some(file));
        }
        drop(file);
        // A writer may have put a good one there meanwhile. Under the lock nobody does, so it is looked at again.
        let lock = self.own_dir_made().and_then(|()| self.try_lock_index());
        if lock.is_some()
            && let Some((file, now)) = hashed(&path, limit)?
        {
            if now == digest {
                return Ok(Some(file));
            }
            found = now;
        }
        let aside = lock.and_then(|_lock| self.set_aside(&path, digest));
        Err(StoreError::Damaged {
            digest,
            found,
            path,
            aside,
        })
    }

    /// The content of [`blob`](Self::blob), in memory.
    ///
    /// # Errors
    ///
    /// As [`blob`](Self::blob).
    pub fn read(&self, digest: Digest, limit: u64) -> Result<Option<Vec<u8>>, StoreError> {
        let Some(mut file) = self.blob(digest, limit)? else {
            return Ok(None);
        };
        let mut bytes = Vec::new();
        let path = || self.blob_path(digest);
        file.read_to_end(&mut bytes)
            .map_err(|source| StoreError::io(StoreAction::Read, &path(), source))?;
        Ok(Some(bytes))
    }

    /// Where a damaged blob was moved to, if it could be: a store may be read-only. The caller holds the index's lock.
    fn set_aside(&self, path: &Path, digest: Digest) -> Option<PathBuf> {
        write::make_dir(&self.damaged_dir()).ok()?;
        let aside = self.damaged_path(digest);
        fs::rename(path, &aside).ok().map(|()| aside)
    }

    fn own_dir_made(&self) -> Option<()> {
        write::make_dir(&self.own_dir()).ok()
    }

    fn damaged_dir(&self) -> PathBuf {
        self.own_dir().join("damaged")
    }

    fn damaged_path(&self, digest: Digest) -> PathBuf {
        self.damaged_dir().join(digest.hex())
    }

    fn blob_dir(&self) -> PathBuf {
        self.dir.join("blobs").join("sha256")
    }

    fn blob_path(&self, digest: Digest) -> PathBuf {
        self.blob_dir().join(digest.hex())
    }

    fn index_path(&self) -> PathBuf {
        self.dir.join("index.json")
    }

    fn own_dir(&self) -> PathBuf {
        self.dir.join(".bpfman")
    }

    fn lock_path(&self) -> PathBuf {
        self.own_dir().join("lock")
    }
}

/// A file that was hashed, open at its start; `None` when it is not there.
fn hashed(path: &Path, limit: u64) -> Result<Option<(File, Digest)>, StoreError> {
    let failed = |source| StoreError::io(StoreAction::Read, path, source);
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let found = file.metadata().map_err(failed)?.len();
    if found > limit {
        let path = path.to_owned();
        return Err(StoreError::TooLarge { path, found, limit });
    }
    let mut hasher = Hasher::default();
    let mut buffer = [0; 16 << 10];
    loop {
        match file.read(&mut buffer).map_err(failed)? {
            0 => break,
            count => hasher.update(buffer.get(..count).unwrap_or_default()),
        }
    }
    file.rewind().map_err(failed)?;
    Ok(Some((file, hasher.finish())))
}
