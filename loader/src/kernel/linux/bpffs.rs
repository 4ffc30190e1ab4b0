//! Pins and folders in bpffs, and the mount itself.

use std::ffi::CString;
use std::fs::{self, DirBuilder, Permissions};
use std::io::{self, ErrorKind};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::Path;

use rustix::mount::MountFlags;

use super::{KernelError, failed, sys};
use crate::kernel::DirEntry;

/// `BPF_FS_MAGIC` of `include/uapi/linux/magic.h`.
const BPF_FS_MAGIC: u64 = 0xcafe_4a11;
const PIN_MODE: u32 = 0o660;
const FOLDER_MODE: u32 = 0o770;
/// Of the folder that the mount lies on, where it is ours to make, and of the mount's root.
const MOUNT_MODE: u32 = 0o700;

pub(super) fn mount(dir: &Path) -> Result<(), KernelError> {
    if is_mounted(dir)? {
        return Ok(());
    }
    check_mount_namespace(dir)?;
    DirBuilder::new()
        .recursive(true)
        .mode(MOUNT_MODE)
        .create(dir)
        .map_err(failed(|| format!("making the folder {}", dir.display())))?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    rustix::mount::mount("bpf", dir, "bpf", flags, c"mode=0700")
        .map_err(failed(|| format!("mounting a bpffs at {}", dir.display())))
}

/// A mount lives as long as its namespace. `ip netns exec` and units with PrivateMounts give a command one of its own,
/// which ends with it, and with it would every program that it loaded.
fn check_mount_namespace(dir: &Path) -> Result<(), KernelError> {
    let namespace = |process: &str| {
        let found = fs::metadata(format!("/proc/{process}/ns/mnt"));
        found.ok().map(|found| found.ino())
    };
    // Who may not look at another process is not told, and nobody is taken for alone for that.
    let (Some(own), Some(first)) = (namespace("self"), namespace("1")) else {
        return Ok(());
    };
    let parent = rustix::process::getppid().map(|parent| parent.as_raw_nonzero().to_string());
    match parent.and_then(|parent| namespace(&parent)) {
        _ if own == first => Ok(()),
        Some(parent) if parent != own => Err(KernelError::PrivateMounts {
            dir: dir.to_owned(),
        }),
        _ => {
            log::warn!(
                "mounting a bpffs at {} in a mount namespace other than that of process 1: programs end with it",
                dir.display()
            );
            Ok(())
        }
    }
}

pub(super) fn is_mounted(dir: &Path) -> Result<bool, KernelError> {
    match rustix::fs::statfs(dir) {
        // The kernel's word is signed on some architectures.
        Ok(found) => Ok(found.f_type as u64 & 0xffff_ffff == BPF_FS_MAGIC),
        Err(rustix::io::Errno::NOENT) => Ok(false),
        Err(error) => Err(failed(|| format!("looking at {}", dir.display()))(error)),
    }
}

pub(super) fn exists(path: &Path) -> Result<bool, KernelError> {
    match fs::symlink_metadata(path) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(failed(|| format!("looking at {}", path.display()))(error)),
    }
}

pub(super) fn pin(object: BorrowedFd<'_>, path: &Path) -> Result<(), KernelError> {
    let call = || format!("pinning to {}", path.display());
    sys::pin(object, &c_path(path).map_err(failed(call))?).map_err(failed(call))?;
    fs::set_permissions(path, Permissions::from_mode(PIN_MODE)).map_err(|error| {
        // Half a step is no step.
        let _ = fs::remove_file(path);
        failed(call)(error)
    })
}

pub(super) fn open(path: &Path) -> Result<Option<OwnedFd>, KernelError> {
    let call = || format!("opening the pin {}", path.display());
    match sys::open_pin(&c_path(path).map_err(failed(call))?) {
        Ok(object) => Ok(Some(object)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed(call)(error)),
    }
}

pub(super) fn unpin(path: &Path) -> Result<(), KernelError> {
    gone(fs::remove_file(path)).map_err(failed(|| format!("removing the pin {}", path.display())))
}

pub(super) fn create_dir(path: &Path) -> Result<(), KernelError> {
    let call = || format!("making the folder {}", path.display());
    let mut missing = Vec::new();
    for folder in path.ancestors() {
        if folder.exists() {
            break;
        }
        missing.push(folder);
    }
    for folder in missing.into_iter().rev() {
        match fs::create_dir(folder) {
            Ok(()) => {
                fs::set_permissions(folder, Permissions::from_mode(FOLDER_MODE)).map_err(
                    |error| {
                        // Half a step is no step.
                        let _ = fs::remove_dir(folder);
                        failed(call)(error)
                    },
                )?;
            }
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(failed(call)(error)),
        }
    }
    Ok(())
}

pub(super) fn remove_dir(path: &Path) -> Result<(), KernelError> {
    gone(fs::remove_dir(path)).map_err(failed(|| format!("removing the folder {}", path.display())))
}

pub(super) fn list_dir(path: &Path) -> Result<Vec<DirEntry>, KernelError> {
    let call = || format!("listing {}", path.display());
    let entries = match fs::read_dir(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(failed(call))?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(failed(call))?;
        found.push(DirEntry {
            name: entry.file_name().to_string_lossy().into_owned(),
            is_dir: entry.file_type().map_err(failed(call))?.is_dir(),
        });
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

/// What is gone already was removed.
fn gone(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

fn c_path(path: &Path) -> io::Result<CString> {
    Ok(CString::new(path.as_os_str().as_bytes())?)
}
