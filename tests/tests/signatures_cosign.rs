//! What the real cosign 2 and 3 sign: images by each engine and by docker alone, with keys of each kind.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::path::{Path, PathBuf};
use std::process::Command;

use bpfman_tests::cli::Bpfman;
use bpfman_tests::engines::Engine;
use bpfman_tests::lanes;
use bpfman_tests::objects::Object;
use bpfman_tests::registry::Registry;
use serde_json::Value;
use tempfile::TempDir;

/// A key pair of cosign's, and how it signs an image without any service.
struct Cosign {
    program: PathBuf,
    folder: TempDir,
    three: bool,
}

impl Cosign {
    fn new(name: &str) -> Option<Self> {
        let cosign = Self {
            program: lanes::foreign_tool(name)?,
            folder: TempDir::new().unwrap(),
            three: name == "cosign3",
        };
        for key in ["good", "other"] {
            cosign.run(&["generate-key-pair", "--output-key-prefix", key]);
        }
        if cosign.three {
            cosign.run(&["signing-config", "create", "--out", "none.json"]);
        }
        Some(cosign)
    }

    /// A key that openssl makes, under this name. Debian's cosign 2 imports none but Ed25519 keys, and uses those that
    /// cosign 3 imported.
    fn key(&self, openssl: &Path, importer: &Path, name: &str, kind: &[&str]) {
        let pem = format!("{name}.pem");
        ok(Command::new(openssl)
            .args(["genpkey", "-out", &pem])
            .args(kind)
            .current_dir(self.folder.path()));
        ok(self.command(importer).args([
            "import-key-pair",
            "--key",
            &pem,
            "--output-key-prefix",
            name,
        ]));
    }

    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command
            .current_dir(self.folder.path())
            .env("HOME", self.folder.path())
            .env("COSIGN_PASSWORD", "");
        command
    }

    fn run(&self, arguments: &[&str]) {
        ok(self.command(&self.program).args(arguments));
    }

    fn sign(&self, image: &str, key: &str) {
        let key = format!("{key}.key");
        let services: &[&str] = if self.three {
            &["--signing-config", "none.json"]
        } else {
            &["--tlog-upload=false"]
        };
        let mut arguments = vec!["sign", "--yes", "--allow-insecure-registry", "--key", &key];
        arguments.extend(services);
        arguments.push(image);
        self.run(&arguments);
    }

    fn public(&self, key: &str) -> String {
        let path = self.folder.path().join(format!("{key}.pub"));
        path.to_string_lossy().into_owned()
    }
}

/// Runs a command that must succeed, and gives what it prints.
fn ok(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}");
    String::from_utf8(output.stdout).unwrap()
}

/// Builds the example with the built-in engine, for one architecture or for two, and gives `<repository>@sha256:…`.
fn build(bpfman: &Bpfman, object: &Object, reference: &str, two: bool) -> String {
    let mut arguments = vec!["image", "build", "--runtime", "builtin", "-t", reference];
    if two {
        arguments.extend(["--bc-amd64-el", object.arg(), "--bc-arm64-el", object.arg()]);
    } else {
        arguments.extend(["-b", object.arg()]);
    }
    let built = bpfman.run(&arguments);
    built.ok().lines().last().unwrap().to_owned()
}

fn signed_by_the_real(name: &str) {
    let (Some(registry), Some(object)) = (Registry::start(), Object::example("xdp-counter")) else {
        return;
    };
    let Some(cosign) = Cosign::new(name) else {
        return;
    };
    let bpfman = Bpfman::new();
    let verify = |image: &str, key: &str| {
        let key = cosign.public(key);
        // A place of its own, so that nothing that was kept decides.
        Bpfman::new().run(&["image", "verify", "-i", image, "--key", &key, "-o", "json"])
    };
    let single = build(&bpfman, &object, &registry.reference("single:1"), false);
    let several = build(&bpfman, &object, &registry.reference("several:1"), true);
    let form = if cosign.three { "bundle" } else { "cosign2" };
    for (pushed, tag, kind) in [
        (&single, "single:1", "manifest"),
        (&several, "several:1", "index"),
    ] {
        let image = registry.reference(tag);
        assert!(
            verify(&image, "good")
                .failure()
                .contains("has no signature")
        );
        cosign.sign(pushed, "other");
        let refused = verify(&image, "good");
        assert!(
            refused
                .failure()
                .contains("it is by none of the policy's 1 keys"),
            "{refused:#?}"
        );
        cosign.sign(pushed, "good");
        for image in [&image, pushed] {
            let proof: Value = serde_json::from_str(verify(image, "good").ok()).unwrap();
            assert_eq!(proof["signature"]["format"], form, "{proof:#}");
            assert_eq!(proof["signed"]["type"], kind, "{proof:#}");
            assert!(
                pushed.ends_with(proof["signed"]["digest"].as_str().unwrap()),
                "{proof:#}"
            );
        }
    }

    // The signatures of one image beside another: those of `single` under the names of `copy`.
    let other = Object::example("tracepoint-counter").unwrap();
    let copy = build(&bpfman, &other, &registry.reference("single:copy"), false);
    let hex = |pushed: &str| pushed.rsplit_once(':').unwrap().1.to_owned();
    let end = if cosign.three { "" } else { ".sig" };
    let from = registry.reference(&format!("single:sha256-{}{end}", hex(&single)));
    let to = registry.reference(&format!("single:sha256-{}{end}", hex(&copy)));
    let Some(crane) = lanes::foreign_tool("crane") else {
        return;
    };
    ok(Command::new(crane).args(["copy", "--insecure", &from, &to]));
    let refused = verify(&copy, "good");
    assert!(
        refused.failure().contains("it is a signature of sha256:"),
        "{refused:#?}"
    );
}

#[test]
fn what_the_real_cosign_2_signs() {
    signed_by_the_real("cosign2");
}

#[test]
fn what_the_real_cosign_3_signs() {
    signed_by_the_real("cosign3");
}

/// Builds and pushes with docker alone, as one without our command would, but for the arguments; gives `NAME@sha256:…`.
fn build_with_docker_alone(engine: &Engine, object: &Object, reference: &str) -> Option<String> {
    let docker = lanes::tool("docker")?;
    let folder = TempDir::new().unwrap();
    let file = Path::new(object.arg());
    let copy = folder.path().join(file.file_name().unwrap());
    std::fs::copy(file, copy).unwrap();
    let arguments = Bpfman::new().run(&[
        "image",
        "generate-build-args",
        "-b",
        object.arg(),
        "--format",
        "json",
    ]);
    let arguments: Value = serde_json::from_str(arguments.ok()).unwrap();
    let run = |arguments: &[&str]| {
        ok(Command::new(&docker)
            .args(["-H", engine.socket()])
            .args(arguments)
            .current_dir(folder.path())
            .env("HOME", folder.path())
            .env("DOCKER_BUILDKIT", "0"))
    };
    let file = format!(
        "FROM scratch\nCOPY {} /\nLABEL io.ebpf.programs='{}' io.ebpf.maps='{}'\n",
        file.file_name().unwrap().to_str().unwrap(),
        arguments["PROGRAMS"].as_str().unwrap(),
        arguments["MAPS"].as_str().unwrap(),
    );
    std::fs::write(folder.path().join("Dockerfile"), file).unwrap();
    run(&["build", "-t", reference, "."]);
    run(&["push", reference]);
    // One image may have been pushed to several repositories.
    let pushed = run(&["inspect", "--format", "{{json .RepoDigests}}", reference]);
    let pushed: Vec<String> = serde_json::from_str(&pushed).unwrap();
    let (repository, _) = reference.rsplit_once(':').unwrap();
    pushed
        .into_iter()
        .find(|name| name.starts_with(&format!("{repository}@")))
}

/// Signs an image with each cosign, in a repository of its own each time, and proves it.
fn signed_by_both(registry: &Registry, maker: &str, make: &dyn Fn(&str) -> Option<String>) {
    for name in ["cosign2", "cosign3"] {
        let Some(cosign) = Cosign::new(name) else {
            return;
        };
        let reference = registry.reference(&format!("{maker}-{name}:v1"));
        let Some(pushed) = make(&reference) else {
            return;
        };
        let policy = cosign.folder.path().join("bpfman.toml");
        let text = format!(
            "[signing]\n[[signing.policy]]\nscope = {:?}\nkeys = [{:?}]\n",
            registry.address(),
            cosign.public("good")
        );
        std::fs::write(&policy, text).unwrap();
        let bpfman = Bpfman::new().env("BPFMAN_CONFIG", policy.to_str().unwrap());
        let pull = |policy| bpfman.run(&["image", "pull", "-i", &reference, "-p", policy]);
        cosign.sign(&pushed, "other");
        let refused = pull("Always");
        assert!(
            refused
                .failure()
                .contains("it is by none of the policy's 1 keys"),
            "{maker} {name}: {refused:#?}"
        );
        cosign.sign(&pushed, "good");
        for policy in ["Always", "Never"] {
            let pulled = pull(policy);
            pulled.pulled();
            assert_eq!(pulled.stderr, "", "{maker} {name}");
        }
        let key = cosign.public("good");
        let proof = bpfman.run(&[
            "image", "verify", "-i", &reference, "--key", &key, "-o", "json",
        ]);
        let proof: Value = serde_json::from_str(proof.ok()).unwrap();
        assert!(
            pushed.ends_with(proof["signed"]["digest"].as_str().unwrap()),
            "{maker} {name}: {proof:#}"
        );
    }
}

/// With our command and this engine.
fn built_by(engine: &Engine, variable: &str, runtime: &str) {
    let (Some(registry), Some(object)) = (Registry::start(), Object::example("xdp-counter")) else {
        return;
    };
    let bpfman = Bpfman::new().env(variable, engine.socket());
    let container_file = lanes::repository().join("Containerfile.bytecode");
    let container_file = container_file.to_str().unwrap();
    signed_by_both(&registry, runtime, &|reference| {
        let built = bpfman.run(&[
            "image",
            "build",
            "--runtime",
            runtime,
            "-f",
            container_file,
            "-t",
            reference,
            "-b",
            object.arg(),
        ]);
        Some(built.ok().lines().last().unwrap().to_owned())
    });
}

#[test]
fn images_that_docker_built_for_us_and_alone() {
    let Some(engine) = Engine::docker() else {
        return;
    };
    built_by(&engine, "DOCKER_HOST", "docker");
    let (Some(registry), Some(object)) = (Registry::start(), Object::example("xdp-counter")) else {
        return;
    };
    signed_by_both(&registry, "alone", &|reference| {
        build_with_docker_alone(&engine, &object, reference)
    });
}

#[test]
fn images_that_podman_built_for_us() {
    if let Some(engine) = Engine::podman() {
        built_by(&engine, "CONTAINER_HOST", "podman");
    }
}

#[test]
fn keys_of_every_kind_as_the_real_cosign_uses_them() {
    let (Some(registry), Some(object), Some(openssl), Some(importer)) = (
        Registry::start(),
        Object::example("xdp-counter"),
        lanes::tool("openssl"),
        lanes::foreign_tool("cosign3"),
    ) else {
        return;
    };
    let kinds: [(&str, &str, &[&str]); 5] = [
        (
            "p384",
            "ECDSA P-384",
            &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"],
        ),
        (
            "rsa2048",
            "RSA",
            &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"],
        ),
        (
            "rsa4096",
            "RSA",
            &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:4096"],
        ),
        (
            "p256",
            "ECDSA P-256",
            &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"],
        ),
        ("ed25519", "Ed25519", &["-algorithm", "ED25519"]),
    ];
    for name in ["cosign2", "cosign3"] {
        let Some(cosign) = Cosign::new(name) else {
            return;
        };
        for (key, algorithm, kind) in kinds {
            cosign.key(&openssl, &importer, key, kind);
            let reference = registry.reference(&format!("{key}-{name}:v1"));
            let pushed = build(&Bpfman::new(), &object, &reference, false);
            cosign.sign(&pushed, key);
            let verify = |key: &str| {
                let key = cosign.public(key);
                let arguments = [
                    "image", "verify", "-i", &reference, "--key", &key, "-o", "json",
                ];
                Bpfman::new().run(&arguments)
            };
            let found = verify(key);
            if (key, name) == ("ed25519", "cosign3") {
                // Prehashed, which cosign 3 itself refuses.
                assert!(found.failure().contains("Ed25519ph"), "{found:#?}");
                continue;
            }
            let proof: Value = serde_json::from_str(found.ok()).unwrap();
            assert_eq!(proof["signer"]["algorithm"], algorithm, "{name}: {proof:#}");
            let refused = verify("good");
            assert!(
                refused
                    .failure()
                    .contains("it is by none of the policy's 1 keys"),
                "{key} {name}: {refused:#?}"
            );
        }
    }
}

/// `COSIGN_REPOSITORY` and `signatures = …` of a policy: in another repository, then in one of another registry.
fn signed_into_another_repository(name: &str) {
    let (Some(registry), Some(other), Some(object)) = (
        Registry::start(),
        Registry::start(),
        Object::example("xdp-counter"),
    ) else {
        return;
    };
    let Some(cosign) = Cosign::new(name) else {
        return;
    };
    let bpfman = Bpfman::new();
    for (number, place) in [
        registry.reference("all/signatures"),
        other.reference("signatures"),
    ]
    .iter()
    .enumerate()
    {
        let image = registry.reference(&format!("elsewhere{number}:1"));
        let pushed = build(&bpfman, &object, &image, number == 1);
        let mut sign = cosign.command(&cosign.program);
        let services: &[&str] = if cosign.three {
            &["--signing-config", "none.json"]
        } else {
            &["--tlog-upload=false"]
        };
        ok(sign
            .env("COSIGN_REPOSITORY", place)
            .args([
                "sign",
                "--yes",
                "--allow-insecure-registry",
                "--key",
                "good.key",
            ])
            .args(services)
            .arg(&pushed));
        // A place of its own each time, so that nothing that was kept decides.
        let host = |signatures: Option<&str>| {
            let host = Bpfman::new();
            let line = signatures.map(|place| format!("signatures = \"{place}\"\n"));
            let policy = format!(
                "[signing]\nallow_unsigned = false\n[[signing.policy]]\nscope = \"{}\"\nkeys = [\"{}\"]\n{}",
                registry.address(),
                cosign.public("good"),
                line.unwrap_or_default()
            );
            std::fs::write(host.home().join("bpfman.toml"), policy).unwrap();
            host
        };
        let beside = host(None).run(&["image", "pull", "-i", &image]);
        assert!(beside.failure().contains("has no signature"), "{beside:#?}");
        let wrong = host(Some(&registry.reference("none"))).run(&["image", "pull", "-i", &image]);
        assert!(wrong.failure().contains("has no signature"), "{wrong:#?}");

        let host = host(Some(place));
        let _ = host.run(&["image", "pull", "-i", &image]).ok();
        let key = cosign.public("good");
        for words in [
            &["image", "verify", "-i", &image][..],
            &["image", "verify", "-i", &image, "--key", &key],
            // From the store alone.
            &["image", "verify", "-i", &image, "-p", "Never"],
        ] {
            let _ = host.run(words).ok();
        }
    }
}

#[test]
fn cosign_2_signs_into_another_repository() {
    signed_into_another_repository("cosign2");
}

#[test]
fn cosign_3_signs_into_another_repository() {
    signed_into_another_repository("cosign3");
}

/// The way of hosts whose key lies elsewhere: `openssl dgst -sign`, `openssl base64`, `cosign attach signature`.
#[test]
fn signatures_of_openssl_that_cosign_2_attached() {
    let (Some(registry), Some(object), Some(openssl)) = (
        Registry::start(),
        Object::example("xdp-counter"),
        lanes::tool("openssl"),
    ) else {
        return;
    };
    let Some(cosign) = Cosign::new("cosign2") else {
        return;
    };
    let run = |program: &Path, words: &[&str]| ok(cosign.command(program).args(words));
    let ec = ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"];
    let rsa = ["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"];
    for (number, kind) in [ec, rsa].iter().enumerate() {
        let image = registry.reference(&format!("attached{number}:1"));
        let pushed = build(&Bpfman::new(), &object, &image, false);
        run(
            &openssl,
            &[&["genpkey", "-out", "k.pem"], &kind[..]].concat(),
        );
        run(
            &openssl,
            &["pkey", "-in", "k.pem", "-pubout", "-out", "k.pub"],
        );
        let payload = run(
            &cosign.program,
            &["generate", "--allow-insecure-registry", &pushed],
        );
        std::fs::write(cosign.folder.path().join("payload"), payload).unwrap();
        run(
            &openssl,
            &[
                "dgst", "-sha256", "-sign", "k.pem", "-out", "raw", "payload",
            ],
        );
        run(&openssl, &["base64", "-in", "raw", "-out", "signature"]);
        run(
            &cosign.program,
            &[
                "attach",
                "signature",
                "--allow-insecure-registry",
                "--payload",
                "payload",
                "--signature",
                "signature",
                &pushed,
            ],
        );
        let mut forms = vec!["k.pub"];
        if number == 1 {
            run(
                &openssl,
                &[
                    "rsa",
                    "-in",
                    "k.pem",
                    "-RSAPublicKey_out",
                    "-out",
                    "k.pkcs1",
                ],
            );
            forms.push("k.pkcs1");
        }
        for form in forms {
            let _ = Bpfman::new()
                .run(&[
                    "image",
                    "verify",
                    "-i",
                    &image,
                    "--key",
                    &cosign.folder.path().join(form).to_string_lossy(),
                ])
                .ok();
        }
    }
}
