//! What a signer signed: the statement that names an image. Read only after the signature over its bytes holds, or
//! handed to a check that does both.

use serde::Deserialize;

use super::subject::{Covered, Subject};
use crate::digest::{Digest, DigestError};

/// `critical.type` of cosign's simple signing payload (cosign, SIGNATURE_SPEC.md).
const SIMPLE_SIGNING_TYPE: &str = "cosign container image signature";

/// DSSE payload type of in-toto statements (in-toto attestation framework, envelope.md).
pub(super) const IN_TOTO_PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";

/// Statement types of in-toto v1 and, as older tools wrote it, v0.1.
const STATEMENT_TYPES: [&str; 2] = [
    "https://in-toto.io/Statement/v1",
    "https://in-toto.io/Statement/v0.1",
];

/// The predicate of cosign 3's `sign`. Others (SLSA provenance, an SBOM, a scan) say something about an image without
/// saying that it may be used.
pub const SIGN_PREDICATE_TYPE: &str = "https://sigstore.dev/cosign/sign/v1";

/// Why a signed statement is no signature of the image.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClaimError {
    /// A simple signing payload without what it must have.
    #[error("the payload is not a simple signing payload")]
    Payload(#[source] serde_json::Error),
    /// A simple signing payload of another kind.
    #[error("the payload is of type `{found}`: expected `{SIMPLE_SIGNING_TYPE}`")]
    PayloadType {
        /// `critical.type`, shortened.
        found: String,
    },
    /// An envelope of something else than in-toto.
    #[error("the envelope's payload type is `{found}`: expected `{IN_TOTO_PAYLOAD_TYPE}`")]
    EnvelopeType {
        /// `payloadType`, shortened.
        found: String,
    },
    /// An in-toto statement without what it must have.
    #[error("the payload is not an in-toto statement")]
    Statement(#[source] serde_json::Error),
    /// An in-toto statement of another version.
    #[error("the statement is of type `{found}`: expected `https://in-toto.io/Statement/v1`")]
    StatementType {
        /// `_type`, shortened.
        found: String,
    },
    /// An attestation that is no signature.
    #[error(
        "the statement's predicate is `{found}`: expected `{SIGN_PREDICATE_TYPE}`, which `cosign sign` writes"
    )]
    Predicate {
        /// `predicateType`, shortened.
        found: String,
    },
    /// No subject with a sha256.
    #[error("the statement names no subject by sha256")]
    NoSubject,
    /// A digest that is none.
    #[error("the digest that was signed is not one")]
    Digest(#[source] DigestError),
    /// Another image.
    #[error("it is a signature of {found}, not of {expected}")]
    OtherImage {
        /// The digest that was signed; the first one, where there are several.
        found: Digest,
        /// The image that was asked for.
        expected: Digest,
    },
}

#[derive(Deserialize)]
struct SimpleSigning {
    critical: Critical,
}

#[derive(Deserialize)]
struct Critical {
    image: Image,
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Deserialize)]
struct Image {
    #[serde(rename = "docker-manifest-digest")]
    digest: String,
}

#[derive(Deserialize)]
struct Statement {
    #[serde(rename = "_type")]
    kind: String,
    #[serde(default)]
    subject: Vec<StatementSubject>,
    #[serde(rename = "predicateType")]
    predicate: String,
}

#[derive(Deserialize)]
struct StatementSubject {
    #[serde(default)]
    digest: Digests,
}

#[derive(Default, Deserialize)]
struct Digests {
    sha256: Option<String>,
}

/// At most 80 characters, without control characters: fit for a message.
pub(super) fn shortened(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(80).collect()
}

/// What a simple signing payload (cosign 2) covers of the image.
pub(super) fn simple_signing(payload: &[u8], subject: &Subject) -> Result<Covered, ClaimError> {
    let SimpleSigning { critical } =
        serde_json::from_slice(payload).map_err(ClaimError::Payload)?;
    if critical.kind != SIMPLE_SIGNING_TYPE {
        return Err(ClaimError::PayloadType {
            found: shortened(&critical.kind),
        });
    }
    let found = Digest::parse(&critical.image.digest).map_err(ClaimError::Digest)?;
    subject.covered_by(found).ok_or(ClaimError::OtherImage {
        found,
        expected: subject.manifest(),
    })
}

/// That an envelope holds an in-toto statement.
pub(super) fn envelope_type(found: &str) -> Result<(), ClaimError> {
    if found == IN_TOTO_PAYLOAD_TYPE {
        Ok(())
    } else {
        Err(ClaimError::EnvelopeType {
            found: shortened(found),
        })
    }
}

/// What an in-toto statement (cosign 3) covers of the image: the first of its subjects that is the image.
pub(super) fn statement(payload: &[u8], subject: &Subject) -> Result<Covered, ClaimError> {
    let Statement {
        kind,
        subject: named,
        predicate,
    } = serde_json::from_slice(payload).map_err(ClaimError::Statement)?;
    if !STATEMENT_TYPES.contains(&kind.as_str()) {
        return Err(ClaimError::StatementType {
            found: shortened(&kind),
        });
    }
    if predicate != SIGN_PREDICATE_TYPE {
        return Err(ClaimError::Predicate {
            found: shortened(&predicate),
        });
    }
    let mut first = None;
    for hex in named
        .iter()
        .filter_map(|subject| subject.digest.sha256.as_deref())
    {
        let found = Digest::parse(&format!("sha256:{hex}")).map_err(ClaimError::Digest)?;
        if let Some(covered) = subject.covered_by(found) {
            return Ok(covered);
        }
        first.get_or_insert(found);
    }
    Err(
        first.map_or(ClaimError::NoSubject, |found| ClaimError::OtherImage {
            found,
            expected: subject.manifest(),
        }),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image() -> Digest {
        Digest::of(b"image")
    }

    #[test]
    fn simple_signing_payloads() {
        let payload = |digest: &str, kind: &str| {
            format!(
                r#"{{"critical":{{"identity":{{"docker-reference":"quay.io/a/b"}},"image":{{"docker-manifest-digest":"{digest}"}},"type":"{kind}"}},"optional":{{"a":1}}}}"#
            )
        };
        let (good, other) = (image().to_string(), Digest::of(b"other").to_string());
        let subject = Subject::of(image());
        let read = |text: &str| {
            simple_signing(text.as_bytes(), &subject).map_err(|error| error.to_string())
        };
        assert_eq!(
            read(&payload(&good, SIMPLE_SIGNING_TYPE)),
            Ok(Covered::Manifest(image()))
        );
        let cases = [
            (String::new(), "the payload is not a simple signing payload"),
            (
                "{}".to_owned(),
                "the payload is not a simple signing payload",
            ),
            (
                payload(&good, "atomic container signature"),
                "the payload is of type `atomic container signature`",
            ),
            (
                payload("latest", SIMPLE_SIGNING_TYPE),
                "the digest that was signed is not one",
            ),
            (
                payload(&good.to_uppercase(), SIMPLE_SIGNING_TYPE),
                "the digest that was signed is not one",
            ),
            (
                payload(&other, SIMPLE_SIGNING_TYPE),
                "it is a signature of sha256:",
            ),
            // Said twice, once each way: no reader's choice is taken.
            (
                payload(
                    &format!(r#"{good}","docker-manifest-digest":"{other}"#),
                    SIMPLE_SIGNING_TYPE,
                ),
                "the payload is not a simple signing payload",
            ),
        ];
        for (text, expected) in cases {
            let error = read(&text).unwrap_err();
            assert!(error.starts_with(expected), "{text}\n{error}");
        }
    }

    #[test]
    fn statements() {
        let text = |kind: &str, subjects: &str, predicate: &str| {
            format!(
                r#"{{"_type":"{kind}","subject":[{subjects}],"predicateType":"{predicate}","predicate":{{}}}}"#
            )
        };
        let named =
            |digest: Digest| format!(r#"{{"name":"x","digest":{{"sha256":"{}"}}}}"#, digest.hex());
        let (good, other) = (named(image()), named(Digest::of(b"other")));
        let [v1, v01] = STATEMENT_TYPES;
        let subject = Subject::of(image());
        let read =
            |text: &str| statement(text.as_bytes(), &subject).map_err(|error| error.to_string());
        for text in [
            text(v1, &good, SIGN_PREDICATE_TYPE),
            text(v01, &good, SIGN_PREDICATE_TYPE),
            text(v1, &format!("{other},{good}"), SIGN_PREDICATE_TYPE),
        ] {
            assert_eq!(read(&text), Ok(Covered::Manifest(image())), "{text}");
        }
        let cases = [
            (String::new(), "the payload is not an in-toto statement"),
            (
                text(
                    "https://in-toto.io/Statement/v2",
                    &good,
                    SIGN_PREDICATE_TYPE,
                ),
                "the statement is of type",
            ),
            (
                text(v1, &good, "https://slsa.dev/provenance/v1"),
                "the statement's predicate is `https://slsa.dev",
            ),
            (
                text(v1, "", SIGN_PREDICATE_TYPE),
                "the statement names no subject",
            ),
            (
                text(v1, r#"{"digest":{"sha512":"00"}}"#, SIGN_PREDICATE_TYPE),
                "the statement names no subject",
            ),
            (
                text(v1, r#"{"digest":{"sha256":"00"}}"#, SIGN_PREDICATE_TYPE),
                "the digest that was signed is not one",
            ),
            (
                text(v1, &other, SIGN_PREDICATE_TYPE),
                "it is a signature of sha256:",
            ),
        ];
        for (text, expected) in cases {
            let error = read(&text).unwrap_err();
            assert!(error.starts_with(expected), "{text}\n{error}");
        }
        assert!(envelope_type(IN_TOTO_PAYLOAD_TYPE).is_ok());
        assert!(envelope_type("application/vnd.in-toto+json ").is_err());
    }
}
