//! Pushing images of the store.

use crate::digest::{Digest, VerifiedBytes};
use crate::limits::{MAX_CONFIG_BYTES, MAX_LAYER_BYTES, MAX_MANIFEST_BYTES};
use crate::manifest::{self, Document, ManifestError};
use crate::progress::Progress;
use crate::reference::Reference;
use crate::registry::push::{self, Image};
use crate::registry::{Reach, RegistryError};
use crate::store::{Store, StoreError, StoredImage};

/// Why an image of the store was not pushed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PushError {
    /// In the store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The store does not have all of it.
    #[error("the store does not have all of it: {missing} is not there")]
    Incomplete {
        /// A platform, or the digest of a blob.
        missing: String,
    },
    /// A manifest that cannot be read.
    #[error("its manifest {digest} is refused")]
    Manifest {
        /// Its digest.
        digest: Digest,
        /// What is wrong with it.
        #[source]
        source: Box<ManifestError>,
    },
    /// The registry.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// No tokio runtime.
    #[error("cannot start the I/O runtime")]
    Runtime(#[source] std::io::Error),
}

impl PushError {
    /// What to do, where that is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Store(error) => error.hint(),
            Self::Incomplete { .. } => {
                Some("pull every platform of it first: `bpfman image pull --platform`".to_owned())
            }
            Self::Registry(error) => error.hint(),
            Self::Manifest { .. } | Self::Runtime(_) => None,
        }
    }
}

/// Pushes an image of the store, byte for byte, and names it by the reference's tag; gives its digest. Blocks; makes a
/// runtime of its own on this thread. What is only said about it (signatures) is not pushed.
///
/// # Errors
///
/// When the store does not have every platform of it, a blob is damaged, or the registry refuses.
pub fn push(
    store: &Store,
    image: &StoredImage,
    destination: &Reference,
    reach: &Reach,
    progress: &dyn Progress,
) -> Result<Digest, PushError> {
    let reader = store.reader()?;
    let top = blob(store, image.entry.digest, MAX_MANIFEST_BYTES)?;
    let mut images = Vec::new();
    let mut index = None;
    match parsed(image.entry.digest, &top, Some(&image.entry.media_type))?.0 {
        Document::Image(_) => images.push(one(store, image.entry.digest)?),
        Document::Index(found) => {
            for descriptor in found.images() {
                images.push(one(store, descriptor.digest).map_err(|error| {
                    match (error, descriptor.platform()) {
                        (PushError::Incomplete { .. }, Some(platform)) => PushError::Incomplete {
                            missing: platform.to_string(),
                        },
                        (error, _) => error,
                    }
                })?);
            }
            index = Some(top.to_vec());
        }
    }
    drop(reader);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(PushError::Runtime)?;
    let pushed = push::push_image(destination, reach, &images, index, Some(store), progress);
    Ok(runtime.block_on(pushed)?)
}

/// One platform's image, whole in memory.
fn one(store: &Store, digest: Digest) -> Result<Image, PushError> {
    let bytes = blob(store, digest, MAX_MANIFEST_BYTES)?;
    let (manifest, manifest_media_type) = match parsed(digest, &bytes, None)? {
        (Document::Image(manifest), media_type) => (manifest, media_type),
        (Document::Index(_), _) => {
            return Err(PushError::Manifest {
                digest,
                source: Box::new(ManifestError::Nested),
            });
        }
    };
    let layer = blob(store, manifest.layer.digest, MAX_LAYER_BYTES)?;
    Ok(Image {
        config: blob(store, manifest.config.digest, MAX_CONFIG_BYTES)?.to_vec(),
        layers: vec![(manifest.layer.media_type.clone(), layer.to_vec())],
        manifest: bytes.to_vec(),
        manifest_media_type,
    })
}

fn parsed(
    digest: Digest,
    bytes: &VerifiedBytes,
    outside: Option<&str>,
) -> Result<(Document, String), PushError> {
    manifest::parse(bytes, outside).map_err(|source| PushError::Manifest {
        digest,
        source: Box::new(source),
    })
}

fn blob(store: &Store, digest: Digest, limit: u64) -> Result<VerifiedBytes, PushError> {
    let bytes = store.read(digest, limit)?;
    bytes.ok_or_else(|| PushError::Incomplete {
        missing: format!("blob {digest}"),
    })
}
