//! What was proven about an image, as text and as JSON.

use std::time::SystemTime;

use bytecode_image::digest::Digest;
use bytecode_image::pull::BytecodeImage;
use bytecode_image::verify::{
    Candidate, Claimed, Covered, Format, NotCounted, Proof, Signer, TimeSource, TrustedTime,
};
use serde::Serialize;

use super::table::Section;
use super::time;

/// An image with a proof.
#[derive(Debug)]
pub(crate) struct Proven<'a> {
    pub(crate) image: &'a BytecodeImage,
    pub(crate) proof: &'a Proof,
    /// The day of the built-in trust root, if it is that one; its digest.
    pub(crate) trust_root: (Option<&'static str>, Digest),
}

/// `image verify`.
pub(super) fn details(proven: &Proven<'_>) -> String {
    let Proven {
        image,
        proof,
        trust_root,
    } = proven;
    let place = proof.place;
    let section = Section::new("Verified Image")
        .row("Image:", &image.reference)
        .row("Digest:", image.digest)
        .row("Manifest:", image.manifest_digest)
        .row("Platform:", &image.platform);
    let section = match &proof.signer {
        Signer::Key {
            fingerprint,
            algorithm,
        } => section
            .row("Signer:", format!("{algorithm} key"))
            .row("Key Fingerprint:", fingerprint),
        Signer::Identity { issuer, subject } => {
            section.row("Signer:", subject).row("Issuer:", issuer)
        }
    };
    let covers = match proof.covered {
        Covered::Index(digest) => format!("index {digest}"),
        Covered::Manifest(digest) => format!("manifest {digest}"),
    };
    section
        .row("Signed:", covers)
        .row("Signature:", place.manifest)
        .row(
            "Signature Form:",
            format!("{}, layer {}", form(place.format), place.layer),
        )
        .rows("Time:", proof.times.iter().map(time_text))
        .rows(
            "Log Entry:",
            proof
                .log
                .iter()
                .map(|entry| format!("{} of {}", entry.index, entry.log)),
        )
        .rows("Not Counted:", proof.not_counted.iter().map(not_counted))
        .row(
            "Trust Root:",
            match trust_root {
                (Some(date), _) => format!("built in, of {date}"),
                (None, digest) => digest.to_string(),
            },
        )
        .render()
}

/// Who signed, in a few words: for lists.
pub(super) fn signer(proof: &Proof) -> String {
    match &proof.signer {
        Signer::Key { fingerprint, .. } => {
            let hex = fingerprint.hex();
            format!("key {}", hex.get(..12).unwrap_or(&hex))
        }
        Signer::Identity { subject, .. } => subject.clone(),
    }
}

/// Where a signature lies, in what form, and who it says made it.
pub(super) fn claim(candidate: &Candidate) -> String {
    let place = candidate.place();
    let by = match candidate.claimed() {
        Claimed::Key => "with a key".to_owned(),
        Claimed::Certificate { subject, issuer } => format!(
            "says that it is by {} ({})",
            subject.as_deref().unwrap_or("nobody"),
            issuer.as_deref().unwrap_or("no issuer")
        ),
        Claimed::Unreadable => "cannot be read".to_owned(),
    };
    format!(
        "{} {}#{}: {by}",
        form(place.format),
        place.manifest,
        place.layer
    )
}

fn time_text(time: &TrustedTime) -> String {
    let at = time::local(SystemTime::from(time.at)).unwrap_or_else(|| time.at.to_string());
    let by = match time.source {
        TimeSource::Log => "transparency log",
        TimeSource::Authority => "time stamp authority",
    };
    format!("{at} ({by})")
}

fn form(format: Format) -> &'static str {
    match format {
        Format::SimpleSigning => "cosign 2",
        Format::Bundle => "sigstore bundle",
    }
}

fn form_word(format: Format) -> &'static str {
    match format {
        Format::SimpleSigning => "cosign2",
        Format::Bundle => "bundle",
    }
}

fn not_counted(what: &NotCounted) -> String {
    match what {
        NotCounted::UnknownLog { id } => format!("entry of the unknown log {id}"),
        NotCounted::UnsupportedEntry { kind } => format!("log entry of the kind {kind}"),
        NotCounted::Future => {
            "log entry of a time that is still to come by this host's clock".to_owned()
        }
        NotCounted::Certificate => "certificate, as a key decided".to_owned(),
        NotCounted::UnusualScheme => "log entry of an unusual kind of signature".to_owned(),
        NotCounted::UnknownAuthority => "time stamp of an unknown authority".to_owned(),
        _ => "evidence of an unknown kind".to_owned(),
    }
}

#[derive(Debug, Serialize)]
pub(super) struct ProvenJson<'a> {
    image: String,
    digest: String,
    manifest_digest: String,
    platform: String,
    #[serde(flatten)]
    proof: ProofJson<'a>,
    trust_root: TrustRootJson,
}

/// The parts of a proof.
#[derive(Debug, Serialize)]
pub(super) struct ProofJson<'a> {
    signer: SignerJson<'a>,
    signed: SignedJson,
    signature: SignatureJson,
    times: Vec<TimeJson>,
    log_entry: Option<LogEntryJson<'a>>,
    not_counted: Vec<String>,
}

#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum SignerJson<'a> {
    Key {
        fingerprint: String,
        algorithm: String,
    },
    Identity {
        issuer: &'a str,
        subject: &'a str,
    },
}

/// A signature that nobody looked at.
#[derive(Debug, Serialize)]
pub(super) struct ClaimJson {
    manifest_digest: String,
    layer: usize,
    format: &'static str,
    claimed_subject: Option<String>,
    claimed_issuer: Option<String>,
}

impl From<&Candidate> for ClaimJson {
    fn from(candidate: &Candidate) -> Self {
        let place = candidate.place();
        let (claimed_subject, claimed_issuer) = match candidate.claimed() {
            Claimed::Certificate { subject, issuer } => (subject, issuer),
            Claimed::Key | Claimed::Unreadable => (None, None),
        };
        Self {
            manifest_digest: place.manifest.to_string(),
            layer: place.layer,
            format: form_word(place.format),
            claimed_subject,
            claimed_issuer,
        }
    }
}

#[derive(Debug, Serialize)]
struct SignedJson {
    r#type: &'static str,
    digest: String,
}

#[derive(Debug, Serialize)]
struct SignatureJson {
    manifest_digest: String,
    layer: usize,
    format: &'static str,
}

#[derive(Debug, Serialize)]
struct TimeJson {
    at: Option<String>,
    source: &'static str,
}

#[derive(Debug, Serialize)]
struct LogEntryJson<'a> {
    index: u64,
    log: &'a str,
}

#[derive(Debug, Serialize)]
struct TrustRootJson {
    digest: String,
    built_in: Option<&'static str>,
}

impl<'a> From<&'a Proven<'a>> for ProvenJson<'a> {
    fn from(proven: &'a Proven<'a>) -> Self {
        let (built_in, digest) = proven.trust_root;
        Self {
            image: proven.image.reference.to_string(),
            digest: proven.image.digest.to_string(),
            manifest_digest: proven.image.manifest_digest.to_string(),
            platform: proven.image.platform.to_string(),
            proof: ProofJson::from(proven.proof),
            trust_root: TrustRootJson {
                digest: digest.to_string(),
                built_in,
            },
        }
    }
}

impl<'a> From<&'a Proof> for ProofJson<'a> {
    fn from(proof: &'a Proof) -> Self {
        Self {
            signer: match &proof.signer {
                Signer::Key {
                    fingerprint,
                    algorithm,
                } => SignerJson::Key {
                    fingerprint: fingerprint.to_string(),
                    algorithm: algorithm.to_string(),
                },
                Signer::Identity { issuer, subject } => SignerJson::Identity { issuer, subject },
            },
            signed: SignedJson {
                r#type: match proof.covered {
                    Covered::Index(_) => "index",
                    Covered::Manifest(_) => "manifest",
                },
                digest: proof.covered.digest().to_string(),
            },
            signature: SignatureJson {
                manifest_digest: proof.place.manifest.to_string(),
                layer: proof.place.layer,
                format: form_word(proof.place.format),
            },
            times: proof
                .times
                .iter()
                .map(|time| TimeJson {
                    at: time::rfc3339(SystemTime::from(time.at)),
                    source: match time.source {
                        TimeSource::Log => "log",
                        TimeSource::Authority => "authority",
                    },
                })
                .collect(),
            log_entry: proof.log.as_ref().map(|entry| LogEntryJson {
                index: entry.index,
                log: &entry.log,
            }),
            not_counted: proof.not_counted.iter().map(not_counted).collect(),
        }
    }
}
