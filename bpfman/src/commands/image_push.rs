//! Images of the store to registries and under other names.

use bytecode_image::registry::push_stored;
use bytecode_image::store::{Named, StoredImage};

use super::image_build::checked;
use super::image_pull::reach;
use super::image_store::{store, stored_images};
use crate::args::{ImageUrl, PushArgs};
use crate::config::Config;
use crate::error::Error;
use crate::output::{Bar, Printer};

/// `image push`: the image by its digest, as `image build` prints it.
pub(super) fn push(args: &PushArgs) -> Result<(), Error> {
    let reach = reach(args.registry_auth.as_deref())?;
    let store = store(&Config::read()?);
    let images = stored_images(&store, &args.image)?;
    let destination = args.destination.as_ref().unwrap_or(&args.image);
    let Some(image) = images.first() else {
        return Ok(());
    };
    // A digest that was typed names nothing to push to: the image's own name is taken.
    let own_name = || image.entry.reference.clone();
    let destination = match &args.destination {
        Some(destination) => checked(destination.reference.clone())?,
        None => own_name().unwrap_or_else(|| destination.reference.clone()),
    };
    let digest = push_stored::push(&store, image, &destination, &reach, &Bar)
        .map_err(Error::to("push", &args.image.typed))?;
    Printer::default().pushed(&destination, digest)
}

/// `image tag`.
pub(super) fn tag(image: &ImageUrl, name: ImageUrl) -> Result<(), Error> {
    let store = store(&Config::read()?);
    let name = checked(name.reference)?;
    let images = stored_images(&store, image)?;
    let Some(StoredImage {
        entry, platforms, ..
    }) = images.first()
    else {
        return Ok(());
    };
    // An index is for several.
    let single = platforms
        .iter()
        .find(|found| found.manifest == entry.digest);
    let platform = single.and_then(|found| found.platform.as_ref());
    let named = Named {
        reference: &name,
        media_type: &entry.media_type,
        digest: entry.digest,
        size: entry.size,
        platform: entry.platform.as_ref().or(platform),
    };
    Ok(store.writer()?.commit(Vec::new(), &[named])?)
}
