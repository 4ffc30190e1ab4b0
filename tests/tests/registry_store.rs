//! The store under load, without a network, on a full disk, and on media that cannot be written.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use std::path::Path;
use std::process::{Command, Stdio};

use bpfman_tests::cli::{Bpfman, binary};
use bpfman_tests::images::{digest, gzip, tar};
use bpfman_tests::lanes;
use bpfman_tests::objects::Object;
use bpfman_tests::registry::Registry;
use serde_json::{Value, json};

const DOWNLOADED: &str = "Successfully downloaded bytecode\n";

/// How many moments of a pull are tried.
const KILLS: u32 = 50;

fn build(bpfman: &Bpfman, object: &Object, reference: &str) {
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
    let _ = bpfman.run(&arguments).ok();
}

/// Walks from the index through every descriptor: each blob is there, has its length and its digest; nothing
/// temporary is left.
fn check(store: &Path) -> usize {
    let blob = |descriptor: &Value| {
        let name = descriptor["digest"].as_str().unwrap();
        let path = store.join("blobs").join(name.replace(':', "/"));
        let bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(digest(&bytes), name);
        assert_eq!(descriptor["size"], bytes.len());
        bytes
    };
    let tmp = store.join(".bpfman/tmp");
    let left: Vec<_> = std::fs::read_dir(tmp)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    assert!(left.is_empty(), "{left:?}");
    let index: Value =
        serde_json::from_slice(&std::fs::read(store.join("index.json")).unwrap()).unwrap();
    let entries = index["manifests"].as_array().unwrap();
    for entry in entries {
        let manifest: Value = serde_json::from_slice(&blob(entry)).unwrap();
        blob(&manifest["config"]);
        for layer in manifest["layers"].as_array().unwrap() {
            blob(layer);
        }
    }
    entries.len()
}

#[test]
fn thirty_pulls_at_once() {
    let Some(registry) = Registry::start() else {
        return;
    };
    let bpfman = Bpfman::new();
    let mut names = Vec::new();
    for example in ["xdp-counter", "tracepoint-counter"] {
        let Some(object) = Object::example(example) else {
            return;
        };
        for tag in ["one", "two"] {
            let name = registry.reference(&format!("acme/{example}:{tag}"));
            build(&bpfman, &object, &name);
            names.push(name);
        }
    }
    let pulls: Vec<_> = (0..30)
        .map(|number| {
            let name = &names[number % 3];
            let mut command = bpfman.command(&["image", "pull", "-p", "Always", "-i", name]);
            command
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap()
        })
        .collect();
    for pull in pulls {
        let output = pull.wait_with_output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }
    assert_eq!(check(&bpfman.images()), 3);
}

#[test]
fn killed_at_any_moment() {
    let (Some(registry), Some(object)) = (Registry::start(), Object::example("xdp-counter")) else {
        return;
    };
    let bpfman = Bpfman::new();
    let name = registry.reference("acme/xdp-counter:test");
    build(&bpfman, &object, &name);
    let pull = ["image", "pull", "-p", "Always", "-i", &name];
    let started = std::time::Instant::now();
    assert_eq!(bpfman.run(&pull).ok(), DOWNLOADED);
    let whole = started.elapsed();
    for moment in 0..KILLS {
        std::fs::remove_dir_all(bpfman.images()).unwrap();
        let mut child = bpfman
            .command(&pull)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // Any moment will do: none is waited for.
        std::thread::sleep(whole * moment / KILLS);
        let _ = child.kill();
        let _ = child.wait();
        assert_eq!(
            bpfman.run(&pull).ok(),
            DOWNLOADED,
            "killed at moment {moment}"
        );
        assert_eq!(check(&bpfman.images()), 1, "killed at moment {moment}");
    }
}

/// Runs bpfman where there is no network at all, not even loopback.
fn alone(bpfman: &Bpfman, before: &str, arguments: &[&str]) -> std::process::Output {
    let mut command = Command::new("unshare");
    command
        .args([
            "-n",
            "-m",
            "sh",
            "-c",
            &format!("{before} exec \"$@\""),
            "sh",
        ])
        .arg(binary())
        .args(arguments)
        .env("BPFMAN_IMAGE_DIR", bpfman.images())
        .env("BPFMAN_RUNTIME_DIR", bpfman.runtime())
        .env("NO_COLOR", "1");
    command.output().unwrap()
}

#[test]
fn without_a_network() {
    let (Some(skopeo), Some(_)) = (lanes::tool("skopeo"), lanes::tool("unshare")) else {
        return;
    };
    if !lanes::root() {
        return;
    }
    let (Some(registry), Some(object)) = (Registry::start(), Object::example("xdp-counter")) else {
        return;
    };
    let builder = Bpfman::new();
    let name = registry.reference("acme/xdp-counter:test");
    build(&builder, &object, &name);

    // A store that skopeo filled, alone.
    let bpfman = Bpfman::new();
    let target = format!("oci:{}:{name}", bpfman.images().display());
    let source = format!("docker://{name}");
    let copied = Command::new(skopeo)
        .args([
            "copy",
            "-q",
            "--insecure-policy",
            "--src-tls-verify=false",
            &source,
            &target,
        ])
        .output()
        .unwrap();
    assert!(copied.status.success(), "{copied:?}");
    let pull = ["image", "pull", "-p", "Never", "-i", &name];
    let read_only = format!(
        "mount --bind {0} {0} && mount -o remount,ro,bind {0} &&",
        bpfman.images().display()
    );
    for before in ["", &read_only] {
        let output = alone(&bpfman, before, &pull);
        assert_eq!(
            String::from_utf8_lossy(&output.stdout),
            DOWNLOADED,
            "{output:?}"
        );
    }
    assert!(
        !bpfman.images().join(".bpfman").exists(),
        "reading wrote something"
    );
    let output = alone(
        &bpfman,
        "",
        &[
            "image",
            "pull",
            "-p",
            "Never",
            "-i",
            &name.replace(":test", ":tess"),
        ],
    );
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        stderr.contains(&format!("did you mean {name}?")),
        "{stderr}"
    );

    // From store to store, twice the same bytes.
    let archives = [
        bpfman.images().with_file_name("one.tar"),
        bpfman.images().with_file_name("two.tar"),
    ];
    let other = Bpfman::new();
    for archive in &archives {
        let archive = archive.to_string_lossy();
        let _ = bpfman.run(&["image", "export", &name, "-o", &archive]).ok();
        let imported = other.run(&["image", "import", &archive]);
        assert!(
            imported.ok().starts_with(&format!("Imported {name} ")),
            "{imported:#?}"
        );
    }
    assert_eq!(
        std::fs::read(&archives[0]).unwrap(),
        std::fs::read(&archives[1]).unwrap()
    );
    check(&other.images());
    let of = |bpfman: &Bpfman| {
        bpfman
            .run(&["image", "inspect", &name, "-o", "json"])
            .ok()
            .to_owned()
    };
    assert_eq!(of(&bpfman), of(&other));
    let output = alone(&other, "", &pull);
    assert!(output.status.success(), "{output:?}");
    let removed = other.run(&["image", "remove", &name]);
    assert!(
        removed.ok().starts_with(&format!("Removed {name} ")),
        "{removed:#?}"
    );
    assert_eq!(
        std::fs::read_dir(other.images().join("blobs/sha256"))
            .unwrap()
            .count(),
        0
    );
}

#[test]
fn a_full_disk_leaves_the_store_as_it_was() {
    if !lanes::root() {
        return;
    }
    let (Some(registry), Some(object)) = (Registry::start(), Object::example("xdp-counter")) else {
        return;
    };
    let bpfman = Bpfman::new();
    let (first, second) = (
        registry.reference("acme/a:1"),
        registry.reference("acme/a:2"),
    );
    build(&bpfman, &object, &first);
    let Some(other) = Object::example("tracepoint-counter") else {
        return;
    };
    build(&bpfman, &other, &second);
    // A disk of the test's own mount namespace; it goes with the shell.
    let images = bpfman.images().display().to_string();
    std::fs::create_dir_all(&images).unwrap();
    let script = format!(
        "mount -t tmpfs -o size=128k,mode=0700 tmpfs {images} && \"$@\" -i {first} >&2 || exit 9
         cat {images}/index.json > {images}/../before
         dd if=/dev/zero of={images}/full bs=4096 2>/dev/null
         \"$@\" -p Always -i {second} && exit 8
         cmp {images}/index.json {images}/../before || exit 7
         rm {images}/full
         [ -z \"$(ls {images}/.bpfman/tmp)\" ] || exit 6
         \"$@\" -p Never -i {first} >&2 || exit 5"
    );
    let output = Command::new("unshare")
        .args(["-m", "sh", "-c", &script, "sh"])
        .arg(binary())
        .args(["image", "pull"])
        .env("BPFMAN_IMAGE_DIR", &images)
        .env("NO_COLOR", "1")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("No space left on device"), "{stderr}");
    assert!(stderr.contains("make room on the disk"), "{stderr}");
}

/// skopeo holds no lock, and writes the index that it read at its start with its own name added: that one is never lost,
/// and nothing of ours fails. (What it did not read it does not write, so that some of our names may be gone.)
#[test]
fn beside_skopeo() {
    let Some(skopeo) = lanes::tool("skopeo") else {
        return;
    };
    let (Some(registry), Some(object)) = (Registry::start(), Object::example("xdp-counter")) else {
        return;
    };
    let bpfman = Bpfman::new();
    let ours = registry.reference("acme/xdp-counter:test");
    build(&bpfman, &object, &ours);
    assert_eq!(bpfman.run(&["image", "pull", "-i", &ours]).ok(), DOWNLOADED);
    let theirs: Vec<String> = (0..20)
        .map(|number| registry.reference(&format!("acme/theirs:{number}")))
        .collect();
    let copied = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !copied.load(std::sync::atomic::Ordering::SeqCst) {
                    let pull = ["image", "pull", "-p", "Always", "-i", &ours];
                    assert_eq!(bpfman.run(&pull).ok(), DOWNLOADED);
                    let _ = bpfman.run(&["image", "list"]).ok();
                }
            });
        }
        let outputs: Vec<_> = theirs
            .iter()
            .map(|name| {
                Command::new(&skopeo)
                    .args(["copy", "-q", "--insecure-policy"])
                    .args(["--src-tls-verify=false", &format!("docker://{ours}")])
                    .arg(format!("oci:{}:{name}", bpfman.images().display()))
                    .output()
                    .unwrap()
            })
            .collect();
        copied.store(true, std::sync::atomic::Ordering::SeqCst);
        for output in outputs {
            assert!(output.status.success(), "{output:?}");
        }
    });
    check(&bpfman.images());
    for name in &theirs {
        let pull = ["image", "pull", "-p", "Never", "-i", name];
        assert_eq!(bpfman.run(&pull).ok(), DOWNLOADED);
    }
}

/// crane writes a name only when it is told to, oras writes the tag alone: such images are found by their digest.
#[test]
fn stores_that_crane_and_oras_filled() {
    let (Some(crane), Some(oras)) = (lanes::foreign_tool("crane"), lanes::foreign_tool("oras"))
    else {
        return;
    };
    let (Some(registry), Some(object)) = (Registry::start(), Object::example("xdp-counter")) else {
        return;
    };
    let builder = Bpfman::new();
    let name = registry.reference("acme/xdp-counter:test");
    build(&builder, &object, &name);
    let _ = builder.run(&["image", "pull", "-i", &name]).ok();
    let digest = builder.run(&["image", "inspect", &name]).field("Digest");
    let by_digest = format!("{}@{digest}", registry.reference("acme/xdp-counter"));

    let crane_pull = ["pull", "--insecure", "--format=oci"];
    let (plain, named) = ([].as_slice(), ["--annotate-ref"].as_slice());
    for (tool, more, found_by_name) in [
        (&crane, Some(plain), false),
        (&crane, Some(named), true),
        (&oras, None, false),
    ] {
        let bpfman = Bpfman::new();
        let store = bpfman.images().display().to_string();
        let mut command = Command::new(tool);
        match more {
            Some(more) => command.args(crane_pull).args(more).args([&name, &store]),
            None => command
                .args(["copy", "--from-plain-http", &name, "--to-oci-layout"])
                .arg(format!("{store}:test")),
        };
        let output = command.output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let never = |name: &str| bpfman.run(&["image", "pull", "-p", "Never", "-i", name]);
        assert_eq!(never(&by_digest).ok(), DOWNLOADED);
        match found_by_name {
            true => assert_eq!(never(&name).ok(), DOWNLOADED),
            false => assert!(never(&name).failure().contains("is not in the store")),
        }
        let list = bpfman.run(&["image", "list", "-o", "json"]);
        assert!(list.ok().contains(&digest), "{list:#?}");
    }
}

/// Of an index with variants we take what skopeo takes.
#[test]
fn variants_as_skopeo_chooses() {
    let Some(skopeo) = lanes::tool("skopeo") else {
        return;
    };
    let Some(object) = Object::example("xdp-counter") else {
        return;
    };
    let layer = gzip(&tar(&[("program.o", &object.bytes())]));
    let config = json!({
        "architecture": "arm", "os": "linux", "config": {},
        "rootfs": { "type": "layers", "diff_ids": [digest(&tar(&[("program.o", &object.bytes())]))] },
    });
    let name = "quay.io/acme/variants:1";
    for offered in [
        &["", "v5", "v6", "v7", "v8"][..],
        &["v8", "", "v6"],
        &["v5", "v7"],
        &["v8"],
    ] {
        let bpfman = Bpfman::new();
        let store = bpfman.images();
        let blobs = store.join("blobs/sha256");
        std::fs::create_dir_all(&blobs).unwrap();
        let blob = |media_type: &str, bytes: &[u8]| {
            let digest = digest(bytes);
            std::fs::write(blobs.join(digest.trim_start_matches("sha256:")), bytes).unwrap();
            json!({ "mediaType": media_type, "digest": digest, "size": bytes.len() })
        };
        let config = blob(
            "application/vnd.oci.image.config.v1+json",
            config.to_string().as_bytes(),
        );
        let layer = blob("application/vnd.oci.image.layer.v1.tar+gzip", &layer);
        let kind = "application/vnd.oci.image.manifest.v1+json";
        let manifests: Vec<Value> = offered
            .iter()
            .map(|variant| {
                let manifest = json!({
                    "schemaVersion": 2, "mediaType": kind, "config": config, "layers": [layer],
                    "annotations": { "variant": variant },
                });
                let mut entry = blob(kind, manifest.to_string().as_bytes());
                entry["platform"] = json!({ "os": "linux", "architecture": "arm" });
                if !variant.is_empty() {
                    entry["platform"]["variant"] = json!(variant);
                }
                entry
            })
            .collect();
        let kind = "application/vnd.oci.image.index.v1+json";
        let list = json!({ "schemaVersion": 2, "mediaType": kind, "manifests": manifests });
        let mut entry = blob(kind, list.to_string().as_bytes());
        entry["annotations"] = json!({ "org.opencontainers.image.ref.name": name });
        let index = json!({ "schemaVersion": 2, "manifests": [entry] });
        std::fs::write(store.join("index.json"), index.to_string()).unwrap();
        std::fs::write(
            store.join("oci-layout"),
            r#"{"imageLayoutVersion":"1.0.0"}"#,
        )
        .unwrap();

        for wanted in ["v8", "v7", "v6", "v5", ""] {
            let mut command = Command::new(&skopeo);
            command.args(["--override-os", "linux", "--override-arch", "arm"]);
            let mut platform = "linux/arm".to_owned();
            if !wanted.is_empty() {
                command.args(["--override-variant", wanted]);
                platform += &format!("/{wanted}");
            }
            let copy = tempfile::TempDir::new().unwrap();
            let output = command
                .args(["--insecure-policy", "copy", "-q"])
                .arg(format!("oci:{}:{name}", store.display()))
                .arg(format!("dir:{}", copy.path().display()))
                .output()
                .unwrap();
            let ours = bpfman.run(&[
                "image",
                "pull",
                "-p",
                "Never",
                "-i",
                name,
                "-o",
                "json",
                "--platform",
                &platform,
            ]);
            if !output.status.success() {
                assert!(
                    ours.failure().contains("is refused"),
                    "{platform} of {offered:?}: {output:?}"
                );
                continue;
            }
            let theirs = digest(&std::fs::read(copy.path().join("manifest.json")).unwrap());
            let ours: Value = serde_json::from_str(ours.ok()).unwrap();
            assert_eq!(ours["manifest_digest"], theirs, "{platform} of {offered:?}");
        }
    }
}
