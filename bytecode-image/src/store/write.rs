use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::digest::Digest;
use crate::reference::Reference;
use crate::store::{Store, StoreAction, StoreError, index};

/// `oci-layout`, as image-layout.md has it.
const LAYOUT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;

/// Leave to write to a store: the shared lock is held as long as this lives, so that nobody cleans up under it.
#[derive(Debug)]
pub struct Writer<'a> {
    store: &'a Store,
    _lock: File,
}

/// What a reference names from now on.
#[derive(Debug, Clone, Copy)]
pub struct Named<'a> {
    /// The name.
    pub reference: &'a Reference,
    /// Media type of the document.
    pub media_type: &'a str,
    /// Its digest.
    pub digest: Digest,
    /// Its length in bytes.
    pub size: u64,
}

/// A blob on its way into the store; dropped before it is committed, it leaves nothing.
#[derive(Debug)]
pub struct NewBlob {
    file: File,
    path: PathBuf,
    committed: bool,
}

/// Number of the next temporary file of this process.
static NEXT: AtomicU64 = AtomicU64::new(0);

impl Store {
    /// Makes the store where there is none, and waits for leave to write.
    ///
    /// When nobody else writes, what writers left that were killed is removed first.
    ///
    /// # Errors
    ///
    /// [`StoreError::Io`] when folders or files cannot be made or locked.
    pub fn writer(&self) -> Result<Writer<'_>, StoreError> {
        let tmp = self.own_dir().join("tmp");
        for dir in [&tmp, &self.blob_dir()] {
            make_dir(dir).map_err(|source| StoreError::io(StoreAction::Make, dir, source))?;
        }
        let path = self.own_dir().join("lock");
        let lock = open_lock(&path)?;
        let failed = |source| StoreError::io(StoreAction::Lock, &path, source);
        match lock.try_lock() {
            Ok(()) => {
                clean(&tmp);
                lock.unlock().map_err(failed)?;
            }
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        }
        lock.lock_shared().map_err(failed)?;
        Ok(Writer {
            store: self,
            _lock: lock,
        })
    }
}

impl Writer<'_> {
    /// A new blob, empty.
    ///
    /// # Errors
    ///
    /// [`StoreError::Io`] when no file can be made.
    pub fn blob(&self) -> Result<NewBlob, StoreError> {
        let tmp = self.store.own_dir().join("tmp");
        loop {
            let path = tmp.join(format!(
                "{}-{}",
                process::id(),
                NEXT.fetch_add(1, Ordering::Relaxed)
            ));
            match OpenOptions::new()
                .read(true)
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&path)
            {
                Ok(file) => {
                    return Ok(NewBlob {
                        file,
                        path,
                        committed: false,
                    });
                }
                // A process of the same number in another PID namespace.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(source) => return Err(StoreError::io(StoreAction::Write, &path, source)),
            }
        }
    }

    /// Puts an image into the store: its blobs, and the name for it. The caller has checked that each blob has its
    /// digest. Other names stay, whoever wrote them.
    ///
    /// Everything is on disk before the first rename, and the index is renamed last: a crash leaves the old index or
    /// a whole image. (Renames of one file system reach the disk in order on ext4, xfs and btrfs.)
    ///
    /// # Errors
    ///
    /// When the index cannot be locked or read, or something cannot be written to disk or renamed. The index is then
    /// as it was.
    pub fn commit(
        &self,
        blobs: Vec<(NewBlob, Digest)>,
        named: &Named<'_>,
    ) -> Result<(), StoreError> {
        let own = self.store.own_dir();
        let lock_path = own.join("index.lock");
        let lock = open_lock(&lock_path)?;
        lock.lock()
            .map_err(|source| StoreError::io(StoreAction::Lock, &lock_path, source))?;

        let mut files: Vec<(NewBlob, PathBuf)> = Vec::new();
        for (blob, digest) in blobs {
            files.push((blob, self.store.blob_path(digest)));
        }
        let layout = self.store.dir.join("oci-layout");
        if !layout.exists() {
            files.push((self.small_file(LAYOUT)?, layout));
        }
        let path = self.store.index_path();
        let mut index = index::read(&path)?;
        if index.name(named.reference, named.media_type, named.digest, named.size) {
            let bytes = serde_json::to_vec(&index).map_err(|source| StoreError::Index {
                path: path.clone(),
                source,
            })?;
            files.push((self.small_file(&bytes)?, path));
        }
        sync(&files)?;
        for (mut file, path) in files {
            fs::rename(&file.path, &path)
                .map_err(|source| StoreError::io(StoreAction::Write, &path, source))?;
            file.committed = true;
        }
        Ok(())
    }

    fn small_file(&self, bytes: &[u8]) -> Result<NewBlob, StoreError> {
        let mut file = self.blob()?;
        match file.write_all(bytes) {
            Ok(()) => Ok(file),
            Err(source) => Err(StoreError::io(StoreAction::Write, &file.path, source)),
        }
    }
}

/// Waits until files are on disk, all at once: a journal writes what comes together in one go, and one after the other
/// would cost a small pull more than everything else that it does.
fn sync(files: &[(NewBlob, PathBuf)]) -> Result<(), StoreError> {
    std::thread::scope(|scope| {
        let mut waiting = Vec::new();
        for (file, path) in files {
            waiting.push((path, scope.spawn(|| file.file.sync_data())));
        }
        waiting.into_iter().try_for_each(|(path, thread)| {
            let synced = thread
                .join()
                .unwrap_or_else(|_| Err(io::Error::other("the waiting thread died")));
            synced.map_err(|source| StoreError::io(StoreAction::Write, path, source))
        })
    })
}

impl NewBlob {
    /// The file, at its start: for reading what was written.
    ///
    /// # Errors
    ///
    /// [`StoreError::Io`] when it cannot be rewound.
    pub fn reader(&mut self) -> Result<&File, StoreError> {
        self.file
            .rewind()
            .map_err(|source| StoreError::io(StoreAction::Read, &self.path, source))?;
        Ok(&self.file)
    }
}

impl Write for NewBlob {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for NewBlob {
    fn drop(&mut self) {
        if !self.committed {
            // What cannot be removed now is removed by the next writer.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Makes a folder and those above it that are missing, 0700. Those that are there keep their modes.
pub(super) fn make_dir(dir: &Path) -> io::Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

fn open_lock(path: &Path) -> Result<File, StoreError> {
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(|source| StoreError::io(StoreAction::Lock, path, source))
}

/// Removes what is in the folder of temporary files. What cannot be removed is left for the next time.
fn clean(tmp: &Path) {
    for entry in fs::read_dir(tmp).into_iter().flatten().flatten() {
        let _ = fs::remove_file(entry.path());
    }
}
