//! The table of cases. A case that lacks a tool gives its reason instead.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::rc::Rc;

use bpfman_tests::lanes;
use bpfman_tests::objects::Object;
use tempfile::TempDir;

use crate::builds;
use crate::measure::{Case, Contestant};
use crate::pulls;
use crate::signatures;

/// Every case, by the name that asks for it alone.
pub(crate) const ALL: [(&str, Make); 11] = [
    ("load", load),
    ("together", together),
    ("list", list),
    ("get", get),
    ("pull", pulls::one),
    ("pull-index", pulls::index),
    ("warm", pulls::warm),
    ("verify", signatures::verify),
    ("admitted", signatures::admitted),
    ("build", builds::build),
    ("arguments", builds::arguments),
];

/// Prepares a case, or says why it cannot be run here.
type Make = fn(&Context) -> Result<Case<'_>, String>;

/// Most memory of any of our commands: 20 MB.
pub(crate) const MOST_KIB: u64 = 20_000_000 / 1024;

/// What every case starts from.
pub(crate) struct Context {
    /// Images and what else lies on a disk.
    folder: TempDir,
    /// Runtime state, which lies in memory as `/run/bpfman` does.
    runtime: TempDir,
}

impl Context {
    pub(crate) fn new(binary: &Path) -> Self {
        let runtime = TempDir::new_in("/dev/shm").or_else(|_| TempDir::new_in("/run"));
        let context = Self {
            folder: TempDir::new().expect("a temporary folder can be made"),
            runtime: runtime.expect("a folder can be made in /run or /dev/shm"),
        };
        // As it is installed, and as the others are: a file that a linker wrote lies in the page cache in single pages, and
        // starting it takes half a millisecond longer.
        std::fs::copy(binary, context.binary()).expect("the binary can be copied");
        context
    }

    fn binary(&self) -> PathBuf {
        self.at("installed")
    }

    /// Our command with state of its own, apart from every other case's.
    pub(crate) fn bpfman(&self, place: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.binary());
        command
            .args(arguments)
            .env("BPFMAN_RUNTIME_DIR", self.runtime.path().join(place))
            .env("BPFMAN_IMAGE_DIR", self.at(place).join("images"))
            .env("BPFMAN_ADMITTED_DIR", self.at(place).join("admitted"))
            .env("BPFMAN_CONFIG", "/dev/null")
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
                most_times: Some(3.0),
                prepare: Box::new(theirs),
                clear: Box::new(move |_, _| {
                    std::fs::remove_file(&unpin).expect("a pin can be removed");
                }),
            },
        ],
    })
}

/// Twenty `load file` at once, against one.
fn together(context: &Context) -> Result<Case<'_>, String> {
    as_root("bpftool")?;
    let object = Object::example("tracepoint-counter").ok_or("the example cannot be compiled")?;
    let object = Rc::new(object);
    let alone = Rc::clone(&object);
    Ok(Case {
        title: format!("{TOGETHER} at once, each with its process"),
        most_kib: MOST_KIB,
        most_milliseconds: None,
        most_more_milliseconds: None,
        contestants: vec![
            Contestant {
                name: "bpfman load file",
                most_times: None,
                prepare: Box::new(move |_| {
                    let one = load_command(context, "together", &object);
                    let mut command = Command::new("sh");
                    command.args(["-c", AT_ONCE, "sh"]).arg(one.get_program());
                    command.args(one.get_args());
                    let variables = one.get_envs();
                    command.envs(variables.filter_map(|(name, value)| Some((name, value?))));
                    command.env("TOGETHER", TOGETHER.to_string());
                    command
                }),
                clear: Box::new(|_, output| {
                    let programs = ids(output);
                    assert_eq!(programs.len(), TOGETHER, "programs loaded at once");
                    for id in programs {
                        unload_id(context, "together", id);
                    }
                }),
            },
            Contestant {
                name: "one of them",
                most_times: Some(20.0),
                prepare: Box::new(move |_| load_command(context, "together", &alone)),
                clear: Box::new(|_, output| unload(context, "together", output)),
            },
        ],
    })
}

/// How many `load file` run at once.
const TOGETHER: usize = 20;

/// Runs its arguments as many times at once; fails when one of them does.
const AT_ONCE: &str = r#"
for _ in $(seq "$TOGETHER"); do "$@" & all="$all $!"; done
for one in $all; do wait "$one" || exit 1; done
"#;

/// Loads the 500 programs that are listed, and gives the id of the last.
fn five_hundred(context: &Context, place: &str) -> Result<String, String> {
    let object = Object::example("tracepoint-counter").ok_or("the example cannot be compiled")?;
    let mut last = String::new();
    for _ in 0..500 {
        let output = load_command(context, place, &object)
            .output()
            .map_err(|error| error.to_string())?;
        if !output.status.success() {
            return Err(format!(
                "loading 500 programs: {}",
                String::from_utf8_lossy(&output.stderr)
            ));
        }
        let output = String::from_utf8_lossy(&output.stdout);
        last = ids(&output).first().copied().unwrap_or_default().to_owned();
    }
    Ok(last)
}

/// `list programs` with 500 of them, against `bpftool prog list`.
fn list(context: &Context) -> Result<Case<'_>, String> {
    let bpftool = as_root("bpftool")?;
    five_hundred(context, "list")?;
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
                most_times: Some(1.0),
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

/// `get program` of one of 500, against `bpftool prog show id`.
fn get(context: &Context) -> Result<Case<'_>, String> {
    let bpftool = as_root("bpftool")?;
    let id = five_hundred(context, "get")?;
    let theirs = id.clone();
    Ok(Case {
        title: "one of 500 programs".to_owned(),
        most_kib: MOST_KIB,
        most_milliseconds: None,
        most_more_milliseconds: None,
        contestants: vec![
            Contestant {
                name: "bpfman get program",
                most_times: None,
                prepare: Box::new(move |_| context.bpfman("get", &["get", "program", &id])),
                clear: Box::new(|_, _| {}),
            },
            Contestant {
                name: "bpftool prog show id",
                // Starting costs twice what bpftool takes in all: 340 page faults, for relocations and the options' tables.
                most_times: Some(3.0),
                prepare: Box::new(move |_| {
                    let mut command = Command::new(&bpftool);
                    command.args(["prog", "show", "id", &theirs]);
                    command
                }),
                clear: Box::new(|_, _| {}),
            },
        ],
    })
}

pub(crate) fn load_command(context: &Context, place: &str, object: &Object) -> Command {
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

/// The ids of programs that `load` printed.
fn ids(output: &str) -> Vec<&str> {
    let lines = output.lines();
    lines
        .filter_map(|line| line.trim().strip_prefix("Program ID:"))
        .map(str::trim)
        .collect()
}

/// Unloads the program that `load` printed.
pub(crate) fn unload(context: &Context, place: &str, output: &str) {
    let ids = ids(output);
    unload_id(
        context,
        place,
        ids.first().expect("load prints the program's id"),
    );
}

fn unload_id(context: &Context, place: &str, id: &str) {
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
