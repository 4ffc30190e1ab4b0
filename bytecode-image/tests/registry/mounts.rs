//! Blobs that another repository of the registry got from this host before.

use bpfman_tests::registry;
use bytecode_image::digest::Digest;
use bytecode_image::pull::PullPolicy;
use bytecode_image::reference::Reference;
use bytecode_image::registry::auth::Credentials;
use bytecode_image::registry::push::{Image, push_image};
use bytecode_image::registry::{MAX_ATTEMPTS, RegistryError};
use bytecode_image::store::Store;

use crate::images::{Parts, TestStore, chain, reach};
use crate::server::{Answer, Asked, Registry};

const UPLOADS: &str = "/v2/team/prod/blobs/uploads/";

fn push(
    store: &Store,
    credentials: Option<Credentials>,
    address: &str,
    repository: &str,
    image: &Image,
) -> Result<Digest, RegistryError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let reference: Reference = format!("{address}/{repository}:v1").parse().unwrap();
    let reach = reach().with_credentials(credentials);
    let images = std::slice::from_ref(image);
    runtime.block_on(push_image(
        &reference,
        &reach,
        images,
        None,
        Some(store),
        &(),
    ))
}

/// A registry whose `team/staging` got the image from this store.
fn staged(store: &TestStore, image: &Image) -> (Registry, String) {
    let registry = Registry::start();
    let address = registry.address.to_string();
    push(&store.store, None, &address, "team/staging", image).unwrap();
    registry.asked();
    (registry, address)
}

fn counted<'a>(asked: &'a [Asked], method: &str, path: &str) -> Vec<&'a str> {
    asked
        .iter()
        .filter(|asked| asked.method == method && asked.path.starts_with(path))
        .map(|asked| asked.path.as_str())
        .collect()
}

fn mount(digest: Digest, from: &str) -> String {
    let digest = digest.to_string().replace(':', "%3A");
    format!("{UPLOADS}?mount={digest}&from={}", from.replace('/', "%2F"))
}

/// The first of two blobs is pushed alone.
fn blobs(image: &Image) -> [Digest; 2] {
    let mut blobs = [Digest::of(&image.config), Digest::of(&image.layers[0].1)];
    blobs.sort();
    blobs
}

#[test]
fn what_registries_answer() {
    let image = Parts::new("pass").image();
    let blobs = blobs(&image);
    let mounts = blobs.map(|blob| mount(blob, "team/staging"));
    let plain = UPLOADS.to_owned();
    let created = |header: Option<Digest>| {
        let answer = Answer::status(201);
        match header {
            Some(digest) => answer.header("Docker-Content-Digest", digest.to_string()),
            None => answer,
        }
    };
    let uploaded = [mounts[0].clone(), plain.clone(), plain.clone()];
    let lie = Digest::of(b"something else");
    // What each mount is answered, the requests that begin uploads, how many blobs are sent.
    let cases: Vec<(Vec<Answer>, Vec<String>, usize)> = vec![
        (
            blobs.map(|blob| created(Some(blob))).to_vec(),
            mounts.to_vec(),
            0,
        ),
        (vec![created(None), created(None)], mounts.to_vec(), 0),
        // The server's own answer: 202, in the place of the one to a plain POST.
        (vec![], mounts.to_vec(), 2),
        (vec![created(Some(blobs[0]))], mounts.to_vec(), 1),
        // Asked no more.
        (vec![Answer::status(405)], uploaded.to_vec(), 2),
        (vec![Answer::status(400)], uploaded.to_vec(), 2),
        (vec![Answer::status(403)], uploaded.to_vec(), 2),
        (vec![Answer::status(404)], uploaded.to_vec(), 2),
        (vec![Answer::status(204)], uploaded.to_vec(), 2),
        (vec![Answer::status(307)], uploaded.to_vec(), 2),
        // No place to send it to.
        (vec![Answer::status(202)], uploaded.to_vec(), 2),
        // Nothing that it says is believed.
        (vec![created(Some(lie))], uploaded.to_vec(), 2),
    ];
    for (number, (answers, begun, sent)) in cases.into_iter().enumerate() {
        let store = TestStore::new();
        let (registry, address) = staged(&store, &image);
        registry.first("POST", UPLOADS, answers);
        let pushed = push(&store.store, None, &address, "team/prod", &image);
        assert_eq!(pushed.unwrap(), Digest::of(&image.manifest), "{number}");
        let asked = registry.asked();
        assert_eq!(counted(&asked, "POST", "/"), begun, "{number}");
        assert_eq!(counted(&asked, "PUT", UPLOADS).len(), sent, "{number}");
        // The newest is what the next one is mounted from.
        push(&store.store, None, &address, "team/next", &image).unwrap();
        let next = counted(&registry.asked(), "POST", "/v2/team/next/").concat();
        assert!(next.contains("from=team%2Fprod"), "{number}: {next}");
        assert_eq!(store.files(), [".bpfman/pushed"]);
    }
}

#[test]
fn nothing_is_asked_where_nothing_is_known() {
    let image = Parts::new("pass").image();
    let (here, other) = (TestStore::new(), TestStore::new());
    let (registry, address) = staged(&here, &image);
    let (elsewhere, there) = staged(&other, &image);
    // Another registry's repositories, another store's, other blobs.
    push(&here.store, None, &there, "team/prod", &image).unwrap();
    push(&other.store, None, &address, "team/prod", &image).unwrap();
    let changed = Parts::new("changed").image();
    push(&here.store, None, &address, "team/changed", &changed).unwrap();
    // The same repository: it has them.
    push(&here.store, None, &address, "team/staging", &image).unwrap();
    let asked = [registry.asked(), elsewhere.asked()].concat();
    assert!(
        !asked.iter().any(|asked| asked.path.contains("mount")),
        "{asked:#?}"
    );
    assert_eq!(counted(&asked, "POST", "/").len(), 6);
}

#[test]
fn a_busy_registry_is_asked_as_often_as_for_an_upload() {
    let image = Parts::new("pass").image();
    for status in [429, 503] {
        let store = TestStore::new();
        let (registry, address) = staged(&store, &image);
        registry.route("POST", UPLOADS, Answer::status(status));
        let error = push(&store.store, None, &address, "team/prod", &image).unwrap_err();
        assert!(chain(&error).contains(&status.to_string()), "{error:?}");
        let begun = registry.asked();
        let begun = counted(&begun, "POST", UPLOADS);
        assert_eq!(begun.len(), MAX_ATTEMPTS as usize, "{begun:?}");
    }
    // One that breaks off at a mount, and at nothing else.
    let store = TestStore::new();
    let (registry, address) = staged(&store, &image);
    registry.first("POST", UPLOADS, vec![Answer::default().reset()]);
    push(&store.store, None, &address, "team/prod", &image).unwrap();
    let asked = registry.asked();
    let begun = counted(&asked, "POST", UPLOADS);
    assert_eq!(
        begun,
        [&mount(blobs(&image)[0], "team/staging"), UPLOADS, UPLOADS]
    );
}

/// What a mount is shown, after a push to another repository of a registry that wants this `Authorization`.
fn guarded(
    authorization: &str,
    challenge: &str,
    tokens: Vec<Answer>,
    mounts: Vec<Answer>,
) -> Vec<Asked> {
    let image = Parts::new("pass").image();
    let store = TestStore::new();
    let (registry, address) = staged(&store, &image);
    let challenge = challenge.replace("ADDRESS", &address);
    let challenge = Answer::status(401).header("WWW-Authenticate", challenge);
    registry.need(authorization, challenge);
    registry.first("GET", "/token", tokens);
    registry.first("POST", UPLOADS, mounts);
    let credentials = Credentials::from_base64("dTpw").unwrap();
    push(
        &store.store,
        Some(credentials),
        &address,
        "team/prod",
        &image,
    )
    .unwrap();
    registry.asked()
}

#[test]
fn a_token_is_for_both_repositories() {
    let token = |text: &str| Answer::ok(format!(r#"{{"token":"{text}"}}"#));
    let push_only = "/token?service=reg&scope=repository%3Ateam%2Fprod%3Apull%2Cpush";
    let both = format!("{push_only}&scope=repository%3Ateam%2Fstaging%3Apull");
    // Given, not given, and given for less than was asked for; how often it is asked for, and how many blobs are sent.
    let cases = [
        (vec![token("t"), token("t")], 1, 0),
        (vec![token("t"), Answer::status(401)], 1, 2),
        (vec![token("t"), token("less"), token("less")], 2, 2),
    ];
    for (tokens, asks, sent) in cases {
        let mounts = vec![Answer::status(201); 2 - sent];
        let challenge = r#"Bearer realm="http://ADDRESS/token",service="reg""#;
        let asked = guarded("Bearer t", challenge, tokens, mounts);
        let tokens = counted(&asked, "GET", "/token");
        assert_eq!(tokens[0], push_only);
        assert_eq!(tokens[1..], vec![both.as_str(); asks]);
        assert_eq!(counted(&asked, "PUT", UPLOADS).len(), sent, "{asked:#?}");
        let shown = asked.iter().filter(|asked| asked.path.starts_with("/v2/"));
        let without = shown.filter(|asked| asked.authorization.is_none());
        assert_eq!(without.count(), 1, "the first");
    }
}

#[test]
fn a_password_is_for_all_repositories() {
    let mounts = vec![Answer::status(201); 2];
    let asked = guarded("Basic dTpw", "Basic realm=\"x\"", vec![], mounts);
    assert_eq!(counted(&asked, "POST", UPLOADS).len(), 2, "{asked:#?}");
    let without = asked.iter().filter(|asked| asked.authorization.is_none());
    assert_eq!(without.count(), 1, "the first");
}

#[test]
fn a_real_registry_is_sent_each_blob_once() {
    let Some(registry) = registry::Registry::start() else {
        return;
    };
    let (store, image) = (TestStore::new(), Parts::new("pass").image());
    for repository in ["team/staging", "team/prod"] {
        let pushed = push(&store.store, None, registry.address(), repository, &image);
        assert_eq!(pushed.unwrap(), Digest::of(&image.manifest));
    }
    let log = registry.log();
    let logged = |request: &str| log.lines().filter(|line| line.contains(request)).count();
    assert_eq!(logged("\"PUT /v2/team/staging/blobs/uploads/"), 2, "{log}");
    assert_eq!(
        logged("\"POST /v2/team/prod/blobs/uploads/?mount="),
        2,
        "{log}"
    );
    assert_eq!(logged("\"PUT /v2/team/prod/blobs/uploads/"), 0, "{log}");
    let name = registry.reference("team/prod:v1").parse().unwrap();
    let pulled = TestStore::new().pull(&name, PullPolicy::Always).unwrap();
    assert_eq!(pulled.object_name, "pass.o");

    // A repository that is gone there has nothing to mount.
    let name: Reference = registry.reference("team/gone").parse().unwrap();
    let changed = Parts::new("changed").image();
    store.store.remember_pushed(&name, &blobs(&changed));
    push(
        &store.store,
        None,
        registry.address(),
        "team/prod",
        &changed,
    )
    .unwrap();
    let log = registry.log();
    let logged = |request: &str| log.lines().filter(|line| line.contains(request)).count();
    assert_eq!(
        logged("\"POST /v2/team/prod/blobs/uploads/?mount="),
        4,
        "{log}"
    );
    assert_eq!(logged("\"POST /v2/team/prod/blobs/uploads/"), 4, "{log}");
    assert_eq!(logged("\"PUT /v2/team/prod/blobs/uploads/"), 2, "{log}");
}
