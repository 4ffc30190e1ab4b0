//! A store of another user that changes while it is read: at every open, read, stat and rename of a load, under a policy
//! that refuses what is not signed. Nothing unproven reaches the kernel, and no change makes the command wait. As root.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use bpfman_tests::cli::{Bpfman, Outcome};
use bpfman_tests::images::{digest, goarch, tar};
use bpfman_tests::lanes;
use bpfman_tests::objects::Object;
use serde_json::{Value, json};

/// How many loads are disturbed in all.
const ROUNDS: usize = 1000;

const IMAGE: &str = "quay.io/acme/app:v1";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// A program that says one thing, in an object of one length.
fn object(verdict: &str) -> Option<Object> {
    Object::compile(&format!(
        "SEC(\"xdp\")\nint raced(struct xdp_md *ctx) {{ return {verdict}; }}\n"
    ))
}

fn run(command: &mut Command) -> Vec<u8> {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {output:?}");
    output.stdout
}

fn openssl(words: &[&str], key: &Path, rest: &[&Path]) -> Vec<u8> {
    run(Command::new("openssl").args(words).arg(key).args(rest))
}

/// A store with a signed image, and what its owner would like to have loaded instead.
struct Place {
    bpfman: Bpfman,
    racer: PathBuf,
    /// Files of the store, as they should be.
    good: Vec<(PathBuf, Vec<u8>)>,
    /// Actions of the racer, with source and target.
    changes: Vec<(&'static str, PathBuf, PathBuf)>,
}

impl Place {
    fn new(good: &Object, evil: &Object) -> Self {
        let bpfman = Bpfman::new();
        let home = bpfman.home().to_owned();
        let store = bpfman.images();
        let blobs = store.join("blobs/sha256");
        fs::create_dir_all(&blobs).unwrap();
        let racer = home.join("racer");
        let source = lanes::repository().join("tests/tests/race/racer.c");
        run(Command::new("cc")
            .arg("-O2")
            .arg("-o")
            .arg(&racer)
            .arg(source));

        let path = |hash: &str| blobs.join(hash.strip_prefix("sha256:").unwrap());
        let put = |bytes: &[u8]| {
            let hash = digest(bytes);
            fs::write(path(&hash), bytes).unwrap();
            hash
        };
        let image = |object: &Object| {
            let layer = tar(&[("app.o", &object.bytes())]);
            let config = json!({
                "architecture": goarch(),
                "os": "linux",
                "config": { "Labels": {
                    "io.ebpf.programs": r#"{"raced":"xdp"}"#,
                    "io.ebpf.maps": "{}",
                } },
                "rootfs": { "type": "layers", "diff_ids": [digest(&layer)] },
            })
            .to_string();
            let (layer_digest, config_digest) = (put(&layer), put(config.as_bytes()));
            let manifest = json!({
                "schemaVersion": 2,
                "mediaType": MANIFEST,
                "config": {
                    "mediaType": "application/vnd.oci.image.config.v1+json",
                    "digest": config_digest,
                    "size": config.len(),
                },
                "layers": [{
                    "mediaType": "application/vnd.oci.image.layer.v1.tar",
                    "digest": layer_digest,
                    "size": layer.len(),
                }],
            })
            .to_string();
            let size = manifest.len();
            (put(manifest.as_bytes()), size, config_digest, layer_digest)
        };
        let (right, wrong) = (image(good), image(evil));
        let payload = |manifest: &str| {
            json!({
                "critical": {
                    "identity": { "docker-reference": "quay.io/acme/app" },
                    "image": { "docker-manifest-digest": manifest },
                    "type": "cosign container image signature",
                },
                "optional": null,
            })
            .to_string()
        };
        let (key, public) = (home.join("good.key"), home.join("good.pub"));
        let words = [
            "ecparam",
            "-name",
            "prime256v1",
            "-genkey",
            "-noout",
            "-out",
        ];
        openssl(&words, &key, &[]);
        openssl(
            &["ec", "-pubout", "-in"],
            &key,
            &[Path::new("-out"), &public],
        );
        let signed = home.join("payload");
        fs::write(&signed, payload(&right.0)).unwrap();
        let raw = home.join("signature");
        let signature = openssl(&["dgst", "-sha256", "-sign"], &key, &[&signed]);
        fs::write(&raw, signature).unwrap();
        let signature = run(Command::new("base64").arg("-w0").arg(&raw));
        let about = payload(&right.0);
        let about_digest = put(about.as_bytes());
        let wrong_about = put(payload(&wrong.0).as_bytes());
        let config_digest = put(b"{}");
        let signatures = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": {
                "mediaType": "application/vnd.oci.image.config.v1+json",
                "digest": config_digest,
                "size": 2,
            },
            "layers": [{
                "mediaType": "application/vnd.dev.cosign.simplesigning.v1+json",
                "digest": about_digest,
                "size": about.len(),
                "annotations": {
                    "dev.cosignproject.cosign/signature": String::from_utf8(signature).unwrap(),
                },
            }],
        })
        .to_string();
        let signatures_digest = put(signatures.as_bytes());
        let index = |image: &(String, usize, String, String)| {
            let entry = |name: &str, digest: &str, size: usize| {
                json!({
                    "mediaType": MANIFEST,
                    "digest": digest,
                    "size": size,
                    "annotations": { "org.opencontainers.image.ref.name": name },
                })
            };
            let tag = right.0.replace(':', "-");
            let name = format!("quay.io/acme/app:{tag}.sig");
            json!({
                "schemaVersion": 2,
                "manifests": [
                    entry(IMAGE, &image.0, image.1),
                    entry(&name, &signatures_digest, signatures.len()),
                ],
            })
            .to_string()
        };
        let (index_path, wrong_index) = (store.join("index.json"), home.join("index.json"));
        fs::write(&index_path, index(&right)).unwrap();
        fs::write(&wrong_index, index(&wrong)).unwrap();
        fs::write(
            store.join("oci-layout"),
            r#"{"imageLayoutVersion":"1.0.0"}"#,
        )
        .unwrap();
        let policy = format!(
            "[signing]\nallow_unsigned = false\n[[signing.policy]]\nscope = \"quay.io/acme\"\nkeys = [\"{}\"]\n",
            public.display()
        );
        fs::write(home.join("bpfman.toml"), policy).unwrap();

        let pairs = [
            (path(&wrong.3), path(&right.3)),
            (path(&wrong.0), path(&right.0)),
            (path(&wrong.2), path(&right.2)),
            (path(&wrong_about), path(&about_digest)),
            (path(&wrong.0), path(&signatures_digest)),
            (wrong_index, index_path),
        ];
        let mut changes = Vec::new();
        for (source, target) in pairs {
            for action in ["write", "rename", "link", "fifo", "truncate", "remove"] {
                changes.push((action, source.clone(), target.clone()));
            }
        }
        let good = changes
            .iter()
            .step_by(6)
            .map(|(_, _, target)| (target.clone(), fs::read(target).unwrap()))
            .collect();
        // The home is private; the store belongs to somebody else, who could do all of this.
        run(Command::new("chown")
            .args(["-R", "65534:65534"])
            .arg(&store));
        Self {
            bpfman,
            racer,
            good,
            changes,
        }
    }

    fn restore(&self) {
        for (path, bytes) in &self.good {
            let _ = fs::remove_file(path);
            fs::write(path, bytes).unwrap();
        }
    }

    /// A load that is disturbed at one moment, and how many moments there were.
    fn load(&self, number: usize, back: usize, change: usize) -> (Outcome, usize) {
        let (action, source, target) = &self.changes[change];
        let (number, back) = (number.to_string(), back.to_string());
        let count = self.bpfman.home().join("count");
        let by = [
            self.racer.to_str().unwrap(),
            &number,
            &back,
            action,
            source.to_str().unwrap(),
            target.to_str().unwrap(),
            count.to_str().unwrap(),
            "--",
        ];
        let load = [
            "load",
            "image",
            "-i",
            IMAGE,
            "-p",
            "Never",
            "--programs",
            "xdp:raced",
        ];
        let mut command = self.bpfman.command_by(&by, &load);
        // A folder of admissions would decide without the signature from the second load on.
        command
            .env("STORE", self.bpfman.images())
            .env("BPFMAN_ADMITTED_DIR", "/proc/no-admissions");
        let outcome = Outcome::of(&command.output().unwrap());
        let count = fs::read_to_string(count).unwrap();
        self.restore();
        (outcome, count.trim().parse().unwrap())
    }
}

/// Tags of the programs of that name in the kernel, by their ids: hashes of their instructions.
fn tags(bpftool: &Path) -> BTreeMap<String, String> {
    let list = run(Command::new(bpftool).args(["-j", "prog", "list"]));
    let list: Value = serde_json::from_slice(&list).unwrap();
    let programs = list.as_array().unwrap().iter();
    programs
        .filter(|program| program["name"] == "raced")
        .map(|program| {
            let tag = program["tag"].as_str().unwrap().to_owned();
            (program["id"].to_string(), tag)
        })
        .collect()
}

#[test]
fn no_unproven_byte_of_a_changing_store_reaches_the_kernel() {
    if !lanes::root() {
        return;
    }
    let (Some(bpftool), Some(_)) = (lanes::tool("bpftool"), lanes::tool("cc")) else {
        return;
    };
    let (Some(good), Some(evil)) = (object("XDP_PASS"), object("XDP_DROP")) else {
        return;
    };
    assert_eq!(good.bytes().len(), evil.bytes().len());
    let place = Place::new(&good, &evil);
    let bpfman = &place.bpfman;
    let tag = |object: &Object| {
        let loaded = bpfman.run(&[
            "load",
            "file",
            "-p",
            object.arg(),
            "--programs",
            "xdp:raced",
        ]);
        let id = loaded.field("Program ID");
        let tag = tags(&bpftool)[&id].clone();
        bpfman.run(&["unload", &id]).ok();
        tag
    };
    let (right, wrong) = (tag(&good), tag(&evil));
    assert_ne!(right, wrong);

    // Undisturbed it is loaded.
    let (outcome, moments) = place.load(usize::MAX >> 1, 0, 0);
    bpfman.run(&["unload", &outcome.field("Program ID")]).ok();
    assert!(moments > 40, "{moments}");
    let mut loaded = 0;
    // Every moment gets every twelfth change or so: for good, taken back after one moment, after two.
    for round in 0..ROUNDS {
        let pass = round / moments;
        let (number, back) = (1 + round % moments, pass % 3);
        let change = (round + pass) % place.changes.len();
        let (outcome, _) = place.load(number, back, change);
        let found = tags(&bpftool);
        let what = || {
            let change = &place.changes[change];
            format!("{change:?} at {number}, back after {back}: {outcome:#?}")
        };
        assert!(found.values().all(|tag| *tag != wrong), "{}", what());
        match outcome.status {
            Some(0) => {
                let id = outcome.field("Program ID");
                assert_eq!(found[&id], right, "{}", what());
                bpfman.run(&["unload", &id]).ok();
                loaded += 1;
            }
            Some(1) => assert!(outcome.stderr.starts_with("error: "), "{}", what()),
            _ => panic!("{}", what()),
        }
    }
    println!("{ROUNDS} rounds, {moments} moments, {loaded} loaded");
    assert!(loaded > 0 && loaded < ROUNDS);
}
