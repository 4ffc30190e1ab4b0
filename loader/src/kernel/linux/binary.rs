//! Files of user space for uprobes: found, opened, and the place in them.
//!
//! A container's files are opened below its root (`/proc/<pid>/root`), symlinks and all, without entering its
//! namespaces. What was opened is what is read and probed, whatever is put at its path meanwhile.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use object::read::ReadCache;
use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags};

use super::{KernelError, debug_files, failed, libraries};
use crate::UprobePoint;
use crate::binary::{library, process_maps};
use crate::kernel::{ProbeError, UprobePlace};

/// Names in a folder that are looked at: 65536; Debian's largest folder of libraries has some 5000.
const MAX_FOLDER_ENTRIES: usize = 1 << 16;

/// A file that was found.
pub(super) struct Found {
    pub(super) file: OwnedFd,
    /// Its path in the file system where it was looked up.
    pub(super) path: PathBuf,
    /// That file system.
    pub(super) root: Root,
}

/// Where paths begin.
pub(super) enum Root {
    Ours,
    Container {
        folder: OwnedFd,
        /// Its path as this process sees it: what the kernel's paths of files in a chroot begin with.
        path: PathBuf,
    },
}

pub(super) fn place(point: &UprobePoint) -> Result<UprobePlace<OwnedFd>, KernelError> {
    let Found { file, path, root } = find(point)?;
    let file = File::from(file);
    let size = file
        .metadata()
        .map_err(failed(|| format!("looking at {}", path.display())))?
        .len();
    let offset = match &point.function {
        Some(name) => {
            let cache = ReadCache::new(&file);
            let function = debug_files::find(&file, &cache, &path, &root, name)?;
            if function.size != 0 && point.offset >= function.size {
                return Err(outside(point.offset, format!("`{name}`"), function.size));
            }
            function.offset.checked_add(point.offset)
        }
        None => Some(point.offset),
    };
    match offset.filter(|offset| *offset < size) {
        Some(offset) => Ok(UprobePlace {
            binary: file.into(),
            path,
            offset,
        }),
        None => Err(outside(point.offset, path.display().to_string(), size)),
    }
}

fn outside(offset: u64, what: String, size: u64) -> KernelError {
    ProbeError::OffsetOutside { offset, what, size }.into()
}

fn find(point: &UprobePoint) -> Result<Found, KernelError> {
    let target = point.target.as_str();
    let root = Root::of(point.container_pid)?;
    if let Some(pid) = point.pid {
        // A process that is not there is named before a library that it cannot have.
        process(pid)?;
    }
    if target.starts_with('/') {
        let path = PathBuf::from(target);
        return match root.open(&path)? {
            Some(file) => Ok(Found { file, path, root }),
            None => Err(ProbeError::NoBinary { path }.into()),
        };
    }
    if !library::is_name(target) {
        let target = target.to_owned();
        return Err(ProbeError::BinaryName { target }.into());
    }
    libraries::find(point, root, target)
}

impl Root {
    pub(super) fn of(container: Option<u32>) -> Result<Self, KernelError> {
        let Some(pid) = container else {
            return Ok(Self::Ours);
        };
        let process = process(pid)?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = rustix::fs::openat(&process, "root", flags, Mode::empty())
            .map_err(|error| refused(pid, error.into()))?;
        let path = read_link(&process, "root").unwrap_or_else(|| PathBuf::from("/"));
        Ok(Self::Container { folder, path })
    }

    /// A path as the kernel tells it to this process, as it is below this root.
    pub(super) fn below(&self, path: PathBuf) -> PathBuf {
        match self {
            Self::Ours => path,
            Self::Container { path: root, .. } => match path.strip_prefix(root) {
                Ok(rest) => Path::new("/").join(rest),
                Err(_) => path,
            },
        }
    }

    /// The path of an open file, with all links followed.
    pub(super) fn path_of(&self, file: &impl AsFd) -> Option<PathBuf> {
        let path = rustix::fs::readlinkat(CWD, descriptor_path(file), Vec::new()).ok()?;
        let path = PathBuf::from(path.into_string().ok()?);
        path.is_absolute().then(|| self.below(path))
    }

    /// The names in a folder, and whether each is a folder itself; none where it cannot be read.
    pub(super) fn names(&self, folder: &Path) -> Vec<(String, bool)> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let Ok(folder) = self.open_path(folder, flags) else {
            return Vec::new();
        };
        let entries = std::fs::read_dir(descriptor_path(&folder));
        let entries = entries.into_iter().flatten().flatten();
        let name = |entry: std::fs::DirEntry| {
            let folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
            Some((entry.file_name().into_string().ok()?, folder))
        };
        entries.take(MAX_FOLDER_ENTRIES).filter_map(name).collect()
    }

    fn open_path(&self, path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
        let found = match self {
            Self::Ours => rustix::fs::open(path, flags, Mode::empty()),
            // Symlinks with absolute paths, too, lead to what the container sees (kernel 5.6).
            Self::Container { folder, .. } => {
                let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
                rustix::fs::openat2(folder, path, flags, Mode::empty(), resolve)
            }
        };
        Ok(found?)
    }

    /// Opens a regular file; `None` when nothing is at the path. Nothing else is opened, not even for a moment: a
    /// container may have pipes and devices at its paths.
    pub(super) fn open(&self, path: &Path) -> Result<Option<OwnedFd>, KernelError> {
        let call = || format!("opening {}", path.display());
        match self.open_path(path, OFlags::PATH | OFlags::CLOEXEC) {
            Ok(found) => reopen(&found, path).map(Some),
            Err(error)
                if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) =>
            {
                Ok(None)
            }
            Err(error) => Err(failed(call)(error)),
        }
    }
}

/// A link's target.
pub(super) fn read_link(folder: &impl AsFd, name: &str) -> Option<PathBuf> {
    let path = rustix::fs::readlinkat(folder, name, Vec::new()).ok()?;
    Some(PathBuf::from(path.into_string().ok()?))
}

/// From a descriptor that only names a file to one that reads it.
pub(super) fn reopen(found: &OwnedFd, path: &Path) -> Result<OwnedFd, KernelError> {
    let call = || format!("opening {}", path.display());
    let status = rustix::fs::fstat(found).map_err(failed(call))?;
    if FileType::from_raw_mode(status.st_mode) != FileType::RegularFile {
        let path = path.to_owned();
        return Err(ProbeError::NoRegularFile { path }.into());
    }
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    rustix::fs::open(descriptor_path(found), flags, Mode::empty()).map_err(failed(call))
}

/// A path that leads to what is open, under whatever name it is elsewhere.
pub(super) fn descriptor_path(file: &impl AsFd) -> String {
    format!("/proc/self/fd/{}", file.as_fd().as_raw_fd())
}

/// `/proc/<pid>`, held: another process that gets the number does not take its place.
pub(super) fn process(pid: u32) -> Result<OwnedFd, KernelError> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    match rustix::fs::openat(CWD, format!("/proc/{pid}"), flags, Mode::empty()) {
        Ok(folder) => Ok(folder),
        Err(rustix::io::Errno::NOENT) => Err(ProbeError::NoProcess { pid }.into()),
        Err(error) => Err(refused(pid, error.into())),
    }
}

fn refused(pid: u32, source: io::Error) -> KernelError {
    if matches!(source.raw_os_error(), Some(libc::ESRCH | libc::ENOENT)) {
        return ProbeError::NoProcess { pid }.into();
    }
    ProbeError::ProcessRefused { pid, source }.into()
}

/// A library that a process has mapped: the very file, even where its path leads elsewhere by now.
pub(super) fn mapped(pid: u32, name: &str) -> Result<Option<Found>, KernelError> {
    let folder = process(pid)?;
    let read = OFlags::RDONLY | OFlags::CLOEXEC;
    let maps = rustix::fs::openat(&folder, "maps", read, Mode::empty())
        .map_err(io::Error::from)
        .and_then(|maps| read_capped(maps, process_maps::MAX_BYTES))
        .map_err(|error| refused(pid, error))?;
    let maps = String::from_utf8_lossy(&maps);
    let Some(mapping) = process_maps::find(&maps, name) else {
        return Ok(None);
    };
    let root = Root::of(Some(pid))?;
    let path = root.below(PathBuf::from(mapping.path));
    let link = format!("map_files/{:x}-{:x}", mapping.start, mapping.end);
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    match rustix::fs::openat(&folder, link, flags, Mode::empty()) {
        Ok(found) => {
            let file = reopen(&found, &path)?;
            Ok(Some(Found { file, path, root }))
        }
        // `map_files` takes CAP_SYS_ADMIN or CAP_CHECKPOINT_RESTORE (kernel 5.9), the path only the right to look.
        Err(_) => {
            let file = root.open(&path)?;
            Ok(file.map(|file| Found { file, path, root }))
        }
    }
}

/// Reads up to a limit; more than that is an error (`FileTooLarge`).
pub(super) fn read_capped(file: OwnedFd, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = File::from(file).take(limit + 1).read_to_end(&mut bytes)?;
    if read as u64 > limit {
        return Err(ErrorKind::FileTooLarge.into());
    }
    Ok(bytes)
}
