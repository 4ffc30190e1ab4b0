use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::lock::{Lock, Mode};
use crate::digest::{Digest, VerifiedBytes};
use crate::folder::{Folder, Unsafe};
use crate::platform::Platform;
use crate::reference::Reference;
use crate::store::index::Index;
use crate::store::{BLOBS, INDEX, OWN, Store, StoreAction, StoreError};

/// `oci-layout`, as image-layout.md has it.
pub(crate) const LAYOUT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;

/// Name of the layout's mark.
const MARK: &str = "oci-layout";

/// The folders of a store that is changed: each is there, and belongs to root or to the caller.
#[derive(Debug)]
pub(super) struct Folders {
    pub(super) root: Folder,
    pub(super) blobs: Folder,
    pub(super) own: Folder,
    tmp: Arc<Folder>,
}

/// The lock of a [`Writer`], with the folders that it writes to.
#[derive(Debug)]
pub(crate) struct WriteLock {
    folders: Folders,
    _lock: Lock,
}

/// Leave to write to a store: the shared lock is held as long as this lives, so that nobody cleans up under it.
#[derive(Debug)]
pub struct Writer<'a> {
    store: &'a Store,
    lock: WriteLock,
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
    digest: Digest,
    file: NewFile,
}

/// A temporary file that goes unless it gets its name.
#[derive(Debug)]
pub(super) struct NewFile {
    /// `None` after [`close`](Self::close).
    file: Option<File>,
    folder: Arc<Folder>,
    name: String,
    committed: bool,
}

/// Where a file gets its name.
type Target<'a> = (&'a Folder, String);

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
    /// [`StoreError::Io`] when folders or files cannot be made or locked, or a folder belongs to another user.
    /// [`StoreError::Locked`] when images are being removed for longer than locks are waited for.
    pub fn writer(&self) -> Result<Writer<'_>, StoreError> {
        Ok(Writer::holding(self, self.lock_to_write()?))
    }

    /// The lock of a [`writer`](Self::writer).
    pub(crate) fn lock_to_write(&self) -> Result<WriteLock, StoreError> {
        let (folders, file) = self.prepare_to_write()?;
        let path = folders.own.join("lock");
        Ok(WriteLock {
            _lock: Lock::wait(file, &path, Mode::Shared, self.lock_timeout)?,
            folders,
        })
    }

    /// The same, `None` where it would have to be waited for.
    pub(crate) fn try_lock_to_write(&self) -> Result<Option<WriteLock>, StoreError> {
        let (folders, file) = self.prepare_to_write()?;
        let attempt = Lock::attempt(&file, Mode::Shared);
        let failed = |source| StoreError::io(StoreAction::Lock, &folders.own.join("lock"), source);
        Ok(attempt.map_err(failed)?.then(|| WriteLock {
            _lock: Lock::taken(file),
            folders,
        }))
    }

    /// The folders and the file of the lock. Removes what dead writers left where nobody else is.
    fn prepare_to_write(&self) -> Result<(Folders, File), StoreError> {
        let folders = self.folders()?;
        let file = open_lock(&folders, "lock")?;
        let failed = |source| StoreError::io(StoreAction::Lock, &folders.own.join("lock"), source);
        if Lock::attempt(&file, Mode::Exclusive).map_err(failed)? {
            clean(&folders.tmp);
            file.unlock().map_err(failed)?;
        }
        Ok((folders, file))
    }

    /// Waits until nobody reads or writes, and keeps everybody out as long as the value lives.
    pub(super) fn alone(&self) -> Result<Writer<'_>, StoreError> {
        let folders = self.folders()?;
        let file = open_lock(&folders, "lock")?;
        let path = folders.own.join("lock");
        let lock = Lock::wait(file, &path, Mode::Exclusive, self.lock_timeout)?;
        clean(&folders.tmp);
        Ok(Writer {
            store: self,
            lock: WriteLock {
                folders,
                _lock: lock,
            },
        })
    }

    /// The folders for a change; makes those that are missing.
    pub(super) fn folders(&self) -> Result<Folders, StoreError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| match Unsafe::in_error(&source) {
                Some(_) => StoreError::io(StoreAction::Change, &path, source),
                None => StoreError::io(StoreAction::Make, &path, source),
            }
        };
        let make = |parent: &Folder, name: &str| {
            let made = parent.make_folder(name);
            made.map_err(failed(&parent.join(name)))
        };
        let root = Folder::make(&self.dir).map_err(failed(&self.dir))?;
        root.check_owner().map_err(failed(&self.dir))?;
        let [blobs, sha256] = BLOBS;
        let own = make(&root, OWN)?;
        Ok(Folders {
            blobs: make(&make(&root, blobs)?, sha256)?,
            tmp: Arc::new(make(&own, "tmp")?),
            own,
            root,
        })
    }

    /// Leave to rename blobs and to change `index.json`, if nobody else has it.
    pub(super) fn try_lock_index(&self, folders: &Folders) -> Option<Lock> {
        let file = open_lock(folders, "index.lock").ok()?;
        let taken = Lock::attempt(&file, Mode::Exclusive).ok()?;
        taken.then(|| Lock::taken(file))
    }
}

impl<'a> Writer<'a> {
    /// With the lock of this store.
    pub(crate) fn holding(store: &'a Store, lock: WriteLock) -> Self {
        Self { store, lock }
    }
}

impl Writer<'_> {
    /// A new blob with this content.
    ///
    /// # Errors
    ///
    /// [`StoreError::Io`] when no file can be made or written.
    pub fn blob(&self, bytes: &VerifiedBytes) -> Result<NewBlob, StoreError> {
        let mut file = self.file(bytes)?;
        // An import of many blobs would need as many open files.
        file.file = None;
        Ok(NewBlob {
            digest: bytes.digest(),
            file,
        })
    }

    /// Puts images into the store: their blobs, and the names for them. Other names stay, whoever wrote them.
    ///
    /// Everything is on disk before the first rename, the index is put into its place last, and the names are on disk at
    /// the end: a crash leaves the old index or a whole image. (Renames of one file system reach the disk in order on
    /// ext4, xfs and btrfs.)
    ///
    /// # Errors
    ///
    /// When the index cannot be locked or read, or something cannot be written to disk or renamed. The index is then
    /// as it was.
    pub fn commit(&self, blobs: Vec<NewBlob>, named: &[Named<'_>]) -> Result<(), StoreError> {
        let Folders {
            root,
            blobs: folder,
            ..
        } = self.folders();
        let mut files: Vec<(NewFile, Target<'_>)> = Vec::new();
        for blob in blobs {
            files.push((blob.file, (folder, blob.digest.hex())));
        }
        let found = root.length(MARK);
        let failed = |source| StoreError::io(StoreAction::Read, &root.join(MARK), source);
        if found.map_err(failed)?.is_none() {
            files.push((self.file(LAYOUT)?, (root, MARK.to_owned())));
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
        let _lock = self.lock_index()?;
        for (file, (folder, name)) in files {
            file.place(folder, &name)?;
        }
        self.place_index(prepared, &mut change)?;
        if changed {
            self.sync_folders();
        }
        Ok(())
    }

    /// Waits for leave to rename blobs and to change `index.json`.
    pub(super) fn lock_index(&self) -> Result<Lock, StoreError> {
        let folders = self.folders();
        let file = open_lock(folders, "index.lock")?;
        let path = folders.own.join("index.lock");
        Lock::wait(file, &path, Mode::Exclusive, self.store.lock_timeout)
    }

    pub(super) fn folders(&self) -> &Folders {
        &self.lock.folders
    }

    pub(super) fn index_file(&self, index: &Index) -> Result<NewFile, StoreError> {
        let bytes = serde_json::to_vec(index).map_err(|source| StoreError::Index {
            path: self.folders().root.join(INDEX),
            source,
        })?;
        self.file(&bytes)
    }

    /// An empty file on the store's file system that has no name: its space is free again when it is closed.
    ///
    /// # Errors
    ///
    /// [`StoreError::Io`] when no file can be made.
    pub(crate) fn unnamed_file(&self) -> Result<File, StoreError> {
        let mut file = self.file(&[])?;
        let path = file.path();
        let handle = file.file.take().ok_or(io::ErrorKind::NotFound.into());
        handle.map_err(|source| StoreError::io(StoreAction::Make, &path, source))
    }

    /// A temporary file with this content.
    pub(super) fn file(&self, bytes: &[u8]) -> Result<NewFile, StoreError> {
        NewFile::new(&self.folders().tmp, bytes)
    }
}

/// Waits until files are on disk, all at once: a journal writes what comes together in one go, and one after the other
/// would cost a small pull more than everything else that it does.
fn sync(files: &[(NewFile, Target<'_>)], index: Option<&NewFile>) -> Result<(), StoreError> {
    let all: Vec<&NewFile> = files.iter().map(|(file, _)| file).chain(index).collect();
    let failed = |file: &NewFile| {
        let path = file.path();
        move |source| StoreError::io(StoreAction::Write, &path, source)
    };
    for some in all.chunks(FLUSHED_AT_ONCE) {
        let Some((here, others)) = some.split_last() else {
            continue;
        };
        std::thread::scope(|scope| {
            let waiting: Vec<_> = others
                .iter()
                .map(|file| {
                    let thread = std::thread::Builder::new();
                    (file, thread.spawn_scoped(scope, || file.sync()))
                })
                .collect();
            here.sync().map_err(failed(here))?;
            waiting.into_iter().try_for_each(|(file, thread)| {
                let synced = match thread {
                    Ok(thread) => thread
                        .join()
                        .unwrap_or_else(|_| Err(io::Error::other("the waiting thread died"))),
                    // The host has no thread left.
                    Err(_) => file.sync(),
                };
                synced.map_err(failed(file))
            })
        })?;
    }
    Ok(())
}

impl NewBlob {
    /// The digest of its content.
    pub(crate) fn digest(&self) -> Digest {
        self.digest
    }
}

impl NewFile {
    /// A new file in this folder, whose owner was checked, with a name that nobody else has.
    pub(super) fn new(folder: &Arc<Folder>, bytes: &[u8]) -> Result<Self, StoreError> {
        let mut new = loop {
            let name = format!("{}-{}", process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
            match folder.create(&name) {
                Ok(file) => {
                    break Self {
                        file: Some(file),
                        folder: Arc::clone(folder),
                        name,
                        committed: false,
                    };
                }
                // A process of the same number in another PID namespace.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(source) => {
                    return Err(StoreError::io(
                        StoreAction::Write,
                        &folder.join(&name),
                        source,
                    ));
                }
            }
        };
        let written = match &mut new.file {
            Some(file) => file.write_all(bytes),
            None => Ok(()),
        };
        written.map_err(|source| StoreError::io(StoreAction::Write, &new.path(), source))?;
        Ok(new)
    }

    /// Gives the file its name, whether or not its content is on disk yet.
    pub(super) fn place(mut self, folder: &Folder, name: &str) -> Result<(), StoreError> {
        self.folder
            .rename(&self.name, folder, name)
            .map_err(|source| StoreError::io(StoreAction::Write, &folder.join(name), source))?;
        self.committed = true;
        Ok(())
    }

    /// Where it is now.
    fn path(&self) -> PathBuf {
        self.folder.join(&self.name)
    }

    /// The folder that it is in, and its name there.
    pub(super) fn place_now(&self) -> (&Folder, &str) {
        (&self.folder, &self.name)
    }

    /// It has another name.
    pub(super) fn placed(mut self) {
        self.committed = true;
    }

    /// Waits until the content is on disk.
    pub(super) fn sync(&self) -> io::Result<()> {
        match &self.file {
            Some(file) => file.sync_data(),
            None => match self.folder.file(&self.name)? {
                Some(file) => file.sync_data(),
                None => Err(io::ErrorKind::NotFound.into()),
            },
        }
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if !self.committed {
            // What cannot be removed now is removed by the next writer.
            let _ = self.folder.remove(&self.name);
        }
    }
}

fn open_lock(folders: &Folders, name: &str) -> Result<File, StoreError> {
    let file = folders.own.lock_file(name);
    file.map_err(|source| StoreError::io(StoreAction::Lock, &folders.own.join(name), source))
}

/// Removes what is in the folder of temporary files. What cannot be removed is left for the next time.
fn clean(tmp: &Folder) {
    for name in tmp.files().into_iter().flatten() {
        let _ = tmp.remove(&name);
    }
}
