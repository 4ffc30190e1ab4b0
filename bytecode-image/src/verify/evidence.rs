//! What log entries and time stamps say, for both kinds of signatures.

use sigstore_verify::Error;
use sigstore_verify::crypto::{Checkpoint, VerificationKey};
use sigstore_verify::trust_root::{TransparencyLog, TrustedRoot};
use sigstore_verify::types::bundle::{KindVersion, TransparencyLogEntry};
use sigstore_verify::types::{Artifact, Sha256Hash};

use super::proof::{LogEntry, NotCounted, TrustedTime};
use crate::digest::Digest;

/// What was proven beside the signature.
#[derive(Debug, Default)]
pub(super) struct Evidence {
    pub(super) times: Vec<TrustedTime>,
    pub(super) log: Option<LogEntry>,
    pub(super) not_counted: Vec<NotCounted>,
}

/// The number of an entry, as far as something signs it: a signed entry timestamp covers the number in the whole log,
/// an inclusion proof of Rekor v1 only the one in the log's current part, one of Rekor v2 the number itself.
pub(super) fn log_index(entry: &TransparencyLogEntry) -> u64 {
    match &entry.inclusion_proof {
        Some(proof)
            if entry.inclusion_promise.is_none()
                && entry.kind_version != KindVersion::HashedRekordV002 =>
        {
            proof.log_index.get()
        }
        _ => entry.log_index.get(),
    }
}

/// Address, as the trust root names it, of the log whose key signed what [`log_index`] takes the number from: the promise,
/// which names its log, or the checkpoint of the proof, which any log of the trust root may have signed, whatever the
/// entry says. To be asked of proven entries.
pub(super) fn log_name(entry: &TransparencyLogEntry, root: &TrustedRoot) -> Option<String> {
    let by_id = |log: &&TransparencyLog| log.log_id.key_id == entry.log_id.key_id;
    let log = match &entry.inclusion_proof {
        Some(proof) if entry.inclusion_promise.is_none() => {
            let note = Checkpoint::from_text(proof.checkpoint.envelope()).ok()?;
            let signed = |log: &&TransparencyLog| {
                let key = VerificationKey::from_spki(&log.public_key.raw_bytes);
                key.is_ok_and(|key| {
                    let mut signatures = note.signatures().iter();
                    signatures.any(|by| key.verify(note.signed_data(), &by.signature).is_ok())
                })
            };
            // The one that the entry names, where several have one key.
            let mut logs = root.tlogs.iter();
            let named = root.tlogs.iter().find(by_id).filter(signed);
            named.or_else(|| logs.find(signed))
        }
        _ => root.tlogs.iter().find(by_id),
    };
    log.map(|log| log.base_url.clone())
}

/// A digest as the library's artifact.
pub(super) fn artifact_of(digest: Digest) -> Result<Artifact<'static>, Error> {
    Ok(Artifact::from(Sha256Hash::from_hex(&digest.hex())?))
}
