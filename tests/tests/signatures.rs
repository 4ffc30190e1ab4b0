//! Signatures end to end: every fixture from the real `docker-registry`, then with the registry stopped, then without any
//! network. `signatures_cosign` has what the real cosign 2 and 3 sign.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::path::{Path, PathBuf};
use std::process::Command;

use bpfman_tests::cli::{Bpfman, Outcome};
use bpfman_tests::registry::Registry;
use bpfman_tests::{fixtures, images, lanes};
use serde_json::Value;
use tempfile::TempDir;

const ISSUER: &str = "https://issuer.test";
const WORKFLOW: &str =
    "https://github.com/acme/bytecode/.github/workflows/release.yml@refs/heads/main";

/// Who must have signed.
#[derive(Clone, Copy, PartialEq)]
enum By {
    /// The owner of this key of the fixtures.
    Key(&'static str),
    /// This subject, by the fixtures' issuer.
    Subject(&'static str),
    /// A subject that fits this pattern.
    Pattern(&'static str),
}

/// A fixture, a policy, the trust root of the mock instance (or the built-in one), and what is expected.
struct Row {
    fixture: &'static str,
    by: By,
    root: Option<&'static str>,
    expected: Result<&'static str, &'static str>,
}

const fn row(
    fixture: &'static str,
    by: By,
    root: Option<&'static str>,
    expected: Result<&'static str, &'static str>,
) -> Row {
    Row {
        fixture,
        by,
        root,
        expected,
    }
}

const GOOD: By = By::Key("good");
const OTHER: By = By::Key("other");
const FLOW: By = By::Subject(WORKFLOW);
const MOCK: Option<&str> = Some("trusted_root");
const MOCK_TSA: Option<&str> = Some("trusted_root_tsa");
const NO_KEY: Result<&str, &str> = Err("it is by none of the policy's 1 keys");

/// The table of `tests/fixtures/signatures/README.md`, and what each row must not be taken for.
const ROWS: [Row; 26] = [
    row("unsigned", GOOD, None, Err("has no signature")),
    row("unsigned", FLOW, MOCK, Err("has no signature")),
    row("signed", GOOD, None, Ok("cosign2")),
    row("signed", OTHER, None, NO_KEY),
    row(
        "signed",
        FLOW,
        MOCK,
        Err("the policy lists only identities"),
    ),
    row("wrongkey", GOOD, None, NO_KEY),
    row("wrongkey", OTHER, None, Ok("cosign2")),
    row("v3", GOOD, None, Ok("bundle")),
    row("v3", OTHER, None, NO_KEY),
    row("both", GOOD, None, Ok("cosign2")),
    row("both", OTHER, None, NO_KEY),
    row("evilkey", GOOD, None, NO_KEY),
    row(
        "evilkeycopy",
        GOOD,
        None,
        Err("it is a signature of sha256:"),
    ),
    row("kl2", FLOW, MOCK, Ok("cosign2")),
    row("kl2", FLOW, None, Err("unknown transparency log")),
    row("kl2", GOOD, MOCK, Err("the policy lists only keys")),
    row("kl3", FLOW, MOCK, Ok("bundle")),
    row(
        "kl3",
        By::Pattern("https://github\\.com/acme/.+"),
        MOCK,
        Ok("bundle"),
    ),
    row(
        "kl3",
        By::Pattern("github\\.com/acme"),
        MOCK,
        Err("whom the policy does not list"),
    ),
    row("kl3tsa", FLOW, MOCK_TSA, Ok("bundle")),
    row(
        "kl3tsa",
        FLOW,
        MOCK,
        Err("no timestamp authorities configured"),
    ),
    row("k3rekor", GOOD, MOCK, Ok("bundle")),
    row("k3rekor", GOOD, None, Ok("bundle")),
    row("k3tsa", GOOD, MOCK_TSA, Ok("bundle")),
    row("k3tsa", GOOD, MOCK, Ok("bundle")),
    row("k3tsa", OTHER, MOCK_TSA, NO_KEY),
];

/// What a row's proof says of log entry, times (by whom), and evidence that is not counted.
fn evidence(row: &Row) -> (bool, &'static [&'static str], &'static [&'static str]) {
    match (row.fixture, row.root) {
        ("kl2" | "kl3", _) | ("k3rekor", MOCK) => (true, &["log"], &[]),
        ("kl3tsa", _) => (true, &["authority", "log"], &[]),
        ("k3rekor", _) => (false, &[], &["entry of the unknown log"]),
        ("k3tsa", MOCK_TSA) => (false, &["authority"], &[]),
        ("k3tsa", _) => (false, &[], &["time stamp of an unknown authority"]),
        _ => (false, &[], &[]),
    }
}

/// Compares a proof with [`evidence`].
fn check_evidence(row: &Row, proof: &Value) {
    let (log, times, not_counted) = evidence(row);
    let name = row.fixture;
    assert_eq!(
        proof["log_entry"]["index"].is_u64(),
        log,
        "{name}: {proof:#}"
    );
    let texts = |field: &str, key: &str| -> Vec<String> {
        let list = proof[field].as_array().unwrap().iter();
        let text = |value: &Value| match key {
            "" => value.as_str().unwrap().to_owned(),
            key => value[key].as_str().unwrap().to_owned(),
        };
        list.map(text).collect()
    };
    assert_eq!(texts("times", "source"), times, "{name}: {proof:#}");
    let found = texts("not_counted", "");
    let fits = |(found, start): (&String, &&str)| found.starts_with(*start);
    assert!(
        found.len() == not_counted.len() && found.iter().zip(not_counted).all(fits),
        "{name}: {proof:#}"
    );
}

/// Where and how a command is run.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Network {
    /// The registry runs.
    Registry,
    /// It was stopped.
    Stopped,
    /// There is no network at all.
    None,
}

fn fixture(name: &str) -> String {
    fixtures::folder().join(name).to_string_lossy().into_owned()
}

fn root_file(name: &str) -> String {
    fixture(&format!("mock/{name}.json"))
}

/// The configuration with one policy for that registry.
fn policy(folder: &Path, scope: &str, row: &Row) -> PathBuf {
    let root = row
        .root
        .map(|name| format!("trusted_root = {:?}\n", root_file(name)));
    let by = match row.by {
        By::Key(key) => format!("keys = [{:?}]\n", fixture(&format!("{key}.pub"))),
        By::Subject(subject) => {
            format!("[[signing.policy.identities]]\nissuer = {ISSUER:?}\nsubject = {subject:?}\n")
        }
        By::Pattern(pattern) => format!(
            "[[signing.policy.identities]]\nissuer = {ISSUER:?}\nsubject_regexp = {pattern:?}\n"
        ),
    };
    let text = format!(
        "[signing]\n{}[[signing.policy]]\nscope = {scope:?}\n{by}",
        root.unwrap_or_default()
    );
    let path = folder.join("bpfman.toml");
    std::fs::write(&path, text).unwrap();
    path
}

/// The options of `image verify` that mean the same.
fn options(row: &Row) -> Vec<String> {
    let mut options = match row.by {
        By::Key(key) => vec!["--key".to_owned(), fixture(&format!("{key}.pub"))],
        By::Subject(subject) => vec!["--certificate-identity".to_owned(), subject.to_owned()],
        By::Pattern(pattern) => {
            vec![
                "--certificate-identity-regexp".to_owned(),
                pattern.to_owned(),
            ]
        }
    };
    if !matches!(row.by, By::Key(_)) {
        options.extend(["--certificate-oidc-issuer".to_owned(), ISSUER.to_owned()]);
    }
    if let Some(root) = row.root {
        options.extend(["--trusted-root".to_owned(), root_file(root)]);
    }
    options
}

/// Runs the command, in an empty network namespace where that is asked for.
fn run(bpfman: &Bpfman, network: Network, config: Option<&Path>, arguments: &[&str]) -> Outcome {
    let mut command = bpfman.command(arguments);
    if network == Network::None {
        let inner = command;
        command = Command::new("unshare");
        command.args(["--net", "--"]);
        command.arg(inner.get_program()).args(inner.get_args());
        for (name, value) in inner.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
    }
    if let Some(config) = config {
        command.env("BPFMAN_CONFIG", config);
    }
    let output = command.output().unwrap();
    Outcome {
        status: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// A row in one network: by options and by policy.
fn check(row: &Row, at: &(Bpfman, PathBuf, String), network: Network) {
    let (bpfman, config, image) = at;
    let name = format!("{} {network:?}", row.fixture);
    let policies: &[&str] = match network {
        Network::Registry => &["IfNotPresent", "Always"],
        Network::Stopped => &["IfNotPresent", "Never"],
        Network::None => &["Never"],
    };
    for policy in policies {
        let mut arguments = vec!["image", "verify", "-i", image, "-p", policy, "-o", "json"];
        let options = options(row);
        arguments.extend(options.iter().map(String::as_str));
        let verified = run(bpfman, network, None, &arguments);
        let pulled = run(
            bpfman,
            network,
            Some(config),
            &["image", "pull", "-i", image, "-p", policy],
        );
        match row.expected {
            Ok(form) => {
                let proof: Value = serde_json::from_str(verified.ok()).unwrap();
                assert_eq!(proof["signature"]["format"], form, "{name}: {proof:#}");
                let signer = match row.by {
                    By::Key(_) => "key",
                    _ => "identity",
                };
                assert_eq!(proof["signer"]["type"], signer, "{name}: {proof:#}");
                if signer == "identity" {
                    assert_eq!(proof["signer"]["subject"], WORKFLOW, "{name}");
                    assert_eq!(proof["signer"]["issuer"], ISSUER, "{name}");
                }
                check_evidence(row, &proof);
                pulled.pulled();
                assert_eq!(pulled.stderr, "", "{name}");
            }
            Err(reason) => {
                for outcome in [verified, pulled] {
                    let message = outcome.failure();
                    assert!(
                        message.contains(reason),
                        "{name} {policy}: no '{reason}' in:\n{message}"
                    );
                }
            }
        }
    }
}

#[test]
fn every_fixture_with_and_without_a_network() {
    let Some(registry) = Registry::start() else {
        return;
    };
    let as_root = lanes::root();
    let folder = TempDir::new().unwrap();
    let mut places = Vec::new();
    let mut pushed: Vec<&str> = Vec::new();
    for (number, row) in ROWS.iter().enumerate() {
        if !pushed.contains(&row.fixture) {
            let _ = fixtures::push(&registry, row.fixture);
            pushed.push(row.fixture);
        }
        let own = folder.path().join(number.to_string());
        std::fs::create_dir(&own).unwrap();
        let config = policy(&own, registry.address(), row);
        let image = registry.reference(&format!("{}:v1", row.fixture));
        let at = (Bpfman::new(), config, image);
        check(row, &at, Network::Registry);
        // What is refused is not kept: for what follows the image is there, as one that no policy covered.
        let pulled = at.0.run(&["image", "pull", "-i", &at.2]);
        let _ = pulled.ok();
        if row.expected.is_err() {
            assert!(pulled.stderr.contains("warning: "), "{pulled:#?}");
        }
        places.push(at);
    }
    drop(registry);
    for (row, at) in ROWS.iter().zip(&places) {
        check(row, at, Network::Stopped);
        if as_root {
            check(row, at, Network::None);
        }
    }
}

#[test]
fn nothing_unproven_reaches_the_kernel_and_what_is_proven_needs_no_network() {
    let Some(registry) = Registry::start() else {
        return;
    };
    if !lanes::root() {
        return;
    }
    let folder = TempDir::new().unwrap();
    let load = |bpfman: &Bpfman, network, config: &Path, name: &str, policy: &str| {
        let image = registry_name(&registry, name);
        let arguments = [
            "load",
            "image",
            "--programs",
            "xdp:xdp_pass",
            "-i",
            &image,
            "-p",
            policy,
        ];
        run(bpfman, network, Some(config), &arguments)
    };
    let config = policy(
        folder.path(),
        registry.address(),
        &row("signed", GOOD, None, NO_KEY),
    );
    for name in ["signed", "wrongkey"] {
        let _ = fixtures::push(&registry, name);
    }
    let bpfman = Bpfman::new();
    let refused = load(
        &bpfman,
        Network::Registry,
        &config,
        "wrongkey",
        "IfNotPresent",
    );
    assert!(
        refused
            .failure()
            .contains("it is by none of the policy's 1 keys"),
        "{refused:#?}"
    );
    assert_eq!(bpfman.pins(), Vec::<PathBuf>::new());
    assert!(!bpfman.images().join("index.json").exists());

    let loaded = load(
        &bpfman,
        Network::Registry,
        &config,
        "signed",
        "IfNotPresent",
    );
    assert!(loaded.ok().contains("xdp_pass"), "{loaded:#?}");
    // A kernel in lockdown has something to say about dispatchers, and nobody about signatures.
    assert!(!loaded.stderr.contains("sign"), "{loaded:#?}");
    // A changed policy verifies again, from the store.
    let changed = folder.path().join("changed");
    std::fs::create_dir(&changed).unwrap();
    let changed = policy(
        &changed,
        registry.address(),
        &row("signed", OTHER, None, NO_KEY),
    );
    for (config, admitted) in [(&config, true), (&changed, false), (&config, true)] {
        let again = load(&bpfman, Network::None, config, "signed", "Never");
        if admitted {
            assert!(again.ok().contains("xdp_pass"), "{again:#?}");
        } else {
            assert!(again.failure().contains("it is by none"), "{again:#?}");
        }
    }

    // A store with an image by somebody else and the record that it was admitted, which anybody can write.
    let (signed, wrong) = (
        fixtures::push(&registry, "signed"),
        fixtures::push(&registry, "wrongkey"),
    );
    let hex = |digest: &str| digest.trim_start_matches("sha256:").to_owned();
    let theirs = Bpfman::new();
    let image = registry_name(&registry, "wrongkey");
    let _ = theirs.run(&["image", "pull", "-i", &image]).ok();
    let records = bpfman.admitted().join(hex(&signed));
    let record = std::fs::read_dir(records).unwrap().next().unwrap().unwrap();
    let forged = std::fs::read_to_string(record.path()).unwrap();
    let forged = forged.replace(&hex(&signed), &hex(&wrong));
    let place = theirs.images().join(".bpfman/admitted").join(hex(&wrong));
    std::fs::create_dir_all(&place).unwrap();
    std::fs::write(place.join(record.file_name()), forged).unwrap();
    let refused = load(&theirs, Network::None, &config, "wrongkey", "Never");
    assert!(refused.failure().contains("it is by none"), "{refused:#?}");
    assert_eq!(theirs.pins(), Vec::<PathBuf>::new());

    // Where nothing can be written an image is proven each time.
    let bare = Bpfman::new().env("BPFMAN_ADMITTED_DIR", "/proc/bpfman");
    let arguments = [
        "image",
        "pull",
        "-i",
        &registry_name(&registry, "signed"),
        "-p",
    ];
    for policy in ["Always", "Never", "Never"] {
        let mut arguments = arguments.to_vec();
        arguments.push(policy);
        let pulled = run(&bare, Network::Registry, Some(&config), &arguments);
        pulled.pulled();
        assert_eq!(pulled.stderr, "");
    }
}

fn registry_name(registry: &Registry, name: &str) -> String {
    registry.reference(&format!("{name}:v1"))
}

#[test]
fn one_warning_says_what_was_not_checked() {
    let Some(registry) = Registry::start() else {
        return;
    };
    let _ = fixtures::push(&registry, "unsigned");
    let image = registry.reference("unsigned:v1");
    let folder = TempDir::new().unwrap();
    let config = folder.path().join("bpfman.toml");
    let stderr = |text: &str, level: &str| {
        std::fs::write(&config, text).unwrap();
        let pulled = run(
            &Bpfman::new().env("RUST_LOG", level),
            Network::Registry,
            Some(&config),
            &["image", "pull", "-i", &image],
        );
        let _ = pulled.ok();
        pulled.stderr
    };
    // One warning, with the two lines of configuration that change it.
    let warned = stderr("", "warn");
    assert_eq!(warned.matches("warning: ").count(), 1, "{warned}");
    assert_eq!(warned.lines().count(), 4, "{warned}");
    assert!(
        warned.starts_with("warning: ") && warned.contains("no policy") && warned.contains(&image),
        "{warned}"
    );
    let disabled = "[signing]\nverify_enabled = false\n";
    let off = stderr(disabled, "warn");
    assert_eq!(off.matches("warning: ").count(), 1, "{off}");
    assert!(off.contains("verify_enabled = false"), "{off}");
    // The log decides whether it is shown.
    for level in ["error", "off"] {
        assert_eq!(stderr("", level), "", "{level}");
        assert_eq!(stderr(disabled, level), "", "{level}");
    }
}

#[test]
fn another_tool_reads_the_signatures_out_of_the_store() {
    let (Some(registry), Some(skopeo)) = (Registry::start(), lanes::tool("skopeo")) else {
        return;
    };
    let image = fixtures::push(&registry, "signed");
    let bpfman = Bpfman::new();
    let _ = bpfman
        .run(&["image", "pull", "-i", &registry.reference("signed:v1")])
        .ok();
    let hex = image.trim_start_matches("sha256:");
    let name = registry.reference(&format!("signed:sha256-{hex}.sig"));
    let copy = TempDir::new().unwrap();
    let copied = Command::new(skopeo)
        .args(["copy", "--insecure-policy"])
        .arg(format!("oci:{}:{name}", bpfman.images().display()))
        .arg(format!("dir:{}", copy.path().display()))
        .output()
        .unwrap();
    assert!(
        copied.status.success(),
        "{}",
        String::from_utf8_lossy(&copied.stderr)
    );
    let manifest = std::fs::read(copy.path().join("manifest.json")).unwrap();
    assert!(images::digest(&manifest).starts_with("sha256:"));
    assert!(String::from_utf8_lossy(&manifest).contains("simplesigning"));
}
