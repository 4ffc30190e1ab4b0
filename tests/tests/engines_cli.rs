//! What `image build` writes beside the registry, by its options; and pushes over a tag that is there, which fail.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;

use bpfman_tests::cli::{Bpfman, Outcome};
use bpfman_tests::lanes;
use bpfman_tests::project::Project;
use bpfman_tests::registry::Registry;
use serde_json::Value;

const TAG: &str = "registry.example/acme/counter:1";
const TWO: [&str; 2] = ["amd64", "s390x"];

fn builtin(bpfman: &Bpfman, reference: &str, project: &Project, more: &[&str]) -> Outcome {
    let build = ["image", "build", "-r", "builtin", "-t", reference];
    bpfman.run(&[&build[..], &["-c", project.arg()], more].concat())
}

/// The document that skopeo finds behind a name of its transports.
fn raw(skopeo: &Path, name: &str) -> Value {
    let output = Command::new(skopeo)
        .args(["inspect", "--raw", "--tls-verify=false", name])
        .output()
        .unwrap();
    assert!(output.status.success(), "{name}: {output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn folders_and_archives_that_skopeo_reads() {
    let (Some(skopeo), Some(project)) = (lanes::tool("skopeo"), Project::compile(&TWO)) else {
        return;
    };
    let bpfman = Bpfman::new();
    let place = tempfile::tempdir().unwrap();
    let at = |name: &str| place.path().join(name).to_str().unwrap().to_owned();
    for (kind, path) in [("oci", at("layout")), ("oci-archive", at("image.tar"))] {
        let output = format!("{kind}:{path}");
        let built = builtin(&bpfman, TAG, &project, &["--no-push", "--output", &output]);
        let (_, digest) = built.ok().trim().rsplit_once('@').unwrap();
        let index = raw(&skopeo, &format!("{kind}:{path}:{TAG}"));
        assert_eq!(index["manifests"].as_array().unwrap().len(), 2, "{kind}");
        // And every platform of it, with its layers: a copy that skopeo checks.
        let copy = at(&format!("copy-of-{kind}"));
        let output = Command::new(&skopeo)
            .args(["copy", "--all", "--preserve-digests"])
            .args([format!("{kind}:{path}:{TAG}"), format!("dir:{copy}")])
            .output()
            .unwrap();
        assert!(output.status.success(), "{kind}: {output:?}");
        let manifest = std::fs::read(format!("{copy}/manifest.json")).unwrap();
        assert_eq!(sha256(&manifest), digest, "{kind}");
    }
}

fn sha256(bytes: &[u8]) -> String {
    use sha2::Digest as _;
    let digest = sha2::Sha256::digest(bytes);
    let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

#[test]
fn annotations_stand_on_every_manifest_and_on_the_index() {
    let (Some(skopeo), Some(registry), Some(project)) = (
        lanes::tool("skopeo"),
        Registry::start(),
        Project::compile(&TWO),
    ) else {
        return;
    };
    let bpfman = Bpfman::new();
    let reference = registry.reference("acme/counter:1");
    let annotations = [
        "--annotation",
        "org.opencontainers.image.revision=abc",
        "--annotation",
        "own=a=b, c",
    ];
    let _ = builtin(&bpfman, &reference, &project, &annotations).ok();
    let expected = serde_json::json!({
        "org.opencontainers.image.revision": "abc",
        "own": "a=b, c",
    });
    let index = raw(&skopeo, &format!("docker://{reference}"));
    assert_eq!(index["annotations"], expected);
    let (name, _) = reference.rsplit_once(':').unwrap();
    for manifest in index["manifests"].as_array().unwrap() {
        let digest = manifest["digest"].as_str().unwrap();
        let manifest = raw(&skopeo, &format!("docker://{name}@{digest}"));
        assert_eq!(manifest["annotations"], expected);
    }
}

#[test]
fn dates_that_are_none() {
    let Some(project) = Project::compile(&TWO) else {
        return;
    };
    let build = |date: Option<&str>| {
        let mut bpfman = Bpfman::new();
        if let Some(date) = date {
            bpfman = bpfman.env("SOURCE_DATE_EPOCH", date);
        }
        builtin(&bpfman, TAG, &project, &["--no-push"])
    };
    let unset = build(None).ok().to_owned();
    assert_eq!(build(Some("")).ok(), unset);
    assert_eq!(build(Some("0")).ok(), unset);
    assert_ne!(build(Some("1")).ok(), unset);
    for bad in ["yesterday", "1.5", " 1", "99999999999999999999"] {
        let outcome = build(Some(bad));
        let message = outcome.failure();
        assert!(
            message.contains(&format!("SOURCE_DATE_EPOCH is `{bad}`")),
            "{message}"
        );
        assert!(message.contains("hint: "), "{message}");
    }
}

#[test]
fn the_digest_file_is_of_this_build_or_not_there() {
    let (Some(registry), Some(project)) = (Registry::start(), Project::compile(&TWO)) else {
        return;
    };
    let bpfman = Bpfman::new();
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("digest");
    let option = ["--digest-file", file.to_str().unwrap()];
    let reference = registry.reference("acme/counter:1");
    let pushed = builtin(&bpfman, &reference, &project, &option);
    let (_, digest) = pushed.ok().trim().rsplit_once('@').unwrap();
    assert_eq!(
        std::fs::read_to_string(&file).unwrap(),
        format!("{digest}\n")
    );

    // A push that fails takes the old digest away.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let nobody = format!("{}/acme/counter:1", listener.local_addr().unwrap());
    drop(listener);
    let _ = builtin(&bpfman, &nobody, &project, &option).failure();
    assert!(!file.exists());

    // A file that cannot be written is known before the tag moves.
    let other = registry.reference("acme/other:1");
    let missing = place.path().join("no/digest");
    let option = ["--digest-file", missing.to_str().unwrap()];
    let outcome = builtin(&bpfman, &other, &project, &option);
    let message = outcome.failure();
    assert!(message.contains("writing the digest to"), "{message}");
    assert_eq!(tag(registry.address(), "acme/other", "1"), None);
    assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 0);
}

#[test]
fn a_digest_that_cannot_be_written_is_printed() {
    let Some(project) = Project::compile(&TWO) else {
        return;
    };
    // It opens like any device, and takes nothing.
    let full = ["--no-push", "--digest-file", "/dev/full"];
    let outcome = builtin(&Bpfman::new(), TAG, &project, &full);
    assert_eq!(outcome.status, Some(1), "{outcome:?}");
    assert!(outcome.stdout.contains("@sha256:"), "{outcome:?}");
    assert!(outcome.stderr.contains("/dev/full"), "{outcome:?}");
}

/// The digest that a registry has for a tag.
fn tag(address: &str, repository: &str, tag: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(
        stream,
        "HEAD /v2/{repository}/manifests/{tag} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\
         Authorization: Basic YnVpbGRlcjpzZWNyZXQ=\r\n\
         Accept: application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json\r\n\r\n"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.lines().find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        name.eq_ignore_ascii_case("docker-content-digest")
            .then(|| value.to_owned())
    })
}

/// A registry before the registry, which refuses to have a tag moved.
fn refusing(upstream: &str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let upstream = upstream.to_owned();
    // Ends with the test's process: it waits for connections that nobody makes.
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let mut client = client.unwrap();
            let mut server = TcpStream::connect(&upstream).unwrap();
            let (mut back, mut to_client) =
                (server.try_clone().unwrap(), client.try_clone().unwrap());
            std::thread::spawn(move || std::io::copy(&mut back, &mut to_client));
            std::thread::spawn(move || {
                let mut buffer = [0; 1 << 16];
                while let Ok(count) = client.read(&mut buffer) {
                    if count == 0 {
                        break;
                    }
                    let text = String::from_utf8_lossy(&buffer[..count]);
                    if text.contains("PUT /v2/acme/counter/manifests/1 ") {
                        let body =
                            r#"{"errors":[{"code":"DENIED","message":"tag 1 is immutable"}]}"#;
                        let length = body.len();
                        let _ = write!(
                            client,
                            "HTTP/1.1 403 Forbidden\r\nContent-Type: application/json\r\n\
                             Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
                        );
                        let _ = client.shutdown(std::net::Shutdown::Write);
                        let _ = client.read_to_end(&mut Vec::new());
                        break;
                    }
                    if server.write_all(&buffer[..count]).is_err() {
                        break;
                    }
                }
            });
        }
    });
    address
}

#[test]
fn a_push_that_fails_leaves_the_tag_to_the_old_image() {
    let (Some(registry), Some(old), Some(new)) = (
        Registry::start_guarded(),
        Project::compile(&TWO),
        Project::compile(&["amd64", "arm64", "s390x"]),
    ) else {
        return;
    };
    let bpfman = Bpfman::new();
    let reference = registry.reference("acme/counter:1");
    // builder:secret, builder:wrong
    let right = ["--registry-auth", "YnVpbGRlcjpzZWNyZXQ="];
    let wrong = ["--registry-auth", "YnVpbGRlcjp3cm9uZw=="];
    let pushed = builtin(&bpfman, &reference, &old, &right);
    let (_, before) = pushed.ok().trim().rsplit_once('@').unwrap();
    let now = || tag(registry.address(), "acme/counter", "1");
    assert_eq!(now().as_deref(), Some(before));

    let unmoved = |outcome: &Outcome, words: &str| {
        let message = outcome.failure();
        assert!(message.contains("cannot push the image"), "{message}");
        assert!(message.contains(words), "{message}");
        assert_eq!(now().as_deref(), Some(before), "{message}");
    };
    let outcome = builtin(&bpfman, &reference, &new, &wrong);
    unmoved(&outcome, "does not accept these credentials");
    let outcome = builtin(&bpfman, &reference, &new, &[]);
    unmoved(&outcome, "asks for credentials");
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap();
    let elsewhere = format!("{}/acme/counter:1", nobody.local_addr().unwrap());
    drop(nobody);
    let outcome = builtin(&bpfman, &elsewhere, &new, &right);
    unmoved(&outcome, "refused");
    let through = format!("{}/acme/counter:1", refusing(registry.address()));
    let outcome = builtin(&bpfman, &through, &new, &right);
    unmoved(&outcome, "tag 1 is immutable");

    // Nothing was wrong with the image.
    let pushed = builtin(&bpfman, &reference, &new, &right);
    assert!(pushed.ok().trim().ends_with(&now().unwrap()));
    assert_ne!(now().as_deref(), Some(before));
}

#[test]
fn no_daemon_at_all_names_every_address() {
    let Some(project) = Project::compile(&TWO) else {
        return;
    };
    let file = lanes::repository().join("Containerfile.bytecode.multi.arch");
    let build = [
        "image",
        "build",
        "--no-push",
        "-t",
        TAG,
        "-c",
        project.arg(),
    ];
    let build = [&build[..], &["-f", file.to_str().unwrap()]].concat();
    for (docker, words) in [
        (
            "unix:///nonexistent/docker.sock",
            "unix:///nonexistent/docker.sock (",
        ),
        // Not one that can be used, which is no reason not to look for podman.
        ("ssh://far", "ssh://far"),
    ] {
        let bpfman = Bpfman::new()
            .env("DOCKER_HOST", docker)
            .env("CONTAINER_HOST", "unix:///nonexistent/podman.sock");
        let outcome = bpfman.run(&build);
        let message = outcome.failure();
        assert!(
            message.contains("no docker or podman daemon answers"),
            "{message}"
        );
        assert!(message.contains(words), "{message}");
        assert!(
            message.contains("unix:///nonexistent/podman.sock ("),
            "{message}"
        );
        assert!(message.contains("--runtime builtin"), "{message}");
    }
}

#[test]
fn one_output_is_enough_for_paths_that_are_no_text() {
    use std::os::unix::ffi::OsStrExt;
    let Some(project) = Project::compile(&TWO) else {
        return;
    };
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join(std::ffi::OsStr::from_bytes(b"\xff.tar"));
    let mut option = std::ffi::OsString::from("oci-archive:");
    option.push(&path);
    let bpfman = Bpfman::new();
    let mut command = bpfman.command(&["image", "build", "-r", "builtin", "--no-push", "-t", TAG]);
    let output = command
        .args(["-c", project.arg(), "--output"])
        .arg(option)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(path.is_file());
}
