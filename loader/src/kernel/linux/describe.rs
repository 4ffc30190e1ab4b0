//! What a handle is of.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use super::{KernelError, failed, programs, sys};
use crate::kernel::Description;

pub(super) fn map_by_id(id: u32) -> Result<Option<OwnedFd>, KernelError> {
    match sys::map_by_id(id) {
        Ok(map) => Ok(Some(map)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed(|| format!("opening map {id}"))(error)),
    }
}

/// `BPF_OBJ_GET_INFO_BY_FD` does not say what kind of object it describes; the name of the open file does.
pub(super) fn describe(object: BorrowedFd<'_>) -> Result<Description, KernelError> {
    let call = || "reading a pinned object".to_owned();
    let file = fs::read_link(format!("/proc/self/fd/{}", object.as_raw_fd()));
    let file = file.map_err(failed(call))?;
    match kind(&file.to_string_lossy()) {
        Some(Kind::Program) => Ok(Description::Program {
            id: programs::id(object)?,
        }),
        Some(Kind::Map) => {
            let info = sys::map_info(object).map_err(failed(call))?;
            Ok(Description::Map {
                id: info.id,
                name: programs::name(&info.name),
            })
        }
        Some(Kind::Link) => {
            let found = sys::link_info(object).map_err(failed(call))?;
            Ok(Description::Link {
                program_id: found.program_id,
                kind: found.kind,
            })
        }
        None => Err(failed(call)(io::Error::from(ErrorKind::InvalidInput))),
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Kind {
    Program,
    Map,
    Link,
}

/// The names that `bpf_prog_new_fd`, `bpf_map_new_fd` and `bpf_link_prime` give (kernel/bpf/syscall.c).
fn kind(file: &str) -> Option<Kind> {
    let name = file.strip_prefix("anon_inode:")?;
    let name = name.trim_start_matches('[').trim_end_matches(']');
    match name {
        "bpf-prog" => Some(Kind::Program),
        "bpf-map" => Some(Kind::Map),
        "bpf_link" | "bpf-link" => Some(Kind::Link),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_says_what_it_is() {
        for (file, expected) in [
            ("anon_inode:bpf-prog", Some(Kind::Program)),
            ("anon_inode:bpf-map", Some(Kind::Map)),
            ("anon_inode:bpf_link", Some(Kind::Link)),
            ("anon_inode:[eventfd]", None),
            ("/bin/true", None),
        ] {
            assert_eq!(kind(file), expected, "{file}");
        }
    }
}
