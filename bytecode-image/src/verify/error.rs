//! Why nothing was proven.

use std::error::Error as _;
use std::fmt;

use sigstore_verify::{
    CertificateError, Error as LibraryError, TimestampError, TransparencyLogError, tsa,
};

use super::candidate::{CandidateError, Format, Place};
use super::claim::ClaimError;
use super::limits::MAX_SIGNATURES;
use super::subject::Subject;
use super::trust_root::TrustRootError;
use crate::digest::Digest;

/// How many refusals a message has; the rest are in [`VerifyError::NoneGood`].
const SHOWN: usize = 5;

/// Why no signature of an image satisfies a policy.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// There is none.
    #[error("{image} has no signature: expected one by a key or identity of the policy")]
    Unsigned {
        /// The manifest that was asked for.
        image: Digest,
    },
    /// There are some, each of them refused.
    #[error("no signature of {image} satisfies the policy: {}", list(.refused, *.beyond))]
    NoneGood {
        /// The manifest that was asked for.
        image: Digest,
        /// Each signature that was looked at, and why it was refused.
        refused: Vec<Refusal>,
        /// Signatures beyond [`MAX_SIGNATURES`], which were not looked at.
        beyond: usize,
    },
}

/// One signature that was refused.
#[derive(Debug)]
pub struct Refusal {
    /// Where it lies.
    pub place: Place,
    /// Why.
    pub reason: Reason,
}

/// Why one signature proves nothing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Reason {
    /// It cannot be read.
    #[error(transparent)]
    Unreadable(#[from] CandidateError),
    /// What was signed is no signature of this image.
    #[error(transparent)]
    Claim(#[from] ClaimError),
    /// The signature does not hold with any key of the policy.
    #[error("it is by none of the policy's {keys} keys, or what was signed was changed")]
    NoKey {
        /// How many keys were tried.
        keys: usize,
        /// Whether one of them is an Ed25519 key.
        ed25519: bool,
    },
    /// By a key, where only identities count.
    #[error("it was made with a key, and the policy lists only identities")]
    KeysNotListed,
    /// With a certificate, where only keys count.
    #[error("it was made with a certificate, and the policy lists only keys")]
    IdentitiesNotListed,
    /// With a certificate, of somebody else. All but this was proven.
    #[error("it is by `{subject}` of the issuer `{issuer}`, whom the policy does not list")]
    OtherIdentity {
        /// Who signed.
        subject: String,
        /// Who vouched for that.
        issuer: String,
    },
    /// A certificate that names nobody.
    #[error("its certificate names no subject or no issuer")]
    NoIdentity,
    /// With a certificate and no log entry.
    #[error(
        "it has a certificate and no transparency log entry: nothing proves when it was made, and nobody could notice it"
    )]
    NoLogEntry,
    /// The signature does not hold with its certificate.
    #[error("the signature does not fit what was signed")]
    Signature(#[source] Box<LibraryError>),
    /// The certificate was not issued by a trusted authority, or not for that time.
    #[error("its certificate is not trusted")]
    Certificate(#[source] CertificateError),
    /// The log entry is not proven, or not about this signature.
    #[error("its transparency log entry proves nothing about it")]
    Log(#[source] TransparencyLogError),
    /// No proven time.
    #[error("its time is not proven")]
    Time(#[source] TimestampError),
    /// A time stamp that is broken or of another signature.
    #[error("its time stamp proves nothing about it")]
    TimeStamp(#[source] Box<tsa::Error>),
    /// Content that cannot be checked.
    #[error("it cannot be checked")]
    Unsupported(#[source] Box<LibraryError>),
    /// A check of the library did not run. Nothing is known to cause this; it is refused all the same.
    #[error("certificate, certificate log or transparency log were not checked")]
    Unchecked,
    /// Nothing can be checked with this trust root.
    #[error(transparent)]
    TrustRoot(#[from] TrustRootError),
}

impl VerifyError {
    /// What to do, where that is known.
    pub fn hint(&self) -> Option<String> {
        let Self::NoneGood {
            refused, beyond, ..
        } = self
        else {
            return Some(
                "sign it, for example with `cosign sign --key cosign.key IMAGE@DIGEST`".to_owned(),
            );
        };
        if *beyond > 0 {
            return Some(format!(
                "remove old signatures: only the first {MAX_SIGNATURES} are looked at"
            ));
        }
        refused.iter().find_map(|refusal| match &refusal.reason {
            Reason::NoKey { ed25519: true, .. } if refusal.place.format == Format::Bundle => Some(
                "cosign 3 signs by Ed25519 keys in a form (Ed25519ph) that nobody checks, not even itself: sign with an ECDSA key, or with cosign 2".to_owned(),
            ),
            Reason::Log(TransparencyLogError::IntegratedTime(why)) if why.contains("in the future") => Some(
                "check this host's clock: the transparency log signed a time that is still to come here".to_owned(),
            ),
            Reason::Log(TransparencyLogError::UnknownLog { .. }) | Reason::Certificate(CertificateError::ChainInvalid(_)) => {
                Some("for signatures of a private sigstore instance, set `trusted_root` in [signing]".to_owned())
            }
            Reason::OtherIdentity { .. } => {
                Some("if this signer is right, add it to the policy's identities (both texts must fit whole)".to_owned())
            }
            _ => None,
        })
    }
}

impl From<LibraryError> for Reason {
    fn from(error: LibraryError) -> Self {
        match error {
            LibraryError::Certificate(source) => Self::Certificate(source),
            LibraryError::TransparencyLog(source) => Self::Log(source),
            LibraryError::Timestamp(source) => Self::Time(source),
            // What is given to the library as the artifact is what was signed, so only the log entry can be of another.
            LibraryError::ArtifactMismatch(what) => {
                Self::Log(TransparencyLogError::EntryMismatch(what))
            }
            error @ LibraryError::SignatureInvalid(_) => Self::Signature(Box::new(error)),
            error => Self::Unsupported(Box::new(error)),
        }
    }
}

impl VerifyError {
    pub(super) fn none_good(subject: &Subject, refused: Vec<Refusal>, beyond: usize) -> Self {
        let image = subject.manifest();
        if refused.is_empty() {
            Self::Unsigned { image }
        } else {
            Self::NoneGood {
                image,
                refused,
                beyond,
            }
        }
    }
}

impl fmt::Display for Refusal {
    /// Place, reason and the reason's causes in one line: a list of refusals has no single `source()`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Place {
            manifest,
            layer,
            format,
        } = self.place;
        let form = match format {
            Format::SimpleSigning => "cosign 2",
            Format::Bundle => "bundle",
        };
        let start: String = manifest.hex().chars().take(12).collect();
        write!(f, "{form} signature {start}#{layer}: {}", self.reason)?;
        let mut cause = self.reason.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

fn list(refused: &[Refusal], beyond: usize) -> String {
    let mut text = refused
        .iter()
        .take(SHOWN)
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join("; ");
    let more = refused.len().saturating_sub(SHOWN);
    if more > 0 {
        text.push_str(&format!("; and {more} more"));
    }
    if beyond > 0 {
        text.push_str(&format!(
            "; {beyond} beyond the first {MAX_SIGNATURES} were not looked at"
        ));
    }
    text
}
