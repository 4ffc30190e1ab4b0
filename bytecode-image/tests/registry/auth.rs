use bytecode_image::pull::{BytecodeImage, PullError, PullPolicy, PullRequest, Trust, pull};
use bytecode_image::reference::Reference;
use bytecode_image::registry::auth::Credentials;

use crate::images::{Parts, TestStore, blob_path, chain, platform, reference, serve};
use crate::server::{Answer, Registry};

const BASIC: &str = "Basic dXNlcjpzM2NyM3Q=";

fn credentials() -> Option<Credentials> {
    Some(Credentials::from_base64("dXNlcjpzM2NyM3Q=").unwrap())
}

fn challenge(text: String) -> Answer {
    Answer::status(401).header("WWW-Authenticate", text)
}

fn registry() -> Registry {
    let registry = Registry::start();
    serve(&registry, &Parts::new("pass").image(), &["v1"]);
    registry
}

fn pull_as(
    reference: &Reference,
    credentials: Option<Credentials>,
) -> Result<BytecodeImage, PullError> {
    let store = TestStore::new();
    let (policy, platform) = (PullPolicy::Always, platform());
    let result = pull(
        &store.store,
        &PullRequest {
            reference: reference.clone(),
            short: None,
            policy,
            reach: crate::images::reach().with_credentials(credentials),
            platform,
            trust: Trust::unchecked().into(),
        },
        &(),
    );
    if let Err(error) = &result {
        let text = format!("{error:?} {} {:?}", chain(error), error.hint());
        assert!(
            !text.contains("s3cr3t") && !text.contains("dXNlcjpzM2NyM3Q"),
            "{text}"
        );
    }
    result
}

#[test]
fn basic() {
    let registry = registry();
    registry.need(BASIC, challenge("Basic realm=\"x\"".to_owned()));
    let name = reference(&registry, ":v1");
    pull_as(&name, credentials()).unwrap();
    let sent: Vec<_> = registry
        .asked()
        .into_iter()
        .map(|asked| asked.authorization)
        .collect();
    // Nothing is sent before it is asked for; what was accepted is sent at once afterwards.
    assert_eq!(
        sent,
        [None, Some(BASIC), Some(BASIC), Some(BASIC)].map(|sent| sent.map(str::to_owned))
    );

    let error = pull_as(&name, None).unwrap_err();
    assert!(
        chain(&error).contains("the registry asks for credentials"),
        "{}",
        chain(&error)
    );
    assert!(error.hint().unwrap().contains("--registry-auth"));
    assert_eq!(registry.asked().len(), 1);

    let error = pull_as(
        &name,
        Some(Credentials {
            username: "user".into(),
            password: "other".into(),
        }),
    )
    .unwrap_err();
    assert!(
        chain(&error).contains("does not accept these credentials"),
        "{}",
        chain(&error)
    );
    assert_eq!(registry.asked().len(), 2);
}

#[test]
fn bearer() {
    let registry = registry();
    let address = registry.address;
    let scope = "repository:acme/xdp:pull";
    let text = format!(r#"Bearer realm="http://{address}/token",service="reg",scope="{scope}""#);
    registry.need("Bearer t0ken", challenge(text));
    registry.route(
        "GET",
        "/token",
        Answer::ok(r#"{"token":"t0ken","expires_in":60}"#),
    );
    for (credentials, basic) in [(credentials(), Some(BASIC.to_owned())), (None, None)] {
        pull_as(&reference(&registry, ":v1"), credentials).unwrap();
        let asked = registry.asked();
        assert_eq!(asked.len(), 5);
        assert_eq!(asked[0].authorization, None);
        assert_eq!(
            asked[1].path,
            "/token?service=reg&scope=repository%3Aacme%2Fxdp%3Apull"
        );
        assert_eq!(asked[1].authorization, basic);
        assert!(
            asked[2..]
                .iter()
                .all(|asked| asked.authorization.as_deref() == Some("Bearer t0ken"))
        );
    }
}

#[test]
fn token_services_that_fail() {
    let registry = registry();
    let address = registry.address;
    let bearer = |realm: &str| challenge(format!(r#"Bearer realm="{realm}""#));
    let here = format!("http://{address}/token");
    let cases: Vec<(Answer, Answer, &str)> = vec![
        (
            bearer(&here),
            Answer::status(401),
            "does not accept these credentials",
        ),
        (bearer(&here), Answer::status(500), "HTTP status 500"),
        (bearer(&here), Answer::ok("{}"), "no token in it"),
        (
            bearer(&here),
            Answer::ok(r#"{"token":"wrong"}"#),
            "does not accept these credentials",
        ),
        (
            bearer(&here),
            Answer {
                repeated: Some(100),
                ..Answer::ok(vec![b' '; 4096])
            },
            "at most 65536",
        ),
        (
            bearer("http://example.org/token"),
            Answer::default(),
            "token realm `http://example.org/token` is refused",
        ),
        (
            bearer("token"),
            Answer::default(),
            "token realm `token` is refused",
        ),
        (
            challenge("Negotiate".to_owned()),
            Answer::default(),
            "a challenge that is not understood: \"Negotiate\"",
        ),
        (
            Answer::status(401),
            Answer::default(),
            "a challenge that is not understood",
        ),
    ];
    for (challenge, token, message) in cases {
        registry.need("Bearer t0ken", challenge);
        registry.route("GET", "/token", token);
        let error = chain(&pull_as(&reference(&registry, ":v1"), credentials()).unwrap_err());
        assert!(error.contains(message), "{message}: {error}");
    }
}

#[test]
fn redirects_to_another_host_carry_no_authorization() {
    let (registry, other) = (registry(), Registry::start());
    let image = Parts::new("pass").image();
    registry.need(BASIC, challenge("Basic realm=\"x\"".to_owned()));
    let layer = &image.layers[0].1;
    let name = reference(&registry, ":v1");
    // Neither ours, nor one that the first server put into the address.
    for userinfo in ["", "user:password@", "token@"] {
        let location = format!("http://{userinfo}{}/there?signature=x", other.address);
        registry.route(
            "GET",
            &blob_path(layer),
            Answer::status(307).header("Location", location),
        );
        other.route("GET", "/there", Answer::ok(layer.clone()));
        pull_as(&name, credentials()).unwrap();
        let asked = other.asked();
        assert!(!asked.is_empty(), "{userinfo}");
        assert!(
            asked.iter().all(|asked| asked.authorization.is_none()),
            "{userinfo}"
        );
    }

    // A challenge from there is not answered either.
    other.route("GET", "/there", challenge("Basic realm=\"y\"".to_owned()));
    let error = chain(&pull_as(&name, credentials()).unwrap_err());
    assert!(error.contains("does not accept"), "{error}");
    assert!(
        other
            .asked()
            .iter()
            .all(|asked| asked.authorization.is_none())
    );

    // On the same host it goes along.
    registry.route(
        "GET",
        &blob_path(layer),
        Answer::status(302).header("Location", "/v2/else"),
    );
    registry.route("GET", "/v2/else", Answer::ok(layer.clone()));
    pull_as(&name, credentials()).unwrap();
}

#[test]
fn redirects_that_are_not_followed() {
    let registry = registry();
    let layer = blob_path(&Parts::new("pass").image().layers[0].1);
    for (location, message) in [
        (
            "http://example.org/x?signature=hidden",
            "a redirect to http://example.org is refused",
        ),
        ("ftp://127.0.0.1/x", "is refused"),
        (
            layer.as_str(),
            "leads back to where the request was already",
        ),
    ] {
        registry.route(
            "GET",
            &layer,
            Answer::status(307).header("Location", location),
        );
        let error = chain(&pull_as(&reference(&registry, ":v1"), None).unwrap_err());
        assert!(error.contains(message), "{location}: {error}");
        assert!(!error.contains("hidden"), "{error}");
    }
}

/// Serves a layer behind so many redirects.
fn redirect(registry: &Registry, hops: usize) {
    let layer = Parts::new("pass").image().layers[0].1.clone();
    let path = |hop: usize| match hop {
        0 => blob_path(&layer),
        hop => format!("/hop/{hop}"),
    };
    for hop in 0..hops {
        let location = Answer::status(307).header("Location", path(hop + 1));
        registry.route("GET", &path(hop), location);
    }
    registry.route("GET", &path(hops), Answer::ok(layer.clone()));
}

#[test]
fn redirects_are_followed_ten_times() {
    for (hops, followed) in [(1, true), (6, true), (10, true), (11, false)] {
        let registry = registry();
        redirect(&registry, hops);
        let pulled = pull_as(&reference(&registry, ":v1"), None);
        match pulled {
            Ok(_) => assert!(followed, "{hops}"),
            Err(error) => {
                let error = chain(&error);
                assert!(
                    !followed && error.contains("more than 10 redirects"),
                    "{hops}: {error}"
                );
            }
        }
    }
}

#[test]
fn challenges_of_any_spacing_and_order_are_answered() {
    for challenges in [
        &["Basic realm=x"][..],
        &["basic  realm = \"x\" "],
        &["Negotiate, NTLM TlRM==, Basic realm=\"a, b\",charset=\"UTF-8\""],
        &["Digest realm=\"x\", nonce=\"y=\"", "Basic"],
        &[",,Basic"],
    ] {
        let registry = registry();
        let mut answer = Answer::status(401);
        for challenge in challenges {
            answer = answer.header("WWW-Authenticate", *challenge);
        }
        registry.need(BASIC, answer);
        pull_as(&reference(&registry, ":v1"), credentials())
            .unwrap_or_else(|error| panic!("{challenges:?}: {}", chain(&error)));
    }
}

#[test]
fn tokens_of_every_answer_are_used() {
    for answer in [
        r#"{"token":"","access_token":"T"}"#,
        r#"{"token":null,"access_token":"T"}"#,
        r#"{"token":"T","access_token":""}"#,
        r#"{"access_token":"T","expires_in":60}"#,
    ] {
        let registry = registry();
        let realm = format!("http://{}/token", registry.address);
        registry.route("GET", "/token", Answer::ok(answer));
        let text = format!("bearer service = s ,\trealm = \"{realm}\"");
        registry.need("Bearer T", challenge(text));
        pull_as(&reference(&registry, ":v1"), None)
            .unwrap_or_else(|error| panic!("{answer}: {}", chain(&error)));
    }
}

#[test]
fn refusals_of_strangers_are_not_believed_while_there_is_a_login() {
    for refusal in [403, 404] {
        let registry = registry();
        registry.need(BASIC, Answer::status(refusal));
        let name = reference(&registry, ":v1");
        pull_as(&name, credentials())
            .unwrap_or_else(|error| panic!("{refusal}: {}", chain(&error)));
        let asked = registry.asked();
        assert_eq!(asked[0].authorization, None, "{refusal}");
        // Once it is known, it is shown at once.
        assert!(
            asked[2..].iter().all(|asked| asked.authorization.is_some()),
            "{asked:?}"
        );

        let error = pull_as(&name, None).unwrap_err();
        assert!(
            error.hint().unwrap().contains("podman login"),
            "{refusal}: {:?}",
            error.hint()
        );
        assert_eq!(registry.asked().len(), 1, "{refusal}");

        // Who is not known either is told what a stranger was.
        registry.need("Basic other", Answer::status(refusal));
        let error = pull_as(&name, credentials()).unwrap_err();
        let hint = error.hint().unwrap();
        assert!(
            !hint.contains("podman login") && hint.contains("--registry-auth"),
            "{hint}"
        );
    }
}

/// A registry that answers strangers with 404 and asks at `/v2/` only.
#[test]
fn a_challenge_of_the_base_is_answered() {
    let registry = registry();
    let realm = format!("http://{}/token", registry.address);
    registry.route("GET", "/token", Answer::ok(r#"{"token":"T"}"#));
    registry.need("Bearer T", Answer::status(404));
    registry.first_of_all(
        "/v2/",
        challenge(format!("Bearer realm=\"{realm}\",service=\"s\"")),
    );
    pull_as(&reference(&registry, ":v1"), credentials()).unwrap();
    let asked = registry.asked();
    let token = asked
        .iter()
        .find(|asked| asked.path.starts_with("/token"))
        .unwrap();
    assert_eq!(token.authorization.as_deref(), Some(BASIC));
}
