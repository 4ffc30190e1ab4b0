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

/// Answers of a registry to the manifest, and whether it has it afterwards.
#[test]
fn any_success_is_one_where_the_digest_agrees() {
    let image = Parts::new("pass").image();
    let digest = Digest::of(&image.manifest);
    let other = format!("sha256:{}", "0".repeat(64));
    let named =
        |status: u16, digest: &str| Answer::status(status).header("Docker-Content-Digest", digest);
    let silent = Answer::status;
    let there = || named(200, &digest.to_string());
    let document = || Answer::ok(image.manifest.clone());
    let cases: [(&str, Answer, Answer, Answer, Option<&str>); 11] = [
        (
            "201",
            named(201, &digest.to_string()),
            silent(404),
            silent(404),
            None,
        ),
        (
            "200",
            named(200, &digest.to_string()),
            silent(404),
            silent(404),
            None,
        ),
        (
            "202",
            named(202, &digest.to_string()),
            silent(404),
            silent(404),
            None,
        ),
        (
            "204",
            named(204, &digest.to_string()),
            silent(404),
            silent(404),
            None,
        ),
        (
            "202, other",
            named(202, &other),
            there(),
            document(),
            Some("but it is sha256:"),
        ),
        ("202, HEAD", silent(202), there(), silent(404), None),
        ("201, HEAD", silent(201), there(), silent(404), None),
        ("200, GET", silent(200), silent(200), document(), None),
        ("200, no HEAD", silent(200), silent(405), document(), None),
        (
            "202, not there",
            silent(202),
            silent(404),
            silent(404),
            Some("does not have what was sent"),
        ),
        (
            "200, another",
            silent(200),
            named(200, &other),
            document(),
            Some("but it is sha256:"),
        ),
    ];
    for (case, put, head, get, refused) in cases {
        let registry = Registry::start();
        for name in [digest.to_string(), "v1".to_owned()] {
            let path = format!("/v2/acme/xdp/manifests/{name}");
            registry.route("PUT", &path, put.clone());
            registry.route("HEAD", &path, head.clone());
            registry.route("GET", &path, get.clone());
        }
        let pushed = push(
            &reference(&registry, ":v1"),
            None,
            std::slice::from_ref(&image),
            None,
        );
        match (pushed, refused) {
            (Ok(pushed), None) => assert_eq!(pushed, digest, "{case}"),
            (Err(error), Some(refused)) => {
                let text = chain(&error);
                assert!(text.contains(refused), "{case}: {text}");
                assert!(error.hint().unwrap().contains("push it again"), "{case}");
            }
            (found, _) => panic!("{case}: {found:?}"),
        }
    }
}

/// Registries that take an upload by POST, PATCH and PUT only, and refuse the short way each in its own words.
#[test]
fn uploads_go_by_patch_where_nothing_else_is_taken() {
    for (status, location) in [
        (405, true),
        (400, true),
        (404, false),
        (501, true),
        (411, false),
    ] {
        let registry = Registry::start();
        let uploads = "/v2/acme/xdp/blobs/uploads";
        let begun =
            |name: &str| Answer::status(202).header("Location", format!("{uploads}/{name}"));
        registry.route("POST", &format!("{uploads}/"), begun("1"));
        registry.route("PUT", &format!("{uploads}/1"), Answer::status(status));
        let (patched, last) = match location {
            true => (begun("2"), "2"),
            false => (Answer::status(202), "1"),
        };
        registry.route("PATCH", &format!("{uploads}/1"), patched);
        if location {
            registry.route("PUT", &format!("{uploads}/{last}"), Answer::status(201));
        } else {
            // The same address takes the end of it.
            registry.first("PUT", &format!("{uploads}/1"), vec![Answer::status(status)]);
            registry.route("PUT", &format!("{uploads}/1"), Answer::status(201));
        }
        let image = Parts::new("pass").image();
        push(
            &reference(&registry, ":v1"),
            None,
            std::slice::from_ref(&image),
            None,
        )
        .unwrap_or_else(|error| panic!("{status}: {}", chain(&error)));
        let asked = registry.asked();
        let patches: Vec<_> = asked
            .iter()
            .filter(|asked| asked.method == "PATCH")
            .collect();
        let layer = image.layers[0].1.len();
        assert_eq!(patches.len(), 2, "{status}");
        assert!(
            patches
                .iter()
                .any(|patch| patch.content_range == Some(format!("0-{}", layer - 1))),
            "{status}: {patches:?}"
        );
        let end = |asked: &&&crate::server::Asked| asked.path.contains("digest=sha256%3A");
        assert!(
            asked
                .iter()
                .filter(|asked| asked.method == "PUT")
                .any(|put| end(&&put) && put.body.is_empty())
        );
    }
}

#[test]
fn a_refused_blob_is_refused_by_what_was_said_first() {
    let registry = Registry::start();
    let uploads = "/v2/acme/xdp/blobs/uploads";
    let begun = Answer::status(202).header("Location", format!("{uploads}/1"));
    registry.route("POST", &format!("{uploads}/"), begun);
    let refused = Answer {
        body: br#"{"errors":[{"code":"SIZE_INVALID","message":"too big"}]}"#.to_vec(),
        ..Answer::status(413)
    };
    registry.route("PUT", &format!("{uploads}/1"), refused);
    registry.route("PATCH", &format!("{uploads}/1"), Answer::status(405));
    let image = Parts::new("pass").image();
    let error = push(
        &reference(&registry, ":v1"),
        None,
        std::slice::from_ref(&image),
        None,
    )
    .unwrap_err();
    assert!(
        chain(&error).contains("SIZE_INVALID: too big"),
        "{}",
        chain(&error)
    );
}

/// An upload address that redirects keeps method and body.
#[test]
fn uploads_follow_redirects_that_keep_the_method() {
    let registry = Registry::start();
    let uploads = "/v2/acme/xdp/blobs/uploads";
    let begun = Answer::status(202).header("Location", format!("{uploads}/1"));
    registry.route("POST", &format!("{uploads}/"), begun);
    registry.route(
        "PUT",
        &format!("{uploads}/1"),
        Answer::status(307).header("Location", "/elsewhere"),
    );
    registry.route("PUT", "/elsewhere", Answer::status(201));
    let image = Parts::new("pass").image();
    push(
        &reference(&registry, ":v1"),
        None,
        std::slice::from_ref(&image),
        None,
    )
    .unwrap();
    let asked = registry.asked();
    assert!(
        asked
            .iter()
            .any(|asked| asked.path == "/elsewhere" && !asked.body.is_empty())
    );
}
