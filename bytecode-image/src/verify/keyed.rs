//! Signatures with a key: the key and the digest decide. Log entries and time stamps are not needed; those that the
//! trust root knows the maker of must hold, the others are not counted.

use sigstore_verify::crypto::SigningScheme;
use sigstore_verify::tsa::{self, verify_timestamp_for_authority};
use sigstore_verify::types::{
    Artifact, Bundle, SignatureBytes, SignatureContent, TimestampToken, TransparencyLogEntry,
};
use sigstore_verify::{Error as LibraryError, PublicKeyVerificationPolicy};

use super::candidate::Content;
use super::claim;
use super::error::Reason;
use super::evidence::{Evidence, artifact_of, log_index, log_name};
use super::key::{Algorithm, PublicKey};
use super::proof::{LogEntry, NotCounted, Signer, TimeSource, TrustedTime};
use super::subject::{Covered, Subject};
use super::trust_root::{Loaded, TrustRoot};

/// What was signed, and by which of the keys.
struct Signed<'a> {
    key: &'a PublicKey,
    scheme: SigningScheme,
    signature: &'a SignatureBytes,
    covered: Covered,
}

/// Checks a signature by the keys, whatever else came with it.
pub(super) fn verify(
    content: &Content,
    keys: &[PublicKey],
    subject: &Subject,
    trust_root: &TrustRoot,
) -> Result<(Signer, Covered, Evidence), Reason> {
    if keys.is_empty() {
        return Err(Reason::KeysNotListed);
    }
    let signed = match content {
        Content::Simple(simple) => {
            let (key, scheme) = made_by(keys, &simple.payload, &simple.signature)?;
            let covered = claim::simple_signing(&simple.payload, subject)?;
            Signed {
                key,
                scheme,
                signature: &simple.signature,
                covered,
            }
        }
        Content::Bundle(signed) => {
            let SignatureContent::DsseEnvelope(envelope) = &signed.bundle.content else {
                return Err(super::candidate::CandidateError::NoEnvelope.into());
            };
            claim::envelope_type(&envelope.payload_type)?;
            let signature = &envelope.signature.sig;
            let (key, scheme) = made_by(keys, &envelope.pae(), signature)?;
            let covered = claim::statement(envelope.payload.as_bytes(), subject)?;
            Signed {
                key,
                scheme,
                signature,
                covered,
            }
        }
    };
    let evidence = evidence(content, &signed, trust_root)?;
    let signer = Signer::Key {
        fingerprint: signed.key.fingerprint(),
        algorithm: signed.key.algorithm(),
    };
    Ok((signer, signed.covered, evidence))
}

fn made_by<'a>(
    keys: &'a [PublicKey],
    message: &[u8],
    signature: &SignatureBytes,
) -> Result<(&'a PublicKey, SigningScheme), Reason> {
    keys.iter()
        .find_map(|key| key.verifies(message, signature).map(|scheme| (key, scheme)))
        .ok_or(Reason::NoKey {
            keys: keys.len(),
            ed25519: keys.iter().any(|key| key.algorithm() == Algorithm::Ed25519),
        })
}

fn evidence(
    content: &Content,
    signed: &Signed<'_>,
    trust_root: &TrustRoot,
) -> Result<Evidence, Reason> {
    let mut evidence = Evidence::default();
    let unread = match content {
        Content::Simple(simple) => simple.unread.iter().cloned().collect(),
        Content::Bundle(signed) => signed.unread.clone(),
    };
    let unsupported = |kind| NotCounted::UnsupportedEntry { kind };
    evidence
        .not_counted
        .extend(unread.into_iter().map(unsupported));
    if content.certificate().is_some() {
        evidence.not_counted.push(NotCounted::Certificate);
    }
    let mut bundle = match content {
        Content::Simple(simple) if simple.log_entry.is_none() && simple.time_stamp.is_none() => {
            return Ok(evidence);
        }
        Content::Simple(simple) => simple.to_bundle(Some(signed.scheme)),
        Content::Bundle(signed) => signed.bundle.clone(),
    };
    let material = &mut bundle.verification_material;
    let entries = std::mem::take(&mut material.tlog_entries);
    let stamps = std::mem::take(&mut material.timestamp_verification_data).rfc3161_timestamps;
    if entries.is_empty() && stamps.is_empty() {
        return Ok(evidence);
    }
    let loaded = trust_root.loaded()?;
    for entry in entries {
        log_entry(&mut evidence, content, &mut bundle, entry, signed, loaded)?;
    }
    for stamp in &stamps {
        time_stamp(
            &mut evidence,
            &stamp.signed_timestamp,
            signed.signature,
            loaded,
        )?;
    }
    Ok(evidence)
}

/// Checks one entry: that it is about this signature, always; that the log has it, where the log is known. A signer can
/// leave an entry out, and so can everybody on the way, so nothing is lost by not counting one that cannot be checked.
fn log_entry(
    evidence: &mut Evidence,
    content: &Content,
    bundle: &mut Bundle,
    entry: TransparencyLogEntry,
    signed: &Signed<'_>,
    loaded: &Loaded,
) -> Result<(), Reason> {
    // The library checks the signature again, and only in the ways below.
    let simple = matches!(content, Content::Simple(_));
    let prehashed = simple && signed.scheme == SigningScheme::EcdsaP384Sha256;
    let usual = prehashed || signed.key.algorithm().is_default(signed.scheme);
    if !usual || content.certificate().is_some() {
        evidence.not_counted.push(NotCounted::UnusualScheme);
        return Ok(());
    }
    let log = loaded
        .root
        .tlogs
        .iter()
        .find(|log| log.log_id.key_id == entry.log_id.key_id);
    // Nothing can be said of what is still to come; then the clock of this host is wrong, or the entry.
    let now = crate::clock::now();
    let future = log.is_some_and(|log| {
        let window = log.public_key.valid_for.as_ref();
        entry.integrated_time.is_some_and(|at| at > now)
            || window.is_some_and(|window| !window.has_started_by(now))
    });
    let policy = PublicKeyVerificationPolicy::new(signed.key.der().clone());
    let policy = if log.is_some() && !future {
        policy
    } else {
        policy.skip_tlog_unsafe()
    };
    bundle.verification_material.tlog_entries = vec![entry.clone()];
    let artifact = match content {
        Content::Simple(simple) => Artifact::from_blob(&simple.payload),
        Content::Bundle(_) => artifact_of(signed.covered.digest())?,
    };
    let result = match loaded.verifier.verify(artifact, bundle, &policy) {
        // What was signed was read before this, so it is the entry that is not supported.
        Err(LibraryError::UnsupportedBundle(_)) => {
            let kind = format!(
                "{} {}",
                entry.kind_version.kind(),
                entry.kind_version.version()
            );
            evidence
                .not_counted
                .push(NotCounted::UnsupportedEntry { kind });
            return Ok(());
        }
        result => result?,
    };
    if future {
        evidence.not_counted.push(NotCounted::Future);
        return Ok(());
    }
    if log.is_none() {
        let id = entry.log_id.key_id.as_bytes();
        let id = id.iter().map(|byte| format!("{byte:02x}")).collect();
        evidence.not_counted.push(NotCounted::UnknownLog { id });
        return Ok(());
    }
    if let Some(at) = result.integrated_time() {
        evidence.times.push(TrustedTime {
            at,
            source: TimeSource::Log,
        });
    }
    evidence.log.get_or_insert(LogEntry {
        index: log_index(&entry),
        log: log_name(&entry, &loaded.root).ok_or(Reason::Unchecked)?,
    });
    Ok(())
}

/// Checks one time stamp. One whose signer no authority of the trust root is, or whose signature is broken, was made
/// by nobody who is known.
fn time_stamp(
    evidence: &mut Evidence,
    stamp: &TimestampToken,
    signature: &SignatureBytes,
    loaded: &Loaded,
) -> Result<(), Reason> {
    for authority in loaded.root.tsa_authorities() {
        match verify_timestamp_for_authority(stamp, signature, &authority) {
            Ok(at) => {
                evidence.times.push(TrustedTime {
                    at,
                    source: TimeSource::Authority,
                });
                return Ok(());
            }
            Err(
                tsa::Error::SignatureVerificationError(_)
                | tsa::Error::CertificateValidationError(_),
            ) => {}
            Err(error) => return Err(Reason::TimeStamp(Box::new(error))),
        }
    }
    evidence.not_counted.push(NotCounted::UnknownAuthority);
    Ok(())
}
