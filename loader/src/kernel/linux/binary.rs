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

use super::{KernelError, failed};
use crate::UprobePoint;
use crate::binary::{ld_so_cache, library, process_maps, symbol};
use crate::kernel::{ProbeError, UprobePlace};

const LD_SO_CACHE: &str = "/etc/ld.so.cache";

/// A file that was found.
struct Found {
    file: OwnedFd,
    /// Its path in the file system where it was looked up.
    path: PathBuf,
}

/// Where paths begin.
enum Root {
    Ours,
    Container(OwnedFd),
}

pub(super) fn place(point: &UprobePoint) -> Result<UprobePlace<OwnedFd>, KernelError> {
    let Found { file, path } = find(point)?;
    let file = File::from(file);
    let size = file
        .metadata()
        .map_err(failed(|| format!("looking at {}", path.display())))?
        .len();
    let offset = match &point.function {
        Some(name) => {
            let cache = ReadCache::new(&file);
            let function = symbol::find(&cache, name).map_err(|source| ProbeError::Symbol {
                path: path.clone(),
                source,
            })?;
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
            Some(file) => Ok(Found { file, path }),
            None => Err(ProbeError::NoBinary { path }.into()),
        };
    }
    if !library::is_name(target) {
        let target = target.to_owned();
        return Err(ProbeError::BinaryName { target }.into());
    }
    let mut looked = Vec::new();
    if let Some(pid) = point.pid {
        if let Some(found) = mapped(pid, target)? {
            return Ok(found);
        }
        looked.push(format!("/proc/{pid}/maps"));
    }
    if let Some(found) = cached(&root, target)? {
        return Ok(found);
    }
    looked.push(match point.container_pid {
        Some(pid) => format!("{LD_SO_CACHE} of process {pid}'s container"),
        None => LD_SO_CACHE.to_owned(),
    });
    let name = target.to_owned();
    Err(ProbeError::NoLibrary { name, looked }.into())
}

impl Root {
    fn of(container: Option<u32>) -> Result<Self, KernelError> {
        let Some(pid) = container else {
            return Ok(Self::Ours);
        };
        let folder = process(pid)?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::openat(&folder, "root", flags, Mode::empty());
        root.map(Self::Container)
            .map_err(|error| refused(pid, error.into()))
    }

    /// Opens a regular file; `None` when nothing is at the path. Nothing else is opened, not even for a moment: a
    /// container may have pipes and devices at its paths.
    fn open(&self, path: &Path) -> Result<Option<OwnedFd>, KernelError> {
        let call = || format!("opening {}", path.display());
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let found = match self {
            Self::Ours => rustix::fs::open(path, flags, Mode::empty()),
            // Symlinks with absolute paths, too, lead to what the container sees (kernel 5.6).
            Self::Container(root) => {
                let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
                rustix::fs::openat2(root, path, flags, Mode::empty(), resolve)
            }
        };
        match found.map_err(io::Error::from) {
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

/// From a descriptor that only names a file to one that reads it.
fn reopen(found: &OwnedFd, path: &Path) -> Result<OwnedFd, KernelError> {
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
fn process(pid: u32) -> Result<OwnedFd, KernelError> {
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
fn mapped(pid: u32, name: &str) -> Result<Option<Found>, KernelError> {
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
    let path = PathBuf::from(mapping.path);
    let link = format!("map_files/{:x}-{:x}", mapping.start, mapping.end);
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    match rustix::fs::openat(&folder, link, flags, Mode::empty()) {
        Ok(found) => {
            let file = reopen(&found, &path)?;
            Ok(Some(Found { file, path }))
        }
        // `map_files` takes CAP_SYS_ADMIN or CAP_CHECKPOINT_RESTORE (kernel 5.9), the path only the right to look.
        Err(_) => {
            let file = Root::of(Some(pid))?.open(&path)?;
            Ok(file.map(|file| Found { file, path }))
        }
    }
}

/// A library by the cache of the dynamic linker: the first for this machine's architecture, else the first that is
/// there.
fn cached(root: &Root, name: &str) -> Result<Option<Found>, KernelError> {
    let path = Path::new(LD_SO_CACHE);
    let Some(cache) = root.open(path)? else {
        return Ok(None);
    };
    let cache = read_capped(cache, ld_so_cache::MAX_BYTES)
        .map_err(failed(|| format!("reading {}", path.display())))?;
    let paths = ld_so_cache::find(&cache, name).map_err(|source| ProbeError::LdSoCache {
        path: path.to_owned(),
        source,
    })?;
    let mut first = None;
    for path in paths {
        let path = PathBuf::from(path);
        let Some(file) = root.open(&path)? else {
            continue;
        };
        let found = Found { file, path };
        if is_native(&found.file) {
            return Ok(Some(found));
        }
        first = first.or(Some(found));
    }
    Ok(first)
}

/// Whether a file has the ELF class and machine of this program itself.
fn is_native(file: &OwnedFd) -> bool {
    let ours = rustix::fs::open("/proc/self/exe", OFlags::RDONLY, Mode::empty());
    let Ok(ours) = ours else { return false };
    let ours = kind(&ours);
    ours.is_some() && ours == kind(file)
}

/// Class and machine (`e_ident[EI_CLASS]`, `e_machine`) of an ELF file.
fn kind(file: &OwnedFd) -> Option<(u8, [u8; 2])> {
    let mut header = [0_u8; 20];
    let read = rustix::io::pread(file, &mut header, 0).ok()?;
    let header = header.get(..read)?;
    if !header.starts_with(b"\x7fELF") {
        return None;
    }
    Some((*header.get(4)?, *header.get(18..)?.first_chunk()?))
}

/// Reads up to a limit; more than that is an error (`FileTooLarge`).
fn read_capped(file: OwnedFd, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = File::from(file).take(limit + 1).read_to_end(&mut bytes)?;
    if read as u64 > limit {
        return Err(ErrorKind::FileTooLarge.into());
    }
    Ok(bytes)
}
