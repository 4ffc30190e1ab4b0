//! What is done to images without a registry.

use std::path::Path;

use bytecode_image::archive::{self, Platforms};
use bytecode_image::platform::Platform;
use bytecode_image::reference::Reference;
use bytecode_image::store::Store;

use crate::args::{ImageUrl, OutputFormat};
use crate::config::image_dir;
use crate::error::Error;
use crate::output::Printer;

/// The store of this user.
pub(super) fn store() -> Store {
    Store::open(image_dir(rustix::process::geteuid().is_root()))
}

/// `image list`.
pub(super) fn list(format: OutputFormat) -> Result<(), Error> {
    Printer::new(format).images(&store().images()?)
}

/// `image inspect`: several names of one digest are one image.
pub(super) fn inspect(image: &ImageUrl, format: OutputFormat) -> Result<(), Error> {
    let found = store().images_named(&image.reference)?;
    match found.first() {
        Some(image) => Printer::new(format).image(image),
        None => Ok(()),
    }
}

/// `image remove`.
pub(super) fn remove(images: Vec<ImageUrl>) -> Result<(), Error> {
    let freed = store().remove(&references(images))?;
    Printer::default().freed(&freed)
}

/// `image prune`.
pub(super) fn prune(all: bool) -> Result<(), Error> {
    Printer::default().freed(&store().prune(all)?)
}

/// `image export`.
pub(super) fn export(images: Vec<ImageUrl>, file: &Path, all: bool) -> Result<(), Error> {
    let platforms = if all {
        Platforms::All
    } else {
        Platforms::One(Platform::host())
    };
    let exported = archive::export(&store(), &references(images), &platforms, file)?;
    for image in exported
        .iter()
        .filter(|image| all && !image.absent.is_empty())
    {
        let absent: Vec<_> = image.absent.iter().map(ToString::to_string).collect();
        log::warn!(
            "{} has platforms that the store has not, and so the archive: {}; `bpfman image pull --platform` gets them",
            image.reference,
            absent.join(", ")
        );
    }
    Printer::default().exported(&exported)
}

/// `image import`.
pub(super) fn import(file: &Path) -> Result<(), Error> {
    Printer::default().imported(&archive::import(&store(), file)?)
}

fn references(images: Vec<ImageUrl>) -> Vec<Reference> {
    images.into_iter().map(|image| image.reference).collect()
}
