//! Signatures with a certificate: `sigstore-verify` checks certificate, certificate log, transparency log, time and
//! signature, offline; here the digest and the identity are checked, and that the library checked all of its part.

use sigstore_verify::types::bundle::{KindVersion, TransparencyLogEntry};
use sigstore_verify::types::{Artifact, Bundle, SignatureContent};
use sigstore_verify::{TransparencyLogError, VerificationPolicy, VerificationResult};

use super::candidate::{CandidateError, Content};
use super::claim;
use super::cosign2::AnnotationError;
use super::error::Reason;
use super::evidence::{Evidence, artifact_of, log_index, log_name};
use super::identity::Identity;
use super::proof::{LogEntry, Signer, TimeSource, TrustedTime};
use super::subject::{Covered, Subject};
use super::trust_root::{Loaded, TrustRoot};

/// Checks a signature that has a certificate.
pub(super) fn verify(
    content: &Content,
    identities: &[Identity],
    subject: &Subject,
    trust_root: &TrustRoot,
) -> Result<(Signer, Covered, Evidence), Reason> {
    if identities.is_empty() {
        return Err(Reason::IdentitiesNotListed);
    }
    let loaded = trust_root.loaded()?;
    let (result, covered, evidence) = match content {
        Content::Simple(simple) => {
            if let Some(found) = simple.unread.clone() {
                let kind = AnnotationError::LogEntryKind { found };
                return Err(CandidateError::from(kind).into());
            }
            let bundle = simple.to_bundle(None);
            let (result, evidence) = check(Artifact::from_blob(&simple.payload), &bundle, loaded)?;
            let covered = claim::simple_signing(&simple.payload, subject)?;
            (result, covered, evidence)
        }
        Content::Bundle(signed) => {
            // A log entry is needed, so one that cannot be read is not passed over.
            if let Some(found) = signed.unread.first().cloned() {
                return Err(CandidateError::LogEntryKind { found }.into());
            }
            let bundle = &signed.bundle;
            let SignatureContent::DsseEnvelope(envelope) = &bundle.content else {
                return Err(CandidateError::NoEnvelope.into());
            };
            claim::envelope_type(&envelope.payload_type)?;
            let covered = claim::statement(envelope.payload.as_bytes(), subject)?;
            let (result, evidence) = check(artifact_of(covered.digest())?, bundle, loaded)?;
            (result, covered, evidence)
        }
    };
    let (Some(named), Some(issuer)) = (result.identity(), result.issuer()) else {
        return Err(Reason::NoIdentity);
    };
    let (subject, issuer) = (named.as_str().to_owned(), issuer.to_owned());
    if identities
        .iter()
        .any(|identity| identity.is(&issuer, &subject))
    {
        Ok((Signer::Identity { issuer, subject }, covered, evidence))
    } else {
        Err(Reason::OtherIdentity { subject, issuer })
    }
}

/// Everything but digest and identity.
fn check(
    artifact: Artifact<'_>,
    bundle: &Bundle,
    loaded: &Loaded,
) -> Result<(VerificationResult, Evidence), Reason> {
    let material = &bundle.verification_material;
    let entry = proven_entry(&material.tlog_entries).ok_or(Reason::NoLogEntry)?;
    let known = loaded
        .root
        .tlogs
        .iter()
        .any(|log| log.log_id.key_id == entry.log_id.key_id);
    // The library says of an unknown log only that a key is missing.
    if !known && entry.kind_version != KindVersion::HashedRekordV002 {
        let log_id = entry.log_id.key_id.to_string();
        return Err(Reason::Log(TransparencyLogError::UnknownLog { log_id }));
    }
    // Identities are matched by us: the library's policy holds one, and no expressions.
    let result = loaded
        .verifier
        .verify(artifact, bundle, &VerificationPolicy::any_identity())?;
    if !(result.certificate_verified() && result.sct_verified() && result.tlog_verified()) {
        return Err(Reason::Unchecked);
    }
    // All time stamps hold, or the library would have refused; they come before the log's times.
    let stamps = material
        .timestamp_verification_data
        .rfc3161_timestamps
        .len();
    let source = |number| {
        if number < stamps {
            TimeSource::Authority
        } else {
            TimeSource::Log
        }
    };
    let times = result.verified_timestamps().iter().enumerate();
    let times: Vec<_> = times
        .map(|(number, at)| TrustedTime {
            at: *at,
            source: source(number),
        })
        .collect();
    if times.is_empty() {
        return Err(Reason::Unchecked);
    }
    let log = LogEntry {
        index: log_index(entry),
        log: log_name(entry, &loaded.root).ok_or(Reason::Unchecked)?,
    };
    Ok((
        result,
        Evidence {
            times,
            log: Some(log),
            not_counted: Vec::new(),
        },
    ))
}

/// The first entry that carries something to prove that a log has it.
fn proven_entry(entries: &[TransparencyLogEntry]) -> Option<&TransparencyLogEntry> {
    entries
        .iter()
        .find(|entry| entry.inclusion_proof.is_some() || entry.inclusion_promise.is_some())
}
