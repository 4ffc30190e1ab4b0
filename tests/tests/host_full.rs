//! A host without room: the runtime folder's file system has no bytes or no inodes left, or a process has next to no
//! address space. On this machine's own kernel, as root.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

#[allow(dead_code, reason = "other tests use the rest of it")]
mod wire;

use std::path::{Path, PathBuf};

use bpfman_tests::cli::{Bpfman, Outcome};
use bpfman_tests::objects::{Object, Packets};

use wire::{Wire, sh};

/// A runtime folder on a small file system of its own.
struct Small {
    bpfman: Bpfman,
    mount: PathBuf,
}

impl Small {
    /// With these options of tmpfs.
    fn new(options: &str) -> Self {
        let bpfman = Bpfman::new();
        let mount = bpfman.home().join("small");
        std::fs::create_dir(&mount).unwrap();
        let _ = sh(&format!(
            "mount -t tmpfs -o mode=755,{options} tmpfs {}",
            mount.display()
        ))
        .ok();
        let runtime = mount.join("run");
        let bpfman = bpfman.env("BPFMAN_RUNTIME_DIR", runtime.to_str().unwrap());
        Self { bpfman, mount }
    }

    /// Takes every byte, or every inode.
    fn fill(&self, what: &str) {
        let fill = self.mount.join("fill");
        std::fs::create_dir(&fill).unwrap();
        let script = if what == "bytes" {
            "dd if=/dev/zero of=fill bs=1k; echo x >one-more"
        } else {
            "n=0; while : >$n; do n=$((n + 1)); done"
        };
        let filled = sh(&format!("cd {} && {{ {script}; }} 2>&1", fill.display()));
        assert!(filled.stdout.contains("No space left"), "{filled:#?}");
    }

    fn make_room(&self) {
        std::fs::remove_dir_all(self.mount.join("fill")).unwrap();
    }

    fn ids(&self, list: &str, column: usize) -> Vec<String> {
        let listed = self.bpfman.run(&["list", list]);
        let rows = listed.ok().lines().skip(1);
        let id = |row: &str| row.split_whitespace().nth(column).map(str::to_owned);
        rows.filter_map(id).collect()
    }

    fn load(&self, object: &Object, more: &[&str]) -> Outcome {
        let path = object.arg();
        let mut arguments = vec!["load", "file", "--path", path, "--programs"];
        arguments.extend(["xdp:on_xdp", "tc:on_tc", "tracepoint:on_kill"]);
        arguments.extend(more);
        self.bpfman.run(&arguments)
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let (fs, mount) = (self.mount.join("run/fs"), self.mount.display());
        let _ = sh(&format!("umount {}; umount -l {mount}", fs.display()));
    }
}

fn hooks(netns: &str) -> [Vec<&str>; 3] {
    [
        vec!["xdp", "-i", "veth0", "-p", "50", "-n", netns],
        vec![
            "tc", "-d", "ingress", "-i", "veth0", "-p", "50", "-n", netns,
        ],
        vec!["tracepoint", "-t", "syscalls/sys_enter_kill"],
    ]
}

#[test]
fn full_runtime_folder_stops_nothing_that_takes_away() {
    let (Some(object), Some(wire)) = (Object::counting(Packets::All), Wire::new("full")) else {
        return;
    };
    let netns = wire.path();
    for what in ["bytes", "inodes"] {
        let small = Small::new("size=2m,nr_inodes=400");
        small.load(&object, &[]).ok();
        let programs = small.ids("programs", 0);
        let attach = |hook: usize| {
            let mut arguments = vec!["attach", programs[hook].as_str()];
            let hooks = hooks(&netns);
            arguments.extend(&hooks[hook]);
            small.bpfman.run(&arguments)
        };
        for hook in 0..2 {
            attach(hook).ok();
        }
        let links = small.ids("links", 1);
        assert_eq!((programs.len(), links.len()), (3, 2), "{what}");
        small.fill(what);

        for refused in [small.load(&object, &[]), attach(2)] {
            let said = refused.failure();
            assert!(said.contains("make room on the file system of"), "{said}");
        }
        assert_eq!(small.ids("programs", 0), programs, "{what}");
        assert_eq!(small.ids("links", 1), links, "{what}");
        small.bpfman.run(&["doctor"]).ok();

        small.bpfman.run(&["detach", &links[0]]).ok();
        assert_eq!(small.ids("links", 1), links[1..], "{what}");
        // Somebody loses a pin: repairing takes the program out of the records.
        std::fs::remove_file(
            small
                .mount
                .join("run/fs")
                .join(format!("prog_{}", programs[2])),
        )
        .unwrap();
        small.bpfman.run(&["doctor", "--repair"]).ok();
        for id in small.ids("programs", 0) {
            small.bpfman.run(&["unload", &id]).ok();
        }
        small.bpfman.run(&["doctor"]).ok();
        assert!(small.ids("programs", 0).is_empty() && small.ids("links", 1).is_empty());

        small.make_room();
        small.load(&object, &[]).ok();
        small.bpfman.run(&["doctor"]).ok();
        assert_eq!(small.ids("programs", 0).len(), 3, "{what}");
    }
}

#[test]
fn runtime_folder_that_fills_up_by_loads_loses_nothing() {
    let Some(object) = Object::counting(Packets::All) else {
        return;
    };
    if !bpfman_tests::lanes::root() {
        return;
    }
    let metadata = format!("key={}", "x".repeat(3000));
    for options in [
        "size=128k",
        "size=256k",
        "size=8k",
        "nr_inodes=12",
        "nr_inodes=24",
    ] {
        let small = Small::new(options);
        let mut loads = 0;
        let refused = loop {
            let loaded = small.load(&object, &["-m", &metadata]);
            if loaded.status != Some(0) {
                break loaded;
            }
            loads += 1;
        };
        let said = refused.failure();
        assert!(
            said.contains("No space left on device"),
            "{options}: {said}"
        );
        let programs = small.ids("programs", 0);
        assert_eq!(programs.len(), 3 * loads, "{options}");
        let is_fresh = |path: &Path| !path.join("run/fs").exists();
        assert!(
            loads > 0 || is_fresh(&small.mount) || programs.is_empty(),
            "{options}"
        );
        small.bpfman.run(&["doctor"]).ok();
        for id in programs {
            small.bpfman.run(&["unload", &id]).ok();
        }
        small.bpfman.run(&["doctor"]).ok();
        assert!(small.ids("programs", 0).is_empty(), "{options}");
        println!("{options}: {loads} loads");
    }
}

#[test]
fn little_address_space_is_enough_or_the_error_says_so() {
    let (Some(object), Some(wire)) = (Object::counting(Packets::All), Wire::new("tiny")) else {
        return;
    };
    let netns = wire.path();
    for kibibytes in [45_000, 50_000, 56_000, 64_000] {
        let bpfman = Bpfman::new();
        let limited = format!("ulimit -v {kibibytes}; exec \"$0\" \"$@\"");
        let run = |arguments: &[&str]| {
            let outcome = bpfman.run_by(&["bash", "-c", &limited], arguments);
            let context = format!("{kibibytes} KiB: {arguments:?}: {outcome:#?}");
            assert!(matches!(outcome.status, Some(0 | 1)), "{context}");
            assert!(!outcome.stderr.contains("panicked"), "{context}");
            outcome
        };
        let path = object.arg();
        let load = ["load", "file", "--path", path, "--programs", "xdp:on_xdp"];
        let loaded = run(&load);
        if loaded.status != Some(0) {
            bpfman.run(&load).ok();
        }
        run(&["list", "programs"]).ok();
        let id = bpfman
            .run(&["list", "programs"])
            .ok()
            .lines()
            .nth(1)
            .unwrap()
            .to_owned();
        let id = id.split_whitespace().next().unwrap();
        let mut attach = vec!["attach", id];
        let hooks = hooks(&netns);
        attach.extend(&hooks[0]);
        let attached = run(&attach);
        if attached.status != Some(0) {
            bpfman.run(&attach).ok();
        }
        let link = bpfman.run(&["list", "links"]);
        let link = link
            .ok()
            .lines()
            .nth(1)
            .unwrap()
            .split_whitespace()
            .nth(1)
            .unwrap();
        run(&["get", "program", id]).ok();
        run(&["detach", link]).ok();
        run(&["unload", id]).ok();
        run(&["doctor"]).ok();
        run(&["image", "list"]).ok();
        println!(
            "{kibibytes} KiB: load {:?}, attach {:?}",
            loaded.status, attached.status
        );
    }
}
