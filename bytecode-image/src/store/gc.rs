//! Taking things out of the store: names, and the blobs that no name leads to.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, SystemTime};

use crate::digest::Digest;
use crate::folder::Folder;
use crate::limits::MAX_MANIFEST_BYTES;
use crate::near::near;
use crate::reference::Reference;
use crate::store::index::Index;
use crate::store::links::Links;
use crate::store::{DAMAGED, Entry, OWN, Store, StoreAction, StoreError, Writer};

/// How old a blob of another tool must be before it is removed for want of a name: 10 minutes. Such tools write an
/// image's blobs first and its name last, and hold no lock of ours between.
pub const FOREIGN_GRACE: Duration = Duration::from_secs(600);

/// What was removed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Freed {
    /// Entries of the index, in its order: those asked for, and those that were only about them.
    pub entries: Vec<Entry>,
    /// How many files.
    pub files: u64,
    /// How many bytes they had.
    pub bytes: u64,
}

impl Store {
    /// Removes names, and what only they led to: blobs that another name needs stay. What only says something about a
    /// removed image ([`Entry::about`]) goes with it.
    ///
    /// A reference with a digest stands for every name of its repository with that digest. Waits until nobody reads or
    /// writes. The index is written first: a crash leaves blobs that [`prune`](Self::prune) removes. Where a manifest that
    /// stays cannot be read, the names go and every blob stays. A blob that cannot be removed then is warned of.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unknown`] for a name that the store does not have; nothing is removed then. Else as every writer.
    pub fn remove(&self, references: &[Reference]) -> Result<Freed, StoreError> {
        self.check_known(references)?;
        let writer = self.alone()?;
        let _lock = writer.lock_index()?;
        // Again, now that nobody can change it.
        self.check_known(references)?;
        let before = self.reachable(self.index()?.roots())?;
        let mut entries = Vec::new();
        let index = writer.change_index(|index| {
            entries = index.remove(|entry| references.iter().any(|asked| names(asked, entry)));
            // Signatures of signatures: as long as something lost what it is about.
            loop {
                let (images, about) = self.split(index)?;
                let kept = self.reachable(images.into_iter())?;
                let lonely = index.remove(|entry| {
                    about
                        .get(&entry.digest)
                        .is_some_and(|subject| kept.lacks(subject))
                });
                if lonely.is_empty() {
                    return Ok(true);
                }
                entries.extend(lonely);
            }
        })?;
        let mut freed = Freed {
            entries,
            ..Freed::default()
        };
        let swept = self.remove_unneeded(&writer, &index, &before.found, &mut freed);
        warn_of_leftovers(swept);
        self.forget_admissions();
        Ok(freed)
    }

    /// Removes those of these blobs that the index no longer leads to.
    fn remove_unneeded(
        &self,
        writer: &Writer<'_>,
        index: &Index,
        blobs: &BTreeSet<Digest>,
        freed: &mut Freed,
    ) -> Result<(), StoreError> {
        let kept = self.reachable(index.roots())?;
        self.warn_of_unknown(index, &kept);
        for digest in blobs.iter().filter(|digest| kept.lacks(digest)) {
            freed.file(&writer.folders().blobs, &digest.hex())?;
        }
        Ok(())
    }

    /// Removes every blob that no entry of the index leads to, blobs that were damaged, and what writers left that were
    /// killed; with `all` every entry too. Waits until nobody reads or writes.
    ///
    /// A young blob of another tool stays ([`FOREIGN_GRACE`]), as its name may be about to come; ours have their name
    /// before the lock is given back. Where a manifest that is needed cannot be read, no blob goes: it may be one of its.
    ///
    /// # Errors
    ///
    /// As every writer.
    pub fn prune(&self, all: bool) -> Result<Freed, StoreError> {
        let mut freed = Freed::default();
        if self.folder(&[])?.is_none() {
            return Ok(freed);
        }
        let writer = self.alone()?;
        let _lock = writer.lock_index()?;
        let mut index = self.index()?;
        let mut named = BTreeSet::new();
        if all {
            named = self.reachable(index.roots())?.found;
            index = writer.change_index(|index| {
                freed.entries = index.remove(|_| true);
                Ok(!freed.entries.is_empty())
            })?;
        }
        let swept = self.sweep(&writer, &index, &named, &mut freed);
        if freed.entries.is_empty() {
            swept?;
        } else {
            warn_of_leftovers(swept);
        }
        self.forget_admissions();
        Ok(freed)
    }

    /// Removes every file that the index does not lead to; those that are `named` whatever their age.
    fn sweep(
        &self,
        writer: &Writer<'_>,
        index: &Index,
        named: &BTreeSet<Digest>,
        freed: &mut Freed,
    ) -> Result<(), StoreError> {
        let kept = self.reachable(index.roots())?;
        self.warn_of_unknown(index, &kept);
        let blobs = &writer.folders().blobs;
        for name in files(blobs)? {
            let Ok(digest) = Digest::parse(&format!("sha256:{name}")) else {
                // Another tool's work in progress.
                continue;
            };
            if kept.lacks(&digest) && (named.contains(&digest) || !may_be_awaited(blobs, &name)) {
                freed.file(blobs, &name)?;
            }
        }
        if let Some(damaged) = self.damaged()? {
            damaged
                .check_owner()
                .map_err(|source| StoreError::io(StoreAction::Change, damaged.path(), source))?;
            for name in files(&damaged)? {
                // One that is still needed is the mark of what is not known.
                if !kept.unknown.iter().any(|digest| digest.hex() == name) {
                    freed.file(&damaged, &name)?;
                }
            }
        }
        Ok(())
    }

    fn damaged(&self) -> Result<Option<Folder>, StoreError> {
        self.folder(&[OWN, DAMAGED])
    }

    fn check_known(&self, references: &[Reference]) -> Result<(), StoreError> {
        let entries = self.entries()?;
        for reference in references {
            if !entries.iter().any(|entry| names(reference, entry)) {
                return Err(self.unknown(reference, &entries));
            }
        }
        Ok(())
    }

    /// The error for a name that the store does not have.
    pub(crate) fn unknown(&self, reference: &Reference, entries: &[Entry]) -> StoreError {
        let names: Vec<_> = entries
            .iter()
            .filter(|entry| entry.about().is_none())
            .filter_map(|entry| entry.name.clone())
            .collect();
        StoreError::Unknown {
            reference: Box::new(reference.clone()),
            store: self.dir.clone(),
            near: near(&reference.to_string(), &names),
        }
    }

    /// What an entry is only about, by its name or by its document's `subject`.
    pub(crate) fn subject_of(&self, entry: &Entry) -> Result<Option<Digest>, StoreError> {
        if let Some(subject) = entry.about() {
            return Ok(Some(subject));
        }
        match self.read(entry.digest, MAX_MANIFEST_BYTES) {
            Ok(bytes) => Ok(bytes.and_then(|bytes| Links::of(&bytes).subject)),
            Err(error) if error.is_unusable_blob() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The roots that stand for themselves, and the others with what they are about.
    fn split(&self, index: &Index) -> Result<(BTreeSet<Digest>, Abouts), StoreError> {
        let mut about = Abouts::new();
        for entry in index.entries() {
            if let Some(subject) = self.subject_of(&entry)? {
                about.insert(entry.digest, subject);
            }
        }
        let images = index.roots().filter(|root| !about.contains_key(root));
        Ok((images.collect(), about))
    }

    /// The roots and everything that they lead to. A blob that is not there leads nowhere: of a pulled index only some
    /// platforms are. Where one leads to that is damaged, was set aside or is too large is not known.
    fn reachable(&self, roots: impl Iterator<Item = Digest>) -> Result<Reach, StoreError> {
        let mut reach = Reach::default();
        let mut documents: Vec<Digest> = roots.collect();
        let mut read = BTreeSet::new();
        while let Some(digest) = documents.pop() {
            reach.found.insert(digest);
            if !read.insert(digest) {
                continue;
            }
            let bytes = match self.read(digest, MAX_MANIFEST_BYTES) {
                Ok(Some(bytes)) => bytes,
                Ok(None) => {
                    let aside = self.damaged()?;
                    if aside.is_some_and(|aside| aside.has(&digest.hex()).unwrap_or(true)) {
                        reach.unknown.insert(digest);
                    }
                    continue;
                }
                Err(error) if error.is_unusable_blob() => {
                    reach.unknown.insert(digest);
                    continue;
                }
                Err(error) => return Err(error),
            };
            let links = Links::of(&bytes);
            reach.found.extend(links.contents);
            documents.extend(links.documents);
        }
        Ok(reach)
    }

    /// Says why blobs stay.
    fn warn_of_unknown(&self, index: &Index, reach: &Reach) {
        if reach.unknown.is_empty() {
            return;
        }
        let needs = |entry: &Entry| {
            let reach = self.reachable(std::iter::once(entry.digest));
            reach.is_ok_and(|reach| !reach.unknown.is_empty())
        };
        for entry in index.entries().into_iter().filter(needs) {
            let digest = entry.digest.to_string();
            let name = entry.name.as_ref().unwrap_or(&digest);
            log::warn!(
                "a manifest of {name} in the image store is damaged or too large, so what it needs is not known, and no blob is removed: pull it again, or remove it"
            );
        }
    }
}

/// What is needed.
#[derive(Debug, Default)]
struct Reach {
    found: BTreeSet<Digest>,
    /// Those of them that cannot be read, and may lead to anything.
    unknown: BTreeSet<Digest>,
}

impl Reach {
    /// Whether nothing of it needs this for certain.
    fn lacks(&self, digest: &Digest) -> bool {
        self.unknown.is_empty() && !self.found.contains(digest)
    }
}

/// Subjects, by the document that is about them.
type Abouts = BTreeMap<Digest, Digest>;

/// Whether a reference asks for this entry.
pub(crate) fn names(asked: &Reference, entry: &Entry) -> bool {
    let Some(reference) = &entry.reference else {
        return false;
    };
    if let Some(digest) = asked.digest() {
        return entry.digest == digest && reference.name() == asked.name();
    }
    reference == asked
}

impl Freed {
    /// Removes a file of a folder whose owner was checked.
    fn file(&mut self, folder: &Folder, name: &str) -> Result<(), StoreError> {
        let failed = |action| {
            let path = folder.join(name);
            move |source| StoreError::io(action, &path, source)
        };
        let Some(bytes) = folder.length(name).map_err(failed(StoreAction::Read))? else {
            return Ok(());
        };
        folder.remove(name).map_err(failed(StoreAction::Remove))?;
        self.files += 1;
        self.bytes += bytes;
        Ok(())
    }
}

/// Names that are gone stay gone when files that they led to cannot be removed: an error would call something undone
/// that is done.
fn warn_of_leftovers(swept: Result<(), StoreError>) {
    if let Err(error) = swept {
        let cause = std::error::Error::source(&error)
            .map_or_else(String::new, |cause| format!(": {cause}"));
        log::warn!("{error}{cause}: `bpfman image prune` removes what is left");
    }
}

/// Whether another tool may be about to name this blob: it is young, and others may read it, which no blob of ours is.
fn may_be_awaited(folder: &Folder, name: &str) -> bool {
    let Ok(Some(metadata)) = folder.metadata(name) else {
        return false;
    };
    let age = metadata
        .modified()
        .ok()
        .and_then(|written| SystemTime::now().duration_since(written).ok());
    metadata.mode() & 0o077 != 0 && age.is_none_or(|age| age < FOREIGN_GRACE)
}

/// Names of the regular files of a folder, sorted.
fn files(folder: &Folder) -> Result<Vec<String>, StoreError> {
    let found = folder.files();
    found.map_err(|source: io::Error| StoreError::io(StoreAction::Read, folder.path(), source))
}
