//! What was proven about an image.

use jiff::Timestamp;

use super::candidate::Place;
use super::key::Algorithm;
use super::subject::Covered;
use crate::digest::Digest;

/// What one signature proves. Every field was checked; what could not be checked is in [`Proof::not_counted`] only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proof {
    /// Who signed.
    pub signer: Signer,
    /// What was signed: the index, or the manifest of one platform.
    pub covered: Covered,
    /// Where the signature lies.
    pub place: Place,
    /// When the signature existed at the latest, by each source. Never empty for a signature with a certificate; often
    /// empty for one with a key, which needs no time.
    pub times: Vec<TrustedTime>,
    /// The entry of a transparency log.
    pub log: Option<LogEntry>,
    /// Evidence beside a signature with a key that proves nothing here, because the trust root does not know who made
    /// it, or it cannot be checked. It is neither needed nor believed.
    pub not_counted: Vec<NotCounted>,
}

/// Who made a signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Signer {
    /// The owner of a key of the policy.
    Key {
        /// Its fingerprint: [`PublicKey::fingerprint`](super::PublicKey::fingerprint).
        fingerprint: Digest,
        /// Its kind.
        algorithm: Algorithm,
    },
    /// An identity of the policy, by a certificate of a trusted authority.
    Identity {
        /// The OpenID Connect issuer that vouched for the subject.
        issuer: String,
        /// The subject: a URI, or an e-mail address.
        subject: String,
    },
}

/// A time, and who vouches for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TrustedTime {
    /// When.
    pub at: Timestamp,
    /// By whom.
    pub source: TimeSource,
}

/// Who vouches for a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimeSource {
    /// A transparency log, which signed the time at which it took the entry (Rekor v1, signed entry timestamp).
    Log,
    /// A time stamp authority (RFC 3161).
    Authority,
}

/// An entry of a transparency log that is about this signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogEntry {
    /// Its number in the log.
    pub index: u64,
    /// Address of the log whose key proves the entry, as the trust root names it.
    pub log: String,
}

/// Evidence that was not counted.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum NotCounted {
    /// An entry of a log that the trust root does not know.
    UnknownLog {
        /// The log's id in hex: the sha256 of its key.
        id: String,
    },
    /// An entry of a kind that is not checked here.
    UnsupportedEntry {
        /// Kind and version, shortened.
        kind: String,
    },
    /// An entry that says when it was made, or of a log that began, after what this host's clock says now.
    Future,
    /// An entry for a signature of an unusual kind (RSA-PSS, or a hash that is not the usual one of the key), or for one
    /// with a certificate beside the key, which the entry's checks do not cover.
    UnusualScheme,
    /// A time stamp that no authority of the trust root made.
    UnknownAuthority,
    /// A certificate: the key decided.
    Certificate,
}
