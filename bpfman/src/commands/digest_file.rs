//! `--digest-file`: where a pipeline finds what it has to sign. It never names another image than the one built last.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use bytecode_image::digest::Digest;
use rustix::fs::OFlags;

use crate::error::Error;

/// A file that will hold a digest, and holds none until then.
#[derive(Debug)]
pub(super) struct DigestFile {
    path: PathBuf,
    /// A pipe, a device or a symbolic link (`/dev/stdout`): written to as it is.
    open: Option<File>,
}

impl DigestFile {
    /// Proves that the file can be written, and takes away what an earlier build left there: a script that goes on
    /// after a build that failed must not find the digest of another image.
    pub(super) fn prepare(path: PathBuf) -> Result<Self, Error> {
        match Self::clear(&path) {
            Ok(open) => Ok(Self { path, open }),
            Err(source) => Err(Error::DigestFile { path, source }),
        }
    }

    fn clear(path: &Path) -> io::Result<Option<File>> {
        match fs::symlink_metadata(path) {
            Ok(found) if !found.is_file() => {
                // A FIFO without a reader is refused (ENXIO) without waiting.
                let mut options = File::options();
                options.write(true).create(true).truncate(true);
                options.custom_flags(OFlags::NONBLOCK.bits().cast_signed());
                let file = options.open(path)?;
                rustix::fs::fcntl_setfl(&file, OFlags::empty())?;
                return Ok(Some(file));
            }
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let beside = beside(path);
        fs::write(&beside, "")?;
        fs::remove_file(&beside)?;
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(None),
        }
    }

    /// Writes the digest, whole or not at all.
    pub(super) fn write(self, digest: Digest) -> Result<(), Error> {
        let line = format!("{digest}\n");
        let done = match self.open {
            Some(mut file) => file.write_all(line.as_bytes()),
            None => {
                let beside = beside(&self.path);
                let done = fs::write(&beside, line).and_then(|()| fs::rename(&beside, &self.path));
                if done.is_err() {
                    // It is the error that matters.
                    let _ = fs::remove_file(&beside);
                }
                done
            }
        };
        done.map_err(|source| Error::DigestFile {
            path: self.path,
            source,
        })
    }
}

fn beside(path: &Path) -> PathBuf {
    let mut beside = path.as_os_str().to_owned();
    beside.push(format!(".{}.partial", std::process::id()));
    beside.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn what_was_there_goes_first_and_the_digest_comes_last() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("digest");
        fs::write(&path, "of another build").unwrap();
        let file = DigestFile::prepare(path.clone()).unwrap();
        assert_eq!(names(folder.path()), Vec::<String>::new());
        file.write(Digest::of(b"")).unwrap();
        assert_eq!(names(folder.path()), ["digest"]);
        let written = fs::read_to_string(&path).unwrap();
        assert_eq!(written, format!("{}\n", Digest::of(b"")));

        // Through a symbolic link, which stays one.
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        let file = DigestFile::prepare(link.clone()).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "");
        file.write(Digest::of(b"x")).unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        let written = fs::read_to_string(&path).unwrap();
        assert_eq!(written, format!("{}\n", Digest::of(b"x")));
    }

    #[test]
    fn pipe_without_a_reader_is_refused_without_waiting() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pipe");
        let made = std::process::Command::new("mkfifo").arg(&path).status();
        assert!(made.unwrap().success());
        assert!(DigestFile::prepare(path.clone()).is_err());
        let both = File::options().read(true).write(true).open(&path);
        let mut reader = both.unwrap();
        let file = DigestFile::prepare(path).unwrap();
        file.write(Digest::of(b"")).unwrap();
        let mut read = [0; 72];
        io::Read::read_exact(&mut reader, &mut read).unwrap();
        assert_eq!(read, format!("{}\n", Digest::of(b"")).as_bytes());
    }

    #[test]
    fn what_cannot_be_written_is_known_before() {
        let folder = tempfile::tempdir().unwrap();
        for path in [
            folder.path().to_owned(),
            folder.path().join("no/such/folder"),
        ] {
            let error = DigestFile::prepare(path.clone()).unwrap_err();
            let message = error.to_string();
            assert!(message.contains(path.to_str().unwrap()), "{message}");
        }
        assert_eq!(names(folder.path()), Vec::<String>::new());
    }
}
