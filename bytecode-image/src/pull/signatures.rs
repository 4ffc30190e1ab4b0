//! Signatures on their way: from the registry into the store beside their image, and from either to a verdict.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;

use futures_util::StreamExt as _;
use futures_util::future::join;
use futures_util::stream;
use jiff::Timestamp;
use serde_json::json;

use super::local::{self, Located};
use super::{PullError, PullPolicy, PullRequest, Trust, Verdict, in_time};
use crate::digest::Digest;
use crate::limits::{MAX_CONFIG_BYTES, MAX_MANIFEST_BYTES};
use crate::reference::Reference;
use crate::registry::{Client, Patience, RawDocument, ReachError, RegistryError};
use crate::store::links::Links;
use crate::store::{Admission, Named, NewBlob, Store, StoreAction, StoreError, Writer};
use crate::verify::limits::MAX_SIGNATURES;
use crate::verify::{
    self, Candidate, Policy, Proof, Requirement, SignatureManifest, Subject, VerifyError,
    referrers, referrers_tag, signature_tag,
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
    contents: BTreeMap<Digest, Vec<u8>>,
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

/// What signatures must be of: the manifest, and the document that led to it.
pub(super) fn subject(
    reference: &Reference,
    named: &[u8],
    manifest: Digest,
) -> Result<Subject, PullError> {
    if Digest::of(named) == manifest {
        return Ok(Subject::of(manifest));
    }
    Subject::in_index(named, manifest).map_err(|source| PullError::Subject {
        reference: Box::new(reference.clone()),
        source,
    })
}

/// Fetches the signatures of an image, as far as they can be had; nothing when they are not to be looked at. Those that
/// nothing depends on are waited for only so long.
pub(super) async fn fetch(
    client: &Client,
    reference: &Reference,
    subject: &Subject,
    needed: &Needed<'_>,
    patience: &Patience,
) -> Beside {
    let mut beside = Beside::default();
    match needed {
        Needed::Verdict(Verdict::NotLookedAt) => {}
        Needed::Proof(_) => look(client, reference, subject, &mut beside).await,
        Needed::Verdict(_) => {
            let looked = look(client, reference, subject, &mut beside);
            if tokio::time::timeout(patience.optional, looked)
                .await
                .is_err()
            {
                log::info!(
                    "what lies beside {reference} did not come within {} s; no policy needs it",
                    patience.optional.as_secs()
                );
            }
        }
    }
    beside
}

async fn look(client: &Client, reference: &Reference, subject: &Subject, beside: &mut Beside) {
    let budget = Budget(Cell::new(MAX_FETCHED_BYTES));
    let mut documents = Vec::new();
    for about in subject.digests() {
        let (tagged, listed) = join(
            client.tagged(reference, &signature_tag(about)),
            by_api(client, reference, about),
        )
        .await;
        let tagged = beside.note(tagged).flatten();
        documents.extend(tagged.map(|document| (about, false, document)));
        let mut listed = beside.note(listed).unwrap_or_default();
        let mut found = beside.documents(client, reference, &budget, &listed).await;
        // A list that has no signature, or cannot be had, is no reason to pass over the tag that stands for it.
        if !found.iter().any(has_signatures) {
            let known = std::mem::take(&mut listed);
            let index = client.tagged(reference, &referrers_tag(about)).await;
            if let Some(index) = beside.note(index).flatten() {
                add_referrers(&mut listed, &index.bytes);
            }
            listed.retain(|digest| !known.contains(digest));
            found.extend(beside.documents(client, reference, &budget, &listed).await);
        }
        documents.extend(found.into_iter().map(|document| (about, true, document)));
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
            .contents(client, reference, &budget, &signatures, links)
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
    ) -> BTreeMap<Digest, Vec<u8>> {
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
        Err(unproven(reference, error))
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
            let bytes = index.to_string().into_bytes();
            kept.blob(store, writer, &bytes)?;
            kept.name(reference, &referrers_tag(about), media_type, &bytes);
        }
        Ok(kept)
    }
}

/// What is to be committed of signatures.
#[derive(Debug, Default)]
pub(super) struct Kept {
    pub(super) blobs: Vec<(NewBlob, Digest)>,
    names: Vec<(Reference, String, Digest, u64)>,
}

impl Kept {
    fn blob(&mut self, store: &Store, writer: &Writer<'_>, bytes: &[u8]) -> Result<(), StoreError> {
        let digest = Digest::of(bytes);
        let known = self.blobs.iter().any(|(_, known)| *known == digest);
        if known || matches!(store.blob(digest, MAX_MANIFEST_BYTES), Ok(Some(_))) {
            return Ok(());
        }
        let mut blob = writer.blob()?;
        blob.write_all(bytes).map_err(|source| StoreError::Io {
            action: StoreAction::Write,
            path: store.dir().to_owned(),
            source,
        })?;
        blob.close();
        self.blobs.push((blob, digest));
        Ok(())
    }

    fn name(&mut self, reference: &Reference, tag: &str, media_type: &str, bytes: &[u8]) {
        // Every repository and every tag that is made of a digest go together.
        if let Ok(name) = format!("{}:{tag}", reference.name()).parse() {
            self.names.push((
                name,
                media_type.to_owned(),
                Digest::of(bytes),
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

/// What must be known about an image before anything of it is looked at.
pub(super) enum Needed<'a> {
    Verdict(Verdict),
    Proof(&'a Policy),
}

impl Trust {
    pub(super) fn needed(&self, reference: &Reference) -> Result<Needed<'_>, PullError> {
        match self.signing.requirement(reference) {
            Requirement::Off => Ok(Needed::Verdict(Verdict::NotLookedAt)),
            Requirement::Warning => Ok(Needed::Verdict(Verdict::NotCovered)),
            Requirement::Refused => Err(PullError::NotCovered {
                reference: Box::new(reference.clone()),
            }),
            Requirement::Proof(policy) => Ok(Needed::Proof(policy)),
        }
    }

    /// The admission of an image of the store by the policy that covers it now. `digests` are what its name stands for
    /// and the manifest of its platform: who signed an index said nothing about a manifest that is named by itself.
    pub fn admission(
        &self,
        store: &Store,
        reference: &Reference,
        digests: [Digest; 2],
    ) -> Option<Admission> {
        match self.signing.requirement(reference) {
            Requirement::Proof(policy) => self.admitted(store, policy, digests),
            _ => None,
        }
    }

    fn admitted(&self, store: &Store, policy: &Policy, digests: [Digest; 2]) -> Option<Admission> {
        let policy = policy.id(&self.root);
        digests
            .into_iter()
            .find_map(|signed| store.admission(signed, policy))
    }

    /// Writes an admission down. That it cannot be is no reason to refuse what was proven.
    pub(super) fn admit(&self, store: &Store, policy: &Policy, proof: &Proof) {
        let admission = Admission {
            policy: policy.id(&self.root),
            proof: proof.clone(),
            at: Timestamp::now(),
        };
        if let Err(error) = store.admit(&admission) {
            log::debug!("{error}");
        }
    }
}

/// What is known about the signatures of an image that the store has: by an earlier admission, else by the signatures
/// beside it, else, where that is allowed, by those in its registry, which then are kept as well.
pub(super) fn of_kept(
    store: &Store,
    request: &PullRequest,
    located: &Located,
) -> Result<Verdict, PullError> {
    let trust = &request.trust;
    let (reference, manifest) = (&located.name, located.manifest_digest);
    let policy = match trust.needed(reference)? {
        Needed::Verdict(verdict) => return Ok(verdict),
        Needed::Proof(policy) => policy,
    };
    if !trust.anew
        && let Some(admission) = trust.admitted(store, policy, [located.digest, manifest])
    {
        return Ok(Verdict::Proven(Box::new(admission.proof)));
    }
    let subject = match store.read(located.digest, MAX_MANIFEST_BYTES)? {
        Some(named) => subject(reference, &named, manifest)?,
        // Removed meanwhile.
        None => Subject::of(manifest),
    };
    let here = store.signatures_of(reference, &subject)?;
    let verdict = match verify::verify(&subject, &here, policy, &trust.root) {
        Ok(proof) => Verdict::Proven(Box::new(proof)),
        Err(error) if request.policy == PullPolicy::Never => {
            return Err(unproven(reference, error));
        }
        // It may have been signed since it was pulled.
        Err(error) => {
            let asked = in_time(request, ask(store, request, reference, &subject, policy));
            match asked {
                Ok(verdict) => verdict,
                Err(PullError::Registry(failure)) => {
                    log::warn!(
                        "its registry was not asked for other signatures of {reference}: {}",
                        told(&failure)
                    );
                    return Err(unproven(reference, error));
                }
                Err(error) => return Err(error),
            }
        }
    };
    if let Verdict::Proven(proof) = &verdict {
        trust.admit(store, policy, proof);
    }
    Ok(verdict)
}

/// Looks for the signatures of an image of the store at its servers, and keeps them when they prove something. The last
/// server's answer is what is told.
async fn ask(
    store: &Store,
    request: &PullRequest,
    name: &Reference,
    subject: &Subject,
    policy: &Policy,
) -> Result<Verdict, PullError> {
    let registries = request.reach.registries()?;
    let plan = registries.plan(name, None).map_err(ReachError::from)?;
    let reach = Arc::new(request.reach.clone());
    let needed = Needed::Proof(policy);
    let mut servers = plan.into_iter().peekable();
    let (beside, verdict) = loop {
        let Some(endpoint) = servers.next() else {
            // A plan has servers.
            return Err(local::absent(store, name, request)?);
        };
        let reference = endpoint.reference.clone();
        let client = Client::of(endpoint, &reach, &registries)?;
        let patience = request.reach.patience();
        let mut beside = fetch(&client, &reference, subject, &needed, patience).await;
        match beside.judge(name, subject, &needed, &request.trust) {
            Ok(verdict) => break (beside, verdict),
            Err(error) if servers.peek().is_some() => log::info!("{error}"),
            Err(error) => return Err(error),
        }
    };
    let writer = store.writer()?;
    let mut kept = beside.keep(store, &writer, name)?;
    let blobs = std::mem::take(&mut kept.blobs);
    let names: Vec<_> = kept.named().collect();
    writer.commit(blobs, &names)?;
    Ok(verdict)
}

/// An error and its causes, in one line.
fn told(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

fn unproven(reference: &Reference, source: VerifyError) -> PullError {
    PullError::Unproven {
        reference: Box::new(reference.clone()),
        source: Box::new(source),
    }
}
