//! A built image in the local store.

use bytecode_image::digest::{Digest, VerifiedBytes};
use bytecode_image::manifest::ImageConfig;
use bytecode_image::platform::Platform;
use bytecode_image::reference::Reference;
use bytecode_image::store::{Named, Store};

use crate::BuildError;
use crate::index::Packed;

/// Puts an image into the store under its names, all of it or nothing.
pub(crate) fn keep<'a>(
    store: &Store,
    tags: impl Iterator<Item = &'a Reference>,
    packed: &Packed,
) -> Result<(), BuildError> {
    let (media_type, top) = packed.top()?;
    let digest = Digest::of(top);
    let mut contents: Vec<&[u8]> = vec![top];
    for image in &packed.images {
        contents.extend([image.config.as_slice(), image.manifest.as_slice()]);
        contents.extend(image.layers.iter().map(|(_, layer)| layer.as_slice()));
    }
    contents.sort_unstable();
    contents.dedup();
    let writer = store.writer()?;
    let blobs = contents
        .into_iter()
        .map(|bytes| writer.blob(&VerifiedBytes::hash(bytes.to_vec())))
        .collect::<Result<Vec<_>, _>>()?;
    let media_type = media_type.to_string();
    // An index is for several.
    let platform: Option<Platform> = match (&packed.index, packed.images.as_slice()) {
        (None, [image]) => ImageConfig::parse(&VerifiedBytes::hash(image.config.clone()))
            .ok()
            .and_then(|config| config.platform),
        _ => None,
    };
    let names: Vec<Named<'_>> = tags
        .map(|reference| Named {
            reference,
            media_type: &media_type,
            digest,
            size: top.len() as u64,
            platform: platform.as_ref(),
        })
        .collect();
    Ok(writer.commit(blobs, &names)?)
}
