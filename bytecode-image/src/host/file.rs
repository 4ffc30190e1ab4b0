//! Reading a file of the host's configuration up to a cap.

use std::fs::{File, FileType, OpenOptions};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

/// Numbers of `/dev/null` (`MEM_MAJOR` and `DEVNULL_MINOR` of the kernel), which denotes an empty file.
const NULL_DEVICE: (u32, u32) = (1, 3);

/// Why a file of the host's configuration cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// The system says no, or the file is not there though a variable names it.
    #[error("cannot read {}", file.display())]
    Read {
        /// The file or folder.
        file: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// More bytes than any real file of its kind has.
    #[error("{} has more than {limit} bytes", file.display())]
    TooLarge {
        /// The file.
        file: PathBuf,
        /// The cap, in bytes.
        limit: u64,
    },
    /// More entries than any real folder of its kind has.
    #[error("{} has more than {limit} entries", folder.display())]
    TooMany {
        /// The folder.
        folder: PathBuf,
        /// The cap.
        limit: usize,
    },
}

impl FileError {
    /// Whether the system does not let this user see it.
    pub(super) fn is_denied(&self) -> bool {
        matches!(self, Self::Read { source, .. } if source.kind() == ErrorKind::PermissionDenied)
    }
}

/// Opens a regular file (or `/dev/null`) to read it. Anything else is refused: a FIFO waits for a writer, a device may
/// never end, and opening some of them changes something.
///
/// # Errors
///
/// What the system says, or what the path is instead of a file.
pub fn open_regular(file: &Path) -> io::Result<File> {
    let is_regular = |found: std::fs::Metadata| {
        let kind = found.file_type();
        if found.is_file() || kind.is_char_device() && numbers(found.rdev()) == NULL_DEVICE {
            return Ok(());
        }
        Err(io::Error::new(
            ErrorKind::InvalidInput,
            format!("it is {}, not a regular file", describe(kind)),
        ))
    };
    // First, because opening alone may do something.
    is_regular(std::fs::metadata(file)?)?;
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits().cast_signed())
        .open(file)?;
    // Again, because another file may have come there meanwhile.
    is_regular(opened.metadata()?)?;
    Ok(opened)
}

fn numbers(device: u64) -> (u32, u32) {
    (rustix::fs::major(device), rustix::fs::minor(device))
}

fn describe(kind: FileType) -> &'static str {
    if kind.is_dir() {
        "a directory"
    } else if kind.is_fifo() {
        "a pipe (FIFO)"
    } else if kind.is_socket() {
        "a socket"
    } else {
        "a device"
    }
}

/// The bytes of a file; `None` where there is no such file.
pub(super) fn read(file: &Path, limit: u64) -> Result<Option<Vec<u8>>, FileError> {
    let mut bytes = Vec::new();
    let read = open_regular(file)
        .and_then(|open| open.take(limit.saturating_add(1)).read_to_end(&mut bytes));
    match read {
        Err(error) if is_absent(&error) => Ok(None),
        Err(source) => Err(FileError::Read {
            file: file.to_owned(),
            source,
        }),
        Ok(size) if size as u64 > limit => Err(FileError::TooLarge {
            file: file.to_owned(),
            limit,
        }),
        Ok(_) => Ok(Some(bytes)),
    }
}

/// The bytes of a file that a variable names, so that it must be there.
pub(super) fn read_named(file: &Path, limit: u64) -> Result<Vec<u8>, FileError> {
    read(file, limit)?.ok_or_else(|| FileError::Read {
        file: file.to_owned(),
        source: std::io::Error::from(ErrorKind::NotFound),
    })
}

/// The paths in a folder whose names end in one of `extensions`, sorted; `None` where there is no such folder.
pub(super) fn list(
    folder: &Path,
    extensions: &[&str],
    limit: usize,
) -> Result<Option<Vec<PathBuf>>, FileError> {
    let failed = |source| FileError::Read {
        file: folder.to_owned(),
        source,
    };
    let entries = match std::fs::read_dir(folder) {
        Err(error) if is_absent(&error) => return Ok(None),
        entries => entries.map_err(failed)?,
    };
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry.map_err(failed)?.path();
        let wanted = path.extension().and_then(|extension| extension.to_str());
        if wanted.is_some_and(|extension| extensions.contains(&extension)) {
            paths.push(path);
        }
        if paths.len() > limit {
            return Err(FileError::TooMany {
                folder: folder.to_owned(),
                limit,
            });
        }
    }
    paths.sort();
    Ok(Some(paths))
}

/// A part of the path that is a file instead of a folder means that nothing is there, too.
fn is_absent(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn read_up_to_the_cap() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a");
        std::fs::write(&file, "12345").unwrap();
        assert_eq!(read(&file, 5).unwrap().unwrap(), b"12345");
        assert!(matches!(
            read(&file, 4).unwrap_err(),
            FileError::TooLarge { limit: 4, .. }
        ));
        assert!(read(&folder.path().join("b"), 5).unwrap().is_none());
        assert!(read(&file.join("b"), 5).unwrap().is_none());
        assert!(
            read_named(&folder.path().join("b"), 5)
                .unwrap_err()
                .to_string()
                .ends_with("/b")
        );
        assert!(matches!(
            read(folder.path(), 5).unwrap_err(),
            FileError::Read { .. }
        ));
    }

    #[test]
    fn open_regular_refuses_pipes_devices_sockets_and_folders() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let made = std::process::Command::new("mkfifo")
            .arg(path("pipe"))
            .status();
        assert!(made.unwrap().success());
        let _socket = std::os::unix::net::UnixListener::bind(path("socket")).unwrap();
        std::fs::write(path("file"), "x").unwrap();
        std::os::unix::fs::symlink(path("file"), path("link")).unwrap();
        std::os::unix::fs::symlink(path("pipe"), path("link-to-pipe")).unwrap();
        let cases = [
            (path("pipe"), "it is a pipe (FIFO), not a regular file"),
            (
                path("link-to-pipe"),
                "it is a pipe (FIFO), not a regular file",
            ),
            (path("socket"), "it is a socket, not a regular file"),
            (
                PathBuf::from("/dev/zero"),
                "it is a device, not a regular file",
            ),
            (
                PathBuf::from("/dev"),
                "it is a directory, not a regular file",
            ),
        ];
        for (path, expected) in cases {
            let error = open_regular(&path).unwrap_err();
            assert_eq!(error.to_string(), expected, "{}", path.display());
            assert!(matches!(
                read(&path, 5).unwrap_err(),
                FileError::Read { .. }
            ));
        }
        for name in ["file", "link"] {
            open_regular(&path(name)).unwrap();
        }
        assert_eq!(read(Path::new("/dev/null"), 5).unwrap().unwrap(), b"");
        let absent = open_regular(&path("absent")).unwrap_err();
        assert_eq!(absent.kind(), ErrorKind::NotFound);
    }

    #[test]
    fn folders_are_sorted_and_capped() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["2.conf", "10.conf", "a.conf.bak", "conf", "1.conf"] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        let names: Vec<_> = list(folder.path(), &["conf"], 3)
            .unwrap()
            .unwrap()
            .iter()
            .map(|path| path.file_name().unwrap().to_owned())
            .collect();
        assert_eq!(names, ["1.conf", "10.conf", "2.conf"]);
        assert!(matches!(
            list(folder.path(), &["conf"], 2).unwrap_err(),
            FileError::TooMany { limit: 2, .. }
        ));
        assert!(
            list(&folder.path().join("none"), &["conf"], 2)
                .unwrap()
                .is_none()
        );
    }
}
