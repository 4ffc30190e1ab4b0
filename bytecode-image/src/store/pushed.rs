//! What this host pushed where: `.bpfman/pushed`, a line `registry/repository@sha256:…` a blob and repository, the newest
//! first.
//!
//! A hint and no more, which saves uploads. Nobody vouches for the file, as the store may come from elsewhere: what is no
//! reference is skipped, and what is not true costs a request.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::{OWN, Store, StoreAction, StoreError};
use crate::digest::Digest;
use crate::limits::MAX_REFERENCE_BYTES;
use crate::reference::Reference;

/// Name of the file.
const NAME: &str = "pushed";

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

    fn read_pushed(&self) -> Result<Pushed, StoreError> {
        let Some(own) = self.folder(&[OWN])? else {
            return Ok(Pushed::default());
        };
        let failed = |source| StoreError::io(StoreAction::Read, &self.pushed_path(), source);
        let bytes = own.read(NAME, MAX_BYTES).map_err(failed)?;
        let text = String::from_utf8(bytes.unwrap_or_default());
        let text = text.map_err(|error| failed(std::io::Error::other(error)))?;
        Ok(Pushed::parse(&text))
    }

    fn write_pushed(&self, reference: &Reference, blobs: &[Digest]) -> Result<(), StoreError> {
        // Two pushes at once: one may forget what the other did, which costs an upload.
        let old = self.pushed();
        let new = old.with(reference, blobs);
        if new == old {
            return Ok(());
        }
        let writer = self.writer()?;
        let file = writer.file(new.text().as_bytes())?;
        // Not waited for: what a crash loses is pushed once more.
        file.place(&writer.folders().own, NAME)
    }

    fn pushed_path(&self) -> PathBuf {
        self.dir.join(OWN).join(NAME)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
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
        let tmp = store.dir().join(".bpfman/tmp");
        assert_eq!(fs::read_dir(tmp).unwrap().count(), 0);
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
