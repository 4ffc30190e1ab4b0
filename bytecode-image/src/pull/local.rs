//! Images that the store has: no lock, no socket, no write.

use super::{BytecodeImage, Contents, Part, PullError, PullRequest, Wanted};
use crate::digest::{Digest, VerifiedBytes};
use crate::limits::{MAX_CONFIG_BYTES, MAX_LAYER_BYTES, MAX_MANIFEST_BYTES};
use crate::manifest::{self, Descriptor, Document, ImageManifest, ManifestError};
use crate::near::near;
use crate::platform::Platform;
use crate::reference::Reference;
use crate::store::{Store, StoreError};

/// An image of the store: every digest was checked, and nothing but its manifest was read. What is in it is looked at by
/// [`open`](Self::open), when its signatures have passed.
pub(super) struct Located {
    pub(super) name: Reference,
    /// What the name stands for: an index or a manifest.
    pub(super) digest: Digest,
    pub(super) manifest_digest: Digest,
    manifest: Box<ImageManifest>,
    config: VerifiedBytes,
    layer: VerifiedBytes,
    /// What the name stands for, as it was read.
    pub(super) named: VerifiedBytes,
}

impl Located {
    pub(super) fn open(self, platform: &Platform) -> Result<BytecodeImage, PullError> {
        let contents = Contents {
            digest: self.digest,
            manifest_digest: self.manifest_digest,
            manifest: &self.manifest,
            config: &self.config,
            layer: &self.layer,
            from_store: true,
        };
        contents.open(&Wanted {
            reference: &self.name,
            platform: Some(platform),
        })
    }
}

/// The image, when the store has all of it.
pub(super) fn locate(
    store: &Store,
    name: &Reference,
    platform: &Platform,
) -> Result<Option<Located>, PullError> {
    let refused = |error| PullError::Refused {
        reference: name.clone(),
        part: Box::new(Part::Manifest(error)),
    };
    let Some(digest) = store.find(name)? else {
        return Ok(None);
    };
    let document = |digest, descriptor: Option<&Descriptor>| {
        let Some(bytes) = store.read(digest, MAX_MANIFEST_BYTES)? else {
            return Ok(None);
        };
        if let Some(descriptor) = descriptor {
            descriptor
                .check_length("manifest", bytes.len() as u64)
                .map_err(refused)?;
        }
        let outside = descriptor.map(|descriptor| descriptor.media_type.as_str());
        manifest::parse(&bytes, outside)
            .map(|(document, _)| Some((document, bytes)))
            .map_err(refused)
    };
    let Some((found, named)) = document(digest, None)? else {
        return Ok(None);
    };
    let (manifest_digest, manifest) = match found {
        Document::Image(image) => (digest, image),
        Document::Index(index) => {
            let chosen = index.choose(platform).map_err(refused)?;
            match document(chosen.digest, Some(chosen))? {
                // Only the platforms that were pulled are kept of an index.
                None => return Ok(None),
                Some((Document::Image(image), _)) => (chosen.digest, image),
                Some((Document::Index(_), _)) => return Err(refused(ManifestError::Nested)),
            }
        }
    };
    let Some(config) = store.read(manifest.config.digest, MAX_CONFIG_BYTES)? else {
        return Ok(None);
    };
    let Some(layer) = store.read(manifest.layer.digest, MAX_LAYER_BYTES)? else {
        return Ok(None);
    };
    Ok(Some(Located {
        name: name.clone(),
        digest,
        manifest_digest,
        manifest,
        config,
        layer,
        named,
    }))
}

/// The error for an image that the store does not have, with the names that are like it.
pub(super) fn absent(
    store: &Store,
    name: &Reference,
    request: &PullRequest,
) -> Result<PullError, StoreError> {
    let names: Vec<_> = store
        .entries()?
        .into_iter()
        .filter(|entry| entry.about().is_none())
        .filter_map(|entry| entry.name)
        .collect();
    Ok(PullError::Absent {
        reference: Box::new(name.clone()),
        platform: Box::new(request.platform.clone()),
        store: store.dir().to_owned(),
        near: near(&name.to_string(), &names),
    })
}
