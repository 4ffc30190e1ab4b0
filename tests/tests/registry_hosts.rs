//! A host's own configuration of registries, against the real `docker-registry`: private CAs, logins, mirrors, blocked
//! registries, short names. What is left in the store is confirmed by other tools.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::path::Path;

use bpfman_tests::cli::{Bpfman, HELD};
use bpfman_tests::objects::Object;
use bpfman_tests::registry::Registry;

const DOWNLOADED: &str = "Successfully downloaded bytecode\n";

const PASSWORD: &str = "s3cr3t";

/// `tester:s3cr3t`.
const LOGIN: &str = "dGVzdGVyOnMzY3IzdA==";

fn write(path: &Path, text: &str) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

fn registries(bpfman: &Bpfman, text: &str) {
    write(
        &bpfman.home().join(".config/containers/registries.conf"),
        text,
    );
}

fn trust(bpfman: &Bpfman, registry: &Registry) {
    let folder = bpfman
        .home()
        .join(".config/containers/certs.d")
        .join(registry.address());
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::copy(registry.ca(), folder.join("ca.crt")).unwrap();
}

fn build(bpfman: &Bpfman, object: &Object, reference: &str, more: &[&str]) {
    let arguments = [
        "image",
        "build",
        "--runtime",
        "builtin",
        "-t",
        reference,
        "-b",
        object.arg(),
    ];
    let _ = bpfman.run(&[&arguments[..], more].concat()).ok();
}

/// A run at `-vv` whose output has no secret in it.
fn secretly(bpfman: &Bpfman, arguments: &[&str]) -> bpfman_tests::cli::Outcome {
    let outcome = bpfman.run(&[&["-vv"], arguments].concat());
    for secret in [PASSWORD, LOGIN] {
        let shown = format!("{}{}", outcome.stdout, outcome.stderr);
        assert!(!shown.contains(secret), "{secret} in {shown}");
    }
    outcome
}

#[test]
fn a_private_ca_and_every_source_of_a_login() {
    let (Some(registry), Some(object)) = (Registry::start_secure(), Object::example("xdp-counter"))
    else {
        return;
    };
    let reference = registry.reference("acme/xdp-counter:test");
    let builder = Bpfman::new();
    trust(&builder, &registry);
    build(&builder, &object, &reference, &["--registry-auth", LOGIN]);

    let pull = ["image", "pull", "-i", &reference];
    let auth = format!(
        r#"{{"auths":{{"{}":{{"auth":"{LOGIN}"}}}}}}"#,
        registry.address()
    );
    let helper = format!(
        r#"{{"credHelpers":{{"{}":"of-a-test"}}}}"#,
        registry.address()
    );

    // Nobody vouches for the registry's certificate.
    let stranger = Bpfman::new();
    let text = secretly(&stranger, &[&pull[..], &["-r", LOGIN]].concat());
    assert!(text.failure().contains(registry.address()), "{text:#?}");
    assert!(
        text.stderr.to_lowercase().contains("certificate") || text.stderr.contains("UnknownIssuer"),
        "{text:#?}"
    );

    // Somebody does, and nobody logs in.
    let bpfman = Bpfman::new();
    trust(&bpfman, &registry);
    let outcome = secretly(&bpfman, &pull);
    assert!(
        outcome.failure().contains("asks for credentials"),
        "{outcome:#?}"
    );
    assert!(outcome.stderr.contains("podman login"), "{outcome:#?}");

    assert_eq!(
        secretly(&bpfman, &[&pull[..], &["-r", LOGIN]].concat()).ok(),
        DOWNLOADED
    );
    let sources = [
        (".docker/config.json", None),
        (".config/containers/auth.json", None),
        ("run/containers/auth.json", Some("XDG_RUNTIME_DIR")),
        ("docker/config.json", Some("DOCKER_CONFIG")),
        ("elsewhere.json", Some("REGISTRY_AUTH_FILE")),
    ];
    for (file, variable) in sources {
        let bpfman = Bpfman::new();
        trust(&bpfman, &registry);
        let path = bpfman.home().join(file);
        write(&path, &auth);
        let value = match variable {
            Some("REGISTRY_AUTH_FILE") => path.clone(),
            Some("XDG_RUNTIME_DIR") => bpfman.home().join("run"),
            _ => path.parent().unwrap().to_owned(),
        };
        let value = value.to_string_lossy().into_owned();
        let bpfman = match variable {
            Some(variable) => bpfman.env(variable, &value),
            None => bpfman,
        };
        assert_eq!(secretly(&bpfman, &pull).ok(), DOWNLOADED, "{file}");
    }
    let bpfman = Bpfman::new();
    trust(&bpfman, &registry);
    write(&bpfman.home().join(".docker/config.json"), &helper);
    let program = bpfman.home().join("bin/docker-credential-of-a-test");
    write(
        &program,
        &format!(
            "#!/bin/sh\ncat >/dev/null\necho '{{\"Username\":\"tester\",\"Secret\":\"{PASSWORD}\"}}'\n"
        ),
    );
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&program, mode).unwrap();
    let path = format!(
        "{}:{}",
        program.parent().unwrap().display(),
        std::env::var("PATH").unwrap_or_default()
    );
    let bpfman = bpfman.env("PATH", &path);
    assert_eq!(secretly(&bpfman, &pull).ok(), DOWNLOADED, "a helper");
}

#[test]
fn mirrors_blocked_registries_and_short_names() {
    let (Some(registry), Some(object)) = (Registry::start(), Object::example("xdp-counter")) else {
        return;
    };
    let bpfman = Bpfman::new();
    build(
        &bpfman,
        &object,
        &registry.reference("acme/xdp-counter:test"),
        &[],
    );
    let address = registry.address();

    // A mirror that is down is passed over, and the image keeps its name.
    registries(
        &bpfman,
        &format!(
            "[[registry]]\nprefix = 'quay.example/acme'\nlocation = '{address}/acme'\n[[registry.mirror]]\nlocation = '127.0.0.1:1/acme'\n"
        ),
    );
    let pulled = bpfman.run(&["image", "pull", "-i", "quay.example/acme/xdp-counter:test"]);
    assert_eq!(pulled.ok(), DOWNLOADED);
    assert!(pulled.stderr.contains("mirror"), "{pulled:#?}");
    let list = bpfman.run(&["image", "list"]);
    assert!(
        list.ok().contains(" quay.example/acme/xdp-counter:test "),
        "{list:#?}"
    );

    registries(
        &bpfman,
        &format!(
            "unqualified-search-registries = ['{address}']\n[aliases]\n'counter' = '{address}/acme/xdp-counter'\n[[registry]]\nlocation = 'blocked.example'\nblocked = true\n"
        ),
    );
    for short in ["acme/xdp-counter:test", "counter:test"] {
        let always = bpfman.run(&["image", "pull", "-p", "Always", "-i", short]);
        assert_eq!(always.ok(), HELD, "{short}");
        let never = bpfman.run(&["image", "inspect", short]);
        assert_eq!(
            never.field("Name"),
            registry.reference("acme/xdp-counter:test")
        );
    }
    let blocked = bpfman.run(&["image", "pull", "-i", "blocked.example/a/b"]);
    assert!(blocked.failure().contains("is blocked"), "{blocked:#?}");
}
