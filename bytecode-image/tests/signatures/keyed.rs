//! Signatures with a key, and what their log entries and time stamps add.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytecode_image::digest::Digest;
use bytecode_image::verify::{Subject, TrustRoot};
use serde_json::{Value, json};

use crate::forge::{IN_TOTO, Signer, image, pae, statement, statement_of};
use crate::layout::{
    LOG_ENTRY, Layout, SIGNATURE, Simple, bundle_candidates, by_key, bytes_candidates, mock_root,
    policy, root, simple_candidates,
};
use crate::spoil::{edit_checkpoint, edit_payload, flip, with_path};
use crate::{refused, summary, verdict};

const NO_KEY: &str = "it is by none of the policy's 1 keys, or what was signed was changed";

#[test]
fn signed_statements_that_are_no_signature_of_the_image() {
    let signer = Signer::p256();
    let policy = policy(&[signer.key()], &[]);
    let other = Digest::of(b"other");
    let cases = [
        (IN_TOTO, statement(other), "it is a signature of sha256:"),
        (
            IN_TOTO,
            statement_of(image(), "https://slsa.dev/provenance/v1"),
            "the statement's predicate is `https://slsa",
        ),
        (
            IN_TOTO,
            statement_of(image(), ""),
            "the statement's predicate is ``",
        ),
        (
            IN_TOTO,
            b"{}".to_vec(),
            "the payload is not an in-toto statement",
        ),
        (
            "application/json",
            statement(image()),
            "the envelope's payload type is `application/json`",
        ),
        ("", statement(image()), "the envelope's payload type is ``"),
    ];
    for (payload_type, payload, reason) in cases {
        let candidates = bundle_candidates(&signer.bundle(payload_type, &payload));
        refused(
            reason,
            verdict(
                &Subject::of(image()),
                &candidates,
                &policy,
                &root("builtin"),
            ),
            reason,
        );
    }
    for (payload, reason) in [
        (Simple::payload_for(other), "it is a signature of sha256:"),
        (
            b"{}".to_vec(),
            "the payload is not a simple signing payload",
        ),
        (
            statement(image()),
            "the payload is not a simple signing payload",
        ),
    ] {
        let simple = Simple::new(&payload, &signer.sign(&payload));
        let found = verdict(
            &Subject::of(image()),
            &simple_candidates(&[simple]),
            &policy,
            &root("builtin"),
        );
        refused(reason, found, reason);
    }
}

#[test]
fn a_signature_in_one_form_is_none_in_the_other() {
    // The same bytes signed as a payload and as an envelope are two things.
    let signer = Signer::p256();
    let policy = policy(&[signer.key()], &[]);
    let payload = Simple::payload_for(image());
    let enveloped = Simple::new(&payload, &signer.sign(&pae(IN_TOTO, &payload)));
    let found = verdict(
        &Subject::of(image()),
        &simple_candidates(&[enveloped]),
        &policy,
        &root("builtin"),
    );
    refused("envelope's signature", found, NO_KEY);
    let mut bundle = signer.bundle(IN_TOTO, &statement(image()));
    bundle["dsseEnvelope"]["signatures"][0]["sig"] =
        json!(STANDARD.encode(signer.sign(&statement(image()))));
    let found = verdict(
        &Subject::of(image()),
        &bundle_candidates(&bundle),
        &policy,
        &root("builtin"),
    );
    refused("payload's signature", found, NO_KEY);
}

#[test]
fn bundles_that_were_changed() {
    let other_entry =
        || Layout::open("kl3").bundle()["verificationMaterial"]["tlogEntries"][0].clone();
    let other_stamp = || {
        Layout::open("kl3tsa").bundle()["verificationMaterial"]["timestampVerificationData"].clone()
    };
    type Change<'a> = &'a dyn Fn(&mut Value);
    let entry = |bundle: &mut Value, path: &str, value: Value| {
        *bundle["verificationMaterial"]["tlogEntries"][0]
            .pointer_mut(path)
            .unwrap() = value;
    };
    let set_of_other = other_entry()["inclusionPromise"]["signedEntryTimestamp"].clone();
    let cases: [(&str, &str, Change<'_>, &str); 19] = [
        ("v3", "payload", &|b| edit_payload(b), NO_KEY),
        (
            "v3",
            "payload type",
            &|b| b["dsseEnvelope"]["payloadType"] = json!("x"),
            "the envelope's payload type is `x`",
        ),
        (
            "v3",
            "signature",
            &|b| flip(&mut b["dsseEnvelope"]["signatures"][0]["sig"], 20),
            NO_KEY,
        ),
        (
            "v3",
            "no signature",
            &|b| b["dsseEnvelope"]["signatures"] = json!([]),
            "the bundle cannot be read",
        ),
        (
            "v3",
            "two signatures",
            &|b| {
                let one = b["dsseEnvelope"]["signatures"][0].clone();
                b["dsseEnvelope"]["signatures"] = json!([one, one]);
            },
            "the bundle cannot be read",
        ),
        (
            "v3",
            "no envelope",
            &|b| {
                b.as_object_mut().unwrap().remove("dsseEnvelope");
                b["messageSignature"] = json!({"signature": "AAAA"});
            },
            "the bundle has no DSSE envelope",
        ),
        (
            "v3",
            "media type",
            &|b| b["mediaType"] = json!("application/json"),
            "the bundle cannot be read",
        ),
        ("k3rekor", "payload", &|b| edit_payload(b), NO_KEY),
        (
            "k3rekor",
            "entry of another",
            &|b| entry(b, "", other_entry()),
            "log entry does not match the bundle",
        ),
        (
            "k3rekor",
            "promise of another",
            &|b| {
                entry(
                    b,
                    "/inclusionPromise/signedEntryTimestamp",
                    set_of_other.clone(),
                )
            },
            "invalid inclusion promise",
        ),
        (
            "k3rekor",
            "time",
            &|b| entry(b, "/integratedTime", json!("1795334133")),
            "invalid inclusion promise",
        ),
        (
            "k3rekor",
            "number",
            &|b| entry(b, "/logIndex", json!("1")),
            "invalid inclusion promise",
        ),
        (
            "k3rekor",
            "root of the proof",
            &|b| {
                flip(
                    &mut b["verificationMaterial"]["tlogEntries"][0]["inclusionProof"]["rootHash"],
                    3,
                )
            },
            "it cannot be checked",
        ),
        (
            "k3rekor",
            "path of the proof",
            &|b| entry(b, "/inclusionProof", with_path(b)),
            "invalid inclusion proof",
        ),
        (
            "k3rekor",
            "checkpoint's text",
            &|b| edit_checkpoint(b, "127.0.0.1:7101 - ", "127.0.0.1:7101 - 1"),
            "invalid checkpoint",
        ),
        (
            "k3rekor",
            "checkpoint's signer",
            &|b| edit_checkpoint(b, "GaSfVz", "AAAAAA"),
            "invalid checkpoint",
        ),
        (
            "k3rekor",
            "nine entries",
            &|b| b["verificationMaterial"]["tlogEntries"] = json!(vec![other_entry(); 9]),
            "it has 9 log entries: at most 8 are read",
        ),
        (
            "k3tsa",
            "stamp of another",
            &|b| b["verificationMaterial"]["timestampVerificationData"] = other_stamp(),
            "its time stamp proves nothing about it: Timestamp message hash mismatch",
        ),
        (
            "k3tsa",
            "no stamp",
            &|b| {
                b["verificationMaterial"]["timestampVerificationData"]["rfc3161Timestamps"][0]["signedTimestamp"] =
                    json!("AAAA");
            },
            "its time stamp proves nothing about it",
        ),
    ];
    for (name, what, change, reason) in cases {
        let layout = Layout::open(name);
        let mut bundle = layout.bundle();
        change(&mut bundle);
        let candidates = bundle_candidates(&bundle);
        let found = verdict(
            &layout.subject(),
            &candidates,
            &by_key("good"),
            &root("trusted_root_tsa"),
        );
        refused(&format!("{name}: {what}"), found, reason);
    }
}

#[test]
fn evidence_of_unknown_makers_is_not_counted_but_must_be_about_the_signature() {
    let layout = Layout::open("k3rekor");
    let mut bundle = layout.bundle();
    flip(
        &mut bundle["verificationMaterial"]["tlogEntries"][0]["inclusionPromise"]["signedEntryTimestamp"],
        20,
    );
    let candidates = bundle_candidates(&bundle);
    let proof = verdict(
        &layout.subject(),
        &candidates,
        &by_key("good"),
        &root("builtin"),
    )
    .unwrap();
    assert_eq!(summary(&proof), "ECDSA P-256 bundle unknown-log");
    let entries = Layout::open("kl3").bundle()["verificationMaterial"]["tlogEntries"].clone();
    bundle["verificationMaterial"]["tlogEntries"] = entries;
    let found = verdict(
        &layout.subject(),
        &bundle_candidates(&bundle),
        &by_key("good"),
        &root("builtin"),
    );
    refused(
        "entry of another signature",
        found,
        "log entry does not match the bundle",
    );
    // A stamp whose signature is broken is a stamp by nobody.
    let layout = Layout::open("k3tsa");
    let mut bundle = layout.bundle();
    let stamps =
        &mut bundle["verificationMaterial"]["timestampVerificationData"]["rfc3161Timestamps"];
    let stamp = STANDARD
        .decode(stamps[0]["signedTimestamp"].as_str().unwrap())
        .unwrap();
    flip(&mut stamps[0]["signedTimestamp"], stamp.len() - 10);
    let candidates = bundle_candidates(&bundle);
    let proof = verdict(
        &layout.subject(),
        &candidates,
        &by_key("good"),
        &root("trusted_root_tsa"),
    )
    .unwrap();
    assert_eq!(summary(&proof), "ECDSA P-256 bundle UnknownAuthority");
}

#[test]
fn a_time_stamp_outside_of_its_authoritys_time() {
    let layout = Layout::open("k3tsa");
    let mut root = mock_root("trusted_root_tsa");
    root["timestampAuthorities"][0]["validFor"]["end"] = json!("2026-01-01T00:00:00Z");
    let root = TrustRoot::from_json(root.to_string().as_bytes()).unwrap();
    let found = verdict(
        &layout.subject(),
        &layout.candidates(),
        &by_key("good"),
        &root,
    );
    refused(
        "window",
        found,
        "outside the validity period of the timestamp authority",
    );
}

#[test]
fn simple_signatures_that_were_changed() {
    let layout = Layout::open("signed");
    let check = |simple: Simple| {
        verdict(
            &layout.subject(),
            &simple_candidates(&[simple]),
            &by_key("good"),
            &root("trusted_root"),
        )
    };
    let long = "x".repeat((64 << 10) + 1);
    type Change<'a> = &'a dyn Fn(&mut Simple);
    let cases: [(&str, Change<'_>, &str); 10] = [
        ("space", &|s| s.payload.push(b' '), NO_KEY),
        (
            "no signature",
            &|s| s.annotations.clear(),
            "it has no annotation `dev.cosignproject.cosign/signature`",
        ),
        (
            "empty signature",
            &|s| s.set(SIGNATURE, ""),
            "it has no annotation",
        ),
        (
            "bytes of the signature",
            &|s| s.set(SIGNATURE, "AAAA"),
            NO_KEY,
        ),
        (
            "no base64",
            &|s| s.set(SIGNATURE, "*"),
            "the annotation `dev.cosignproject.cosign/signature` is not base64",
        ),
        (
            "long annotation",
            &|s| s.set(SIGNATURE, &long),
            "has 65537 bytes: at most 65536 are read",
        ),
        (
            "long payload",
            &|s| s.payload.resize((64 << 10) + 1, b' '),
            "it has 65537 bytes: at most 65536 are read",
        ),
        (
            "entry without JSON",
            &|s| s.set(LOG_ENTRY, "{"),
            "the annotation `dev.sigstore.cosign/bundle` cannot be read",
        ),
        (
            "entry of another signature",
            &|s| {
                s.set(
                    LOG_ENTRY,
                    &Layout::open("kl2").simple().log_entry().to_string(),
                )
            },
            "its transparency log entry proves nothing about it",
        ),
        (
            "certificate",
            &|s| {
                s.set(
                    "dev.sigstore.cosign/certificate",
                    "-----BEGIN CERTIFICATE-----",
                )
            },
            "the annotation `dev.sigstore.cosign/certificate` cannot be decoded",
        ),
    ];
    for (what, change, reason) in cases {
        let mut simple = layout.simple();
        change(&mut simple);
        refused(what, check(simple), reason);
    }
}

#[test]
fn bytes_that_are_no_bundle() {
    let layout = Layout::open("v3");
    for (bytes, reason) in [
        (b"".to_vec(), "the bundle cannot be read"),
        (b"\xff".to_vec(), "the bundle is not UTF-8 text"),
        (b"{}".to_vec(), "the bundle cannot be read"),
        (b"[".repeat(100_000), "the bundle cannot be read"),
        (
            vec![b' '; (256 << 10) + 1],
            "it has 262145 bytes: at most 262144 are read",
        ),
    ] {
        let found = verdict(
            &layout.subject(),
            &bytes_candidates(&bytes),
            &by_key("good"),
            &root("builtin"),
        );
        refused(reason, found, reason);
    }
}
