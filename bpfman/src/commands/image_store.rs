//! What is done to images without a registry.

use std::path::Path;

use bytecode_image::archive::{self, Platforms};
use bytecode_image::platform::Platform;
use bytecode_image::pull::{PullError, Trust};
use bytecode_image::reference::Reference;
use bytecode_image::registry::Reach;
use bytecode_image::store::{Store, StoredImage, StoredPlatform};

use crate::args::{ImageUrl, OutputFormat};
use crate::config::{Config, admitted_dir, image_dir};
use crate::error::Error;
use crate::output::{Printer, Shown};

/// The store of this user.
pub(super) fn store(config: &Config) -> Store {
    let root = rustix::process::geteuid().is_root();
    Store::open(image_dir(root))
        .with_admissions(admitted_dir(root))
        .with_lock_timeout(config.lock_timeout())
}

/// `image list`.
pub(super) fn list(format: OutputFormat) -> Result<(), Error> {
    let config = Config::read()?;
    let (store, trust) = (store(&config), config.trust()?);
    let images = store.images()?;
    let shown: Result<Vec<_>, Error> = images
        .iter()
        .map(|image| shown(&store, &trust, image))
        .collect();
    Printer::new(format).images(&shown?)
}

/// `image inspect`: several names of one digest are one image.
pub(super) fn inspect(image: &ImageUrl, format: OutputFormat) -> Result<(), Error> {
    let config = Config::read()?;
    let (store, trust) = (store(&config), config.trust()?);
    let found = store.images_named(&stored(&store, image)?)?;
    match found.first() {
        Some(image) => Printer::new(format).image(&shown(&store, &trust, image)?),
        None => Ok(()),
    }
}

/// With what is known and what is said about its signatures.
fn shown<'a>(store: &Store, trust: &Trust, image: &'a StoredImage) -> Result<Shown<'a>, Error> {
    let reference = image.entry.reference.as_ref();
    let admission = |found: &StoredPlatform| {
        trust.admission(store, reference?, [image.entry.digest, found.manifest])
    };
    Ok(Shown {
        image,
        admissions: image.platforms.iter().map(admission).collect(),
        signatures: store.signatures(&image.about)?,
    })
}

/// `image remove`.
pub(super) fn remove(images: Vec<ImageUrl>) -> Result<(), Error> {
    let store = store(&Config::read()?);
    let freed = store.remove(&references(&store, &images)?)?;
    Printer::default().freed(&freed)
}

/// `image prune`.
pub(super) fn prune(all: bool) -> Result<(), Error> {
    Printer::default().freed(&store(&Config::read()?).prune(all)?)
}

/// `image export`.
pub(super) fn export(images: Vec<ImageUrl>, file: &Path, all: bool) -> Result<(), Error> {
    let platforms = if all {
        Platforms::All
    } else {
        Platforms::One(Platform::host())
    };
    let store = store(&Config::read()?);
    let references = references(&store, &images)?;
    let exported = archive::export(&store, &references, &platforms, file)?;
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
    let store = store(&Config::read()?);
    Printer::default().imported(&archive::import(&store, file)?)
}

fn references(store: &Store, images: &[ImageUrl]) -> Result<Vec<Reference>, Error> {
    images.iter().map(|image| stored(store, image)).collect()
}

/// What a name stands for in the store: a short one for the first of its full names that the store has.
fn stored(store: &Store, image: &ImageUrl) -> Result<Reference, Error> {
    let names = Reach::of_process()
        .full_names(&image.reference, image.short().as_deref())
        .map_err(PullError::from)?;
    for name in &names {
        if store.find(name)?.is_some() {
            return Ok(name.clone());
        }
    }
    Ok(names
        .into_iter()
        .next()
        .unwrap_or_else(|| image.reference.clone()))
}
