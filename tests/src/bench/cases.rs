//! The table of cases. A case that lacks a tool gives its reason instead.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::rc::Rc;

use bpfman_tests::lanes;
use bpfman_tests::objects::Object;
use bpfman_tests::registry::Registry;
use tempfile::TempDir;

use crate::builds;
use crate::measure::{Case, Contestant};
use crate::signatures;

/// Every case, by the name that asks for it alone.
pub(crate) const ALL: [(&str, Make); 7] = [
    ("load", load),
    ("list", list),
    ("pull", pull),
    ("verify", signatures::verify),
    ("admitted", signatures::admitted),
    ("build", builds::build),
    ("arguments", builds::arguments),
];

/// Prepares a case, or says why it cannot be run here.
type Make = fn(&Context) -> Result<Case<'_>, String>;

/// Most memory of any of our commands: 20 MB.
pub(crate) const MOST_KIB: u64 = 20_000_000 / 1024;

/// The name of the image that is pulled.
const IMAGE: &str = "bench/program:1";

/// What every case starts from.
pub(crate) struct Context {
    binary: PathBuf,
    /// Images and what else lies on a disk.
    folder: TempDir,
    /// Runtime state, which lies in memory as `/run/bpfman` does.
    runtime: TempDir,
}

impl Context {
    pub(crate) fn new(binary: PathBuf) -> Self {
        let runtime = TempDir::new_in("/dev/shm").or_else(|_| TempDir::new_in("/run"));
        Self {
            binary,
            folder: TempDir::new().expect("a temporary folder can be made"),
            runtime: runtime.expect("a folder can be made in /run or /dev/shm"),
        }
    }

    /// Our command with state of its own, apart from every other case's.
    pub(crate) fn bpfman(&self, place: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.binary);
        command
            .args(arguments)
            .env("BPFMAN_RUNTIME_DIR", self.runtime.path().join(place))
            .env("BPFMAN_IMAGE_DIR", self.at(place).join("images"))
            .env("BPFMAN_ADMITTED_DIR", self.at(place).join("admitted"))
            .env_remove("RUST_LOG");
        command
    }

    pub(crate) fn at(&self, place: &str) -> PathBuf {
        self.folder.path().join(place)
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // Programs go with the pins that hold them.
        for folder in [self.folder.path(), self.runtime.path()] {
            for place in std::fs::read_dir(folder).into_iter().flatten().flatten() {
                for fs in [place.path().join("fs"), place.path().join("bpffs")] {
                    if fs.is_dir() {
                        let _ = Command::new("umount")
                            .arg(fs)
                            .stderr(Stdio::null())
                            .status();
                    }
                }
            }
        }
    }
}

/// `load file` of a tracepoint program, against `bpftool prog load`.
fn load(context: &Context) -> Result<Case<'_>, String> {
    let bpftool = as_root("bpftool")?;
    let object = Object::example("tracepoint-counter").ok_or("the example cannot be compiled")?;
    let object = Rc::new(object);
    let ours = Rc::clone(&object);
    let pins = context.at("load").join("bpffs");
    mount_bpffs(&pins)?;
    let pin = pins.join("program");
    let unpin = pin.clone();
    let theirs = move |_| {
        let mut command = Command::new(&bpftool);
        command
            .args(["prog", "load", object.arg()])
            .arg(&pin)
            .args(["type", "tracepoint"]);
        command
    };
    Ok(Case {
        title: "a tracepoint program without CO-RE, from a file into the kernel".to_owned(),
        most_kib: MOST_KIB,
        most_milliseconds: None,
        most_more_milliseconds: None,
        contestants: vec![
            Contestant {
                name: "bpfman load file",
                most_times: None,
                prepare: Box::new(move |_| load_command(context, "load", &ours)),
                clear: Box::new(|_, output| unload(context, "load", output)),
            },
            Contestant {
                name: "bpftool prog load",
                most_times: Some(4.0),
                prepare: Box::new(theirs),
                clear: Box::new(move |_, _| {
                    std::fs::remove_file(&unpin).expect("a pin can be removed");
                }),
            },
        ],
    })
}

/// `list programs` with 500 of them, against `bpftool prog list`.
fn list(context: &Context) -> Result<Case<'_>, String> {
    let bpftool = as_root("bpftool")?;
    let object = Object::example("tracepoint-counter").ok_or("the example cannot be compiled")?;
    for _ in 0..500 {
        let output = load_command(context, "list", &object)
            .output()
            .map_err(|error| error.to_string())?;
        if !output.status.success() {
            return Err(format!(
                "loading 500 programs: {}",
                String::from_utf8_lossy(&output.stderr)
            ));
        }
    }
    Ok(Case {
        title: "500 programs".to_owned(),
        most_kib: MOST_KIB,
        most_milliseconds: None,
        most_more_milliseconds: None,
        contestants: vec![
            Contestant {
                name: "bpfman list programs",
                most_times: None,
                prepare: Box::new(|_| context.bpfman("list", &["list", "programs"])),
                clear: Box::new(|_, output| {
                    assert_eq!(output.lines().count(), 501, "500 programs and a head")
                }),
            },
            Contestant {
                name: "bpftool prog list",
                most_times: Some(1.2),
                prepare: Box::new(move |_| {
                    let mut command = Command::new(&bpftool);
                    command.args(["prog", "list"]);
                    command
                }),
                clear: Box::new(|_, _| {}),
            },
        ],
    })
}

/// `image pull` of a 20 KB image from a registry on loopback into an empty store, against crane, oras and skopeo.
fn pull(context: &Context) -> Result<Case<'_>, String> {
    let crane = lanes::foreign_tool("crane").ok_or("no crane")?;
    let oras = lanes::foreign_tool("oras").ok_or("no oras")?;
    let skopeo = lanes::tool("skopeo").ok_or("no skopeo")?;
    let registry = Registry::start().ok_or("no docker-registry")?;
    let object = Object::compile(&noise(17_500)).ok_or("the program cannot be compiled")?;
    let reference = registry.reference(IMAGE);
    let build = [
        "image",
        "build",
        "--runtime",
        "builtin",
        "-t",
        &reference,
        "-b",
        object.arg(),
    ];
    let built = context
        .bpfman("pull", &build)
        .output()
        .map_err(|error| error.to_string())?;
    if !built.status.success() {
        return Err(format!(
            "building the image: {}",
            String::from_utf8_lossy(&built.stderr)
        ));
    }
    // A store of its own for every round: each of them is cold.
    let store = |who: &str, round: usize| context.at("pull").join(format!("{who}-{round}"));
    let text = |path: PathBuf| path.to_string_lossy().into_owned();
    let by_crane = reference.clone();
    let by_oras = reference.clone();
    let by_skopeo = format!("docker://{reference}");
    Ok(Case {
        title: format!(
            "an image of {} bytes from a registry on loopback into an empty store",
            object.bytes().len()
        ),
        most_kib: MOST_KIB,
        most_milliseconds: None,
        most_more_milliseconds: None,
        contestants: vec![
            Contestant {
                name: "bpfman image pull",
                most_times: None,
                prepare: Box::new(move |round| {
                    let mut command = context
                        .bpfman("pull", &["image", "pull", "-i", &registry.reference(IMAGE)]);
                    command.env("BPFMAN_IMAGE_DIR", store("bpfman", round));
                    command
                }),
                clear: Box::new(move |round, _| gone(&store("bpfman", round))),
            },
            Contestant {
                name: "crane pull",
                most_times: Some(1.2),
                prepare: Box::new(move |round| {
                    let mut command = Command::new(&crane);
                    command.args([
                        "pull",
                        "--insecure",
                        "--format=oci",
                        &by_crane,
                        &text(store("crane", round)),
                    ]);
                    command
                }),
                clear: Box::new(move |round, _| gone(&store("crane", round))),
            },
            Contestant {
                name: "oras copy",
                most_times: None,
                prepare: Box::new(move |round| {
                    let target = format!("{}:1", text(store("oras", round)));
                    let mut command = Command::new(&oras);
                    command.args([
                        "copy",
                        "--no-tty",
                        "--from-plain-http",
                        &by_oras,
                        "--to-oci-layout",
                        &target,
                    ]);
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
                    command.args([
                        "copy",
                        "--insecure-policy",
                        "--src-tls-verify=false",
                        &by_skopeo,
                        &target,
                    ]);
                    command
                }),
                clear: Box::new(move |round, _| gone(&store("skopeo", round))),
            },
        ],
    })
}

fn load_command(context: &Context, place: &str, object: &Object) -> Command {
    let program = "tracepoint:tracepoint_kill_recorder";
    context.bpfman(
        place,
        &[
            "load",
            "file",
            "--path",
            object.arg(),
            "--programs",
            program,
        ],
    )
}

/// Unloads the program that `load` printed.
pub(crate) fn unload(context: &Context, place: &str, output: &str) {
    let line = output
        .lines()
        .find_map(|line| line.trim().strip_prefix("Program ID:"));
    let id = line.expect("load prints the program's id").trim();
    let status = context
        .bpfman(place, &["unload", id])
        .stdout(Stdio::null())
        .status();
    assert!(
        status.is_ok_and(|status| status.success()),
        "program {id} can be unloaded"
    );
}

/// A program whose object has that many bytes that do not compress, and a few more.
pub(crate) fn noise(count: usize) -> String {
    let mut state: u32 = 1;
    let bytes: Vec<String> = (0..count)
        .map(|_| {
            // Knuth's linear congruential generator.
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24).to_string()
        })
        .collect();
    format!(
        "volatile const __u8 noise[{count}] = {{{}}};\nSEC(\"xdp\")\nint pass(struct xdp_md *ctx) {{ return noise[ctx->rx_queue_index & 4095] ? XDP_PASS : XDP_DROP; }}\n",
        bytes.join(",")
    )
}

pub(crate) fn gone(store: &Path) {
    std::fs::remove_dir_all(store).expect("a store can be removed");
}

fn mount_bpffs(folder: &Path) -> Result<(), String> {
    std::fs::create_dir_all(folder).map_err(|error| error.to_string())?;
    let mounted = Command::new("mount")
        .args(["-t", "bpf", "bpf"])
        .arg(folder)
        .status();
    if mounted.is_ok_and(|status| status.success()) {
        Ok(())
    } else {
        Err("bpffs cannot be mounted".to_owned())
    }
}

/// A tool that changes this machine's kernel.
fn as_root(tool: &str) -> Result<PathBuf, String> {
    if !lanes::root() {
        return Err("takes root".to_owned());
    }
    lanes::tool(tool).ok_or_else(|| format!("no {tool}"))
}
