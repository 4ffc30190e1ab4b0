//! Where an archive comes from: a file, a folder, a stream; plain or compressed.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::OwnedFd;
use std::path::Path;

use flate2::read::MultiGzDecoder;
use rustix::fs::{CWD, FileType, Mode, OFlags};

use super::ArchiveError;
use super::members::{Members, reopen};
use crate::layer::frames::Frames;
use crate::store::{Store, StoreAction, StoreError};

/// Most bytes of an archive that comes as a stream or is compressed, when unpacked: 4 GiB. It is written to the store's
/// folder first, so this is also what a bomb costs.
pub const MAX_SPOOLED_BYTES: u64 = 4 << 30;

/// What an archive is read from.
#[derive(Debug)]
pub enum Input<'a> {
    /// A file or a folder.
    Path(&'a Path),
    /// A stream, such as standard input, and what it is called in messages.
    Stream(&'a mut dyn ReadDebug, &'a str),
}

/// A reader that can be shown.
pub trait ReadDebug: Read + std::fmt::Debug {}

impl<R: Read + std::fmt::Debug> ReadDebug for R {}

/// How a file is compressed, by its first bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Packing {
    Plain,
    Gzip,
    Zstd,
    /// Not unpacked: its name.
    Other(&'static str),
}

impl Packing {
    fn of(head: &[u8]) -> Self {
        match head {
            [0x1f, 0x8b, ..] => Self::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Self::Zstd,
            [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Self::Zstd,
            [0xfd, b'7', b'z', b'X', b'Z', ..] => Self::Other("xz"),
            [b'B', b'Z', b'h', ..] => Self::Other("bzip2"),
            _ => Self::Plain,
        }
    }
}

impl Input<'_> {
    /// What messages call it.
    pub(super) fn name(&self) -> &Path {
        match self {
            Self::Path(path) => path,
            Self::Stream(_, name) => Path::new(name),
        }
    }

    /// Finds its files. What is a stream or compressed is written to a file of the store's that has no name.
    pub(super) fn members(self, store: &Store) -> Result<Members, ArchiveError> {
        let name = self.name().to_owned();
        let failed = |source| ArchiveError::Read {
            file: name.clone(),
            source,
        };
        match self {
            Self::Path(path) => {
                let (found, kind) = find(path).map_err(failed)?;
                if kind == FileType::Directory {
                    return Ok(Members::of_folder(path, found));
                }
                if kind != FileType::RegularFile {
                    return Err(ArchiveError::NotAnArchive {
                        file: path.to_owned(),
                        found: match kind {
                            FileType::Fifo => "a pipe",
                            FileType::Socket => "a socket",
                            _ => "a device",
                        },
                    });
                }
                let mut file = File::from(reopen(&found).map_err(io::Error::from).map_err(failed)?);
                let (head, length) = head(&mut file).map_err(failed)?;
                file.rewind().map_err(failed)?;
                let file = match Packing::of(head.get(..length).unwrap_or_default()) {
                    Packing::Plain => file,
                    packing => spool(store, &name, file, packing)?,
                };
                Members::of_tar(path, file)
            }
            Self::Stream(stream, _) => {
                let (head, length) = head(&mut *stream).map_err(failed)?;
                let head = head.get(..length).unwrap_or_default();
                let whole = io::Cursor::new(head).chain(stream);
                let file = spool(store, &name, whole, Packing::of(head))?;
                Members::of_tar(&name, file)
            }
        }
    }
}

/// What is at a path, without opening it.
fn find(path: &Path) -> io::Result<(OwnedFd, FileType)> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let found = rustix::fs::openat(CWD, path, flags, Mode::empty())?;
    let status = rustix::fs::fstat(&found)?;
    Ok((found, FileType::from_raw_mode(status.st_mode)))
}

/// The first bytes, as far as there are any.
fn head(stream: &mut dyn Read) -> io::Result<([u8; 6], usize)> {
    let mut head = [0; 6];
    let mut length = 0;
    while let Some(rest) = head.get_mut(length..).filter(|rest| !rest.is_empty()) {
        match stream.read(rest) {
            Ok(0) => break,
            Ok(count) => length += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok((head, length))
}

/// Writes a stream to a file that nothing names.
fn spool(
    store: &Store,
    name: &Path,
    stream: impl Read,
    packing: Packing,
) -> Result<File, ArchiveError> {
    let mut plain: Box<dyn Read + '_> = match packing {
        Packing::Plain => Box::new(stream),
        Packing::Gzip => Box::new(MultiGzDecoder::new(stream)),
        Packing::Zstd => Box::new(Frames::new(stream)),
        Packing::Other(packing) => {
            return Err(ArchiveError::Compressed {
                file: name.to_owned(),
                packing,
            });
        }
    };
    let unwritten = |source| StoreError::Io {
        action: StoreAction::Write,
        path: store.dir().to_owned(),
        source,
    };
    let writer = store.writer()?;
    let mut file = writer.unnamed_file()?;
    let mut buffer = vec![0; 64 << 10];
    let mut written = 0_u64;
    loop {
        let count = match plain.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(source) => {
                return Err(ArchiveError::Read {
                    file: name.to_owned(),
                    source,
                });
            }
        };
        written = written.saturating_add(count as u64);
        if written > MAX_SPOOLED_BYTES {
            return Err(ArchiveError::Endless {
                file: name.to_owned(),
                limit: MAX_SPOOLED_BYTES,
            });
        }
        file.write_all(buffer.get(..count).unwrap_or_default())
            .map_err(unwritten)?;
    }
    file.rewind().map_err(unwritten)?;
    Ok(file)
}
