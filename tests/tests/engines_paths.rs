//! Objects whose paths hold what a shell, a Containerfile or a pattern would take for something else.
#![allow(clippy::unwrap_used)]

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use bpfman_tests::cli::Bpfman;
use bpfman_tests::engines::Engine;
use bpfman_tests::lanes;
use bpfman_tests::project::Project;

/// `image build` looks into every image: the object must be the one that was named.
fn built(bpfman: &Bpfman, runtime: &str) {
    let Some(project) = Project::compile(&["amd64", "s390x"]) else {
        return;
    };
    let folder = project.path().join("a b,c=d $HOME 'x'");
    std::fs::create_dir(&folder).unwrap();
    let names: [&[u8]; 3] = [b"plain.o", b"[x]*?\\.o", b"\xff\n\".o"];
    let file = lanes::repository().join("Containerfile.bytecode.multi.arch");
    for name in names {
        let odd = folder.join(OsStr::from_bytes(name));
        std::fs::copy(project.file("s390x"), &odd).unwrap();
        let mut command = bpfman.command(&["image", "build", "-r", runtime, "--no-push"]);
        command
            .args(["-t", "registry.example/odd:1", "-f"])
            .arg(&file);
        command.arg("--bc-s390x-eb").arg(&odd);
        // Another object with the name that the odd one may be given.
        command.arg("--bc-amd64-el").arg(project.file("amd64"));
        let output = command.output().unwrap();
        assert!(output.status.success(), "{runtime} {odd:?}: {output:?}");
    }
}

#[test]
fn builtin() {
    built(&Bpfman::new(), "builtin");
}

#[test]
fn docker() {
    let Some(engine) = Engine::docker() else {
        return;
    };
    built(&Bpfman::new().env("DOCKER_HOST", engine.socket()), "docker");
}

#[test]
fn docker_of_trixie() {
    let Some(engine) = Engine::docker26() else {
        return;
    };
    built(&Bpfman::new().env("DOCKER_HOST", engine.socket()), "docker");
}

/// Either Containerfile takes one object and several.
#[test]
fn each_containerfile_with_the_other_ones_options() {
    let (Some(engine), Some(project)) = (Engine::docker(), Project::compile(&["amd64", "s390x"]))
    else {
        return;
    };
    let bpfman = Bpfman::new().env("DOCKER_HOST", engine.socket());
    let amd64 = project.file("amd64").to_str().unwrap().to_owned();
    for (file, objects) in [
        ("Containerfile.bytecode.multi.arch", ["-b", &amd64]),
        ("Containerfile.bytecode", ["--bc-amd64-el", &amd64]),
        ("Containerfile.bytecode", ["-c", project.arg()]),
    ] {
        let file = lanes::repository().join(file);
        let build = ["image", "build", "-r", "docker", "--no-push", "-t"];
        let tag = ["registry.example/either:1", "-f", file.to_str().unwrap()];
        let _ = bpfman.run(&[&build[..], &tag, &objects].concat()).ok();
    }
}

#[test]
fn podman() {
    let Some(engine) = Engine::podman() else {
        return;
    };
    built(
        &Bpfman::new().env("CONTAINER_HOST", engine.socket()),
        "podman",
    );
}
