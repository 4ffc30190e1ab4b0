//! Signatures with a certificate.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytecode_image::digest::Digest;
use bytecode_image::verify::{Proof, Subject, TrustRoot};
use serde_json::{Value, json};

use crate::forge::Signer;
use crate::layout::{
    CERTIFICATE, LOG_ENTRY, Layout, SIGNATURE, Simple, TIME_STAMP, bundle_candidates, by_workflow,
    root, simple_candidates,
};
use crate::spoil::{edit_checkpoint, edit_payload, flip, with_path};
use crate::{refused, verdict};

fn check(layout: &Layout, simple: Simple, root: &TrustRoot) -> Result<Proof, String> {
    verdict(
        &layout.subject(),
        &simple_candidates(&[simple]),
        &by_workflow(),
        root,
    )
}

#[test]
fn simple_signatures_that_were_changed() {
    let layout = Layout::open("kl2");
    let other_certificate = || {
        let raw =
            Layout::open("kl3").bundle()["verificationMaterial"]["certificate"]["rawBytes"].clone();
        format!(
            "-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n",
            raw.as_str().unwrap()
        )
    };
    let entry = |simple: &mut Simple, path: &str, value: Value| {
        let mut entry = simple.log_entry();
        *entry.pointer_mut(path).unwrap() = value;
        simple.set(LOG_ENTRY, &entry.to_string());
    };
    let promise = "invalid inclusion promise";
    let unsigned = "the signature does not fit what was signed";
    type Change<'a> = &'a dyn Fn(&mut Simple);
    let cases: [(&str, Change<'_>, &str); 18] = [
        ("payload with a space", &|s| s.payload.push(b' '), unsigned),
        (
            "payload of another image",
            &|s| s.payload = Simple::payload_for(Digest::of(b"other")),
            unsigned,
        ),
        (
            "another signature",
            &|s| s.set(SIGNATURE, &STANDARD.encode(Signer::p256().sign(b"x"))),
            unsigned,
        ),
        (
            "another certificate",
            &|s| s.set(CERTIFICATE, &other_certificate()),
            unsigned,
        ),
        (
            "no log entry",
            &|s| drop(s.annotations.remove(LOG_ENTRY)),
            "no transparency log entry",
        ),
        (
            "promise",
            &|s| entry(s, "/SignedEntryTimestamp", json!("AAAA")),
            promise,
        ),
        (
            "time",
            &|s| entry(s, "/Payload/integratedTime", json!(1_795_334_132)),
            promise,
        ),
        (
            "no time",
            &|s| entry(s, "/Payload/integratedTime", json!(0)),
            "its",
        ),
        (
            "time that cannot be",
            &|s| entry(s, "/Payload/integratedTime", json!(i64::MAX)),
            "has a time that cannot be",
        ),
        (
            "number",
            &|s| entry(s, "/Payload/logIndex", json!(1)),
            promise,
        ),
        (
            "number below nought",
            &|s| entry(s, "/Payload/logIndex", json!(-1)),
            "cannot be decoded",
        ),
        (
            "log",
            &|s| entry(s, "/Payload/logID", json!("00".repeat(32))),
            "unknown transparency log",
        ),
        (
            "no log",
            &|s| entry(s, "/Payload/logID", json!("xyz")),
            "cannot be decoded",
        ),
        (
            "body",
            &|s| {
                let mut changed = s.log_entry();
                let body = STANDARD
                    .decode(changed["Payload"]["body"].as_str().unwrap())
                    .unwrap();
                let body = String::from_utf8(body).unwrap().replace("sha256", "sha512");
                changed["Payload"]["body"] = json!(STANDARD.encode(body));
                s.set(LOG_ENTRY, &changed.to_string());
            },
            promise,
        ),
        (
            "time stamp of another signature",
            &|s| {
                let stamps = &Layout::open("kl3tsa").bundle()["verificationMaterial"]["timestampVerificationData"];
                let token = &stamps["rfc3161Timestamps"][0]["signedTimestamp"];
                s.set(
                    TIME_STAMP,
                    &json!({"SignedRFC3161Timestamp": token}).to_string(),
                );
            },
            "invalid RFC 3161 timestamp",
        ),
        (
            "no time stamp",
            &|s| s.set(TIME_STAMP, "{}"),
            "the annotation `dev.sigstore.cosign/rfc3161timestamp` cannot be read",
        ),
        (
            "two certificates",
            &|s| {
                s.set(
                    CERTIFICATE,
                    &format!("{}{}", s.annotations[CERTIFICATE], other_certificate()),
                )
            },
            "has 2 certificates: at most 1 are read",
        ),
        (
            "certificate's bytes",
            &|s| {
                let changed = s.annotations[CERTIFICATE]
                    .replace("Z2l0aHVi", "Z2l0aHVj")
                    .replace("hY21l", "hY21m");
                s.set(CERTIFICATE, &changed);
            },
            "its certificate is not trusted",
        ),
    ];
    for (what, change, reason) in cases {
        let mut simple = layout.simple();
        let before = (simple.payload.clone(), simple.annotations.clone());
        change(&mut simple);
        assert_ne!(
            before,
            (simple.payload.clone(), simple.annotations.clone()),
            "{what}"
        );
        refused(
            what,
            check(&layout, simple, &root("trusted_root_tsa")),
            reason,
        );
    }
    // The chain that came along is not needed where the trust root has it, and cannot hurt.
    let mut simple = layout.simple();
    simple.annotations.remove("dev.sigstore.cosign/chain");
    assert!(check(&layout, simple, &root("trusted_root")).is_ok());
}

#[test]
fn the_payload_of_another_image_with_everything_else_of_this_one() {
    // What the URL-subject bypass of another library lets through: certificate and log entry are good, and neither is
    // about this payload.
    let layout = Layout::open("kl2");
    let evil = Digest::of(b"evil");
    let mut simple = layout.simple();
    simple.payload = Simple::payload_for(evil);
    let found = verdict(
        &Subject::of(evil),
        &simple_candidates(&[simple]),
        &by_workflow(),
        &root("trusted_root"),
    );
    refused(
        "evil payload",
        found,
        "the signature does not fit what was signed",
    );
}

#[test]
fn bundles_that_were_changed() {
    let other_entry =
        || Layout::open("k3rekor").bundle()["verificationMaterial"]["tlogEntries"][0].clone();
    let other_stamp = || {
        Layout::open("k3tsa").bundle()["verificationMaterial"]["timestampVerificationData"].clone()
    };
    let kl2_certificate = || {
        let pem = Layout::open("kl2").simple().annotations[CERTIFICATE].clone();
        json!(
            pem.lines()
                .filter(|line| !line.starts_with("-----"))
                .collect::<String>()
        )
    };
    let material = |bundle: &mut Value, path: &str, value: Value| {
        *bundle["verificationMaterial"].pointer_mut(path).unwrap() = value;
    };
    let remove = |bundle: &mut Value, path: &str, name: &str| {
        bundle["verificationMaterial"]
            .pointer_mut(path)
            .unwrap()
            .as_object_mut()
            .unwrap()
            .remove(name)
            .unwrap();
    };
    type Change<'a> = &'a dyn Fn(&mut Value);
    let promise = "invalid inclusion promise";
    let unsigned = "the signature does not fit what was signed";
    let cases: [(&str, &str, Change<'_>, &str); 25] = [
        ("kl3", "payload", &|b| edit_payload(b), unsigned),
        (
            "kl3",
            "payload type",
            &|b| b["dsseEnvelope"]["payloadType"] = json!("x"),
            "the envelope's payload type is `x`",
        ),
        (
            "kl3",
            "predicate",
            &|b| edit_predicate(b),
            "the statement's predicate is `https://slsa.dev/provenance/v1`",
        ),
        (
            "kl3",
            "signature",
            &|b| flip(&mut b["dsseEnvelope"]["signatures"][0]["sig"], 20),
            unsigned,
        ),
        (
            "kl3",
            "certificate",
            &|b| material(b, "/certificate/rawBytes", kl2_certificate()),
            unsigned,
        ),
        (
            "kl3",
            "no certificate",
            &|b| material(b, "/certificate/rawBytes", json!("AAAA")),
            "malformed certificate",
        ),
        (
            "kl3",
            "entry of another",
            &|b| material(b, "/tlogEntries/0", other_entry()),
            "log entry does not match",
        ),
        (
            "kl3",
            "no entry",
            &|b| material(b, "/tlogEntries", json!([])),
            "no transparency log entry",
        ),
        (
            "kl3tsa",
            "no entry",
            &|b| material(b, "/tlogEntries", json!([])),
            "no transparency log entry",
        ),
        (
            "kl3",
            "no proof",
            &|b| remove(b, "/tlogEntries/0", "inclusionProof"),
            "it cannot be checked",
        ),
        (
            "kl3",
            "no promise",
            &|b| remove(b, "/tlogEntries/0", "inclusionPromise"),
            "no verified timestamp",
        ),
        (
            "kl3",
            "neither",
            &|b| {
                remove(b, "/tlogEntries/0", "inclusionPromise");
                remove(b, "/tlogEntries/0", "inclusionProof");
            },
            "no transparency log entry",
        ),
        (
            "kl3",
            "time",
            &|b| material(b, "/tlogEntries/0/integratedTime", json!("1795334132")),
            promise,
        ),
        (
            "kl3",
            "number",
            &|b| material(b, "/tlogEntries/0/logIndex", json!("1")),
            promise,
        ),
        ("kl3", "promise", &|b| flip(promise_of(b), 20), promise),
        (
            "kl3",
            "path of the proof",
            &|b| material(b, "/tlogEntries/0/inclusionProof", with_path(b)),
            "invalid inclusion proof",
        ),
        (
            "kl3",
            "size of the tree",
            &|b| material(b, "/tlogEntries/0/inclusionProof/treeSize", json!("2")),
            "invalid inclusion proof",
        ),
        (
            "kl3",
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
            "kl3",
            "checkpoint",
            &|b| edit_checkpoint(b, "Timestamp: 1", "Timestamp: 2"),
            "invalid checkpoint",
        ),
        (
            "kl3",
            "checkpoint's signer",
            &|b| edit_checkpoint(b, "GaSfVz", "AAAAAA"),
            "invalid checkpoint",
        ),
        (
            "kl3",
            "no checkpoint",
            &|b| {
                material(
                    b,
                    "/tlogEntries/0/inclusionProof/checkpoint/envelope",
                    json!(""),
                )
            },
            "it cannot be checked",
        ),
        (
            "kl3tsa",
            "stamp of another",
            &|b| material(b, "/timestampVerificationData", other_stamp()),
            "invalid RFC 3161 timestamp",
        ),
        (
            "kl3tsa",
            "stamp",
            &|b| {
                let stamp = &mut b["verificationMaterial"]["timestampVerificationData"]["rfc3161Timestamps"]
                    [0]["signedTimestamp"];
                let length = STANDARD.decode(stamp.as_str().unwrap()).unwrap().len();
                flip(stamp, length - 10);
            },
            "invalid RFC 3161 timestamp",
        ),
        ("kl3tsa", "promise", &|b| flip(promise_of(b), 20), promise),
        (
            "kl3",
            "key instead of certificate",
            &|b| {
                remove(b, "", "certificate");
                b["verificationMaterial"]["publicKey"] = json!({"hint": ""});
            },
            "it was made with a key, and the policy lists only identities",
        ),
    ];
    for (name, what, change, reason) in cases {
        let layout = Layout::open(name);
        let mut bundle = layout.bundle();
        change(&mut bundle);
        assert_ne!(bundle, layout.bundle(), "{what}");
        let found = verdict(
            &layout.subject(),
            &bundle_candidates(&bundle),
            &by_workflow(),
            &root("trusted_root_tsa"),
        );
        refused(&format!("{name}: {what}"), found, reason);
    }
}

fn promise_of(bundle: &mut Value) -> &mut Value {
    &mut bundle["verificationMaterial"]["tlogEntries"][0]["inclusionPromise"]["signedEntryTimestamp"]
}

fn edit_predicate(bundle: &mut Value) {
    let payload = STANDARD
        .decode(bundle["dsseEnvelope"]["payload"].as_str().unwrap())
        .unwrap();
    let mut statement: Value = serde_json::from_slice(&payload).unwrap();
    statement["predicateType"] = json!("https://slsa.dev/provenance/v1");
    bundle["dsseEnvelope"]["payload"] = json!(STANDARD.encode(statement.to_string()));
}
