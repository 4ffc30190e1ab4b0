//! The layer of a bytecode image: a tar, plain, gzip or zstd, with one eBPF object in it.

pub(crate) mod frames;
mod unpack;

use std::fmt;
use std::io::{self, Read};
use std::path::{Component, Path};

use bytecode_object::{MAX_OBJECT_BYTES, ObjectError, ObjectInfo};

use crate::digest::{Digest, DigestError, VerifiedBytes};
use crate::limits::MAX_LAYER_ENTRIES;
use crate::printable::printable;

/// How much of a path or media type a message shows.
const MESSAGE_CHARS: usize = 128;

/// How many of a layer's files a message names.
const NAMED_FILES: usize = 8;

/// Media types of the layers that are read, with how they are packed. The last two are what Docker writes.
const MEDIA_TYPES: [(&str, Packing); 5] = [
    ("application/vnd.oci.image.layer.v1.tar", Packing::Plain),
    ("application/vnd.oci.image.layer.v1.tar+gzip", Packing::Gzip),
    ("application/vnd.oci.image.layer.v1.tar+zstd", Packing::Zstd),
    (
        "application/vnd.docker.image.rootfs.diff.tar",
        Packing::Plain,
    ),
    (
        "application/vnd.docker.image.rootfs.diff.tar.gzip",
        Packing::Gzip,
    ),
];

#[derive(Debug, Clone, Copy)]
enum Packing {
    Plain,
    Gzip,
    Zstd,
}

/// The object of a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerObject {
    /// File name without folders.
    pub name: String,
    /// The ELF file.
    pub bytes: Vec<u8>,
    /// What it offers.
    pub info: ObjectInfo,
}

/// A regular file that is not a usable object, and why.
#[derive(Debug)]
pub struct OtherFile {
    /// Path in the layer.
    pub path: String,
    /// What was found instead of a usable object.
    pub reason: ObjectError,
}

impl fmt::Display for OtherFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.path, self.reason)
    }
}

/// Why a layer gives no object.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LayerError {
    /// A media type that is not read.
    #[error(
        "its media type is `{found}`: expected an OCI or Docker tar layer, plain, gzip or zstd"
    )]
    MediaType {
        /// The media type, shortened.
        found: String,
    },
    /// Damaged tar, gzip or zstd.
    #[error("it cannot be unpacked")]
    Unpack(#[source] io::Error),
    /// Bytes after the end, which other tools may read as something else.
    #[error("it goes on after the end of its {what}, with {bytes} bytes: expected nothing there")]
    Trailing {
        /// `gzip stream`, `zstd stream` or `tar archive`.
        what: &'static str,
        /// How many.
        bytes: usize,
    },
    /// Content that its configuration does not name.
    #[error(
        "it unpacks to content with digest {found}: expected {expected}, the DiffID in its configuration"
    )]
    DiffId {
        /// In the configuration.
        expected: Digest,
        /// Digest of the tar.
        found: Digest,
    },
    /// A configuration for another number of layers.
    #[error(
        "its configuration has {found} DiffIDs (`rootfs.diff_ids`): expected one, for its one layer"
    )]
    DiffIds {
        /// How many.
        found: usize,
    },
    /// A DiffID that cannot be compared.
    #[error("the DiffID in its configuration cannot be used")]
    DiffIdForm(#[source] DigestError),
    /// More than [`MAX_UNPACKED_BYTES`](crate::limits::MAX_UNPACKED_BYTES): damaged, or a bomb.
    #[error("it unpacks to more than the {limit} bytes that are allowed")]
    TooLarge {
        /// The cap.
        limit: u64,
    },
    /// More than [`MAX_LAYER_ENTRIES`].
    #[error("it has more than {limit} files: a bytecode image has one object")]
    TooMany {
        /// The cap.
        limit: usize,
    },
    /// `..` or an absolute path: made to be unpacked somewhere else.
    #[error("it has a file `{path}` that points out of the layer")]
    Path {
        /// The path.
        path: String,
    },
    /// A link, device, pipe or sparse file.
    #[error("it has `{path}`, which is {kind}: only regular files and folders are read")]
    Kind {
        /// Path in the layer.
        path: String,
        /// What it is.
        kind: &'static str,
    },
    /// No usable object.
    #[error("it has no eBPF object: {}", if .found.is_empty() { "there is no file in it".to_owned() } else { joined(.found) })]
    NoObject {
        /// The first files, and what each is.
        found: Vec<OtherFile>,
    },
    /// Several objects.
    #[error("it has more than one eBPF object: {}", .found.join(", "))]
    SeveralObjects {
        /// The first two.
        found: Vec<String>,
    },
}

fn joined(files: &[OtherFile]) -> String {
    files
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(", ")
}

/// Reads a layer (the bytes as they were sent, of this media type) and gives the one eBPF object in it.
///
/// The layer is unpacked to its very end, and the digest of all of its tar compared with the one DiffID of its
/// configuration, where that has any. Other regular files are passed over; folders too.
///
/// # Errors
///
/// When the layer cannot be unpacked within its caps, is cut off, goes on after its end, has another DiffID, has anything
/// but files and folders, or not exactly one object.
pub fn read_object(
    layer: &VerifiedBytes,
    media_type: &str,
    diff_ids: Option<&[String]>,
) -> Result<LayerObject, LayerError> {
    let packing = MEDIA_TYPES
        .iter()
        .find(|(known, _)| *known == media_type)
        .map(|(_, packing)| *packing);
    let Some(packing) = packing else {
        return Err(LayerError::MediaType {
            found: printable(media_type, MESSAGE_CHARS),
        });
    };
    let expected = match diff_ids {
        None => None,
        Some([diff_id]) => Some(Digest::parse(diff_id).map_err(LayerError::DiffIdForm)?),
        Some(several) => {
            return Err(LayerError::DiffIds {
                found: several.len(),
            });
        }
    };
    let tar = unpack::unpack(layer, packing, expected)?;
    let mut archive = tar::Archive::new(&*tar);
    let object = choose(&mut archive)?;
    let rest = archive.into_inner();
    // Padding; everything else would be the content of another archive.
    if rest.iter().any(|byte| *byte != 0) {
        return Err(LayerError::Trailing {
            what: "tar archive",
            bytes: rest.len(),
        });
    }
    Ok(object)
}

fn choose(archive: &mut tar::Archive<&[u8]>) -> Result<LayerObject, LayerError> {
    let mut object: Option<LayerObject> = None;
    let mut others = Vec::new();
    for (number, entry) in archive.entries().map_err(LayerError::Unpack)?.enumerate() {
        if number >= MAX_LAYER_ENTRIES {
            return Err(LayerError::TooMany {
                limit: MAX_LAYER_ENTRIES,
            });
        }
        let mut entry = entry.map_err(LayerError::Unpack)?;
        let path_bytes = entry.path_bytes();
        let path = printable(&String::from_utf8_lossy(&path_bytes), MESSAGE_CHARS);
        let name = file_name(&path_bytes).ok_or_else(|| LayerError::Path { path: path.clone() })?;
        let kind = entry.header().entry_type();
        match kind {
            tar::EntryType::Regular | tar::EntryType::Continuous => {}
            // pax defaults for the whole archive: git writes one.
            tar::EntryType::Directory | tar::EntryType::XGlobalHeader => continue,
            _ => {
                return Err(LayerError::Kind {
                    path,
                    kind: kind_name(kind),
                });
            }
        }
        if entry.size() > MAX_OBJECT_BYTES {
            return Err(LayerError::TooLarge {
                limit: MAX_OBJECT_BYTES,
            });
        }
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).map_err(LayerError::Unpack)?;
        match (ObjectInfo::parse(&bytes), &object) {
            (Ok(_), Some(first)) => {
                return Err(LayerError::SeveralObjects {
                    found: vec![first.name.clone(), path],
                });
            }
            (Ok(info), None) => object = Some(LayerObject { name, bytes, info }),
            (Err(reason), _) if others.len() < NAMED_FILES => {
                others.push(OtherFile { path, reason })
            }
            (Err(_), _) => {}
        }
    }
    object.ok_or(LayerError::NoObject { found: others })
}

/// The last part of a path inside the layer; empty for the root itself, `None` when the path leaves the layer.
fn file_name(path: &[u8]) -> Option<String> {
    // A name that is not UTF-8 becomes one with replacement characters: it is shown, never opened.
    let path = String::from_utf8_lossy(path);
    let mut name = String::new();
    for component in Path::new(path.as_ref()).components() {
        match component {
            Component::Normal(part) => name = printable(&part.to_string_lossy(), MESSAGE_CHARS),
            Component::CurDir => {}
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(name)
}

fn kind_name(kind: tar::EntryType) -> &'static str {
    match kind {
        tar::EntryType::Symlink => "a symbolic link",
        tar::EntryType::Link => "a hard link",
        tar::EntryType::Char | tar::EntryType::Block => "a device",
        tar::EntryType::Fifo => "a pipe",
        tar::EntryType::GNUSparse => "a sparse file",
        _ => "of an unknown kind",
    }
}

#[cfg(test)]
mod tests;
