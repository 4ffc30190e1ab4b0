//! kprobes and uprobes, as perf events of their own kinds (kernel 4.17).

use std::ffi::CString;
use std::fs;
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use super::binary::descriptor_path;
use super::{KernelError, failed, links, sys};
use crate::kernel::ProbeError;

/// What the kernel says of its kinds of perf event.
const EVENT_SOURCES: &str = "/sys/bus/event_source/devices";
/// Every symbol of the kernel and its modules, one line each: address, type, name.
pub(super) const SYMBOLS: &str = "/proc/kallsyms";

/// A kind of perf event.
struct Source {
    number: u32,
    /// Bits of `config` that ask for the return of a function.
    retprobe: u64,
}

impl Source {
    fn read(kind: &'static str) -> Result<Self, KernelError> {
        let folder = Path::new(EVENT_SOURCES).join(kind);
        let path = folder.join("type");
        let number = match fs::read_to_string(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Err(ProbeError::NoProbes { kind, path }.into());
            }
            text => parsed(&path, text, |text| text.parse().ok())?,
        };
        let path = folder.join("format/retprobe");
        let retprobe = parsed(&path, fs::read_to_string(&path), config_bit)?;
        Ok(Self { number, retprobe })
    }

    fn config(&self, retprobe: bool) -> u64 {
        if retprobe { self.retprobe } else { 0 }
    }
}

fn parsed<T>(
    path: &Path,
    text: io::Result<String>,
    parse: impl FnOnce(&str) -> Option<T>,
) -> Result<T, KernelError> {
    let call = || format!("reading {}", path.display());
    let text = text.map_err(failed(call))?;
    parse(text.trim()).ok_or_else(|| failed(call)(io::Error::from(ErrorKind::InvalidData)))
}

/// `config:0` → bit 0.
fn config_bit(text: &str) -> Option<u64> {
    let bit: u32 = text.strip_prefix("config:")?.parse().ok()?;
    1_u64.checked_shl(bit)
}

pub(super) fn kprobe(
    program: &OwnedFd,
    function: &str,
    offset: u64,
    retprobe: bool,
) -> Result<OwnedFd, KernelError> {
    let none = || KernelError::NoKernelFunction {
        function: function.to_owned(),
    };
    let source = Source::read("kprobe")?;
    let name = CString::new(function).map_err(|_| none())?;
    if function.is_empty() {
        return Err(none());
    }
    let place = || match offset {
        0 => function.to_owned(),
        offset => format!("{function}+{offset:#x}"),
    };
    let config = source.config(retprobe);
    let event = sys::probe_event(source.number, config, &name, offset, None);
    let event = event.map_err(|error| match error.raw_os_error() {
        Some(libc::ENOENT) => none(),
        Some(
            libc::EINVAL
            | libc::EILSEQ
            | libc::EADDRNOTAVAIL
            | libc::EPERM
            | libc::EACCES
            | libc::ERANGE,
        ) => ProbeError::NotProbed {
            place: place(),
            source: error,
        }
        .into(),
        _ => failed(|| format!("opening an event of kernel function {}", place()))(error),
    })?;
    links::perf_event(program, &event, || {
        format!("linking a program to kernel function {}", place())
    })
}

pub(super) fn uprobe(
    program: &OwnedFd,
    binary: &OwnedFd,
    offset: u64,
    pid: Option<u32>,
    retprobe: bool,
) -> Result<OwnedFd, KernelError> {
    let source = Source::read("uprobe")?;
    let place = || format!("{}+{offset:#x}", shown(binary).display());
    let open = |path: PathBuf| {
        let path = CString::new(path.into_os_string().into_encoded_bytes())?;
        sys::probe_event(source.number, source.config(retprobe), &path, offset, pid)
    };
    let refused = |error: io::Error| match (error.raw_os_error(), pid) {
        (Some(libc::ESRCH), Some(pid)) => ProbeError::NoProcess { pid }.into(),
        _ => failed(|| format!("opening an event of {}", place()))(error),
    };
    // Tools show the path that the event was opened by. So it is the file's own where that leads to it, before and
    // after; else what always does: its descriptor.
    let event = match path_of(binary) {
        Some(path) => {
            let event = open(path.clone()).map_err(refused)?;
            match path_of(binary) {
                Some(after) if after == path => event,
                _ => {
                    drop(event);
                    open(descriptor_path(binary).into()).map_err(refused)?
                }
            }
        }
        None => open(descriptor_path(binary).into()).map_err(refused)?,
    };
    links::perf_event(program, &event, || {
        format!("linking a program to {}", place())
    })
}

/// The path of an open file, if it leads to this file where we are.
fn path_of(file: &OwnedFd) -> Option<PathBuf> {
    let path = fs::read_link(descriptor_path(file)).ok()?;
    let (ours, there) = (rustix::fs::fstat(file).ok()?, rustix::fs::stat(&path).ok()?);
    let same = ours.st_dev == there.st_dev && ours.st_ino == there.st_ino;
    same.then_some(path)
}

fn shown(file: &OwnedFd) -> PathBuf {
    fs::read_link(descriptor_path(file)).unwrap_or_else(|_| descriptor_path(file).into())
}

/// The module that has a function of this name, where the kernel itself has none. Reads some ten megabytes: only for a message.
pub(super) fn module_of(name: &str) -> Option<String> {
    module_in(&fs::read_to_string(SYMBOLS).ok()?, name)
}

fn module_in(symbols: &str, name: &str) -> Option<String> {
    let mut lines = symbols.lines().filter(|line| function(line) == Some(name));
    let module = lines.find_map(|line| line.rsplit_once('[')?.1.strip_suffix(']'));
    module.map(str::to_owned)
}

/// The name in a line of `/proc/kallsyms`, if it is a function's as it stands in a source.
fn function(line: &str) -> Option<&str> {
    let mut words = line.split_ascii_whitespace();
    let kind = words.nth(1)?;
    let name = words.next()?;
    (["t", "T", "w", "W"].contains(&kind) && !name.contains('.')).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_of_config() {
        for (text, expected) in [
            ("config:0", Some(1)),
            ("config:5", Some(32)),
            ("config:64", None),
            ("config1:0", None),
            ("config:0-3", None),
            ("", None),
        ] {
            assert_eq!(config_bit(text), expected, "{text}");
        }
    }

    #[test]
    fn modules_of_functions() {
        let symbols = "ffffffff81 T vfs_read\n0000000000000000 t veth_xmit\t[veth]\n\
            0000000000000000 d veth_ops\t[veth]\n";
        for (name, expected) in [
            ("veth_xmit", Some("veth")),
            ("veth_ops", None),
            ("vfs_read", None),
            ("nothing", None),
        ] {
            assert_eq!(module_in(symbols, name).as_deref(), expected, "{name}");
        }
    }

    #[test]
    fn functions_of_kallsyms() {
        for (line, expected) in [
            ("ffffffff812 T vfs_unlink", Some("vfs_unlink")),
            ("0000000000000000 t do_unlinkat\t[vfs]", Some("do_unlinkat")),
            ("ffffffff812 t do_unlinkat.cold", None),
            ("ffffffff812 D jiffies", None),
            ("ffffffff812 T", None),
            ("", None),
        ] {
            assert_eq!(function(line), expected, "{line}");
        }
    }
}
