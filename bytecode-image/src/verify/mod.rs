//! Signatures: from bytes to a verdict. Nothing here reads a file, opens a socket or looks at the store.
//!
//! [`Signing::requirement`] says which [`Policy`] decides about an image. [`SignatureManifest`] reads what lies beside
//! the image in a registry or in the store into [`Candidate`]s, and [`verify`] says what the first good one proves.
//! `docs/signatures.md` has the threat model.
//!
//! Certificates, certificate logs, transparency logs and time stamps are checked by `sigstore-verify`. Which digest
//! was signed, by which of the policy's keys or identities, and that cosign 2's annotations are about this signature
//! is checked here.

mod candidate;
mod claim;
mod cosign2;
mod error;
mod evidence;
mod identity;
mod key;
mod keyed;
mod keyless;
pub mod limits;
mod policy;
mod proof;
mod scope;
mod subject;
mod trust_root;

pub use candidate::{
    Candidate, CandidateError, Claimed, Format, Place, SignatureManifest, SignatureManifestError,
    referrers, referrers_tag, signature_tag,
};
pub use claim::{ClaimError, SIGN_PREDICATE_TYPE};
pub use cosign2::AnnotationError;
pub use error::{Reason, Refusal, VerifyError};
pub use identity::{Identity, IdentityError};
pub use key::{Algorithm, KeyError, OtherForm, PublicKey};
pub use policy::{
    Policy, PolicyError, Requirement, SignatureRepository, SignatureRepositoryError, Signing,
};
pub use proof::{LogEntry, NotCounted, Proof, Signer, TimeSource, TrustedTime};
pub use scope::{Scope, ScopeError};
pub use subject::{Covered, Subject, SubjectError};
pub use trust_root::{BUILT_IN_DATE, TrustRoot, TrustRootError};

use candidate::Content;
use evidence::Evidence;
use limits::MAX_SIGNATURES;

/// Looks for a signature of the image that satisfies the policy, in the order of `candidates`. The first good one
/// suffices; bad ones do not spoil it. At most [`MAX_SIGNATURES`] are looked at.
///
/// # Errors
///
/// When there is none: each signature that was looked at, and why it was refused.
pub fn verify(
    subject: &Subject,
    candidates: &[Candidate],
    policy: &Policy,
    trust_root: &TrustRoot,
) -> Result<Proof, VerifyError> {
    let mut refused = Vec::new();
    for candidate in candidates.iter().take(MAX_SIGNATURES) {
        match check(subject, candidate, policy, trust_root) {
            Ok(proof) => return Ok(proof),
            Err(reason) => refused.push(Refusal {
                place: candidate.place,
                reason,
            }),
        }
    }
    let beyond = candidates.len().saturating_sub(MAX_SIGNATURES);
    Err(VerifyError::none_good(subject, refused, beyond))
}

fn check(
    subject: &Subject,
    candidate: &Candidate,
    policy: &Policy,
    trust_root: &TrustRoot,
) -> Result<Proof, Reason> {
    let content = candidate.content.as_ref().map_err(Clone::clone)?;
    let (signer, covered, evidence) = signed_by(content, subject, policy, trust_root)?;
    Ok(Proof {
        signer,
        covered,
        place: candidate.place,
        times: evidence.times,
        log: evidence.log,
        not_counted: evidence.not_counted,
    })
}

/// By an identity, where a certificate came with the signature, else by a key: who has a key may add a certificate.
fn signed_by(
    content: &Content,
    subject: &Subject,
    policy: &Policy,
    trust_root: &TrustRoot,
) -> Result<(Signer, Covered, Evidence), Reason> {
    let by_key = || keyed::verify(content, policy.keys(), subject, trust_root);
    if content.certificate().is_none() {
        return by_key();
    }
    match keyless::verify(content, policy.identities(), subject, trust_root) {
        Err(reason) if !policy.keys().is_empty() => match by_key() {
            // Then it is what the certificate says.
            Err(Reason::NoKey { .. }) => Err(reason),
            found => found,
        },
        found => found,
    }
}
