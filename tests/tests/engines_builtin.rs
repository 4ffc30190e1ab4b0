//! The built-in engine's digest depends on the objects and on nothing else, and other engines take its images.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::os::unix::process::CommandExt;
use std::process::Command;

use bpfman_tests::cli::Bpfman;
use bpfman_tests::engines::Engine;
use bpfman_tests::lanes;
use bpfman_tests::project::Project;
use bpfman_tests::registry::Registry;

const TWO: [&str; 2] = ["amd64", "s390x"];

/// `image build` of a folder's project that pushes nothing; what comes before and after it is the caller's.
fn build(bpfman: &Bpfman, project: &str) -> Command {
    let mut command = bpfman.command(&["image", "build", "-r", "builtin", "--no-push"]);
    command.args(["-t", "registry.example/counter:1", "-c", project]);
    command
}

fn digest(mut command: Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_digest_that_anybody_can_reproduce() {
    let (Some(here), Some(there)) = (Project::compile(&TWO), Project::compile(&TWO)) else {
        return;
    };
    // Compiled elsewhere, so with other paths in their debug information.
    for architecture in TWO {
        std::fs::copy(here.file(architecture), there.file(architecture)).unwrap();
    }
    let bpfman = Bpfman::new();
    let expected = digest(build(&bpfman, here.arg()));

    // Another folder, and the folder that one stands in.
    assert_eq!(digest(build(&bpfman, there.arg())), expected);
    let mut inside = build(&bpfman, ".");
    inside.current_dir(there.path());
    assert_eq!(digest(inside), expected);

    // Another time of the files, another mode, another locale, time zone and umask.
    for entry in std::fs::read_dir(there.path()).unwrap() {
        let path = entry.unwrap().path();
        let file = std::fs::File::options().write(true).open(&path).unwrap();
        let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000);
        file.set_modified(time).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o604);
        std::fs::set_permissions(&path, mode).unwrap();
    }
    let mut elsewhere = build(&bpfman, there.arg());
    elsewhere
        .env("LC_ALL", "tr_TR.UTF-8")
        .env("TZ", "Pacific/Kiritimati");
    assert_eq!(digest(elsewhere), expected);

    // Another user, where there may be one.
    if lanes::root() {
        // Its folders and the binary have to be within reach.
        let reachable = tempfile::tempdir_in("/tmp").unwrap();
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(reachable.path(), open).unwrap();
        let binary = reachable.path().join("bpfman");
        std::fs::copy(bpfman_tests::cli::binary(), &binary).unwrap();
        let project = reachable.path().join("project");
        std::fs::create_dir(&project).unwrap();
        for entry in std::fs::read_dir(here.path()).unwrap() {
            let entry = entry.unwrap();
            std::fs::copy(entry.path(), project.join(entry.file_name())).unwrap();
        }
        let mut nobody = Command::new(binary);
        nobody
            .args(["image", "build", "-r", "builtin", "--no-push"])
            .args(["-t", "registry.example/counter:1", "-c"])
            .arg(&project)
            .env_clear()
            .uid(65534)
            .gid(65534);
        assert_eq!(digest(nobody), expected);
    }

    // Another date that is asked for, and another object.
    let mut dated = build(&bpfman, here.arg());
    dated.env("SOURCE_DATE_EPOCH", "1");
    assert_ne!(digest(dated), expected);
    let object = there.file("s390x");
    std::fs::copy(
        Project::compile(&["mips64"]).unwrap().file("mips64"),
        object,
    )
    .unwrap();
    assert_ne!(digest(build(&bpfman, there.arg())), expected);
}

/// Builds with `builtin` and pulls each platform with these words before the reference.
fn pulled(registry: &Registry, pull: &[&str]) {
    let Some(project) = Project::compile(&TWO) else {
        return;
    };
    let reference = registry.reference("acme/counter:1");
    let bpfman = Bpfman::new();
    let build = ["image", "build", "-r", "builtin", "-t", &reference];
    let pushed = bpfman.run(&[build.as_slice(), &["-c", project.arg()]].concat());
    let _ = pushed.ok();
    for architecture in TWO {
        let platform = format!("--platform=linux/{architecture}");
        let output = Command::new(pull[0])
            .args(&pull[1..])
            .args([&platform, &reference])
            .output()
            .unwrap();
        assert!(output.status.success(), "{pull:?} {platform}: {output:?}");
    }
}

#[test]
fn docker_pulls_what_builtin_pushes() {
    let (Some(registry), Some(engine), Some(docker)) =
        (Registry::start(), Engine::docker(), lanes::tool("docker"))
    else {
        return;
    };
    let docker = docker.to_str().unwrap();
    pulled(&registry, &[docker, "-H", engine.socket(), "pull"]);
}

#[test]
fn podman_pulls_what_builtin_pushes() {
    let (Some(registry), Some(podman)) = (Registry::start(), lanes::tool("podman")) else {
        return;
    };
    if !lanes::root() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let podman = podman.to_str().unwrap();
    let (root, run, tmp) = (at("root"), at("run"), at("tmp"));
    let place = ["--root", &root, "--runroot", &run, "--tmpdir", &tmp];
    let pull = ["--storage-driver=vfs", "pull", "--tls-verify=false"];
    pulled(&registry, &[[podman].as_slice(), &place, &pull].concat());
}
