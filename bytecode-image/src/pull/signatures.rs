//! Signatures on their way to a verdict: what is needed, what was admitted, what the store has, what its registry has.

use std::sync::Arc;

use super::beside::Search;
use super::local::{self, Located};
use super::{PullError, PullPolicy, PullRequest, Trust, Verdict, in_time};
use crate::digest::{Digest, VerifiedBytes};
use crate::reference::Reference;
use crate::registry::{Client, ReachError};
use crate::store::{Admission, Store};
use crate::verify::{self, Policy, Proof, Requirement, Subject, VerifyError};

/// What signatures must be of: the manifest, and the document that led to it.
pub(super) fn subject(
    reference: &Reference,
    named: &VerifiedBytes,
    manifest: Digest,
) -> Result<Subject, PullError> {
    if named.digest() == manifest {
        return Ok(Subject::of(manifest));
    }
    Subject::in_index(named, manifest).map_err(|source| PullError::Subject {
        reference: Box::new(reference.clone()),
        source,
    })
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
            at: crate::clock::now(),
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
    let subject = subject(reference, &located.named, manifest)?;
    let here = store.signatures_of(reference, &subject)?;
    let verdict = match verify::verify(&subject, &here, policy, &trust.root) {
        Ok(proof) => Verdict::Proven(Box::new(proof)),
        Err(error) if request.policy == PullPolicy::Never => {
            return Err(unproven(reference, policy, error));
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
                    return Err(unproven(reference, policy, error));
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

/// A client for the repository that a policy names for signatures, and a reference into it; `None` where they are beside
/// the image. The location of `registries.conf` is asked, no mirror.
pub(super) fn elsewhere(
    needed: &Needed<'_>,
    request: &PullRequest,
) -> Result<Option<(Client, Reference)>, PullError> {
    let Needed::Proof(policy) = needed else {
        return Ok(None);
    };
    let Some(repository) = policy.signatures() else {
        return Ok(None);
    };
    let registries = request.reach.registries()?;
    let named = repository.reference();
    let plan = registries.plan(named, None).map_err(ReachError::from)?;
    let Some(endpoint) = plan.into_iter().find(|endpoint| !endpoint.mirror) else {
        return Ok(None);
    };
    let mut reach = request.reach.clone();
    if named.registry() != request.reference.registry() {
        // The login of the command line is for the image's registry.
        reach = reach.with_credentials(None);
    }
    let reference = endpoint.reference.clone();
    let client = Client::of(endpoint, &Arc::new(reach), &registries)?;
    Ok(Some((client, reference)))
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
    let reach = Arc::new(request.reach.clone());
    let needed = Needed::Proof(policy);
    let patience = request.reach.patience();
    let (beside, verdict) = if let Some((client, reference)) = elsewhere(&needed, request)? {
        let search = Search::new(&client, &reference, &needed);
        let mut beside = search.fetch(subject, None, patience).await;
        let verdict = beside.judge(name, subject, &needed, &request.trust)?;
        (beside, verdict)
    } else {
        let plan = registries.plan(name, None).map_err(ReachError::from)?;
        let mut servers = plan.into_iter().peekable();
        loop {
            let Some(endpoint) = servers.next() else {
                // A plan has servers.
                return Err(local::absent(store, name, request)?);
            };
            let reference = endpoint.reference.clone();
            let client = Client::of(endpoint, &reach, &registries)?;
            let search = Search::new(&client, &reference, &needed);
            let mut beside = search.fetch(subject, None, patience).await;
            match beside.judge(name, subject, &needed, &request.trust) {
                Ok(verdict) => break (beside, verdict),
                Err(error) if servers.peek().is_some() => log::info!("{error}"),
                Err(error) => return Err(error),
            }
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
pub(super) fn told(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

pub(super) fn unproven(reference: &Reference, policy: &Policy, source: VerifyError) -> PullError {
    PullError::Unproven {
        reference: Box::new(reference.clone()),
        signatures: policy.signatures().map(ToString::to_string),
        source: Box::new(source),
    }
}
