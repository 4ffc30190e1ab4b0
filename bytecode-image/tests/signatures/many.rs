//! Many signatures, bad ones before good ones, and bytes that are nothing.

use bytecode_image::digest::{Digest, VerifiedBytes};
use bytecode_image::verify::limits::{MAX_SIGNATURE_MANIFEST_BYTES, MAX_SIGNATURES};
use bytecode_image::verify::{
    SignatureManifest, SignatureManifestError, Subject, VerifyError, referrers, verify,
};
use proptest::prelude::*;
use serde_json::json;

use crate::forge::{IN_TOTO, Signer, statement};
use crate::layout::{
    Layout, Simple, bundle_candidates, by_key, by_workflow, bytes_candidates, policy, root,
    simple_candidates,
};
use crate::{refused, verdict};

#[test]
fn bad_signatures_do_not_spoil_a_good_one() {
    let layout = Layout::open("kl3");
    let (good, mut bundle) = (layout.candidates(), layout.bundle());
    bundle["dsseEnvelope"]["payloadType"] = json!("x");
    let mut candidates = bundle_candidates(&bundle);
    candidates.extend(bytes_candidates(b"garbage"));
    candidates.extend(Layout::open("kl2").candidates());
    candidates.extend(Layout::open("signed").candidates());
    let all = verify(
        &layout.subject(),
        &candidates,
        &by_workflow(),
        &root("trusted_root"),
    );
    let Err(VerifyError::NoneGood {
        refused, beyond: 0, ..
    }) = all
    else {
        panic!("{all:?}")
    };
    assert_eq!(refused.len(), 4);
    candidates.extend(good);
    let proof = verify(
        &layout.subject(),
        &candidates,
        &by_workflow(),
        &root("trusted_root"),
    )
    .unwrap();
    assert_eq!(proof.place, candidates.last().unwrap().place());
}

#[test]
fn two_hundred_signatures_of_which_the_last_is_good() {
    let good = Layout::open("signed").simple();
    let stranger = Signer::p256();
    let junk = Simple::new(&good.payload, &stranger.sign(&good.payload));
    let subject = Layout::open("signed").subject();
    let of = |junk_before: usize| {
        let mut all = vec![junk.clone(); junk_before];
        all.push(good.clone());
        verify(
            &subject,
            &simple_candidates(&all),
            &by_key("good"),
            &root("builtin"),
        )
    };
    assert!(of(199).is_ok());
    assert_eq!(
        of(MAX_SIGNATURES - 1).unwrap().place.layer,
        MAX_SIGNATURES - 1
    );
    let error = of(MAX_SIGNATURES).unwrap_err();
    assert!(
        matches!(&error, VerifyError::NoneGood { beyond: 1, refused, .. } if refused.len() == MAX_SIGNATURES)
    );
    let text = error.to_string();
    assert!(
        text.ends_with("; and 251 more; 1 beyond the first 256 were not looked at"),
        "{text}"
    );
    assert_eq!(
        error.hint().unwrap(),
        "remove old signatures: only the first 256 are looked at"
    );
}

#[test]
fn hints_say_what_to_do() {
    let hint = |name: &str, policy, trust_root: &str| {
        let layout = Layout::open(name);
        verify(
            &layout.subject(),
            &layout.candidates(),
            &policy,
            &root(trust_root),
        )
        .unwrap_err()
        .hint()
    };
    assert!(
        hint("unsigned", by_key("good"), "builtin")
            .unwrap()
            .contains("cosign sign")
    );
    assert!(
        hint("kl3", by_workflow(), "builtin")
            .unwrap()
            .contains("trusted_root")
    );
    let other = policy(&[], &[("https://issuer.test", Some("x"), None)]);
    assert!(
        hint("kl3", other, "trusted_root")
            .unwrap()
            .contains("identities")
    );
    assert_eq!(hint("signed", by_key("other"), "builtin"), None);
}

#[test]
fn manifests_that_are_none() {
    let long = vec![b' '; MAX_SIGNATURE_MANIFEST_BYTES as usize + 1];
    for parse in [
        |bytes: &[u8]| SignatureManifest::parse(&VerifiedBytes::hash(bytes.to_vec())).err(),
        |bytes: &[u8]| referrers(bytes).err(),
    ] {
        assert!(matches!(
            parse(&long),
            Some(SignatureManifestError::TooLong { .. })
        ));
        assert!(matches!(
            parse(b"\xff"),
            Some(SignatureManifestError::Json(_))
        ));
        assert!(matches!(parse(b"1"), Some(SignatureManifestError::Json(_))));
    }
    // An index is no manifest of signatures; a manifest of something else has none.
    assert!(SignatureManifest::parse(&VerifiedBytes::hash(r#"{"manifests":[]}"#)).is_err());
    let digest = Digest::of(b"x");
    let other = json!({"layers": [{"mediaType": "text/spdx+json", "digest": digest.to_string(), "size": 1}]});
    let other = SignatureManifest::parse(&VerifiedBytes::hash(other.to_string())).unwrap();
    assert_eq!(other.wanted().count(), 0);
    assert!(
        other
            .candidates(|_| panic!("asked for content of another kind"))
            .is_empty()
    );
}

#[test]
fn content_is_fetched_within_caps_and_hashed() {
    let bundle = "application/vnd.dev.sigstore.bundle.v0.3+json";
    let [huge, lost, other] = ["huge", "lost", "other"].map(|name| Digest::of(name.as_bytes()));
    let layers: Vec<_> = [(huge, 300_u64 << 20), (lost, 4), (other, 5)]
        .iter()
        .map(|(digest, size)| json!({"mediaType": bundle, "digest": digest.to_string(), "size": size}))
        .collect();
    let manifest =
        SignatureManifest::parse(&VerifiedBytes::hash(json!({"layers": layers}).to_string()))
            .unwrap();
    assert_eq!(
        manifest.wanted().collect::<Vec<_>>(),
        [(lost, 4), (other, 5)]
    );
    let candidates = manifest.candidates(|digest| match digest {
        digest if digest == huge => panic!("asked for 300 MiB"),
        digest if digest == other => Some(VerifiedBytes::hash("swapped")),
        _ => None,
    });
    let found = verdict(
        &Subject::of(huge),
        &candidates,
        &by_key("good"),
        &root("builtin"),
    )
    .unwrap_err();
    for reason in [
        "#0: it has 314572800 bytes: at most 262144 are read".to_owned(),
        format!("#1: its content {lost} is missing"),
        format!(
            "#2: its content is {}: expected {other}",
            Digest::of(b"swapped")
        ),
    ] {
        assert!(found.contains(&reason), "{found}");
    }
}

#[test]
fn referrers_are_looked_at_likely_ones_first_and_within_the_cap() {
    let named = |name: &str, size: u64, kind: &str| json!({"mediaType": "m", "digest": Digest::of(name.as_bytes()).to_string(), "size": size, "artifactType": kind});
    let list = json!({"manifests": [
        named("sbom", 1, "application/spdx+json"),
        named("huge", 300 << 20, ""),
        {"digest": "sha512:00", "size": 1},
        named("wrong type", 2, "application/vnd.oci.empty.v1+json"),
        named("right type", 3, "application/vnd.dev.sigstore.bundle.v0.3+json"),
    ]});
    let found = referrers(list.to_string().as_bytes()).unwrap();
    let expected = [("wrong type", 2), ("right type", 3), ("sbom", 1)];
    assert_eq!(
        found,
        expected.map(|(name, size)| (Digest::of(name.as_bytes()), size))
    );
    let many: Vec<_> = (0..1000).map(|n| named(&n.to_string(), 1, "")).collect();
    assert_eq!(
        referrers(json!({"manifests": many}).to_string().as_bytes())
            .unwrap()
            .len(),
        MAX_SIGNATURES
    );
    assert!(referrers(br#"{"manifests":null}"#).unwrap().is_empty());
}

#[test]
fn the_same_statement_by_a_stranger_is_no_signature() {
    let layout = Layout::open("v3");
    let candidates = bundle_candidates(&Signer::p256().bundle(IN_TOTO, &statement(layout.image())));
    refused(
        "stranger",
        verdict(
            &layout.subject(),
            &candidates,
            &by_key("good"),
            &root("builtin"),
        ),
        "by none of the policy's",
    );
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) })]

    /// Any one byte of a good bundle changed: refused or still the same statement by the same signer, never a panic.
    #[test]
    fn a_changed_byte_never_proves_anything_else(at in 0_usize..5415, byte: u8, keyless: bool) {
        let (layout, policy) = if keyless {
            (Layout::open("kl3tsa"), by_workflow())
        } else {
            (Layout::open("k3rekor"), by_key("good"))
        };
        let mut bytes = layout.bundle().to_string().into_bytes();
        let at = at % bytes.len();
        bytes[at] = byte;
        let trust_root = root("trusted_root_tsa");
        let other = Subject::of(Digest::of(b"other"));
        prop_assert!(verify(&other, &bytes_candidates(&bytes), &policy, &trust_root).is_err());
        if let Ok(proof) = verify(&layout.subject(), &bytes_candidates(&bytes), &policy, &trust_root) {
            prop_assert_eq!(proof.covered.digest(), layout.image());
        }
    }

    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400), text in "[\\[\\]{}\":,a-z0-9\\\\ ]{0,200}") {
        for bytes in [bytes.as_slice(), text.as_bytes()] {
            let _ = SignatureManifest::parse(&VerifiedBytes::hash(bytes.to_vec()));
            let _ = referrers(bytes);
            let subject = Subject::of(Digest::of(bytes));
            prop_assert!(verify(&subject, &bytes_candidates(bytes), &by_key("good"), &root("builtin")).is_err());
            let simple = Simple::new(bytes, bytes);
            prop_assert!(verify(&subject, &simple_candidates(&[simple]), &by_key("good"), &root("builtin")).is_err());
        }
    }
}
