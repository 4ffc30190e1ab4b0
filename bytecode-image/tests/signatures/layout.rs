//! The fixtures: OCI layouts of real signatures, and what is read out of them as the store and the registry will.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytecode_image::digest::{Digest, VerifiedBytes};
use bytecode_image::verify::{
    Candidate, Identity, Policy, PublicKey, Scope, SignatureManifest, Subject, TrustRoot,
    referrers, referrers_tag, signature_tag,
};
use serde_json::{Value, json};

pub(crate) const ISSUER: &str = "https://issuer.test";
pub(crate) const WORKFLOW: &str =
    "https://github.com/acme/bytecode/.github/workflows/release.yml@refs/heads/main";

pub(crate) fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/signatures")
}

pub(crate) fn read(path: &str) -> Vec<u8> {
    let path = fixtures().join(path);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

pub(crate) fn key(name: &str) -> PublicKey {
    PublicKey::from_pem(&read(&format!("{name}.pub"))).unwrap()
}

/// `builtin`, or a file of the mock instance.
pub(crate) fn root(name: &str) -> TrustRoot {
    match name {
        "builtin" => TrustRoot::built_in(),
        name => TrustRoot::from_json(&read(&format!("mock/{name}.json"))).unwrap(),
    }
}

pub(crate) fn mock_root(name: &str) -> Value {
    serde_json::from_slice(&read(&format!("mock/{name}.json"))).unwrap()
}

/// A policy of keys, and of identities `(issuer, subject, subject_regexp)`.
pub(crate) fn policy(
    keys: &[PublicKey],
    identities: &[(&str, Option<&str>, Option<&str>)],
) -> Policy {
    let identities = identities
        .iter()
        .map(|(issuer, subject, pattern)| Identity::new(issuer, *subject, *pattern).unwrap())
        .collect();
    Policy::new(Scope::EVERYTHING, keys.to_vec(), identities).unwrap()
}

pub(crate) fn by_key(name: &str) -> Policy {
    policy(&[key(name)], &[])
}

pub(crate) fn by_workflow() -> Policy {
    policy(&[], &[(ISSUER, Some(WORKFLOW), None)])
}

/// One fixture.
pub(crate) struct Layout {
    name: String,
    tags: BTreeMap<String, Digest>,
}

impl Layout {
    pub(crate) fn open(name: &str) -> Self {
        let index: Value = serde_json::from_slice(&read(&format!("{name}/index.json"))).unwrap();
        let tag = |entry: &Value| {
            let tag = entry["annotations"]["org.opencontainers.image.ref.name"]
                .as_str()
                .unwrap()
                .to_owned();
            (tag, entry["digest"].as_str().unwrap().parse().unwrap())
        };
        let tags = index["manifests"]
            .as_array()
            .unwrap()
            .iter()
            .map(tag)
            .collect();
        Self {
            name: name.to_owned(),
            tags,
        }
    }

    pub(crate) fn image(&self) -> Digest {
        self.tags["v1"]
    }

    pub(crate) fn subject(&self) -> Subject {
        Subject::of(self.image())
    }

    pub(crate) fn blob(&self, digest: Digest) -> VerifiedBytes {
        VerifiedBytes::hash(read(&format!(
            "{}/blobs/sha256/{}",
            self.name,
            digest.hex()
        )))
    }

    /// Manifests of signatures in both forms, cosign 2's first.
    pub(crate) fn manifests(&self) -> Vec<VerifiedBytes> {
        let mut manifests = Vec::new();
        if let Some(digest) = self.tags.get(&signature_tag(self.image())) {
            manifests.push(self.blob(*digest));
        }
        if let Some(index) = self.tags.get(&referrers_tag(self.image())) {
            let named = referrers(&self.blob(*index)).unwrap();
            assert!(!named.is_empty());
            manifests.extend(named.into_iter().map(|(digest, _)| self.blob(digest)));
        }
        manifests
    }

    pub(crate) fn candidates(&self) -> Vec<Candidate> {
        let manifests = self.manifests();
        let manifests = manifests
            .iter()
            .map(|bytes| SignatureManifest::parse(bytes).unwrap());
        manifests
            .flat_map(|manifest| manifest.candidates(|digest| Some(self.blob(digest))))
            .collect()
    }

    /// The fixture's bundle, to be changed.
    pub(crate) fn bundle(&self) -> Value {
        serde_json::from_slice(&self.content(-1)).unwrap()
    }

    /// The fixture's signature in cosign 2's form, to be changed.
    pub(crate) fn simple(&self) -> Simple {
        let manifest: Value = serde_json::from_slice(&self.manifests()[0]).unwrap();
        let annotations = manifest["layers"][0]["annotations"].as_object().unwrap();
        let annotations = annotations
            .iter()
            .map(|(name, value)| (name.clone(), value.as_str().unwrap().to_owned()));
        Simple {
            payload: self.content(0),
            annotations: annotations.collect(),
        }
    }

    /// Content of the first layer of the first (0) or last (-1) manifest.
    fn content(&self, manifest: i32) -> Vec<u8> {
        let manifests = self.manifests();
        let manifest = if manifest < 0 {
            manifests.last()
        } else {
            manifests.first()
        };
        let manifest: Value = serde_json::from_slice(manifest.unwrap()).unwrap();
        self.blob(
            manifest["layers"][0]["digest"]
                .as_str()
                .unwrap()
                .parse()
                .unwrap(),
        )
        .to_vec()
    }
}

/// A signature in cosign 2's form.
#[derive(Clone, Default)]
pub(crate) struct Simple {
    pub(crate) payload: Vec<u8>,
    pub(crate) annotations: BTreeMap<String, String>,
}

pub(crate) const SIGNATURE: &str = "dev.cosignproject.cosign/signature";
pub(crate) const CERTIFICATE: &str = "dev.sigstore.cosign/certificate";
pub(crate) const LOG_ENTRY: &str = "dev.sigstore.cosign/bundle";
pub(crate) const TIME_STAMP: &str = "dev.sigstore.cosign/rfc3161timestamp";

impl Simple {
    pub(crate) fn new(payload: &[u8], signature: &[u8]) -> Self {
        let mut simple = Self {
            payload: payload.to_owned(),
            ..Self::default()
        };
        simple.set(SIGNATURE, &STANDARD.encode(signature));
        simple
    }

    pub(crate) fn set(&mut self, name: &str, value: &str) {
        self.annotations.insert(name.to_owned(), value.to_owned());
    }

    pub(crate) fn log_entry(&self) -> Value {
        serde_json::from_str(&self.annotations[LOG_ENTRY]).unwrap()
    }

    pub(crate) fn signature(&self) -> Vec<u8> {
        STANDARD.decode(&self.annotations[SIGNATURE]).unwrap()
    }

    /// cosign's payload for an image.
    pub(crate) fn payload_for(image: Digest) -> Vec<u8> {
        let critical = json!({
            "identity": {"docker-reference": "quay.io/acme/app"},
            "image": {"docker-manifest-digest": image.to_string()},
            "type": "cosign container image signature",
        });
        json!({"critical": critical, "optional": null})
            .to_string()
            .into_bytes()
    }
}

/// Candidates out of one manifest in cosign 2's form.
pub(crate) fn simple_candidates(all: &[Simple]) -> Vec<Candidate> {
    let layers: Vec<Value> = all
        .iter()
        .map(|simple| {
            json!({
                "mediaType": "application/vnd.dev.cosign.simplesigning.v1+json",
                "digest": Digest::of(&simple.payload).to_string(),
                "size": simple.payload.len(),
                "annotations": simple.annotations,
            })
        })
        .collect();
    let manifest = json!({"schemaVersion": 2, "layers": layers}).to_string();
    let contents: BTreeMap<Digest, &Simple> = all
        .iter()
        .map(|simple| (Digest::of(&simple.payload), simple))
        .collect();
    let manifest = SignatureManifest::parse(&VerifiedBytes::hash(manifest)).unwrap();
    manifest.candidates(|digest| Some(VerifiedBytes::hash(contents[&digest].payload.clone())))
}

/// Candidates out of a manifest with this bundle.
pub(crate) fn bundle_candidates(bundle: &Value) -> Vec<Candidate> {
    bytes_candidates(bundle.to_string().as_bytes())
}

pub(crate) fn bytes_candidates(bundle: &[u8]) -> Vec<Candidate> {
    let layer = json!({
        "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
        "digest": Digest::of(bundle).to_string(),
        "size": bundle.len(),
    });
    let manifest = json!({"schemaVersion": 2, "layers": [layer]}).to_string();
    let manifest = SignatureManifest::parse(&VerifiedBytes::hash(manifest)).unwrap();
    manifest.candidates(|_| Some(VerifiedBytes::hash(bundle.to_owned())))
}
