//! What lies beside an image in its registry, fetched and kept: manifests of signatures, their lists and contents.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::pin::Pin;

use futures_util::future::{LocalBoxFuture, MaybeDone, join, join_all, maybe_done};
use futures_util::stream;
use futures_util::{FutureExt as _, StreamExt as _};
use serde_json::json;

use super::signatures::{Needed, told, unproven};
use super::{PullError, Trust, Verdict};
use crate::digest::{Digest, VerifiedBytes};
use crate::limits::{MAX_CONFIG_BYTES, MAX_MANIFEST_BYTES};
use crate::reference::Reference;
use crate::registry::{Client, Patience, RawDocument, RegistryError};
use crate::store::links::Links;
use crate::store::{Named, NewBlob, Store, StoreError, Writer};
use crate::verify::limits::MAX_SIGNATURES;
use crate::verify::{
    self, Candidate, SignatureManifest, Subject, referrers, referrers_tag, signature_tag,
};

/// Most bytes of manifests and contents that are fetched for the signatures of one image: 32 MiB. 256 signatures of
/// cosign have 2 MiB.
pub const MAX_FETCHED_BYTES: u64 = 32 << 20;

/// How many requests are under way at once.
const AT_ONCE: usize = 4;

/// What lies beside an image in its registry.
#[derive(Debug, Default)]
pub(super) struct Beside {
    found: Vec<Found>,
    /// The first thing that could not be fetched.
    failure: Option<RegistryError>,
}

/// One manifest of signatures, and what it names.
#[derive(Debug)]
struct Found {
    about: Digest,
    /// By the list of referrers, not by its tag.
    listed: bool,
    document: RawDocument,
    manifest: SignatureManifest,
    /// What it names, as far as it could be had.
    contents: BTreeMap<Digest, VerifiedBytes>,
}

/// Bytes that may still be fetched.
struct Budget(Cell<u64>);

impl Budget {
    fn spend(&self, bytes: usize) -> bool {
        let left = self.0.get().checked_sub(bytes as u64);
        self.0.set(left.unwrap_or(0));
        left.is_some()
    }
}

/// What a search for one digest gave: what may be signatures, and the first thing that could not be fetched.
type Searched = (Vec<About>, Option<RegistryError>);

/// A search that may be under way before it is waited for.
pub(super) type Begun<'a> = MaybeDone<LocalBoxFuture<'a, Searched>>;

/// Looks for what lies beside one image.
pub(super) struct Search<'a> {
    client: &'a Client,
    reference: &'a Reference,
    needed: &'a Needed<'a>,
    budget: Budget,
}

impl<'a> Search<'a> {
    pub(super) fn new(
        client: &'a Client,
        reference: &'a Reference,
        needed: &'a Needed<'a>,
    ) -> Self {
        let budget = Budget(Cell::new(MAX_FETCHED_BYTES));
        Self {
            client,
            reference,
            needed,
            budget,
        }
    }

    /// Begins with a digest of the image; `None` when signatures are not to be looked at.
    pub(super) fn begin(&self, about: Digest) -> Option<Begun<'_>> {
        let looked_at = !matches!(self.needed, Needed::Verdict(Verdict::NotLookedAt));
        let searched = || search(self.client, self.reference, about, &self.budget).boxed_local();
        looked_at.then(|| maybe_done(searched()))
    }

    /// Fetches the signatures of the image, as far as they can be had; nothing when they are not to be looked at. Those
    /// that nothing depends on are waited for only so long. `begun` is the search for the index.
    pub(super) async fn fetch<'b>(
        &'b self,
        subject: &Subject,
        begun: Option<Begun<'b>>,
        patience: &Patience,
    ) -> Beside {
        let mut beside = Beside::default();
        let mut searches: Vec<Begun<'_>> = begun.into_iter().collect();
        let further = subject.digests().skip(searches.len());
        searches.extend(further.filter_map(|about| self.begin(about)));
        let looked = self.look(searches, &mut beside);
        if matches!(self.needed, Needed::Proof(_)) {
            looked.await;
        } else if tokio::time::timeout(patience.optional, looked)
            .await
            .is_err()
        {
            log::info!(
                "what lies beside {} did not come within {} s; no policy needs it",
                self.reference,
                patience.optional.as_secs()
            );
        }
        beside
    }

    async fn look(&self, mut searches: Vec<Begun<'_>>, beside: &mut Beside) {
        let (client, reference) = (self.client, self.reference);
        join_all(searches.iter_mut()).await;
        let mut documents = Vec::new();
        for search in &mut searches {
            let (found, failure) = Pin::new(search).take_output().unwrap_or_default();
            documents.extend(found);
            beside.failure = beside.failure.take().or(failure);
        }
        let mut left = MAX_SIGNATURES;
        for (about, listed, document) in documents {
            // What cannot be read, and what has no signature in it, is none of ours.
            let Ok(manifest) = SignatureManifest::parse(&document.bytes) else {
                continue;
            };
            let signatures: BTreeMap<_, _> = manifest.wanted().collect();
            if signatures.is_empty() || left == 0 {
                continue;
            }
            left = left.saturating_sub(signatures.len());
            let links = Links::of(&document.bytes).contents;
            let contents = beside
                .contents(client, reference, &self.budget, &signatures, links)
                .await;
            beside.found.push(Found {
                about,
                listed,
                document,
                manifest,
                contents,
            });
        }
    }
}

/// A document about a digest, and whether it was listed.
type About = (Digest, bool, RawDocument);

/// What may be signatures of a digest, and the first thing that could not be fetched.
async fn search(
    client: &Client,
    reference: &Reference,
    about: Digest,
    budget: &Budget,
) -> Searched {
    let mut beside = Beside::default();
    let (tagged, listed) = join(
        client.tagged(reference, &signature_tag(about)),
        by_api(client, reference, about),
    )
    .await;
    let tagged = beside.note(tagged).flatten();
    let mut listed = beside.note(listed).unwrap_or_default();
    let mut found = beside.documents(client, reference, budget, &listed).await;
    // A list that has no signature, or cannot be had, is no reason to pass over the tag that stands for it.
    if !found.iter().any(has_signatures) {
        let known = std::mem::take(&mut listed);
        let index = client.tagged(reference, &referrers_tag(about)).await;
        if let Some(index) = beside.note(index).flatten() {
            add_referrers(&mut listed, &index.bytes);
        }
        listed.retain(|digest| !known.contains(digest));
        found.extend(beside.documents(client, reference, budget, &listed).await);
    }
    let mut documents: Vec<About> = Vec::new();
    documents.extend(tagged.map(|document| (about, false, document)));
    documents.extend(found.into_iter().map(|document| (about, true, document)));
    (documents, beside.failure)
}

/// Digests of what refers to an image, by the registry's list.
async fn by_api(
    client: &Client,
    reference: &Reference,
    about: Digest,
) -> Result<Vec<Digest>, RegistryError> {
    let mut listed = Vec::new();
    let pages = client.referrers(reference, about).await?;
    for page in pages.unwrap_or_default() {
        add_referrers(&mut listed, &page);
    }
    Ok(listed)
}

fn add_referrers(listed: &mut Vec<Digest>, page: &[u8]) {
    for (digest, _) in referrers(page).unwrap_or_default() {
        if !listed.contains(&digest) && listed.len() < MAX_SIGNATURES {
            listed.push(digest);
        }
    }
}

fn has_signatures(document: &RawDocument) -> bool {
    SignatureManifest::parse(&document.bytes)
        .is_ok_and(|manifest| manifest.wanted().next().is_some())
}

impl Beside {
    fn note<T>(&mut self, answer: Result<T, RegistryError>) -> Option<T> {
        match answer {
            Ok(answer) => Some(answer),
            Err(error) => {
                log::debug!("{}", told(&error));
                self.failure.get_or_insert(error);
                None
            }
        }
    }

    /// Documents by their digests, as far as they can be had.
    async fn documents(
        &mut self,
        client: &Client,
        reference: &Reference,
        budget: &Budget,
        digests: &[Digest],
    ) -> Vec<RawDocument> {
        let mut found = Vec::new();
        let mut fetched = stream::iter(digests)
            .map(|digest| client.raw_document(reference, *digest))
            .buffered(AT_ONCE);
        while let Some(document) = fetched.next().await {
            let Some(document) = self.note(document) else {
                continue;
            };
            if !budget.spend(document.bytes.len()) {
                break;
            }
            found.push(document);
        }
        found
    }

    /// What a manifest names, as far as it can be had.
    async fn contents(
        &mut self,
        client: &Client,
        reference: &Reference,
        budget: &Budget,
        signatures: &BTreeMap<Digest, u64>,
        links: Vec<Digest>,
    ) -> BTreeMap<Digest, VerifiedBytes> {
        let mut contents = BTreeMap::new();
        let mut wanted: Vec<Digest> = links;
        wanted.sort();
        wanted.dedup();
        // Other layers than signatures are not fetched beyond what a manifest of ours may have.
        let all = wanted.len() <= MAX_SIGNATURES + 1;
        wanted.retain(|digest| all || signatures.contains_key(digest));
        let mut fetched = stream::iter(wanted)
            .map(async |digest| {
                let limit = signatures.get(&digest).copied();
                let bytes = client
                    .small_blob(reference, digest, limit.unwrap_or(MAX_CONFIG_BYTES))
                    .await;
                (digest, bytes)
            })
            .buffered(AT_ONCE);
        while let Some((digest, bytes)) = fetched.next().await {
            let bytes = self.note(bytes);
            if let Some(bytes) = bytes.filter(|bytes| budget.spend(bytes.len())) {
                contents.insert(digest, bytes);
            }
        }
        contents
    }

    fn candidates(&self) -> Vec<Candidate> {
        self.found
            .iter()
            .flat_map(|found| {
                found
                    .manifest
                    .candidates(|digest| found.contents.get(&digest).cloned())
            })
            .collect()
    }

    /// The verdict on what was fetched.
    pub(super) fn judge(
        &mut self,
        reference: &Reference,
        subject: &Subject,
        needed: &Needed<'_>,
        trust: &Trust,
    ) -> Result<Verdict, PullError> {
        let policy = match needed {
            Needed::Verdict(verdict) => return Ok(verdict.clone()),
            Needed::Proof(policy) => policy,
        };
        let error = match verify::verify(subject, &self.candidates(), policy, &trust.root) {
            Ok(proof) => return Ok(Verdict::Proven(Box::new(proof))),
            Err(error) => error,
        };
        match self.failure.take() {
            // Not that there is none, but that it could not be had.
            Some(failure) if self.found.is_empty() => return Err(failure.into()),
            Some(failure) => log::warn!(
                "not everything beside {reference} could be fetched: {}",
                told(&failure)
            ),
            None => {}
        }
        Err(unproven(reference, policy, error))
    }

    /// Blobs and names to be committed, so that the signatures lie in the store as they do in the registry: with the
    /// same gaps, or one signature that cannot be had would take a good one beside it along.
    pub(super) fn keep(
        &self,
        store: &Store,
        writer: &Writer<'_>,
        reference: &Reference,
    ) -> Result<Kept, StoreError> {
        let mut kept = Kept::default();
        let mut lists: BTreeMap<Digest, Vec<&RawDocument>> = BTreeMap::new();
        for found in &self.found {
            kept.blob(store, writer, &found.document.bytes)?;
            for bytes in found.contents.values() {
                kept.blob(store, writer, bytes)?;
            }
            if found.listed {
                lists.entry(found.about).or_default().push(&found.document);
            } else {
                let media_type = &found.document.media_type;
                let tag = signature_tag(found.about);
                kept.name(reference, &tag, media_type, &found.document.bytes);
            }
        }
        for (about, documents) in lists {
            let manifests: Vec<_> = documents
                .iter()
                .map(|document| {
                    json!({
                        "mediaType": document.media_type,
                        "digest": document.digest.to_string(),
                        "size": document.bytes.len(),
                    })
                })
                .collect();
            let media_type = oci_client::manifest::OCI_IMAGE_INDEX_MEDIA_TYPE;
            let index =
                json!({"schemaVersion": 2, "mediaType": media_type, "manifests": manifests});
            let bytes = VerifiedBytes::hash(index.to_string().into_bytes());
            kept.blob(store, writer, &bytes)?;
            kept.name(reference, &referrers_tag(about), media_type, &bytes);
        }
        Ok(kept)
    }
}

/// What is to be committed of signatures.
#[derive(Debug, Default)]
pub(super) struct Kept {
    pub(super) blobs: Vec<NewBlob>,
    names: Vec<(Reference, String, Digest, u64)>,
}

impl Kept {
    fn blob(
        &mut self,
        store: &Store,
        writer: &Writer<'_>,
        bytes: &VerifiedBytes,
    ) -> Result<(), StoreError> {
        let digest = bytes.digest();
        let known = self.blobs.iter().any(|known| known.digest() == digest);
        if known || matches!(store.read(digest, MAX_MANIFEST_BYTES), Ok(Some(_))) {
            return Ok(());
        }
        self.blobs.push(writer.blob(bytes)?);
        Ok(())
    }

    fn name(&mut self, reference: &Reference, tag: &str, media_type: &str, bytes: &VerifiedBytes) {
        // Every repository and every tag that is made of a digest go together.
        if let Ok(name) = format!("{}:{tag}", reference.name()).parse() {
            self.names.push((
                name,
                media_type.to_owned(),
                bytes.digest(),
                bytes.len() as u64,
            ));
        }
    }

    pub(super) fn named(&self) -> impl Iterator<Item = Named<'_>> {
        self.names
            .iter()
            .map(|(reference, media_type, digest, size)| Named {
                reference,
                media_type,
                digest: *digest,
                size: *size,
                platform: None,
            })
    }
}
