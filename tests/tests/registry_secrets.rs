//! Registries, token services, proxies and helpers that send secrets back, in many forms: none of them is shown.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use bpfman_tests::cli::{Bpfman, Outcome};
use bpfman_tests::faulty::{Answer, Registry};
use serde_json::json;

const PASSWORD: &str = "S3CRET pw+/\"x";
const USER: &str = "user";
/// `user:S3CRET pw+/"x`.
const LOGIN: &str = "dXNlcjpTM0NSRVQgcHcrLyJ4";
const TOKEN: &str = "TOK3N-0f-a-s3rvice";

/// Forms of a secret that a server may send.
fn forms() -> Vec<(&'static str, String)> {
    let percent: String = PASSWORD
        .bytes()
        .map(|byte| format!("%{byte:02X}"))
        .collect();
    let parts = |by: &str| {
        let parts: Vec<_> = PASSWORD.chars().map(String::from).collect();
        parts.join(by)
    };
    vec![
        ("password", PASSWORD.to_owned()),
        ("header", format!("Basic {LOGIN}")),
        ("login", LOGIN.to_owned()),
        ("token", format!("Bearer {TOKEN}")),
        ("percent", percent.clone()),
        ("percent twice", percent.replace('%', "%25")),
        ("form", "S3CRET+pw%2B%2F%22x".to_owned()),
        ("JSON", json!(PASSWORD).to_string()),
        ("HTML", "S3CRET pw+/&quot;x".to_owned()),
        ("lines", parts("\n")),
        ("invisible", parts("\u{200b}")),
        ("escapes", parts("\u{1b}")),
        ("URL", format!("http://{USER}:S3CRET%20pw@127.0.0.1:1/x")),
    ]
}

/// Whether a text shows a secret, with what is not seen taken out.
fn leaks(text: &str) -> Option<&'static str> {
    let seen: String = text
        .replace("\\u{200b}", "")
        .replace("\\u{1b}", "")
        .replace("%25", "%")
        .replace("%22", "\"")
        .chars()
        .filter(|c| !c.is_whitespace() && !c.is_control() && *c != '\u{200b}' && *c != '\\')
        .collect();
    [
        "S3CRETpw",
        "S3CRET+pw",
        "dXNlcjpT",
        "TOK3N-0f",
        "%53%33%43",
        "S3CRET%20pw",
    ]
    .into_iter()
    .find(|secret| seen.contains(secret))
}

fn pull(bpfman: &Bpfman, registry: &Registry, level: &[&str], trace: bool) -> Outcome {
    let image = format!("{}/acme/xdp:v1", registry.address);
    let words = [
        level,
        &["image", "pull", "-p", "Always", "-i", &image, "-r", LOGIN],
    ]
    .concat();
    let mut command = bpfman.command(&words);
    if trace {
        command.env("RUST_LOG", "trace");
    }
    let outcome = Outcome::of(&command.output().unwrap());
    let error = outcome.failure();
    assert!(
        error.contains(&format!("error: cannot pull {image}\n")),
        "{error}"
    );
    outcome
}

/// Whatever a registry sends back, in a body, a header or a redirect, at any level of the log.
#[test]
fn nothing_that_a_registry_sends_back_is_shown() {
    for (form, secret) in forms() {
        let printable: String = secret
            .chars()
            .filter(|c| !c.is_control() && c.is_ascii())
            .collect();
        let body = |code: &str| json!({"errors": [{"code": code, "message": format!("no {secret} here")}]});
        let long = format!("{}{secret}", "x".repeat(190));
        let answers = [
            Answer {
                body: body("DENIED").to_string().into_bytes(),
                ..Answer::status(403)
            },
            Answer {
                body: body(&secret).to_string().into_bytes(),
                ..Answer::status(404)
            },
            Answer {
                body: json!({"errors": [{"code": "X", "message": long}]})
                    .to_string()
                    .into_bytes(),
                ..Answer::status(400)
            },
            Answer::status(401).header("WWW-Authenticate", printable.clone()),
            Answer::status(401).header(
                "WWW-Authenticate",
                format!("Bearer realm=\"ftp://x/{printable}\""),
            ),
            Answer::status(401).header("WWW-Authenticate", format!("Bearer realm='{printable}'")),
            Answer::status(307).header("Location", format!("ftp://{USER}:{printable}@127.0.0.1/")),
            Answer::status(307).header(
                "Location",
                format!("http://{USER}:pw@127.0.0.1:1/?x={printable}"),
            ),
            Answer::status(307).header("Location", printable.clone()),
            Answer::ok("{}").header("Docker-Content-Digest", format!("sha256:{printable}")),
            Answer::ok(secret.clone()).header("Content-Type", printable.clone()),
        ];
        for (at, answer) in answers.into_iter().enumerate() {
            let registry = Registry::start();
            registry.first(
                "GET",
                "/v2/acme/xdp/manifests/v1",
                vec![Answer::status(401).header("WWW-Authenticate", "Basic realm=\"x\"")],
            );
            registry.route("GET", "/v2/acme/xdp/manifests/v1", answer);
            let bpfman = Bpfman::new();
            // The token is known only where one was given.
            let levels: [(&[&str], bool); 2] = [(&["-vv"], false), (&[], true)];
            for (level, trace) in levels {
                let outcome = pull(&bpfman, &registry, level, trace);
                if form != "token" {
                    assert_eq!(leaks(&outcome.stderr), None, "{form} {at} {outcome:#?}");
                }
                registry.first(
                    "GET",
                    "/v2/acme/xdp/manifests/v1",
                    vec![Answer::status(401).header("WWW-Authenticate", "Basic realm=\"x\"")],
                );
            }
        }
    }
}

#[test]
fn tokens_that_are_sent_back_are_not_shown() {
    for key in ["token", "access_token"] {
        let registry = Registry::start();
        let realm = format!(
            "Bearer realm=\"http://{}/token\",service=\"s\"",
            registry.address
        );
        registry.route(
            "GET",
            "/token",
            Answer::ok(json!({ key: TOKEN }).to_string()),
        );
        registry.need(
            &format!("Bearer {TOKEN}"),
            Answer::status(401).header("WWW-Authenticate", realm),
        );
        let message = format!("{TOKEN} and Bearer {TOKEN} and {}", &TOKEN[..14]);
        let body = json!({"errors": [{"code": "DENIED", "message": message}]});
        registry.route(
            "GET",
            "/v2/acme/xdp/manifests/v1",
            Answer {
                body: body.to_string().into_bytes(),
                ..Answer::status(403)
            },
        );
        let outcome = pull(&Bpfman::new(), &registry, &["-vv"], false);
        assert!(
            outcome
                .stderr
                .contains("DENIED: *** and Bearer *** and ***"),
            "{outcome:#?}"
        );
        assert_eq!(leaks(&outcome.stderr), None, "{outcome:#?}");
    }
}

#[test]
fn passwords_of_proxies_are_not_shown() {
    for proxy in [
        "http://u:S3CRETpw@127.0.0.1:1",
        "u:S3CRETpw@127.0.0.1:1",
        "socks5://u:S3CRETpw@127.0.0.1:1",
        "ftp://u:S3CRETpw@h",
        "http://u:S3CRETpw@:::",
        "http://u:S3CRET%70w@127.0.0.1:99999",
        "http://S3CRETpw@127.0.0.1:1",
    ] {
        let bpfman = Bpfman::new()
            .env("HTTPS_PROXY", proxy)
            .env("RUST_LOG", "trace");
        let outcome = bpfman.run(&["image", "pull", "-i", "example.test/acme/xdp:v1"]);
        let error = outcome.failure();
        assert!(
            error.contains("error: cannot pull example.test/acme/xdp:v1\n"),
            "{error}"
        );
        assert_eq!(leaks(error), None, "{proxy} {error}");
    }
}

#[test]
fn helpers_that_talk_are_not_quoted_with_a_password() {
    for script in [
        format!("echo '{LOGIN} is refused'; exit 1"),
        "echo 'S3CRET pw+/\"x is refused' >&2; echo no; exit 1".to_owned(),
        "echo '{\"Username\":\"u\",\"Secret\":\"S3CRETpw\"'".to_owned(),
        "echo '{\"Username\":\"u\",\"Secret\":\"S3CRETpw\"}'; exit 3".to_owned(),
    ] {
        let registry = Registry::start();
        let challenge = Answer::status(401).header("WWW-Authenticate", "Basic realm=\"x\"");
        registry.need("nobody", challenge);
        let bpfman = Bpfman::new();
        let write = |path: &Path, text: &str| {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        let helper = bpfman.home().join("bin/docker-credential-test");
        write(&helper, &format!("#!/bin/sh\n{script}\n"));
        std::fs::set_permissions(&helper, std::fs::Permissions::from_mode(0o700)).unwrap();
        let address = registry.address.to_string();
        write(
            &bpfman.home().join(".config/containers/auth.json"),
            &json!({"auths": {"other.example": {"auth": LOGIN}}, "credHelpers": {address: "test"}})
                .to_string(),
        );
        let path = format!("{}:/usr/bin:/bin", bpfman.home().join("bin").display());
        let image = format!("{}/acme/xdp:v1", registry.address);
        let outcome = Outcome::of(
            &bpfman
                .command(&["-vv", "image", "pull", "-i", &image])
                .env("PATH", path)
                .output()
                .unwrap(),
        );
        assert_eq!(leaks(outcome.failure()), None, "{script} {outcome:#?}");
    }
}
