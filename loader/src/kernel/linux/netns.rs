//! Network namespaces: found at a path or by their inode, and entered by a thread of its own.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::binary::descriptor_path;
use super::{KernelError, failed};
use crate::kernel::Device;

/// Ours: that of this thread.
const OURS: &str = "/proc/thread-self/ns/net";
/// What is mounted where, namespaces among it (those of `ip netns` and of containers).
const MOUNTS: &str = "/proc/thread-self/mountinfo";
/// `NSFS_MAGIC` of `include/uapi/linux/magic.h`.
const NSFS_MAGIC: u64 = 0x6e73_6673;

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
        let not_one = || KernelError::NotANamespace {
            path: path.to_owned(),
        };
        let refused = |source| KernelError::NoNamespace {
            path: path.to_owned(),
            source,
        };
        let opened = open_namespace(path, None).map_err(refused)?;
        let opened = opened.ok_or_else(not_one)?;
        // To enter it is to know that it is one of networks: nothing else tells without an ioctl.
        match inside(&opened, || Ok(())) {
            Ok(()) => Ok(Self::Other(opened)),
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Err(not_one()),
            Err(source) => Err(refused(source)),
        }
    }

    /// The one that an interface was found in. A path may lead elsewhere by now, and a command may run in another
    /// namespace than the one before it: the inode decides.
    ///
    /// It is gone when it is found at no path. A path that cannot be looked at may be the one that leads there, so
    /// then it is not known, which is an error.
    pub(super) fn of(device: &Device) -> Result<Self, KernelError> {
        Ok(Self::located(device)?.0)
    }

    /// As [`Namespace::of`], with a path that leads there; `None` for ours.
    pub(super) fn located(device: &Device) -> Result<(Self, Option<PathBuf>), KernelError> {
        if our_inode()? == device.nsid {
            let known = device.netns.clone();
            let same =
                |path: &PathBuf| fs::metadata(path).is_ok_and(|found| found.ino() == device.nsid);
            return Ok((Self::Ours, known.filter(same)));
        }
        let look = |path: &Path| match at(path, device.nsid) {
            Err(error) if !is_gone(&error) => {
                let nsid = device.nsid;
                let call = || format!("looking for network namespace {nsid} at {}", path.display());
                Err((error.raw_os_error(), failed(call)(error)))
            }
            found => Ok(found.ok().flatten()),
        };
        let known = device.netns.clone().into_iter();
        let mounts = read_mounts()?;
        let mut unknown = None;
        for path in known.chain(mounted(&mounts, Some(device.nsid)).map(|(_, path)| path)) {
            match look(&path) {
                Ok(Some(found)) => return Ok((Self::Other(found), Some(path))),
                Ok(None) => {}
                Err((_, error)) => unknown = Some(error),
            }
        }
        for path in of_processes()? {
            let path = path?;
            match look(&path) {
                Ok(Some(found)) => return Ok((Self::Other(found), Some(path))),
                // Processes with more rights than ours hide theirs, and so do those that just ended
                // (`proc_ns_get_link` in fs/proc/namespaces.c).
                Ok(None) | Err((Some(libc::EACCES), _)) => {}
                Err((_, error)) => unknown = Some(error),
            }
        }
        Err(unknown.unwrap_or(KernelError::InterfaceGone {
            ifindex: device.ifindex,
            nsid: device.nsid,
        }))
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

/// Every namespace that is found but the one with inode `but`, each with a path that leads there (`None` for ours).
/// Those that cannot be opened are left out.
pub(super) fn every_other(but: u64) -> Result<Vec<(Namespace, Option<PathBuf>)>, KernelError> {
    let ours = our_inode()?;
    let mut seen = BTreeSet::from([but]);
    let mut found = Vec::new();
    if seen.insert(ours) {
        found.push((Namespace::Ours, None));
    }
    let mounts = read_mounts()?;
    let mut add = |nsid: u64, path: PathBuf| {
        if !seen.contains(&nsid)
            && let Ok(Some(namespace)) = at(&path, nsid)
        {
            seen.insert(nsid);
            found.push((Namespace::Other(namespace), Some(path)));
        }
    };
    for (nsid, path) in mounted(&mounts, None) {
        add(nsid, path);
    }
    for path in of_processes()?.flatten() {
        if let Ok(metadata) = fs::metadata(&path) {
            add(metadata.ino(), path);
        }
    }
    Ok(found)
}

fn our_inode() -> Result<u64, KernelError> {
    let ours = fs::metadata(OURS).map_err(failed(|| format!("looking at {OURS}")))?;
    Ok(ours.ino())
}

fn read_mounts() -> Result<Vec<u8>, KernelError> {
    fs::read(MOUNTS).map_err(failed(|| format!("reading {MOUNTS}")))
}

/// The file of each process's namespace.
fn of_processes() -> Result<impl Iterator<Item = Result<PathBuf, KernelError>>, KernelError> {
    let listing = || "listing /proc".to_owned();
    let entries = fs::read_dir("/proc").map_err(failed(listing))?;
    Ok(entries.filter_map(move |entry| match entry {
        Ok(entry) => {
            let process = entry.file_name().to_string_lossy().parse::<u32>().is_ok();
            process.then(|| Ok(entry.path().join("ns/net")))
        }
        Err(error) => Some(Err(failed(listing)(error))),
    }))
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

/// Opens a namespace; `None` when something else is at the path, or another one than that with this inode. Nothing else
/// is opened for reading: a pipe would wait for its writer, a device may begin to work.
fn open_namespace(path: &Path, inode: Option<u64>) -> io::Result<Option<File>> {
    let found = rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    // The kernel's word is signed on some architectures.
    let magic = rustix::fs::fstatfs(&found)?.f_type as u64 & 0xffff_ffff;
    if magic != NSFS_MAGIC || !has_inode(&found, inode)? {
        return Ok(None);
    }
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let opened = rustix::fs::open(descriptor_path(&found), flags, Mode::empty())?;
    Ok(Some(File::from(opened)))
}

fn has_inode(file: &OwnedFd, wanted: Option<u64>) -> io::Result<bool> {
    match wanted {
        Some(wanted) => Ok(rustix::fs::fstat(file)?.st_ino == wanted),
        None => Ok(true),
    }
}

/// The network namespace with this inode, where it is at this path.
fn at(path: &Path, nsid: u64) -> io::Result<Option<File>> {
    let Some(found) = open_namespace(path, Some(nsid))? else {
        return Ok(None);
    };
    match inside(&found, || Ok(())) {
        Ok(()) => Ok(Some(found)),
        // A namespace of another kind.
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether nothing is at a path.
fn is_gone(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::ENOENT | libc::ENOTDIR | libc::ESRCH)
    )
}

/// Network namespaces and where they are mounted, all or the one with this inode, by proc_pid_mountinfo(5): the root of
/// such a mount is `net:[INODE]`, and blanks in paths are octal.
fn mounted(mounts: &[u8], nsid: Option<u64>) -> impl Iterator<Item = (u64, PathBuf)> {
    let lines = mounts.split(|byte| *byte == b'\n');
    lines.filter_map(move |line| {
        let mut fields = line.split(|byte| *byte == b' ').skip(3);
        let root = std::str::from_utf8(fields.next()?).ok()?;
        let place = fields.next()?;
        let inode = root.strip_prefix("net:[")?.strip_suffix(']')?;
        let inode: u64 = inode.parse().ok()?;
        nsid.is_none_or(|wanted| wanted == inode)
            .then(|| (inode, unescaped(place)))
    })
}

fn unescaped(text: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, after)) = rest.split_first() {
        let octal = after.get(..3).filter(|_| *first == b'\\');
        let byte = octal
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        rest = match byte {
            Some(byte) => {
                bytes.push(byte);
                after.get(3..).unwrap_or_default()
            }
            None => {
                bytes.push(*first);
                after
            }
        };
    }
    OsString::from_vec(bytes).into()
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

    /// The calling thread in a namespace of its own, with the namespace's inode and a path to it.
    #[allow(unsafe_code)]
    fn in_another<T: Send>(work: impl FnOnce(u64, PathBuf) -> T + Send) -> Option<T> {
        if !rustix::process::geteuid().is_root() {
            return None;
        }
        std::thread::scope(|scope| {
            let (tell, hear) = std::sync::mpsc::channel();
            let (done, wait) = std::sync::mpsc::channel::<()>();
            scope.spawn(move || {
                let flags = rustix::thread::UnshareFlags::NEWNET;
                // SAFETY: descriptors are not unshared.
                let made = unsafe { rustix::thread::unshare_unsafe(flags) };
                let thread = rustix::thread::gettid().as_raw_nonzero();
                let inode = fs::metadata(OURS).unwrap().ino();
                tell.send(made.is_ok().then_some((thread, inode))).unwrap();
                let _ = wait.recv();
            });
            let (thread, inode) = hear.recv().unwrap()?;
            let path = format!("/proc/self/task/{thread}/ns/net");
            let result = work(inode, path.into());
            drop(done);
            Some(result)
        })
    }

    #[test]
    fn one_that_may_not_be_entered_is_not_gone() {
        in_another(|nsid, path| {
            let mut device = Device {
                ifindex: 1,
                nsid,
                netns: Some(path),
            };
            assert!(matches!(
                Namespace::of(&device).unwrap(),
                Namespace::Other(_)
            ));
            // On a thread of its own, which has its own capabilities.
            let entered = std::thread::scope(|scope| {
                let work = || {
                    let mut sets = rustix::thread::capabilities(None).unwrap();
                    sets.effective
                        .remove(rustix::thread::CapabilitySet::SYS_ADMIN);
                    rustix::thread::set_capabilities(None, sets).unwrap();
                    Namespace::of(&device)
                };
                scope.spawn(work).join().unwrap()
            });
            assert!(
                matches!(&entered, Err(KernelError::Syscall { source, .. })
                    if source.raw_os_error() == Some(libc::EPERM)),
                "{entered:?}"
            );
            // Threads are not looked at, and nothing else leads there.
            device.netns = Some("/nowhere".into());
            assert!(matches!(
                Namespace::of(&device),
                Err(KernelError::InterfaceGone { .. })
            ));
        });
    }

    #[test]
    fn mounts_of_a_namespace_are_found() {
        let text = b"36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw\n\
            40 36 0:4 net:[4026532000] /run/netns/blue rw shared:5 - nsfs nsfs rw\n\
            41 36 0:4 net:[4026532001] /run/netns/red rw shared:5 - nsfs nsfs rw\n\
            42 36 0:4 net:[4026532000] /mnt/a\\040b\\134c\\9 rw - nsfs nsfs rw\n\
            43 36";
        let (blue, red) = (4_026_532_000, 4_026_532_001);
        let paths = [
            (blue, PathBuf::from("/run/netns/blue")),
            (red, "/run/netns/red".into()),
            (blue, r"/mnt/a b\c\9".into()),
        ];
        let found = |nsid| mounted(text, nsid).collect::<Vec<_>>();
        assert_eq!(found(None), paths);
        assert_eq!(found(Some(red)), paths[1..2]);
    }

    #[test]
    fn a_pipe_is_no_namespace_and_is_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &pipe,
            rustix::fs::FileType::Fifo,
            Mode::RUSR | Mode::WUSR,
            0,
        )
        .unwrap();
        for path in [pipe.as_path(), Path::new("/dev/null"), folder.path()] {
            assert!(
                matches!(
                    Namespace::open(Some(path)),
                    Err(KernelError::NotANamespace { .. })
                ),
                "{}",
                path.display()
            );
        }
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
