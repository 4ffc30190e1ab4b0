//! What the fixtures do not have: a log of our own, keys of other kinds, statements that nobody signed so far.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair,
    EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256, RSA_PKCS1_SHA512,
    RSA_PSS_SHA256, RSA_PSS_SHA384, RsaEncoding, RsaKeyPair,
};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytecode_image::digest::Digest;
use bytecode_image::verify::{PublicKey, SIGN_PREDICATE_TYPE, TrustRoot};
use serde_json::{Value, json};

/// A signature over a message.
type Sign = Box<dyn Fn(&[u8]) -> Vec<u8>>;

/// A key that signs.
pub(crate) struct Signer {
    pub(crate) pem: String,
    spki: Vec<u8>,
    sign: Sign,
}

/// Start of a SubjectPublicKeyInfo, up to the key's bytes, which are the rest.
const P256: &str = "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgA=";
const P384: &str = "MHYwEAYHKoZIzj0CAQYFK4EEACIDYgA=";
const ED25519: &str = "MCowBQYDK2VwAyEA";

impl Signer {
    fn new(prefix: &str, key: &[u8], sign: Sign) -> Self {
        let mut spki = STANDARD.decode(prefix).unwrap();
        spki.extend_from_slice(key);
        Self {
            pem: pem(&spki),
            spki,
            sign,
        }
    }

    fn ecdsa(prefix: &str, algorithm: &'static EcdsaSigningAlgorithm) -> Self {
        let pair = EcdsaKeyPair::generate(algorithm).unwrap();
        let key = pair.public_key().as_ref().to_vec();
        Self::new(
            prefix,
            &key,
            Box::new(move |m| {
                pair.sign(&SystemRandom::new(), m)
                    .unwrap()
                    .as_ref()
                    .to_vec()
            }),
        )
    }

    pub(crate) fn p256() -> Self {
        Self::ecdsa(P256, &ECDSA_P256_SHA256_ASN1_SIGNING)
    }

    pub(crate) fn p384() -> Self {
        Self::ecdsa(P384, &ECDSA_P384_SHA384_ASN1_SIGNING)
    }

    pub(crate) fn ed25519() -> Self {
        let pair = Ed25519KeyPair::generate().unwrap();
        let key = pair.public_key().as_ref().to_vec();
        Self::new(
            ED25519,
            &key,
            Box::new(move |m| pair.sign(m).as_ref().to_vec()),
        )
    }

    /// RSA of 2048 bits: one key, each way of signing that is named.
    pub(crate) fn rsa() -> Vec<(&'static str, Self)> {
        let pair = RsaKeyPair::generate(aws_lc_rs::rsa::KeySize::Rsa2048).unwrap();
        let pkcs1 = pair.public_key().as_ref().to_vec();
        let prefix = "MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8A";
        let pair = std::rc::Rc::new(pair);
        let all: [(&str, &'static dyn RsaEncoding); 4] = [
            ("pkcs1 sha256", &RSA_PKCS1_SHA256),
            ("pkcs1 sha512", &RSA_PKCS1_SHA512),
            ("pss sha256", &RSA_PSS_SHA256),
            ("pss sha384", &RSA_PSS_SHA384),
        ];
        let signer = |(name, encoding): (&'static str, &'static dyn RsaEncoding)| {
            let pair = std::rc::Rc::clone(&pair);
            let sign = move |m: &[u8]| {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(encoding, &SystemRandom::new(), m, &mut signature)
                    .unwrap();
                signature
            };
            (name, Self::new(prefix, &pkcs1, Box::new(sign)))
        };
        all.into_iter().map(signer).collect()
    }

    pub(crate) fn sign(&self, message: &[u8]) -> Vec<u8> {
        (self.sign)(message)
    }

    pub(crate) fn key(&self) -> PublicKey {
        PublicKey::from_pem(self.pem.as_bytes()).unwrap()
    }

    /// A bundle with an envelope over this statement, without log entry.
    pub(crate) fn bundle(&self, payload_type: &str, payload: &[u8]) -> Value {
        let signature = self.sign(&pae(payload_type, payload));
        json!({
            "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
            "verificationMaterial": {"publicKey": {"hint": ""}},
            "dsseEnvelope": {
                "payload": STANDARD.encode(payload),
                "payloadType": payload_type,
                "signatures": [{"sig": STANDARD.encode(signature)}],
            },
        })
    }
}

/// The image of statements that the fixtures do not have.
pub(crate) fn image() -> Digest {
    Digest::of(b"image")
}

pub(crate) const IN_TOTO: &str = "application/vnd.in-toto+json";

fn pem(spki: &[u8]) -> String {
    format!(
        "-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n",
        STANDARD.encode(spki)
    )
}

/// Pre-authentication encoding (DSSE protocol.md).
pub(crate) fn pae(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let mut message = format!(
        "DSSEv1 {} {payload_type} {} ",
        payload_type.len(),
        payload.len()
    )
    .into_bytes();
    message.extend_from_slice(payload);
    message
}

/// What cosign 3 signs.
pub(crate) fn statement(image: Digest) -> Vec<u8> {
    statement_of(image, SIGN_PREDICATE_TYPE)
}

pub(crate) fn statement_of(image: Digest, predicate: &str) -> Vec<u8> {
    let subject = json!([{"digest": {"sha256": image.hex()}, "annotations": {}}]);
    let statement = json!({
        "_type": "https://in-toto.io/Statement/v1",
        "subject": subject,
        "predicateType": predicate,
        "predicate": {},
    });
    statement.to_string().into_bytes()
}

/// A transparency log with one entry at a time.
pub(crate) struct Log {
    signer: Signer,
}

/// Who a log entry says made the signature: a PEM certificate or key (Rekor v1).
pub(crate) fn hashed_rekord(content: &[u8], signature: &[u8], verifier: &str) -> Value {
    json!({
        "apiVersion": "0.0.1",
        "kind": "hashedrekord",
        "spec": {
            "data": {"hash": {"algorithm": "sha256", "value": Digest::of(content).hex()}},
            "signature": {
                "content": STANDARD.encode(signature),
                "publicKey": {"content": STANDARD.encode(verifier)},
            },
        },
    })
}

impl Log {
    pub(crate) fn new() -> Self {
        Self {
            signer: Signer::p256(),
        }
    }

    pub(crate) fn id(&self) -> Vec<u8> {
        hex(&Digest::of(&self.signer.spki).hex())
    }

    /// The trust root with this log beside its own.
    pub(crate) fn trusted(&self, root: Value) -> TrustRoot {
        let root = self.listed(root, "https://log.test", "2020-01-01T00:00:00Z");
        TrustRoot::from_json(root.to_string().as_bytes()).unwrap()
    }

    /// The same, under another address and from another time on.
    pub(crate) fn listed(&self, mut root: Value, address: &str, start: &str) -> Value {
        let log = json!({
            "baseUrl": address,
            "hashAlgorithm": "SHA2_256",
            "publicKey": {
                "rawBytes": STANDARD.encode(&self.signer.spki),
                "keyDetails": "PKIX_ECDSA_P256_SHA_256",
                "validFor": {"start": start},
            },
            "logId": {"keyId": STANDARD.encode(self.id())},
        });
        root["tlogs"].as_array_mut().unwrap().push(log);
        root
    }

    /// A signed entry timestamp (Rekor v1).
    fn promise(&self, body: &str, time: i64, index: u64) -> String {
        let id = Digest::of(&self.signer.spki).hex();
        let payload = format!(
            r#"{{"body":"{}","integratedTime":{time},"logID":"{id}","logIndex":{index}}}"#,
            STANDARD.encode(body)
        );
        STANDARD.encode(self.signer.sign(payload.as_bytes()))
    }

    /// The annotation that cosign 2 writes.
    pub(crate) fn annotation(&self, body: &Value, time: i64, index: u64) -> String {
        let body = body.to_string();
        let id = Digest::of(&self.signer.spki).hex();
        json!({
            "SignedEntryTimestamp": self.promise(&body, time, index),
            "Payload": {"body": STANDARD.encode(&body), "integratedTime": time, "logIndex": index, "logID": id},
        })
        .to_string()
    }

    /// Proof and checkpoint of a log that has this entry alone.
    fn proof(&self, body: &str) -> Value {
        let mut leaf = vec![0];
        leaf.extend_from_slice(body.as_bytes());
        let root = STANDARD.encode(hex(&Digest::of(&leaf).hex()));
        let note = format!("log.test\n1\n{root}\n");
        let mut signature = self.id()[..4].to_vec();
        signature.extend_from_slice(&self.signer.sign(note.as_bytes()));
        let envelope = format!("{note}\n— log.test {}\n", STANDARD.encode(signature));
        json!({"logIndex": "0", "rootHash": root, "treeSize": "1", "hashes": [], "checkpoint": {"envelope": envelope}})
    }

    /// An entry of Rekor v1 as bundles have it, with promise and proof.
    pub(crate) fn entry_v1(&self, body: &Value, time: i64) -> Value {
        let (kind, version) = (&body["kind"], &body["apiVersion"]);
        let text = body.to_string();
        json!({
            "logIndex": "7",
            "logId": {"keyId": STANDARD.encode(self.id())},
            "kindVersion": {"kind": kind, "version": version},
            "integratedTime": time.to_string(),
            "inclusionPromise": {"signedEntryTimestamp": self.promise(&text, time, 7)},
            "inclusionProof": self.proof(&text),
            "canonicalizedBody": STANDARD.encode(&text),
        })
    }

    /// An entry of Rekor v2: no time, no promise. `verifier` is `publicKey` or `x509Certificate` with its DER.
    pub(crate) fn entry_v2(
        &self,
        message: &[u8],
        signature: &[u8],
        verifier: (&str, &[u8]),
    ) -> Value {
        let digest = ("SHA2_256", hex(&Digest::of(message).hex()));
        self.entry_v2_of(digest, signature, verifier)
    }

    /// The same for a digest by another algorithm.
    pub(crate) fn entry_v2_of(
        &self,
        (algorithm, digest): (&str, Vec<u8>),
        signature: &[u8],
        verifier: (&str, &[u8]),
    ) -> Value {
        let body = json!({
            "apiVersion": "0.0.2",
            "kind": "hashedrekord",
            "spec": {"hashedRekordV002": {
                "data": {"algorithm": algorithm, "digest": STANDARD.encode(digest)},
                "signature": {
                    "content": STANDARD.encode(signature),
                    "verifier": {
                        "keyDetails": "PKIX_ECDSA_P256_SHA_256",
                        verifier.0: {"rawBytes": STANDARD.encode(verifier.1)},
                    },
                },
            }},
        })
        .to_string();
        json!({
            "logIndex": "0",
            "logId": {"keyId": STANDARD.encode(self.id())},
            "kindVersion": {"kind": "hashedrekord", "version": "0.0.2"},
            "inclusionProof": self.proof(&body),
            "canonicalizedBody": STANDARD.encode(&body),
        })
    }
}

impl Signer {
    /// The key's SubjectPublicKeyInfo.
    pub(crate) fn spki(&self) -> &[u8] {
        &self.spki
    }
}

pub(crate) fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text
        .chars()
        .map(|c| c.to_digit(16).unwrap() as u8)
        .collect();
    digits
        .chunks(2)
        .map(|pair| pair[0] << 4 | pair[1])
        .collect()
}
