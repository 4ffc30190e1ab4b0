use std::collections::{BTreeMap, BTreeSet, btree_map};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use super::ArchiveError;
use super::layout::{self, BLOBS, INDEX, MARK, MAX_MARK_BYTES};
use crate::digest::{Digest, VerifiedBytes};
use crate::folder;
use crate::limits::{MAX_CONFIG_BYTES, MAX_LAYER_BYTES, MAX_MANIFEST_BYTES, MAX_STORE_INDEX_BYTES};
use crate::manifest::{self, Document, ImageManifest, ManifestError};
use crate::platform::Platform;
use crate::printable::printable;
use crate::pull::{Contents, Wanted};
use crate::reference::Reference;
use crate::store::index;
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
/// Every blob is hashed; every image is opened as one that was pulled would be. Images without a name are passed over.
///
/// # Errors
///
/// When the file is no OCI archive, an image in it is incomplete, damaged or no bytecode image, or the store cannot be
/// written. The store's index is then as it was.
pub fn import(store: &Store, file: &Path) -> Result<Vec<Imported>, ArchiveError> {
    let mut archive = Archive::open(file)?;
    let entries = archive.entries()?;
    let named: Vec<(&Reference, &Entry)> = entries
        .iter()
        .filter_map(|entry| Some((entry.reference.as_ref()?, entry)))
        .collect();
    if named.is_empty() {
        return Err(ArchiveError::NoName {
            file: file.to_owned(),
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
    file: File,
    /// Place and length of every blob by its name.
    blobs: BTreeMap<Digest, (u64, u64)>,
    index: Vec<u8>,
}

impl Archive {
    fn open(path: &Path) -> Result<Self, ArchiveError> {
        let failed = |source| ArchiveError::Read {
            file: path.to_owned(),
            source,
        };
        let mut file = folder::open_file(path).map_err(failed)?;
        let mut magic = [0; 4];
        let length = file.read(&mut magic).map_err(failed)?;
        let magic = magic.get(..length).unwrap_or_default();
        if magic.starts_with(&[0x1f, 0x8b]) || magic == [0x28, 0xb5, 0x2f, 0xfd] {
            return Err(ArchiveError::Compressed {
                file: path.to_owned(),
            });
        }
        file.rewind().map_err(failed)?;
        let (mut blobs, mut index, mut mark) = (BTreeMap::new(), None, None);
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
            let mut entry = entry.map_err(failed)?;
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
            if !kind.is_file() {
                return Err(ArchiveError::Kind {
                    file: path.to_owned(),
                    path: printable(name, 128),
                });
            }
            let size = entry.size();
            let place = entry.raw_file_position();
            let small = |entry: &mut dyn Read, limit: u64| {
                let mut bytes = Vec::new();
                let read = entry.take(limit + 1).read_to_end(&mut bytes);
                match read.map_err(failed)? as u64 > limit {
                    true => Err(failed(io::Error::other("a file of the layout is too long"))),
                    false => Ok(bytes),
                }
            };
            match name {
                MARK => mark = Some(small(&mut entry, MAX_MARK_BYTES)?),
                INDEX => index = Some(small(&mut entry, MAX_STORE_INDEX_BYTES)?),
                _ => {
                    if let Some(hex) = name.strip_prefix(BLOBS)
                        && let Ok(digest) = Digest::parse(&format!("sha256:{hex}"))
                    {
                        blobs.entry(digest).or_insert((place, size));
                    }
                }
            }
        }
        let missing = |missing| ArchiveError::NotALayout {
            file: path.to_owned(),
            missing,
        };
        let mark = mark.ok_or_else(|| missing(MARK))?;
        let index = index.ok_or_else(|| missing(INDEX))?;
        let version = layout::version(&mark).map_err(|source| ArchiveError::Part {
            file: path.to_owned(),
            part: MARK,
            source,
        })?;
        if !version.starts_with("1.0.") {
            return Err(ArchiveError::Version {
                file: path.to_owned(),
                found: printable(&version, 32),
            });
        }
        Ok(Self {
            path: path.to_owned(),
            file,
            blobs,
            index,
        })
    }

    /// The entries of its index, whose text is not needed any more then.
    fn entries(&mut self) -> Result<Vec<Entry>, ArchiveError> {
        let bytes = std::mem::take(&mut self.index);
        let index = index::parse(&bytes).map_err(|source| ArchiveError::Part {
            file: self.path.clone(),
            part: INDEX,
            source,
        })?;
        drop(bytes);
        Ok(index.entries())
    }

    /// A blob, read once and hashed; `None` when it is not there.
    fn blob(
        &self,
        name: &Reference,
        digest: Digest,
        limit: u64,
    ) -> Result<Option<VerifiedBytes>, ArchiveError> {
        let Some((place, found)) = self.blobs.get(&digest).copied() else {
            return Ok(None);
        };
        if found > limit {
            return Err(ArchiveError::TooLarge {
                name: name.to_string(),
                digest,
                found,
                limit,
            });
        }
        let mut file = &self.file;
        file.seek(SeekFrom::Start(place))
            .map_err(|source| self.failed(source))?;
        let mut bytes = Vec::new();
        file.take(found)
            .read_to_end(&mut bytes)
            .map_err(|source| self.failed(source))?;
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
