//! Keys of every kind, with and without log entries, and what is no key.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytecode_image::verify::{Candidate, PublicKey, Subject, TrustRoot};
use serde_json::json;

use crate::forge::{IN_TOTO, Log, Signer, hashed_rekord, image, statement};
use crate::layout::{
    LOG_ENTRY, Layout, Simple, bundle_candidates, mock_root, policy, read, root, simple_candidates,
};
use crate::{refused, summary, verdict};

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

/// What RSA keys look like by PKCS #1 (`openssl rsa -RSAPublicKey_out`), and what hints at other forms.
#[test]
fn rsa_keys_by_pkcs_1_are_the_same_keys() {
    for (_, signer) in Signer::rsa() {
        let spki = STANDARD
            .decode(
                signer
                    .pem
                    .lines()
                    .filter(|line| !line.starts_with('-'))
                    .collect::<String>(),
            )
            .unwrap();
        // The bit string's content follows 24 bytes: two headers of four and three bytes more, and the algorithm.
        let start = spki
            .windows(4)
            .position(|part| part[..2] == [0x03, 0x82])
            .unwrap()
            + 5;
        let pem = |label: &str, body: &[u8]| {
            format!(
                "-----BEGIN {label}-----\n{}\n-----END {label}-----\n",
                STANDARD.encode(body)
            )
        };
        let key = PublicKey::from_pem(pem("RSA PUBLIC KEY", &spki[start..]).as_bytes()).unwrap();
        assert_eq!(key, signer.key());
        for (label, body) in [
            ("RSA PUBLIC KEY", &spki[..]),
            ("PUBLIC KEY", &spki[start..]),
        ] {
            assert!(
                PublicKey::from_pem(pem(label, body).as_bytes()).is_err(),
                "{label}"
            );
        }
    }
    let short = "-----BEGIN RSA PUBLIC KEY-----\nAAAA\n-----END RSA PUBLIC KEY-----\n";
    assert!(PublicKey::from_pem(short.as_bytes()).is_err());
}

#[test]
fn other_forms_of_keys_have_a_hint() {
    let pem = |label: &str| {
        format!("-----BEGIN {label}-----\nAAAA\n-----END {label}-----\n").into_bytes()
    };
    let cases: [(Vec<u8>, Option<&str>); 10] = [
        (
            pem("CERTIFICATE"),
            Some("openssl x509 -in k -noout -pubkey"),
        ),
        (
            pem("TRUSTED CERTIFICATE"),
            Some("openssl x509 -in k -noout -pubkey"),
        ),
        (
            pem("ENCRYPTED SIGSTORE PRIVATE KEY"),
            Some("cosign public-key --key k"),
        ),
        (
            pem("ENCRYPTED COSIGN PRIVATE KEY"),
            Some("cosign public-key --key k"),
        ),
        (
            pem("OPENSSH PRIVATE KEY"),
            Some("ssh-keygen -e -m PKCS8 -f k"),
        ),
        (pem("EC PRIVATE KEY"), Some("openssl pkey -in k -pubout")),
        (
            b"ssh-rsa AAAA x".to_vec(),
            Some("ssh-keygen -e -m PKCS8 -f k"),
        ),
        (
            vec![0x30, 0x59, 0x30, 0x13, 0x06],
            Some("openssl pkey -pubin -inform DER -in k"),
        ),
        (
            [pem("PUBLIC KEY"), pem("PUBLIC KEY")].concat(),
            Some("a file of its own"),
        ),
        (b"no key".to_vec(), None),
    ];
    for (bytes, expected) in cases {
        let hint = PublicKey::from_pem(&bytes)
            .unwrap_err()
            .hint(std::path::Path::new("k"));
        let text = String::from_utf8_lossy(&bytes);
        assert_eq!(hint.is_some(), expected.is_some(), "{text}");
        assert!(
            hint.unwrap_or_default()
                .contains(expected.unwrap_or_default()),
            "{text}"
        );
    }
}

/// Base64 of an annotation, as `cosign attach signature` stores what it is given, and as Go reads it.
#[test]
fn signatures_in_lines_are_read_as_go_reads_them() {
    let signer = Signer::p256();
    let payload = Simple::payload_for(image());
    let text = STANDARD.encode(signer.sign(&payload));
    let lines = |end: &str| {
        let (first, rest) = text.split_at(64);
        format!("{first}{end}{rest}{end}")
    };
    for (written, taken) in [
        (text.clone(), true),
        (lines("\n"), true),
        (lines("\r\n"), true),
        (format!("\n{text}"), true),
        (format!("{text} "), false),
        (lines(" "), false),
        (lines("\t"), false),
        (format!("{text}="), false),
    ] {
        let mut simple = Simple::new(&payload, b"");
        simple.set("dev.cosignproject.cosign/signature", &written);
        let candidates = simple_candidates(std::slice::from_ref(&simple));
        let policy = policy(&[signer.key()], &[]);
        let found = verdict(
            &Subject::of(image()),
            &candidates,
            &policy,
            &root("builtin"),
        );
        match (found, taken) {
            (Ok(_), true) => {}
            (found, false) => refused(&written, found, "is not base64"),
            (Err(error), true) => panic!("{written:?}: {error:?}"),
        }
    }
}
