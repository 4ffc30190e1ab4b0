//! What is done to images without a registry.

use std::io::{self, IsTerminal};
use std::path::Path;

use bytecode_image::archive::{self, Destination, Input, Platforms};
use bytecode_image::platform::Platform;
use bytecode_image::pull::{PullError, Trust};
use bytecode_image::reference::Reference;
use bytecode_image::registry::Reach;
use bytecode_image::store::{Store, StoredImage, StoredPlatform};

use super::image_build::checked;
use crate::args::{ImageUrl, OutputFormat};
use crate::config::{Config, admitted_dir, image_dir};
use crate::error::Error;
use crate::output::{Printer, Shown};

/// The store of this user.
pub(crate) fn store(config: &Config) -> Store {
    let root = rustix::process::geteuid().is_root();
    Store::open(image_dir(root))
        .with_admissions(admitted_dir(root))
        .with_lock_timeout(config.lock_timeout())
}

/// `image list`.
pub(super) fn list(format: OutputFormat) -> Result<(), Error> {
    let config = Config::read_or_default();
    let (store, trust) = (store(&config), config.trust_to_show()?);
    let images = store.images()?;
    let shown: Result<Vec<_>, Error> = images
        .iter()
        .map(|image| shown(&store, &trust, image))
        .collect();
    Printer::new(format).images(&shown?)
}

/// `image inspect`: several names of one digest are one image.
pub(super) fn inspect(image: &ImageUrl, format: OutputFormat) -> Result<(), Error> {
    let config = Config::read_or_default();
    let (store, trust) = (store(&config), config.trust_to_show()?);
    match stored_images(&store, image)?.first() {
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
    let store = store(&Config::read_or_default());
    let mut references = Vec::new();
    for image in &images {
        let names = stored(&store, image)?;
        if names.len() > 1 {
            return Err(Error::SeveralNames {
                typed: image.typed.clone(),
                names: names.iter().map(ToString::to_string).collect(),
            });
        }
        references.extend(names);
    }
    let freed = store.remove(&references)?;
    Printer::default().freed(&freed)
}

/// `image prune`.
pub(super) fn prune(all: bool) -> Result<(), Error> {
    Printer::default().freed(&store(&Config::read_or_default()).prune(all)?)
}

/// `image export`.
pub(super) fn export(images: Vec<ImageUrl>, file: &Path, all: bool) -> Result<(), Error> {
    let platforms = if all {
        Platforms::All
    } else {
        Platforms::One(Platform::host())
    };
    let store = store(&Config::read_or_default());
    let mut references = Vec::new();
    for image in &images {
        references.extend(stored(&store, image)?);
    }
    let to_stdout = file == Path::new("-");
    let mut stdout = io::stdout();
    if to_stdout && stdout.is_terminal() {
        return Err(Error::Terminal {
            what: "export to standard output",
        });
    }
    let destination = match to_stdout {
        true => Destination::Stream(&mut stdout),
        false => Destination::File(file),
    };
    let exported = archive::export_to(&store, &references, &platforms, destination);
    let exported = exported.map_err(Error::to("export", &typed(&images)))?;
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
    // The archive itself is what standard output is for.
    match to_stdout {
        true => Ok(()),
        false => Printer::default().exported(&exported),
    }
}

fn typed(images: &[ImageUrl]) -> String {
    let typed: Vec<&str> = images.iter().map(|image| image.typed.as_str()).collect();
    typed.join(", ")
}

/// `image import`.
pub(super) fn import(file: &Path, tag: Option<ImageUrl>) -> Result<(), Error> {
    const STDIN: &str = "standard input";
    let tag = tag.map(|tag| checked(tag.reference)).transpose()?;
    let mut stdin = io::stdin();
    let (input, archive) = match file == Path::new("-") {
        true if stdin.is_terminal() => {
            return Err(Error::Terminal {
                what: "import standard input",
            });
        }
        true => (Input::Stream(&mut stdin, STDIN), STDIN.to_owned()),
        false => (Input::Path(file), file.display().to_string()),
    };
    let imported = archive::import_from(&store(&Config::read()?), input, tag.as_ref());
    let imported = imported.map_err(Error::to("import", &archive))?;
    Printer::default().imported(&imported)
}

/// The images of the store that a name or a digest denotes.
pub(super) fn stored_images(store: &Store, image: &ImageUrl) -> Result<Vec<StoredImage>, Error> {
    let mut images = Vec::new();
    for reference in stored(store, image)? {
        images.extend(store.images_named(&reference)?);
    }
    Ok(images)
}

/// Resolves the argument against the store. A short name denotes the first of its full names that the store has; a
/// shortened digest, as `image list` prints it, denotes every name of that digest. An unknown name is returned unchanged.
pub(super) fn stored(store: &Store, image: &ImageUrl) -> Result<Vec<Reference>, Error> {
    let names = Reach::of_process()
        .full_names(&image.reference, image.short().as_deref())
        .map_err(PullError::from)?;
    for name in &names {
        if store.find(name)?.is_some() {
            return Ok(vec![name.clone()]);
        }
    }
    let by_digest = by_digest(store, &image.typed)?;
    if !by_digest.is_empty() {
        return Ok(by_digest);
    }
    let first = names.into_iter().next();
    Ok(vec![first.unwrap_or_else(|| image.reference.clone())])
}

/// The image whose digest begins as typed, by a name that it has and its whole digest; `None` when what was typed is a
/// name, or the store has no such image.
pub(super) fn in_store_by_digest(
    store: &Store,
    image: &ImageUrl,
) -> Result<Option<Reference>, Error> {
    if image.short().is_none() && !image.typed.starts_with("sha256:") {
        return Ok(None);
    }
    let named = stored(store, image)?;
    match by_digest(store, &image.typed)? {
        names if names == named => {}
        _ => return Ok(None),
    }
    let Some(name) = named.first() else {
        return Ok(None);
    };
    Ok(store.find(name)?.map(|digest| name.with_digest(digest)))
}

/// Fewest hex digits that are taken for the beginning of a digest; `image list` prints twelve.
const MIN_DIGITS: usize = 7;

/// The names of the one image whose digest begins so; none when nothing does, or it does not look like a digest.
fn by_digest(store: &Store, typed: &str) -> Result<Vec<Reference>, Error> {
    let digits = typed.strip_prefix("sha256:").unwrap_or(typed);
    let hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    if digits.len() < MIN_DIGITS || !digits.bytes().all(hex) {
        return Ok(Vec::new());
    }
    let mut entries = store.entries()?;
    entries.retain(|entry| entry.about().is_none() && entry.digest.hex().starts_with(digits));
    let mut digests: Vec<String> = entries
        .iter()
        .map(|entry| entry.digest.to_string())
        .collect();
    digests.sort();
    digests.dedup();
    if digests.len() > 1 {
        return Err(Error::SeveralDigests {
            typed: typed.to_owned(),
            found: digests,
        });
    }
    let names = entries.into_iter().filter_map(|entry| entry.reference);
    Ok(names.collect())
}
