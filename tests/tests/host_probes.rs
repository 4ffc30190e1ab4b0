//! Probes on this machine's own kernel: uprobes work even where it is in lockdown and has no kprobes. As root.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod probed;

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use bpfman_tests::cli::Bpfman;
use bpfman_tests::lanes;
use bpfman_tests::objects::Object;

use probed::{PROGRAMS, Probed};

/// The program that calls its functions when it is told to.
struct Target {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Target {
    fn start(probed: &Probed) -> Self {
        let mut child = Command::new(probed.target())
            .env("LD_LIBRARY_PATH", probed.library().parent().unwrap())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let input = child.stdin.take().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let mut target = Self {
            child,
            input,
            output,
        };
        assert_eq!(target.line(), target.child.id().to_string());
        target
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    fn call(&mut self, times: usize) {
        for _ in 0..times {
            writeln!(self.input).unwrap();
            assert_eq!(self.line(), "called");
        }
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Loads the programs of these functions and returns their ids.
fn load(bpfman: &Bpfman, object: &Object, functions: &[&str]) -> Vec<String> {
    let mut arguments = vec!["load", "file", "--path", object.arg(), "-o", "json"];
    arguments.push("--programs");
    arguments.extend(functions);
    let loaded = bpfman.run(&arguments);
    let loaded: serde_json::Value = serde_json::from_str(loaded.ok()).unwrap();
    let programs = loaded.as_array().unwrap().iter();
    programs
        .map(|program| program["kernel_state"]["program_id"].to_string())
        .collect()
}

/// The number in an entry of the map `hits`.
fn hits(bpftool: &Path, bpfman: &Bpfman, folder: &str, entry: usize) -> u64 {
    let map = bpfman.runtime().join(format!("fs/maps/{folder}/hits"));
    let entry = entry.to_string();
    let output = Command::new(bpftool)
        .args(["-j", "map", "lookup", "pinned"])
        .arg(map)
        .args(["key", &entry, "0", "0", "0"])
        .output()
        .unwrap();
    let found: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    found["formatted"]["value"].as_u64().unwrap()
}

#[test]
fn uprobes_and_uretprobes_count_while_they_are_attached() {
    let (Some(object), Some(probed)) = (probed::programs(), Probed::compile()) else {
        return;
    };
    let Some(bpftool) = lanes::tool("bpftool") else {
        return;
    };
    let Some(place) = probed.place_of_inner() else {
        return;
    };
    if !lanes::root() {
        return;
    }
    let bpfman = Bpfman::new();
    let ids = load(&bpfman, &object, &PROGRAMS[2..4]);
    let mut target = Target::start(&probed);
    let pid = target.child.id().to_string();
    let ours = std::process::id().to_string();
    let program = probed.target();
    let library = probed.library();
    let (program, library) = (program.to_str().unwrap(), library.to_str().unwrap());
    // Which program, its options, the events that five calls are, the file that is found.
    let inner = ["-t", program, "-f", "inner"];
    let cases: [(usize, &[&str], u64, Option<&str>); 11] = [
        (0, &["-t", program, "-f", "turn"], 5, Some(program)),
        // The last of five is still inside.
        (1, &["-t", program, "-f", "turn"], 4, Some(program)),
        (0, &inner, 5, Some(program)),
        (1, &inner, 5, Some(program)),
        (0, &["-t", program, "--offset", &place], 5, Some(program)),
        (
            1,
            &["-t", library, "-f", "probed@PROBED_1"],
            5,
            Some(library),
        ),
        (0, &["-t", "libc", "-f", "a64l"], 5, None),
        (0, &["-t", "libc", "-f", "a64l", "--pid", &pid], 5, None),
        (
            1,
            &["-t", "libprobed", "-f", "probed", "-p", &pid],
            5,
            Some(library),
        ),
        (0, &["-t", "libc.so.6", "-f", "a64l", "-c", &pid], 5, None),
        (0, &["-t", "libc", "-f", "a64l", "-p", &ours], 0, None),
    ];
    for (which, options, events, path) in cases {
        let count = || hits(&bpftool, &bpfman, &ids[0], 2 + which);
        let mut arguments = vec!["attach", &ids[which], "uprobe", "--output", "json"];
        arguments.extend(options);
        let link = bpfman.run(&arguments);
        let link: serde_json::Value = serde_json::from_str(link.ok()).unwrap();
        let attachment = &link["attachment"];
        assert_eq!(attachment["retprobe"], which == 1, "{options:?}");
        let found = PathBuf::from(attachment["path"].as_str().unwrap());
        match path {
            Some(path) => assert_eq!(found, Path::new(path)),
            None => assert_eq!(found.file_name().unwrap(), "libc.so.6", "{options:?}"),
        }
        let before = count();
        target.call(5);
        assert_eq!(count() - before, events, "{options:?}, attached");
        let _ = bpfman.run(&["detach", &link["link_id"].to_string()]).ok();
        let before = count();
        target.call(5);
        assert_eq!(count(), before, "{options:?}, detached");
    }
    for id in &ids {
        let _ = bpfman.run(&["unload", id]).ok();
    }
    assert_eq!(bpfman.pins(), Vec::<PathBuf>::new());
}

#[test]
fn what_this_kernel_lacks_is_named() {
    let Some(object) = probed::programs() else {
        return;
    };
    if !lanes::root() {
        return;
    }
    let bpfman = Bpfman::new();
    let id = &load(&bpfman, &object, &PROGRAMS[..1])[0];
    let kprobe = bpfman.run(&["attach", id, "kprobe", "-f", "vfs_unlink"]);
    if Path::new("/sys/bus/event_source/devices/kprobe").is_dir() {
        let _ = kprobe.ok();
    } else {
        let said = kprobe.failure();
        let expected = "attaching program ID to kernel function vfs_unlink";
        assert!(said.contains(&expected.replace("ID", id)), "{said}");
        assert!(said.contains("this kernel has no kprobes"), "{said}");
        assert!(said.contains("CONFIG_KPROBES=y"), "{said}");
    }
    let fentry = bpfman.run(&[
        "load",
        "file",
        "--path",
        object.arg(),
        "--programs",
        PROGRAMS[4],
    ]);
    if fentry.status != Some(0) {
        let said = fentry.failure();
        assert!(said.contains("refuses fentry and fexit programs"), "{said}");
        assert!(said.contains("lockdown"), "{said}");
    }
}

#[test]
fn a_tracepoint_with_a_slip_in_its_name_is_told_from_the_nearest() {
    let Some(object) = Object::example("tracepoint-counter") else {
        return;
    };
    if !lanes::root() || !lanes::tracefs() {
        return;
    }
    let bpfman = Bpfman::new();
    let id = &load(&bpfman, &object, &["tracepoint:tracepoint_kill_recorder"])[0];
    let place = "syscalls/sys_enter_kil";
    let refused = bpfman.run(&["attach", id, "tracepoint", "--tracepoint", place]);
    let said = refused.failure();
    assert!(
        said.contains("no tracepoint `syscalls/sys_enter_kil`"),
        "{said}"
    );
    assert!(
        said.contains("did you mean `syscalls/sys_enter_kill`?"),
        "{said}"
    );
}
