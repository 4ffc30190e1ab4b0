//! The cases of images: pulled from a registry on loopback, loaded from the store.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::time::Duration;

use bpfman_tests::lanes;
use bpfman_tests::objects::Object;
use bpfman_tests::project::{ALL, Project};
use bpfman_tests::registry::Registry;

use crate::cases::{Context, MOST_KIB, gone, load_command, noise, unload};
use crate::measure::{Case, Contestant};

/// The name of the image that is pulled.
const IMAGE: &str = "bench/program:1";
/// Nothing has this name: asking for it marks a place in the registry's log.
const NOBODY: &str = "bench/nobody:1";
/// Bytes that do not compress: with them an object has some twenty thousand.
const NOISE: usize = 17_500;

/// `image pull` of a 20 KB image for one architecture, against crane, oras and skopeo.
pub(crate) fn one(context: &Context) -> Result<Case<'_>, String> {
    let registry = Registry::start().ok_or("no docker-registry")?;
    let object = Object::compile(&noise(NOISE)).ok_or("the program cannot be compiled")?;
    build(context, "pull", &registry, &["-b", object.arg()])?;
    let title = format!("an image of {} bytes", object.bytes().len());
    pulled(context, "pull", registry, title)
}

/// The same of an index of thirteen architectures.
pub(crate) fn index(context: &Context) -> Result<Case<'_>, String> {
    let registry = Registry::start().ok_or("no docker-registry")?;
    let project = Project::compile_source(&noise(NOISE), &ALL.map(|(goarch, ..)| goarch));
    let project = project.ok_or("the program cannot be compiled")?;
    build(context, "pull-index", &registry, &["-c", project.arg()])?;
    let requests = requests(context, "pull-index", &registry)?;
    let title = format!("an image of thirteen architectures ({requests} requests by ours)");
    pulled(context, "pull-index", registry, title)
}

/// `load image` from the store, against our own `load file` of the same object.
pub(crate) fn warm(context: &Context) -> Result<Case<'_>, String> {
    if !lanes::root() {
        return Err("takes root".to_owned());
    }
    let registry = Registry::start().ok_or("no docker-registry")?;
    let object = Object::example("tracepoint-counter").ok_or("the example cannot be compiled")?;
    build(context, "warm", &registry, &["-b", object.arg()])?;
    let reference = registry.reference(IMAGE);
    done(&mut context.bpfman("warm", &["image", "pull", "-i", &reference]))?;
    let program = "tracepoint:tracepoint_kill_recorder";
    let clear = || Box::new(|_: usize, output: &str| unload(context, "warm", output));
    Ok(Case {
        title: "an image that the store has, and its object as a file".to_owned(),
        most_kib: MOST_KIB,
        most_milliseconds: None,
        most_more_milliseconds: None,
        contestants: vec![
            Contestant {
                name: "bpfman load image",
                most_times: None,
                prepare: Box::new(move |_| {
                    let arguments = ["load", "image", "-i", &reference, "--programs", program];
                    context.bpfman("warm", &arguments)
                }),
                clear: clear(),
            },
            Contestant {
                name: "bpfman load file",
                most_times: Some(1.3),
                prepare: Box::new(move |_| load_command(context, "warm", &object)),
                clear: clear(),
            },
        ],
    })
}

fn build(
    context: &Context,
    place: &str,
    registry: &Registry,
    objects: &[&str],
) -> Result<(), String> {
    let reference = registry.reference(IMAGE);
    let build = ["image", "build", "--runtime", "builtin", "-t", &reference];
    done(context.bpfman(place, &build).args(objects))
}

fn done(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|error| error.to_string())?;
    if output.status.success() {
        return Ok(());
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    Err(format!("{command:?}: {stderr}"))
}

/// How many requests one pull makes.
fn requests(context: &Context, place: &str, registry: &Registry) -> Result<usize, String> {
    let marks = || registry.log().matches("/v2/bench/nobody/").count();
    // A pull of nobody's image leaves its mark after everything that was logged before it.
    let mark = || -> Result<usize, String> {
        let before = marks();
        let pull = ["image", "pull", "-i", &registry.reference(NOBODY)];
        let status = context.bpfman(place, &pull).stderr(Stdio::null()).status();
        status.map_err(|error| error.to_string())?;
        while marks() == before {
            std::thread::sleep(Duration::from_millis(10));
        }
        let log = registry.log();
        let asked = ["GET", "HEAD"].map(|method| {
            let request = format!("\"{method} /v2/bench/program/");
            log.matches(&request).count()
        });
        Ok(asked.into_iter().sum())
    };
    let before = mark()?;
    let pull = ["image", "pull", "-i", &registry.reference(IMAGE)];
    done(&mut context.bpfman(place, &pull))?;
    Ok(mark()? - before)
}

/// The image of the registry pulled by ours, crane, oras and skopeo, each into an empty store.
fn pulled<'a>(
    context: &'a Context,
    place: &'static str,
    registry: Registry,
    title: String,
) -> Result<Case<'a>, String> {
    let crane = lanes::foreign_tool("crane").ok_or("no crane")?;
    let oras = lanes::foreign_tool("oras").ok_or("no oras")?;
    let skopeo = lanes::tool("skopeo").ok_or("no skopeo")?;
    let reference = registry.reference(IMAGE);
    // A store of its own for every round: each of them is cold.
    let store = move |who: &str, round: usize| context.at(place).join(format!("{who}-{round}"));
    let text = |path: PathBuf| path.to_string_lossy().into_owned();
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let platform = Rc::new(format!("--platform=linux/{architecture}"));
    let for_oras = Rc::clone(&platform);
    let by_crane = reference.clone();
    let by_oras = reference.clone();
    let by_skopeo = format!("docker://{reference}");
    Ok(Case {
        title: format!("{title}, from a registry on loopback into an empty store"),
        most_kib: MOST_KIB,
        most_milliseconds: None,
        most_more_milliseconds: None,
        contestants: vec![
            Contestant {
                name: "bpfman image pull",
                most_times: None,
                prepare: Box::new(move |round| {
                    // It lives as long as the case.
                    let _ = registry.address();
                    let mut command = context.bpfman(place, &["image", "pull", "-i", &reference]);
                    command.env("BPFMAN_IMAGE_DIR", store("bpfman", round));
                    command
                }),
                clear: Box::new(move |round, _| gone(&store("bpfman", round))),
            },
            Contestant {
                name: "crane pull",
                most_times: Some(1.0),
                prepare: Box::new(move |round| {
                    let mut command = Command::new(&crane);
                    command.args(["pull", "--insecure", "--format=oci", &platform, &by_crane]);
                    command.arg(store("crane", round));
                    command
                }),
                clear: Box::new(move |round, _| gone(&store("crane", round))),
            },
            Contestant {
                name: "oras copy",
                most_times: Some(1.0),
                prepare: Box::new(move |round| {
                    let target = format!("{}:1", text(store("oras", round)));
                    let mut command = Command::new(&oras);
                    command.args(["copy", "--no-tty", "--from-plain-http", &for_oras, &by_oras]);
                    command.args(["--to-oci-layout", &target]);
                    command
                }),
                clear: Box::new(move |round, _| gone(&store("oras", round))),
            },
            Contestant {
                name: "skopeo copy",
                most_times: None,
                prepare: Box::new(move |round| {
                    let target = format!("oci:{}:1", text(store("skopeo", round)));
                    let mut command = Command::new(&skopeo);
                    command.args(["copy", "--insecure-policy", "--src-tls-verify=false"]);
                    command.args([&by_skopeo, &target]);
                    command
                }),
                clear: Box::new(move |round, _| gone(&store("skopeo", round))),
            },
        ],
    })
}
