//! What the store holds, image by image: for lists, and for whoever wants to look before loading.

use std::collections::BTreeMap;

use crate::digest::{Digest, VerifiedBytes};
use crate::labels::Labels;
use crate::limits::{MAX_CONFIG_BYTES, MAX_MANIFEST_BYTES};
use crate::manifest::{self, Descriptor, Document, ImageConfig, ImageManifest};
use crate::platform::Platform;
use crate::reference::Reference;
use crate::store::{Entry, Store, StoreError, gc};

/// One entry of the store's index that stands for an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredImage {
    /// Its name and digest.
    pub entry: Entry,
    /// Every platform that the image has, as far as the store knows; one for an image without an index.
    pub platforms: Vec<StoredPlatform>,
    /// Digests of the entries that are only about this image: signatures, attestations.
    pub about: Vec<Entry>,
}

/// One platform of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredPlatform {
    /// By the configuration, else by the index; `None` where neither says.
    pub platform: Option<Platform>,
    /// Digest of its manifest.
    pub manifest: Digest,
    /// Length of its manifest in bytes.
    pub manifest_size: u64,
    /// What the store has of it.
    pub state: State,
}

/// What the store has of a platform.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// All of it is there. Configuration and manifest were hashed; the layer is when it is loaded.
    Whole(Box<Held>),
    /// Nothing, or not all of it: the other platforms of a pulled index.
    Absent,
    /// It is there, but no bytecode image, or damaged: why.
    Unusable(String),
}

/// A platform that is whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// Its configuration.
    pub config: Descriptor,
    /// Its layer.
    pub layer: Descriptor,
    /// All labels, ours and others.
    pub config_labels: BTreeMap<String, String>,
    /// What the labels say of programs and maps.
    pub labels: Labels,
}

impl StoredPlatform {
    /// What the store has of it, when it is whole.
    pub fn held(&self) -> Option<&Held> {
        match &self.state {
            State::Whole(held) => Some(held),
            State::Absent | State::Unusable(_) => None,
        }
    }

    /// Bytes of manifest, configuration and layer; `None` unless all are there.
    pub fn size(&self) -> Option<u64> {
        let held = self.held()?;
        Some(
            self.manifest_size
                .saturating_add(held.config.size)
                .saturating_add(held.layer.size),
        )
    }
}

impl Store {
    /// Every image, in the order of the index. What is only about an image is in its [`StoredImage::about`].
    ///
    /// A damaged or foreign image is no error but a [`State`]. A store that does not exist has none.
    ///
    /// # Errors
    ///
    /// When the index or a blob cannot be read at all.
    pub fn images(&self) -> Result<Vec<StoredImage>, StoreError> {
        let _reader = self.reader()?;
        self.images_where(|_| true)
    }

    /// The images that a reference stands for, as [`remove`](Self::remove) has it.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unknown`] when there is none; else as [`images`](Self::images).
    pub fn images_named(&self, reference: &Reference) -> Result<Vec<StoredImage>, StoreError> {
        let _reader = self.reader()?;
        let found = self.images_where(|entry| gc::names(reference, entry))?;
        if found.is_empty() {
            return Err(self.unknown(reference, &self.entries()?));
        }
        Ok(found)
    }

    fn images_where(&self, asked: impl Fn(&Entry) -> bool) -> Result<Vec<StoredImage>, StoreError> {
        let (mut images, mut others) = (Vec::new(), Vec::new());
        for entry in self.entries()? {
            match self.subject_of(&entry)? {
                Some(subject) => others.push((subject, entry)),
                None if asked(&entry) => images.push(entry),
                None => {}
            }
        }
        images
            .into_iter()
            .map(|entry| {
                let platforms = self.platforms(&entry)?;
                let is_of = |subject: &Digest| {
                    *subject == entry.digest
                        || platforms
                            .iter()
                            .any(|platform| platform.manifest == *subject)
                };
                let about = others
                    .iter()
                    .filter(|(subject, _)| is_of(subject))
                    .map(|(_, entry)| entry.clone())
                    .collect();
                Ok(StoredImage {
                    entry,
                    platforms,
                    about,
                })
            })
            .collect()
    }

    fn platforms(&self, entry: &Entry) -> Result<Vec<StoredPlatform>, StoreError> {
        let single = |state| StoredPlatform {
            platform: entry.platform.clone(),
            manifest: entry.digest,
            manifest_size: entry.size,
            state,
        };
        Ok(match self.document(entry.digest, &entry.media_type)? {
            Err(state) => vec![single(state)],
            Ok(Document::Image(image)) => {
                let (platform, state) = self.contents(*image)?;
                let mut found = single(state);
                found.platform = platform.or(found.platform);
                vec![found]
            }
            Ok(Document::Index(index)) => {
                let mut found = Vec::new();
                for descriptor in index.images() {
                    let (platform, state) =
                        match self.document(descriptor.digest, &descriptor.media_type)? {
                            Ok(Document::Image(image)) => self.contents(*image)?,
                            Ok(Document::Index(_)) => {
                                (None, State::Unusable("an index in an index".to_owned()))
                            }
                            Err(state) => (None, state),
                        };
                    found.push(StoredPlatform {
                        platform: platform.or_else(|| descriptor.platform()),
                        manifest: descriptor.digest,
                        manifest_size: descriptor.size,
                        state,
                    });
                }
                found
            }
        })
    }

    fn document(
        &self,
        digest: Digest,
        media_type: &str,
    ) -> Result<Result<Document, State>, StoreError> {
        let bytes = match usable(self.read(digest, MAX_MANIFEST_BYTES))? {
            Ok(bytes) => bytes,
            Err(state) => return Ok(Err(state)),
        };
        Ok(match manifest::parse(&bytes, Some(media_type)) {
            Ok((document, _)) => Ok(document),
            Err(error) => Err(unusable(&error)),
        })
    }

    fn contents(&self, image: ImageManifest) -> Result<(Option<Platform>, State), StoreError> {
        let bytes = match usable(self.read(image.config.digest, MAX_CONFIG_BYTES))? {
            Ok(bytes) => bytes,
            Err(state) => return Ok((None, state)),
        };
        let config = match ImageConfig::parse(&bytes) {
            Ok(config) => config,
            Err(error) => return Ok((None, unusable(&error))),
        };
        let labels = match Labels::from_config_labels(&config.labels) {
            Ok(labels) => labels,
            Err(error) => return Ok((config.platform, unusable(&error))),
        };
        match self.has(image.layer.digest) {
            Ok(true) => {}
            Ok(false) => return Ok((config.platform, State::Absent)),
            Err(error) if error.is_unusable_blob() => {
                return Ok((config.platform, unusable(&error)));
            }
            Err(error) => return Err(error),
        }
        let held = Held {
            config: image.config,
            layer: image.layer,
            config_labels: config.labels,
            labels,
        };
        Ok((config.platform, State::Whole(Box::new(held))))
    }
}

/// What cannot be used of one image must not hide the others.
fn usable(
    read: Result<Option<VerifiedBytes>, StoreError>,
) -> Result<Result<VerifiedBytes, State>, StoreError> {
    match read {
        Ok(Some(bytes)) => Ok(Ok(bytes)),
        Ok(None) => Ok(Err(State::Absent)),
        Err(error) if error.is_unusable_blob() => Ok(Err(unusable(&error))),
        Err(error) => Err(error),
    }
}

/// An error and its causes, in one line.
fn unusable(error: &dyn std::error::Error) -> State {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    State::Unusable(text)
}
