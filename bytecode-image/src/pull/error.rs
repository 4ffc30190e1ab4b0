use std::io;
use std::path::PathBuf;
use std::time::Duration;

use bytecode_object::ByteOrder;

use crate::labels::LabelError;
use crate::layer::LayerError;
use crate::manifest::ManifestError;
use crate::platform::Platform;
use crate::reference::Reference;
use crate::registry::{ReachError, RegistryError};
use crate::store::StoreError;
use crate::verify::{SubjectError, VerifyError};

/// Why an image cannot be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PullError {
    /// At the registry.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The host's configuration of registries.
    #[error(transparent)]
    Reach(#[from] ReachError),
    /// In the store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The store does not have it, and the registry is not to be asked.
    #[error(
        "image {reference} for {platform} is not in the store {}, and pull policy Never forbids to fetch it",
        .store.display()
    )]
    Absent {
        /// What was asked for.
        reference: Box<Reference>,
        /// For which platform.
        platform: Box<Platform>,
        /// Folder of the store.
        store: PathBuf,
        /// Names in the store that are like it, the nearest first.
        near: Vec<String>,
    },
    /// It is there, but not an image that is used.
    #[error("image {reference} is refused")]
    Refused {
        /// What was asked for.
        reference: Reference,
        /// What is wrong with it.
        #[source]
        part: Box<Part>,
    },
    /// No policy covers it, and `allow_unsigned` is false.
    #[error(
        "image {reference} is refused: no policy of the configuration covers it, and `allow_unsigned` is false"
    )]
    NotCovered {
        /// What was asked for.
        reference: Box<Reference>,
    },
    /// No signature satisfies the policy that covers it.
    #[error("image {reference} is refused")]
    Unproven {
        /// What was asked for.
        reference: Box<Reference>,
        /// The repository that the policy names for signatures.
        signatures: Option<String>,
        /// Which signatures there are, and why each was refused.
        #[source]
        source: Box<VerifyError>,
    },
    /// Its index does not lead to its manifest.
    #[error("image {reference} is refused")]
    Subject {
        /// What was asked for.
        reference: Box<Reference>,
        /// What is wrong.
        #[source]
        source: SubjectError,
    },
    /// It took too long in all.
    #[error("image {reference} did not come within {} s", .limit.as_secs())]
    Deadline {
        /// What was asked for.
        reference: Box<Reference>,
        /// How long a pull may take.
        limit: Duration,
    },
    /// The system gives no event queue.
    #[error("cannot prepare for network requests")]
    Runtime(#[source] io::Error),
}

/// What is wrong with an image.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Part {
    /// Its manifest or index.
    #[error("its manifest cannot be used")]
    Manifest(#[source] ManifestError),
    /// Its configuration.
    #[error("its configuration is not one of an image")]
    Config(#[source] serde_json::Error),
    /// It is for another platform.
    #[error("it is for {found}: expected {wanted}")]
    Platform {
        /// Asked for.
        wanted: Platform,
        /// In its configuration.
        found: Platform,
    },
    /// Its labels, or what they say of its object.
    #[error("its labels cannot be trusted")]
    Labels(#[source] LabelError),
    /// Its layer.
    #[error("its layer is not one of a bytecode image")]
    Layer(#[source] LayerError),
    /// An object for hosts of the other byte order.
    #[error("its object {object} is {}: {platform} needs the other byte order", match .found { ByteOrder::Little => "little-endian", ByteOrder::Big => "big-endian" })]
    ByteOrder {
        /// File name of the object.
        object: String,
        /// The object's byte order.
        found: ByteOrder,
        /// What it should run on.
        platform: Platform,
    },
}

impl PullError {
    /// What to do, where that is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Registry(error) => error.hint(),
            Self::Reach(error) => error.hint(),
            Self::Deadline { reference, .. } => Some(format!(
                "check the network between here and {}, then try again; nothing of it was kept",
                reference.registry()
            )),
            Self::Store(error) => error.hint(),
            Self::Absent { near, .. } if near.is_empty() => {
                Some("pull it with policy IfNotPresent first, or copy it into the store".to_owned())
            }
            Self::Absent { near, .. } => Some(format!("did you mean {}?", near.join(", "))),
            Self::Refused { part, .. } => match part.as_ref() {
                Part::Platform { found, .. } => Some(format!(
                    "to pull it all the same, ask for --platform {found}"
                )),
                Part::Manifest(ManifestError::Platform { offered, .. }) if !offered.is_empty() => {
                    Some("choose one of them with --platform".to_owned())
                }
                Part::Layer(_) | Part::Labels(_) => {
                    Some("build the image again from its object".to_owned())
                }
                _ => None,
            },
            Self::NotCovered { reference } => Some(format!(
                "add a [[signing.policy]] with a scope that covers {}",
                reference.name()
            )),
            Self::Unproven {
                signatures: Some(repository),
                source,
                ..
            } if !matches!(**source, VerifyError::NoneGood { .. }) => Some(format!(
                "sign it into the repository of the policy: `COSIGN_REPOSITORY={repository} cosign sign --key cosign.key IMAGE@DIGEST`"
            )),
            Self::Unproven { source, .. } => source.hint(),
            Self::Subject { .. } | Self::Runtime(_) => None,
        }
    }
}
