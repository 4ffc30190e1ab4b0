//! The file that a library's name means, as the dynamic linker of the process or system would find it (ld.so(8)).

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use object::read::ReadCache;
use rustix::fs::{Mode, OFlags};

use super::binary::{Found, Root, mapped, process, read_capped, read_link};
use super::{KernelError, failed};
use crate::UprobePoint;
use crate::binary::{ld_so_cache, run_path};
use crate::kernel::ProbeError;

const LD_SO_CACHE: &str = "/etc/ld.so.cache";

/// Looks a library up: what the process has mapped, then along the run path of its program, then by the cache of the
/// dynamic linker, then in the folders that linkers look in without one.
pub(super) fn find(point: &UprobePoint, root: Root, name: &str) -> Result<Found, KernelError> {
    let mut looked = Vec::new();
    if let Some(pid) = point.pid {
        if let Some(found) = mapped(pid, name)? {
            return Ok(found);
        }
        looked.push(format!("/proc/{pid}/maps"));
    }
    if let Some(pid) = point.pid.or(point.container_pid) {
        if let Some(found) = along_run_path(pid, name)? {
            return Ok(found);
        }
        looked.push(format!("DT_RUNPATH of process {pid}'s program"));
    }
    let cached = cached(&root, name);
    if let Ok(Some((file, path))) = cached {
        return Ok(Found { file, path, root });
    }
    let whose = |what: &str| match point.container_pid {
        Some(pid) => format!("{what} of process {pid}'s container"),
        None => what.to_owned(),
    };
    looked.push(whose(LD_SO_CACHE));
    if let (Some(pid), None) = (point.container_pid, point.pid) {
        if let Some(found) = mapped(pid, name)? {
            return Ok(found);
        }
        looked.push(format!("/proc/{pid}/maps"));
    }
    if let Some((file, path)) = in_folders(&root, default_folders(&root), name) {
        return Ok(Found { file, path, root });
    }
    // A cache that cannot be read is passed over, as the linker does, and named when nothing else helped.
    cached?;
    looked.push(whose("the default folders (/lib, /usr/lib, …)"));
    let name = name.to_owned();
    Err(ProbeError::NoLibrary { name, looked }.into())
}

/// A library by the cache of the dynamic linker: the first for this machine's architecture, else the first that is
/// there.
fn cached(root: &Root, name: &str) -> Result<Option<(OwnedFd, PathBuf)>, KernelError> {
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
    Ok(first(root, paths.into_iter().map(PathBuf::from)))
}

/// A library along `DT_RPATH` and `DT_RUNPATH` of a process's program. Processes without a program (the kernel's own)
/// have none.
fn along_run_path(pid: u32, name: &str) -> Result<Option<Found>, KernelError> {
    let process = process(pid)?;
    let read = OFlags::RDONLY | OFlags::CLOEXEC;
    let (Ok(program), Some(path)) = (
        rustix::fs::openat(&process, "exe", read, Mode::empty()),
        read_link(&process, "exe"),
    ) else {
        return Ok(None);
    };
    let root = Root::of(Some(pid))?;
    let path = root.below(path);
    let Some(origin) = path.parent() else {
        return Ok(None);
    };
    let program = File::from(program);
    let run_paths = run_path::read(&ReadCache::new(&program));
    let folders = run_path::folders(&run_paths, origin);
    Ok(in_folders(&root, folders, name).map(|(file, path)| Found { file, path, root }))
}

/// The folders that linkers look in without being told: those of musl's list, where there is one, first.
fn default_folders(root: &Root) -> Vec<PathBuf> {
    let mut folders = Vec::new();
    let lists = Path::new(run_path::MUSL_PATH_DIR);
    for (name, _) in root.names(lists) {
        if run_path::is_musl_path(&name)
            && let Ok(Some(list)) = root.open(&lists.join(&name))
            && let Ok(list) = read_capped(list, run_path::MAX_MUSL_PATH_BYTES)
        {
            folders.extend(run_path::musl_folders(&String::from_utf8_lossy(&list)));
        }
    }
    for folder in run_path::MULTIARCH_DIRS {
        let names = root.names(Path::new(folder)).into_iter();
        let mut names: Vec<_> = names
            .filter(|(name, is_folder)| *is_folder && run_path::is_multiarch(name))
            .map(|(name, _)| Path::new(folder).join(name))
            .collect();
        names.sort();
        names.truncate(run_path::MAX_DIRS);
        folders.extend(names);
    }
    folders.extend(run_path::DEFAULT_DIRS.map(PathBuf::from));
    folders
}

fn in_folders(root: &Root, folders: Vec<PathBuf>, name: &str) -> Option<(OwnedFd, PathBuf)> {
    let files = folders.into_iter().flat_map(|folder| {
        let names = root.names(&folder).into_iter().map(|(name, _)| name);
        let names = run_path::choose(names.collect(), name);
        names.into_iter().map(move |name| folder.join(name))
    });
    first(root, files)
}

/// The first library of this machine's architecture, else the first one. What is no ELF file (a linker script), or no
/// regular file, is passed over.
fn first(root: &Root, paths: impl Iterator<Item = PathBuf>) -> Option<(OwnedFd, PathBuf)> {
    let ours = rustix::fs::open("/proc/self/exe", OFlags::RDONLY, Mode::empty());
    let ours = ours.ok().and_then(|ours| kind(&ours));
    let mut first = None;
    for path in paths {
        let Ok(Some(file)) = root.open(&path) else {
            continue;
        };
        let Some(found) = kind(&file) else {
            continue;
        };
        if ours.is_none_or(|ours| ours == found) {
            return Some((file, path));
        }
        first = first.or(Some((file, path)));
    }
    first
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
