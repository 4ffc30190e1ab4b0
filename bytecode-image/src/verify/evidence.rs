//! What log entries and time stamps say, for both kinds of signatures.

use sigstore_verify::Error;
use sigstore_verify::trust_root::TrustedRoot;
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

/// Address of the log, as the trust root names it; else the log's id, of Rekor v2, whose entries are proven by the name
/// and key of a checkpoint instead.
pub(super) fn log_name(entry: &TransparencyLogEntry, root: &TrustedRoot) -> String {
    let log = root
        .tlogs
        .iter()
        .find(|log| log.log_id.key_id == entry.log_id.key_id);
    log.map_or_else(
        || entry.log_id.key_id.to_string(),
        |log| log.base_url.clone(),
    )
}

/// A digest as the library's artifact.
pub(super) fn artifact_of(digest: Digest) -> Result<Artifact<'static>, Error> {
    Ok(Artifact::from(Sha256Hash::from_hex(&digest.hex())?))
}
