//! Pushing images that are whole in memory.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{TryStreamExt, stream};
use oci_client::manifest::OCI_IMAGE_INDEX_MEDIA_TYPE;
use reqwest::header::{CONTENT_TYPE, HeaderValue};
use reqwest::{Method, StatusCode, Url};

use crate::digest::{Digest, VerifiedBytes};
use crate::manifest;
use crate::progress::{Progress, Transfer};
use crate::reference::Reference;
use crate::registry::auth::Access;
use crate::registry::client::{DIGEST_HEADER, check_digest_header};
use crate::registry::http::{Request, header};
use crate::registry::mount::{Mounted, Sources};
use crate::registry::{Action, Client, Reach, Reason, RegistryError};
use crate::store::Store;

/// How many blobs or manifests are on their way at once: 6, what browsers settled on for one host.
const IN_FLIGHT: usize = 6;

/// How long to wait before the second and the third try.
const PAUSES: [Duration; 2] = [Duration::from_millis(200), Duration::from_millis(800)];

/// One image, as bytes that are pushed as they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Image configuration, JSON.
    pub config: Vec<u8>,
    /// Media type and bytes of each layer.
    pub layers: Vec<(String, Vec<u8>)>,
    /// Manifest that names the above by digest and size.
    pub manifest: Vec<u8>,
    /// Its media type.
    pub manifest_media_type: String,
}

/// Pushes images, and the index over them when there is one; then names the result by the reference's tag.
///
/// Blobs that the repository has are not sent again, and what `store` remembers of another repository of the registry is
/// mounted from there. Manifests go by digest, the tag is moved last, so that it never
/// names something incomplete. Without an `index` the tag names the last image. A reference with a digest and no tag
/// moves no tag. Gives the digest of what the reference names now, after `store` was told of it.
///
/// # Errors
///
/// When the registry cannot be reached, refuses, or says that it holds something else than was sent.
pub async fn push_image(
    reference: &Reference,
    reach: &Reach,
    images: &[Image],
    index: Option<Vec<u8>>,
    store: Option<&Store>,
    progress: &dyn Progress,
) -> Result<Digest, RegistryError> {
    let client = Client::new(reference, reach)?;
    // By digest, so that what two images share is sent once.
    let blobs: BTreeMap<Digest, &[u8]> = images
        .iter()
        .flat_map(|image| {
            let layers = image.layers.iter().map(|(_, bytes)| bytes.as_slice());
            layers.chain(std::iter::once(image.config.as_slice()))
        })
        .map(|bytes| (Digest::of(bytes), bytes))
        .collect();
    let total = blobs.values().map(|bytes| bytes.len() as u64).sum();
    log::info!(
        "pushing {reference}: {} images, {} blobs, {total} bytes",
        images.len(),
        blobs.len()
    );
    progress.label(&format!("{reference} push"));
    let transfer = Transfer::start(progress, total);
    let client = &client;
    let sources = Sources::of(store.map(Store::pushed).unwrap_or_default());
    let digests: Vec<Digest> = blobs.keys().copied().collect();
    let send = async |(digest, bytes): (Digest, &[u8])| {
        patiently(|| client.push_blob(reference, digest, bytes, &sources)).await?;
        log::debug!("pushed {digest} ({} bytes)", bytes.len());
        progress.advance(bytes.len() as u64);
        Ok(())
    };
    let mut blobs = blobs.into_iter();
    // The first one alone: what the registry wants to know of us, it asks once.
    if let Some(first) = blobs.next() {
        send(first).await?;
    }
    stream::iter(blobs.map(Ok))
        .try_for_each_concurrent(IN_FLIGHT, send)
        .await?;
    let children = images.iter().map(|image| {
        let digest = Digest::of(&image.manifest);
        Ok((digest, image))
    });
    stream::iter(children)
        .try_for_each_concurrent(IN_FLIGHT, async |(digest, image): (Digest, &Image)| {
            let (name, kind) = (digest.to_string(), &image.manifest_media_type);
            log::debug!("pushing the manifest {name}");
            patiently(|| client.push_manifest(reference, &name, kind, &image.manifest)).await
        })
        .await?;
    let mut named = images.last().map(|image| {
        let digest = Digest::of(&image.manifest);
        (
            digest,
            image.manifest_media_type.as_str(),
            image.manifest.as_slice(),
        )
    });
    // Docker's lists of manifests come from the store only.
    let index_type = index
        .as_ref()
        .map(|index| manifest::parse(&VerifiedBytes::hash(index.clone()), None));
    let index_type = match &index_type {
        Some(Ok((_, media_type))) => media_type.as_str(),
        _ => OCI_IMAGE_INDEX_MEDIA_TYPE,
    };
    if let Some(index) = &index {
        let digest = Digest::of(index);
        let (name, kind) = (digest.to_string(), index_type);
        patiently(|| client.push_manifest(reference, &name, kind, index)).await?;
        named = Some((digest, index_type, index));
    }
    let Some((digest, media_type, bytes)) = named else {
        return Err(client.error(
            &Action::PushManifest(reference.to_string()),
            Reason::Nothing,
        ));
    };
    if let Some(tag) = reference.tag() {
        log::debug!("moving the tag {tag} to {digest}");
        patiently(|| client.push_manifest(reference, tag, media_type, bytes)).await?;
    }
    drop(transfer);
    if let Some(store) = store {
        store.remember_pushed(reference, &digests);
    }
    Ok(digest)
}

/// Tries again what broke off in the middle or got no answer, which a single request of an upload is not sent again for.
/// Both a blob and a manifest may be sent twice: they are named by what they are.
async fn patiently<F: Future<Output = Result<(), RegistryError>>>(
    send: impl Fn() -> F,
) -> Result<(), RegistryError> {
    for pause in PAUSES {
        match send().await {
            Err(error) if matches!(*error.reason, Reason::Timeout(_) | Reason::Transfer(_)) => {
                log::info!("{error}: {}; once more in {pause:?}", error.reason);
                tokio::time::sleep(pause).await;
            }
            done => return done,
        }
    }
    send().await
}

impl Client {
    /// Sends a blob unless the repository has it or can mount it (distribution-spec, "Pushing a blob monolithically": POST
    /// then PUT; "Mounting a blob from another repository").
    ///
    /// # Errors
    ///
    /// When the registry cannot be reached or refuses.
    async fn push_blob(
        &self,
        reference: &Reference,
        digest: Digest,
        bytes: &[u8],
        sources: &Sources,
    ) -> Result<(), RegistryError> {
        let action = Action::PushBlob(digest, reference.name());
        let asked = Request::new(
            Method::HEAD,
            self.url(&action, reference, &format!("blobs/{digest}"))?,
        );
        match self.request(&action, reference, Access::Push, &asked).await {
            Ok(_) => return Ok(()),
            Err(error) if matches!(*error.reason, Reason::NotFound { .. }) => {}
            Err(error) => return Err(error),
        }
        let mut location = match self.mount(&action, reference, digest, sources).await? {
            Mounted::Here => return Ok(()),
            Mounted::Upload(location) => location,
            Mounted::No => self.upload(&action, reference).await?,
        };
        location
            .query_pairs_mut()
            .append_pair("digest", &digest.to_string());
        let upload = Request::new(Method::PUT, location)
            .header(
                CONTENT_TYPE,
                HeaderValue::from_static("application/octet-stream"),
            )
            .body(Bytes::copy_from_slice(bytes));
        let answer = self
            .request(&action, reference, Access::Push, &upload)
            .await?;
        self.stored(&action, &answer, digest)
    }

    /// Begins an upload: where the registry wants it.
    async fn upload(&self, action: &Action, reference: &Reference) -> Result<Url, RegistryError> {
        let begin = Request::new(Method::POST, self.url(action, reference, "blobs/uploads/")?);
        let begun = self
            .request(action, reference, Access::Push, &begin)
            .await?;
        self.location(action, &begun)
    }

    /// Sends a manifest or index under a name: its digest or a tag.
    ///
    /// # Errors
    ///
    /// When the registry cannot be reached, refuses, or says that it holds something else than was sent.
    pub async fn push_manifest(
        &self,
        reference: &Reference,
        name: &str,
        media_type: &str,
        bytes: &[u8],
    ) -> Result<(), RegistryError> {
        let action = Action::PushManifest(format!("{} ({name})", reference.name()));
        let media_type = HeaderValue::from_str(media_type).map_err(|_| {
            self.error(
                &action,
                Reason::Header {
                    name: "Content-Type",
                },
            )
        })?;
        let request = Request::new(
            Method::PUT,
            self.url(&action, reference, &format!("manifests/{name}"))?,
        )
        .header(CONTENT_TYPE, media_type)
        .body(Bytes::copy_from_slice(bytes));
        let answer = self
            .request(&action, reference, Access::Push, &request)
            .await?;
        self.stored(&action, &answer, Digest::of(bytes))
    }

    /// 201 says that the content is stored, and `Docker-Content-Digest` as what.
    fn stored(
        &self,
        action: &Action,
        answer: &reqwest::Response,
        sent: Digest,
    ) -> Result<(), RegistryError> {
        let refused = |reason| self.error(action, reason);
        if answer.status() != StatusCode::CREATED {
            return Err(refused(Reason::Status {
                status: answer.status().as_u16(),
                message: None,
            }));
        }
        check_digest_header(header(answer, DIGEST_HEADER), sent).map_err(refused)
    }
}
