//! What this host pushed where: `.bpfman/pushed`, a line `registry/repository@sha256:…` a blob and repository, the newest
//! first.
//!
//! A hint and no more, which saves uploads. Nobody vouches for the file, as the store may come from elsewhere: what is no
//! reference is skipped, and what is not true costs a request.

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use rustix::fs::OFlags;

use super::{Store, StoreAction, StoreError};
use crate::digest::Digest;
use crate::limits::MAX_REFERENCE_BYTES;
use crate::reference::Reference;

/// Most lines: 1024. An image of thirteen architectures has 26 blobs, most have two.
const MAX_LINES: usize = 1024;

/// Longest file, in bytes: as many of the longest references.
const MAX_BYTES: u64 = (MAX_LINES * (MAX_REFERENCE_BYTES + 1)) as u64;

/// Which repositories have which blobs, as far as this host pushed them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pushed {
    /// With a digest and without a tag, the newest first.
    lines: Vec<Reference>,
}

impl Pushed {
    fn parse(text: &str) -> Self {
        let line = |line: &str| {
            let reference: Reference = line.parse().ok()?;
            (reference.digest().is_some() && reference.tag().is_none()).then_some(reference)
        };
        let lines = text.lines().filter_map(line).take(MAX_LINES).collect();
        Self { lines }
    }

    fn text(&self) -> String {
        self.lines.iter().map(|line| format!("{line}\n")).collect()
    }

    /// With these blobs of a repository in front.
    fn with(&self, reference: &Reference, blobs: &[Digest]) -> Self {
        let new: BTreeSet<Reference> = blobs
            .iter()
            .map(|digest| reference.with_digest(*digest))
            .collect();
        let old = self.lines.iter().filter(|line| !new.contains(line));
        let lines = new.iter().chain(old).take(MAX_LINES).cloned().collect();
        Self { lines }
    }

    /// Another repository of the same registry that has a blob: the one that got it last.
    pub fn elsewhere(&self, reference: &Reference, blob: Digest) -> Option<&str> {
        let found = self.lines.iter().find(|line| {
            line.digest() == Some(blob)
                && line.registry() == reference.registry()
                && line.repository() != reference.repository()
        });
        found.map(Reference::repository)
    }
}

impl Store {
    /// What this host pushed where. A file that cannot be read says nothing.
    pub fn pushed(&self) -> Pushed {
        self.read_pushed().unwrap_or_else(|error| {
            log::debug!("{}: {error}", self.pushed_path().display());
            Pushed::default()
        })
    }

    /// Remembers that a repository has these blobs. Makes the store where there is none; one that cannot be written
    /// remembers nothing.
    pub fn remember_pushed(&self, reference: &Reference, blobs: &[Digest]) {
        if let Err(error) = self.write_pushed(reference, blobs) {
            let cause = std::error::Error::source(&error);
            let cause = cause.map_or_else(String::new, |cause| format!(": {cause}"));
            log::info!("what was pushed is not remembered: {error}{cause}");
        }
    }

    fn read_pushed(&self) -> io::Result<Pushed> {
        // A pipe must not be waited for, nor anything outside the store be read.
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let opened = OpenOptions::new()
            .read(true)
            .custom_flags(flags.bits().cast_signed())
            .open(self.pushed_path());
        let file = match opened {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Pushed::default()),
            opened => opened?,
        };
        if !file.metadata()?.is_file() {
            return Err(io::Error::other("not a file"));
        }
        let mut text = String::new();
        if file.take(MAX_BYTES + 1).read_to_string(&mut text)? as u64 > MAX_BYTES {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        Ok(Pushed::parse(&text))
    }

    fn write_pushed(&self, reference: &Reference, blobs: &[Digest]) -> Result<(), StoreError> {
        // Two pushes at once: one may forget what the other did, which costs an upload.
        let old = self.pushed();
        let new = old.with(reference, blobs);
        if new == old {
            return Ok(());
        }
        self.leads_nowhere()?;
        let path = self.pushed_path();
        let writer = self.writer()?;
        let mut file = writer.blob()?;
        file.write_all(new.text().as_bytes())
            .map_err(|source| StoreError::io(StoreAction::Write, &path, source))?;
        // Not waited for: what a crash loses is pushed once more.
        file.place(&path)
    }

    /// Whether what is written goes into the store: one that somebody else filled may have links in it.
    fn leads_nowhere(&self) -> Result<(), StoreError> {
        let blobs = self.blob_dir();
        let blobs = blobs.parent().into_iter().chain([blobs.as_path()]);
        let (own, tmp, lock) = (self.own_dir(), self.tmp_dir(), self.lock_path());
        for path in blobs.chain([own.as_path(), &tmp, &lock]) {
            if fs::symlink_metadata(path).is_ok_and(|found| found.is_symlink()) {
                let source = io::Error::other("it is a link");
                return Err(StoreError::io(StoreAction::Write, path, source));
            }
        }
        Ok(())
    }

    fn pushed_path(&self) -> PathBuf {
        self.own_dir().join("pushed")
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, symlink};
    use std::process::Command;

    use super::*;

    fn reference(text: &str) -> Reference {
        text.parse().unwrap()
    }

    fn digest(number: usize) -> Digest {
        Digest::of(number.to_string().as_bytes())
    }

    #[test]
    fn the_repository_that_got_it_last() {
        let (one, two) = (digest(1), digest(2));
        let pushed = Pushed::default()
            .with(&reference("reg.example/a:v1"), &[one, two])
            .with(&reference("other.example/b"), &[one])
            .with(&reference("reg.example/c/d"), &[one]);
        let cases = [
            ("reg.example/new", one, Some("c/d")),
            ("reg.example/new", two, Some("a")),
            ("reg.example/c/d:v2", one, Some("a")),
            ("reg.example/a", two, None),
            ("reg.example/new", digest(3), None),
            ("other.example/new", one, Some("b")),
            ("other.example/new", two, None),
            ("reg.example:5000/new", one, None),
        ];
        for (name, blob, expected) in cases {
            assert_eq!(
                pushed.elsewhere(&reference(name), blob),
                expected,
                "{name} {blob}"
            );
        }
        assert_eq!(Pushed::parse(&pushed.text()), pushed);
        let again = pushed.with(&reference("reg.example/c/d:v3"), &[one]);
        assert_eq!(again, pushed, "nothing new");
    }

    #[test]
    fn what_is_no_line_is_skipped() {
        let blob = digest(1);
        let text = format!(
            "\nreg.example/a\nreg.example/b:v1@{blob}\nreg.example/../c@{blob}\nreg.example/d?from=e@{blob}\n\
             https://reg.example/f@{blob}\nreg.example/g@sha256:00\n\u{1b}[2J\nreg.example/h@{blob} \nreg.example/i@{blob}\n"
        );
        let pushed = Pushed::parse(&text);
        assert_eq!(pushed.text(), format!("reg.example/i@{blob}\n"));
    }

    #[test]
    fn the_oldest_are_forgotten() {
        let pushed = (0..MAX_LINES + 10).fold(Pushed::default(), |pushed, number| {
            pushed.with(&reference("reg.example/a"), &[digest(number)])
        });
        let elsewhere = |number| pushed.elsewhere(&reference("reg.example/b"), digest(number));
        assert_eq!(pushed.lines.len(), MAX_LINES);
        assert_eq!((elsewhere(9), elsewhere(10)), (None, Some("a")));
        let text = format!("{0}{0}", pushed.text());
        assert_eq!(Pushed::parse(&text).lines.len(), MAX_LINES);
    }

    #[test]
    fn kept_in_the_store_and_only_there() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path().join("store"));
        let (name, blob) = (reference("reg.example/a:v1"), digest(1));
        assert_eq!(store.pushed(), Pushed::default());
        assert!(!store.dir().exists(), "reading makes nothing");
        store.remember_pushed(&name, &[blob]);
        let path = store.pushed_path();
        let found = fs::metadata(&path).unwrap();
        assert_eq!(found.mode() & 0o777, 0o600);
        assert_eq!(
            store.pushed(),
            Pushed::parse(&format!("reg.example/a@{blob}"))
        );
        assert_eq!(store.entries().unwrap(), []);
        assert_eq!(fs::read_dir(store.tmp_dir()).unwrap().count(), 0);
        store.remember_pushed(&name, &[blob]);
        assert_eq!(fs::metadata(&path).unwrap().ino(), found.ino(), "as it was");

        // Whatever lies there says nothing, is not waited for, and is replaced.
        let outside = folder.path().join("outside");
        let replaced = |what: &str| {
            assert_eq!(store.pushed(), Pushed::default(), "{what}");
            store.remember_pushed(&name, &[blob]);
            assert_ne!(store.pushed(), Pushed::default(), "{what}");
        };
        fs::write(&path, b"\xff").unwrap();
        replaced("no text");
        let file = fs::File::create(&path).unwrap();
        file.set_len(MAX_BYTES + 1).unwrap();
        replaced("too long");
        fs::remove_file(&path).unwrap();
        fs::write(&outside, format!("reg.example/z@{blob}\n")).unwrap();
        symlink(&outside, &path).unwrap();
        replaced("a link");
        assert!(fs::read_to_string(&outside).unwrap().contains("/z@"));
        fs::remove_file(&path).unwrap();
        let made = Command::new("mkfifo").arg(&path).status().unwrap();
        assert!(made.success());
        replaced("a pipe");

        // What cannot be replaced stays.
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        store.remember_pushed(&name, &[blob]);
        assert_eq!(store.pushed(), Pushed::default());
        for linked in [
            ".bpfman/lock",
            ".bpfman/tmp",
            ".bpfman",
            "blobs/sha256",
            "blobs",
        ] {
            let elsewhere = tempfile::tempdir().unwrap();
            let store = Store::open(elsewhere.path().join("store"));
            let (linked, outside) = (store.dir().join(linked), elsewhere.path().join("outside"));
            fs::create_dir_all(linked.parent().unwrap()).unwrap();
            if !linked.ends_with("lock") {
                fs::create_dir(&outside).unwrap();
            }
            symlink(&outside, &linked).unwrap();
            store.remember_pushed(&name, &[blob]);
            let written = fs::read_dir(&outside).is_ok_and(|mut found| found.next().is_some());
            assert!(!written && !outside.is_file(), "{}", linked.display());
            assert_eq!(store.pushed(), Pushed::default());
        }
        Store::open("/proc/bpfman").remember_pushed(&name, &[blob]);
    }
}
