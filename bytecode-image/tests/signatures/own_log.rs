//! What the fixtures' log did not write: entries of a log of our own, of both generations.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytecode_image::verify::{Proof, Subject, TrustRoot};
use serde_json::{Value, json};

use crate::forge::{IN_TOTO, Log, Signer, hashed_rekord, image, pae, statement};
use crate::layout::{
    CERTIFICATE, LOG_ENTRY, Layout, Simple, bundle_candidates, by_workflow, mock_root, policy,
    root, simple_candidates,
};
use crate::{refused, summary, verdict};

/// When the fixtures' certificates end, and a second in their life.
const END: i64 = 1_795_334_731;

const MEANWHILE: i64 = 1_795_334_200;

fn check(layout: &Layout, simple: Simple, root: &TrustRoot) -> Result<Proof, String> {
    verdict(
        &layout.subject(),
        &simple_candidates(&[simple]),
        &by_workflow(),
        root,
    )
}

#[test]
fn log_entries_of_our_own_log() {
    let layout = Layout::open("kl2");
    let log = Log::new();
    let trust_root = log.trusted(mock_root("trusted_root"));
    let simple = layout.simple();
    let (payload, signature, certificate) = (
        &simple.payload,
        simple.signature(),
        &simple.annotations[CERTIFICATE],
    );
    let with = |body: &Value, time| {
        let mut simple = simple.clone();
        simple.set(LOG_ENTRY, &log.annotation(body, time, 9));
        check(&layout, simple, &trust_root)
    };
    let good = hashed_rekord(payload, &signature, certificate);
    let found = summary(&with(&good, MEANWHILE).unwrap());
    assert_eq!(
        found,
        "workflow cosign2 log:2026-11-22T07:56:40Z #9 https://log.test"
    );
    // The life of the certificate, to the second.
    assert!(with(&good, END - 600).is_ok());
    assert!(with(&good, END).is_ok());
    for time in [END - 601, END + 1, 1_600_000_000] {
        refused("time", with(&good, time), "its certificate is not trusted");
    }
    let pem = Signer::p256().pem;
    for (what, body) in [
        (
            "another payload",
            hashed_rekord(b"other", &signature, certificate),
        ),
        (
            "another signature",
            hashed_rekord(payload, b"other", certificate),
        ),
        (
            "a key instead of the certificate",
            hashed_rekord(payload, &signature, &pem),
        ),
    ] {
        refused(
            what,
            with(&body, MEANWHILE),
            "its transparency log entry proves nothing about it",
        );
    }
    // Before the log was trusted.
    let mut early = mock_root("trusted_root");
    early["tlogs"][0]["publicKey"]["validFor"]["start"] = json!("2026-11-22T08:00:00Z");
    let early = TrustRoot::from_json(early.to_string().as_bytes()).unwrap();
    refused(
        "log's window",
        check(&layout, simple.clone(), &early),
        "No log key valid at integrated time",
    );
}

/// The body of a `dsse` entry of Rekor v1 for the bundle, as the fixture's log wrote it.
fn body(bundle: &Value) -> Value {
    let body = bundle["verificationMaterial"]["tlogEntries"][0]["canonicalizedBody"]
        .as_str()
        .unwrap();
    serde_json::from_slice(&STANDARD.decode(body).unwrap()).unwrap()
}

#[test]
fn entries_outside_of_the_certificates_life() {
    let log = Log::new();
    let trust_root = log.trusted(mock_root("trusted_root_tsa"));
    for name in ["kl3", "kl3tsa"] {
        let layout = Layout::open(name);
        let with = |time| {
            let mut bundle = layout.bundle();
            bundle["verificationMaterial"]["tlogEntries"] =
                json!([log.entry_v1(&body(&bundle), time)]);
            verdict(
                &layout.subject(),
                &bundle_candidates(&bundle),
                &by_workflow(),
                &trust_root,
            )
        };
        assert!(with(MEANWHILE).is_ok(), "{name}");
        // A good time stamp does not make up for a log entry of another time.
        for time in [END - 601, END + 1] {
            refused(name, with(time), "its certificate is not trusted");
        }
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
fn rekor_v2_with_a_time_stamp() {
    // Certificate, signature and time stamp of the fixture, in a log of our own of the newer kind.
    let layout = Layout::open("kl3tsa");
    let log = Log::new();
    let trust_root = log.trusted(mock_root("trusted_root_tsa"));
    let bundle = layout.bundle();
    let decode = |value: &Value| STANDARD.decode(value.as_str().unwrap()).unwrap();
    let message = pae(IN_TOTO, &decode(&bundle["dsseEnvelope"]["payload"]));
    let signature = decode(&bundle["dsseEnvelope"]["signatures"][0]["sig"]);
    let certificate = decode(&bundle["verificationMaterial"]["certificate"]["rawBytes"]);
    let with = |entry: Value| {
        let mut bundle = bundle.clone();
        bundle["verificationMaterial"]["tlogEntries"] = json!([entry]);
        bundle
    };
    let check = |bundle: &Value, root: &TrustRoot| {
        verdict(
            &layout.subject(),
            &bundle_candidates(bundle),
            &by_workflow(),
            root,
        )
    };
    let good = with(log.entry_v2(&message, &signature, ("x509Certificate", &certificate)));
    let found = summary(&check(&good, &trust_root).unwrap());
    assert_eq!(
        found,
        "workflow bundle authority:2026-11-22T07:55:31Z #0 https://log.test"
    );

    let stranger = Signer::p256();
    for (what, entry) in [
        (
            "message",
            log.entry_v2(b"other", &signature, ("x509Certificate", &certificate)),
        ),
        (
            "signature",
            log.entry_v2(&message, b"other", ("x509Certificate", &certificate)),
        ),
        (
            "key",
            log.entry_v2(&message, &signature, ("publicKey", stranger.spki())),
        ),
        (
            "unknown log",
            Log::new().entry_v2(&message, &signature, ("x509Certificate", &certificate)),
        ),
    ] {
        refused(
            what,
            check(&with(entry), &trust_root),
            "its transparency log entry proves nothing about it",
        );
    }
    // Such an entry has no time of its own.
    let mut untimed = good.clone();
    untimed["verificationMaterial"]["timestampVerificationData"] = json!({});
    refused(
        "no time stamp",
        check(&untimed, &trust_root),
        "its time is not proven",
    );
    let mut claimed = untimed.clone();
    claimed["verificationMaterial"]["tlogEntries"][0]["integratedTime"] =
        json!(MEANWHILE.to_string());
    refused(
        "time that nobody signed",
        check(&claimed, &trust_root),
        "its time is not proven",
    );
}
