//! What docker and podman save, in every format that they have, is imported: as a file, from a pipe, as a folder. No
//! registry takes part.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use bpfman_tests::cli::{Bpfman, HELD, Outcome};
use bpfman_tests::engines::Engine;
use bpfman_tests::images::gzip;
use bpfman_tests::lanes;
use bpfman_tests::layout::check;
use bpfman_tests::objects::Object;
use tempfile::TempDir;

const TAG: &str = "registry.example/acme/counter:1";

/// Builds an image that the engine keeps, and nothing else.
fn built(engine: &Engine, variable: &str, runtime: &str, object: &Object) {
    let bpfman = Bpfman::new().env(variable, engine.socket());
    let file = lanes::repository().join("Containerfile.bytecode");
    let words = ["image", "build", "--no-push", "-r", runtime, "-t", TAG];
    let file = ["-f", file.to_str().unwrap(), "-b", object.arg()];
    let _ = bpfman.run(&[&words[..], &file].concat()).ok();
}

fn run(program: &Path, arguments: &[&str]) -> Vec<u8> {
    let output = Command::new(program).args(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program:?} {arguments:?}: {said}");
    output.stdout
}

/// The image is in a fresh store, whole and by its name.
fn imported(bpfman: &Bpfman, outcome: &Outcome, case: &str) -> String {
    let line = outcome.ok();
    assert!(
        line.starts_with(&format!("Imported {TAG} (sha256:")),
        "{case}: {line}"
    );
    check(&bpfman.images());
    let pulled = bpfman.run(&["image", "pull", "-p", "Never", "-i", TAG]);
    assert_eq!(pulled.ok(), HELD, "{case}");
    line.to_owned()
}

fn import(path: &Path, more: &[&str], case: &str) -> String {
    let bpfman = Bpfman::new();
    let words = ["image", "import", path.to_str().unwrap()];
    let outcome = bpfman.run(&[&words[..], more].concat());
    imported(&bpfman, &outcome, case)
}

fn piped(bytes: &[u8], case: &str) -> String {
    let bpfman = Bpfman::new();
    let mut child = bpfman
        .command(&["image", "import", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    std::io::Write::write_all(&mut stdin, bytes).unwrap();
    drop(stdin);
    let outcome = Outcome::of(&child.wait_with_output().unwrap());
    imported(&bpfman, &outcome, case)
}

/// A file, the same compressed, a pipe and a folder give the same image.
fn every_way(archive: &[u8], case: &str) {
    let at = TempDir::new().unwrap();
    let file = |name: &str, bytes: &[u8]| -> PathBuf {
        let path = at.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    };
    let plain = import(&file("a.tar", archive), &[], case);
    let packed = import(
        &file("a.tar.gz", &gzip(archive)),
        &[],
        &format!("{case}, gzip"),
    );
    let unpacked = at.path().join("unpacked");
    std::fs::create_dir(&unpacked).unwrap();
    let names = [at.path().join("a.tar"), unpacked.clone()].map(|path| path.display().to_string());
    let _ = run(Path::new("tar"), &["-xf", &names[0], "-C", &names[1]]);
    let folder = import(&unpacked, &[], &format!("{case}, folder"));
    let pipe = piped(archive, &format!("{case}, pipe"));
    for other in [packed, folder, pipe] {
        assert_eq!(plain, other, "{case}");
    }
}

fn docker_saves(engine: &Engine, case: &str) {
    let (Some(docker), Some(object)) = (lanes::tool("docker"), Object::example("xdp-counter"))
    else {
        return;
    };
    built(engine, "DOCKER_HOST", "docker", &object);
    let archive = run(&docker, &["-H", engine.socket(), "save", TAG]);
    every_way(&archive, case);
    // By its id it has no name.
    let id = run(&docker, &["-H", engine.socket(), "images", "-q"]);
    let id = String::from_utf8(id).unwrap();
    let archive = run(&docker, &["-H", engine.socket(), "save", id.trim()]);
    let at = TempDir::new().unwrap();
    let path = at.path().join("unnamed.tar");
    std::fs::write(&path, archive).unwrap();
    let path_text = path.to_str().unwrap();
    let refused = Bpfman::new().run(&["image", "import", path_text]);
    let said = refused.failure();
    assert!(
        said.starts_with(&format!("error: cannot import {path_text}\n")),
        "{said}"
    );
    assert!(
        said.contains("names no image") && said.contains("--tag"),
        "{said}"
    );
    let _ = import(&path, &["--tag", TAG], &format!("{case}, by its id"));
}

#[test]
fn docker_save_of_the_old_form() {
    let Some(engine) = Engine::docker() else {
        return;
    };
    docker_saves(&engine, "docker 20");
}

#[test]
fn docker_save_of_the_new_form() {
    let Some(engine) = Engine::docker26() else {
        return;
    };
    docker_saves(&engine, "docker 26");
}

#[test]
fn podman_save_in_every_format() {
    let Some(engine) = Engine::podman() else {
        return;
    };
    let (Some(podman), Some(object)) = (lanes::tool("podman"), Object::example("xdp-counter"))
    else {
        return;
    };
    built(&engine, "CONTAINER_HOST", "podman", &object);
    let at = TempDir::new().unwrap();
    for (format, tag) in [
        ("docker-archive", None),
        ("oci-archive", None),
        ("oci-dir", None),
        ("docker-dir", Some(TAG)),
    ] {
        let path = at.path().join(format);
        let path_text = path.to_str().unwrap();
        let save = [
            "--remote",
            "--url",
            engine.socket(),
            "save",
            "-q",
            "--format",
            format,
        ];
        let _ = run(&podman, &[&save[..], &["-o", path_text, TAG]].concat());
        match tag {
            None if path.is_file() => every_way(&std::fs::read(&path).unwrap(), format),
            None => drop(import(&path, &[], format)),
            // Whether it has a name depends on the podman.
            Some(tag) => drop(import(&path, &["--tag", tag], format)),
        }
    }
    let Some(skopeo) = lanes::tool("skopeo") else {
        return;
    };
    let source = format!(
        "docker-archive:{}",
        at.path().join("docker-archive").display()
    );
    let folder = at.path().join("dir");
    let target = format!("dir:{}", folder.display());
    let _ = run(
        &skopeo,
        &["copy", "-q", "--insecure-policy", &source, &target],
    );
    let refused = Bpfman::new().run(&["image", "import", folder.to_str().unwrap()]);
    assert!(refused.failure().contains("--tag"), "{refused:#?}");
    let _ = import(&folder, &["--tag", TAG], "the dir transport");
}

#[test]
fn what_is_built_without_a_push_is_loaded_from_the_store() {
    let (Some(object), Some(skopeo)) = (Object::example("xdp-counter"), lanes::tool("skopeo"))
    else {
        return;
    };
    let bpfman = Bpfman::new();
    let second = "registry.example/acme/counter:2";
    let words = [
        "image",
        "build",
        "--no-push",
        "-r",
        "builtin",
        "-t",
        TAG,
        "-t",
        second,
    ];
    let built = bpfman.run(&[&words[..], &["-b", object.arg()]].concat());
    let line = built.ok().trim_end().to_owned();
    let digest = line
        .strip_prefix("registry.example/acme/counter@sha256:")
        .unwrap();
    check(&bpfman.images());
    let list = bpfman.run(&["image", "list"]);
    for name in [TAG, second] {
        assert!(list.ok().contains(&format!(" {name} ")), "{list:#?}");
    }
    // By the beginning of its digest, as the list prints it, and shorter.
    let listed = format!("sha256:{}", &digest[..12]);
    assert!(list.ok().contains(&listed), "{list:#?}");
    for short in [&listed, &digest[..12], &digest[..7], digest] {
        let shown = bpfman.run(&["image", "inspect", short]);
        assert_eq!(shown.field("Digest"), format!("sha256:{digest}"), "{short}");
        let pulled = bpfman.run(&["image", "pull", "-i", short]);
        assert_eq!(pulled.ok(), HELD, "{short}");
    }
    let refused = bpfman.run(&["image", "remove", &listed]);
    let said = refused.failure();
    assert!(
        said.contains("has 2 names") && said.contains(second),
        "{said}"
    );
    let _ = bpfman.run(&["image", "remove", second]).ok();
    // One more name, an archive through a pipe, and what skopeo reads of it.
    let third = "other.example/x:3";
    let _ = bpfman.run(&["image", "tag", &listed, third]).ok();
    let exported = bpfman
        .command(&["image", "export", third, "-o", "-"])
        .output()
        .unwrap();
    assert!(
        exported.status.success() && exported.stderr.is_empty(),
        "{exported:?}"
    );
    let at = TempDir::new().unwrap();
    let archive = at.path().join("a.tar");
    std::fs::write(&archive, &exported.stdout).unwrap();
    let source = format!("oci-archive:{}:{third}", archive.display());
    let raw = run(&skopeo, &["inspect", "--raw", &source]);
    assert_eq!(
        bpfman_tests::images::digest(&raw),
        format!("sha256:{digest}")
    );
    let other = Bpfman::new();
    let imported = other.run(&["image", "import", archive.to_str().unwrap()]);
    assert!(
        imported.ok().starts_with(&format!("Imported {third} ")),
        "{imported:#?}"
    );
    let _ = bpfman.run(&["image", "remove", third]).ok();
    let _ = bpfman.run(&["image", "remove", &digest[..12]]).ok();
    assert!(!bpfman.run(&["image", "list"]).ok().contains("acme"));
}

#[test]
fn an_image_of_the_store_is_pushed() {
    let Some(registry) = bpfman_tests::registry::Registry::start() else {
        return;
    };
    let (Some(object), Some(skopeo)) = (Object::example("xdp-counter"), lanes::tool("skopeo"))
    else {
        return;
    };
    let bpfman = Bpfman::new();
    let words = ["image", "build", "--no-push", "-r", "builtin", "-t", TAG];
    let built = bpfman.run(&[&words[..], &["-b", object.arg()]].concat());
    let (_, digest) = built.ok().trim_end().split_once('@').unwrap();
    let own = registry.reference("acme/counter:1");
    let pushed = bpfman.run(&["image", "push", TAG, &own]);
    let expected = format!("{}@{digest}\n", own.strip_suffix(":1").unwrap());
    assert_eq!(pushed.ok(), expected);
    // To its own name, by its digest.
    let second = registry.reference("acme/other:2");
    let _ = bpfman.run(&["image", "tag", TAG, &second]).ok();
    let _ = bpfman.run(&["image", "push", &second]).ok();
    for name in [&own, &second] {
        let name = format!("docker://{name}");
        let raw = run(&skopeo, &["inspect", "--raw", "--tls-verify=false", &name]);
        assert_eq!(bpfman_tests::images::digest(&raw), digest);
    }
    let refused = bpfman.run(&["image", "push", TAG, "127.0.0.1:1/a:1"]);
    assert!(
        refused
            .failure()
            .starts_with(&format!("error: cannot push {TAG}\n")),
        "{refused:#?}"
    );
}
