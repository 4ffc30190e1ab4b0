//! The cases of the builder: objects to labels, objects to an image in a registry.

use std::path::Path;
use std::process::Command;

use bpfman_tests::lanes;
use bpfman_tests::project::{ALL, Project};
use bpfman_tests::registry::Registry;

use crate::cases::{Context, MOST_KIB, noise};
use crate::measure::{Case, Contestant};

const FOUR: [&str; 4] = ["amd64", "arm64", "ppc64le", "s390x"];

/// `image build --runtime builtin` of four architectures and the push, against `podman build --manifest` and
/// `podman manifest push` of the same objects.
pub(crate) fn build(context: &Context) -> Result<Case<'_>, String> {
    let podman = lanes::tool("podman").ok_or("no podman")?;
    if !lanes::root() {
        return Err("takes root".to_owned());
    }
    let registry = Registry::start().ok_or("no docker-registry")?;
    let project = Project::compile(&FOUR).ok_or("the program cannot be compiled")?;
    let theirs = by_podman(context, &podman, &registry, &project)?;
    let address = registry.address().to_owned();
    let reference = move |round: usize| format!("{address}/bench/ours-{round}:1");
    Ok(Case {
        title: "four architectures built and pushed to a registry on loopback".to_owned(),
        most_kib: MOST_KIB,
        most_milliseconds: Some(150.0),
        most_more_milliseconds: None,
        contestants: vec![
            Contestant {
                name: "bpfman image build",
                most_times: None,
                prepare: Box::new(move |round| {
                    // It lives as long as the case.
                    let _ = registry.address();
                    let build = ["image", "build", "-r", "builtin", "-t", &reference(round)];
                    let mut command = context.bpfman("build", &build);
                    command.arg("-c").arg(project.path());
                    command
                }),
                clear: Box::new(|_, _| {}),
            },
            Contestant {
                name: "podman build, push",
                most_times: Some(0.2),
                prepare: theirs,
                clear: Box::new(|_, _| {}),
            },
        ],
    })
}

type Prepare = Box<dyn Fn(usize) -> Command>;

fn by_podman(
    context: &Context,
    podman: &Path,
    registry: &Registry,
    project: &Project,
) -> Result<Prepare, String> {
    let folder = context.at("build");
    std::fs::create_dir_all(&folder).map_err(|error| error.to_string())?;
    let file = lanes::repository().join("Containerfile.bytecode.multi.arch");
    let at = |name: &str| folder.join(name).display().to_string();
    let podman = format!(
        "{} --root {} --runroot {} --tmpdir {} --storage-driver=vfs",
        podman.display(),
        at("root"),
        at("run"),
        at("tmp")
    );
    let mut arguments = String::new();
    for (goarch, name, flag) in ALL {
        if FOUR.contains(&goarch) {
            let argument = flag
                .trim_start_matches('-')
                .replace('-', "_")
                .to_uppercase();
            arguments.push_str(&format!(" --build-arg {argument}={name}"));
        }
    }
    let labels = format!(
        " --build-arg 'PROGRAMS={}' --build-arg 'MAPS={}'",
        bpfman_tests::project::PROGRAMS,
        bpfman_tests::project::MAPS
    );
    let platforms = FOUR.map(|goarch| format!("linux/{goarch}")).join(",");
    let build = format!(
        "{podman} build -q --no-cache --platform {platforms} -f {} {arguments}{labels}",
        file.display()
    );
    let (address, project) = (registry.address().to_owned(), project.path().to_owned());
    Ok(Box::new(move |round| {
        let manifest = format!("{address}/bench/theirs-{round}:1");
        let script = format!(
            "{build} --manifest {manifest} . && {podman} manifest push --all --tls-verify=false {manifest} docker://{manifest}"
        );
        let mut command = Command::new("sh");
        command.args(["-c", &script]).current_dir(&project);
        command
    }))
}

/// `generate-build-args` over a project of thirteen objects of 100 KB each.
pub(crate) fn arguments(context: &Context) -> Result<Case<'_>, String> {
    let project = Project::compile_source(&noise(97_000), &ALL.map(|(goarch, ..)| goarch));
    let project = project.ok_or("the program cannot be compiled")?;
    Ok(Case {
        title: "build arguments of thirteen objects of 100 KB".to_owned(),
        most_kib: MOST_KIB,
        most_milliseconds: Some(30.0),
        most_more_milliseconds: None,
        contestants: vec![Contestant {
            name: "bpfman generate-build-args",
            most_times: None,
            prepare: Box::new(move |_| {
                context.bpfman(
                    "arguments",
                    &["image", "generate-build-args", "-c", project.arg()],
                )
            }),
            clear: Box::new(|_, _| {}),
        }],
    })
}
