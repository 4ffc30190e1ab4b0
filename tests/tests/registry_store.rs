//! The store under load, killed writers, a full disk, and who may read what.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use std::process::{Command, Stdio};

use bpfman_tests::cli::{Bpfman, DOWNLOADED, HELD, Outcome};
use bpfman_tests::fixtures;
use bpfman_tests::images::{digest, gzip, tar};
use bpfman_tests::lanes;
use bpfman_tests::layout::{check, private, snapshot};
use bpfman_tests::objects::Object;
use bpfman_tests::project::Project;
use bpfman_tests::random::Random;
use bpfman_tests::registry::Registry;
use serde_json::{Value, json};

/// How many moments of a pull are tried.
const KILLS: usize = 50;

fn built(reference: &str, input: [&str; 2]) {
    let words = ["image", "build", "--runtime", "builtin", "-t", reference];
    let _ = Bpfman::new().run(&[&words[..], &input].concat()).ok();
}

/// A host whose policy wants what is in this registry signed by the fixtures' key.
fn careful(registry: &Registry, repository: &str) -> Bpfman {
    let bpfman = Bpfman::new();
    let config = bpfman.home().join("careful.toml");
    let key = fixtures::folder().join("good.pub");
    let text = format!(
        "[[signing.policy]]\nscope = \"{}\"\nkeys = [\"{}\"]\n",
        registry.reference(repository),
        key.display()
    );
    std::fs::write(&config, text).unwrap();
    let config = config.to_str().unwrap().to_owned();
    bpfman.env("BPFMAN_CONFIG", &config)
}

#[test]
fn thirty_pulls_at_once() {
    let Some(registry) = Registry::start() else {
        return;
    };
    let (Some(object), Some(project)) = (
        Object::example("xdp-counter"),
        Project::compile(&["amd64", "arm64", "s390x"]),
    ) else {
        return;
    };
    // Three images: a single one, one of several architectures, one with a signature that is asked for.
    let names = ["acme/single:1", "acme/several:1", "both:v1"].map(|name| registry.reference(name));
    built(&names[0], ["-b", object.arg()]);
    built(&names[1], ["-c", project.arg()]);
    let _ = fixtures::push(&registry, "both");
    let bpfman = careful(&registry, "both");
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
        let outcome = Outcome::of(&pull.wait_with_output().unwrap());
        outcome.pulled();
    }
    // The images and the signatures of the third one.
    assert!(check(&bpfman.images()) > 3);
    private(&bpfman.images());
    let list = bpfman.run(&["image", "list"]);
    for name in &names {
        let lines = list.ok().lines().filter(|line| line.contains(&**name));
        assert_eq!(lines.count(), 1, "{name} in {list:#?}");
        let never = bpfman.run(&["image", "pull", "-p", "Never", "-i", name]);
        assert_eq!(never.ok(), HELD, "{name}");
    }
}

#[test]
fn killed_at_any_moment() {
    let (Some(registry), Some(object), Some(project)) = (
        Registry::start(),
        Object::example("xdp-counter"),
        Project::compile(&["amd64", "arm64", "s390x"]),
    ) else {
        return;
    };
    let _ = fixtures::push(&registry, "both");
    let _ = fixtures::push(&registry, "signed");
    let kept = ["acme/xdp-counter:1", "both:v1"].map(|name| registry.reference(name));
    let killed = ["acme/several:1", "signed:v1"].map(|name| registry.reference(name));
    built(&kept[0], ["-b", object.arg()]);
    built(&killed[0], ["-c", project.arg()]);
    let bpfman = careful(&registry, "both");
    let config = bpfman.home().join("careful.toml");
    let both = std::fs::read_to_string(&config).unwrap();
    std::fs::write(
        &config,
        format!("{both}{}", both.replace("/both", "/signed")),
    )
    .unwrap();
    let pull =
        |name: &str, policy: &str| bpfman.command(&["image", "pull", "-p", policy, "-i", name]);
    let ends_well = |name: &str, policy: &str, when: &str| {
        let outcome = Outcome::of(&pull(name, policy).output().unwrap());
        assert_eq!(outcome.status, Some(0), "{name}, {when}: {outcome:#?}");
        outcome.pulled();
    };
    for name in &kept {
        ends_well(name, "Always", "at first");
    }
    let first = snapshot(&bpfman.images());
    let started = std::time::Instant::now();
    for name in &killed {
        ends_well(name, "Always", "at first");
    }
    let whole = started.elapsed() / 2;
    let entries = check(&bpfman.images());
    let mut random = Random::seeded();
    for number in 0..KILLS {
        for name in &killed {
            let _ = bpfman.run(&["image", "remove", name]).ok();
        }
        let _ = bpfman.run(&["image", "prune"]).ok();
        let name = &killed[number % 2];
        let mut child = pull(name, "Always")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // Any moment will do: none is waited for.
        let moment = whole.mul_f64(random.share());
        std::thread::sleep(moment);
        let _ = child.kill();
        let _ = child.wait();
        let when = format!("killed after {moment:?}");
        // What was there is there, whatever was in the making.
        for name in &kept {
            ends_well(name, "Never", &when);
        }
        for name in &killed {
            ends_well(name, "Always", &when);
        }
        assert_eq!(check(&bpfman.images()), entries, "{when}");
        private(&bpfman.images());
    }
    for name in &killed {
        let _ = bpfman.run(&["image", "remove", name]).ok();
    }
    let blobs = |files: &std::collections::BTreeMap<std::path::PathBuf, (u32, Vec<u8>)>| {
        let blobs = files
            .keys()
            .filter(|path| path.components().any(|part| part.as_os_str() == "sha256"));
        blobs.cloned().collect::<Vec<_>>()
    };
    // Nothing of fifty broken pulls is left.
    assert_eq!(blobs(&snapshot(&bpfman.images())), blobs(&first));
}

#[test]
fn nothing_is_written_outside_the_store_and_what_was_admitted() {
    let Some(registry) = Registry::start() else {
        return;
    };
    let _ = fixtures::push(&registry, "both");
    let name = registry.reference("both:v1");
    let bpfman = careful(&registry, "both");
    let folder = |name: &str| {
        let folder = bpfman.home().join(name);
        std::fs::create_dir(&folder).unwrap();
        folder
    };
    let (here, temporary) = (folder("here"), folder("temporary"));
    let run = |arguments: &[&str]| {
        let mut command = bpfman.command(arguments);
        command.current_dir(&here).env("TMPDIR", &temporary);
        let _ = Outcome::of(&command.output().unwrap()).ok();
    };
    let outside = || {
        let mut files = snapshot(bpfman.home());
        files.retain(|path, _| {
            !path.starts_with(bpfman.images()) && !path.starts_with(bpfman.admitted())
        });
        files
    };
    let before = outside();
    run(&["image", "pull", "-i", &name]);
    run(&["image", "pull", "-p", "Never", "-i", &name]);
    run(&["image", "verify", "-i", &name]);
    run(&["image", "inspect", &name]);
    run(&["image", "list"]);
    private(&bpfman.images());
    private(&bpfman.admitted());
    run(&["image", "remove", &name]);
    run(&["image", "prune", "--all"]);
    assert_eq!(outside(), before);
    assert!(!bpfman.runtime().exists(), "images need no runtime folder");
}

/// What a pull asks the registry for: contents, and signatures that might be there.
fn requests(registry: &Registry, name: &str) -> (usize, usize) {
    let asked = || {
        let log = registry.log();
        let lines = log.lines().filter(|line| line.contains("http.request"));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    let before = asked().len();
    let pull = ["image", "pull", "--platform", "linux/amd64", "-i", name];
    assert_eq!(Bpfman::new().run(&pull).ok(), DOWNLOADED);
    let asked = asked().split_off(before);
    let signature = |line: &&String| line.contains("/sha256-") || line.contains("/referrers/");
    let signatures = asked.iter().filter(signature).count();
    (asked.len() - signatures, signatures)
}

#[test]
fn an_index_of_thirteen_costs_one_manifest_more() {
    let (Some(registry), Some(one), Some(two), Some(thirteen)) = (
        Registry::start(),
        Project::compile(&["amd64"]),
        Project::compile(&["amd64", "s390x"]),
        Project::thirteen(),
    ) else {
        return;
    };
    let of = |project: &Project, name: &str| {
        let name = registry.reference(name);
        built(&name, ["-c", project.arg()]);
        requests(&registry, &name)
    };
    let single = of(&one, "acme/one:1");
    let index = of(&thirteen, "acme/thirteen:1");
    assert_eq!(single.0, 3, "manifest, configuration, layer");
    assert_eq!(index.0, single.0 + 1);
    // The index may be signed, or the one image of it that is wanted; the other twelve are nothing to us.
    assert!(index.1 <= 2 * single.1, "{index:?} {single:?}");
    assert_eq!(of(&two, "acme/two:1"), index);
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
    built(&first, ["-b", object.arg()]);
    let Some(other) = Object::example("tracepoint-counter") else {
        return;
    };
    built(&second, ["-b", other.arg()]);
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
    let Some(alone) = lanes::mount_namespace() else {
        return;
    };
    let by = [alone, &["sh", "-c", &script, "sh"]].concat();
    let outcome = bpfman.run_by(&by, &["image", "pull"]);
    let stderr = outcome.stderr.clone();
    let _ = outcome.ok();
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
    built(&ours, ["-b", object.arg()]);
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
                    bpfman.run(&pull).pulled();
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
        assert_eq!(bpfman.run(&pull).ok(), HELD);
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
    built(&name, ["--bytecode", object.arg()]);
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
        assert_eq!(never(&by_digest).ok(), HELD);
        match found_by_name {
            true => assert_eq!(never(&name).ok(), HELD),
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
