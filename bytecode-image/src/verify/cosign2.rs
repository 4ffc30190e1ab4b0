//! Signatures as cosign 2 writes them: a simple signing payload and its annotations (cosign, SIGNATURE_SPEC.md), and
//! the sigstore bundle that says the same, which is what the log entry and the certificate are checked as.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use serde::Deserialize;
use sigstore_verify::crypto::{SigningScheme, sha256};
use sigstore_verify::types::bundle::{
    InclusionPromise, KindVersion, LogId, MediaType, MessageDigest, MessageSignature,
    PublicKeyIdentifier, Rfc3161Timestamp, SignatureContent, TimestampVerificationData,
    TransparencyLogEntry, VerificationMaterial, VerificationMaterialContent, X509Certificate,
};
use sigstore_verify::types::{
    Bundle, CanonicalizedBody, DerCertificate, Error as TypesError, HashAlgorithm, LogIndex,
    LogKeyId, Sha256Hash, SignatureBytes, SignedTimestamp, TimestampToken,
};

use super::candidate::annotation;
use super::claim::shortened;
use super::limits::{MAX_ANNOTATION_BYTES, MAX_CHAIN};
use crate::base64::{self, DecodeError};

const SIGNATURE: &str = "dev.cosignproject.cosign/signature";
const CERTIFICATE: &str = "dev.sigstore.cosign/certificate";
const CHAIN: &str = "dev.sigstore.cosign/chain";
const LOG_ENTRY: &str = "dev.sigstore.cosign/bundle";
const TIME_STAMP: &str = "dev.sigstore.cosign/rfc3161timestamp";

/// A simple signing payload and what came with it.
#[derive(Debug, Clone)]
pub(super) struct SimpleSignature {
    pub(super) payload: Vec<u8>,
    pub(super) signature: SignatureBytes,
    /// The signing certificate.
    pub(super) certificate: Option<DerCertificate>,
    /// Certificates between it and an authority.
    chain: Vec<DerCertificate>,
    pub(super) log_entry: Option<TransparencyLogEntry>,
    /// A log entry that nobody here can read: its kind and version, shortened.
    pub(super) unread: Option<String>,
    pub(super) time_stamp: Option<TimestampToken>,
}

/// Why an annotation of a signature cannot be read.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum AnnotationError {
    /// A payload without signature.
    #[error("it has no annotation `{SIGNATURE}`")]
    NoSignature,
    /// Longer than [`MAX_ANNOTATION_BYTES`].
    #[error("the annotation `{name}` has {found} bytes: at most {MAX_ANNOTATION_BYTES} are read")]
    TooLong {
        /// The annotation.
        name: &'static str,
        /// Bytes found.
        found: usize,
    },
    /// Base64, hex or PEM that is none, or a number out of range.
    #[error("the annotation `{name}` cannot be decoded")]
    Encoding {
        /// The annotation.
        name: &'static str,
        /// What is wrong with it.
        #[source]
        source: Arc<TypesError>,
    },
    /// Base64 that Go does not take either.
    #[error("the annotation `{name}` is not base64")]
    Base64 {
        /// The annotation.
        name: &'static str,
        /// What is wrong with it.
        #[source]
        source: DecodeError,
    },
    /// JSON that is none, or without what it must have.
    #[error("the annotation `{name}` cannot be read")]
    Json {
        /// The annotation.
        name: &'static str,
        /// What is wrong with it.
        #[source]
        source: Arc<serde_json::Error>,
    },
    /// A time that cannot be.
    #[error("the annotation `{name}` has a time that cannot be: {seconds} s")]
    Time {
        /// The annotation.
        name: &'static str,
        /// Seconds since 1970.
        seconds: i64,
    },
    /// Several certificates where one signs, or more than [`MAX_CHAIN`] beside it.
    #[error("the annotation `{name}` has {found} certificates: at most {limit} are read")]
    Certificates {
        /// The annotation.
        name: &'static str,
        /// How many.
        found: usize,
        /// How many are read.
        limit: usize,
    },
    /// A log entry of another kind.
    #[error(
        "the log entry is of kind `{found}`: expected `hashedrekord 0.0.1`, which `cosign sign` writes"
    )]
    LogEntryKind {
        /// Kind and version, shortened.
        found: String,
    },
}

/// cosign's `RekorBundle`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RekorBundle {
    signed_entry_timestamp: String,
    payload: RekorPayload,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RekorPayload {
    body: String,
    integrated_time: i64,
    log_index: i64,
    #[serde(rename = "logID")]
    log_id: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RekorBody {
    api_version: String,
    kind: String,
}

/// cosign's `RFC3161Timestamp`.
#[derive(Deserialize)]
struct TimeStampBundle {
    #[serde(rename = "SignedRFC3161Timestamp")]
    token: String,
}

impl SimpleSignature {
    pub(super) fn read(
        payload: Vec<u8>,
        annotations: &BTreeMap<String, String>,
    ) -> Result<Self, AnnotationError> {
        let signature = annotation(annotations, SIGNATURE)?.ok_or(AnnotationError::NoSignature)?;
        let signature = decoded(signature, SIGNATURE).map(SignatureBytes::from)?;
        let certificate = match annotation(annotations, CERTIFICATE)? {
            Some(text) => certificates(text, CERTIFICATE, 1)?.pop(),
            None => None,
        };
        let chain = match annotation(annotations, CHAIN)? {
            Some(text) => certificates(text, CHAIN, MAX_CHAIN)?,
            None => Vec::new(),
        };
        let (log_entry, unread) = match annotation(annotations, LOG_ENTRY)?.map(log_entry) {
            Some(Err(AnnotationError::LogEntryKind { found })) => (None, Some(found)),
            entry => (entry.transpose()?, None),
        };
        let time_stamp = annotation(annotations, TIME_STAMP)?
            .map(time_stamp)
            .transpose()?;
        Ok(Self {
            payload,
            signature,
            certificate,
            chain,
            log_entry,
            unread,
            time_stamp,
        })
    }

    /// The bundle that says the same: version 0.1, whose log entries may have a promise (signed entry timestamp)
    /// instead of an inclusion proof. `scheme` is how a key made the signature; `None` for a certificate.
    pub(super) fn to_bundle(&self, scheme: Option<SigningScheme>) -> Bundle {
        // A certificate of Fulcio signs with the usual hash of its key, which no digest says; a key may not.
        let digest = match scheme.and_then(|scheme| scheme.hash_algorithm()) {
            Some(HashAlgorithm::Sha2256) => Some(MessageDigest::new(
                HashAlgorithm::Sha2256,
                sha256(&self.payload).into(),
            )),
            _ => None,
        };
        let mut signature = MessageSignature::new(self.signature.clone());
        if let Some(digest) = digest {
            signature = signature.with_message_digest(digest);
        }
        let signer = match &self.certificate {
            Some(certificate) => VerificationMaterialContent::X509CertificateChain {
                certificates: std::iter::once(certificate)
                    .chain(&self.chain)
                    .cloned()
                    .map(X509Certificate::new)
                    .collect(),
            },
            None => VerificationMaterialContent::PublicKey(PublicKeyIdentifier::new("")),
        };
        let time_stamps = self
            .time_stamp
            .iter()
            .cloned()
            .map(Rfc3161Timestamp::new)
            .collect();
        let material = VerificationMaterial::new(signer)
            .with_tlog_entries(self.log_entry.iter().cloned().collect())
            .with_timestamp_verification_data(TimestampVerificationData::new(time_stamps));
        Bundle::new(
            MediaType::Bundle0_1,
            material,
            SignatureContent::MessageSignature(signature),
        )
    }
}

/// The bytes of an annotation. cosign stores the text of `cosign attach signature` as it is, often with the line ends of
/// `openssl base64`.
fn decoded(text: &str, name: &'static str) -> Result<Vec<u8>, AnnotationError> {
    base64::decode(text).map_err(|source| AnnotationError::Base64 { name, source })
}

fn encoding(name: &'static str) -> impl Fn(TypesError) -> AnnotationError {
    move |source| AnnotationError::Encoding {
        name,
        source: Arc::new(source),
    }
}

fn json<'a, T: Deserialize<'a>>(text: &'a str, name: &'static str) -> Result<T, AnnotationError> {
    serde_json::from_str(text).map_err(|source| AnnotationError::Json {
        name,
        source: Arc::new(source),
    })
}

/// The certificates of a PEM text.
fn certificates(
    text: &str,
    name: &'static str,
    limit: usize,
) -> Result<Vec<DerCertificate>, AnnotationError> {
    const END: &str = "-----END CERTIFICATE-----";
    let found = text.matches(END).count();
    if found > limit {
        return Err(AnnotationError::Certificates { name, found, limit });
    }
    text.split_inclusive(END)
        .filter(|block| !block.trim().is_empty())
        .map(|block| DerCertificate::from_pem(block.trim_start()).map_err(encoding(name)))
        .collect()
}

fn log_entry(text: &str) -> Result<TransparencyLogEntry, AnnotationError> {
    let encoding = encoding(LOG_ENTRY);
    let RekorBundle {
        signed_entry_timestamp,
        payload,
    } = json(text, LOG_ENTRY)?;
    let body = decoded(&payload.body, LOG_ENTRY).map(CanonicalizedBody::from)?;
    let RekorBody { api_version, kind } =
        serde_json::from_slice(body.as_bytes()).map_err(|source| AnnotationError::Json {
            name: LOG_ENTRY,
            source: Arc::new(source),
        })?;
    if (kind.as_str(), api_version.as_str()) != ("hashedrekord", "0.0.1") {
        return Err(AnnotationError::LogEntryKind {
            found: shortened(&format!("{kind} {api_version}")),
        });
    }
    let log = Sha256Hash::from_hex(&payload.log_id).map_err(&encoding)?;
    let time =
        Timestamp::from_second(payload.integrated_time).map_err(|_| AnnotationError::Time {
            name: LOG_ENTRY,
            seconds: payload.integrated_time,
        })?;
    let promise = decoded(&signed_entry_timestamp, LOG_ENTRY).map(SignedTimestamp::from)?;
    let index = LogIndex::try_from(payload.log_index).map_err(&encoding)?;
    let log = LogId::new(LogKeyId::from_bytes(log.as_slice()));
    Ok(
        TransparencyLogEntry::new(index, log, KindVersion::HashedRekordV001, body)
            .with_integrated_time(time)
            .with_inclusion_promise(InclusionPromise::new(promise)),
    )
}

fn time_stamp(text: &str) -> Result<TimestampToken, AnnotationError> {
    let TimeStampBundle { token } = json(text, TIME_STAMP)?;
    decoded(&token, TIME_STAMP).map(TimestampToken::from)
}
