use bytecode_image::digest::Digest;
use bytecode_image::pull::PullPolicy;
use bytecode_image::reference::Reference;
use bytecode_image::registry::auth::Credentials;
use bytecode_image::registry::push::{Image, push_image};
use bytecode_image::registry::{MAX_ATTEMPTS, RegistryError};

use crate::images::{Parts, TestStore, chain, index, reach, reference};
use crate::server::{Answer, Registry};

fn push(
    reference: &Reference,
    credentials: Option<Credentials>,
    images: &[Image],
    index: Option<Vec<u8>>,
) -> Result<Digest, RegistryError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let reach = reach().with_credentials(credentials);
    runtime.block_on(push_image(reference, &reach, images, index, None, &()))
}

#[test]
fn pushed_and_pulled() {
    let registry = Registry::start();
    let image = Parts::new("pass").image();
    let name = reference(&registry, ":v1");
    let digest = push(&name, None, std::slice::from_ref(&image), None).unwrap();
    assert_eq!(digest, Digest::of(&image.manifest));
    let asked = registry.asked_lines();
    assert_eq!(
        asked
            .iter()
            .filter(|line| line.starts_with("PUT /v2/acme/xdp/blobs/uploads/one"))
            .count(),
        2
    );
    let manifests: Vec<_> = asked
        .iter()
        .filter(|line| line.contains("/manifests/"))
        .collect();
    assert_eq!(
        manifests,
        [
            &format!("PUT /v2/acme/xdp/manifests/{digest}"),
            "PUT /v2/acme/xdp/manifests/v1"
        ]
    );
    assert_eq!(asked.last(), manifests.last().copied());

    push(&name, None, std::slice::from_ref(&image), None).unwrap();
    let again = registry.asked_lines();
    assert!(
        !again.iter().any(|line| line.contains("uploads")),
        "{again:?}"
    );

    let pulled = TestStore::new().pull(&name, PullPolicy::Always).unwrap();
    assert_eq!(
        (pulled.digest, pulled.object_name.as_str()),
        (digest, "pass.o")
    );
}

#[test]
fn an_index_over_images() {
    let registry = Registry::start();
    let images = [Parts::new("pass").image(), {
        let mut parts = Parts::new("pass");
        parts.architecture = "arm64".to_owned();
        parts.image()
    }];
    let list = index(&[("amd64", &images[0]), ("arm64", &images[1])]);
    let name = reference(&registry, ":v1");
    let digest = push(&name, None, &images, Some(list.clone())).unwrap();
    assert_eq!(digest, Digest::of(&list));
    let asked = registry.asked_lines();
    // The layers are the same, so three blobs.
    assert_eq!(
        asked
            .iter()
            .filter(|line| line.contains("/blobs/uploads/one"))
            .count(),
        3
    );
    assert_eq!(
        asked
            .iter()
            .filter(|line| line.contains("/manifests/"))
            .count(),
        4
    );
    assert_eq!(asked.last().unwrap(), "PUT /v2/acme/xdp/manifests/v1");
    let pulled = TestStore::new().pull(&name, PullPolicy::Always).unwrap();
    assert_eq!(
        (pulled.digest, pulled.manifest_digest),
        (digest, Digest::of(&images[0].manifest))
    );
}

#[test]
fn tokens_are_for_pushing() {
    let registry = Registry::start();
    let text = format!(
        r#"Bearer realm="http://{}/token",scope="repository:acme/xdp:pull""#,
        registry.address
    );
    registry.need(
        "Bearer t",
        Answer::status(401).header("WWW-Authenticate", text),
    );
    registry.route("GET", "/token", Answer::ok(r#"{"access_token":"t"}"#));
    let credentials = Credentials::from_base64("dTpw").unwrap();
    push(
        &reference(&registry, ":v1"),
        Some(credentials),
        &[Parts::new("pass").image()],
        None,
    )
    .unwrap();
    let tokens: Vec<_> = registry
        .asked()
        .into_iter()
        .filter(|asked| asked.path.starts_with("/token"))
        .collect();
    assert_eq!(tokens.len(), 1);
    assert_eq!(
        tokens[0].path,
        "/token?scope=repository%3Aacme%2Fxdp%3Apull%2Cpush"
    );
    assert_eq!(tokens[0].authorization.as_deref(), Some("Basic dTpw"));
}

#[test]
fn refused() {
    let image = Parts::new("pass").image();
    let uploads = "/v2/acme/xdp/blobs/uploads/";
    let tag = "/v2/acme/xdp/manifests/v1";
    let lie = Answer::status(201).header("Docker-Content-Digest", Digest::of(b"").to_string());
    let elsewhere =
        Answer::status(202).header("Location", "http://example.org/upload?secret=hidden");
    let cases = [
        ("POST", uploads, Answer::status(403), "access denied"),
        (
            "POST",
            uploads,
            Answer::status(202),
            "no usable Location header",
        ),
        (
            "POST",
            uploads,
            elsewhere,
            "wants the upload at `http://example.org`",
        ),
        (
            "PUT",
            "/v2/acme/xdp/blobs/uploads/one",
            Answer::status(400),
            "cannot push blob sha256:",
        ),
        (
            "PUT",
            "/v2/acme/xdp/blobs/uploads/one",
            Answer::status(202),
            "HTTP status 202",
        ),
        ("PUT", tag, Answer::status(500), "HTTP status 500"),
        ("PUT", tag, lie, "the registry says that the content is"),
    ];
    for (method, path, answer, message) in cases {
        let registry = Registry::start();
        registry.route(method, path, answer);
        let error = push(
            &reference(&registry, ":v1"),
            None,
            std::slice::from_ref(&image),
            None,
        )
        .unwrap_err();
        let text = chain(&error);
        assert!(text.contains(message), "{message}: {text}");
        assert!(!text.contains("hidden"), "{text}");
    }
    let registry = Registry::start();
    assert!(
        chain(&push(&reference(&registry, ":v1"), None, &[], None).unwrap_err())
            .contains("no image to push")
    );
}

#[test]
fn what_may_pass_is_tried_again() {
    let image = Parts::new("pass").image();
    let tag = "/v2/acme/xdp/manifests/v1";
    for (status, tries) in [(503, MAX_ATTEMPTS as usize), (403, 1)] {
        let registry = Registry::start();
        registry.route("PUT", tag, Answer::status(status));
        let name = reference(&registry, ":v1");
        push(&name, None, std::slice::from_ref(&image), None).unwrap_err();
        let asked = registry.asked_lines();
        let moved = asked.iter().filter(|line| line.ends_with(tag));
        assert_eq!(moved.count(), tries, "{status}: {asked:?}");
    }
}
