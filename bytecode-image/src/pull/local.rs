//! Images that the store has: no lock, no socket, no write.

use super::{BytecodeImage, Contents, Part, PullError, PullRequest, Wanted};
use crate::limits::{MAX_CONFIG_BYTES, MAX_LAYER_BYTES, MAX_MANIFEST_BYTES};
use crate::manifest::{self, Descriptor, Document, ManifestError};
use crate::near::near;
use crate::platform::Platform;
use crate::reference::Reference;
use crate::store::{Store, StoreError};

/// The image, when the store has all of it.
pub(super) fn find(
    store: &Store,
    name: &Reference,
    platform: &Platform,
) -> Result<Option<BytecodeImage>, PullError> {
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
            .map(|(document, _)| Some(document))
            .map_err(refused)
    };
    let (manifest_digest, manifest) = match document(digest, None)? {
        None => return Ok(None),
        Some(Document::Image(image)) => (digest, image),
        Some(Document::Index(index)) => {
            let chosen = index.choose(platform).map_err(refused)?;
            match document(chosen.digest, Some(chosen))? {
                // Only the platforms that were pulled are kept of an index.
                None => return Ok(None),
                Some(Document::Image(image)) => (chosen.digest, image),
                Some(Document::Index(_)) => return Err(refused(ManifestError::Nested)),
            }
        }
    };
    let Some(config) = store.read(manifest.config.digest, MAX_CONFIG_BYTES)? else {
        return Ok(None);
    };
    let Some(layer) = store.blob(manifest.layer.digest, MAX_LAYER_BYTES)? else {
        return Ok(None);
    };
    let contents = Contents {
        digest,
        manifest_digest,
        manifest: &manifest,
        config: &config,
        layer: &layer,
        from_store: true,
    };
    let wanted = Wanted {
        reference: name,
        platform: Some(platform),
    };
    contents.open(&wanted).map(Some)
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
