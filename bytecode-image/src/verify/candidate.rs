//! Signatures as they lie in a registry, read but not believed.
//!
//! cosign 2 keeps all signatures of an image in one manifest under the tag `sha256-<hex>.sig`: each layer is a simple
//! signing payload, with signature, certificate and log entry in annotations. cosign 3 writes one manifest a signature,
//! found by the referrers API or under the tag `sha256-<hex>`: its layer is a sigstore bundle.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;
use sigstore_verify::crypto::parse_certificate_info;
use sigstore_verify::types::{
    Bundle, DerCertificate, Error as TypesError, KindVersion, SignatureContent,
};

use super::claim::shortened;
use super::cosign2::{AnnotationError, SimpleSignature};
use super::limits::{
    MAX_ANNOTATION_BYTES, MAX_BUNDLE_BYTES, MAX_EVIDENCE, MAX_PAYLOAD_BYTES,
    MAX_SIGNATURE_MANIFEST_BYTES, MAX_SIGNATURES,
};
use crate::digest::{Digest, VerifiedBytes};

/// Media type of cosign 2's payloads.
const SIMPLE_SIGNING: &str = "application/vnd.dev.cosign.simplesigning.v1+json";

/// Start of the media types of sigstore bundles: `.v0.3+json`, and `+json;version=0.3` and older.
const BUNDLE: &str = "application/vnd.dev.sigstore.bundle";

/// Tag under which cosign 2 keeps the signatures of a manifest or index.
pub fn signature_tag(digest: Digest) -> String {
    format!("sha256-{}.sig", digest.hex())
}

/// Tag under which referrers are listed where a registry has no referrers API (distribution-spec 1.1, "Referrers Tag
/// Schema").
pub fn referrers_tag(digest: Digest) -> String {
    format!("sha256-{}", digest.hex())
}

/// Which manifest of signatures, and which layer of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The digest of the manifest.
    pub manifest: Digest,
    /// The layer's number, from 0.
    pub layer: usize,
    /// In which form the signature is.
    pub format: Format,
}

/// The forms of signatures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// cosign 2: a simple signing payload.
    SimpleSigning,
    /// cosign 3: a sigstore bundle.
    Bundle,
}

/// A manifest of signatures.
#[derive(Debug, Clone)]
pub struct SignatureManifest {
    digest: Digest,
    layers: Vec<Layer>,
}

#[derive(Debug, Clone)]
struct Layer {
    number: usize,
    format: Format,
    digest: Digest,
    size: u64,
    annotations: BTreeMap<String, String>,
}

/// One signature that may turn out to prove something, or what is wrong with it already.
#[derive(Debug, Clone)]
pub struct Candidate {
    pub(super) place: Place,
    pub(super) content: Result<Content, CandidateError>,
}

/// Who a signature says made it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claimed {
    /// The owner of some key.
    Key,
    /// Who a certificate names.
    Certificate {
        /// The subject.
        subject: Option<String>,
        /// Who vouched for it.
        issuer: Option<String>,
    },
    /// It cannot be read.
    Unreadable,
}

#[derive(Debug, Clone)]
pub(super) enum Content {
    Simple(Box<SimpleSignature>),
    Bundle(Box<BundleSignature>),
}

/// A bundle with an envelope.
#[derive(Debug, Clone)]
pub(super) struct BundleSignature {
    /// Without the entries that are named by the next field.
    pub(super) bundle: Bundle,
    /// Log entries that nobody here can read: kind and version of each, shortened.
    pub(super) unread: Vec<String>,
}

/// Why bytes are not a manifest of signatures, or not a list of them.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SignatureManifestError {
    /// Longer than [`MAX_SIGNATURE_MANIFEST_BYTES`].
    #[error("it has {found} bytes: at most {MAX_SIGNATURE_MANIFEST_BYTES} are read")]
    TooLong {
        /// Bytes found.
        found: usize,
    },
    /// Not JSON, or without what it must have.
    #[error("it is not a manifest of signatures")]
    Json(#[source] serde_json::Error),
}

/// Why a candidate cannot even be read.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum CandidateError {
    /// A payload or bundle over its cap.
    #[error("it has {found} bytes: at most {limit} are read")]
    TooLong {
        /// Bytes found, or said by the manifest.
        found: u64,
        /// Bytes allowed.
        limit: u64,
    },
    /// The payload or bundle is neither in the registry nor in the store.
    #[error("its content {digest} is missing")]
    Missing {
        /// Digest of the content.
        digest: Digest,
    },
    /// Other content than the manifest names.
    #[error("its content is {found}: expected {expected}")]
    Content {
        /// Digest of what came.
        found: Digest,
        /// Digest by the manifest.
        expected: Digest,
    },
    /// An annotation that cannot be read.
    #[error(transparent)]
    Annotation(#[from] AnnotationError),
    /// A bundle that is no text.
    #[error("the bundle is not UTF-8 text")]
    NotText(#[source] std::str::Utf8Error),
    /// A bundle that cannot be read.
    #[error("the bundle cannot be read")]
    Bundle(#[source] std::sync::Arc<TypesError>),
    /// A bundle without envelope: a signature of bare bytes, which `cosign sign` does not write for images.
    #[error("the bundle has no DSSE envelope: it signs bare bytes, not a statement about an image")]
    NoEnvelope,
    /// A log entry that nobody here can read, where one is needed.
    #[error("its log entry is of kind `{found}`, which cannot be checked")]
    LogEntryKind {
        /// Kind and version, shortened.
        found: String,
    },
    /// More log entries or time stamps than [`MAX_EVIDENCE`].
    #[error("it has {found} {what}: at most {MAX_EVIDENCE} are read")]
    Evidence {
        /// `log entries` or `time stamps`.
        what: &'static str,
        /// How many.
        found: usize,
    },
}

#[derive(Deserialize)]
struct RawManifest {
    layers: Vec<RawLayer>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawLayer {
    media_type: String,
    digest: Digest,
    size: u64,
    #[serde(default)]
    annotations: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
struct RawIndex {
    #[serde(default)]
    manifests: Option<Vec<RawReferrer>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawReferrer {
    digest: String,
    size: u64,
    #[serde(default)]
    artifact_type: Option<String>,
}

impl SignatureManifest {
    /// Reads a manifest. Layers that are no signatures are left out, so that one without any has no candidates; which
    /// `artifactType` or `subject` it claims does not matter.
    ///
    /// # Errors
    ///
    /// When it is too long or no manifest with layers.
    pub fn parse(bytes: &VerifiedBytes) -> Result<Self, SignatureManifestError> {
        let RawManifest { layers } = json(bytes)?;
        let layers = layers
            .into_iter()
            .enumerate()
            .filter_map(|(number, layer)| {
                let format = if layer.media_type == SIMPLE_SIGNING {
                    Format::SimpleSigning
                } else if layer.media_type.starts_with(BUNDLE) {
                    Format::Bundle
                } else {
                    return None;
                };
                let annotations = layer.annotations.unwrap_or_default();
                Some(Layer {
                    number,
                    format,
                    digest: layer.digest,
                    size: layer.size,
                    annotations,
                })
            });
        Ok(Self {
            digest: bytes.digest(),
            layers: layers.collect(),
        })
    }

    /// Digest of its bytes.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Content to fetch before [`candidates`](Self::candidates): digest and length in bytes of at most
    /// [`MAX_SIGNATURES`] blobs, each within its cap.
    pub fn wanted(&self) -> impl Iterator<Item = (Digest, u64)> {
        self.layers
            .iter()
            .take(MAX_SIGNATURES)
            .filter(|layer| layer.size <= layer.format.limit())
            .map(|layer| (layer.digest, layer.size))
    }

    /// Its signatures, in the manifest's order. `content` gives the bytes of a digest, or nothing when they are
    /// missing; it is asked only for what is [`wanted`](Self::wanted), and bytes of another digest are refused.
    pub fn candidates<F>(&self, mut content: F) -> Vec<Candidate>
    where
        F: FnMut(Digest) -> Option<VerifiedBytes>,
    {
        let mut candidates = Vec::new();
        for (at, layer) in self.layers.iter().enumerate() {
            let place = Place {
                manifest: self.digest,
                layer: layer.number,
                format: layer.format,
            };
            let limit = layer.format.limit();
            // Those beyond the cap are not looked at, but they are counted.
            let content = if layer.size > limit {
                Err(CandidateError::TooLong {
                    found: layer.size,
                    limit,
                })
            } else {
                let bytes = if at < MAX_SIGNATURES {
                    content(layer.digest)
                } else {
                    None
                };
                bytes
                    .ok_or(CandidateError::Missing {
                        digest: layer.digest,
                    })
                    .and_then(|bytes| layer.read(bytes))
            };
            candidates.push(Candidate { place, content });
        }
        candidates
    }
}

impl Layer {
    fn read(&self, bytes: VerifiedBytes) -> Result<Content, CandidateError> {
        let limit = self.format.limit();
        if bytes.len() as u64 > limit {
            return Err(CandidateError::TooLong {
                found: bytes.len() as u64,
                limit,
            });
        }
        let found = bytes.digest();
        if found != self.digest {
            return Err(CandidateError::Content {
                found,
                expected: self.digest,
            });
        }
        match self.format {
            Format::SimpleSigning => {
                let signature = SimpleSignature::read(bytes.to_vec(), &self.annotations)?;
                Ok(Content::Simple(Box::new(signature)))
            }
            Format::Bundle => bundle(&bytes).map(|signed| Content::Bundle(Box::new(signed))),
        }
    }
}

impl Format {
    fn limit(self) -> u64 {
        match self {
            Self::SimpleSigning => MAX_PAYLOAD_BYTES,
            Self::Bundle => MAX_BUNDLE_BYTES,
        }
    }
}

impl Content {
    /// The certificate that came with the signature, whoever made it.
    pub(super) fn certificate(&self) -> Option<&DerCertificate> {
        match self {
            Self::Simple(simple) => simple.certificate.as_ref(),
            Self::Bundle(signed) => signed.bundle.signing_certificate(),
        }
    }
}

impl Candidate {
    /// Where it lies.
    pub fn place(&self) -> Place {
        self.place
    }

    /// Who it says made it. Nothing of that is proven: anybody can write it.
    pub fn claimed(&self) -> Claimed {
        let Ok(content) = &self.content else {
            return Claimed::Unreadable;
        };
        let Some(certificate) = content.certificate() else {
            return Claimed::Key;
        };
        match parse_certificate_info(certificate) {
            Ok(info) => Claimed::Certificate {
                subject: info.identity.map(|named| named.as_str().to_owned()),
                issuer: info.issuer,
            },
            Err(_) => Claimed::Unreadable,
        }
    }
}

/// Reads a list of referrers: the answer of the referrers API, or the index under [`referrers_tag`]. Gives digest and
/// length in bytes of at most [`MAX_SIGNATURES`] manifests to look at, likely signatures first.
///
/// An index that cosign wrote may say a wrong `artifactType`, so nothing is left out for what it says.
///
/// # Errors
///
/// When it is too long or no index.
pub fn referrers(bytes: &[u8]) -> Result<Vec<(Digest, u64)>, SignatureManifestError> {
    let RawIndex { manifests } = json(bytes)?;
    let mut likely = Vec::new();
    let mut unlikely = Vec::new();
    for referrer in manifests.unwrap_or_default() {
        // Digests of other algorithms and manifests that would not be read anyway are nobody's fault.
        let Ok(digest) = Digest::parse(&referrer.digest) else {
            continue;
        };
        if referrer.size > MAX_SIGNATURE_MANIFEST_BYTES {
            continue;
        }
        let kind = referrer.artifact_type.unwrap_or_default();
        if kind.starts_with(BUNDLE)
            || kind.is_empty()
            || kind == "application/vnd.oci.empty.v1+json"
        {
            likely.push((digest, referrer.size));
        } else {
            unlikely.push((digest, referrer.size));
        }
    }
    likely.append(&mut unlikely);
    likely.truncate(MAX_SIGNATURES);
    Ok(likely)
}

fn json<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, SignatureManifestError> {
    if bytes.len() as u64 > MAX_SIGNATURE_MANIFEST_BYTES {
        return Err(SignatureManifestError::TooLong { found: bytes.len() });
    }
    serde_json::from_slice(bytes).map_err(SignatureManifestError::Json)
}

fn bundle(bytes: &[u8]) -> Result<BundleSignature, CandidateError> {
    let text = std::str::from_utf8(bytes).map_err(CandidateError::NotText)?;
    let (bundle, unread) = match Bundle::from_json(text) {
        Ok(bundle) => (bundle, Vec::new()),
        // The library reads no bundle with an entry of a kind that it does not know.
        Err(error) => without_unknown_entries(text)
            .ok_or_else(|| CandidateError::Bundle(std::sync::Arc::new(error)))?,
    };
    if !matches!(bundle.content, SignatureContent::DsseEnvelope(_)) {
        return Err(CandidateError::NoEnvelope);
    }
    let material = &bundle.verification_material;
    evidence_within_cap("log entries", material.tlog_entries.len() + unread.len())?;
    evidence_within_cap(
        "time stamps",
        material
            .timestamp_verification_data
            .rfc3161_timestamps
            .len(),
    )?;
    Ok(BundleSignature { bundle, unread })
}

/// The bundle without log entries of unknown kinds, and these kinds; `None` when that is not what was wrong with it.
fn without_unknown_entries(text: &str) -> Option<(Bundle, Vec<String>)> {
    let mut document: Value = serde_json::from_str(text).ok()?;
    let entries = document.pointer_mut("/verificationMaterial/tlogEntries")?;
    let mut unread = Vec::new();
    entries.as_array_mut()?.retain(|entry| {
        let kind = entry.get("kindVersion").unwrap_or(&Value::Null);
        let known = KindVersion::deserialize(kind).is_ok();
        if !known {
            let word = |name| kind.get(name).and_then(Value::as_str).unwrap_or_default();
            unread.push(shortened(&format!("{} {}", word("kind"), word("version"))));
        }
        known
    });
    if unread.is_empty() {
        return None;
    }
    let bundle = Bundle::from_json(&document.to_string()).ok()?;
    Some((bundle, unread))
}

fn evidence_within_cap(what: &'static str, found: usize) -> Result<(), CandidateError> {
    if found > MAX_EVIDENCE {
        Err(CandidateError::Evidence { what, found })
    } else {
        Ok(())
    }
}

/// The annotation of this name, within its cap.
pub(super) fn annotation<'a>(
    annotations: &'a BTreeMap<String, String>,
    name: &'static str,
) -> Result<Option<&'a str>, AnnotationError> {
    match annotations.get(name).map(String::as_str) {
        Some(value) if value.len() > MAX_ANNOTATION_BYTES => Err(AnnotationError::TooLong {
            name,
            found: value.len(),
        }),
        value => Ok(value.filter(|value| !value.is_empty())),
    }
}
