//! Built-in builds and pulls against the real `docker-registry`, with `skopeo`, `crane` and `oras` as witnesses.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::process::Command;

use bpfman_tests::cli::{Bpfman, HELD};
use bpfman_tests::images::{self, Image};
use bpfman_tests::lanes;
use bpfman_tests::objects::Object;
use bpfman_tests::registry::Registry;
use serde_json::Value;

/// Builds the object with the built-in engine and gives `<repository>@sha256:…`.
fn build(bpfman: &Bpfman, object: &Object, reference: &str) -> String {
    let outcome = bpfman.run(&[
        "image",
        "build",
        "--runtime",
        "builtin",
        "-t",
        reference,
        "-b",
        object.arg(),
    ]);
    let pushed = outcome.ok().lines().last().unwrap().to_owned();
    let (repository, _) = reference.rsplit_once(':').unwrap();
    let digest = pushed
        .strip_prefix(repository)
        .and_then(|rest| rest.strip_prefix("@sha256:"));
    assert_eq!(
        digest.map(str::len),
        Some(64),
        "the last line is <repository>@sha256:…: {pushed}"
    );
    pushed
}

fn json(program: &std::path::Path, arguments: &[&str]) -> Value {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(
        output.status.success(),
        "{arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn what_builtin_pushes_other_tools_can_read() {
    let (Some(registry), Some(object)) = (Registry::start(), Object::example("xdp-counter")) else {
        return;
    };
    let (Some(skopeo), Some(crane)) = (lanes::tool("skopeo"), lanes::foreign_tool("crane")) else {
        return;
    };
    let bpfman = Bpfman::new();
    let reference = registry.reference("acme/xdp-counter:test");
    let pushed = build(&bpfman, &object, &reference);

    let inspected = json(
        &skopeo,
        &[
            "inspect",
            "--tls-verify=false",
            &format!("docker://{reference}"),
        ],
    );
    assert_eq!(inspected["Architecture"], images::goarch());
    assert_eq!(inspected["Os"], "linux");
    assert_eq!(
        inspected["Labels"]["io.ebpf.programs"],
        r#"{"xdp_stats":"xdp"}"#
    );
    assert_eq!(
        inspected["Labels"]["io.ebpf.maps"],
        r#"{"xdp_stats_map":"per_cpu_array"}"#
    );
    assert_eq!(inspected["Layers"].as_array().map(Vec::len), Some(1));
    assert_eq!(
        format!(
            "{}@{}",
            registry.reference("acme/xdp-counter"),
            inspected["Digest"].as_str().unwrap()
        ),
        pushed
    );

    let valid = Command::new(crane)
        .args(["validate", "--insecure", "--remote", &reference])
        .output()
        .unwrap();
    assert!(
        valid.status.success(),
        "{}",
        String::from_utf8_lossy(&valid.stderr)
    );

    // The object lies at the root of the one layer, byte for byte.
    let layer =
        std::fs::read(registry.blob_file(inspected["Layers"][0].as_str().unwrap())).unwrap();
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(&*layer));
    let entries: Vec<(String, Vec<u8>)> = archive
        .entries()
        .unwrap()
        .map(|entry| {
            let mut entry = entry.unwrap();
            let mut bytes = Vec::new();
            std::io::Read::read_to_end(&mut entry, &mut bytes).unwrap();
            (entry.path().unwrap().to_string_lossy().into_owned(), bytes)
        })
        .collect();
    assert_eq!(entries, [("bpf_x86_bpfel.o".to_owned(), object.bytes())]);
}

#[test]
fn builtin_twice_gives_the_same_digest() {
    let (Some(registry), Some(object)) = (Registry::start(), Object::example("xdp-counter")) else {
        return;
    };
    let bpfman = Bpfman::new();
    let digest = |pushed: String| pushed.rsplit_once('@').unwrap().1.to_owned();
    let first = digest(build(&bpfman, &object, &registry.reference("first:a")));
    let second = digest(build(
        &bpfman.env("TZ", "Asia/Tokyo"),
        &object,
        &registry.reference("second:b"),
    ));
    assert_eq!(first, second);
}

#[test]
fn what_one_repository_got_the_next_one_is_not_sent() {
    let (Some(registry), Some(object)) = (Registry::start(), Object::example("xdp-counter")) else {
        return;
    };
    let bpfman = Bpfman::new();
    let kept = tempfile::tempdir().unwrap();
    let output = format!("oci:{}", kept.path().join("kept").display());
    let words = ["image", "build", "-r", "builtin", "-t", "reg.example/a:b"];
    let only = ["--no-push", "--output", &output, "-b", object.arg()];
    let _ = bpfman.run(&[&words[..], &only].concat()).ok();
    assert!(!bpfman.images().exists(), "nothing was pushed");

    let sent = |repository: &str| {
        let put = format!("PUT /v2/{repository}/blobs/uploads/");
        registry.log().matches(&put).count()
    };
    let digest = |pushed: String| pushed.rsplit_once('@').unwrap().1.to_owned();
    let mut digests = Vec::new();
    // The last one has nowhere to remember it.
    let nowhere = Bpfman::new().env("BPFMAN_IMAGE_DIR", "/proc/bpfman");
    for (bpfman, repository, blobs) in [
        (&bpfman, "team/staging", 2),
        (&bpfman, "team/prod", 0),
        (&nowhere, "team/other", 2),
    ] {
        let name = registry.reference(&format!("{repository}:v1"));
        digests.push(digest(build(bpfman, &object, &name)));
        assert_eq!(sent(repository), blobs, "{repository}: {}", registry.log());
    }
    digests.dedup();
    assert_eq!(digests.len(), 1);
    let prod = registry.reference("team/prod:v1");
    let fresh = Bpfman::new();
    let _ = fresh.run(&["image", "pull", "-i", &prod]).ok();
    // The store that remembers is one to pull into, like any other.
    let _ = bpfman.run(&["image", "prune"]).ok();
    let _ = bpfman.run(&["image", "pull", "-i", &prod]).ok();
}

#[test]
fn a_pulled_image_is_in_the_store_and_needs_no_registry_any_more() {
    let (Some(registry), Some(object)) = (Registry::start(), Object::example("xdp-counter")) else {
        return;
    };
    let Some(skopeo) = lanes::tool("skopeo") else {
        return;
    };
    let bpfman = Bpfman::new();
    let reference = registry.reference("xdp-counter:test");
    let pushed = build(&bpfman, &object, &reference);

    let never = bpfman.run(&["image", "pull", "-i", &reference, "-p", "Never"]);
    assert!(never.failure().contains(&reference), "{never:#?}");

    let pulled = bpfman.run(&["image", "pull", "-i", &reference]);
    assert_eq!(pulled.ok(), "Successfully downloaded bytecode\n");

    // An OCI image layout: another tool reads it.
    let index: Value =
        serde_json::from_slice(&std::fs::read(bpfman.images().join("index.json")).unwrap())
            .unwrap();
    let digest = pushed.rsplit_once('@').unwrap().1;
    let known = index["manifests"]
        .as_array()
        .unwrap()
        .iter()
        .any(|manifest| manifest["digest"] == digest);
    assert!(known, "{digest} in {index}");
    let copy = tempfile::TempDir::new().unwrap();
    let name = index["manifests"][0]["annotations"]["org.opencontainers.image.ref.name"]
        .as_str()
        .unwrap_or_default();
    let source = format!("oci:{}:{name}", bpfman.images().display());
    let target = format!("dir:{}", copy.path().display());
    let copied = Command::new(skopeo)
        .args(["copy", "--insecure-policy", &source, &target])
        .output()
        .unwrap();
    assert!(
        copied.status.success(),
        "skopeo copy {source}: {}",
        String::from_utf8_lossy(&copied.stderr)
    );

    drop(registry);
    for policy in ["Never", "IfNotPresent"] {
        let again = bpfman.run(&["image", "pull", "-i", &reference, "-p", policy]);
        assert_eq!(again.ok(), HELD, "{policy}");
    }
    let always = bpfman.run(&["image", "pull", "-i", &reference, "-p", "Always"]);
    assert!(always.failure().contains(&reference), "{always:#?}");
}

#[test]
fn if_not_present_asks_nothing_of_the_registry_for_what_the_store_has() {
    let (Some(registry), Some(object)) = (Registry::start(), Object::example("xdp-counter")) else {
        return;
    };
    let bpfman = Bpfman::new();
    let reference = registry.reference("xdp-counter:test");
    let _ = build(&bpfman, &object, &reference);
    let _ = bpfman.run(&["image", "pull", "-i", &reference]).ok();
    let requests = |log: String| {
        log.lines()
            .filter(|line| line.contains("http.request"))
            .count()
    };
    let before = requests(registry.log());
    assert!(before > 0, "the registry logs its requests");
    let _ = bpfman.run(&["image", "pull", "-i", &reference]).ok();
    assert_eq!(requests(registry.log()), before);
}

#[test]
fn an_image_of_the_older_labels_can_be_pulled() {
    let (Some(registry), Some(object)) = (Registry::start(), Object::example("xdp-counter")) else {
        return;
    };
    let mut image = Image::new(
        "",
        "",
        images::gzip(&images::tar(&[("program.o", &object.bytes())])),
    );
    image.labels = serde_json::json!({
        "io.ebpf.program_name": "xdp_stats",
        "io.ebpf.bpf_function_name": "xdp_stats",
        "io.ebpf.program_type": "xdp",
        "io.ebpf.filename": "program.o",
    });
    let Some(_) = image.push(&registry, "old:1") else {
        return;
    };
    let pulled = Bpfman::new().run(&["image", "pull", "-i", &registry.reference("old:1")]);
    assert_eq!(pulled.ok(), "Successfully downloaded bytecode\n");
}

#[test]
fn an_image_that_names_its_program_by_the_kernel_s_word_can_be_loaded() {
    if !lanes::root() {
        return;
    }
    let (Some(registry), Some(object)) = (Registry::start(), Object::example("xdp-counter")) else {
        return;
    };
    let layer = images::gzip(&images::tar(&[("program.o", &object.bytes())]));
    let image = Image::new("xdp_stats", "ext", layer);
    let Some(_) = image.push(&registry, "ext:1") else {
        return;
    };
    let bpfman = Bpfman::new();
    let reference = registry.reference("ext:1");
    let load = |program: &str| {
        bpfman.run(&[
            "load",
            "image",
            "-i",
            &reference,
            "-p",
            "IfNotPresent",
            "--programs",
            program,
        ])
    };
    let id = load("xdp:xdp_stats").field("Program ID");
    let refused = load("kprobe:xdp_stats");
    assert!(
        refused
            .failure()
            .contains("has `xdp_stats` as ext, not as kprobe"),
        "{refused:#?}"
    );
    let _ = bpfman.run(&["unload", &id]).ok();
}
