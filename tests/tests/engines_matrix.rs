//! Every engine, for one, four and thirteen architectures: pushed to the real registry, looked at by skopeo, crane and
//! oras, pulled by our own command for each platform.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use std::path::Path;
use std::process::Command;

use bpfman_tests::cli::Bpfman;
use bpfman_tests::engines::Engine;
use bpfman_tests::lanes;
use bpfman_tests::project::{ALL, MAPS, PROGRAMS, Project};
use bpfman_tests::registry::Registry;
use serde_json::{Value, json};

const FOUR: [&str; 4] = ["amd64", "arm64", "ppc64le", "s390x"];

/// What independent tools say of a registry's images.
struct Witnesses<'a> {
    registry: &'a Registry,
    skopeo: std::path::PathBuf,
    crane: std::path::PathBuf,
    oras: std::path::PathBuf,
}

impl<'a> Witnesses<'a> {
    fn of(registry: &'a Registry) -> Option<Self> {
        Some(Self {
            registry,
            skopeo: lanes::tool("skopeo")?,
            crane: lanes::foreign_tool("crane")?,
            oras: lanes::foreign_tool("oras")?,
        })
    }

    fn say(&self, tool: &Path, arguments: &[&str]) -> Vec<u8> {
        let output = Command::new(tool).args(arguments).output().unwrap();
        assert!(
            output.status.success(),
            "{} {arguments:?}: {}",
            tool.display(),
            String::from_utf8_lossy(&output.stderr)
        );
        output.stdout
    }

    /// The document that a reference names.
    fn raw(&self, reference: &str) -> Value {
        let reference = format!("docker://{reference}");
        let arguments = ["inspect", "--raw", "--tls-verify=false", &reference];
        serde_json::from_slice(&self.say(&self.skopeo, &arguments)).unwrap()
    }

    fn validate(&self, reference: &str) {
        self.say(
            &self.crane,
            &["validate", "--insecure", "--remote", reference],
        );
    }

    /// The manifest of a platform.
    fn manifest(&self, reference: &str, architecture: &str) -> Value {
        let platform = format!("linux/{architecture}");
        let arguments = [
            "manifest",
            "fetch",
            "--plain-http",
            "--platform",
            &platform,
            reference,
        ];
        serde_json::from_slice(&self.say(&self.oras, &arguments)).unwrap()
    }

    fn blob(&self, descriptor: &Value) -> Vec<u8> {
        std::fs::read(
            self.registry
                .blob_file(descriptor["digest"].as_str().unwrap()),
        )
        .unwrap()
    }

    /// Names and bytes of the files in a layer.
    fn files(&self, layer: &Value) -> Vec<(String, Vec<u8>)> {
        unpacked(&self.blob(layer))
    }
}

fn unpacked(layer: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(layer));
    let files = archive.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut entry, &mut bytes).unwrap();
        let path = entry.path().unwrap().display().to_string();
        (path.trim_start_matches("./").to_owned(), bytes)
    });
    files.collect()
}

/// Builds a project and checks everything that was pushed.
fn checked(witnesses: &Witnesses<'_>, bpfman: &Bpfman, runtime: &str, project: &Project) {
    let architectures = project.architectures();
    let reference = witnesses
        .registry
        .reference(&format!("{runtime}/counter:{}", architectures.len()));
    let container_file = lanes::repository().join("Containerfile.bytecode.multi.arch");
    let container_file = container_file.to_str().unwrap();
    let build = [
        "image",
        "build",
        "-r",
        runtime,
        "-f",
        container_file,
        "-t",
        &reference,
    ];
    let outcome = bpfman.run(&[build.as_slice(), &["-c", project.arg()]].concat());
    let pushed = outcome.ok().lines().last().unwrap();
    let (name, _) = reference.rsplit_once(':').unwrap();
    assert!(pushed.starts_with(&format!("{name}@sha256:")), "{pushed}");

    let top = witnesses.raw(&reference);
    assert_eq!(top, witnesses.raw(pushed), "the tag names what was printed");
    witnesses.validate(&reference);
    if architectures.len() > 1 {
        let platforms: Vec<Value> = top["manifests"]
            .as_array()
            .unwrap()
            .iter()
            .map(|manifest| manifest["platform"].clone())
            .collect();
        let expected = architectures
            .iter()
            .map(|architecture| json!({ "os": "linux", "architecture": architecture }));
        assert_eq!(platforms, expected.collect::<Vec<Value>>());
    }
    for architecture in architectures {
        let manifest = if architectures.len() > 1 {
            witnesses.manifest(&reference, architecture)
        } else {
            top.clone()
        };
        let config: Value = serde_json::from_slice(&witnesses.blob(&manifest["config"])).unwrap();
        assert_eq!(config["architecture"], *architecture);
        assert_eq!(config["os"], "linux");
        let labels = json!({ "io.ebpf.programs": PROGRAMS, "io.ebpf.maps": MAPS });
        assert_eq!(config["config"]["Labels"], labels, "{architecture}");
        let [layer] = manifest["layers"].as_array().unwrap().as_slice() else {
            panic!("not one layer: {manifest}");
        };
        let file = project.file(architecture);
        let name = file.file_name().unwrap().to_str().unwrap().to_owned();
        let object = std::fs::read(&file).unwrap();
        assert!(
            witnesses.files(layer) == [(name.clone(), object.clone())],
            "{architecture}"
        );

        let platform = format!("linux/{architecture}");
        let pull = [
            "image",
            "pull",
            "-i",
            &reference,
            "--platform",
            &platform,
            "-o",
            "json",
        ];
        let pulled: Value = serde_json::from_str(bpfman.run(&pull).ok()).unwrap();
        assert_eq!(pulled["platform"], platform);
        assert_eq!(pulled["programs"], json!({ "count": "xdp" }));
        assert_eq!(pulled["maps"], json!({ "counts": "per_cpu_array" }));
        assert_eq!(pulled["object"], name);
        assert_eq!(pulled["object_bytes"], object.len());
        assert!(pushed.ends_with(pulled["digest"].as_str().unwrap()));
        // And what was pulled, byte for byte.
        let hex = layer["digest"].as_str().unwrap().split_once(':').unwrap().1;
        let kept = std::fs::read(bpfman.images().join("blobs/sha256").join(hex)).unwrap();
        assert!(
            unpacked(&kept) == [(name, object)],
            "{architecture}: the store's object"
        );
    }
}

fn matrix(engine: Option<&Engine>, runtime: &str) {
    let all = ALL.map(|(goarch, ..)| goarch);
    matrix_of(engine, runtime, "1", &[&["s390x"], &FOUR, &all]);
}

fn matrix_of(engine: Option<&Engine>, runtime: &str, buildkit: &str, projects: &[&[&'static str]]) {
    let Some(registry) = Registry::start() else {
        return;
    };
    let Some(witnesses) = Witnesses::of(&registry) else {
        return;
    };
    let mut bpfman = Bpfman::new().env("DOCKER_BUILDKIT", buildkit);
    if let Some(engine) = engine {
        let variable = if runtime == "podman" {
            "CONTAINER_HOST"
        } else {
            "DOCKER_HOST"
        };
        bpfman = bpfman.env(variable, engine.socket());
    }
    for architectures in projects {
        let Some(project) = Project::compile(architectures) else {
            return;
        };
        checked(&witnesses, &bpfman, runtime, &project);
    }
}

#[test]
fn builtin() {
    matrix(None, "builtin");
}

#[test]
fn docker() {
    let Some(engine) = Engine::docker() else {
        return;
    };
    matrix(Some(&engine), "docker");
}

/// By the classic builder. Two, not thirteen: it runs all stages of the Containerfile for each.
fn classic(engine: &Engine) {
    matrix_of(
        Some(engine),
        "docker",
        "0",
        &[&["s390x"], &["arm64", "s390x"]],
    );
}

#[test]
fn docker_with_the_classic_builder() {
    let Some(engine) = Engine::docker() else {
        return;
    };
    classic(&engine);
}

#[test]
fn docker_of_trixie() {
    let Some(engine) = Engine::docker26() else {
        return;
    };
    matrix(Some(&engine), "docker");
}

/// The classic builder: BuildKit loses the files of a build there (engines_failures.rs).
#[test]
fn docker_with_its_images_in_containerd() {
    let Some(engine) = Engine::docker26_containerd() else {
        return;
    };
    classic(&engine);
}

#[test]
fn podman() {
    let Some(engine) = Engine::podman() else {
        return;
    };
    matrix(Some(&engine), "podman");
}
