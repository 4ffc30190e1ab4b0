use std::io;
use std::path::PathBuf;

use super::KernelError;
use crate::binary::debug_file::DebugSearch;
use crate::binary::ld_so_cache::CacheError;
use crate::binary::symbol::SymbolError;

/// A place in a file, found.
#[derive(Debug)]
pub struct UprobePlace<H> {
    /// The file. It stays this one, whatever is put at its path later.
    pub binary: H,
    /// Its path, in the file system where it was looked up.
    pub path: PathBuf,
    /// Bytes from its start.
    pub offset: u64,
}

/// Why a kprobe or uprobe cannot be placed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProbeError {
    /// The kernel was built without probes of that kind.
    #[error("this kernel has no {kind}s ({} is not there)", .path.display())]
    NoProbes {
        /// `kprobe` or `uprobe`.
        kind: &'static str,
        /// What says that it has them.
        path: PathBuf,
    },
    /// A function of the kernel that exists and cannot be probed there.
    #[error("the kernel takes no probe at {place}: {source}")]
    NotProbed {
        /// Function and offset.
        place: String,
        /// Errno of perf_event_open(2).
        source: io::Error,
    },
    /// A target that is neither a path nor a name.
    #[error("`{target}` is neither an absolute path nor the name of a library")]
    BinaryName {
        /// What was asked for.
        target: String,
    },
    /// A library that is not where it was looked for.
    #[error("there is no library `{name}` in {}", .looked.join(" or "))]
    NoLibrary {
        /// Its name.
        name: String,
        /// Where it was looked for.
        looked: Vec<String>,
    },
    /// A file that is not there.
    #[error("there is no file {}", .path.display())]
    NoBinary {
        /// Its path.
        path: PathBuf,
    },
    /// Something else than a regular file.
    #[error("{} is no regular file", .path.display())]
    NoRegularFile {
        /// Its path.
        path: PathBuf,
    },
    /// The place asked for is not in the file.
    #[error("looking for the place in {}: {source}{debug}", .path.display())]
    Symbol {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: SymbolError,
        /// Where its debug file was looked for.
        debug: DebugSearch,
    },
    /// An offset that leads out of what it counts from.
    #[error("offset {offset} is not in {what}, which has {size} bytes")]
    OffsetOutside {
        /// Bytes from the start of it.
        offset: u64,
        /// A function or a file.
        what: String,
        /// Its size.
        size: u64,
    },
    /// A cache of the dynamic linker that is damaged or none.
    #[error("reading {}: {source}", .path.display())]
    LdSoCache {
        /// Its path.
        path: PathBuf,
        /// What is wrong with it.
        source: CacheError,
    },
    /// No process of that number.
    #[error("there is no process {pid}")]
    NoProcess {
        /// Its number.
        pid: u32,
    },
    /// A process whose files this one may not see.
    #[error("looking into process {pid}: {source}")]
    ProcessRefused {
        /// Its number.
        pid: u32,
        /// Errno.
        source: io::Error,
    },
}

// Boxed because it is several times larger than the rest.
impl From<ProbeError> for KernelError {
    fn from(error: ProbeError) -> Self {
        Self::Probe(Box::new(error))
    }
}

impl ProbeError {
    /// What to do about it, where that is known: one sentence.
    pub fn hint(&self) -> Option<String> {
        let text = match self {
            Self::NoProbes { kind, .. } => {
                let option = kind.to_uppercase();
                return Some(format!(
                    "it needs a kernel (4.17 or newer) that was built with CONFIG_{option}S=y and \
                     CONFIG_{option}_EVENTS=y, and /sys"
                ));
            }
            Self::NotProbed { source, .. } => match source.raw_os_error() {
                Some(libc::EADDRNOTAVAIL) => {
                    "several functions of the kernel have that name: /proc/kallsyms lists them"
                }
                Some(libc::EILSEQ) => "the offset is in the middle of an instruction",
                Some(libc::EPERM | libc::EACCES) => {
                    "kprobes need CAP_PERFMON, and a kernel that is not in lockdown for confidentiality"
                }
                _ => {
                    "it is a function that must not be probed (/sys/kernel/debug/kprobes/blacklist), or the offset is not in it"
                }
            },
            Self::BinaryName { .. } => {
                "give the absolute path, or the name of a library: libc, libc.so.6"
            }
            Self::NoLibrary { .. } => "give the absolute path",
            Self::Symbol { source, debug, .. } => return symbol_hint(source, debug),
            Self::ProcessRefused { .. } => {
                "it takes CAP_SYS_PTRACE to look into processes of others"
            }
            _ => return None,
        };
        Some(text.to_owned())
    }
}

fn symbol_hint(error: &SymbolError, debug: &DebugSearch) -> Option<String> {
    let text = match error {
        SymbolError::NoSuchFunction {
            near: Some(near), ..
        } => return Some(format!("did you mean `{near}`?")),
        SymbolError::Stripped { near, .. } => {
            let near = near
                .as_ref()
                .map(|near| format!("did you mean `{near}`? Else "));
            // The first place is the one that goes by the build ID, where there is one.
            let place = debug
                .absent
                .first()
                .map(|path| format!(" ({})", path.display()));
            return Some(format!(
                "{}install its debug symbols{}, or give its place in the file: --offset without --fn-name",
                near.unwrap_or_default(),
                place.unwrap_or_default()
            ));
        }
        SymbolError::NoSuchFunction { .. } => {
            "`nm` and `nm -D` list its functions; C++ and Rust names are mangled there"
        }
        SymbolError::Several { .. } => "give its place in the file: --offset without --fn-name",
        SymbolError::Indirect { .. } => {
            "name the implementation that is chosen on this machine (`nm` lists them), or its place with --offset"
        }
        _ => return None,
    };
    Some(text.to_owned())
}
