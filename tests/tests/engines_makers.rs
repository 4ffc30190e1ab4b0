//! Bytecode images as people make them, with each maker's own command: for one architecture and for two. Each is pulled,
//! inspected and loaded into this machine's kernel.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use std::path::{Path, PathBuf};
use std::process::Command;

use bpfman_tests::cli::Bpfman;
use bpfman_tests::engines::Engine;
use bpfman_tests::images::{digest, goarch};
use bpfman_tests::lanes;
use bpfman_tests::project::Project;
use bpfman_tests::registry::Registry;
use serde_json::{Value, json};
use tempfile::TempDir;

/// The other architecture, of the other byte order.
const OTHER: &str = "s390x";

const SOURCE: &str = r#"
struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, 1);
    __type(key, __u32);
    __type(value, __u64);
} kills SEC(".maps");
SEC("tracepoint/syscalls/sys_enter_kill")
int count_kills(void *ctx)
{
    __u32 key = 0;
    __u64 *value = bpf_map_lookup_elem(&kills, &key);
    if (value)
        *value += ARCHITECTURE;
    return 0;
}
"#;

/// What every maker starts from, and where its images go.
struct Workshop {
    registry: Registry,
    project: Project,
    scratch: TempDir,
}

impl Workshop {
    /// `None` after the test was skipped.
    fn open() -> Option<Self> {
        if !lanes::root() || !lanes::tracefs() {
            return None;
        }
        let project = Project::compile_source(SOURCE, &[goarch(), OTHER])?;
        // The files that guides name, beside the objects.
        for name in [
            "Containerfile.bytecode",
            "Containerfile.bytecode.multi.arch",
        ] {
            std::fs::copy(lanes::repository().join(name), project.path().join(name)).unwrap();
        }
        Some(Self {
            registry: Registry::start()?,
            project,
            scratch: TempDir::new().unwrap(),
        })
    }

    fn object(&self, architecture: &str) -> String {
        let file = self.project.file(architecture);
        file.file_name().unwrap().to_str().unwrap().to_owned()
    }

    /// A command of the maker's, in the project's folder: it must work.
    fn run(&self, program: &Path, words: &[&str], environment: &[(&str, &str)]) {
        let output = Command::new(program)
            .args(words)
            .current_dir(self.project.path())
            .env("HOME", self.scratch.path())
            .envs(environment.iter().copied())
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{} {words:?}: {}{}",
            program.display(),
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }

    /// What `generate-build-args` prints for these words, as options of a build.
    fn build_args(&self, input: &[&str]) -> Vec<String> {
        let words = [&["image", "generate-build-args"], input].concat();
        let mut command = Bpfman::new().command(&words);
        let output = command.current_dir(self.project.path()).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let lines = String::from_utf8(output.stdout).unwrap();
        lines
            .lines()
            .flat_map(|line| ["--build-arg".to_owned(), line.to_owned()])
            .collect()
    }

    /// Words of a build of one architecture.
    fn single(&self) -> Vec<String> {
        let file = ["-f", "Containerfile.bytecode"].map(str::to_owned);
        [&file[..], &self.build_args(&["-b", &self.object(goarch())])].concat()
    }

    /// Words of a build of both.
    fn both(&self) -> Vec<String> {
        let file = ["-f", "Containerfile.bytecode.multi.arch"].map(str::to_owned);
        [&file[..], &self.build_args(&["-c", "."])].concat()
    }

    /// Pulls, inspects and loads what a maker pushed.
    fn check(&self, name: &str, architectures: &[&str]) {
        let reference = self.registry.reference(name);
        let bpfman = Bpfman::new();
        for architecture in architectures {
            let platform = format!("linux/{architecture}");
            let pull = ["image", "pull", "--platform", &platform, "-o", "json", "-i"];
            let pulled = bpfman.run(&[&pull[..], &[&reference]].concat());
            let pulled: Value = serde_json::from_str(pulled.ok()).unwrap();
            assert_eq!(pulled["platform"], platform, "{name}");
            assert_eq!(
                pulled["programs"],
                json!({ "count_kills": "tracepoint" }),
                "{name}"
            );
            assert_eq!(pulled["maps"], json!({ "kills": "array" }), "{name}");
            let file = self.project.file(architecture);
            assert_eq!(pulled["object"], self.object(architecture), "{name}");
            assert_eq!(
                pulled["object_bytes"],
                file.metadata().unwrap().len(),
                "{name}"
            );
        }
        let inspected = bpfman.run(&["image", "inspect", &reference]);
        assert!(
            inspected.ok().contains("count_kills"),
            "{name}: {inspected:#?}"
        );
        assert!(inspected.ok().contains("kills"), "{name}: {inspected:#?}");
        // What else an index has (attestations) is no image.
        assert!(
            !inspected.ok().contains("unknown"),
            "{name}: {inspected:#?}"
        );

        let load = [
            "load",
            "image",
            "-i",
            &reference,
            "-p",
            "Never",
            "--programs",
        ];
        let loaded = bpfman.run(&[&load[..], &["tracepoint:count_kills"]].concat());
        let id = loaded.field("Program ID");
        assert_eq!(
            bpfman.run(&["get", "program", &id]).field("Image URL"),
            reference
        );
        let _ = bpfman.run(&["unload", &id]).ok();
    }
}

fn words<'a>(first: &[&'a str], then: &'a [String], last: &[&'a str]) -> Vec<&'a str> {
    let then: Vec<&str> = then.iter().map(String::as_str).collect();
    [first, &then, last].concat()
}

/// Docker's command line of the distribution, which has BuildKit in it.
fn docker() -> Option<PathBuf> {
    let packaged = PathBuf::from("/usr/bin/docker");
    if packaged.is_file() {
        Some(packaged)
    } else {
        lanes::tool("docker")
    }
}

#[test]
fn docker_by_its_classic_builder() {
    let (Some(shop), Some(engine), Some(docker)) = (Workshop::open(), Engine::docker(), docker())
    else {
        return;
    };
    // It knows of no platform but its own: two architectures take `bpfman image build` (engines_matrix.rs) or BuildKit.
    let name = "classic:single";
    let reference = shop.registry.reference(name);
    let environment = [("DOCKER_HOST", engine.socket()), ("DOCKER_BUILDKIT", "0")];
    let single = shop.single();
    shop.run(
        &docker,
        &words(&["build", "-t", &reference], &single, &["."]),
        &environment,
    );
    shop.run(&docker, &["push", &reference], &environment);
    shop.check(name, &[goarch()]);
}

#[test]
fn docker_by_buildkit() {
    let (Some(shop), Some(engine), Some(docker)) = (Workshop::open(), Engine::docker(), docker())
    else {
        return;
    };
    let environment = [
        ("DOCKER_HOST", engine.socket()),
        ("DOCKER_BUILDKIT", "1"),
        ("DOCKER_CLI_EXPERIMENTAL", "enabled"),
    ];
    let reference = shop.registry.reference("buildkit:single");
    let single = shop.single();
    shop.run(
        &docker,
        &words(&["build", "-t", &reference], &single, &["."]),
        &environment,
    );
    shop.run(&docker, &["push", &reference], &environment);
    shop.check("buildkit:single", &[goarch()]);

    let both = shop.both();
    let list = shop.registry.reference("buildkit:both");
    let parts =
        [goarch(), OTHER].map(|architecture| (architecture, format!("{list}-{architecture}")));
    for (architecture, part) in &parts {
        let platform = format!("linux/{architecture}");
        let first = ["build", "--platform", &platform, "-t", part];
        shop.run(&docker, &words(&first, &both, &["."]), &environment);
        shop.run(&docker, &["push", part], &environment);
    }
    let create = [
        "manifest",
        "create",
        "--insecure",
        &list,
        &parts[0].1,
        &parts[1].1,
    ];
    shop.run(&docker, &create, &environment);
    for (architecture, part) in &parts {
        let annotate = [
            "manifest",
            "annotate",
            "--os",
            "linux",
            "--arch",
            architecture,
            &list,
            part,
        ];
        shop.run(&docker, &annotate, &environment);
    }
    shop.run(
        &docker,
        &["manifest", "push", "--insecure", &list],
        &environment,
    );
    shop.check("buildkit:both", &[goarch(), OTHER]);
}

/// What `docker buildx build --push` and docker's action for pipelines push by default: beside each image an entry for
/// `unknown/unknown`, its provenance. One platform is an index then, too.
#[test]
fn docker_by_buildx_with_provenance() {
    let (Some(shop), Some(engine), Some(buildx)) = (
        Workshop::open(),
        Engine::docker26_containerd(),
        lanes::foreign_tool("buildx"),
    ) else {
        return;
    };
    let environment = [("DOCKER_HOST", engine.socket())];
    let metadata = shop.scratch.path().join("metadata.json");
    let metadata = metadata.to_str().unwrap();
    for (name, mode, architectures, build) in [
        (
            "provenance:single",
            "mode=min",
            &[goarch()][..],
            shop.single(),
        ),
        (
            "provenance:both",
            "mode=max",
            &[goarch(), OTHER],
            shop.both(),
        ),
    ] {
        let platforms: Vec<_> = architectures
            .iter()
            .map(|architecture| format!("linux/{architecture}"))
            .collect();
        let platforms = platforms.join(",");
        let (reference, provenance) = (
            shop.registry.reference(name),
            format!("--provenance={mode}"),
        );
        let first = [
            "build",
            "--push",
            "-t",
            &reference,
            "--platform",
            &platforms,
        ];
        let last = [&provenance, "--metadata-file", metadata, "."];
        shop.run(&buildx, &words(&first, &build, &last), &environment);

        let said: Value = serde_json::from_slice(&std::fs::read(metadata).unwrap()).unwrap();
        let index = said["containerimage.digest"].as_str().unwrap();
        let index = std::fs::read(shop.registry.blob_file(index)).unwrap();
        let index: Value = serde_json::from_slice(&index).unwrap();
        let entries = index["manifests"].as_array().unwrap();
        let (attestations, images): (Vec<_>, Vec<_>) = entries.iter().partition(|entry| {
            entry["annotations"]["vnd.docker.reference.type"] == "attestation-manifest"
        });
        assert_eq!(images.len(), architectures.len(), "{index:#}");
        for (attestation, image) in attestations.iter().zip(&images) {
            let about = &attestation["annotations"]["vnd.docker.reference.digest"];
            assert_eq!(about, &image["digest"], "{index:#}");
            let unknown = json!({ "architecture": "unknown", "os": "unknown" });
            assert_eq!(attestation["platform"], unknown, "{index:#}");
        }
        assert_eq!(attestations.len(), images.len(), "{index:#}");
        shop.check(name, architectures);
        let log = shop.registry.log();
        for attestation in attestations {
            let digest = attestation["digest"].as_str().unwrap();
            let fetched = format!("GET /v2/provenance/manifests/{digest}");
            assert!(!log.contains(&fetched), "{fetched}");
        }
    }
}

/// podman and buildah have the same options. `--layers` is podman's default; without it a build of several stages gives an
/// empty layer too, and a bytecode image has one.
fn without_a_daemon(tool: &str) {
    let (Some(shop), Some(program)) = (Workshop::open(), lanes::tool(tool)) else {
        return;
    };
    let folder = |name: &str| shop.scratch.path().join(name).display().to_string();
    let (root, run) = (folder("root"), folder("run"));
    let storage = [
        "--root",
        &root,
        "--runroot",
        &run,
        "--storage-driver",
        "vfs",
    ];
    let reference = shop.registry.reference(&format!("{tool}:single"));
    let first = [
        &storage[..],
        &["build", "--layers", "--no-cache", "-t", &reference],
    ]
    .concat();
    let single = shop.single();
    shop.run(&program, &words(&first, &single, &["."]), &[]);
    let push = ["push", "--tls-verify=false", &reference];
    shop.run(&program, &[&storage[..], &push].concat(), &[]);
    shop.check(&format!("{tool}:single"), &[goarch()]);

    let list = shop.registry.reference(&format!("{tool}:both"));
    let platforms = format!("linux/{},linux/{OTHER}", goarch());
    let first = [
        "build",
        "--layers",
        "--no-cache",
        "--platform",
        &platforms,
        "--manifest",
        &list,
    ];
    let first = [&storage[..], &first].concat();
    let both = shop.both();
    shop.run(&program, &words(&first, &both, &["."]), &[]);
    let target = format!("docker://{list}");
    let push = [
        "manifest",
        "push",
        "--all",
        "--tls-verify=false",
        &list,
        &target,
    ];
    shop.run(&program, &[&storage[..], &push].concat(), &[]);
    shop.check(&format!("{tool}:both"), &[goarch(), OTHER]);
}

#[test]
fn podman() {
    without_a_daemon("podman");
}

#[test]
fn buildah() {
    without_a_daemon("buildah");
}

#[test]
fn builtin() {
    let Some(shop) = Workshop::open() else { return };
    let binary = bpfman_tests::cli::binary();
    let object = shop.object(goarch());
    for (name, input, architectures) in [
        ("builtin:single", ["-b", &object], &[goarch()][..]),
        ("builtin:both", ["-c", "."], &[goarch(), OTHER]),
    ] {
        let reference = shop.registry.reference(name);
        let build = ["image", "build", "--runtime", "builtin", "-t", &reference];
        shop.run(&binary, &[&build[..], &input].concat(), &[]);
        shop.check(name, architectures);
    }
}

/// A tar by hand, a configuration by hand, and `oras push`: the way of those who have no builder.
#[test]
fn oras() {
    let (Some(shop), Some(oras)) = (Workshop::open(), lanes::foreign_tool("oras")) else {
        return;
    };
    let tar = Path::new("tar");
    let mut parts = Vec::new();
    for architecture in [goarch(), OTHER] {
        let layer = format!("{architecture}.tar.gz");
        shop.run(tar, &["-czf", &layer, &shop.object(architecture)], &[]);
        let unpacked = Command::new("gzip")
            .args(["-dc", &layer])
            .current_dir(shop.project.path())
            .output();
        let labels = json!({
            "io.ebpf.programs": r#"{"count_kills":"tracepoint"}"#,
            "io.ebpf.maps": r#"{"kills":"array"}"#,
        });
        let config = json!({
            "architecture": architecture,
            "os": "linux",
            "config": { "Labels": labels },
            "rootfs": { "type": "layers", "diff_ids": [digest(&unpacked.unwrap().stdout)] },
        });
        let file = format!("{architecture}.json");
        std::fs::write(shop.project.path().join(&file), config.to_string()).unwrap();
        let name = format!("oras:{architecture}");
        let reference = shop.registry.reference(&name);
        let config = format!("{file}:application/vnd.oci.image.config.v1+json");
        let layer = format!("{layer}:application/vnd.oci.image.layer.v1.tar+gzip");
        let push = [
            "push",
            "--plain-http",
            "--config",
            &config,
            &reference,
            &layer,
        ];
        shop.run(&oras, &push, &[]);
        let bytes = Command::new(&oras)
            .args(["manifest", "fetch", "--plain-http", &reference])
            .output()
            .unwrap()
            .stdout;
        parts.push(json!({
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "digest": digest(&bytes),
            "size": bytes.len(),
            "platform": { "os": "linux", "architecture": architecture },
        }));
    }
    shop.check(&format!("oras:{}", goarch()), &[goarch()]);

    let kind = "application/vnd.oci.image.index.v1+json";
    let index = json!({ "schemaVersion": 2, "mediaType": kind, "manifests": parts });
    std::fs::write(shop.project.path().join("index.json"), index.to_string()).unwrap();
    let both = shop.registry.reference("oras:both");
    let push = [
        "manifest",
        "push",
        "--plain-http",
        "--media-type",
        kind,
        &both,
        "index.json",
    ];
    shop.run(&oras, &push, &[]);
    shop.check("oras:both", &[goarch(), OTHER]);
}
