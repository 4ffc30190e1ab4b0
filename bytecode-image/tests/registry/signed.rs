//! Signatures on their way from a registry that can misbehave. `admitted` has what the store does with them.

use std::path::Path;
use std::time::Duration;

use bytecode_image::digest::Digest;
use bytecode_image::host::environment::Environment;
use bytecode_image::host::proxy::Proxies;
use bytecode_image::pull::{
    BytecodeImage, PullError, PullPolicy, PullRequest, Trust, Verdict, pull,
};
use bytecode_image::reference::Reference;
use bytecode_image::registry::{Patience, Reach};
use bytecode_image::store::Store;
use bytecode_image::verify::{
    Covered, Format, Policy, PublicKey, Scope, Signer, Signing, TrustRoot, referrers_tag,
    signature_tag,
};
use serde_json::Value;

use crate::images::{
    INDEX, MANIFEST, Parts, TestStore, chain, descriptor, index, platform, reference, serve,
    serve_document, walk,
};
use crate::server::{Answer, Registry};

/// An image of the fixtures with what lies beside it.
pub(crate) struct Fixture {
    pub(crate) image: Digest,
    /// Media type, tag, bytes.
    tags: Vec<(String, String, Vec<u8>)>,
    blobs: Vec<Vec<u8>>,
}

impl Fixture {
    pub(crate) fn open(name: &str) -> Self {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../tests/fixtures/signatures")
            .join(name);
        let index = std::fs::read(dir.join("index.json")).unwrap();
        let index: Value = serde_json::from_slice(&index).unwrap();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let blob =
            |digest: &str| std::fs::read(dir.join("blobs/sha256").join(&digest[7..])).unwrap();
        let tags: Vec<_> = index["manifests"]
            .as_array()
            .unwrap()
            .iter()
            .map(|entry| {
                (
                    text(&entry["mediaType"]),
                    text(&entry["annotations"]["org.opencontainers.image.ref.name"]),
                    blob(entry["digest"].as_str().unwrap()),
                )
            })
            .collect();
        let image = tags.iter().find(|(_, tag, _)| tag == "v1").unwrap();
        Self {
            image: Digest::of(&image.2),
            blobs: std::fs::read_dir(dir.join("blobs/sha256"))
                .unwrap()
                .map(|entry| std::fs::read(entry.unwrap().path()).unwrap())
                .collect(),
            tags,
        }
    }

    /// Puts it into a registry as `acme/xdp:v1`.
    pub(crate) fn serve(&self, registry: &Registry) {
        self.serve_blobs(registry);
        for (media_type, tag, bytes) in &self.tags {
            serve_document(registry, bytes, media_type, &[tag]);
        }
    }

    /// The same without any tag: every blob, and every manifest by its digest.
    pub(crate) fn serve_blobs(&self, registry: &Registry) {
        for bytes in &self.blobs {
            let path = format!("/v2/acme/xdp/blobs/{}", Digest::of(bytes));
            registry.route("GET", &path, Answer::ok(bytes.clone()));
            if bytes.starts_with(b"{") {
                serve_document(registry, bytes, MANIFEST, &[]);
            }
        }
    }

    pub(crate) fn tagged(&self, tag: &str) -> &[u8] {
        &self
            .tags
            .iter()
            .find(|(_, found, _)| found == tag)
            .unwrap()
            .2
    }
}

pub(crate) fn by_key(name: &str) -> Trust {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../tests/fixtures/signatures")
        .join(format!("{name}.pub"));
    let key = PublicKey::from_pem(&std::fs::read(path).unwrap()).unwrap();
    let policy = Policy::new(Scope::EVERYTHING, vec![key], Vec::new()).unwrap();
    Trust::new(
        Signing::new(true, false, vec![policy]).unwrap(),
        TrustRoot::built_in(),
    )
}

pub(crate) fn pulled(
    store: &Store,
    name: &Reference,
    policy: PullPolicy,
    trust: Trust,
) -> Result<BytecodeImage, PullError> {
    let request = PullRequest {
        reference: name.clone(),
        short: None,
        policy,
        reach: crate::images::reach(),
        platform: platform(),
        trust: trust.into(),
    };
    pull(store, &request, &())
}

#[track_caller]
pub(crate) fn refused(found: Result<BytecodeImage, PullError>, reason: &str) {
    let error = chain(&found.unwrap_err());
    assert!(error.contains(reason), "no `{reason}` in: {error}");
}

/// The form of the signature that an image was proven by.
#[track_caller]
pub(crate) fn proven(found: Result<BytecodeImage, PullError>) -> Format {
    let image = found.unwrap_or_else(|error| panic!("{}", chain(&error)));
    let Verdict::Proven(proof) = image.verdict else {
        panic!("{:?}", image.verdict)
    };
    assert_eq!(proof.covered, Covered::Manifest(image.manifest_digest));
    assert!(matches!(proof.signer, Signer::Key { .. }), "{proof:?}");
    proof.place.format
}

pub(crate) fn tags(store: &TestStore) -> Vec<String> {
    let entries = store.store.entries().unwrap();
    let tag =
        |entry: bytecode_image::store::Entry| entry.reference.unwrap().tag().unwrap().to_owned();
    entries.into_iter().map(tag).collect()
}

pub(crate) fn admissions(store: &TestStore) -> usize {
    let mut found = Vec::new();
    walk(&store.admissions(), &mut found);
    found.len()
}

#[test]
fn a_refused_image_leaves_nothing() {
    for (name, reason) in [
        ("unsigned", "has no signature"),
        ("wrongkey", "it is by none of the policy's 1 keys"),
        ("evilkey", "it is by none of the policy's 1 keys"),
        ("evilkeycopy", "it is a signature of sha256:"),
    ] {
        let registry = Registry::start();
        Fixture::open(name).serve(&registry);
        let store = TestStore::new();
        let image = reference(&registry, ":v1");
        for policy in [PullPolicy::IfNotPresent, PullPolicy::Always] {
            refused(pulled(&store.store, &image, policy, by_key("good")), reason);
        }
        let left: Vec<_> = store.files();
        assert!(left.is_empty(), "{name}: {left:?}");
    }
}

#[test]
fn a_tag_that_moves_between_two_requests() {
    let registry = Registry::start();
    let (signed, evil) = (Fixture::open("signed"), Fixture::open("wrongkey"));
    evil.serve(&registry);
    signed.serve(&registry);
    // From the second request on the tag is another image, by somebody else.
    let path = "/v2/acme/xdp/manifests/v1";
    let moved = Answer::ok(evil.tagged("v1")).header("Content-Type", MANIFEST);
    registry.then("GET", path, moved);
    let store = TestStore::new();
    let image = reference(&registry, ":v1");
    let ask = |policy| pulled(&store.store, &image, policy, by_key("good"));
    let found = ask(PullPolicy::Always).unwrap();
    assert_eq!(found.manifest_digest, signed.image);
    let asked = registry.asked_lines();
    let tag = format!("GET {path}");
    assert_eq!(
        asked.iter().filter(|line| **line == tag).count(),
        1,
        "{asked:?}"
    );
    // What was verified is what is kept, and what the tag is now is refused.
    assert_eq!(ask(PullPolicy::Never).unwrap().object, found.object);
    refused(
        ask(PullPolicy::Always),
        "it is by none of the policy's 1 keys",
    );
    assert_eq!(
        ask(PullPolicy::Never).unwrap().manifest_digest,
        signed.image
    );
}

#[test]
fn the_referrers_api_goes_before_its_tag() {
    let registry = Registry::start();
    let fixture = Fixture::open("v3");
    fixture.serve_blobs(&registry);
    serve_document(&registry, fixture.tagged("v1"), MANIFEST, &["v1"]);
    let api = format!("/v2/acme/xdp/referrers/{}", fixture.image);
    let list = fixture.tagged(&referrers_tag(fixture.image));
    // The signature is on the second page.
    let empty = format!(r#"{{"schemaVersion":2,"mediaType":"{INDEX}","manifests":[]}}"#);
    let next = format!("<{api}/second?n=1>; rel=\"next\"");
    registry.route("GET", &api, Answer::ok(empty).header("Link", next));
    registry.route("GET", &format!("{api}/second"), Answer::ok(list));
    let store = TestStore::new();
    let image = reference(&registry, ":v1");
    let form = proven(pulled(
        &store.store,
        &image,
        PullPolicy::Always,
        by_key("good"),
    ));
    assert_eq!(form, Format::Bundle);
    let asked = registry.asked_lines();
    let tag = format!("/manifests/{}", referrers_tag(fixture.image));
    assert!(!asked.iter().any(|line| line.ends_with(&tag)), "{asked:?}");
    store.check();
    drop(registry);
    proven(pulled(
        &store.store,
        &image,
        PullPolicy::Never,
        by_key("good").anew(),
    ));
}

#[test]
fn a_registry_without_lists_of_referrers_is_asked_for_one_once() {
    let image = Parts::new("pass").image();
    let list = index(&[("amd64", &image)]);
    let digests = [Digest::of(&list), Digest::of(&image.manifest)];
    // Only 404 says that there are no lists at all.
    for (refusal, most) in [(404, 1), (405, 2)] {
        let registry = Registry::start();
        serve(&registry, &image, &[]);
        serve_document(&registry, &list, INDEX, &["v1"]);
        for digest in digests {
            let api = format!("/v2/acme/xdp/referrers/{digest}");
            registry.route("GET", &api, Answer::status(refusal));
        }
        let name = reference(&registry, ":v1");
        // A signature is wanted, and there is none.
        let pulled = pulled(
            &TestStore::new().store,
            &name,
            PullPolicy::Always,
            by_key("good"),
        );
        refused(pulled, "no signature");
        let asked = registry.asked_lines();
        let of = |text: &str| asked.iter().filter(|line| line.contains(text)).count();
        assert_eq!(of("/referrers/"), most, "{asked:?}");
        // Both tags are looked for under both digests all the same; the name of one begins that of the other.
        for digest in digests {
            assert_eq!(of(&referrers_tag(digest)), 2, "{asked:?}");
        }
    }
}

#[test]
fn the_tag_of_referrers_counts_unless_the_list_has_a_signature() {
    let fixture = Fixture::open("v3");
    let api = format!("/v2/acme/xdp/referrers/{}", fixture.image);
    // What is no signature, and what is listed and not there.
    let sbom = r#"{"schemaVersion":2,"artifactType":"application/spdx+json","layers":[]}"#;
    let list = |documents: &[&str]| {
        let entries: Vec<_> = documents
            .iter()
            .map(|text| descriptor(MANIFEST, text.as_bytes(), ""))
            .collect();
        Answer::ok(format!(
            r#"{{"schemaVersion":2,"mediaType":"{INDEX}","manifests":[{}]}}"#,
            entries.join(",")
        ))
    };
    for answer in [
        list(&[]),
        list(&[sbom]),
        list(&["nowhere"]),
        list(&["nowhere", sbom]),
        Answer::ok("no JSON"),
        Answer::status(403),
        Answer::status(404),
        Answer::status(405),
        Answer::status(500),
        Answer::status(503),
    ] {
        let registry = Registry::start();
        fixture.serve(&registry);
        serve_document(&registry, sbom.as_bytes(), MANIFEST, &[]);
        registry.route("GET", &api, answer.clone());
        let store = TestStore::new();
        let image = reference(&registry, ":v1");
        let found = pulled(&store.store, &image, PullPolicy::Always, by_key("good"));
        assert_eq!(proven(found), Format::Bundle, "{answer:?}");
    }
    // Without the tag, a list that could not be had is not an empty one.
    let registry = Registry::start();
    fixture.serve_blobs(&registry);
    serve_document(&registry, fixture.tagged("v1"), MANIFEST, &["v1"]);
    registry.route("GET", &api, Answer::status(500));
    let store = TestStore::new();
    let image = reference(&registry, ":v1");
    refused(
        pulled(&store.store, &image, PullPolicy::Always, by_key("good")),
        "HTTP status 500",
    );
}

#[test]
fn signatures_that_nothing_depends_on_are_not_waited_for() {
    let fixture = Fixture::open("unsigned");
    let tag = format!("/v2/acme/xdp/manifests/{}", signature_tag(fixture.image));
    let api = format!("/v2/acme/xdp/referrers/{}", fixture.image);
    let busy = || Answer::status(429).header("Retry-After", "30");
    // Pauses are made as they are due; the deadline is over before the second attempt.
    let reach = Reach::default().with_patience(Patience {
        optional: Duration::from_millis(50),
        deadline: Duration::from_secs(20),
        ..Patience::default()
    });
    let pulled = |registry: &Registry, store: &Store, trust: Trust| {
        let request = PullRequest {
            reference: reference(registry, ":v1"),
            short: None,
            policy: PullPolicy::Always,
            reach: reach.clone(),
            platform: platform(),
            trust: trust.into(),
        };
        pull(store, &request, &())
    };
    for answer in [Answer::silent(), busy()] {
        for path in [&tag, &api] {
            let registry = Registry::start();
            fixture.serve(&registry);
            registry.route("GET", path, answer.clone());
            let store = TestStore::new();
            let found = pulled(&registry, &store.store, Trust::default()).unwrap();
            assert_eq!(found.verdict, Verdict::NotCovered);
        }
    }
    // Without its contents there is no image to wait for signatures of, needed or not.
    let manifest: Value = serde_json::from_slice(fixture.tagged("v1")).unwrap();
    let config = manifest["config"]["digest"].as_str().unwrap();
    let registry = Registry::start();
    fixture.serve(&registry);
    registry.route("GET", &api, Answer::silent());
    registry.route(
        "GET",
        &format!("/v2/acme/xdp/blobs/{config}"),
        Answer::status(404),
    );
    for trust in [Trust::default(), by_key("good")] {
        let store = TestStore::new();
        refused(pulled(&registry, &store.store, trust), "not found");
    }
}

#[test]
fn requests_side_by_side_find_one_scheme() {
    // An address that is not taken for loopback and leads there: https is tried first.
    let registry = Registry::start();
    let fixture = Fixture::open("v3");
    fixture.serve_blobs(&registry);
    serve_document(&registry, fixture.tagged("v1"), MANIFEST, &["v1"]);
    let folder = tempfile::tempdir().unwrap();
    let conf = folder.path().join("etc/containers/registries.conf");
    std::fs::create_dir_all(conf.parent().unwrap()).unwrap();
    let text = format!(
        "[[registry]]\nprefix = 'quay.example/acme'\nlocation = '[::ffff:127.0.0.1]:{}/acme'\ninsecure = true\n",
        registry.address.port()
    );
    std::fs::write(&conf, text).unwrap();
    let mut environment = Environment::default();
    environment.root = folder.path().to_owned();
    let ask = |store: &Store, policy, trust: Trust| {
        let request = PullRequest {
            reference: "quay.example/acme/xdp:v1".parse().unwrap(),
            short: None,
            policy,
            reach: crate::images::reach()
                .with_environment(environment.clone())
                .with_proxies(Proxies::default()),
            platform: platform(),
            trust: trust.into(),
        };
        pull(store, &request, &())
    };
    let store = TestStore::new();
    ask(&store.store, PullPolicy::Always, Trust::default()).unwrap();
    // The image is here; its signatures are asked for by two requests at once, by a client that knows nothing yet. They
    // are only in the list, which the second of them asks for.
    let api = format!("/v2/acme/xdp/referrers/{}", fixture.image);
    let list = fixture.tagged(&referrers_tag(fixture.image));
    registry.route("GET", &api, Answer::ok(list));
    proven(ask(&store.store, PullPolicy::IfNotPresent, by_key("good")));
}

#[test]
fn registries_that_fail_beside_an_image() {
    const HUGE: u64 = 300 << 20;
    let huge = || Answer {
        announced: Some(HUGE),
        ..Answer::ok("{")
    };
    let fixture = Fixture::open("both");
    let tag = format!("/v2/acme/xdp/manifests/{}", signature_tag(fixture.image));
    let list = format!("/v2/acme/xdp/manifests/{}", referrers_tag(fixture.image));
    let api = format!("/v2/acme/xdp/referrers/{}", fixture.image);
    for (broken, answer, expected) in [
        // The other form proves it all the same.
        (vec![&tag], huge(), Ok(Format::Bundle)),
        (vec![&tag], Answer::status(500), Ok(Format::Bundle)),
        (vec![&tag], Answer::ok("[1"), Ok(Format::Bundle)),
        (vec![&list], huge(), Ok(Format::SimpleSigning)),
        (vec![&api], Answer::status(500), Ok(Format::SimpleSigning)),
        (vec![&api], Answer::status(405), Ok(Format::SimpleSigning)),
        // What cannot be had is not taken for what is not there.
        (
            vec![&tag, &list],
            huge(),
            Err("it has 314572800 bytes: at most 4194304 are read"),
        ),
        (
            vec![&tag, &list],
            Answer::status(500),
            Err("HTTP status 500"),
        ),
        (vec![&tag, &list], Answer::ok("{}"), Err("has no signature")),
    ] {
        let registry = Registry::start();
        fixture.serve(&registry);
        for path in broken {
            registry.route("GET", path, answer.clone());
        }
        let store = TestStore::new();
        let image = reference(&registry, ":v1");
        let found = pulled(&store.store, &image, PullPolicy::Always, by_key("good"));
        match expected {
            Ok(form) => assert_eq!(proven(found), form),
            Err(reason) => {
                refused(found, reason);
                assert!(store.files().is_empty(), "{:?}", store.files());
            }
        }
    }
}

#[test]
fn a_blob_beside_an_image_that_is_not_what_it_should_be() {
    let fixture = Fixture::open("signed");
    let manifest: Value =
        serde_json::from_slice(fixture.tagged(&signature_tag(fixture.image))).unwrap();
    let payload = manifest["layers"][0]["digest"].as_str().unwrap();
    for (answer, reason) in [
        (Answer::ok("other"), "is missing"),
        (Answer::status(404), "is missing"),
        (
            Answer {
                announced: Some(1 << 30),
                ..Answer::ok("")
            },
            "is missing",
        ),
    ] {
        let registry = Registry::start();
        fixture.serve(&registry);
        registry.route("GET", &format!("/v2/acme/xdp/blobs/{payload}"), answer);
        let store = TestStore::new();
        let image = reference(&registry, ":v1");
        refused(
            pulled(&store.store, &image, PullPolicy::Always, by_key("good")),
            reason,
        );
    }
}

#[test]
fn two_hundred_signatures_of_which_the_last_is_good() {
    let fixture = Fixture::open("signed");
    let tag = signature_tag(fixture.image);
    let mut manifest: Value = serde_json::from_slice(fixture.tagged(&tag)).unwrap();
    let good = manifest["layers"][0].clone();
    let mut bad = good.clone();
    // A real signature of something else.
    let other = Fixture::open("wrongkey");
    let other_manifest: Value =
        serde_json::from_slice(other.tagged(&signature_tag(other.image))).unwrap();
    bad["annotations"] = other_manifest["layers"][0]["annotations"].clone();
    for (before, expected) in [(199, true), (256, false)] {
        let mut layers = vec![bad.clone(); before];
        layers.push(good.clone());
        manifest["layers"] = layers.into();
        let registry = Registry::start();
        fixture.serve(&registry);
        serve_document(
            &registry,
            manifest.to_string().as_bytes(),
            MANIFEST,
            &[&tag],
        );
        let store = TestStore::new();
        let image = reference(&registry, ":v1");
        let found = pulled(&store.store, &image, PullPolicy::Always, by_key("good"));
        if expected {
            proven(found);
            drop(registry);
            proven(pulled(
                &store.store,
                &image,
                PullPolicy::Never,
                by_key("good").anew(),
            ));
        } else {
            refused(found, "1 beyond the first 256 were not looked at");
        }
    }
}

#[test]
fn two_hundred_manifests_of_signatures() {
    let fixture = Fixture::open("v3");
    let registry = Registry::start();
    fixture.serve(&registry);
    let tag = referrers_tag(fixture.image);
    let list: Value = serde_json::from_slice(fixture.tagged(&tag)).unwrap();
    let named: Digest = list["manifests"][0]["digest"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap();
    let good = fixture
        .blobs
        .iter()
        .find(|bytes| Digest::of(bytes) == named)
        .unwrap();
    let mut manifest: Value = serde_json::from_slice(good).unwrap();
    let mut entries = Vec::new();
    for number in 0..199 {
        // Each is a manifest of its own, with a bundle that is none.
        let bundle = format!("{{\"number\":{number}}}");
        let layer = descriptor(
            "application/vnd.dev.sigstore.bundle.v0.3+json",
            bundle.as_bytes(),
            "",
        );
        manifest["layers"][0] = serde_json::from_str(&layer).unwrap();
        let text = manifest.to_string();
        let path = format!("/v2/acme/xdp/blobs/{}", Digest::of(bundle.as_bytes()));
        registry.route("GET", &path, Answer::ok(bundle));
        serve_document(&registry, text.as_bytes(), MANIFEST, &[]);
        entries.push(descriptor(MANIFEST, text.as_bytes(), ""));
    }
    entries.push(descriptor(MANIFEST, good, ""));
    let list = format!(
        r#"{{"schemaVersion":2,"mediaType":"{INDEX}","manifests":[{}]}}"#,
        entries.join(",")
    );
    serve_document(&registry, list.as_bytes(), INDEX, &[&tag]);
    let store = TestStore::new();
    let image = reference(&registry, ":v1");
    proven(pulled(
        &store.store,
        &image,
        PullPolicy::Always,
        by_key("good"),
    ));
    drop(registry);
    proven(pulled(
        &store.store,
        &image,
        PullPolicy::Never,
        by_key("good").anew(),
    ));
}
