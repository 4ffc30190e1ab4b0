//! The same object built by docker, podman and the built-in engine, pushed to the real registry, read by skopeo.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::process::Command;

use bpfman_tests::cli::Bpfman;
use bpfman_tests::engines::Engine;
use bpfman_tests::lanes;
use bpfman_tests::objects::Object;
use bpfman_tests::registry::Registry;
use serde_json::Value;

/// What an image is, apart from how its bytes were packed: labels, platform, and the files of its one layer.
#[derive(Debug, PartialEq)]
struct Facts {
    labels: Value,
    platform: (Value, Value),
    files: Vec<(String, Vec<u8>)>,
}

fn facts(registry: &Registry, reference: &str) -> Option<Facts> {
    let skopeo = lanes::tool("skopeo")?;
    let reference = format!("docker://{reference}");
    let output = Command::new(skopeo)
        .args(["inspect", "--tls-verify=false", &reference])
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let inspected: Value = serde_json::from_slice(&output.stdout).unwrap();
    let layers = inspected["Layers"].as_array().unwrap();
    assert_eq!(layers.len(), 1, "one layer: {inspected}");
    let layer = std::fs::read(registry.blob_file(layers[0].as_str().unwrap())).unwrap();
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(&*layer));
    let files = archive.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut entry, &mut bytes).unwrap();
        let path = entry
            .path()
            .unwrap()
            .to_string_lossy()
            .trim_start_matches("./")
            .to_owned();
        (path, bytes)
    });
    let mut labels = inspected["Labels"].clone();
    // buildah signs what it builds with its version.
    if let Some(labels) = labels.as_object_mut() {
        labels.remove("io.buildah.version");
    }
    let platform = (inspected["Os"].clone(), inspected["Architecture"].clone());
    Some(Facts {
        labels,
        platform,
        files: files.collect(),
    })
}

/// Builds with that runtime, checks the pushed digest that is printed, and gives what was pushed.
fn build(registry: &Registry, bpfman: &Bpfman, object: &Object, runtime: &str) -> Option<Facts> {
    let reference = registry.reference(&format!("{runtime}/xdp-counter:test"));
    let container_file = lanes::repository().join("Containerfile.bytecode");
    let container_file = container_file.to_str().unwrap();
    let outcome = bpfman.run(&[
        "image",
        "build",
        "--runtime",
        runtime,
        "-f",
        container_file,
        "-t",
        &reference,
        "-b",
        object.arg(),
    ]);
    let pushed = outcome.ok().lines().last().unwrap().to_owned();
    assert!(pushed.contains("/xdp-counter@sha256:"), "{pushed}");
    let by_tag = facts(registry, &reference)?;
    let by_digest = facts(registry, &pushed)?;
    assert_eq!(
        by_tag, by_digest,
        "the printed digest is what the tag names"
    );
    Some(by_tag)
}

fn same_as_builtin(engine: &Engine, variable: &str, runtime: &str) {
    let (Some(registry), Some(object)) = (Registry::start(), Object::example("xdp-counter")) else {
        return;
    };
    let bpfman = Bpfman::new().env(variable, engine.socket());
    let Some(builtin) = build(&registry, &bpfman, &object, "builtin") else {
        return;
    };
    let Some(engine) = build(&registry, &bpfman, &object, runtime) else {
        return;
    };
    assert_eq!(
        builtin.files,
        [("bpf_x86_bpfel.o".to_owned(), object.bytes())]
    );
    assert_eq!(engine, builtin);

    // A step that fails is a failure with the engine's own words, not a push of something else.
    let broken = tempfile::TempDir::new().unwrap();
    let container_file = broken.path().join("Containerfile");
    std::fs::write(&container_file, "FROM scratch\nCOPY no-such-file /\n").unwrap();
    let reference = registry.reference("broken:test");
    let outcome = bpfman.run(&[
        "image",
        "build",
        "--runtime",
        runtime,
        "-f",
        container_file.to_str().unwrap(),
        "-t",
        &reference,
        "-b",
        object.arg(),
    ]);
    assert!(outcome.failure().contains("no-such-file"), "{outcome:#?}");
}

#[test]
fn docker_builds_what_builtin_builds() {
    let Some(engine) = Engine::docker() else {
        return;
    };
    same_as_builtin(&engine, "DOCKER_HOST", "docker");
}

#[test]
fn podman_builds_what_builtin_builds() {
    let Some(engine) = Engine::podman() else {
        return;
    };
    same_as_builtin(&engine, "CONTAINER_HOST", "podman");
}

#[test]
fn an_engine_that_does_not_answer_is_a_failure_that_names_builtin() {
    let Some(object) = Object::example("xdp-counter") else {
        return;
    };
    let bpfman = Bpfman::new()
        .env("DOCKER_HOST", "unix:///nonexistent.sock")
        .env("CONTAINER_HOST", "unix:///nonexistent.sock");
    let outcome = bpfman.run(&[
        "image",
        "build",
        "-f",
        "Containerfile.bytecode",
        "-t",
        "127.0.0.1:1/x:y",
        "-b",
        object.arg(),
    ]);
    assert!(outcome.failure().contains("builtin"), "{outcome:#?}");
}
