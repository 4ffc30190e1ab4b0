//! Evidence that cannot be checked: beside a key it is not counted, for an identity it is missing.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytecode_image::verify::{Candidate, Policy, Proof, Subject, TrustRoot, verify};
use serde_json::{Value, json};

use crate::forge::{IN_TOTO, Log, Signer, hashed_rekord, image, pae, statement};
use crate::layout::{
    CERTIFICATE, LOG_ENTRY, Layout, Simple, bundle_candidates, by_key, by_workflow, key, mock_root,
    policy, root, simple_candidates,
};
use crate::{refused, summary, verdict};

/// 2100: later than any clock that these tests run by.
const LATER: i64 = 4_102_444_800;

/// In the life of the fixtures' certificates.
const MEANWHILE: i64 = 1_795_334_200;

fn check(candidates: &[Candidate], policy: &Policy, root: &TrustRoot) -> Result<Proof, String> {
    verdict(&Subject::of(image()), candidates, policy, root)
}

fn entries(bundle: &mut Value) -> &mut Vec<Value> {
    bundle["verificationMaterial"]["tlogEntries"]
        .as_array_mut()
        .unwrap()
}

#[test]
fn log_entries_of_a_kind_that_nobody_here_reads() {
    let dsse = json!({"kind": "dsse", "version": "0.0.2"});
    let layout = Layout::open("k3rekor");
    let of = |bundle: &Value, policy: &Policy, layout: &Layout| {
        verdict(
            &layout.subject(),
            &bundle_candidates(bundle),
            policy,
            &root("trusted_root"),
        )
    };
    let mut bundle = layout.bundle();
    entries(&mut bundle)[0]["kindVersion"] = dsse.clone();
    let found = summary(&of(&bundle, &by_key("good"), &layout).unwrap());
    assert_eq!(found, "ECDSA P-256 bundle [dsse 0.0.2]");
    // Beside one that is known, which counts as ever.
    let mut bundle = layout.bundle();
    let mut second = entries(&mut bundle)[0].clone();
    second["kindVersion"] = dsse.clone();
    second["canonicalizedBody"] = json!(null);
    entries(&mut bundle).push(second);
    let found = summary(&of(&bundle, &by_key("good"), &layout).unwrap());
    assert!(
        found.starts_with("ECDSA P-256 bundle log:2026-11-22T07:55:32Z #8439346")
            && found.ends_with(" [dsse 0.0.2]"),
        "{found}"
    );
    refused(
        "key",
        of(&bundle, &by_key("other"), &layout),
        "it is by none of the policy's 1 keys",
    );
    // They count against the cap, and do not hide what else is wrong.
    let many = entries(&mut bundle)[1].clone();
    entries(&mut bundle).extend(vec![many; 7]);
    refused(
        "nine",
        of(&bundle, &by_key("good"), &layout),
        "it has 9 log entries: at most 8 are read",
    );
    entries(&mut bundle).truncate(2);
    bundle["mediaType"] = json!("application/json");
    refused(
        "media type",
        of(&bundle, &by_key("good"), &layout),
        "the bundle cannot be read",
    );
    // An identity needs its entry.
    let layout = Layout::open("kl3");
    let mut bundle = layout.bundle();
    entries(&mut bundle)[0]["kindVersion"] = dsse;
    refused(
        "identity",
        of(&bundle, &by_workflow(), &layout),
        "its log entry is of kind `dsse 0.0.2`, which cannot be checked",
    );
}

#[test]
fn cosign_2_entries_of_another_kind() {
    let body =
        Layout::open("kl3").bundle()["verificationMaterial"]["tlogEntries"][0]["canonicalizedBody"]
            .clone();
    let with = |name: &str, policy: &Policy| {
        let layout = Layout::open(name);
        let mut simple = layout.simple();
        let mut entry = Layout::open("kl2").simple().log_entry();
        entry["Payload"]["body"] = body.clone();
        simple.set(LOG_ENTRY, &entry.to_string());
        verdict(
            &layout.subject(),
            &simple_candidates(&[simple]),
            policy,
            &root("trusted_root"),
        )
    };
    let found = summary(&with("signed", &by_key("good")).unwrap());
    assert_eq!(found, "ECDSA P-256 cosign2 [dsse 0.0.1]");
    refused(
        "identity",
        with("kl2", &by_workflow()),
        "the log entry is of kind `dsse 0.0.1`",
    );
}

#[test]
fn rekor_v2_entries_of_keys_of_other_kinds() {
    let log = Log::new();
    let trust_root = log.trusted(mock_root("trusted_root"));
    let signer = Signer::p384();
    let payload = statement(image());
    let mut bundle = signer.bundle(IN_TOTO, &payload);
    let signature = bundle["dsseEnvelope"]["signatures"][0]["sig"].clone();
    let signature = STANDARD.decode(signature.as_str().unwrap()).unwrap();
    let message = pae(IN_TOTO, &payload);
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA384, &message);
    let entry = log.entry_v2_of(
        ("SHA2_384", digest.as_ref().to_vec()),
        &signature,
        ("publicKey", signer.spki()),
    );
    bundle["verificationMaterial"]["tlogEntries"] = json!([entry]);
    let found = check(
        &bundle_candidates(&bundle),
        &policy(&[signer.key()], &[]),
        &trust_root,
    );
    assert_eq!(
        summary(&found.unwrap()),
        "ECDSA P-384 bundle [hashedrekord 0.0.2]"
    );
}

#[test]
fn a_clock_that_is_behind() {
    let log = Log::new();
    let trust_root = log.trusted(mock_root("trusted_root"));
    let signer = Signer::p256();
    let by_signer = policy(&[signer.key()], &[]);
    let payload = Simple::payload_for(image());
    let mut simple = Simple::new(&payload, &signer.sign(&payload));
    let body = hashed_rekord(&payload, &simple.signature(), &signer.pem);
    simple.set(LOG_ENTRY, &log.annotation(&body, LATER, 5));
    let found = check(
        &simple_candidates(&[simple.clone()]),
        &by_signer,
        &trust_root,
    );
    assert_eq!(summary(&found.unwrap()), "ECDSA P-256 cosign2 Future");
    // It must be about the signature all the same.
    let other = hashed_rekord(b"other", &simple.signature(), &signer.pem);
    simple.set(LOG_ENTRY, &log.annotation(&other, LATER, 5));
    refused(
        "entry of another",
        check(&simple_candidates(&[simple]), &by_signer, &trust_root),
        "its transparency log entry proves nothing about it",
    );

    // A log whose key begins later.
    let late = log.listed(
        mock_root("trusted_root"),
        "https://log.test",
        "2100-01-01T00:00:00Z",
    );
    let late = TrustRoot::from_json(late.to_string().as_bytes()).unwrap();
    let payload = statement(image());
    let mut bundle = signer.bundle(IN_TOTO, &payload);
    let signature = bundle["dsseEnvelope"]["signatures"][0]["sig"].clone();
    let signature = STANDARD.decode(signature.as_str().unwrap()).unwrap();
    let entry = log.entry_v2(
        &pae(IN_TOTO, &payload),
        &signature,
        ("publicKey", signer.spki()),
    );
    bundle["verificationMaterial"]["tlogEntries"] = json!([entry]);
    let found = check(&bundle_candidates(&bundle), &by_signer, &late);
    assert_eq!(summary(&found.unwrap()), "ECDSA P-256 bundle Future");

    // An identity needs a time that has come.
    let layout = Layout::open("kl2");
    let mut simple = layout.simple();
    let body = hashed_rekord(
        &simple.payload,
        &simple.signature(),
        &simple.annotations[CERTIFICATE],
    );
    simple.set(LOG_ENTRY, &log.annotation(&body, LATER, 5));
    let candidates = simple_candidates(&[simple]);
    let error = verify(&layout.subject(), &candidates, &by_workflow(), &trust_root).unwrap_err();
    assert!(error.to_string().contains("is in the future"), "{error}");
    assert!(
        error.hint().unwrap().starts_with("check this host's clock"),
        "{:?}",
        error.hint()
    );
}

#[test]
fn a_certificate_beside_a_key() {
    // What `cosign sign --key K --certificate C` writes: the key signed, whoever the certificate names.
    let certificate = Layout::open("kl2").simple().annotations[CERTIFICATE].clone();
    let signer = Signer::p256();
    let payload = Simple::payload_for(image());
    let mut simple = Simple::new(&payload, &signer.sign(&payload));
    simple.set(CERTIFICATE, &certificate);
    let log = Log::new();
    let trust_root = log.trusted(mock_root("trusted_root"));
    let mut logged = simple.clone();
    let body = hashed_rekord(&payload, &simple.signature(), &certificate);
    logged.set(LOG_ENTRY, &log.annotation(&body, MEANWHILE, 5));
    let keys = policy(&[signer.key()], &[]);
    let both = policy(
        &[signer.key()],
        &[(crate::layout::ISSUER, Some(crate::layout::WORKFLOW), None)],
    );
    for policy in [&keys, &both] {
        for (simple, expected) in [
            (&simple, "ECDSA P-256 cosign2 Certificate"),
            (&logged, "ECDSA P-256 cosign2 Certificate UnusualScheme"),
        ] {
            let candidates = simple_candidates(std::slice::from_ref(simple));
            let found = check(&candidates, policy, &trust_root);
            assert_eq!(summary(&found.unwrap()), expected);
        }
    }
    // By somebody else's key it is what the certificate says, and refused as such.
    let candidates = simple_candidates(&[logged]);
    refused(
        "keys",
        check(&candidates, &policy(&[key("good")], &[]), &trust_root),
        "it was made with a certificate, and the policy lists only keys",
    );
    refused(
        "identities",
        check(&candidates, &by_workflow(), &trust_root),
        "the signature does not fit what was signed",
    );
    // A signature by the key of another image is named as such.
    let other = Simple::payload_for(bytecode_image::digest::Digest::of(b"other"));
    let mut simple = Simple::new(&other, &signer.sign(&other));
    simple.set(CERTIFICATE, &certificate);
    refused(
        "another image",
        check(&simple_candidates(&[simple]), &keys, &trust_root),
        "it is a signature of sha256:",
    );
}

#[test]
fn the_log_of_an_entry_is_the_one_whose_key_proves_it() {
    // Two trusted logs: the entry says one, the checkpoint is the other's.
    let (named, signing) = (Log::new(), Log::new());
    let trust_root = signing.listed(
        named.listed(
            mock_root("trusted_root"),
            "https://named.test",
            "2020-01-01T00:00:00Z",
        ),
        "https://signing.test",
        "2020-01-01T00:00:00Z",
    );
    let trust_root = TrustRoot::from_json(trust_root.to_string().as_bytes()).unwrap();
    let signer = Signer::p256();
    let payload = statement(image());
    let mut bundle = signer.bundle(IN_TOTO, &payload);
    let signature = bundle["dsseEnvelope"]["signatures"][0]["sig"].clone();
    let signature = STANDARD.decode(signature.as_str().unwrap()).unwrap();
    let mut entry = signing.entry_v2(
        &pae(IN_TOTO, &payload),
        &signature,
        ("publicKey", signer.spki()),
    );
    for log in [&signing, &named] {
        entry["logId"]["keyId"] = json!(STANDARD.encode(log.id()));
        bundle["verificationMaterial"]["tlogEntries"] = json!([entry]);
        let found = check(
            &bundle_candidates(&bundle),
            &policy(&[signer.key()], &[]),
            &trust_root,
        );
        assert_eq!(
            summary(&found.unwrap()),
            "ECDSA P-256 bundle #0 https://signing.test"
        );
    }
}

#[test]
fn what_cosign_3_does_with_ed25519_keys_has_a_hint() {
    let signer = Signer::ed25519();
    let bundle = signer.bundle(IN_TOTO, b"something else");
    let mut changed = bundle.clone();
    changed["dsseEnvelope"]["payload"] = json!(STANDARD.encode(statement(image())));
    for (keys, hinted) in [(vec![signer.key()], true), (vec![key("good")], false)] {
        let error = verify(
            &Subject::of(image()),
            &bundle_candidates(&changed),
            &policy(&keys, &[]),
            &root("builtin"),
        )
        .unwrap_err();
        let hint = error.hint();
        assert_eq!(
            hint.is_some_and(|hint| hint.contains("Ed25519ph")),
            hinted,
            "{error}"
        );
    }
}
