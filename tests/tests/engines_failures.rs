//! Builds and pushes that fail: exit status 1, a message that says why, and the tag names what it named before.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Stdio;
use std::sync::mpsc;

use bpfman_tests::cli::Bpfman;
use bpfman_tests::engines::Engine;
use bpfman_tests::lanes;
use bpfman_tests::objects::Object;
use bpfman_tests::project::Project;
use bpfman_tests::registry::Registry;

/// What the registry says about a tag: `None` when it has none.
fn tag(registry: &Registry, name: &str) -> Option<String> {
    let (repository, tag) = name.split_once(':').unwrap();
    let mut connection = TcpStream::connect(registry.address()).unwrap();
    let host = registry.address();
    write!(
        connection,
        "HEAD /v2/{repository}/manifests/{tag} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\
         Accept: application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json\r\n\r\n"
    )
    .unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).unwrap();
    let digest = answer.lines().find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        name.eq_ignore_ascii_case("docker-content-digest")
            .then(|| value.to_owned())
    });
    assert_eq!(
        digest.is_some(),
        answer.starts_with("HTTP/1.1 200"),
        "{answer}"
    );
    digest
}

/// `image build` with this Containerfile must fail with these words, and push nothing.
fn refused(registry: &Registry, engine: (&str, &Engine, &str), text: &str, words: &[&str]) {
    let Some(object) = Object::example("xdp-counter") else {
        return;
    };
    let (variable, engine, runtime) = engine;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("Containerfile");
    std::fs::write(&file, text).unwrap();
    let bpfman = Bpfman::new().env(variable, engine.socket());
    let reference = registry.reference("acme/refused:1");
    let outcome = bpfman.run(&[
        "image",
        "build",
        "-r",
        runtime,
        "-f",
        file.to_str().unwrap(),
        "-t",
        &reference,
        "-b",
        object.arg(),
    ]);
    let message = outcome.failure();
    for word in words {
        assert!(
            message.contains(word),
            "{runtime}: no '{word}' in:\n{message}"
        );
    }
    assert_eq!(
        tag(registry, "acme/refused:1"),
        None,
        "{runtime}: something was pushed"
    );
}

fn containerfiles(variable: &str, engine: &Engine, runtime: &str) {
    let Some(registry) = Registry::start() else {
        return;
    };
    let labels = "ARG PROGRAMS\nARG MAPS\nLABEL \"io.ebpf.programs\"=${PROGRAMS}\nLABEL \"io.ebpf.maps\"=${MAPS}\n";
    let copy = "ARG BYTECODE_FILE\nCOPY ${BYTECODE_FILE} /\n";
    let cases: [(String, &[&str]); 7] = [
        (
            format!("FROM scratch\nARG BYTECODE_FILE\nCOPY ${{BYTECODE_FILE}} /below/\n{labels}"),
            &["below", "at its root", "hint: "],
        ),
        (
            "FROM scratch\nCOPY no-such-file /\n".to_owned(),
            &["no-such-file", "last lines"],
        ),
        ("FROM scratch\nNONSENSE\n".to_owned(), &["NONSENSE"]),
        // It copies nothing.
        (
            format!("FROM scratch\n{labels}"),
            &["0 layers", "hint: ", "FROM scratch"],
        ),
        (
            format!("FROM scratch\n{copy}"),
            &["io.ebpf.programs", "missing", "hint: "],
        ),
        (format!("FROM scratch\n{copy}{copy}{labels}"), &["2 layers"]),
        (
            format!(
                "FROM scratch\n{copy}LABEL \"io.ebpf.programs\"=\"{{}}\" \"io.ebpf.maps\"=\"{{}}\"\n"
            ),
            &["io.ebpf.programs", "xdp_stats"],
        ),
    ];
    for (text, words) in cases {
        refused(&registry, (variable, engine, runtime), &text, words);
    }
}

#[test]
fn containerfiles_that_docker_cannot_make_a_bytecode_image_of() {
    let Some(engine) = Engine::docker() else {
        return;
    };
    containerfiles("DOCKER_HOST", &engine, "docker");
}

#[test]
fn containerfiles_that_docker_of_trixie_cannot_make_a_bytecode_image_of() {
    let Some(engine) = Engine::docker26() else {
        return;
    };
    containerfiles("DOCKER_HOST", &engine, "docker");
}

#[test]
fn docker_that_loses_the_files_of_a_build() {
    let (Some(engine), Some(registry), Some(project)) = (
        Engine::docker26_containerd(),
        Registry::start(),
        Project::compile(&["amd64"]),
    ) else {
        return;
    };
    let tag = registry.reference("acme/counter:1");
    let file = lanes::repository().join("Containerfile.bytecode");
    let words = ["image", "build", "-r", "docker", "-t", &tag, "-f"];
    let words = [&words[..], &[file.to_str().unwrap(), "-c", project.arg()]].concat();
    let bpfman = Bpfman::new().env("DOCKER_HOST", engine.socket());
    let failed = bpfman.run(&words);
    let said = failed.failure();
    assert!(said.contains("failed to read downloaded context"), "{said}");
    assert!(said.contains("set DOCKER_BUILDKIT=0"), "{said}");
    let _ = bpfman.env("DOCKER_BUILDKIT", "0").run(&words).ok();
}

#[test]
fn containerfiles_that_podman_cannot_make_a_bytecode_image_of() {
    let Some(engine) = Engine::podman() else {
        return;
    };
    containerfiles("CONTAINER_HOST", &engine, "podman");
}

#[test]
fn credentials() {
    let (Some(registry), Some(project)) = (
        Registry::start_guarded(),
        Project::compile(&["amd64", "s390x"]),
    ) else {
        return;
    };
    let bpfman = Bpfman::new();
    let reference = registry.reference("acme/counter:1");
    let build = [
        "image",
        "build",
        "-r",
        "builtin",
        "-t",
        &reference,
        "-c",
        project.arg(),
    ];
    // builder:wrong, builder:secret
    let wrong = [
        build.as_slice(),
        &["--registry-auth", "YnVpbGRlcjp3cm9uZw=="],
    ]
    .concat();
    let right = [
        build.as_slice(),
        &["--registry-auth", "YnVpbGRlcjpzZWNyZXQ="],
    ]
    .concat();
    let message = bpfman.run(&wrong).failure().to_owned();
    assert!(
        message.contains("does not accept these credentials"),
        "{message}"
    );
    assert!(
        message.contains(&reference) && message.contains("hint: "),
        "{message}"
    );
    let message = bpfman.run(&build).failure().to_owned();
    assert!(message.contains("asks for credentials"), "{message}");
    assert!(bpfman.run(&right).ok().contains("@sha256:"));
}

#[test]
fn a_registry_that_is_not_there() {
    let Some(object) = Object::example("xdp-counter") else {
        return;
    };
    let nobody = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let reference = format!("{nobody}/acme/counter:1");
    let build = [
        "image",
        "build",
        "-r",
        "builtin",
        "-t",
        &reference,
        "-b",
        object.arg(),
    ];
    let message = Bpfman::new().run(&build).failure().to_owned();
    assert!(message.contains("cannot push the image"), "{message}");
    assert!(
        message.contains("refused") && message.contains("hint: "),
        "{message}"
    );
}

/// Forwards every connection to the registry until a request line holds `stop`; then says so and forwards no more.
fn proxy(registry: &Registry, stop: &'static str) -> (String, mpsc::Receiver<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let upstream = registry.address().to_owned();
    let (said, stopped) = mpsc::channel();
    // Ends with the test's process: it waits for connections that nobody makes.
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let mut client = client.unwrap();
            let mut server = TcpStream::connect(&upstream).unwrap();
            let (mut back, mut to_client) =
                (server.try_clone().unwrap(), client.try_clone().unwrap());
            std::thread::spawn(move || std::io::copy(&mut back, &mut to_client));
            let said = said.clone();
            std::thread::spawn(move || {
                let mut buffer = [0; 1 << 16];
                while let Ok(count) = client.read(&mut buffer) {
                    if count == 0 {
                        break;
                    }
                    if String::from_utf8_lossy(&buffer[..count]).contains(stop) {
                        said.send(()).unwrap();
                        // Held open: the client waits for an answer.
                        let _ = client.read_to_end(&mut Vec::new());
                        break;
                    }
                    server.write_all(&buffer[..count]).unwrap();
                }
            });
        }
    });
    (address, stopped)
}

#[test]
fn an_interrupted_push_leaves_the_tag_as_it_was() {
    let (Some(registry), Some(old), Some(new)) = (
        Registry::start(),
        Project::compile(&["amd64", "s390x"]),
        Project::compile(&["amd64", "arm64", "s390x"]),
    ) else {
        return;
    };
    let bpfman = Bpfman::new();
    let name = "acme/counter:1";
    let reference = registry.reference(name);
    let build = [
        "image",
        "build",
        "-r",
        "builtin",
        "-t",
        &reference,
        "-c",
        old.arg(),
    ];
    let pushed = bpfman.run(&build).ok().trim().to_owned();
    let before = tag(&registry, name).unwrap();
    assert!(pushed.ends_with(&before));

    // While a blob is sent, while the first manifest is, while the tag is about to move.
    for stop in [
        "POST /v2/acme/counter/blobs/uploads/",
        "PUT /v2/acme/counter/manifests/sha256:",
        "PUT /v2/acme/counter/manifests/1 ",
    ] {
        let (address, stopped) = proxy(&registry, stop);
        let reference = format!("{address}/{name}");
        let build = [
            "image",
            "build",
            "-r",
            "builtin",
            "-t",
            &reference,
            "-c",
            new.arg(),
        ];
        let child = bpfman
            .command(&build)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        stopped.recv().unwrap();
        bpfman_tests::server::signal(&child, "INT");
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(130), "{stop}: {output:?}");
        assert_eq!(output.stdout, b"", "{stop}");
        let message = String::from_utf8_lossy(&output.stderr);
        let words = format!("stopped by SIGINT while pushing {reference}");
        assert!(message.contains(&words), "{stop}: {message}");
        assert_eq!(tag(&registry, name).as_ref(), Some(&before), "{stop}");
    }
    let build = [
        "image",
        "build",
        "-r",
        "builtin",
        "-t",
        &reference,
        "-c",
        new.arg(),
    ];
    let pushed = bpfman.run(&build).ok().trim().to_owned();
    assert!(pushed.ends_with(&tag(&registry, name).unwrap()));
    assert!(!pushed.ends_with(&before));
}

#[test]
fn a_socket_that_is_none_is_named() {
    let Some(object) = Object::example("xdp-counter") else {
        return;
    };
    let file = lanes::repository().join("Containerfile.bytecode");
    let bpfman = Bpfman::new().env("DOCKER_HOST", "unix:///nonexistent.sock");
    let outcome = bpfman.run(&[
        "image",
        "build",
        "-r",
        "docker",
        "-f",
        file.to_str().unwrap(),
        "-t",
        "127.0.0.1:1/x:y",
        "-b",
        object.arg(),
    ]);
    let message = outcome.failure();
    assert!(
        message.contains("unix:///nonexistent.sock") && message.contains("hint: "),
        "{message}"
    );
}
