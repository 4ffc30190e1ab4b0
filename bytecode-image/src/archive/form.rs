//! What an archive's files mean: an OCI image layout (image-spec, image-layout.md), what `docker save` wrote before
//! version 25 and podman's `docker-archive` still is (a `manifest.json` with a list), or a folder of podman's and
//! skopeo's `dir:` transport (a `manifest.json` that is a manifest).

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::Path;

use oci_client::manifest::{
    IMAGE_CONFIG_MEDIA_TYPE, IMAGE_DOCKER_LAYER_GZIP_MEDIA_TYPE, IMAGE_DOCKER_LAYER_TAR_MEDIA_TYPE,
    IMAGE_LAYER_GZIP_MEDIA_TYPE, IMAGE_LAYER_MEDIA_TYPE, OCI_IMAGE_INDEX_MEDIA_TYPE,
    OCI_IMAGE_MEDIA_TYPE,
};
use serde::Deserialize;

use super::ArchiveError;
use super::layout::{self, BLOBS, INDEX, MARK, MAX_MARK_BYTES};
use super::members::{Content, Members};
use crate::digest::{Digest, Hasher, VerifiedBytes};
use crate::limits::{MAX_CONFIG_BYTES, MAX_LAYER_BYTES, MAX_MANIFEST_BYTES, MAX_STORE_INDEX_BYTES};
use crate::manifest::{self, Document, ManifestError};
use crate::printable::printable;
use crate::store::{Entry, index};

/// The file that lists the images of `docker save`, and the manifest of a `dir:` folder.
const SAVED: &str = "manifest.json";

/// Media type of layers packed by zstd, which `oci-client` has no name for.
const ZSTD_LAYER: &str = "application/vnd.oci.image.layer.v1.tar+zstd";

/// Most images of a `docker save`: 4096; each may have a layer of the largest size to be hashed.
const MAX_SAVED: usize = 4096;

/// Where the blobs are.
pub(super) enum Form {
    /// `blobs/sha256/<hex>`.
    Layout,
    /// `<hex>`, manifests `<hex>.manifest.json`, the first one `manifest.json`, or the one that was made of it.
    Dir {
        first: Digest,
        manifest: Option<Vec<u8>>,
    },
    /// As the list says; the manifests were made of it.
    Saved {
        paths: BTreeMap<Digest, String>,
        manifests: BTreeMap<Digest, Vec<u8>>,
    },
}

/// `manifest.json` of `docker save`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Option<Vec<String>>,
}

/// The part of an image configuration that a layer is compared with.
#[derive(Deserialize)]
struct Config {
    rootfs: Option<RootFs>,
}

#[derive(Deserialize)]
struct RootFs {
    #[serde(default)]
    diff_ids: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Shape {
    media_type: Option<String>,
    #[serde(default)]
    manifests: Option<serde::de::IgnoredAny>,
}

impl Form {
    /// Finds out which one it is, and the images in it.
    pub(super) fn of(file: &Path, members: &Members) -> Result<(Self, Vec<Entry>), ArchiveError> {
        let mark = members.small(MARK, MAX_MARK_BYTES)?;
        let index = members.small(INDEX, MAX_STORE_INDEX_BYTES)?;
        if let (Some(mark), Some(index)) = (&mark, &index) {
            members.refuse_links()?;
            return Ok((Self::Layout, layout_entries(file, mark, index)?));
        }
        if let Some(saved) = members.small(SAVED, MAX_MANIFEST_BYTES)? {
            let first = saved.iter().find(|byte| !byte.is_ascii_whitespace());
            return match first {
                Some(b'[') => saved_entries(file, members, &saved),
                _ => dir_entries(file, members, saved),
            };
        }
        Err(ArchiveError::NotALayout {
            file: file.to_owned(),
            missing: match (mark, index) {
                (None, Some(_)) => MARK,
                (Some(_), _) => INDEX,
                (None, None) => "oci-layout and no manifest.json",
            },
        })
    }

    /// The content of a blob and its length; `None` when it is not there.
    pub(super) fn blob<'a>(
        &'a self,
        members: &'a Members,
        digest: Digest,
    ) -> Result<Option<Content<'a>>, ArchiveError> {
        let hex = digest.hex();
        match self {
            Self::Layout => members.file(&format!("{BLOBS}{hex}")),
            Self::Dir { first, manifest } if *first == digest => match manifest {
                Some(manifest) => Ok(Some(made(manifest))),
                None => members.file(SAVED),
            },
            Self::Dir { .. } => match members.file(&hex)? {
                Some(found) => Ok(Some(found)),
                None => members.file(&format!("{hex}.manifest.json")),
            },
            Self::Saved { paths, manifests } => {
                if let Some(manifest) = manifests.get(&digest) {
                    return Ok(Some(made(manifest)));
                }
                match paths.get(&digest) {
                    Some(path) => members.file(path),
                    None => Ok(None),
                }
            }
        }
    }
}

fn part(file: &Path, part: &'static str) -> impl FnOnce(serde_json::Error) -> ArchiveError {
    move |source| ArchiveError::Part {
        file: file.to_owned(),
        part,
        source,
    }
}

fn layout_entries(file: &Path, mark: &[u8], index: &[u8]) -> Result<Vec<Entry>, ArchiveError> {
    let version = layout::version(mark).map_err(part(file, MARK))?;
    if !version.starts_with("1.0.") {
        return Err(ArchiveError::Version {
            file: file.to_owned(),
            found: printable(&version, 32),
        });
    }
    Ok(index::parse(index).map_err(part(file, INDEX))?.entries())
}

/// A document that was made here.
fn made(bytes: &[u8]) -> Content<'_> {
    Content {
        reader: Box::new(io::Cursor::new(bytes)),
        size: bytes.len() as u64,
    }
}

/// A `dir:` folder is one image without a name.
fn dir_entries(
    file: &Path,
    members: &Members,
    manifest: Vec<u8>,
) -> Result<(Form, Vec<Entry>), ArchiveError> {
    let shape: Shape = serde_json::from_slice(&manifest).map_err(part(file, SAVED))?;
    let media_type = shape.media_type.unwrap_or_else(|| {
        match shape.manifests {
            Some(_) => OCI_IMAGE_INDEX_MEDIA_TYPE,
            None => OCI_IMAGE_MEDIA_TYPE,
        }
        .to_owned()
    });
    let changed = with_plain_layer(members, &manifest)?;
    let bytes = changed.as_ref().unwrap_or(&manifest);
    let digest = Digest::of(bytes);
    let entry = Entry {
        name: None,
        reference: None,
        media_type,
        digest,
        size: bytes.len() as u64,
        platform: None,
    };
    let form = Form::Dir {
        first: digest,
        manifest: changed,
    };
    Ok((form, vec![entry]))
}

/// skopeo and podman copy a plain layer of a docker-archive under the media type of a compressed one, as Docker's
/// manifests have no other. Such a manifest is written anew with the right one.
fn with_plain_layer(members: &Members, manifest: &[u8]) -> Result<Option<Vec<u8>>, ArchiveError> {
    let Ok((Document::Image(image), _)) =
        manifest::parse(&VerifiedBytes::hash(manifest.to_vec()), None)
    else {
        // What is wrong with it, if anything, is said when it is read.
        return Ok(None);
    };
    if image.layer.media_type != IMAGE_DOCKER_LAYER_GZIP_MEDIA_TYPE {
        return Ok(None);
    }
    let Some(content) = members.file(&image.layer.digest.hex())? else {
        return Ok(None);
    };
    let mut head = Vec::new();
    if content.reader.take(2).read_to_end(&mut head).is_err() || head == [0x1f, 0x8b] {
        return Ok(None);
    }
    let Ok(mut document) = serde_json::from_slice::<serde_json::Value>(manifest) else {
        return Ok(None);
    };
    let Some(media_type) = document.pointer_mut("/layers/0/mediaType") else {
        return Ok(None);
    };
    *media_type = IMAGE_DOCKER_LAYER_TAR_MEDIA_TYPE.into();
    Ok(Some(document.to_string().into_bytes()))
}

/// The images of a `docker save`, each under all of its tags. Their manifests are made here, the same for the same
/// archive: `docker save` does not keep those of the registry.
fn saved_entries(
    file: &Path,
    members: &Members,
    list: &[u8],
) -> Result<(Form, Vec<Entry>), ArchiveError> {
    let list: Vec<Saved> = serde_json::from_slice(list).map_err(part(file, SAVED))?;
    if list.len() > MAX_SAVED {
        return Err(ArchiveError::TooMany {
            file: file.to_owned(),
            limit: MAX_SAVED,
        });
    }
    let (mut paths, mut manifests, mut entries) = (BTreeMap::new(), BTreeMap::new(), Vec::new());
    // Images may have one layer: it is hashed once.
    let mut layers: BTreeMap<String, (Digest, u64, &'static str)> = BTreeMap::new();
    for saved in list {
        let tags = saved.repo_tags.unwrap_or_default();
        let name = || {
            let name = tags.first().unwrap_or(&saved.config);
            printable(name, 128)
        };
        let missing = |path: &str| ArchiveError::MissingFile {
            name: name(),
            path: printable(path, 128),
        };
        let config = members.linked(&saved.config)?;
        let config = config.ok_or_else(|| missing(&saved.config))?;
        let bytes = members
            .small(&config, MAX_CONFIG_BYTES)?
            .ok_or_else(|| missing(&config))?;
        let config_digest = Digest::of(&bytes);
        named_rightly(&name(), &saved.config, config_digest)?;
        let all = saved.layers.unwrap_or_default();
        let [layer] = all.as_slice() else {
            return Err(ArchiveError::Manifest {
                name: name(),
                source: ManifestError::Layers { found: all.len() },
            });
        };
        let layer = members.linked(layer)?.ok_or_else(|| missing(layer))?;
        let (digest, size, media_type) = match layers.get(&layer) {
            Some(found) => *found,
            None => {
                let content = members.file(&layer)?.ok_or_else(|| missing(&layer))?;
                if content.size > MAX_LAYER_BYTES {
                    return Err(ArchiveError::PartTooLarge {
                        part: printable(&layer, 128),
                        limit: MAX_LAYER_BYTES,
                    });
                }
                let found = hashed(content).map_err(|source| ArchiveError::Read {
                    file: file.to_owned(),
                    source,
                })?;
                layers.insert(layer.clone(), found);
                found
            }
        };
        if media_type == IMAGE_LAYER_MEDIA_TYPE {
            unpacked_rightly(&name(), &bytes, digest)?;
        }
        paths.insert(config_digest, config);
        paths.insert(digest, layer);
        let manifest = serde_json::json!({
            "config": {
                "digest": config_digest.to_string(),
                "mediaType": IMAGE_CONFIG_MEDIA_TYPE,
                "size": bytes.len(),
            },
            "layers": [{
                "digest": digest.to_string(),
                "mediaType": media_type,
                "size": size,
            }],
            "mediaType": OCI_IMAGE_MEDIA_TYPE,
            "schemaVersion": 2,
        });
        let manifest = manifest.to_string().into_bytes();
        let entry = Entry {
            name: None,
            reference: None,
            media_type: OCI_IMAGE_MEDIA_TYPE.to_owned(),
            digest: Digest::of(&manifest),
            size: manifest.len() as u64,
            platform: None,
        };
        manifests.insert(entry.digest, manifest);
        if tags.is_empty() {
            entries.push(entry.clone());
        }
        entries.extend(tags.into_iter().map(|tag| Entry {
            reference: tag.parse().ok(),
            name: Some(tag),
            ..entry.clone()
        }));
    }
    Ok((Form::Saved { paths, manifests }, entries))
}

/// A configuration is named by its digest, `<hex>.json` or `blobs/sha256/<hex>`.
fn named_rightly(name: &str, path: &str, found: Digest) -> Result<(), ArchiveError> {
    let file = path.rsplit('/').next().unwrap_or(path);
    let hex = file.strip_suffix(".json").unwrap_or(file);
    match Digest::parse(&format!("sha256:{hex}")) {
        Ok(digest) if digest != found => Err(ArchiveError::Damaged {
            name: name.to_owned(),
            digest,
            found,
        }),
        _ => Ok(()),
    }
}

/// A plain layer has the digest that the configuration says.
fn unpacked_rightly(name: &str, config: &[u8], found: Digest) -> Result<(), ArchiveError> {
    let Ok(config) = serde_json::from_slice::<Config>(config) else {
        // What is wrong with it is said when it is read as a configuration.
        return Ok(());
    };
    let ids = config
        .rootfs
        .map(|rootfs| rootfs.diff_ids)
        .unwrap_or_default();
    match ids.first().map(|id| Digest::parse(id)) {
        Some(Ok(digest)) if digest != found => Err(ArchiveError::Damaged {
            name: name.to_owned(),
            digest,
            found,
        }),
        _ => Ok(()),
    }
}

/// Digest, length and media type of a layer.
fn hashed(content: Content<'_>) -> io::Result<(Digest, u64, &'static str)> {
    let Content { mut reader, size } = content;
    let mut hasher = Hasher::default();
    let mut buffer = vec![0; 64 << 10];
    let (mut length, mut media_type) = (0_u64, IMAGE_LAYER_MEDIA_TYPE);
    loop {
        let count = match reader.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        let piece = buffer.get(..count).unwrap_or_default();
        if length == 0 {
            media_type = match piece {
                [0x1f, 0x8b, ..] => IMAGE_LAYER_GZIP_MEDIA_TYPE,
                [0x28, 0xb5, 0x2f, 0xfd, ..] => ZSTD_LAYER,
                _ => IMAGE_LAYER_MEDIA_TYPE,
            };
        }
        hasher.update(piece);
        length = length.saturating_add(count as u64);
    }
    match length == size {
        true => Ok((hasher.finish(), size, media_type)),
        false => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}
