//! From a reference and a policy to a verified image.

mod beside;
mod error;
mod fetch;
mod local;
mod signatures;
mod trust;

use std::fmt;
use std::io;
use std::str::FromStr;
use std::sync::Arc;

pub use beside::MAX_FETCHED_BYTES;
pub use error::{Part, PullError};
pub use trust::{Trust, Verdict};

use self::local::Located;
use crate::digest::{Digest, VerifiedBytes};
use crate::labels::Labels;
use crate::layer;
use crate::manifest::{ImageConfig, ImageManifest, ManifestError};
use crate::platform::Platform;
pub use crate::progress::Progress;
use crate::reference::Reference;
use crate::registry::Reach;
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
    /// What was typed, without tag and digest, where that names no registry ([`reference::short_name`]): the host's
    /// `registries.conf` then says what it stands for.
    ///
    /// [`reference::short_name`]: crate::reference::short_name
    pub short: Option<String>,
    /// When to ask the registry.
    pub policy: PullPolicy,
    /// How registries are reached, and who we are to them.
    pub reach: Reach,
    /// Which platform of an index, and what a single image must be for: [`Platform::host`] as a rule.
    pub platform: Platform,
    /// What is asked of its signatures.
    pub trust: Arc<Trust>,
}

/// An image whose every byte was checked against the digest that the reference named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BytecodeImage {
    /// As it was asked for, defaults filled in, a short name by what it stands for.
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
    /// Whether the store had it, so that its contents were not asked of a registry.
    pub from_store: bool,
    /// What is known about its signatures.
    pub verdict: Verdict,
}

/// Gets an image as the policy says, checks it, keeps it in the store, and gives its object.
///
/// Blocks. A runtime, and a socket, exist only while a registry is asked; files that say how registries are reached are
/// read then, and for short names.
///
/// # Errors
///
/// When the image is nowhere, damaged, not a bytecode image or not for this platform, or its signatures do not prove
/// what they must. The store's index is then
/// as it was, and nothing half fetched is left.
pub fn pull(
    store: &Store,
    request: &PullRequest,
    progress: &dyn Progress,
) -> Result<BytecodeImage, PullError> {
    let names = request
        .reach
        .full_names(&request.reference, request.short.as_deref())?;
    // A name that is refused in any case is not looked for.
    for name in &names {
        request.trust.needed(name)?;
    }
    if request.policy != PullPolicy::Always {
        for name in &names {
            match kept(store, name, request) {
                Ok(Some(image)) => {
                    log::info!("the store has {name} ({})", image.manifest_digest);
                    return Ok(image);
                }
                Ok(None) => log::debug!("the store does not have {name}"),
                // The tag may stand for more than what the store has of it: the registry knows.
                Err(error)
                    if request.policy != PullPolicy::Never && is_for_another(name, &error) =>
                {
                    log::info!(
                        "the store has {name} for another platform only: asking the registry"
                    );
                }
                // What is damaged is fetched again where that is allowed.
                Err(PullError::Store(error @ StoreError::Damaged { .. }))
                    if request.policy != PullPolicy::Never =>
                {
                    log::warn!("{error}; fetching it again");
                }
                Err(error) => return Err(error),
            }
        }
    }
    if request.policy == PullPolicy::Never {
        let name = names.first().unwrap_or(&request.reference);
        return Err(local::absent(store, name, request)?);
    }
    in_time(request, fetch::fetch(store, request, progress))
}

/// The image as the store has it, if it has all of it.
fn kept(
    store: &Store,
    name: &Reference,
    request: &PullRequest,
) -> Result<Option<BytecodeImage>, PullError> {
    let Some(located) = locate_kept(store, name, request)? else {
        return Ok(None);
    };
    // Before anything of it is read.
    let verdict = signatures::of_kept(store, request, &located)?;
    let image = located.open(&request.platform)?;
    Ok(Some(BytecodeImage { verdict, ..image }))
}

/// Whether what the store has under a tag is for other platforms.
fn is_for_another(name: &Reference, error: &PullError) -> bool {
    let PullError::Refused { part, .. } = error else {
        return false;
    };
    // A digest stands for the same wherever it is asked for.
    name.digest().is_none()
        && matches!(
            **part,
            Part::Platform { .. } | Part::Manifest(ManifestError::Platform { .. })
        )
}

/// What requests to a registry run on.
fn runtime() -> Result<tokio::runtime::Runtime, PullError> {
    tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()
        .map_err(PullError::Runtime)
}

/// Runs requests to registries until they end, or the deadline is over.
fn in_time<T>(
    request: &PullRequest,
    asked: impl Future<Output = Result<T, PullError>>,
) -> Result<T, PullError> {
    let limit = request.reach.patience().deadline;
    let runtime = runtime()?;
    let ended = runtime.block_on(async { tokio::time::timeout(limit, asked).await });
    // Threads may still wait for a name server or a credential helper, and nobody waits for them.
    runtime.shutdown_background();
    ended.unwrap_or_else(|_| {
        Err(PullError::Deadline {
            reference: Box::new(request.reference.clone()),
            limit,
        })
    })
}

/// Does on another thread what may wait, so that the deadline holds.
async fn aside<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, PullError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| PullError::Runtime(io::Error::other(error)))
}

/// The image, when the store has all of it.
fn locate_kept(
    store: &Store,
    name: &Reference,
    request: &PullRequest,
) -> Result<Option<Located>, PullError> {
    let reader = store.reader()?;
    let found = local::locate(store, name, &request.platform)?;
    if found.is_none() && !reader.is_safe() {
        // The first removal ever makes the lock, and may have come between two blobs.
        let reader = store.reader()?;
        if reader.is_safe() {
            return local::locate(store, name, &request.platform);
        }
    }
    Ok(found)
}

/// An image's digests, and its contents: what is left to do is the same for fetched and kept ones.
pub(crate) struct Contents<'a> {
    pub(crate) digest: Digest,
    pub(crate) manifest_digest: Digest,
    pub(crate) manifest: &'a ImageManifest,
    pub(crate) config: &'a VerifiedBytes,
    pub(crate) layer: &'a VerifiedBytes,
    pub(crate) from_store: bool,
}

/// What contents are compared with.
pub(crate) struct Wanted<'a> {
    /// The image's name, for messages.
    pub(crate) reference: &'a Reference,
    /// What it must be for; `None` takes what its configuration says.
    pub(crate) platform: Option<&'a Platform>,
}

impl Contents<'_> {
    /// Reads configuration and layer, and compares them with each other and with the platform asked for.
    pub(crate) fn open(self, wanted: &Wanted<'_>) -> Result<BytecodeImage, PullError> {
        let reference = wanted.reference;
        let refused = |part| PullError::Refused {
            reference: reference.clone(),
            part: Box::new(part),
        };
        // What the store had already was not counted on its way here.
        for (what, descriptor, found) in [
            ("config", &self.manifest.config, self.config),
            ("layer", &self.manifest.layer, self.layer),
        ] {
            descriptor
                .check_length(what, found.len() as u64)
                .map_err(|error| refused(Part::Manifest(error)))?;
        }
        let config =
            ImageConfig::parse(self.config).map_err(|error| refused(Part::Config(error)))?;
        let platform = match (wanted.platform, config.platform) {
            (Some(wanted), Some(found)) if wanted.distance(&found).is_none() => {
                let wanted = wanted.clone();
                return Err(refused(Part::Platform { wanted, found }));
            }
            (_, Some(found)) => found,
            (Some(wanted), None) => wanted.clone(),
            (None, None) => Platform::host(),
        };
        let labels = Labels::from_config_labels(&config.labels)
            .map_err(|error| refused(Part::Labels(error)))?;
        let media_type = &self.manifest.layer.media_type;
        let object = layer::read_object(self.layer, media_type, config.diff_ids.as_deref())
            .map_err(|error| refused(Part::Layer(error)))?;
        if let Some(wanted) = platform.byte_order()
            && wanted != object.info.byte_order
        {
            return Err(refused(Part::ByteOrder {
                object: object.name,
                found: object.info.byte_order,
                platform,
            }));
        }
        labels
            .check(&object.info)
            .map_err(|error| refused(Part::Labels(error)))?;
        Ok(BytecodeImage {
            reference: reference.clone(),
            digest: self.digest,
            manifest_digest: self.manifest_digest,
            platform,
            labels,
            object: object.bytes,
            object_name: object.name,
            from_store: self.from_store,
            verdict: Verdict::NotLookedAt,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;
    use crate::registry::Patience;

    /// A name server that does not answer keeps a thread as long as it likes, but not the pull.
    #[test]
    fn a_thread_that_waits_does_not_outlast_the_deadline() {
        let patience = Patience {
            deadline: Duration::from_millis(20),
            ..Patience::default()
        };
        let request = PullRequest {
            reference: "quay.io/a/b".parse().unwrap(),
            short: None,
            policy: PullPolicy::Always,
            reach: Reach::default().with_patience(patience),
            platform: Platform::host(),
            trust: Trust::unchecked().into(),
        };
        let (answer, answered) = mpsc::channel::<()>();
        let waits = aside(move || answered.recv());
        let ended = in_time(&request, async { waits.await.map(|_| ()) });
        assert!(
            matches!(ended, Err(PullError::Deadline { .. })),
            "{ended:?}"
        );
        drop(answer);
    }
}
