//! Images from a registry: what the store has already is not fetched again, and what is refused is not kept.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use futures_util::future::try_join;

use super::beside::{Begun, Search};
use super::signatures::{self, Needed};
use super::{BytecodeImage, Contents, Part, PullError, PullRequest, Verdict, Wanted, aside, local};
use crate::digest::VerifiedBytes;
use crate::host::registries_conf::Endpoint;
use crate::limits::{MAX_CONFIG_BYTES, MAX_LAYER_BYTES, MAX_MANIFEST_BYTES};
use crate::manifest::{self, Descriptor, Document, ImageManifest, ManifestError};
use crate::platform::Platform;
use crate::progress::{Progress, Transfer};
use crate::reference::Reference;
use crate::registry::{Action, Client, Fetched, ReachError, Reason, RegistryError};
use crate::store::{Named, NewBlob, Store, StoreError, Writer};
use crate::verify::Signer;

/// A blob in memory, and beside the store until the whole image has passed, unless the store has it.
struct Blob {
    bytes: VerifiedBytes,
    new: Option<NewBlob>,
}

/// Asks the servers of the image in their order; the first that has it gives it.
pub(super) async fn fetch(
    store: &Store,
    request: &PullRequest,
    progress: &dyn Progress,
) -> Result<BytecodeImage, PullError> {
    let registries = request.reach.registries()?;
    let plan = registries
        .plan(&request.reference, request.short.as_deref())
        .map_err(ReachError::from)?;
    let reach = Arc::new(request.reach.clone());
    let end = Instant::now() + reach.patience().deadline;
    let mut servers = plan.into_iter().peekable();
    while let Some(endpoint) = servers.next() {
        let left = end.saturating_duration_since(Instant::now());
        let source = Source {
            client: Client::of(endpoint.clone(), &reach, &registries)?,
            endpoint: &endpoint,
            patience: endpoint.mirror.then(|| share(left, servers.len())),
            end,
        };
        let error = match fetch_from(store, source, request, progress).await {
            Err(PullError::Registry(error)) => error,
            // A mirror need not have the signatures.
            Err(error @ PullError::Unproven { .. })
                if endpoint.mirror && servers.peek().is_some() =>
            {
                log::warn!(
                    "the mirror {} is passed over: {error}",
                    endpoint.reference.registry()
                );
                continue;
            }
            result => return result,
        };
        let next_image = servers.peek().map(|next| &next.image);
        if !passes_over(&endpoint, next_image, &error) {
            return Err(error.into());
        }
        let reason = &error.reason;
        if endpoint.mirror {
            log::warn!("the mirror is passed over: {error}: {reason}");
        } else {
            log::info!("{error}: {reason}");
        }
    }
    // A plan has servers, and its last one is no mirror.
    Err(local::absent(store, &request.reference, request)?)
}

/// How long a mirror is waited for until it says that it has the image: its part of what is left, so that silent ones leave
/// time for the registry itself. Who has answered may take all of it.
fn share(left: Duration, later: usize) -> Duration {
    left / u32::try_from(later).unwrap_or(u32::MAX).saturating_add(1)
}

/// Whether a server's failure leaves it to the next one. A mirror may fail in any way; a registry of several that a short
/// name could be in only when it says that it has no such image, so that being down does not let another one answer.
fn passes_over(endpoint: &Endpoint, next: Option<&Reference>, error: &RegistryError) -> bool {
    if matches!(*error.reason, Reason::Write(_)) {
        return false;
    }
    if endpoint.mirror {
        return next.is_some();
    }
    let other = next.is_some_and(|next| *next != endpoint.image);
    // Some registries say 401 or 403 of everything that they do not have.
    other
        && matches!(
            *error.reason,
            Reason::NotFound { .. } | Reason::Denied { .. } | Reason::Unauthorized { with: None }
        )
}

/// Where an image comes from.
struct Source<'a> {
    client: Client,
    endpoint: &'a Endpoint,
    /// How long is waited for its first word about the image; `None`: until the pull is over.
    patience: Option<Duration>,
    /// When the pull is over.
    end: Instant,
}

impl Source<'_> {
    /// What the reference names there, in time.
    async fn resolve(&mut self) -> Result<Fetched, RegistryError> {
        let reference = &self.endpoint.reference;
        let Some(limit) = self.patience else {
            self.client.until(self.end);
            return self.client.resolve(reference).await;
        };
        self.client.until(Instant::now() + limit);
        let named = tokio::time::timeout(limit, self.client.resolve(reference)).await;
        self.client.until(self.end);
        named.unwrap_or_else(|_| {
            let action = Action::FetchManifest(reference.to_string());
            let reason = Reason::Silent { limit };
            Err(RegistryError::new(reference.registry(), action, reason))
        })
    }
}

async fn fetch_from(
    store: &Store,
    mut source: Source<'_>,
    request: &PullRequest,
    progress: &dyn Progress,
) -> Result<BytecodeImage, PullError> {
    log::info!(
        "asking {} for {}",
        source.endpoint.reference.registry(),
        source.endpoint.reference
    );
    let named = source.resolve().await?;
    log::debug!(
        "{} is {} ({})",
        source.endpoint.reference,
        named.digest,
        named.media_type
    );
    let Source {
        client, endpoint, ..
    } = &source;
    let (reference, name) = (&endpoint.reference, &endpoint.image);
    let needed = request.trust.needed(name)?;
    let refused = |error| PullError::Refused {
        reference: name.clone(),
        part: Box::new(Part::Manifest(error)),
    };
    let lock = match store.try_lock_to_write()? {
        Some(lock) => lock,
        None => {
            let store = store.clone();
            aside(move || store.lock_to_write()).await??
        }
    };
    let writer = Writer::holding(store, lock);
    let mut pending: Vec<NewBlob> = Vec::new();
    let elsewhere = signatures::elsewhere(&needed, request)?;
    let search = match &elsewhere {
        Some((client, reference)) => Search::new(client, reference, &needed),
        None => Search::new(client, reference, &needed),
    };
    let mut begun = None;
    let (manifest_digest, manifest) = match &named.document {
        Document::Image(manifest) => (named.digest, manifest.clone()),
        Document::Index(index) => {
            let chosen = index.choose(&request.platform).map_err(refused)?;
            begun = search.begin(named.digest);
            let manifest = match kept_manifest(store, chosen)? {
                Some(manifest) => manifest,
                None => {
                    let wanted = client.manifest(reference, chosen);
                    let fetched = meanwhile(wanted, begun.as_mut()).await?;
                    pending.extend(new_document(store, &writer, &fetched)?);
                    match fetched.document {
                        Document::Image(manifest) => manifest,
                        Document::Index(_) => return Err(refused(ManifestError::Nested)),
                    }
                }
            };
            log::debug!("its manifest for {} is {}", request.platform, chosen.digest);
            (chosen.digest, manifest)
        }
    };
    pending.extend(new_document(store, &writer, &named)?);

    let subject = signatures::subject(name, &named.bytes, manifest_digest)?;
    let patience = request.reach.patience();
    // Without its contents an image needs no signatures: they are not waited for then.
    let ((config, layer), mut beside) = try_join(
        contents(
            &source,
            store,
            &writer,
            &manifest,
            &request.platform,
            progress,
        ),
        search.fetch(&subject, begun, patience).map(Ok),
    )
    .await?;
    // Before anything of it is read.
    let verdict = beside.judge(name, &subject, &needed, &request.trust)?;
    if let Verdict::Proven(proof) = &verdict {
        let signer = match &proof.signer {
            Signer::Key { fingerprint, .. } => format!("key {fingerprint}"),
            Signer::Identity { issuer, subject } => format!("{subject} ({issuer})"),
        };
        log::info!(
            "verified {name}: {} is signed by {signer}",
            proof.covered.digest()
        );
    }
    // The registry was asked what the name stands for, and had nothing new to give.
    let from_store = pending.is_empty() && config.new.is_none() && layer.new.is_none();
    let mut image = Contents {
        digest: named.digest,
        manifest_digest,
        manifest: &manifest,
        config: &config.bytes,
        layer: &layer.bytes,
        from_store,
    }
    .open(&Wanted {
        reference: name,
        platform: Some(&request.platform),
    })?;

    pending.extend([config.new, layer.new].into_iter().flatten());
    let size = named.bytes.len() as u64;
    let (media_type, digest) = (named.media_type.as_str(), named.digest);
    let mut kept = beside.keep(store, &writer, name)?;
    pending.append(&mut kept.blobs);
    let mut names = vec![Named {
        reference: name,
        media_type,
        digest,
        size,
        // An index is for several.
        platform: (named.digest == manifest_digest).then_some(&image.platform),
    }];
    names.extend(kept.named());
    writer.commit(pending, &names)?;
    log::info!("stored {name} ({manifest_digest})");
    if let (Needed::Proof(policy), Verdict::Proven(proof)) = (&needed, &verdict) {
        request.trust.admit(store, policy, proof);
    }
    image.verdict = verdict;
    Ok(image)
}

/// Waits for `wanted`, while the search that was begun goes on.
async fn meanwhile<T>(wanted: impl Future<Output = T>, mut begun: Option<&mut Begun<'_>>) -> T {
    let mut wanted = pin!(wanted);
    poll_fn(|context| {
        if let Some(begun) = &mut begun {
            let _ = Pin::new(&mut **begun).poll(context);
        }
        wanted.as_mut().poll(context)
    })
    .await
}

/// Configuration and layer, side by side.
async fn contents(
    source: &Source<'_>,
    store: &Store,
    writer: &Writer<'_>,
    manifest: &ImageManifest,
    platform: &Platform,
    progress: &dyn Progress,
) -> Result<(Blob, Blob), PullError> {
    let kept_config = sound(store.read(manifest.config.digest, MAX_CONFIG_BYTES))?;
    let kept_layer = sound(store.read(manifest.layer.digest, MAX_LAYER_BYTES))?;
    let missing = |kept: &Option<VerifiedBytes>, descriptor: &Descriptor| {
        if kept.is_none() { descriptor.size } else { 0 }
    };
    let total = missing(&kept_config, &manifest.config) + missing(&kept_layer, &manifest.layer);
    let _transfer = (total > 0).then(|| {
        let (image, platform) = (&source.endpoint.image, platform);
        log::info!("fetching {total} bytes of {image} for {platform}");
        progress.label(&format!("{image} layer {platform}"));
        Transfer::start(progress, total)
    });
    let get = async |kept: Option<VerifiedBytes>, descriptor: &Descriptor| {
        if let Some(bytes) = kept {
            log::debug!("the store has {} already", descriptor.digest);
            return Ok::<_, PullError>(Blob { bytes, new: None });
        }
        // At most as long as its descriptor says, which was held against the caps.
        let client = &source.client;
        let bytes = client
            .blob(&source.endpoint.reference, descriptor, progress)
            .await?;
        log::debug!("fetched {} ({} bytes)", descriptor.digest, descriptor.size);
        let new = Some(writer.blob(&bytes)?);
        Ok(Blob { bytes, new })
    };
    try_join(
        get(kept_config, &manifest.config),
        get(kept_layer, &manifest.layer),
    )
    .await
}

/// The platform's manifest, when an earlier pull kept it.
fn kept_manifest(
    store: &Store,
    chosen: &Descriptor,
) -> Result<Option<Box<ImageManifest>>, PullError> {
    let Some(bytes) = sound(store.read(chosen.digest, MAX_MANIFEST_BYTES))? else {
        return Ok(None);
    };
    // One that cannot be used is fetched again, and refused as what comes then.
    if bytes.len() as u64 != chosen.size {
        return Ok(None);
    }
    Ok(match manifest::parse(&bytes, Some(&chosen.media_type)) {
        Ok((Document::Image(manifest), _)) => Some(manifest),
        _ => None,
    })
}

/// A document as a blob, unless the store has it.
fn new_document(
    store: &Store,
    writer: &Writer<'_>,
    fetched: &Fetched,
) -> Result<Option<NewBlob>, PullError> {
    if sound(store.read(fetched.digest, MAX_MANIFEST_BYTES))?.is_some() {
        return Ok(None);
    }
    Ok(Some(writer.blob(&fetched.bytes)?))
}

/// Takes a damaged blob, which the store has named and set aside, for one that is not there.
fn sound<T>(found: Result<Option<T>, StoreError>) -> Result<Option<T>, StoreError> {
    match found {
        Err(error @ StoreError::Damaged { .. }) => {
            log::warn!("{error}; fetching it again");
            Ok(None)
        }
        found => found,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silent_mirrors_leave_time_for_the_registry() {
        let seconds = Duration::from_secs;
        assert_eq!(share(seconds(80), 1), seconds(40));
        assert_eq!(share(seconds(80), 3), seconds(20));
        assert_eq!(share(seconds(60), 2), seconds(20));
    }
}
