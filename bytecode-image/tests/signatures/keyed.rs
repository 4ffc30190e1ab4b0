//! Signatures with a key.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytecode_image::digest::Digest;
use bytecode_image::verify::{Candidate, PublicKey, Subject, TrustRoot};
use serde_json::{Value, json};

use crate::forge::{IN_TOTO, Log, Signer, hashed_rekord, pae, statement, statement_of};
use crate::layout::{
    LOG_ENTRY, Layout, SIGNATURE, Simple, bundle_candidates, by_key, bytes_candidates, mock_root,
    policy, read, root, simple_candidates,
};
use crate::{refused, summary, verdict};

const NO_KEY: &str = "it is by none of the policy's 1 keys, or what was signed was changed";

/// What `openssl dgst -sha256 -sign` made with a P-384 key, which is how cosign 2 signs with one; the crate that makes
/// the other keys of these tests cannot.
const P384_KEY: &str = "\
-----BEGIN PUBLIC KEY-----
MHYwEAYHKoZIzj0CAQYFK4EEACIDYgAE4DzuDIxYWCnRHicGDxiOc2ZJD9A67wLS
vJORZma2hSRaqNnySLRXbc3WsXg9qBzBbEMVBoX1K6AsaCl+f0cA9InIP7ESRF1X
o3Ncx3911L0g31qTVrQKjiqasjTbZd0P
-----END PUBLIC KEY-----
";
const P384_PAYLOAD: &str = r#"{"critical":{"identity":{"docker-reference":"quay.io/acme/app"},"image":{"docker-manifest-digest":"sha256:6105d6cc76af400325e94d588ce511be5bfdbb73b437dc51eca43917d7a43e3d"},"type":"cosign container image signature"},"optional":null}"#;
const P384_SIGNATURE: &str = "MGUCMHRna7eh9ELh1FpFluk8xqk7CZ5iHSoedVWB+8fB5wQcAJ7vEDoROXUAdGFCZqVxkgIxAMORG35bU8/HIKFcLG/RdR7N6sNj41CmDYZuXWF/iHH4ENSq4rLWDKCxSimVLAyThg==";

fn image() -> Digest {
    Digest::of(b"image")
}

/// A signature in cosign 2's form, and a bundle, by this key.
fn both_forms(signer: &Signer) -> [(&'static str, Vec<Candidate>); 2] {
    let payload = Simple::payload_for(image());
    let simple = Simple::new(&payload, &signer.sign(&payload));
    let bundle = signer.bundle(IN_TOTO, &statement(image()));
    [
        ("cosign 2", simple_candidates(&[simple])),
        ("bundle", bundle_candidates(&bundle)),
    ]
}

#[test]
fn every_kind_of_key() {
    let mut signers = vec![
        ("ECDSA P-256", Signer::p256()),
        ("ECDSA P-384", Signer::p384()),
        ("Ed25519", Signer::ed25519()),
    ];
    signers.extend(Signer::rsa().into_iter().map(|(_, signer)| ("RSA", signer)));
    let subject = Subject::of(image());
    let keys: Vec<PublicKey> = signers.iter().map(|(_, signer)| signer.key()).collect();
    for (kind, signer) in &signers {
        for (form, candidates) in both_forms(signer) {
            let proof = verdict(
                &subject,
                &candidates,
                &policy(&[signer.key()], &[]),
                &root("builtin"),
            );
            assert!(summary(&proof.unwrap()).starts_with(kind), "{form}");
            // Among others it is found, and without it nothing is.
            assert!(
                verdict(&subject, &candidates, &policy(&keys, &[]), &root("builtin")).is_ok(),
                "{kind} {form}"
            );
            let others: Vec<_> = keys
                .iter()
                .filter(|key| **key != signer.key())
                .cloned()
                .collect();
            let found = verdict(
                &subject,
                &candidates,
                &policy(&others, &[]),
                &root("builtin"),
            );
            refused(kind, found, "it is by none of the policy's");
        }
    }
}

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
fn cosign_2_signatures_with_a_log_entry() {
    let p384 = Simple::new(
        P384_PAYLOAD.as_bytes(),
        &STANDARD.decode(P384_SIGNATURE).unwrap(),
    );
    let mut signed = vec![("ECDSA P-384", P384_KEY.to_owned(), p384)];
    for (kind, signer) in [
        ("ECDSA P-256", Signer::p256()),
        ("ECDSA P-384", Signer::p384()),
        ("Ed25519", Signer::ed25519()),
    ] {
        let payload = Simple::payload_for(image());
        signed.push((
            kind,
            signer.pem.clone(),
            Simple::new(&payload, &signer.sign(&payload)),
        ));
    }
    for (kind, pem, simple) in signed {
        with_and_without_a_log_entry(kind, &pem, simple);
    }
}

fn with_and_without_a_log_entry(kind: &str, pem: &str, mut simple: Simple) {
    let log = Log::new();
    let (known, unknown) = (log.trusted(mock_root("trusted_root")), root("builtin"));
    let policy = policy(&[PublicKey::from_pem(pem.as_bytes()).unwrap()], &[]);
    let check = |simple: &Simple, root: &TrustRoot| {
        let candidates = simple_candidates(std::slice::from_ref(simple));
        verdict(&Subject::of(image()), &candidates, &policy, root)
    };
    assert_eq!(
        summary(&check(&simple, &known).unwrap()),
        format!("{kind} cosign2")
    );
    let (payload, signature) = (simple.payload.clone(), simple.signature());
    let body = hashed_rekord(&payload, &signature, pem);
    simple.set(LOG_ENTRY, &log.annotation(&body, 1_700_000_000, 5));
    let found = summary(&check(&simple, &known).unwrap());
    assert_eq!(
        found,
        format!("{kind} cosign2 log:2023-11-14T22:13:20Z #5 https://log.test")
    );
    assert_eq!(
        summary(&check(&simple, &unknown).unwrap()),
        format!("{kind} cosign2 unknown-log")
    );

    let stranger = Signer::p256();
    for (what, body) in [
        ("another payload", hashed_rekord(b"other", &signature, pem)),
        (
            "another signature",
            hashed_rekord(&payload, &stranger.sign(b"other"), pem),
        ),
        (
            "another key",
            hashed_rekord(&payload, &signature, &stranger.pem),
        ),
    ] {
        let mut simple = simple.clone();
        simple.set(LOG_ENTRY, &log.annotation(&body, 1_700_000_000, 5));
        for root in [&known, &unknown] {
            refused(
                what,
                check(&simple, root),
                "its transparency log entry proves nothing about it",
            );
        }
    }
    let mut entry = simple.log_entry();
    entry["Payload"]["integratedTime"] = json!(1_700_000_001);
    simple.set(LOG_ENTRY, &entry.to_string());
    refused("time", check(&simple, &known), "invalid inclusion promise");
}

#[test]
fn an_entry_for_an_unusual_scheme_is_not_counted() {
    let log = Log::new();
    let trust_root = log.trusted(mock_root("trusted_root"));
    for (name, signer) in Signer::rsa() {
        let payload = Simple::payload_for(image());
        let mut simple = Simple::new(&payload, &signer.sign(&payload));
        let body = hashed_rekord(&payload, &simple.signature(), &signer.pem);
        simple.set(LOG_ENTRY, &log.annotation(&body, 1_700_000_000, 5));
        let candidates = simple_candidates(&[simple]);
        let proof = verdict(
            &Subject::of(image()),
            &candidates,
            &policy(&[signer.key()], &[]),
            &trust_root,
        )
        .unwrap();
        let expected = match name {
            "pkcs1 sha256" => "RSA cosign2 log:2023-11-14T22:13:20Z #5 https://log.test",
            _ => "RSA cosign2 UnusualScheme",
        };
        assert_eq!(summary(&proof), expected, "{name}");
    }
}

#[test]
fn an_entry_of_rekor_v2() {
    let log = Log::new();
    let trust_root = log.trusted(mock_root("trusted_root"));
    let signer = Signer::p256();
    let policy = policy(&[signer.key()], &[]);
    let payload = statement(image());
    let mut bundle = signer.bundle(IN_TOTO, &payload);
    let signature = bundle["dsseEnvelope"]["signatures"][0]["sig"]
        .as_str()
        .unwrap()
        .to_owned();
    let signature = STANDARD.decode(signature).unwrap();
    let message = pae(IN_TOTO, &payload);
    let stranger = Signer::p256();
    let good = log.entry_v2(&message, &signature, ("publicKey", signer.spki()));
    bundle["verificationMaterial"]["tlogEntries"] = json!([good]);
    let check = |bundle: &Value, root: &TrustRoot| {
        verdict(
            &Subject::of(image()),
            &bundle_candidates(bundle),
            &policy,
            root,
        )
    };
    assert_eq!(
        summary(&check(&bundle, &trust_root).unwrap()),
        "ECDSA P-256 bundle #0 https://log.test"
    );
    let found = summary(&check(&bundle, &root("trusted_root")).unwrap());
    assert_eq!(found, "ECDSA P-256 bundle unknown-log");
    let mut unsigned = good.clone();
    unsigned["inclusionProof"]["checkpoint"]["envelope"] = json!(
        good["inclusionProof"]["checkpoint"]["envelope"]
            .as_str()
            .unwrap()
            .replace("log.test\n1", "log.test\n2")
    );
    for (what, entry, reason) in [
        (
            "message",
            log.entry_v2(b"other", &signature, ("publicKey", signer.spki())),
            "proves nothing about it",
        ),
        (
            "signature",
            log.entry_v2(&message, b"other", ("publicKey", signer.spki())),
            "proves nothing about it",
        ),
        (
            "key",
            log.entry_v2(&message, &signature, ("publicKey", stranger.spki())),
            "proves nothing about it",
        ),
        ("checkpoint", unsigned, "invalid inclusion proof"),
        (
            "another log",
            Log::new().entry_v2(b"other", &signature, ("publicKey", signer.spki())),
            "proves nothing",
        ),
    ] {
        bundle["verificationMaterial"]["tlogEntries"] = json!([entry]);
        refused(what, check(&bundle, &trust_root), reason);
    }
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
    let cases: [(&str, Change<'_>, &str); 11] = [
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
            "the annotation `dev.cosignproject.cosign/signature` cannot be decoded",
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
            "dsse entry",
            &|s| {
                let mut entry = Layout::open("kl2").simple().log_entry();
                let dsse = &Layout::open("kl3").bundle()["verificationMaterial"]["tlogEntries"][0];
                entry["Payload"]["body"] = dsse["canonicalizedBody"].clone();
                s.set(LOG_ENTRY, &entry.to_string());
            },
            "the log entry is of kind `dsse 0.0.1`",
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
fn keys_that_cannot_be() {
    let good = read("good.pub");
    let text = String::from_utf8(good.clone()).unwrap();
    let spki = |der: &[u8]| {
        format!(
            "-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n",
            STANDARD.encode(der)
        )
    };
    let certificate =
        Layout::open("kl2").simple().annotations["dev.sigstore.cosign/certificate"].clone();
    let cases = [
        (String::new(), "there is no PEM block"),
        ("\u{feff}hello".to_owned(), "there is no PEM block"),
        (format!("{text}{text}"), "there are 2 PEM blocks"),
        (
            String::from_utf8(read("good.key")).unwrap(),
            "this is a private key (`ENCRYPTED SIGSTORE PRIVATE KEY`)",
        ),
        (certificate, "the PEM block is a `CERTIFICATE`"),
        (
            text.replace("MFkw", "****"),
            "the PEM block cannot be decoded",
        ),
        (spki(b"no DER"), "the key cannot be used"),
        // Ed448.
        (
            spki(&[
                0x30, 0x0a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x71, 0x03, 0x01, 0x00,
            ]),
            "the key cannot be used",
        ),
        (" ".repeat((16 << 10) + 1), "the key has 16385 bytes"),
    ];
    for (text, reason) in cases {
        let error = PublicKey::from_pem(text.as_bytes())
            .unwrap_err()
            .to_string();
        assert!(error.starts_with(reason), "{text}\n{error}");
    }
    assert!(PublicKey::from_pem(b"\xff\xfe").is_err());
    let weak = rsa_1024();
    let error = PublicKey::from_pem(spki(&weak).as_bytes())
        .unwrap_err()
        .to_string();
    assert!(error.starts_with("the key cannot be used"), "{error}");
    let windows = text.replace('\n', "\r\n");
    assert_eq!(
        PublicKey::from_pem(windows.as_bytes()).unwrap(),
        PublicKey::from_pem(&good).unwrap()
    );
}

/// A SubjectPublicKeyInfo of RSA with a modulus of 1024 bits.
fn rsa_1024() -> Vec<u8> {
    let mut key = vec![
        0x30, 0x81, 0x9f, 0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01,
        0x01,
    ];
    key.extend([
        0x05, 0x00, 0x03, 0x81, 0x8d, 0x00, 0x30, 0x81, 0x89, 0x02, 0x81, 0x81, 0x00, 0xc1,
    ]);
    key.extend([0x01; 127]);
    key.extend([0x02, 0x03, 0x01, 0x00, 0x01]);
    key
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

/// Changes one byte of base64 content.
pub(crate) fn flip(value: &mut Value, at: usize) {
    let mut bytes = STANDARD.decode(value.as_str().unwrap()).unwrap();
    bytes[at] ^= 1;
    *value = json!(STANDARD.encode(bytes));
}

/// Changes the digest that the envelope's statement names.
pub(crate) fn edit_payload(bundle: &mut Value) {
    let payload = STANDARD
        .decode(bundle["dsseEnvelope"]["payload"].as_str().unwrap())
        .unwrap();
    let mut statement: Value = serde_json::from_slice(&payload).unwrap();
    // A digest beside the right one, so that only the signature can tell.
    let subjects = statement["subject"].as_array_mut().unwrap();
    let mut other = subjects[0].clone();
    other["digest"]["sha256"] = json!(Digest::of(b"other").hex());
    subjects.push(other);
    bundle["dsseEnvelope"]["payload"] = json!(STANDARD.encode(statement.to_string()));
}

/// The first entry's proof with a hash too many.
pub(crate) fn with_path(bundle: &Value) -> Value {
    let mut proof = bundle["verificationMaterial"]["tlogEntries"][0]["inclusionProof"].clone();
    proof["hashes"] = json!([STANDARD.encode([1; 32])]);
    proof
}

pub(crate) fn edit_checkpoint(bundle: &mut Value, from: &str, to: &str) {
    let checkpoint = &mut bundle["verificationMaterial"]["tlogEntries"][0]["inclusionProof"]["checkpoint"]
        ["envelope"];
    let text = checkpoint.as_str().unwrap();
    assert!(text.contains(from));
    *checkpoint = json!(text.replacen(from, to, 1));
}
