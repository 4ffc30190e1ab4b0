use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::digest::Digest;
use crate::platform::Platform;
use crate::reference::Reference;
use crate::store::index::Index;
use crate::store::{Store, StoreAction, StoreError};

/// `oci-layout`, as image-layout.md has it.
pub(crate) const LAYOUT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;

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
    /// What it is for, when it is one image.
    pub platform: Option<&'a Platform>,
}

/// A blob on its way into the store; dropped before it is committed, it leaves nothing.
#[derive(Debug)]
pub struct NewBlob {
    /// `None` after [`close`](Self::close).
    file: Option<File>,
    path: PathBuf,
    committed: bool,
}

/// How many files are waited for at once, each by a thread: an image has four.
const FLUSHED_AT_ONCE: usize = 32;

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
        Ok(Writer::holding(self, self.lock_to_write()?))
    }

    /// The lock of a [`writer`](Self::writer).
    pub(crate) fn lock_to_write(&self) -> Result<File, StoreError> {
        let (path, lock) = self.prepare_to_write()?;
        lock.lock_shared()
            .map_err(|source| StoreError::io(StoreAction::Lock, &path, source))?;
        Ok(lock)
    }

    /// The same, `None` where it would have to be waited for.
    pub(crate) fn try_lock_to_write(&self) -> Result<Option<File>, StoreError> {
        let (path, lock) = self.prepare_to_write()?;
        match lock.try_lock_shared() {
            Ok(()) => Ok(Some(lock)),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(source)) => {
                Err(StoreError::io(StoreAction::Lock, &path, source))
            }
        }
    }

    /// As [`prepare`](Self::prepare), and removes what dead writers left where nobody else is.
    fn prepare_to_write(&self) -> Result<(PathBuf, File), StoreError> {
        let (path, lock) = self.prepare()?;
        let failed = |source| StoreError::io(StoreAction::Lock, &path, source);
        match lock.try_lock() {
            Ok(()) => {
                clean(&self.tmp_dir());
                lock.unlock().map_err(failed)?;
            }
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        }
        Ok((path, lock))
    }

    /// Waits until nobody reads or writes, and keeps everybody out as long as the value lives.
    pub(super) fn alone(&self) -> Result<Writer<'_>, StoreError> {
        let (path, lock) = self.prepare()?;
        lock.lock()
            .map_err(|source| StoreError::io(StoreAction::Lock, &path, source))?;
        clean(&self.tmp_dir());
        Ok(Writer {
            store: self,
            _lock: lock,
        })
    }

    /// Makes the folders that are missing, and opens the lock.
    fn prepare(&self) -> Result<(PathBuf, File), StoreError> {
        for dir in [&self.tmp_dir(), &self.blob_dir()] {
            make_dir(dir).map_err(|source| StoreError::io(StoreAction::Make, dir, source))?;
        }
        let path = self.lock_path();
        let lock = open_lock(&path)?;
        Ok((path, lock))
    }

    /// Leave to rename blobs and to change `index.json`, if nobody else has it.
    pub(super) fn try_lock_index(&self) -> Option<File> {
        let lock = open_lock(&self.own_dir().join("index.lock")).ok()?;
        lock.try_lock().is_ok().then_some(lock)
    }

    /// Waits for leave to rename blobs and to change `index.json`.
    pub(super) fn lock_index(&self) -> Result<File, StoreError> {
        let path = self.own_dir().join("index.lock");
        let lock = open_lock(&path)?;
        lock.lock()
            .map_err(|source| StoreError::io(StoreAction::Lock, &path, source))?;
        Ok(lock)
    }

    pub(super) fn tmp_dir(&self) -> PathBuf {
        self.own_dir().join("tmp")
    }
}

impl<'a> Writer<'a> {
    /// With the lock of this store.
    pub(crate) fn holding(store: &'a Store, lock: File) -> Self {
        Self { store, _lock: lock }
    }
}

impl Writer<'_> {
    /// A new blob, empty.
    ///
    /// # Errors
    ///
    /// [`StoreError::Io`] when no file can be made.
    pub fn blob(&self) -> Result<NewBlob, StoreError> {
        NewBlob::in_dir(&self.store.tmp_dir())
    }

    /// Puts images into the store: their blobs, and the names for them. The caller has checked that each blob has its
    /// digest. Other names stay, whoever wrote them.
    ///
    /// Everything is on disk before the first rename, the index is put into its place last, and the names are on disk at
    /// the end: a crash leaves the old index or a whole image. (Renames of one file system reach the disk in order on
    /// ext4, xfs and btrfs.)
    ///
    /// # Errors
    ///
    /// When the index cannot be locked or read, or something cannot be written to disk or renamed. The index is then
    /// as it was.
    pub fn commit(
        &self,
        blobs: Vec<(NewBlob, Digest)>,
        named: &[Named<'_>],
    ) -> Result<(), StoreError> {
        let mut files: Vec<(NewBlob, PathBuf)> = Vec::new();
        for (blob, digest) in blobs {
            files.push((blob, self.store.blob_path(digest)));
        }
        let layout = self.store.dir.join("oci-layout");
        if !layout.exists() {
            files.push((self.small_file(LAYOUT)?, layout));
        }
        let mut change = |index: &mut Index| {
            let mut changed = false;
            for named in named {
                changed |= index.name(named);
            }
            Ok(changed)
        };
        let prepared = self.prepare_index(&mut change)?;
        let changed = prepared.file.is_some() || !files.is_empty();
        // Before anybody is kept waiting by the lock.
        sync(&files, prepared.file.as_ref())?;
        let _lock = self.store.lock_index()?;
        for (file, path) in files {
            file.place(&path)?;
        }
        self.place_index(prepared, &mut change)?;
        if changed {
            self.sync_folders()?;
        }
        Ok(())
    }

    pub(super) fn store(&self) -> &Store {
        self.store
    }

    pub(super) fn index_file(&self, index: &Index) -> Result<NewBlob, StoreError> {
        let bytes = serde_json::to_vec(index).map_err(|source| StoreError::Index {
            path: self.store.index_path(),
            source,
        })?;
        self.small_file(&bytes)
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
fn sync(files: &[(NewBlob, PathBuf)], index: Option<&NewBlob>) -> Result<(), StoreError> {
    let all: Vec<&NewBlob> = files.iter().map(|(file, _)| file).chain(index).collect();
    let failed = |path| move |source| StoreError::io(StoreAction::Write, path, source);
    for some in all.chunks(FLUSHED_AT_ONCE) {
        let Some((here, others)) = some.split_last() else {
            continue;
        };
        std::thread::scope(|scope| {
            let waiting: Vec<_> = others
                .iter()
                .map(|file| (&file.path, scope.spawn(|| file.sync())))
                .collect();
            here.sync().map_err(failed(&here.path))?;
            waiting.into_iter().try_for_each(|(path, thread)| {
                let synced = thread
                    .join()
                    .unwrap_or_else(|_| Err(io::Error::other("the waiting thread died")));
                synced.map_err(failed(path))
            })
        })?;
    }
    Ok(())
}

impl NewBlob {
    /// A new file in this folder, empty, with a name that nobody else has.
    pub(super) fn in_dir(dir: &Path) -> Result<Self, StoreError> {
        loop {
            let path = dir.join(format!(
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
                    return Ok(Self {
                        file: Some(file),
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

    /// The file, at its start: for reading what was written.
    ///
    /// # Errors
    ///
    /// [`StoreError::Io`] when it cannot be rewound.
    pub fn reader(&mut self) -> Result<&File, StoreError> {
        let failed = |source| StoreError::io(StoreAction::Read, &self.path, source);
        let file = match self.file.take() {
            Some(file) => file,
            None => File::open(&self.path).map_err(failed)?,
        };
        let file = self.file.insert(file);
        file.rewind().map_err(failed)?;
        Ok(file)
    }

    /// Closes the file until it is read or committed, so that an import of many blobs does not need as many open files.
    pub(crate) fn close(&mut self) {
        self.file = None;
    }

    /// Gives the file its name, whether or not its content is on disk yet.
    pub(super) fn place(mut self, path: &Path) -> Result<(), StoreError> {
        fs::rename(&self.path, path)
            .map_err(|source| StoreError::io(StoreAction::Write, path, source))?;
        self.committed = true;
        Ok(())
    }

    /// Where it is now.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// It has another name.
    pub(super) fn placed(mut self) {
        self.committed = true;
    }

    /// Waits until the content is on disk.
    pub(super) fn sync(&self) -> io::Result<()> {
        match &self.file {
            Some(file) => file.sync_data(),
            None => File::open(&self.path)?.sync_data(),
        }
    }

    fn open(&mut self) -> io::Result<&mut File> {
        self.file
            .as_mut()
            .ok_or_else(|| io::Error::other("the file was closed"))
    }
}

impl Write for NewBlob {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.open()?.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.open()?.flush()
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
