//! What the targets of signatures start from: the fixtures, and an image that nobody signed.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use bytecode_image::digest::{Digest, VerifiedBytes};
use bytecode_image::verify::{
    Candidate, Identity, Policy, PublicKey, Scope, SignatureManifest, Subject, TrustRoot, verify,
};
use serde_json::{Map, Value, json};

/// Media type of cosign 2's payloads.
pub const SIMPLE: &str = "application/vnd.dev.cosign.simplesigning.v1+json";

/// cosign 2's signature of the fixture `kl2`: certificate, chain and log entry.
const MANIFEST: &[u8] = include_bytes!(
    "../../tests/fixtures/signatures/kl2/blobs/sha256/66afee4566ed0fe37818c1d7f4c1d72bd8c8eeeb1288b9d74140aa03f28d6cfa"
);
const PAYLOAD: &[u8] = include_bytes!(
    "../../tests/fixtures/signatures/kl2/blobs/sha256/12a04109d336df7e6e83fd6dde554feb292ede7ded970c11610e2a408fe502ad"
);
const BUNDLE: &[u8] = include_bytes!("../../tests/fixtures/signatures/kl3.bundle.json");

static ROOT: LazyLock<TrustRoot> = LazyLock::new(|| {
    let json = include_bytes!("../../tests/fixtures/signatures/mock/trusted_root_tsa.json");
    TrustRoot::from_json(json).expect("the fixture's trust root")
});

static POLICIES: LazyLock<[Policy; 2]> = LazyLock::new(|| {
    let key = PublicKey::from_pem(include_bytes!("../../tests/fixtures/signatures/good.pub"));
    let anybody = Identity::new("https://issuer.test", None, Some("(?s).*"));
    let policy = |keys, identities| {
        Policy::new(Scope::EVERYTHING, keys, identities).expect("a policy of somebody")
    };
    [
        policy(vec![key.expect("the fixture's key")], Vec::new()),
        policy(Vec::new(), vec![anybody.expect("a pattern")]),
    ]
});

/// The payload that is really signed.
pub fn payload() -> &'static [u8] {
    PAYLOAD
}

/// The annotations that come with it.
pub fn annotations() -> Map<String, Value> {
    let manifest: Value = serde_json::from_slice(MANIFEST).expect("the fixture's manifest");
    manifest["layers"][0]["annotations"]
        .as_object()
        .cloned()
        .expect("annotations")
}

/// The only signature of a manifest.
pub fn signature(
    media_type: &str,
    content: &[u8],
    annotations: &Map<String, Value>,
) -> Vec<Candidate> {
    let layer = json!({
        "mediaType": media_type,
        "digest": Digest::of(content).to_string(),
        "size": content.len(),
        "annotations": annotations,
    });
    let manifest = json!({"schemaVersion": 2, "layers": [layer]}).to_string();
    SignatureManifest::parse(&VerifiedBytes::hash(manifest))
        .map(|manifest| manifest.candidates(|_| Some(VerifiedBytes::hash(content.to_vec()))))
        .unwrap_or_default()
}

/// Nobody signed the image that this asks about, so nothing may prove anything about it.
pub fn refused(candidates: &[Candidate]) {
    let subject = Subject::of(Digest::of(b"an image that nobody signed"));
    for candidate in candidates {
        let _ = candidate.claimed();
    }
    for policy in &*POLICIES {
        assert!(verify(&subject, candidates, policy, &ROOT).is_err());
    }
}

/// The same with another trust root, for real signatures.
pub fn refused_by(root: &TrustRoot) {
    let bundle = "application/vnd.dev.sigstore.bundle.v0.3+json";
    let subject = Subject::of(Digest::of(b"an image that nobody signed"));
    let none = Map::from_iter(BTreeMap::new());
    for candidates in [signature(SIMPLE, PAYLOAD, &annotations()), signature(bundle, BUNDLE, &none)] {
        for policy in &*POLICIES {
            assert!(verify(&subject, &candidates, policy, root).is_err());
        }
    }
}
