//! Network namespaces: found at a path or by their inode, and entered by a thread of its own.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::KernelError;
use crate::kernel::Device;

/// Ours: that of this thread.
const OURS: &str = "/proc/thread-self/ns/net";
/// Where `ip netns` keeps named ones.
const NAMED: &str = "/run/netns";

/// A namespace to work in.
#[derive(Debug)]
pub(super) enum Namespace {
    /// The one that this process is in.
    Ours,
    /// Another, held open.
    Other(File),
}

impl Namespace {
    /// The one at `path`, ours without one.
    pub(super) fn open(path: Option<&Path>) -> Result<Self, KernelError> {
        let Some(path) = path else {
            return Ok(Self::Ours);
        };
        let opened = File::open(path).map_err(|source| KernelError::NoNamespace {
            path: path.to_owned(),
            source,
        })?;
        // To enter it is to know that it is one: nothing else tells without an ioctl.
        match inside(&opened, || Ok(())) {
            Ok(()) => Ok(Self::Other(opened)),
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
                Err(KernelError::NotANamespace {
                    path: path.to_owned(),
                })
            }
            Err(source) => Err(KernelError::NoNamespace {
                path: path.to_owned(),
                source,
            }),
        }
    }

    /// The one that an interface was found in. A path may lead elsewhere by now, and a command may run in another
    /// namespace than the one before it: the inode decides.
    pub(super) fn of(device: &Device) -> Result<Self, KernelError> {
        if inode(Path::new(OURS)) == Some(device.nsid) {
            return Ok(Self::Ours);
        }
        let at = |path: PathBuf| {
            let found = File::open(path).ok()?;
            let same = found.metadata().ok()?.ino() == device.nsid;
            (same && inside(&found, || Ok(())).is_ok()).then_some(found)
        };
        let known = device.netns.clone().into_iter();
        let named = entries(NAMED);
        let processes = entries("/proc").map(|process| process.join("ns/net"));
        known
            .chain(named)
            .chain(processes)
            .find_map(at)
            .map(Self::Other)
            .ok_or(KernelError::InterfaceGone {
                ifindex: device.ifindex,
                nsid: device.nsid,
            })
    }

    /// Inode of it.
    pub(super) fn inode(&self) -> io::Result<u64> {
        match self {
            Self::Ours => Ok(fs::metadata(OURS)?.ino()),
            Self::Other(file) => Ok(file.metadata()?.ino()),
        }
    }

    /// Does something there: in ours at once, else on a thread of its own that enters it and ends.
    pub(super) fn run<T: Send>(
        &self,
        work: impl FnOnce() -> io::Result<T> + Send,
    ) -> io::Result<T> {
        match self {
            Self::Ours => work(),
            Self::Other(file) => inside(file, work),
        }
    }
}

fn inside<T: Send>(namespace: &File, work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().spawn_scoped(scope, || {
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
            work()
        })?;
        thread
            .join()
            .map_err(|_| io::Error::other("the thread in the namespace failed"))?
    })
}

fn inode(path: &Path) -> Option<u64> {
    Some(fs::metadata(path).ok()?.ino())
}

/// What is in a folder; nothing when it cannot be read.
fn entries(folder: &str) -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    entries.filter_map(|entry| Some(entry.ok()?.path()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ours_is_found_by_its_inode_whatever_the_path_says() {
        let nsid = Namespace::Ours.inode().unwrap();
        for netns in [None, Some("/nowhere".into())] {
            let device = Device {
                ifindex: 1,
                nsid,
                netns,
            };
            assert!(matches!(Namespace::of(&device).unwrap(), Namespace::Ours));
        }
    }

    #[test]
    fn a_namespace_that_nobody_is_in_is_gone() {
        let device = Device {
            ifindex: 7,
            nsid: 1,
            netns: Some("/proc/self/ns/net".into()),
        };
        assert!(matches!(
            Namespace::of(&device),
            Err(KernelError::InterfaceGone {
                ifindex: 7,
                nsid: 1
            })
        ));
    }

    #[test]
    fn a_path_that_is_not_there_is_named() {
        let error = Namespace::open(Some(Path::new("/nowhere/ns"))).unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("opening the network namespace /nowhere/ns: "),
            "{error}"
        );
    }
}
