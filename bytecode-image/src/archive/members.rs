//! The files of an archive: of a tar, or of a folder.
//!
//! In a folder no link is followed and nothing but regular files is opened, not even for a moment: whoever owns it may put
//! pipes, devices and links there.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::ArchiveError;
use super::import::MAX_ARCHIVE_ENTRIES;
use crate::printable::printable;

/// How many bytes of a path a message shows.
const MESSAGE_BYTES: usize = 128;

/// Longest target of a link that is read, in bytes: what a tar's header has room for, and more than `docker save` writes.
const MAX_LINK_BYTES: usize = 256;

/// The files of an archive.
pub(super) struct Members {
    /// The archive, for messages.
    path: PathBuf,
    source: Source,
}

enum Source {
    Tar {
        file: File,
        places: BTreeMap<String, Place>,
    },
    Folder(OwnedFd),
}

/// A file in a tar.
enum Place {
    /// Where its content begins, and its length.
    File(u64, u64),
    /// A link's target, as a path in the archive; `None` when it leads out of it.
    Link(Option<String>),
}

/// What is at a path.
pub(super) enum Member<'a> {
    File(Content<'a>),
    Link(Option<String>),
}

/// The content of a file and its length, as far as its header says.
pub(super) struct Content<'a> {
    pub(super) reader: Box<dyn Read + 'a>,
    pub(super) size: u64,
}

impl Members {
    /// The files of a tar that can be read at any place.
    pub(super) fn of_tar(path: &Path, mut file: File) -> Result<Self, ArchiveError> {
        let failed = |source| ArchiveError::Read {
            file: path.to_owned(),
            source,
        };
        file.rewind().map_err(failed)?;
        let mut places = BTreeMap::new();
        let mut tar = tar::Archive::new(&file);
        // Raw: names of a layout are short, and what stands for longer ones may not be collected in memory.
        let entries = tar.entries_with_seek().map_err(failed)?.raw(true);
        for (number, entry) in entries.enumerate() {
            if number >= MAX_ARCHIVE_ENTRIES {
                return Err(ArchiveError::TooMany {
                    file: path.to_owned(),
                    limit: MAX_ARCHIVE_ENTRIES,
                });
            }
            let entry = entry.map_err(failed)?;
            let name = entry.path_bytes();
            let name = String::from_utf8_lossy(&name).into_owned();
            let name = name.strip_prefix("./").unwrap_or(&name);
            let kind = entry.header().entry_type();
            if kind.is_dir()
                || kind.is_pax_global_extensions()
                || kind.is_pax_local_extensions()
                || kind.is_gnu_longname()
            {
                continue;
            }
            let place = if kind.is_file() {
                Place::File(entry.raw_file_position(), entry.size())
            } else if kind.is_symlink() || kind.is_hard_link() {
                let target = entry.link_name_bytes().unwrap_or_default();
                let target = String::from_utf8_lossy(&target);
                // A symbolic link counts from its folder, a hard link from the root.
                let folder = match kind.is_symlink() {
                    true => name,
                    false => "",
                };
                Place::Link(resolve(folder, &target))
            } else {
                return Err(kind_error(path, name));
            };
            places.entry(name.to_owned()).or_insert(place);
        }
        Ok(Self {
            path: path.to_owned(),
            source: Source::Tar { file, places },
        })
    }

    /// The files of a folder.
    pub(super) fn of_folder(path: &Path, folder: OwnedFd) -> Self {
        Self {
            path: path.to_owned(),
            source: Source::Folder(folder),
        }
    }

    /// The first link of a tar: an image layout has none.
    pub(super) fn refuse_links(&self) -> Result<(), ArchiveError> {
        let Source::Tar { places, .. } = &self.source else {
            // None is followed.
            return Ok(());
        };
        let mut links = places
            .iter()
            .filter(|(_, place)| matches!(place, Place::Link(_)));
        match links.next() {
            Some((name, _)) => Err(kind_error(&self.path, name)),
            None => Ok(()),
        }
    }

    /// What is at a path; `None` when nothing is.
    pub(super) fn open(&self, name: &str) -> Result<Option<Member<'_>>, ArchiveError> {
        let failed = |source| self.failed(source);
        match &self.source {
            Source::Tar { file, places } => match places.get(name) {
                None => Ok(None),
                Some(Place::Link(target)) => Ok(Some(Member::Link(target.clone()))),
                Some(Place::File(place, size)) => {
                    let mut file = file;
                    file.seek(SeekFrom::Start(*place)).map_err(failed)?;
                    Ok(Some(Member::File(Content {
                        reader: Box::new(file.take(*size)),
                        size: *size,
                    })))
                }
            },
            Source::Folder(folder) => self.open_in(folder, name),
        }
    }

    /// The content of a regular file and its length; a link is an error.
    pub(super) fn file(&self, name: &str) -> Result<Option<Content<'_>>, ArchiveError> {
        match self.open(name)? {
            None => Ok(None),
            Some(Member::File(content)) => Ok(Some(content)),
            Some(Member::Link(_)) => Err(kind_error(&self.path, name)),
        }
    }

    /// The same, and where it is: through one link, which old docker and podman write for a layer that is there twice.
    pub(super) fn linked(&self, name: &str) -> Result<Option<String>, ArchiveError> {
        match self.open(name)? {
            None => Ok(None),
            Some(Member::File(_)) => Ok(Some(name.to_owned())),
            Some(Member::Link(None)) => Err(kind_error(&self.path, name)),
            Some(Member::Link(Some(target))) => match self.open(&target)? {
                None => Ok(None),
                Some(Member::File(_)) => Ok(Some(target)),
                Some(Member::Link(_)) => Err(kind_error(&self.path, &target)),
            },
        }
    }

    /// A small file, whole; `None` when it is not there.
    pub(super) fn small(&self, name: &str, limit: u64) -> Result<Option<Vec<u8>>, ArchiveError> {
        let Some(content) = self.file(name)? else {
            return Ok(None);
        };
        let mut bytes = Vec::new();
        let read = content.reader.take(limit + 1).read_to_end(&mut bytes);
        match read.map_err(|source| self.failed(source))? as u64 > limit {
            true => Err(ArchiveError::PartTooLarge {
                part: printable(name, MESSAGE_BYTES),
                limit,
            }),
            false => Ok(Some(bytes)),
        }
    }

    fn open_in(&self, folder: &OwnedFd, name: &str) -> Result<Option<Member<'_>>, ArchiveError> {
        let failed = |error: Errno| self.failed(error.into());
        let Some(path) = resolve("", name) else {
            return Ok(None);
        };
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut parts = path.split('/').peekable();
        let mut above = folder.try_clone().map_err(|source| self.failed(source))?;
        while let Some(part) = parts.next() {
            let found = match rustix::fs::openat(&above, part, flags, Mode::empty()) {
                Ok(found) => found,
                Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
                Err(error) => return Err(failed(error)),
            };
            let status = rustix::fs::fstat(&found).map_err(failed)?;
            match (FileType::from_raw_mode(status.st_mode), parts.peek()) {
                (FileType::Directory, Some(_)) => above = found,
                (FileType::RegularFile, None) => {
                    let file = reopen(&found).map_err(failed)?;
                    let size = u64::try_from(status.st_size).unwrap_or_default();
                    return Ok(Some(Member::File(Content {
                        reader: Box::new(File::from(file).take(size)),
                        size,
                    })));
                }
                (FileType::Symlink, None) => {
                    let target = rustix::fs::readlinkat(&found, "", Vec::new()).map_err(failed)?;
                    let target = target.to_string_lossy();
                    return Ok(Some(Member::Link(resolve(&path, &target))));
                }
                _ => return Err(kind_error(&self.path, name)),
            }
        }
        Ok(None)
    }

    fn failed(&self, source: io::Error) -> ArchiveError {
        ArchiveError::Read {
            file: self.path.clone(),
            source,
        }
    }
}

/// From a descriptor that only names a file to one that reads it.
pub(super) fn reopen(found: &OwnedFd) -> Result<OwnedFd, Errno> {
    let path = format!("/proc/self/fd/{}", found.as_raw_fd());
    rustix::fs::openat(CWD, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
}

fn kind_error(archive: &Path, name: &str) -> ArchiveError {
    ArchiveError::Kind {
        file: archive.to_owned(),
        path: printable(name, MESSAGE_BYTES),
    }
}

/// A path in the archive from a path that counts from the folder of `from`; `None` when it is absolute, leads out of the
/// archive, or is too long.
fn resolve(from: &str, path: &str) -> Option<String> {
    if path.starts_with('/') || path.len() > MAX_LINK_BYTES {
        return None;
    }
    let mut parts: Vec<&str> = from.split('/').filter(|part| !part.is_empty()).collect();
    parts.pop();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    match parts.is_empty() {
        true => None,
        false => Some(parts.join("/")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stay_in_the_archive() {
        for (from, path, expected) in [
            ("a/layer.tar", "../b/layer.tar", Some("b/layer.tar")),
            ("a/layer.tar", "layer", Some("a/layer")),
            ("layer.tar", "b.tar", Some("b.tar")),
            ("", "./a//b", Some("a/b")),
            ("", "a/../b", Some("b")),
            ("a/b", "../../c", None),
            ("", "../c", None),
            ("", "/etc/shadow", None),
            ("", "", None),
            ("", "a/..", None),
        ] {
            assert_eq!(resolve(from, path).as_deref(), expected, "{from} {path}");
        }
        assert_eq!(resolve("", &"a".repeat(MAX_LINK_BYTES + 1)), None);
    }
}
