//! Folders whose content another user may have chosen: a store on a stick, in an archive, in a home directory.
//!
//! Every path below such a folder is opened one name at a time, relative to a handle, and no link is followed. A file is
//! opened without waiting, so that a FIFO cannot stop the process, and only when it is a regular file, so that a device
//! is not touched. A folder is changed only when it belongs to root or to the caller ([`Folder::check_owner`]): in any
//! other folder the owner may exchange a name between two system calls.

use std::fmt;
use std::fs::{DirBuilder, File};
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Mode, OFlags, RenameFlags, Stat, mkdirat, openat, renameat,
    renameat_with, statat, unlinkat,
};
use rustix::io::Errno;
use rustix::process::geteuid;

/// A folder, held open.
#[derive(Debug)]
pub(crate) struct Folder {
    handle: OwnedFd,
    path: PathBuf,
}

/// Why something in a folder is not used. It is the source of an [`io::Error`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unsafe {
    /// A link, FIFO, socket or device.
    #[error("expected {expected}, found {found}")]
    Kind {
        /// `a regular file` or `a folder`.
        expected: &'static str,
        /// What was found.
        found: &'static str,
    },
    /// A folder that is to be changed and belongs to another user.
    #[error("it belongs to user {owner}: expected {}", expected_owner(*.caller))]
    Owner {
        /// User id of the owner.
        owner: u32,
        /// User id of this process.
        caller: u32,
    },
    /// A file that is to be locked or written and has a second name somewhere.
    #[error("it has {links} hard links: expected one")]
    Links {
        /// How many names it has.
        links: u64,
    },
}

fn expected_owner(caller: u32) -> String {
    match caller {
        0 => "root".to_owned(),
        caller => format!("user {caller} or root"),
    }
}

impl Unsafe {
    /// The refusal that an error was made from.
    pub(crate) fn in_error(error: &io::Error) -> Option<&Self> {
        error.get_ref()?.downcast_ref()
    }
}

impl From<Unsafe> for io::Error {
    fn from(refusal: Unsafe) -> Self {
        Self::other(refusal)
    }
}

const FILE: &str = "a regular file";
const FOLDER: &str = "a folder";

impl Folder {
    /// The folder with this path, which the user named; links on the way to it are followed.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self {
            handle: openat(CWD, path, flags, Mode::empty())?,
            path: path.to_owned(),
        })
    }

    /// As [`open`](Self::open), `None` where there is none.
    pub(crate) fn find(path: &Path) -> io::Result<Option<Self>> {
        found(Self::open(path))
    }

    /// As [`open`](Self::open), and makes it (0700) with those above it that are missing.
    pub(crate) fn make(path: &Path) -> io::Result<Self> {
        if let Some(folder) = Self::find(path)? {
            return Ok(folder);
        }
        DirBuilder::new().recursive(true).mode(0o700).create(path)?;
        Self::open(path)
    }

    /// The path, for messages.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The path of something in it, for messages.
    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// A folder in it; `None` where there is none.
    pub(crate) fn folder(&self, name: &str) -> io::Result<Option<Self>> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match openat(&self.handle, name, flags, Mode::empty()) {
            Ok(handle) => Ok(Some(Self {
                handle,
                path: self.join(name),
            })),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(self.refusal(name, FOLDER).unwrap_or(error.into())),
        }
    }

    /// A folder in it that is to be changed: made (0700) where it is missing. This one's owner was checked.
    pub(crate) fn make_folder(&self, name: &str) -> io::Result<Self> {
        match mkdirat(&self.handle, name, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => {
                // On a read-only file system, where there is one: it says so when it is written to.
                if self.folder(name)?.is_none() {
                    return Err(error.into());
                }
            }
        }
        let folder = self
            .folder(name)?
            .ok_or_else(|| io::Error::from(Errno::NOENT))?;
        folder.check_owner()?;
        Ok(folder)
    }

    /// Refuses a folder that another user can change: what is done in it could be led elsewhere.
    pub(crate) fn check_owner(&self) -> io::Result<()> {
        let owner = rustix::fs::fstat(&self.handle)?.st_uid;
        let caller = geteuid().as_raw();
        if owner == 0 || owner == caller {
            return Ok(());
        }
        Err(Unsafe::Owner { owner, caller }.into())
    }

    /// A regular file in it, for reading; `None` where there is none.
    pub(crate) fn file(&self, name: &str) -> io::Result<Option<File>> {
        // A device is not even opened: that alone may do something.
        let Some(found) = self.stat(name)? else {
            return Ok(None);
        };
        is_file(&found)?;
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        match openat(&self.handle, name, flags, Mode::empty()) {
            Ok(handle) => regular(handle.into()).map(Some),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(self.refusal(name, FILE).unwrap_or(error.into())),
        }
    }

    /// A file in it that is only locked: made (0600) where it is missing. This folder's owner was checked.
    pub(crate) fn lock_file(&self, name: &str) -> io::Result<File> {
        if let Some(found) = self.stat(name)? {
            is_file(&found)?;
        }
        let flags =
            OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match openat(&self.handle, name, flags, Mode::RUSR | Mode::WUSR) {
            Ok(handle) => regular(handle.into())?,
            Err(error) => return Err(self.refusal(name, FILE).unwrap_or(error.into())),
        };
        match file.metadata()?.nlink() {
            0 | 1 => Ok(file),
            links => Err(Unsafe::Links { links }.into()),
        }
    }

    /// A new file in it (0600), for writing and reading.
    pub(crate) fn create(&self, name: &str) -> io::Result<File> {
        let flags =
            OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let handle = openat(&self.handle, name, flags, Mode::RUSR | Mode::WUSR)?;
        Ok(handle.into())
    }

    /// The content of a regular file in it, read once; `None` where there is none.
    ///
    /// # Errors
    ///
    /// As every file, and [`io::ErrorKind::FileTooLarge`] over `limit` bytes.
    pub(crate) fn read(&self, name: &str, limit: u64) -> io::Result<Option<Vec<u8>>> {
        let Some(file) = self.file(name)? else {
            return Ok(None);
        };
        read(&file, limit).map(Some)
    }

    /// Length of a regular file in it, in bytes; `None` where there is none.
    pub(crate) fn length(&self, name: &str) -> io::Result<Option<u64>> {
        let Some(found) = self.stat(name)? else {
            return Ok(None);
        };
        is_file(&found)?;
        Ok(Some(u64::try_from(found.st_size).unwrap_or(0)))
    }

    /// About a regular file in it; `None` where there is none.
    pub(crate) fn metadata(&self, name: &str) -> io::Result<Option<std::fs::Metadata>> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match openat(&self.handle, name, flags, Mode::empty()) {
            Ok(handle) => Ok(Some(regular(handle.into())?.metadata()?)),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether there is something of this name, whatever it is.
    pub(crate) fn has(&self, name: &str) -> io::Result<bool> {
        Ok(self.stat(name)?.is_some())
    }

    /// Names of the regular files in it, sorted.
    pub(crate) fn files(&self) -> io::Result<Vec<String>> {
        self.names(FileType::RegularFile)
    }

    /// Names of the folders in it, sorted.
    pub(crate) fn folders(&self) -> io::Result<Vec<String>> {
        self.names(FileType::Directory)
    }

    /// Names that are not UTF-8 are none of ours.
    fn names(&self, kind: FileType) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in Dir::new(self.reopened()?)? {
            let entry = entry?;
            let Ok(name) = entry.file_name().to_str() else {
                continue;
            };
            if name == "." || name == ".." {
                continue;
            }
            let found = match entry.file_type() {
                FileType::Unknown => self.stat(name)?.map(|found| file_type(&found)),
                found => Some(found),
            };
            if found == Some(kind) {
                names.push(name.to_owned());
            }
        }
        names.sort();
        Ok(names)
    }

    /// Renames something in it into another folder, in place of what has that name. Both owners were checked.
    pub(crate) fn rename(&self, name: &str, to: &Self, new: &str) -> io::Result<()> {
        Ok(renameat(&self.handle, name, &to.handle, new)?)
    }

    /// The same with `flags`.
    pub(crate) fn rename_with(
        &self,
        name: &str,
        to: &Self,
        new: &str,
        flags: RenameFlags,
    ) -> rustix::io::Result<()> {
        renameat_with(&self.handle, name, &to.handle, new, flags)
    }

    /// Removes a file in it, or a link itself. This folder's owner was checked.
    pub(crate) fn remove(&self, name: &str) -> io::Result<()> {
        Ok(unlinkat(&self.handle, name, AtFlags::empty())?)
    }

    /// Removes an empty folder in it. This folder's owner was checked.
    pub(crate) fn remove_folder(&self, name: &str) -> io::Result<()> {
        Ok(unlinkat(&self.handle, name, AtFlags::REMOVEDIR)?)
    }

    /// Waits until its names are on disk. Some network file systems cannot do this for a folder, and need not.
    pub(crate) fn sync(&self) -> io::Result<()> {
        match File::from(self.reopened()?).sync_all() {
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported
                ) =>
            {
                Ok(())
            }
            result => result,
        }
    }

    /// A handle that reads: the folder's own is only a place (`O_PATH`), as a folder may be searched and not be read.
    fn reopened(&self) -> io::Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(openat(&self.handle, ".", flags, Mode::empty())?)
    }

    fn stat(&self, name: &str) -> io::Result<Option<Stat>> {
        match statat(self.handle.as_fd(), name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(found) => Ok(Some(found)),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The refusal of what stands there instead of what is expected.
    fn refusal(&self, name: &str, expected: &'static str) -> Option<io::Error> {
        let kind = file_type(&self.stat(name).ok()??);
        let found = kind_name(kind);
        (found != expected).then(|| Unsafe::Kind { expected, found }.into())
    }
}

/// The rest of a file, [`io::ErrorKind::FileTooLarge`] over `limit` bytes. It may grow meanwhile: no more than that is
/// ever read.
pub(crate) fn read(file: &File, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let count = file.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    if count as u64 > limit {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    Ok(bytes)
}

fn found<T>(opened: io::Result<T>) -> io::Result<Option<T>> {
    match opened {
        Ok(opened) => Ok(Some(opened)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// What was opened, when it is a regular file: its name may mean something else than it did before.
fn regular(file: File) -> io::Result<File> {
    is_file(&rustix::fs::fstat(&file)?)?;
    Ok(file)
}

fn is_file(found: &Stat) -> io::Result<()> {
    match file_type(found) {
        FileType::RegularFile => Ok(()),
        kind => Err(Unsafe::Kind {
            expected: FILE,
            found: kind_name(kind),
        }
        .into()),
    }
}

fn file_type(found: &Stat) -> FileType {
    FileType::from_raw_mode(found.st_mode)
}

fn kind_name(kind: FileType) -> &'static str {
    match kind {
        FileType::RegularFile => FILE,
        FileType::Directory => FOLDER,
        FileType::Symlink => "a symbolic link",
        FileType::Fifo => "a FIFO",
        FileType::Socket => "a socket",
        FileType::CharacterDevice | FileType::BlockDevice => "a device",
        _ => "something else",
    }
}

impl fmt::Display for Folder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.path.display(), f)
    }
}

#[cfg(test)]
mod tests;
