//! Manifests, indexes and image configurations (OCI image-spec 1.1, Docker image manifest version 2 schema 2):
//! read tolerantly, refused precisely.

use std::collections::BTreeMap;

use oci_client::manifest::{
    IMAGE_MANIFEST_LIST_MEDIA_TYPE, IMAGE_MANIFEST_MEDIA_TYPE, OCI_IMAGE_INDEX_MEDIA_TYPE,
    OCI_IMAGE_MEDIA_TYPE,
};
use serde::Deserialize;

use crate::digest::{Digest, VerifiedBytes};
use crate::limits::{MAX_CONFIG_BYTES, MAX_LAYER_BYTES, MAX_MANIFEST_BYTES};
use crate::platform::Platform;
use crate::printable::printable;

/// How much of a media type a message shows; the longest registered one has 76.
const MESSAGE_CHARS: usize = 128;

/// The media types that are asked for and read.
pub const MEDIA_TYPES: [&str; 4] = [
    OCI_IMAGE_MEDIA_TYPE,
    OCI_IMAGE_INDEX_MEDIA_TYPE,
    IMAGE_MANIFEST_MEDIA_TYPE,
    IMAGE_MANIFEST_LIST_MEDIA_TYPE,
];

/// What a manifest names: content by type, digest and length. `urls` are not read: content comes from the registry
/// that named it and from nowhere else.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// Media type of the content.
    pub media_type: String,
    /// Its sha256.
    pub digest: Digest,
    /// Its length in bytes.
    pub size: u64,
    #[serde(default)]
    platform: Option<RawPlatform>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct RawPlatform {
    #[serde(default)]
    os: String,
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    variant: Option<String>,
}

impl RawPlatform {
    /// The platform, unless a part of it is missing or no word.
    fn checked(&self) -> Option<Platform> {
        let platform: Platform = format!("{}/{}", self.os, self.architecture).parse().ok()?;
        match self.variant.as_deref() {
            None | Some("") => Some(platform),
            Some(variant) => format!("{platform}/{variant}").parse().ok(),
        }
    }
}

impl Descriptor {
    /// The platform that an index says its content is for. Attestations, which say `unknown/unknown`, have none.
    pub fn platform(&self) -> Option<Platform> {
        self.platform
            .as_ref()
            .and_then(RawPlatform::checked)
            .filter(|platform| platform.os != "unknown")
    }

    /// Compares its length with that of the content.
    ///
    /// # Errors
    ///
    /// [`ManifestError::Length`].
    pub(crate) fn check_length(&self, what: &'static str, found: u64) -> Result<(), ManifestError> {
        if self.size == found {
            return Ok(());
        }
        Err(ManifestError::Length {
            what,
            expected: self.size,
            found,
        })
    }
}

/// A document that a reference can name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Document {
    /// One image.
    Image(Box<ImageManifest>),
    /// Several, by platform.
    Index(ImageIndex),
}

/// One image: its configuration and its layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageManifest {
    /// Configuration, JSON.
    pub config: Descriptor,
    /// The one layer.
    pub layer: Descriptor,
}

/// An OCI index or a Docker manifest list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageIndex {
    /// One an image.
    pub manifests: Vec<Descriptor>,
}

/// Why a document is not used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ManifestError {
    /// Not JSON, or without what a manifest must have.
    #[error("it is not a manifest")]
    Json(#[source] serde_json::Error),
    /// Neither layers nor manifests.
    #[error("it has neither `config` and `layers` nor `manifests`")]
    Shape,
    /// Both: readers would disagree about what it names.
    #[error("it has both `layers` and `manifests`: it would be another image to other tools")]
    Ambiguous,
    /// Docker's schema 1, which names layers by another digest than that of the manifest.
    #[error("it is of Docker's schema 1, which is not read")]
    Schema1,
    /// A `schemaVersion` that is not 2.
    #[error("its schemaVersion is {found}: expected 2")]
    SchemaVersion {
        /// What was found.
        found: u64,
    },
    /// A media type of something else.
    #[error("its media type is `{found}`: expected an OCI or Docker image manifest or index")]
    MediaType {
        /// What was found, shortened.
        found: String,
    },
    /// The registry (or descriptor) calls it something else than it calls itself.
    #[error("it says that it is `{inside}`, but was named `{outside}`")]
    Disagreement {
        /// `mediaType` in the document, or the media type of its shape.
        inside: String,
        /// `Content-Type`, or `mediaType` of the descriptor that led to it.
        outside: String,
    },
    /// No layer or more than one.
    #[error("it has {found} layers: a bytecode image has one")]
    Layers {
        /// How many.
        found: usize,
    },
    /// A descriptor over the cap of its kind.
    #[error("its {what} has {found} bytes: at most {limit} are read")]
    TooLarge {
        /// `config` or `layer`.
        what: &'static str,
        /// Bytes by the descriptor.
        found: u64,
        /// The cap.
        limit: u64,
    },
    /// Content of another length than the descriptor says.
    #[error("its {what} has {expected} bytes by its manifest, but {found} were found")]
    Length {
        /// `config`, `layer` or `manifest`.
        what: &'static str,
        /// Bytes by the descriptor.
        expected: u64,
        /// Bytes of the content.
        found: u64,
    },
    /// An index where an image must be.
    #[error("it is an index that an index names: only one level is read")]
    Nested,
    /// No image for the platform.
    #[error("it has no image for {wanted}; it has {}", if .offered.is_empty() { "none with a platform".to_owned() } else { .offered.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ") })]
    Platform {
        /// The platform asked for.
        wanted: Platform,
        /// Those that it has.
        offered: Vec<Platform>,
    },
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawDocument {
    media_type: Option<String>,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
    manifests: Option<Vec<Descriptor>>,
}

/// Only what tells schema 1 from the rest, whose other fields it does not share.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawVersion {
    schema_version: u64,
}

/// Reads a document. `outside` is what it was named as: the answer's `Content-Type`, or the `mediaType` of the
/// descriptor that led to it. Gives its media type too.
///
/// # Errors
///
/// When it is not a manifest or index of one of [`MEDIA_TYPES`], contradicts itself or what it was named as, has not
/// exactly one layer, or names content over its cap.
pub fn parse(
    bytes: &VerifiedBytes,
    outside: Option<&str>,
) -> Result<(Document, String), ManifestError> {
    let version: RawVersion = serde_json::from_slice(bytes).map_err(ManifestError::Json)?;
    match version.schema_version {
        1 => return Err(ManifestError::Schema1),
        2 => {}
        found => return Err(ManifestError::SchemaVersion { found }),
    }
    let raw: RawDocument = serde_json::from_slice(bytes).map_err(ManifestError::Json)?;
    let outside = outside.map(|text| essence(text).to_owned());
    if let (Some(inside), Some(outside)) = (&raw.media_type, &outside)
        && inside != outside
    {
        return Err(ManifestError::Disagreement {
            inside: printable(inside, MESSAGE_CHARS),
            outside: printable(outside, MESSAGE_CHARS),
        });
    }
    let (document, plain_type) = match (raw.config, raw.layers, raw.manifests) {
        (None, None, Some(manifests)) => (
            Document::Index(ImageIndex { manifests }),
            OCI_IMAGE_INDEX_MEDIA_TYPE,
        ),
        (Some(config), Some(layers), None) => (
            Document::Image(Box::new(image(config, layers)?)),
            OCI_IMAGE_MEDIA_TYPE,
        ),
        (config, layers, Some(_)) if config.is_some() || layers.is_some() => {
            return Err(ManifestError::Ambiguous);
        }
        _ => return Err(ManifestError::Shape),
    };
    let media_type = raw
        .media_type
        .or(outside)
        .unwrap_or_else(|| plain_type.to_owned());
    let is_index = match media_type.as_str() {
        OCI_IMAGE_INDEX_MEDIA_TYPE | IMAGE_MANIFEST_LIST_MEDIA_TYPE => true,
        OCI_IMAGE_MEDIA_TYPE | IMAGE_MANIFEST_MEDIA_TYPE => false,
        other => {
            return Err(ManifestError::MediaType {
                found: printable(other, MESSAGE_CHARS),
            });
        }
    };
    if is_index != matches!(document, Document::Index(_)) {
        return Err(ManifestError::Disagreement {
            inside: plain_type.to_owned(),
            outside: media_type,
        });
    }
    Ok((document, media_type))
}

fn image(config: Descriptor, layers: Vec<Descriptor>) -> Result<ImageManifest, ManifestError> {
    let found = layers.len();
    let mut layers = layers.into_iter();
    let (Some(layer), None) = (layers.next(), layers.next()) else {
        return Err(ManifestError::Layers { found });
    };
    for (what, size, limit) in [
        ("config", config.size, MAX_CONFIG_BYTES),
        ("layer", layer.size, MAX_LAYER_BYTES),
    ] {
        if size > limit {
            return Err(ManifestError::TooLarge {
                what,
                found: size,
                limit,
            });
        }
    }
    Ok(ImageManifest { config, layer })
}

/// A media type without its parameters (`; charset=utf-8`).
fn essence(media_type: &str) -> &str {
    media_type.split(';').next().unwrap_or_default().trim()
}

impl ImageIndex {
    /// The images: without attestations, which have no platform beside images that have one.
    pub fn images(&self) -> impl Iterator<Item = &Descriptor> {
        let any = self
            .manifests
            .iter()
            .any(|descriptor| descriptor.platform().is_some());
        self.manifests
            .iter()
            .filter(move |descriptor| !any || descriptor.platform().is_some())
    }

    /// The image for a platform: the nearest one ([`Platform::distance`]), the first of equals. An index with a single
    /// image that names no platform gives that one; its configuration decides.
    ///
    /// # Errors
    ///
    /// [`ManifestError::Platform`] with what there is, [`ManifestError::Nested`] when the image is an index itself.
    pub fn choose(&self, wanted: &Platform) -> Result<&Descriptor, ManifestError> {
        let nearest = self
            .manifests
            .iter()
            .filter_map(|descriptor| Some((wanted.distance(&descriptor.platform()?)?, descriptor)))
            .min_by_key(|(distance, _)| *distance)
            .map(|(_, descriptor)| descriptor);
        let chosen = match (nearest, self.manifests.as_slice()) {
            (Some(nearest), _) => nearest,
            (None, [only]) if only.platform.is_none() => only,
            (None, _) => {
                let mut offered: Vec<_> = self
                    .manifests
                    .iter()
                    .filter_map(Descriptor::platform)
                    .collect();
                offered.sort();
                offered.dedup();
                return Err(ManifestError::Platform {
                    wanted: wanted.clone(),
                    offered,
                });
            }
        };
        if [OCI_IMAGE_INDEX_MEDIA_TYPE, IMAGE_MANIFEST_LIST_MEDIA_TYPE]
            .contains(&chosen.media_type.as_str())
        {
            return Err(ManifestError::Nested);
        }
        if chosen.size > MAX_MANIFEST_BYTES {
            return Err(ManifestError::TooLarge {
                what: "manifest",
                found: chosen.size,
                limit: MAX_MANIFEST_BYTES,
            });
        }
        Ok(chosen)
    }
}

/// What is read of an image configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageConfig {
    /// What the image is for; `None` where the configuration does not say (`oras` writes `{}`).
    pub platform: Option<Platform>,
    /// All labels, ours and others.
    pub labels: BTreeMap<String, String>,
    /// The DiffIDs, digests of the layers as plain tars (`rootfs.diff_ids`), as they are written; `None` where the
    /// configuration has none (`oras` writes `{}`).
    pub diff_ids: Option<Vec<String>>,
}

/// The fields of a [`RawPlatform`] are written out: to flatten it would collect every unknown field in memory.
#[derive(Deserialize)]
struct RawConfig {
    #[serde(default)]
    os: String,
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    variant: Option<String>,
    config: Option<RawContainer>,
    rootfs: Option<RawRootfs>,
}

#[derive(Deserialize)]
struct RawRootfs {
    diff_ids: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct RawContainer {
    #[serde(rename = "Labels")]
    labels: Option<BTreeMap<String, String>>,
}

impl ImageConfig {
    /// Reads an image configuration (image-spec, config.md; Docker's is of the same shape).
    ///
    /// # Errors
    ///
    /// When it is not JSON of that shape.
    pub fn parse(bytes: &VerifiedBytes) -> Result<Self, serde_json::Error> {
        let raw: RawConfig = serde_json::from_slice(bytes)?;
        let labels = raw
            .config
            .and_then(|config| config.labels)
            .unwrap_or_default();
        let platform = RawPlatform {
            os: raw.os,
            architecture: raw.architecture,
            variant: raw.variant,
        };
        Ok(Self {
            platform: platform.checked(),
            labels,
            diff_ids: raw.rootfs.and_then(|rootfs| rootfs.diff_ids),
        })
    }
}

#[cfg(test)]
mod tests;
