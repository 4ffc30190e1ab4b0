//! The runtime folder, reached through handles: no path below it leads through a symbolic link, and nothing in it is
//! opened that is neither a regular file nor a folder.

use std::fs::{DirBuilder, File};
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FallocateFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::StateError;
use super::fault::{Operation, check};

/// Of the folders that are made.
const FOLDER_MODE: u32 = 0o700;
/// Of the files that are made.
const FILE_MODE: u32 = 0o600;
/// Longest file that is read: the records of programs with the largest globals are a few megabytes.
const MAX_FILE: u64 = 256 << 20;
/// A file that is read into a buffer on the stack.
pub(super) const SHORT: usize = 16 << 10;
/// Folders in folders that are removed.
const MAX_DEPTH: usize = 8;

/// An open folder.
#[derive(Debug)]
pub(super) struct Dir {
    fd: OwnedFd,
    path: PathBuf,
}

impl Dir {
    /// Opens the runtime folder; `None` when there is none.
    pub(super) fn open(path: &Path) -> Result<Option<Self>, StateError> {
        let failed = StateError::io("opening", path);
        let opened = check(Operation::Open).and_then(|()| {
            // A link to it is followed when it is as trustworthy as the folder itself.
            let named = rustix::fs::lstat(path)?;
            Ok((named, rustix::fs::open(path, FOLDER, Mode::empty())?))
        });
        let (named, fd) = match opened {
            Ok(opened) => opened,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
                return Err(StateError::untrusted(path, "not a folder"));
            }
            Err(error) => return Err(failed(error)),
        };
        check_owner(path, &named)?;
        let dir = Self {
            fd,
            path: path.to_owned(),
        };
        dir.check()?;
        Ok(Some(dir))
    }

    /// Makes the runtime folder, and the folders above it.
    pub(super) fn create(path: &Path) -> Result<(), StateError> {
        let made = check(Operation::MakeFolder).and_then(|()| {
            DirBuilder::new()
                .recursive(true)
                .mode(FOLDER_MODE)
                .create(path)
        });
        made.map_err(StateError::io("making the folder", path))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Path of a file or folder in it, for messages.
    pub(super) fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Refuses a folder that others may change.
    fn check(&self) -> Result<(), StateError> {
        let found = rustix::fs::fstat(&self.fd);
        let found = found.map_err(|errno| StateError::io("reading", &self.path)(errno.into()))?;
        check_owner(&self.path, &found)?;
        let mode = Mode::from_raw_mode(found.st_mode);
        if mode.contains(Mode::WOTH) && !mode.contains(Mode::SVTX) {
            return Err(StateError::untrusted(
                &self.path,
                "a folder that everybody may write to",
            ));
        }
        Ok(())
    }

    /// Opens a folder in it; `None` when there is none.
    pub(super) fn folder(&self, name: &str) -> Result<Option<Self>, StateError> {
        let path = self.join(name);
        let opened = check(Operation::Open).and_then(|()| {
            let flags = FOLDER | OFlags::NOFOLLOW;
            Ok(rustix::fs::openat(&self.fd, name, flags, Mode::empty())?)
        });
        match opened {
            Ok(fd) => {
                let dir = Self { fd, path };
                dir.check()?;
                Ok(Some(dir))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) if is_link(&error) || error.kind() == io::ErrorKind::NotADirectory => {
                Err(StateError::untrusted(&path, "not a folder"))
            }
            Err(error) => Err(StateError::io("opening", &path)(error)),
        }
    }

    /// Opens a folder in it, or makes it.
    pub(super) fn make_folder(&self, name: &str) -> Result<Self, StateError> {
        if let Some(dir) = self.folder(name)? {
            return Ok(dir);
        }
        let path = self.join(name);
        let made = check(Operation::MakeFolder).and_then(|()| {
            let mode = Mode::from_raw_mode(FOLDER_MODE);
            match rustix::fs::mkdirat(&self.fd, name, mode) {
                Ok(()) | Err(Errno::EXIST) => Ok(()),
                Err(errno) => Err(errno.into()),
            }
        });
        made.map_err(StateError::io("making the folder", &path))?;
        let gone = || io::Error::from(io::ErrorKind::NotFound);
        self.folder(name)?
            .ok_or_else(|| StateError::io("opening", &path)(gone()))
    }

    /// Refuses anything but a folder of that name whose owner is trusted. None is fine.
    pub(super) fn check_folder(&self, name: &str) -> Result<(), StateError> {
        let path = self.join(name);
        match self.stat(name)? {
            None => Ok(()),
            Some(found) if kind(&found) != FileType::Directory => {
                Err(StateError::untrusted(&path, "not a folder"))
            }
            Some(found) => check_owner(&path, &found),
        }
    }

    /// What is there by that name, without following a link.
    pub(super) fn stat(&self, name: &str) -> Result<Option<Stat>, StateError> {
        match rustix::fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(found) => Ok(Some(found)),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(StateError::io("reading", &self.join(name))(errno.into())),
        }
    }

    /// Whether a regular file has that name.
    pub(super) fn has_file(&self, name: &str) -> Result<bool, StateError> {
        let found = self.stat(name)?;
        Ok(found.is_some_and(|found| kind(&found) == FileType::RegularFile))
    }

    /// Opens a file for reading and writing, or makes it.
    pub(super) fn make_file(
        &self,
        name: &str,
        operation: Operation,
    ) -> Result<(File, Stat), StateError> {
        if let Some(found) = self.file(name)? {
            return Ok(found);
        }
        let flags = OFlags::RDWR | OFlags::CREATE;
        let opened = self.open_file(name, flags, operation)?;
        let gone = || io::Error::from(io::ErrorKind::NotFound);
        opened.ok_or_else(|| StateError::io("opening", &self.join(name))(gone()))
    }

    /// Makes a file that is not there yet; `None` when it is.
    pub(super) fn new_file(&self, name: &str) -> Result<Option<File>, StateError> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL;
        match self.open_file(name, flags, Operation::Create) {
            Ok(opened) => Ok(opened.map(|(file, _)| file)),
            Err(StateError::Io { source, .. }) if source.kind() == io::ErrorKind::AlreadyExists => {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Makes a file without a name, for [`Dir::link`].
    pub(super) fn unnamed_file(&self) -> io::Result<File> {
        check(Operation::Create)?;
        let flags = OFlags::RDWR | OFlags::TMPFILE | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(FILE_MODE);
        Ok(rustix::fs::openat(&self.fd, ".", flags, mode)?.into())
    }

    /// Gives it a name; whether that was free.
    pub(super) fn link(&self, file: &File, name: &str) -> io::Result<bool> {
        let from = format!("/proc/self/fd/{}", file.as_raw_fd());
        let flags = AtFlags::SYMLINK_FOLLOW;
        match rustix::fs::linkat(rustix::fs::CWD, from, &self.fd, name, flags) {
            Ok(()) => Ok(true),
            Err(Errno::EXIST) => Ok(false),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Opens a file for reading and writing; `None` when there is none.
    pub(super) fn file(&self, name: &str) -> Result<Option<(File, Stat)>, StateError> {
        self.open_file(name, OFlags::RDWR, Operation::Open)
    }

    /// The bytes of a file; `None` when there is none.
    pub(super) fn read(&self, name: &str) -> Result<Option<Vec<u8>>, StateError> {
        let Some((file, found)) = self.open_file(name, OFlags::RDONLY, Operation::Open)? else {
            return Ok(None);
        };
        // One byte more than there is, so that one call finds the end.
        let size = usize::try_from(found.st_size).unwrap_or_default();
        let mut bytes = Vec::with_capacity(size.min(1 << 20) + 1);
        let read = check(Operation::Read).and_then(|()| {
            let mut limited = file.take(MAX_FILE + 1);
            limited.read_to_end(&mut bytes)?;
            if bytes.len() as u64 > MAX_FILE {
                return Err(io::ErrorKind::FileTooLarge.into());
            }
            Ok(())
        });
        read.map_err(|error| StateError::io("reading", &self.join(name))(error))?;
        Ok(Some(bytes))
    }

    /// The bytes of a short file by three system calls, where `read` takes five: a list reads hundreds. `None` when it is
    /// gone, long or odd: `read` tells which.
    pub(super) fn read_short<'a>(
        &self,
        name: &str,
        buffer: &'a mut [u8; SHORT],
    ) -> Option<&'a [u8]> {
        let flags = OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
        let read = check(Operation::Read).and_then(|()| {
            let fd = rustix::fs::openat(&self.fd, name, flags, Mode::empty())?;
            Ok(rustix::io::read(&fd, buffer.as_mut_slice())?)
        });
        match read {
            Ok(length) if length < SHORT => buffer.get(..length),
            _ => None,
        }
    }

    fn open_file(
        &self,
        name: &str,
        flags: OFlags,
        operation: Operation,
    ) -> Result<Option<(File, Stat)>, StateError> {
        // Without O_NONBLOCK, opening a FIFO waits for its other end.
        let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
        let opened = check(operation).and_then(|()| {
            let mode = Mode::from_raw_mode(FILE_MODE);
            let fd = rustix::fs::openat(&self.fd, name, flags, mode)?;
            let found = rustix::fs::fstat(&fd)?;
            Ok((File::from(fd), found))
        });
        let path = || self.join(name);
        match opened {
            Ok((_, found)) if kind(&found) != FileType::RegularFile => {
                Err(StateError::untrusted(&path(), "not a regular file"))
            }
            Ok((file, found)) => {
                check_owner_of(path, &found)?;
                Ok(Some((file, found)))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            // A folder, a FIFO that nobody reads, a socket or a link.
            Err(error)
                if is_link(&error)
                    || error.kind() == io::ErrorKind::IsADirectory
                    || error.raw_os_error() == Some(libc::ENXIO) =>
            {
                Err(StateError::untrusted(&path(), "not a regular file"))
            }
            Err(error) => Err(StateError::io("opening", &path())(error)),
        }
    }

    /// Makes file `name`, or replaces it if it exists, in one step: `file` is renamed.
    pub(super) fn put(&self, file: &str, to: &Self, name: &str) -> Result<(), StateError> {
        let renamed = check(Operation::Rename)
            .and_then(|()| Ok(rustix::fs::renameat(&self.fd, file, &to.fd, name)?));
        renamed.map_err(|error| StateError::io("making", &to.join(name))(error))
    }

    /// Removes a file; one that is gone already is no error.
    pub(super) fn remove(&self, name: &str) -> Result<(), StateError> {
        self.unlink(name, AtFlags::empty())
    }

    fn unlink(&self, name: &str, flags: AtFlags) -> Result<(), StateError> {
        let removed = check(Operation::Remove).and_then(|()| {
            match rustix::fs::unlinkat(&self.fd, name, flags) {
                Ok(()) | Err(Errno::NOENT) => Ok(()),
                Err(errno) => Err(errno.into()),
            }
        });
        removed.map_err(|error| StateError::io("removing", &self.join(name))(error))
    }

    /// Removes a folder with all that is in it, or a file.
    pub(super) fn remove_tree(&self, name: &str) -> Result<(), StateError> {
        self.remove_below(name, MAX_DEPTH)
    }

    fn remove_below(&self, name: &str, depth: usize) -> Result<(), StateError> {
        match self.stat(name)? {
            None => return Ok(()),
            Some(found) if kind(&found) != FileType::Directory => return self.remove(name),
            Some(_) => {}
        }
        if let Some(depth) = depth.checked_sub(1)
            && let Some(folder) = self.folder(name)?
        {
            for name in folder.names()? {
                folder.remove_below(&name, depth)?;
            }
        }
        self.unlink(name, AtFlags::REMOVEDIR)
    }

    /// Names of what is in it, in no order. Those that are no UTF-8 are none of ours.
    pub(super) fn names(&self) -> Result<Vec<String>, StateError> {
        let read = check(Operation::Read).and_then(|()| {
            let mut names = Vec::new();
            for entry in rustix::fs::Dir::read_from(&self.fd)? {
                let entry = entry?;
                if let Ok(name) = entry.file_name().to_str()
                    && name != "."
                    && name != ".."
                {
                    names.push(name.to_owned());
                }
            }
            Ok(names)
        });
        read.map_err(StateError::io("listing", &self.path))
    }
}

/// How folders are opened.
const FOLDER: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::CLOEXEC);

fn kind(found: &Stat) -> FileType {
    FileType::from_raw_mode(found.st_mode)
}

/// What O_NOFOLLOW says of a symbolic link.
fn is_link(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::ELOOP)
}

fn check_owner(path: &Path, found: &Stat) -> Result<(), StateError> {
    check_owner_of(|| path.to_owned(), found)
}

/// Only root and the caller are trusted.
fn check_owner_of(path: impl FnOnce() -> PathBuf, found: &Stat) -> Result<(), StateError> {
    let owner = found.st_uid;
    if owner == 0 || owner == rustix::process::geteuid().as_raw() {
        return Ok(());
    }
    Err(StateError::Owner {
        path: path(),
        owner,
    })
}

/// Writes all of the bytes to a new or reserved file.
pub(super) fn write(file: &mut File, bytes: &[u8], operation: Operation) -> io::Result<()> {
    check(operation)?;
    file.write_all(bytes)
}

/// Gives a file room for `bytes` bytes without making it longer. Where the file system cannot, it has none.
pub(super) fn reserve(file: impl AsFd, found: &Stat, bytes: u64) -> io::Result<()> {
    /// Unit of `st_blocks`, whatever the file system's blocks are (stat(2)).
    const BLOCK: u64 = 512;
    if u64::try_from(found.st_blocks).unwrap_or_default() * BLOCK >= bytes {
        return Ok(());
    }
    check(Operation::Reserve)?;
    match rustix::fs::fallocate(file, FallocateFlags::KEEP_SIZE, 0, bytes) {
        Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// Whether a file system or a quota had no room: for bytes, or for files.
pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}
