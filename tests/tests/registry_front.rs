//! What stands before a real registry: a token service, a proxy, storage elsewhere, client certificates. And what nobody may
//! read of it: every secret on the way is looked for in everything that is printed, however much is asked for.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use bpfman_tests::cli::{Bpfman, Outcome};
use bpfman_tests::faulty::{self, Answer};
use bpfman_tests::lanes;
use bpfman_tests::objects::Object;
use bpfman_tests::registry::Registry;
use serde_json::json;

const DOWNLOADED: &str = "Successfully downloaded bytecode\n";

const PASSWORD: &str = "s3cr3t";

/// `tester:s3cr3t`.
const LOGIN: &str = "dGVzdGVyOnMzY3IzdA==";

const TOKEN: &str = "bearer-token-of-nobody";
const IDENTITY: &str = "identity-token-of-nobody";
const QUERY: &str = "signature-of-nobody";

/// Everything that must stay unread.
const SECRETS: [&str; 5] = [PASSWORD, LOGIN, TOKEN, IDENTITY, QUERY];

fn write(path: &Path, text: &str) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

fn build(object: &Object, reference: &str) {
    let words = ["image", "build", "--runtime", "builtin", "-t", reference];
    let words = [&words[..], &["-b", object.arg()]].concat();
    let _ = Bpfman::new().run(&words).ok();
}

/// A pull that asks the registry, with everything shown that can be: `-vv`, then what libraries have to say too. No secret
/// is in any of it; what the second one ended with.
fn secretly(bpfman: &Bpfman, image: &str) -> Outcome {
    let pull = ["image", "pull", "-p", "Always", "-i", image];
    let most = bpfman.command(&[&["-vv"], &pull[..]].concat()).output();
    let all = bpfman.command(&pull).env("RUST_LOG", "trace").output();
    let [most, all] = [most, all].map(|output| Outcome::of(&output.unwrap()));
    assert_eq!(most.status, all.status, "{most:#?} {all:#?}");
    for outcome in [&most, &all] {
        let shown = format!("{}{}", outcome.stdout, outcome.stderr);
        for secret in SECRETS {
            assert!(!shown.contains(secret), "{secret} in {shown}");
        }
    }
    assert!(all.stderr.contains("trace: "), "libraries speak: {all:#?}");
    all
}

/// A registry with an image, a front before it, and the image's name there.
fn behind_a_front() -> Option<(Registry, faulty::Registry, String, Object)> {
    let registry = Registry::start()?;
    let object = Object::example("xdp-counter")?;
    build(&object, &registry.reference("acme/xdp-counter:test"));
    let front = faulty::Registry::start();
    front.stand_before(registry.address());
    let name = format!("{}/acme/xdp-counter:test", front.address);
    Some((registry, front, name, object))
}

fn auth(bpfman: &Bpfman, front: &faulty::Registry, entry: serde_json::Value) {
    let address = front.address.to_string();
    let text = json!({ "auths": { address: entry } }).to_string();
    write(&bpfman.home().join(".config/containers/auth.json"), &text);
}

#[test]
fn a_bearer_token_before_a_real_registry() {
    let Some((_registry, front, name, _)) = behind_a_front() else {
        return;
    };
    let address = front.address;
    let challenge = format!(
        r#"Bearer realm="http://{address}/token",service="reg",scope="repository:acme/xdp-counter:pull""#
    );
    let challenge = Answer::status(401).header("WWW-Authenticate", challenge);
    front.need(&format!("Bearer {TOKEN}"), challenge);
    let token = |key: &str| Answer::ok(json!({ key: TOKEN, "expires_in": 60 }).to_string());

    // Nobody, a password, an identity token: each asks once, in its own way, and goes on with what it got.
    let cases = [
        (None, "GET", None),
        (
            Some(json!({ "auth": LOGIN })),
            "GET",
            Some(format!("Basic {LOGIN}")),
        ),
        (Some(json!({ "identitytoken": IDENTITY })), "POST", None),
    ];
    front.route("GET", "/token", token("token"));
    front.route("POST", "/token", token("access_token"));
    for (entry, method, authorization) in cases {
        let bpfman = Bpfman::new();
        if let Some(entry) = entry.clone() {
            auth(&bpfman, &front, entry);
        }
        secretly(&bpfman, &name).pulled();
        let asked = front.asked();
        let tokens: Vec<_> = asked
            .iter()
            .filter(|asked| asked.path.starts_with("/token"))
            .collect();
        // One for each of the two pulls.
        assert_eq!(tokens.len(), 2, "{asked:?}");
        assert_eq!(tokens[0].method, method);
        assert_eq!(tokens[0].authorization, authorization);
        assert_eq!(tokens[0].body.contains(IDENTITY), method == "POST");
    }
}

#[test]
fn storage_elsewhere_is_reached_by_a_signed_address_that_nobody_reads() {
    let Some((registry, front, name, _)) = behind_a_front() else {
        return;
    };
    let bpfman = Bpfman::new();
    let inspected = bpfman.run(&["image", "pull", "-i", &name, "-o", "json"]);
    let inspected: serde_json::Value = serde_json::from_str(inspected.ok()).unwrap();
    let manifest = inspected["manifest_digest"]
        .as_str()
        .or(inspected["digest"].as_str());
    let manifest = std::fs::read(registry.blob_file(manifest.unwrap())).unwrap();
    let manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
    let layer = manifest["layers"][0]["digest"].as_str().unwrap();
    let path = format!("/v2/acme/xdp-counter/blobs/{layer}");

    let storage = faulty::Registry::start();
    let address = format!("http://{}/there?X-Amz-Signature={QUERY}", storage.address);
    front.route(
        "GET",
        &path,
        Answer::status(307).header("Location", address),
    );
    let bytes = std::fs::read(registry.blob_file(layer)).unwrap();
    storage.route("GET", "/there", Answer::ok(bytes));
    let fresh = Bpfman::new();
    secretly(&fresh, &name).pulled();
    assert!(storage.asked()[0].path.contains(QUERY));
    for answer in [
        Answer::status(403),
        Answer::ok("something else"),
        Answer::default().reset(),
        Answer::status(307).header("Location", format!("ftp://127.0.0.1/?again={QUERY}")),
        Answer::status(307).header("Location", format!("?again={QUERY}")),
    ] {
        storage.route("GET", "/there", answer);
        let outcome = secretly(&Bpfman::new(), &name);
        assert!(outcome.failure().contains(layer), "{outcome:#?}");
    }
}

#[test]
fn a_proxy_on_the_way() {
    let Some((_registry, front, _, _)) = behind_a_front() else {
        return;
    };
    let name = "registry.example/acme/xdp-counter:test";
    let insecure = "[[registry]]\nlocation = 'registry.example'\ninsecure = true\n";
    let through = |extra: &str| {
        let proxy = format!("http://tester:{PASSWORD}@{}", front.address);
        let bpfman = Bpfman::new()
            .env("HTTP_PROXY", &proxy)
            .env("NO_PROXY", extra);
        write(
            &bpfman.home().join(".config/containers/registries.conf"),
            insecure,
        );
        // Plain http after https was refused: that request goes through the other variable's proxy.
        bpfman.env("HTTPS_PROXY", &proxy)
    };
    let bpfman = through("other.example");
    secretly(&bpfman, name).pulled();
    let asked = front.asked();
    let plain: Vec<_> = asked.iter().filter(|asked| asked.method == "GET").collect();
    assert!(plain.len() >= 3, "{asked:#?}");
    for asked in &plain {
        assert!(
            asked
                .path
                .starts_with("http://registry.example/v2/acme/xdp-counter/"),
            "{asked:?}"
        );
        assert_eq!(
            asked.proxy_authorization.as_deref(),
            Some(&*format!("Basic {LOGIN}"))
        );
        assert_eq!(
            asked.authorization, None,
            "the proxy's login is the proxy's"
        );
    }

    // A proxy that does not let us through, and a registry that is not asked through it.
    let path = "http://registry.example/v2/acme/xdp-counter/manifests/test";
    front.route(
        "GET",
        path,
        Answer::status(407).header("Proxy-Authenticate", "Basic realm=p"),
    );
    let outcome = secretly(&through("other.example"), name);
    assert!(outcome.failure().contains("407"), "{outcome:#?}");
    let _ = front.asked();
    let outcome = secretly(&through("registry.example"), name);
    assert!(
        outcome.failure().contains("registry.example"),
        "{outcome:#?}"
    );
    assert_eq!(front.asked(), []);
}

/// A program `docker-credential-of-a-test` in front of `PATH`.
fn helper(bpfman: Bpfman, script: &str) -> Bpfman {
    let program = bpfman.home().join("bin/docker-credential-of-a-test");
    write(&program, &format!("#!/bin/sh\n{script}\n"));
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let path = std::env::var("PATH").unwrap_or_default();
    let path = format!("{}:{path}", program.parent().unwrap().display());
    bpfman.env("PATH", &path)
}

#[test]
fn a_store_of_logins_and_one_that_fails() {
    let (Some(registry), Some(object)) = (Registry::start_secure(), Object::example("xdp-counter"))
    else {
        return;
    };
    let host = || {
        let bpfman = Bpfman::new();
        let folder = format!(".config/containers/certs.d/{}", registry.address());
        let folder = bpfman.home().join(folder);
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::copy(registry.ca(), folder.join("ca.crt")).unwrap();
        let text = r#"{"credsStore":"of-a-test"}"#;
        write(&bpfman.home().join(".docker/config.json"), text);
        bpfman
    };
    let name = registry.reference("acme/xdp-counter:test");
    let builder = host();
    let words = ["image", "build", "--runtime", "builtin", "-t", &name];
    let words = [&words[..], &["-b", object.arg(), "--registry-auth", LOGIN]].concat();
    let _ = builder.run(&words).ok();

    let answer = format!(r#"{{"Username":"tester","Secret":"{PASSWORD}"}}"#);
    let bpfman = helper(host(), &format!("read -r _; echo '{answer}'"));
    secretly(&bpfman, &name).pulled();

    // What fails may have said the secret already: to stdout, to stderr, or in the middle of something broken.
    for script in [
        format!("echo '{PASSWORD}' >&2; echo the vault is locked; exit 1"),
        format!("echo '{answer}'; exit 1"),
        format!("echo '{{\"Username\":\"tester\",\"Secret\":\"{PASSWORD}\"'"),
        format!("echo '{{\"Username\":\"tester\",\"Secret\":[\"{PASSWORD}\"]}}'"),
        format!("echo '{answer}'; kill -9 $$"),
    ] {
        let bpfman = helper(host(), &script);
        let outcome = secretly(&bpfman, &name);
        assert!(
            outcome.failure().contains("of-a-test"),
            "{script}: {outcome:#?}"
        );
    }
}

#[test]
fn client_certificates() {
    let (Some(registry), Some(object)) = (Registry::start_mutual(), Object::example("xdp-counter"))
    else {
        return;
    };
    let name = registry.reference("acme/xdp-counter:test");
    let host = |with: bool| {
        let bpfman = Bpfman::new();
        let folder = format!(".config/containers/certs.d/{}", registry.address());
        let folder = bpfman.home().join(folder);
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::copy(registry.ca(), folder.join("ca.crt")).unwrap();
        if with {
            let client = registry.tls().client();
            std::fs::copy(client.certificate, folder.join("client.cert")).unwrap();
            std::fs::copy(client.key, folder.join("client.key")).unwrap();
        }
        bpfman
    };
    let known = host(true);
    let words = ["image", "build", "--runtime", "builtin", "-t", &name];
    let _ = known
        .run(&[&words[..], &["-b", object.arg()]].concat())
        .ok();
    assert_eq!(known.run(&["image", "pull", "-i", &name]).ok(), DOWNLOADED);
    let stranger = host(false).run(&["image", "pull", "-i", &name]);
    assert!(
        stranger.failure().contains(registry.address()),
        "{stranger:#?}"
    );
}

#[test]
fn drop_ins_and_a_file_that_a_variable_names() {
    let (Some(registry), Some(object)) = (Registry::start(), Object::example("xdp-counter")) else {
        return;
    };
    build(&object, &registry.reference("acme/xdp-counter:test"));
    let moved = |place: &str| {
        format!(
            "[[registry]]\nprefix = 'quay.example/acme'\nlocation = '{}/{place}'\n",
            registry.address()
        )
    };
    let pull = [
        "image",
        "pull",
        "-p",
        "Always",
        "-i",
        "quay.example/acme/xdp-counter:test",
    ];

    let bpfman = Bpfman::new();
    let containers = bpfman.home().join(".config/containers");
    write(&containers.join("registries.conf"), &moved("nowhere"));
    let outcome = bpfman.run(&pull);
    assert!(outcome.failure().contains("not found"), "{outcome:#?}");
    // The last of them in the order of their names counts; what is not called .conf does not.
    write(
        &containers.join("registries.conf.d/10-early.conf"),
        &moved("neither"),
    );
    write(
        &containers.join("registries.conf.d/20-late.conf"),
        &moved("acme"),
    );
    write(
        &containers.join("registries.conf.d/30-old.conf.orig"),
        &moved("nowhere"),
    );
    assert_eq!(bpfman.run(&pull).ok(), DOWNLOADED);
    write(
        &containers.join("registries.conf.d/40-broken.conf"),
        "[[registry]]\nlocation = 1\n",
    );
    let outcome = bpfman.run(&pull);
    assert!(
        outcome
            .failure()
            .contains("registries.conf.d/40-broken.conf, line 2, key"),
        "{outcome:#?}"
    );

    let bpfman = Bpfman::new();
    let named = bpfman.home().join("elsewhere.conf");
    let bpfman = bpfman.env("CONTAINERS_REGISTRIES_CONF", named.to_str().unwrap());
    let outcome = bpfman.run(&pull);
    assert!(outcome.failure().contains("elsewhere.conf"), "{outcome:#?}");
    write(&named, &moved("acme"));
    let usual = bpfman.home().join(".config/containers/registries.conf");
    write(&usual, &moved("nowhere"));
    assert_eq!(bpfman.run(&pull).ok(), DOWNLOADED);
}

/// Progress is for whoever looks at a terminal; a pipe and a log have the result and nothing else.
#[test]
fn progress_on_a_terminal_and_nowhere_else() {
    let Some(script) = lanes::tool("script") else {
        return;
    };
    let Some((registry, front, name, _)) = behind_a_front() else {
        return;
    };
    let _ = Bpfman::new().run(&["image", "pull", "-i", &name]).ok();
    let layers: Vec<_> = front
        .asked()
        .into_iter()
        .filter(|asked| asked.path.contains("/blobs/"))
        .collect();
    assert_eq!(layers.len(), 2);
    // Slow enough for a bar to be drawn.
    for asked in layers {
        let digest = asked.path.rsplit('/').next().unwrap();
        let answer = Answer {
            trickle: Some(std::time::Duration::from_micros(500)),
            ..Answer::ok(std::fs::read(registry.blob_file(digest)).unwrap())
        };
        front.route("GET", &asked.path, answer);
    }
    let drawn = |text: &str| text.contains("B/s") || text.contains('\u{1b}') || text.contains('\r');
    let piped = Bpfman::new().run(&["image", "pull", "-i", &name]);
    assert_eq!(piped.ok(), DOWNLOADED);
    assert!(!drawn(&piped.stderr), "{piped:#?}");

    // `script` gives its command a terminal, and is run by what tests run bpfman by: its words come after these.
    let quiet = r#"script=$0; exec "$script" -qec "$*" /dev/null"#;
    let script = script.to_str().unwrap();
    let bpfman = Bpfman::new().env("TERM", "xterm");
    let shown = bpfman.run_by(
        &["sh", "-c", quiet, script],
        &["image", "pull", "-i", &name],
    );
    assert!(shown.ok().contains(DOWNLOADED.trim()), "{shown:#?}");
    assert!(drawn(&shown.stdout.replace("\r\n", "\n")), "{shown:#?}");
}
