//! Signed images in the store: what was admitted, what is proven without a registry, and what a store cannot bring along.

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytecode_image::archive::{self, Platforms};
use bytecode_image::digest::Digest;
use bytecode_image::pull::{PullError, PullPolicy, Trust, Verdict};
use bytecode_image::store::Store;
use bytecode_image::verify::{
    Covered, Format, Policy, PublicKey, Scope, Signing, TrustRoot, referrers_tag, signature_tag,
};
use serde_json::Value;

use crate::images::{
    INDEX, MANIFEST, Parts, TestStore, descriptor, index, reference, serve, serve_document, walk,
};
use crate::server::{Answer, Registry};
use crate::signed::{Fixture, admissions, by_key, proven, pulled, refused, tags};

/// A signature of cosign 2's form, by a key that is made for it.
struct Signature {
    payload: Vec<u8>,
    annotation: String,
}

impl Signature {
    fn serve(&self, registry: &Registry, tag: &str) {
        let path = format!("/v2/acme/xdp/blobs/{}", Digest::of(&self.payload));
        registry.route("GET", &path, Answer::ok(self.payload.clone()));
        let layer = descriptor(
            "application/vnd.dev.cosign.simplesigning.v1+json",
            &self.payload,
            &format!(
                r#","annotations":{{"dev.cosignproject.cosign/signature":"{}"}}"#,
                self.annotation
            ),
        );
        let manifest = format!(r#"{{"schemaVersion":2,"layers":[{layer}]}}"#);
        serve_document(registry, manifest.as_bytes(), MANIFEST, &[tag]);
    }
}

/// Signs a digest, and gives the policies that list the key alone.
fn sign(digest: Digest) -> (Signing, Signature) {
    let random = SystemRandom::new();
    let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap();
    let der = pair.public_key().as_der().unwrap();
    let pem = format!(
        "-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n",
        STANDARD.encode(der.as_ref())
    );
    let key = PublicKey::from_pem(pem.as_bytes()).unwrap();
    let policy = Policy::new(Scope::EVERYTHING, vec![key], Vec::new()).unwrap();
    let payload = format!(
        r#"{{"critical":{{"identity":{{"docker-reference":""}},"image":{{"docker-manifest-digest":"{digest}"}},"type":"cosign container image signature"}},"optional":null}}"#
    )
    .into_bytes();
    let signature = pair.sign(&random, &payload).unwrap();
    let annotation = STANDARD.encode(signature.as_ref());
    (
        Signing::new(true, false, vec![policy]).unwrap(),
        Signature {
            payload,
            annotation,
        },
    )
}

#[test]
fn a_proven_image_is_admitted_and_needs_no_registry_any_more() {
    for (name, form) in [("signed", Format::SimpleSigning), ("v3", Format::Bundle)] {
        let registry = Registry::start();
        let fixture = Fixture::open(name);
        fixture.serve(&registry);
        let store = TestStore::new();
        let image = reference(&registry, ":v1");
        let ask = |policy, trust| pulled(&store.store, &image, policy, trust);

        assert_eq!(proven(ask(PullPolicy::IfNotPresent, by_key("good"))), form);
        store.check();
        let beside = match form {
            Format::SimpleSigning => signature_tag(fixture.image),
            Format::Bundle => referrers_tag(fixture.image),
        };
        assert_eq!(tags(&store), ["v1".to_owned(), beside]);
        assert_eq!(admissions(&store), 1);

        registry.asked();
        for policy in [PullPolicy::IfNotPresent, PullPolicy::Never] {
            // By the record, then by the signatures, then by neither.
            assert_eq!(proven(ask(policy, by_key("good"))), form);
            assert_eq!(proven(ask(policy, by_key("good").anew())), form);
        }
        let asked = registry.asked_lines();
        assert!(asked.is_empty(), "{asked:?}");
        // A changed policy looks again, and does not admit what the old one did.
        refused(
            ask(PullPolicy::Never, by_key("other")),
            "it is by none of the policy's 1 keys",
        );
        assert!(registry.asked_lines().is_empty());
        refused(
            ask(PullPolicy::IfNotPresent, by_key("other")),
            "it is by none of the policy's 1 keys",
        );
        drop(registry);
        refused(
            ask(PullPolicy::IfNotPresent, by_key("other")),
            "it is by none of the policy's 1 keys",
        );
        assert_eq!(admissions(&store), 1);
        // Without the record the signatures still prove it.
        std::fs::remove_dir_all(store.admissions()).unwrap();
        assert_eq!(proven(ask(PullPolicy::Never, by_key("good"))), form);
        assert_eq!(admissions(&store), 1);
    }
}

#[test]
fn a_record_that_a_store_brings_along_admits_nothing() {
    let registry = Registry::start();
    let (signed, wrong) = (Fixture::open("signed"), Fixture::open("wrongkey"));
    let (mine, theirs) = (TestStore::new(), TestStore::new());
    let image = reference(&registry, ":v1");
    signed.serve(&registry);
    proven(pulled(
        &mine.store,
        &image,
        PullPolicy::Always,
        by_key("good"),
    ));
    wrong.serve(&registry);
    pulled(&theirs.store, &image, PullPolicy::Always, Trust::default()).unwrap();
    drop(registry);
    // All that a record says is public: whoever makes a store can write it for any image and any policy.
    let mut records = Vec::new();
    walk(&mine.admissions(), &mut records);
    let [record] = records.as_slice() else {
        panic!("{records:?}")
    };
    let forged = std::fs::read_to_string(record)
        .unwrap()
        .replace(&signed.image.hex(), &wrong.image.hex());
    for folder in [".bpfman/admitted", "admitted", "../images/admitted"] {
        let dir = theirs.store.dir().join(folder).join(wrong.image.hex());
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join(record.file_name().unwrap()), &forged).unwrap();
    }
    refused(
        pulled(&theirs.store, &image, PullPolicy::Never, by_key("good")),
        "it is by none of the policy's 1 keys",
    );
    // The same record where this host keeps its own is one: what is tested above is the place.
    let dir = theirs.admissions().join(wrong.image.hex());
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::write(dir.join(record.file_name().unwrap()), &forged).unwrap();
    proven(pulled(
        &theirs.store,
        &image,
        PullPolicy::Never,
        by_key("good"),
    ));
}

#[test]
fn a_store_without_a_place_for_admissions_looks_at_signatures_each_time() {
    let registry = Registry::start();
    Fixture::open("signed").serve(&registry);
    let store = TestStore::new();
    let image = reference(&registry, ":v1");
    proven(pulled(
        &store.store,
        &image,
        PullPolicy::Always,
        by_key("good"),
    ));
    drop(registry);
    // A file where the folder would be: nothing can be kept.
    std::fs::remove_dir_all(store.admissions()).unwrap();
    std::fs::write(store.admissions(), "").unwrap();
    let bare = Store::open(store.store.dir());
    for store in [&store.store, &bare] {
        for _ in 0..2 {
            proven(pulled(store, &image, PullPolicy::Never, by_key("good")));
        }
    }
}

#[test]
fn an_admitted_index_admits_no_manifest_that_is_named_by_itself() {
    let registry = Registry::start();
    let image = Parts::new("count").image();
    serve(&registry, &image, &[]);
    let whole = index(&[("amd64", &image)]);
    serve_document(&registry, &whole, INDEX, &["v1"]);
    let (key, signature) = sign(Digest::of(&whole));
    let tag = signature_tag(Digest::of(&whole));
    signature.serve(&registry, &tag);
    let store = TestStore::new();
    let trust = || Trust::new(key.clone(), TrustRoot::built_in());
    let ask =
        |rest: &str, policy| pulled(&store.store, &reference(&registry, rest), policy, trust());
    let found = ask(":v1", PullPolicy::Always).unwrap();
    let Verdict::Proven(proof) = found.verdict else {
        panic!("{:?}", found.verdict)
    };
    assert_eq!(proof.covered, Covered::Index(Digest::of(&whole)));
    assert_eq!(admissions(&store), 1);
    let alone = format!("@{}", Digest::of(&image.manifest));
    for policy in [
        PullPolicy::Always,
        PullPolicy::IfNotPresent,
        PullPolicy::Never,
    ] {
        refused(ask(&alone, policy), "has no signature");
        let found = ask(":v1", policy).unwrap();
        assert!(matches!(found.verdict, Verdict::Proven(_)), "{policy}");
    }
}

#[test]
fn an_unproven_image_of_the_store_is_not_read() {
    let registry = Registry::start();
    let store = TestStore::new();
    let image = reference(&registry, ":v1");
    let ask = |trust| pulled(&store.store, &image, PullPolicy::Never, trust);
    let mut parts = Parts::new("count");
    parts.files[0].1 = b"no ELF".to_vec();
    let broken = parts.image();
    let blobs: Vec<&[u8]> = vec![&broken.config, &broken.layers[0].1, &broken.manifest];
    let entry = descriptor(
        MANIFEST,
        &broken.manifest,
        &format!(r#","annotations":{{"org.opencontainers.image.ref.name":"{image}"}}"#),
    );
    // As another tool would put it there.
    let dir = store.store.dir().join("blobs/sha256");
    std::fs::create_dir_all(&dir).unwrap();
    for bytes in blobs {
        std::fs::write(dir.join(Digest::of(bytes).hex()), bytes).unwrap();
    }
    let list = format!(r#"{{"schemaVersion":2,"manifests":[{entry}]}}"#);
    std::fs::write(store.store.dir().join("index.json"), list).unwrap();
    assert!(matches!(
        ask(by_key("good")),
        Err(PullError::Unproven { .. })
    ));
    assert!(matches!(
        ask(Trust::unchecked()),
        Err(PullError::Refused { .. })
    ));
}

#[test]
fn one_signature_that_cannot_be_had_does_not_spoil_the_others_offline() {
    // Whoever may push can add a layer that is missing, or one over its cap.
    for (size, served) in [(20_u64, false), (1 << 30, false), (20, true)] {
        let registry = Registry::start();
        let fixture = Fixture::open("signed");
        fixture.serve(&registry);
        let tag = signature_tag(fixture.image);
        let mut manifest: Value = serde_json::from_slice(fixture.tagged(&tag)).unwrap();
        let mut bad = manifest["layers"][0].clone();
        let digest = Digest::of(b"nowhere");
        bad["digest"] = digest.to_string().into();
        bad["size"] = size.into();
        if served {
            let path = format!("/v2/acme/xdp/blobs/{digest}");
            registry.route("GET", &path, Answer::ok("something else"));
        }
        let good = manifest["layers"][0].clone();
        manifest["layers"] = vec![bad, good].into();
        let bytes = manifest.to_string();
        serve_document(&registry, bytes.as_bytes(), MANIFEST, &[&tag]);
        let (store, other) = (TestStore::new(), TestStore::new());
        let image = reference(&registry, ":v1");
        let ask = |store: &TestStore| {
            pulled(
                &store.store,
                &image,
                PullPolicy::Never,
                by_key("good").anew(),
            )
        };
        proven(pulled(
            &store.store,
            &image,
            PullPolicy::Always,
            by_key("good"),
        ));
        drop(registry);
        proven(ask(&store));
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("image.tar");
        archive::export(
            &store.store,
            std::slice::from_ref(&image),
            &Platforms::All,
            &file,
        )
        .unwrap();
        archive::import(&other.store, &file).unwrap();
        proven(ask(&other));
    }
}

#[test]
fn signatures_of_another_repository_do_not_crowd_out_an_images_own() {
    let registry = Registry::start();
    let fixture = Fixture::open("signed");
    fixture.serve(&registry);
    let store = TestStore::new();
    // As many as are looked at, of the same digest, under a name that comes first in the index.
    let mut manifest: Value =
        serde_json::from_slice(fixture.tagged(&signature_tag(fixture.image))).unwrap();
    let wrong = Fixture::open("wrongkey");
    let other: Value = serde_json::from_slice(wrong.tagged(&signature_tag(wrong.image))).unwrap();
    let mut junk = manifest["layers"][0].clone();
    junk["annotations"] = other["layers"][0]["annotations"].clone();
    manifest["layers"] = vec![junk; 256].into();
    let bytes = manifest.to_string().into_bytes();
    let image = reference(&registry, ":v1");
    pulled(&store.store, &image, PullPolicy::Always, Trust::default()).unwrap();
    drop(registry);
    let dir = store.store.dir();
    std::fs::write(
        dir.join("blobs/sha256").join(Digest::of(&bytes).hex()),
        &bytes,
    )
    .unwrap();
    let path = dir.join("index.json");
    let mut list: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let name = format!("quay.io/evil/xdp:{}", signature_tag(fixture.image));
    let entry = descriptor(
        MANIFEST,
        &bytes,
        &format!(r#","annotations":{{"org.opencontainers.image.ref.name":"{name}"}}"#),
    );
    list["manifests"]
        .as_array_mut()
        .unwrap()
        .insert(0, serde_json::from_str(&entry).unwrap());
    std::fs::write(&path, list.to_string()).unwrap();
    proven(pulled(
        &store.store,
        &image,
        PullPolicy::Never,
        by_key("good").anew(),
    ));
}

#[test]
fn signatures_are_kept_before_anybody_asks_for_them() {
    let registry = Registry::start();
    Fixture::open("both").serve(&registry);
    let store = TestStore::new();
    let image = reference(&registry, ":v1");
    let ask = |policy, trust| pulled(&store.store, &image, policy, trust);
    let found = ask(PullPolicy::IfNotPresent, Trust::default()).unwrap();
    assert_eq!(found.verdict, Verdict::NotCovered);
    assert_eq!(tags(&store).len(), 3);
    store.check();
    assert_eq!(admissions(&store), 0);
    drop(registry);
    proven(ask(PullPolicy::Never, by_key("good")));
    // Not to be looked at is not the same as proven.
    let off = ask(PullPolicy::Never, Trust::unchecked()).unwrap();
    assert_eq!(off.verdict, Verdict::NotLookedAt);
    // What no policy covers is refused before anything is asked.
    let closed = Trust::new(
        Signing::new(true, false, Vec::new()).unwrap(),
        TrustRoot::built_in(),
    );
    refused(
        ask(PullPolicy::Always, closed),
        "no policy of the configuration covers it",
    );
}

#[test]
fn an_image_that_is_signed_after_it_was_pulled() {
    let registry = Registry::start();
    let fixture = Fixture::open("signed");
    fixture.serve_blobs(&registry);
    serve_document(&registry, fixture.tagged("v1"), MANIFEST, &["v1"]);
    let store = TestStore::new();
    let image = reference(&registry, ":v1");
    let ask = |policy| pulled(&store.store, &image, policy, by_key("good"));
    pulled(&store.store, &image, PullPolicy::Always, Trust::default()).unwrap();
    refused(ask(PullPolicy::IfNotPresent), "has no signature");
    fixture.serve(&registry);
    refused(ask(PullPolicy::Never), "has no signature");
    proven(ask(PullPolicy::IfNotPresent));
    drop(registry);
    proven(ask(PullPolicy::Never));
    assert_eq!(tags(&store).len(), 2);
    store.check();
}

#[test]
fn archives_carry_signatures_and_removal_takes_them() {
    let registry = Registry::start();
    Fixture::open("both").serve(&registry);
    let (from, to) = (TestStore::new(), TestStore::new());
    let image = reference(&registry, ":v1");
    proven(pulled(
        &from.store,
        &image,
        PullPolicy::Always,
        by_key("good"),
    ));
    drop(registry);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("image.tar");
    archive::export(
        &from.store,
        std::slice::from_ref(&image),
        &Platforms::All,
        &file,
    )
    .unwrap();
    archive::import(&to.store, &file).unwrap();
    assert_eq!(tags(&to).len(), 3);
    assert_eq!(admissions(&to), 0);
    proven(pulled(&to.store, &image, PullPolicy::Never, by_key("good")));
    refused(
        pulled(&to.store, &image, PullPolicy::Never, by_key("other")),
        "it is by none of the policy's 1 keys",
    );

    assert_eq!(admissions(&from), 1);
    from.store.remove(&[image]).unwrap();
    assert_eq!(admissions(&from), 0);
    let left: Vec<_> = from.files();
    assert_eq!(left, ["index.json", "oci-layout"]);
}

#[test]
fn what_was_damaged_in_the_store_proves_nothing() {
    let registry = Registry::start();
    let fixture = Fixture::open("signed");
    fixture.serve(&registry);
    let store = TestStore::new();
    let image = reference(&registry, ":v1");
    let ask = |policy| pulled(&store.store, &image, policy, by_key("good").anew());
    proven(ask(PullPolicy::Always));
    let manifest = Digest::of(fixture.tagged(&signature_tag(fixture.image)));
    let path = store.store.dir().join("blobs/sha256").join(manifest.hex());
    std::fs::write(path, "{}").unwrap();
    refused(ask(PullPolicy::Never), "has no signature");
    proven(ask(PullPolicy::IfNotPresent));
    proven(ask(PullPolicy::Never));
}
