use std::collections::{BTreeMap, BTreeSet, btree_map};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::form::Form;
use super::members::Members;
use super::{ArchiveError, Input};
use crate::digest::{Digest, VerifiedBytes};
use crate::limits::{MAX_CONFIG_BYTES, MAX_LAYER_BYTES, MAX_MANIFEST_BYTES};
use crate::manifest::{self, Document, ImageManifest, ManifestError};
use crate::platform::Platform;
use crate::pull::{Contents, Wanted};
use crate::reference::Reference;
use crate::store::links::Links;
use crate::store::{Entry, Named, NewBlob, Store, StoreError, Writer};

/// Most files of an archive: 65536, some twenty thousand images.
pub const MAX_ARCHIVE_ENTRIES: usize = 65_536;

/// Most documents that something said about an image may lead to: 256.
const MAX_ABOUT_DOCUMENTS: usize = 256;

/// One image that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Imported {
    /// Its name.
    pub reference: Reference,
    /// What the name stands for.
    pub digest: Digest,
    /// Platforms that were in the archive.
    pub platforms: Vec<Platform>,
}

/// Reads the images of an archive into the store, with what is said about them (signatures). All of them or none.
///
/// As [`import_from`], from a file or a folder, under the names in it.
///
/// # Errors
///
/// As [`import_from`].
pub fn import(store: &Store, file: &Path) -> Result<Vec<Imported>, ArchiveError> {
    import_from(store, Input::Path(file), None)
}

/// Reads the images of an archive into the store, with what is said about them (signatures). All of them or none.
///
/// The archive is an OCI image layout or what `docker save` writes, as a tar, plain or compressed by gzip or zstd, or as a
/// folder; or a folder of the `dir:` transport. Every blob is hashed; every image is opened as one that was pulled would
/// be. With a `tag`, the one image of the archive gets that name; without, images that have none are skipped.
///
/// # Errors
///
/// When the file is no archive, an image in it is incomplete, damaged or no bytecode image, or the store cannot be
/// written. The store's index is then as it was.
pub fn import_from(
    store: &Store,
    input: Input<'_>,
    tag: Option<&Reference>,
) -> Result<Vec<Imported>, ArchiveError> {
    let file = input.name().to_owned();
    let (archive, mut entries) = Archive::open(store, input)?;
    if let Some(tag) = tag {
        let mut images: Vec<&mut Entry> = entries
            .iter_mut()
            .filter(|entry| entry.about().is_none())
            .collect();
        // One image may be there under several names.
        let digest = images.first().map(|entry| entry.digest);
        if images.iter().any(|entry| Some(entry.digest) != digest) {
            return Err(ArchiveError::SeveralImages {
                file,
                found: images.len(),
            });
        }
        if let Some(image) = images.first_mut() {
            image.reference = Some(tag.clone());
            for other in images.iter_mut().skip(1) {
                other.reference = None;
            }
        }
    }
    let named: Vec<(&Reference, &Entry)> = entries
        .iter()
        .filter_map(|entry| Some((entry.reference.as_ref()?, entry)))
        .collect();
    if named.is_empty() {
        return Err(ArchiveError::NoName {
            file,
            unnamed: entries.len(),
        });
    }
    let writer = store.writer()?;
    let mut load = Load {
        archive: &archive,
        store,
        writer: &writer,
        blobs: BTreeMap::new(),
    };
    let mut imported = Vec::new();
    let mut platforms = Vec::new();
    for (reference, entry) in &named {
        if entry.about().is_some() || load.subject(reference, entry)?.is_some() {
            load.about(reference, entry)?;
            platforms.push(None);
            continue;
        }
        let found = load.image(reference, entry)?;
        platforms.push(match found.single {
            true => found.platforms.first().cloned(),
            false => None,
        });
        imported.push(Imported {
            reference: (*reference).clone(),
            digest: entry.digest,
            platforms: found.platforms,
        });
    }
    let names: Vec<_> = named
        .iter()
        .zip(&platforms)
        .map(|((reference, entry), platform)| Named {
            reference,
            media_type: &entry.media_type,
            digest: entry.digest,
            size: entry.size,
            platform: platform.as_ref(),
        })
        .collect();
    let blobs = std::mem::take(&mut load.blobs)
        .into_values()
        .flatten()
        .collect();
    writer.commit(blobs, &names)?;
    Ok(imported)
}

/// An archive whose files have been found.
struct Archive {
    path: PathBuf,
    members: Members,
    form: Form,
}

impl Archive {
    fn open(store: &Store, input: Input<'_>) -> Result<(Self, Vec<Entry>), ArchiveError> {
        let path = input.name().to_owned();
        let members = input.members(store)?;
        let (form, entries) = Form::of(&path, &members)?;
        let archive = Self {
            path,
            members,
            form,
        };
        Ok((archive, entries))
    }

    /// A blob, read once and hashed; `None` when it is not there.
    fn blob(
        &self,
        name: &Reference,
        digest: Digest,
        limit: u64,
    ) -> Result<Option<VerifiedBytes>, ArchiveError> {
        let Some(content) = self.form.blob(&self.members, digest)? else {
            return Ok(None);
        };
        let found = content.size;
        if found > limit {
            return Err(ArchiveError::TooLarge {
                name: name.to_string(),
                digest,
                found,
                limit,
            });
        }
        let mut bytes = Vec::new();
        let read = content.reader.take(found).read_to_end(&mut bytes);
        read.map_err(|source| self.failed(source))?;
        VerifiedBytes::with_digest(bytes, digest)
            .map(Some)
            .map_err(|found| ArchiveError::Damaged {
                name: name.to_string(),
                digest,
                found,
            })
    }

    fn failed(&self, source: io::Error) -> ArchiveError {
        ArchiveError::Read {
            file: self.path.clone(),
            source,
        }
    }
}

/// What is on its way into the store.
struct Load<'a> {
    archive: &'a Archive,
    store: &'a Store,
    writer: &'a Writer<'a>,
    /// What the images need; `None` for what the store has.
    blobs: BTreeMap<Digest, Option<NewBlob>>,
}

/// An image that was checked.
struct Found {
    /// Whether it is one manifest, without an index.
    single: bool,
    platforms: Vec<Platform>,
}

impl Load<'_> {
    fn missing(name: &Reference, digest: Digest) -> ArchiveError {
        ArchiveError::Missing {
            name: name.to_string(),
            digest,
        }
    }

    fn document(
        &self,
        name: &Reference,
        digest: Digest,
        media_type: &str,
        size: u64,
    ) -> Result<Option<(Document, VerifiedBytes)>, ArchiveError> {
        let Some(bytes) = self.archive.blob(name, digest, MAX_MANIFEST_BYTES)? else {
            return Ok(None);
        };
        let refused = |source| ArchiveError::Manifest {
            name: name.to_string(),
            source,
        };
        let found = bytes.len() as u64;
        if found != size {
            return Err(refused(ManifestError::Length {
                what: "manifest",
                expected: size,
                found,
            }));
        }
        let parsed = manifest::parse(&bytes, Some(media_type));
        parsed
            .map(|(document, _)| Some((document, bytes)))
            .map_err(refused)
    }

    fn subject(&self, name: &Reference, entry: &Entry) -> Result<Option<Digest>, ArchiveError> {
        let bytes = self.archive.blob(name, entry.digest, MAX_MANIFEST_BYTES)?;
        Ok(bytes.and_then(|bytes| Links::of(&bytes).subject))
    }

    /// Something that is said about an image: whatever it leads to. What is missing of it was missing where the archive
    /// was made: one signature without its payload must not keep out the others, or the image.
    fn about(&mut self, name: &Reference, entry: &Entry) -> Result<(), ArchiveError> {
        let mut documents = vec![entry.digest];
        let mut seen = BTreeSet::new();
        while let Some(digest) = documents.pop() {
            if !seen.insert(digest) {
                continue;
            }
            // Some of it would be worth nothing.
            if seen.len() > MAX_ABOUT_DOCUMENTS {
                return Err(ArchiveError::TooManyDocuments {
                    name: name.to_string(),
                    limit: MAX_ABOUT_DOCUMENTS,
                });
            }
            let Some(bytes) = self.archive.blob(name, digest, MAX_MANIFEST_BYTES)? else {
                if digest == entry.digest {
                    return Err(Self::missing(name, digest));
                }
                continue;
            };
            self.keep(&bytes)?;
            let links = Links::of(&bytes);
            for content in links.contents {
                match self.take(name, content, MAX_LAYER_BYTES) {
                    Err(ArchiveError::Missing { .. }) => {}
                    taken => drop(taken?),
                }
            }
            documents.extend(links.documents);
        }
        Ok(())
    }

    fn image(&mut self, name: &Reference, entry: &Entry) -> Result<Found, ArchiveError> {
        let (document, bytes) = self
            .document(name, entry.digest, &entry.media_type, entry.size)?
            .ok_or_else(|| Self::missing(name, entry.digest))?;
        self.keep(&bytes)?;
        let refused = |source| ArchiveError::Manifest {
            name: name.to_string(),
            source,
        };
        let mut platforms = Vec::new();
        match document {
            Document::Image(manifest) => {
                platforms.extend(self.open(
                    name,
                    entry.platform.clone(),
                    entry.digest,
                    &manifest,
                )?);
                return Ok(Found {
                    single: true,
                    platforms,
                });
            }
            Document::Index(index) => {
                let mut first_missing = None;
                for descriptor in index.images() {
                    let digest = descriptor.digest;
                    match self.document(name, digest, &descriptor.media_type, descriptor.size)? {
                        // Only the platforms that were asked for are in an archive.
                        None => first_missing = first_missing.or(Some(digest)),
                        Some((Document::Image(manifest), bytes)) => {
                            self.keep(&bytes)?;
                            let platform = descriptor.platform();
                            platforms.extend(self.open(name, platform, digest, &manifest)?);
                        }
                        Some((Document::Index(_), _)) => {
                            return Err(refused(ManifestError::Nested));
                        }
                    }
                }
                if platforms.is_empty() {
                    let digest = first_missing.unwrap_or(entry.digest);
                    return Err(Self::missing(name, digest));
                }
            }
        }
        Ok(Found {
            single: false,
            platforms,
        })
    }

    /// Takes one platform's contents, and checks that they are a bytecode image.
    fn open(
        &mut self,
        name: &Reference,
        platform: Option<Platform>,
        digest: Digest,
        manifest: &ImageManifest,
    ) -> Result<Option<Platform>, ArchiveError> {
        let config = self.take(name, manifest.config.digest, MAX_CONFIG_BYTES)?;
        let layer = self.take(name, manifest.layer.digest, MAX_LAYER_BYTES)?;
        let wanted = Wanted {
            reference: name,
            platform: platform.as_ref(),
        };
        let contents = Contents {
            digest,
            manifest_digest: digest,
            manifest,
            config: &config,
            layer: &layer,
            from_store: false,
        };
        let opened = contents
            .open(&wanted)
            .map_err(|source| ArchiveError::Refused {
                file: self.archive.path.clone(),
                source: Box::new(source),
            });
        Ok(Some(opened?.platform))
    }

    /// A blob, from the store where that has it, else from the archive; then it is put beside the store.
    fn take(
        &mut self,
        name: &Reference,
        digest: Digest,
        limit: u64,
    ) -> Result<VerifiedBytes, ArchiveError> {
        match self.store.read(digest, limit) {
            Ok(Some(bytes)) => {
                self.blobs.entry(digest).or_insert(None);
                return Ok(bytes);
            }
            // One that was set aside comes anew.
            Ok(None) | Err(StoreError::Damaged { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        let bytes = self
            .archive
            .blob(name, digest, limit)?
            .ok_or_else(|| Self::missing(name, digest))?;
        self.put(&bytes)?;
        Ok(bytes)
    }

    /// Puts a document beside the store, unless the store has it.
    fn keep(&mut self, bytes: &VerifiedBytes) -> Result<(), ArchiveError> {
        let digest = bytes.digest();
        if self.blobs.contains_key(&digest) {
            return Ok(());
        }
        match self.store.read(digest, MAX_MANIFEST_BYTES) {
            Ok(Some(_)) => {
                self.blobs.insert(digest, None);
                Ok(())
            }
            Ok(None) | Err(StoreError::Damaged { .. }) => self.put(bytes),
            Err(error) => Err(error.into()),
        }
    }

    fn put(&mut self, bytes: &VerifiedBytes) -> Result<(), ArchiveError> {
        if let btree_map::Entry::Vacant(place) = self.blobs.entry(bytes.digest()) {
            place.insert(Some(self.writer.blob(bytes)?));
        }
        Ok(())
    }
}
