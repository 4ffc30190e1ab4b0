//! Signatures that the real cosign 2.5 and 3.1 made (`tests/fixtures/signatures`), then each of them spoiled, then
//! what the fixtures do not have. No network, no clock: times are those of the signatures.

// These are tests whole; the lints know only the functions that say so.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]

mod forge;
mod keyed;
mod keyless;
mod keys;
mod layout;
mod many;
mod not_counted;
mod own_ca;
mod own_log;
mod spoil;
mod trust;

use bytecode_image::digest::{Digest, VerifiedBytes};
use bytecode_image::verify::{
    Candidate, Covered, Format, NotCounted, Policy, Proof, Signer, Subject, TimeSource, TrustRoot,
    verify,
};
use layout::{ISSUER, Layout, WORKFLOW, by_key, by_workflow, key, policy, root};

/// The verdict as one text: what was proven, or the refusal with its reasons.
pub(crate) fn verdict(
    subject: &Subject,
    candidates: &[Candidate],
    policy: &Policy,
    trust_root: &TrustRoot,
) -> Result<Proof, String> {
    verify(subject, candidates, policy, trust_root).map_err(|error| error.to_string())
}

/// That a verdict is a refusal for this reason.
#[track_caller]
pub(crate) fn refused(name: &str, verdict: Result<Proof, String>, reason: &str) {
    match verdict {
        Ok(proof) => panic!("{name}: accepted: {proof:?}"),
        Err(error) => assert!(
            error.contains(reason),
            "{name}\n expected: {reason}\n found:    {error}"
        ),
    }
}

/// Who signed, when by whom, the log entry, and what was not counted.
pub(crate) fn summary(proof: &Proof) -> String {
    let signer = match &proof.signer {
        Signer::Key { algorithm, .. } => algorithm.to_string(),
        Signer::Identity { issuer, subject }
            if (issuer.as_str(), subject.as_str()) == (ISSUER, WORKFLOW) =>
        {
            "workflow".to_owned()
        }
        signer => format!("{signer:?}"),
    };
    let form = match proof.place.format {
        Format::SimpleSigning => "cosign2",
        Format::Bundle => "bundle",
    };
    let times = proof.times.iter().map(|time| {
        let source = match time.source {
            TimeSource::Log => "log",
            TimeSource::Authority => "authority",
        };
        format!(" {source}:{}", time.at)
    });
    let log = proof
        .log
        .iter()
        .map(|entry| format!(" #{} {}", entry.index, entry.log));
    let not_counted = proof.not_counted.iter().map(|not| match not {
        NotCounted::UnknownLog { .. } => " unknown-log".to_owned(),
        NotCounted::UnsupportedEntry { kind } => format!(" [{kind}]"),
        not => format!(" {not:?}"),
    });
    format!(
        "{signer} {form}{}",
        times.chain(log).chain(not_counted).collect::<String>()
    )
}

#[test]
fn every_fixture_as_its_table_says() {
    const UNSIGNED: &str = "has no signature";
    const NO_KEY: &str = "it is by none of the policy's 1 keys, or what was signed was changed";
    const MOCK_LOG: &str = "http://127.0.0.1:7101";
    let kl2 = format!("workflow cosign2 log:2026-11-22T07:55:31Z #6324898 {MOCK_LOG}");
    let kl3 = format!("workflow bundle log:2026-11-22T07:55:31Z #4800086 {MOCK_LOG}");
    let kl3tsa = "workflow bundle authority:2026-11-22T07:55:31Z log:2026-11-22T07:55:31Z";
    let k3rekor = format!("ECDSA P-256 bundle log:2026-11-22T07:55:32Z #8439346 {MOCK_LOG}");
    let both = || {
        policy(
            &[key("other"), key("good")],
            &[(ISSUER, Some(WORKFLOW), None)],
        )
    };
    let cases: [(&str, Policy, &str, Result<&str, &str>); 36] = [
        ("unsigned", by_key("good"), "builtin", Err(UNSIGNED)),
        ("unsigned", by_workflow(), "trusted_root", Err(UNSIGNED)),
        (
            "signed",
            by_key("good"),
            "builtin",
            Ok("ECDSA P-256 cosign2"),
        ),
        ("signed", both(), "trusted_root", Ok("ECDSA P-256 cosign2")),
        ("signed", by_key("other"), "builtin", Err(NO_KEY)),
        (
            "signed",
            by_workflow(),
            "trusted_root",
            Err("it was made with a key, and the policy lists only identities"),
        ),
        ("wrongkey", by_key("good"), "builtin", Err(NO_KEY)),
        (
            "wrongkey",
            by_key("other"),
            "builtin",
            Ok("ECDSA P-256 cosign2"),
        ),
        ("v3", by_key("good"), "builtin", Ok("ECDSA P-256 bundle")),
        ("v3", by_key("other"), "builtin", Err(NO_KEY)),
        (
            "v3",
            by_workflow(),
            "trusted_root",
            Err("it was made with a key, and the policy lists only identities"),
        ),
        ("both", by_key("good"), "builtin", Ok("ECDSA P-256 cosign2")),
        ("both", by_key("other"), "builtin", Err(NO_KEY)),
        ("evilkey", by_key("good"), "builtin", Err(NO_KEY)),
        (
            "evilkeycopy",
            by_key("good"),
            "builtin",
            Err("it is a signature of sha256:497d652260d0c7c4"),
        ),
        ("kl2", by_workflow(), "trusted_root", Ok(&kl2)),
        ("kl2", by_workflow(), "trusted_root_tsa", Ok(&kl2)),
        ("kl2", both(), "trusted_root", Ok(&kl2)),
        (
            "kl2",
            by_key("good"),
            "trusted_root",
            Err("it was made with a certificate, and the policy lists only keys"),
        ),
        (
            "kl2",
            by_workflow(),
            "builtin",
            Err("unknown transparency log"),
        ),
        ("kl3", by_workflow(), "trusted_root", Ok(&kl3)),
        ("kl3", by_workflow(), "trusted_root_tsa", Ok(&kl3)),
        (
            "kl3",
            by_key("good"),
            "trusted_root",
            Err("it was made with a certificate, and the policy lists only keys"),
        ),
        (
            "kl3",
            by_workflow(),
            "builtin",
            Err("unknown transparency log"),
        ),
        ("kl3tsa", by_workflow(), "trusted_root_tsa", Ok(kl3tsa)),
        (
            "kl3tsa",
            by_workflow(),
            "trusted_root",
            Err("no timestamp authorities configured"),
        ),
        (
            "kl3tsa",
            by_workflow(),
            "builtin",
            Err("unknown transparency log"),
        ),
        ("k3rekor", by_key("good"), "trusted_root", Ok(&k3rekor)),
        (
            "k3rekor",
            by_key("good"),
            "builtin",
            Ok("ECDSA P-256 bundle unknown-log"),
        ),
        ("k3rekor", by_key("other"), "trusted_root", Err(NO_KEY)),
        (
            "k3rekor",
            by_workflow(),
            "trusted_root",
            Err("it was made with a key, and the policy lists only identities"),
        ),
        (
            "k3tsa",
            by_key("good"),
            "trusted_root_tsa",
            Ok("ECDSA P-256 bundle authority:2026-11-22T07:55:3"),
        ),
        (
            "k3tsa",
            by_key("good"),
            "trusted_root",
            Ok("ECDSA P-256 bundle UnknownAuthority"),
        ),
        (
            "k3tsa",
            by_key("good"),
            "builtin",
            Ok("ECDSA P-256 bundle UnknownAuthority"),
        ),
        ("k3tsa", by_key("other"), "trusted_root_tsa", Err(NO_KEY)),
        (
            "k3tsa",
            both(),
            "trusted_root_tsa",
            Ok("ECDSA P-256 bundle authority:2026-11-22T07:55:3"),
        ),
    ];
    for (name, policy, trust_root, expected) in cases {
        let layout = Layout::open(name);
        let found = verdict(
            &layout.subject(),
            &layout.candidates(),
            &policy,
            &root(trust_root),
        );
        match expected {
            Err(reason) => refused(name, found, reason),
            Ok(expected) => {
                let proof =
                    found.unwrap_or_else(|error| panic!("{name} with {trust_root}: {error}"));
                let summary = summary(&proof);
                assert!(
                    summary.starts_with(expected),
                    "{name}\n expected: {expected}\n found:    {summary}"
                );
                assert_eq!(proof.covered, Covered::Manifest(layout.image()), "{name}");
            }
        }
    }
}

#[test]
fn each_form_of_both_suffices() {
    let layout = Layout::open("both");
    let candidates = layout.candidates();
    let [one, other] = candidates.as_slice() else {
        panic!("{candidates:?}")
    };
    let forms = [one, other].map(|candidate| {
        let candidate = std::slice::from_ref(candidate);
        verdict(
            &layout.subject(),
            candidate,
            &by_key("good"),
            &root("builtin"),
        )
        .unwrap()
        .place
        .format
    });
    assert_eq!(forms, [Format::SimpleSigning, Format::Bundle]);
}

#[test]
fn the_signer_of_a_key_is_its_fingerprint() {
    let layout = Layout::open("signed");
    let proof = verdict(
        &layout.subject(),
        &layout.candidates(),
        &by_key("good"),
        &root("builtin"),
    )
    .unwrap();
    let Signer::Key { fingerprint, .. } = proof.signer else {
        panic!("{proof:?}")
    };
    // openssl pkey -pubin -in good.pub -outform DER | sha256sum
    assert_eq!(
        fingerprint.hex(),
        "22b1e994d24a27e055a677fa2db87d3dc78adb8a469813d170033ffe0fbc415c"
    );
}

#[test]
fn a_signature_of_another_image_is_none_of_this_one() {
    for (name, policy) in [
        ("signed", by_key("good")),
        ("v3", by_key("good")),
        ("kl2", by_workflow()),
        ("kl3", by_workflow()),
    ] {
        let candidates = Layout::open(name).candidates();
        let subject = Subject::of(Digest::of(b"another image"));
        refused(
            name,
            verdict(&subject, &candidates, &policy, &root("trusted_root")),
            "it is a signature of sha256:",
        );
    }
}

#[test]
fn a_signature_of_the_index_covers_its_platforms() {
    // The fixture's image stands for an index that names another manifest; the signature is of the index.
    let signer = forge::Signer::p256();
    let manifest = Digest::of(b"a platform");
    let index = format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[{{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"{manifest}","size":1}}]}}"#
    );
    let subject = Subject::in_index(&VerifiedBytes::hash(index.clone()), manifest).unwrap();
    let policy = policy(&[signer.key()], &[]);
    let whole = Digest::of(index.as_bytes());
    for (signed, expected) in [
        (whole, Covered::Index(whole)),
        (manifest, Covered::Manifest(manifest)),
    ] {
        let candidates =
            layout::bundle_candidates(&signer.bundle(forge::IN_TOTO, &forge::statement(signed)));
        assert_eq!(
            verdict(&subject, &candidates, &policy, &root("builtin"))
                .unwrap()
                .covered,
            expected
        );
        let payload = layout::Simple::payload_for(signed);
        let simple = layout::Simple::new(&payload, &signer.sign(&payload));
        let candidates = layout::simple_candidates(&[simple]);
        assert_eq!(
            verdict(&subject, &candidates, &policy, &root("builtin"))
                .unwrap()
                .covered,
            expected
        );
        // The index does not cover an image that merely asks for it.
        if signed == whole {
            let alone = verdict(
                &Subject::of(manifest),
                &candidates,
                &policy,
                &root("builtin"),
            );
            refused("alone", alone, "it is a signature of sha256:");
        }
    }
}
