use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use super::ArchiveError;
use super::layout::{BLOBS, INDEX, MARK};
use crate::digest::Digest;
use crate::limits::{MAX_CONFIG_BYTES, MAX_LAYER_BYTES, MAX_MANIFEST_BYTES};
use crate::platform::Platform;
use crate::reference::Reference;
use crate::store::index::Index;
use crate::store::links::Links;
use crate::store::{Entry, LAYOUT, Named, Store, StoreError, StoredImage, StoredPlatform};

/// Which platforms of an image go into an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Platforms {
    /// The nearest to this one.
    One(Platform),
    /// All that the store has.
    All,
}

/// One image of an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exported {
    /// Its name.
    pub reference: Reference,
    /// What the name stands for.
    pub digest: Digest,
    /// Platforms in the archive.
    pub platforms: Vec<Platform>,
    /// Platforms that the image has and the store has not.
    pub absent: Vec<Platform>,
}

/// Writes images of the store, with what is said about them (signatures), into one archive.
///
/// The same images give the same bytes: sorted, without times and owners. The file appears under its name when it is
/// whole; one that was there is replaced then.
///
/// # Errors
///
/// When the store does not have one of them whole, a blob is damaged, the file cannot be written, or under its name is
/// something else than a file: what a link leads to or a device is never written to.
pub fn export(
    store: &Store,
    references: &[Reference],
    platforms: &Platforms,
    file: &Path,
) -> Result<Vec<Exported>, ArchiveError> {
    export_to(store, references, platforms, Destination::File(file))
}

/// Where an archive goes.
#[derive(Debug)]
pub enum Destination<'a> {
    /// A file, which appears under its name when it is whole.
    File(&'a Path),
    /// A stream such as standard output: what was written before an error stays written.
    Stream(&'a mut dyn WriteDebug),
}

/// A writer that can be shown.
pub trait WriteDebug: Write + std::fmt::Debug {}

impl<W: Write + std::fmt::Debug> WriteDebug for W {}

/// As [`export`], to a file or to a stream.
///
/// # Errors
///
/// As [`export`].
pub fn export_to(
    store: &Store,
    references: &[Reference],
    platforms: &Platforms,
    destination: Destination<'_>,
) -> Result<Vec<Exported>, ArchiveError> {
    let file = match &destination {
        Destination::File(file) => {
            refuse_others(file)?;
            *file
        }
        Destination::Stream(_) => Path::new("-"),
    };
    let _reader = store.reader()?;
    let mut index = Index::default();
    let mut blobs = BTreeMap::new();
    let mut exported = BTreeMap::new();
    for reference in references {
        for image in store.images_named(reference)? {
            let chosen = choose(reference, &image, platforms)?;
            blobs.insert(image.entry.digest, MAX_MANIFEST_BYTES);
            for platform in &chosen {
                blobs.insert(platform.manifest, MAX_MANIFEST_BYTES);
                if let Some(held) = platform.held() {
                    blobs.insert(held.config.digest, MAX_CONFIG_BYTES);
                    blobs.insert(held.layer.digest, MAX_LAYER_BYTES);
                }
            }
            name(&mut index, &image.entry);
            for entry in &image.about {
                name(&mut index, entry);
                about(store, entry, &mut blobs)?;
            }
            if let Some(found) = report(&image, &chosen) {
                exported.insert(found.reference.clone(), found);
            }
        }
    }
    index.sort();
    let index = serde_json::to_vec(&index).map_err(|source| ArchiveError::Part {
        file: file.to_owned(),
        part: INDEX,
        source,
    })?;
    match destination {
        Destination::File(file) => write(store, file, &index, &blobs)?,
        Destination::Stream(stream) => {
            let stream = BufWriter::new(stream);
            let failed = |source| ArchiveError::Write {
                file: PathBuf::from("-"),
                source,
            };
            let mut buffer = write_tar(store, stream, &index, &blobs, &failed)?;
            buffer.flush().map_err(failed)?;
        }
    }
    Ok(exported.into_values().collect())
}

/// The platforms of an image that go into the archive; at least one.
fn choose<'a>(
    reference: &Reference,
    image: &'a StoredImage,
    platforms: &Platforms,
) -> Result<Vec<&'a StoredPlatform>, ArchiveError> {
    let held: Vec<_> = image
        .platforms
        .iter()
        .filter(|found| found.held().is_some())
        .collect();
    let chosen = match platforms {
        Platforms::All => held.clone(),
        Platforms::One(wanted) => {
            let distance = |found: &&&StoredPlatform| match &found.platform {
                Some(platform) => wanted.distance(platform),
                // An image that does not say what it is for.
                None => Some(usize::MAX),
            };
            let nearest = held
                .iter()
                .filter(|found| distance(found).is_some())
                .min_by_key(|found| distance(found));
            nearest.copied().into_iter().collect()
        }
    };
    if chosen.is_empty() {
        return Err(ArchiveError::NotHeld {
            reference: Box::new(reference.clone()),
            wanted: match platforms {
                Platforms::All => "any platform".to_owned(),
                Platforms::One(platform) => platform.to_string(),
            },
            held: held
                .iter()
                .filter_map(|found| found.platform.clone())
                .collect(),
        });
    }
    Ok(chosen)
}

fn report(image: &StoredImage, chosen: &[&StoredPlatform]) -> Option<Exported> {
    let absent = image
        .platforms
        .iter()
        .filter(|found| found.held().is_none());
    Some(Exported {
        reference: image.entry.reference.clone()?,
        digest: image.entry.digest,
        platforms: chosen
            .iter()
            .filter_map(|found| found.platform.clone())
            .collect(),
        absent: absent.filter_map(|found| found.platform.clone()).collect(),
    })
}

fn name(index: &mut Index, entry: &Entry) {
    if let Some(reference) = &entry.reference {
        index.name(&Named {
            reference,
            media_type: &entry.media_type,
            digest: entry.digest,
            size: entry.size,
            platform: entry.platform.as_ref(),
        });
    }
}

/// The blobs of something that is said about an image.
fn about(
    store: &Store,
    entry: &Entry,
    blobs: &mut BTreeMap<Digest, u64>,
) -> Result<(), StoreError> {
    let mut documents = vec![entry.digest];
    let mut seen = BTreeSet::new();
    while let Some(digest) = documents.pop() {
        if !seen.insert(digest) {
            continue;
        }
        if let Some(bytes) = store.read(digest, MAX_MANIFEST_BYTES)? {
            blobs.insert(digest, MAX_MANIFEST_BYTES);
            let links = Links::of(&bytes);
            for content in links.contents {
                blobs.insert(content, MAX_LAYER_BYTES);
            }
            documents.extend(links.documents);
        }
    }
    Ok(())
}

/// Writes beside the file, then renames.
fn write(
    store: &Store,
    file: &Path,
    index: &[u8],
    blobs: &BTreeMap<Digest, u64>,
) -> Result<(), ArchiveError> {
    let failed = |source| ArchiveError::Write {
        file: file.to_owned(),
        source,
    };
    let (unfinished, written) = Unfinished::beside(file).map_err(failed)?;
    let mut buffer = write_tar(store, BufWriter::new(written), index, blobs, &failed)?;
    buffer.flush().map_err(failed)?;
    buffer.get_ref().sync_data().map_err(failed)?;
    fs::rename(&unfinished.0, file).map_err(failed)
}

fn write_tar<W: Write>(
    store: &Store,
    writer: W,
    index: &[u8],
    blobs: &BTreeMap<Digest, u64>,
    failed: &dyn Fn(io::Error) -> ArchiveError,
) -> Result<W, ArchiveError> {
    let mut tar = tar::Builder::new(writer);
    append(&mut tar, MARK, LAYOUT.len() as u64, LAYOUT).map_err(failed)?;
    append(&mut tar, INDEX, index.len() as u64, index).map_err(failed)?;
    for (digest, limit) in blobs {
        // What is missing of what is said about an image was missing before.
        let Some(blob) = store.read(*digest, *limit)? else {
            continue;
        };
        let size = blob.len() as u64;
        append(&mut tar, &format!("{BLOBS}{}", digest.hex()), size, &*blob).map_err(failed)?;
    }
    tar.into_inner().map_err(failed)
}

/// One file, which anybody may read, of nobody, made at no time.
fn append(
    tar: &mut tar::Builder<impl Write>,
    path: &str,
    size: u64,
    content: impl Read,
) -> io::Result<()> {
    let mut header = tar::Header::new_ustar();
    header.set_path(path)?;
    header.set_size(size);
    header.set_mode(0o644);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header.set_cksum();
    tar.append(&header, content.take(size))
}

/// A file that goes unless it was renamed.
struct Unfinished(PathBuf);

impl Unfinished {
    /// In a folder that others may write to, nobody may have put a link where this one will be: its name cannot be
    /// guessed, and it must not be there.
    fn beside(file: &Path) -> io::Result<(Self, File)> {
        let mut name = file.file_name().unwrap_or_default().to_owned();
        let random = RandomState::new().hash_one(std::process::id());
        name.push(format!(".{random:016x}.unfinished"));
        let path = file.with_file_name(name);
        let written = OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(&path)?;
        Ok((Self(path), written))
    }
}

/// Refuses a name that a file cannot be renamed to without harm: as root, `/dev/stdout` would be gone.
fn refuse_others(file: &Path) -> Result<(), ArchiveError> {
    let kind = match fs::symlink_metadata(file) {
        Ok(about) => about.file_type(),
        // What is wrong with the folder is said when it is written to.
        Err(_) => return Ok(()),
    };
    let found = match () {
        () if kind.is_file() => return Ok(()),
        () if kind.is_dir() => "a folder",
        () if kind.is_symlink() => "a symbolic link",
        () if kind.is_fifo() => "a pipe",
        () => "a device or socket",
    };
    Err(ArchiveError::NotAFile {
        file: file.to_owned(),
        found,
    })
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}
