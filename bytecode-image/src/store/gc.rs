//! Taking things out of the store: names, and the blobs that no name leads to.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use serde_json::{Map, Value};

use crate::digest::Digest;
use crate::limits::MAX_MANIFEST_BYTES;
use crate::near::near;
use crate::reference::Reference;
use crate::store::index::{self, Index};
use crate::store::{Entry, Store, StoreAction, StoreError};

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
    /// writes. The index is written first: a crash leaves blobs that [`prune`](Self::prune) removes.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unknown`] for a name that the store does not have; nothing is removed then. Else as every writer.
    pub fn remove(&self, references: &[Reference]) -> Result<Freed, StoreError> {
        self.check_known(references)?;
        let writer = self.alone()?;
        let _lock = self.lock_index()?;
        // Again, now that nobody can change it.
        self.check_known(references)?;
        let mut index = index::read(&self.index_path())?;
        let before = self.reachable(index.roots())?;
        let mut entries = index.remove(|entry| references.iter().any(|asked| names(asked, entry)));
        // Signatures of signatures: as long as something lost what it is about.
        loop {
            let (images, about) = self.split(&index)?;
            let kept = self.reachable(images.into_iter())?;
            let lonely = index.remove(|entry| {
                about
                    .get(&entry.digest)
                    .is_some_and(|subject| !kept.contains(subject))
            });
            if lonely.is_empty() {
                break;
            }
            entries.extend(lonely);
        }
        writer.replace_index(&index)?;
        let kept = self.reachable(index.roots())?;
        let mut freed = Freed {
            entries,
            ..Freed::default()
        };
        for digest in before.difference(&kept) {
            freed.file(&self.blob_path(*digest))?;
        }
        self.forget_admissions();
        Ok(freed)
    }

    /// Removes every blob that no entry of the index leads to, blobs that were damaged, and what writers left that were
    /// killed; with `all` every entry too. Waits until nobody reads or writes.
    ///
    /// A young blob of another tool stays ([`FOREIGN_GRACE`]), as its name may be about to come; ours have their name
    /// before the lock is given back.
    ///
    /// # Errors
    ///
    /// As every writer.
    pub fn prune(&self, all: bool) -> Result<Freed, StoreError> {
        let mut freed = Freed::default();
        if !self.dir.exists() {
            return Ok(freed);
        }
        let writer = self.alone()?;
        let _lock = self.lock_index()?;
        let mut index = index::read(&self.index_path())?;
        let mut named = BTreeSet::new();
        if all {
            named = self.reachable(index.roots())?;
            freed.entries = index.remove(|_| true);
            if !freed.entries.is_empty() {
                writer.replace_index(&index)?;
            }
        }
        let kept = self.reachable(index.roots())?;
        for path in files(&self.blob_dir())? {
            let Some(digest) = path
                .file_name()
                .and_then(|name| Digest::parse(&format!("sha256:{}", name.to_str()?)).ok())
            else {
                // Another tool's work in progress.
                continue;
            };
            if !kept.contains(&digest) && (named.contains(&digest) || !may_be_awaited(&path)) {
                freed.file(&path)?;
            }
        }
        for path in files(&self.own_dir().join("damaged"))? {
            freed.file(&path)?;
        }
        self.forget_admissions();
        Ok(freed)
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
            Err(StoreError::Damaged { .. } | StoreError::TooLarge { .. }) => Ok(None),
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

    /// The roots and everything that they lead to. A blob that is not there leads nowhere, and neither does one that is
    /// damaged: no image can be read through it.
    fn reachable(
        &self,
        roots: impl Iterator<Item = Digest>,
    ) -> Result<BTreeSet<Digest>, StoreError> {
        let mut found = BTreeSet::new();
        let mut documents: Vec<Digest> = roots.collect();
        let mut read = BTreeSet::new();
        while let Some(digest) = documents.pop() {
            found.insert(digest);
            if !read.insert(digest) {
                continue;
            }
            let bytes = match self.read(digest, MAX_MANIFEST_BYTES) {
                Ok(Some(bytes)) => bytes,
                Ok(None) | Err(StoreError::Damaged { .. } | StoreError::TooLarge { .. }) => {
                    continue;
                }
                Err(error) => return Err(error),
            };
            let links = Links::of(&bytes);
            found.extend(links.contents);
            documents.extend(links.documents);
        }
        Ok(found)
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

/// What a document leads to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Links {
    /// Other documents: `manifests`.
    pub(crate) documents: Vec<Digest>,
    /// Contents: `config`, `layers` and `blobs`.
    pub(crate) contents: Vec<Digest>,
    /// What it is about. Nobody needs an image because something is said about it.
    pub(crate) subject: Option<Digest>,
}

impl Links {
    /// Of any manifest or index (image-spec, manifest.md, image-index.md; artifacts too). What is no document leads
    /// nowhere.
    pub(crate) fn of(bytes: &[u8]) -> Self {
        let document: Map<String, Value> = serde_json::from_slice(bytes).unwrap_or_default();
        let many = |key: &str| {
            let list = document.get(key).and_then(Value::as_array);
            list.into_iter().flatten()
        };
        let digest = |descriptor: &Value| {
            let text = descriptor.get("digest")?.as_str()?;
            Digest::parse(text).ok()
        };
        Self {
            documents: many("manifests").filter_map(digest).collect(),
            contents: many("layers")
                .chain(many("blobs"))
                .chain(document.get("config"))
                .filter_map(digest)
                .collect(),
            subject: document.get("subject").and_then(digest),
        }
    }
}

impl Freed {
    fn file(&mut self, path: &Path) -> Result<(), StoreError> {
        let bytes = match fs::metadata(path) {
            Ok(metadata) => metadata.len(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(source) => return Err(StoreError::io(StoreAction::Read, path, source)),
        };
        fs::remove_file(path)
            .map_err(|source| StoreError::io(StoreAction::Remove, path, source))?;
        self.files += 1;
        self.bytes += bytes;
        Ok(())
    }
}

/// Whether another tool may be about to name this blob: it is young, and others may read it, which no blob of ours is.
fn may_be_awaited(path: &Path) -> bool {
    let Ok(metadata) = fs::metadata(path) else {
        return false;
    };
    let age = metadata
        .modified()
        .ok()
        .and_then(|written| SystemTime::now().duration_since(written).ok());
    metadata.mode() & 0o077 != 0 && age.is_none_or(|age| age < FOREIGN_GRACE)
}

/// The regular files of a folder, sorted; none when there is no such folder.
fn files(dir: &Path) -> Result<Vec<std::path::PathBuf>, StoreError> {
    let failed = |source| StoreError::io(StoreAction::Read, dir, source);
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(failed)?;
        if entry.file_type().map_err(failed)?.is_file() {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_documents_lead() {
        let digest = |text: &str| Digest::of(text.as_bytes());
        let descriptor = |text: &str| format!(r#"{{"digest":"{}"}}"#, digest(text));
        let image = format!(
            r#"{{"config":{},"layers":[{},{{"digest":"sha512:0"}},1],"subject":{}}}"#,
            descriptor("c"),
            descriptor("l"),
            descriptor("s")
        );
        let index = format!(r#"{{"manifests":[{},{{}}]}}"#, descriptor("m"));
        let artifact = format!(r#"{{"blobs":[{}],"subject":null}}"#, descriptor("b"));
        let links = |text: &str| Links::of(text.as_bytes());
        assert_eq!(links(&image).documents, []);
        assert_eq!(links(&image).subject, Some(digest("s")));
        assert_eq!(links(&image).contents, [digest("l"), digest("c")]);
        assert_eq!(links(&index).documents, [digest("m")]);
        assert_eq!(links(&artifact).contents, [digest("b")]);
        for text in ["", "[]", "1", r#"{"layers":{}}"#] {
            assert_eq!(links(text), Links::default(), "{text}");
        }
    }
}
