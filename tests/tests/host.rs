//! What `bpfman` does to this machine's own kernel: the kinds of program that need nothing of it, as root.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::collections::BTreeSet;
use std::thread;
use std::time::Instant;

use bpfman_tests::cli::{Bpfman, Outcome};
use bpfman_tests::lanes;
use bpfman_tests::objects::Object;
use tempfile::TempDir;

/// The ids in the first column of a list.
fn ids(list: &Outcome) -> Vec<String> {
    list.ok()
        .lines()
        .skip(1)
        .filter_map(|line| line.split_whitespace().next())
        .map(str::to_owned)
        .collect()
}

fn load(bpfman: &Bpfman, object: &Object) -> String {
    let program = "tracepoint:tracepoint_kill_recorder";
    bpfman
        .run(&[
            "load",
            "file",
            "--path",
            object.arg(),
            "--programs",
            program,
        ])
        .field("Program ID")
}

#[test]
fn a_tracepoint_program_is_loaded_attached_shown_and_gone() {
    let Some(object) = Object::example("tracepoint-counter") else {
        return;
    };
    if !lanes::root() || !lanes::tracefs() {
        return;
    }
    let bpfman = Bpfman::new();
    let id = load(&bpfman, &object);
    let attached = bpfman.run(&[
        "attach",
        &id,
        "tracepoint",
        "--tracepoint",
        "syscalls/sys_enter_kill",
    ]);
    let link = attached.field("Link ID");
    assert_eq!(attached.field("Program ID"), id);

    // The kernel takes it once.
    let hook = ["tracepoint", "-t", "syscalls/sys_enter_kill"];
    let twice = bpfman.run(&[["attach", &id].as_slice(), &hook].concat());
    for words in [
        "tracepoint syscalls/sys_enter_kill",
        "`tracepoint_kill_recorder`",
        &format!("attached there already, by link {link}"),
        "load it once more",
    ] {
        assert!(twice.failure().contains(words), "{words}: {twice:#?}");
    }

    assert_eq!(ids(&bpfman.run(&["list", "programs"])), [id.as_str()]);
    let links = bpfman.run(&["list", "links"]);
    assert_eq!(ids(&links), [id.as_str()]);
    assert!(
        links.stdout.contains(&link) && links.stdout.contains("syscalls/sys_enter_kill"),
        "{links:#?}"
    );
    let shown = bpfman.run(&["get", "program", &id]);
    assert_eq!(shown.field("BPF Function"), "tracepoint_kill_recorder");
    assert!(shown.stdout.contains(&link), "{shown:#?}");
    assert_eq!(
        bpfman.run(&["get", "link", &link]).field("Tracepoint"),
        "syscalls/sys_enter_kill"
    );
    assert!(!bpfman.pins().is_empty());

    let _ = bpfman.run(&["detach", &link]).ok();
    assert_eq!(ids(&bpfman.run(&["list", "links"])), Vec::<String>::new());
    let _ = bpfman.run(&["unload", &id]).ok();
    assert_eq!(
        ids(&bpfman.run(&["list", "programs"])),
        Vec::<String>::new()
    );
    assert_eq!(bpfman.pins(), Vec::<std::path::PathBuf>::new());
}

#[test]
fn twenty_loads_at_once_all_succeed() {
    let Some(object) = Object::example("tracepoint-counter") else {
        return;
    };
    if !lanes::root() {
        return;
    }
    // They wait for each other: for as long as it takes where the machine has other things to do.
    let folder = TempDir::new().unwrap();
    let config = folder.path().join("bpfman.toml");
    std::fs::write(&config, "[database]\nmax_retries = 100\n").unwrap();
    let bpfman = Bpfman::new().env("BPFMAN_CONFIG", config.to_str().unwrap());
    let started = Instant::now();
    let alone = load(&bpfman, &object);
    let one = started.elapsed();
    let _ = bpfman.run(&["unload", &alone]).ok();
    let started = Instant::now();
    let loaded: BTreeSet<String> = thread::scope(|scope| {
        let loads: Vec<_> = (0..20)
            .map(|_| scope.spawn(|| load(&bpfman, &object)))
            .collect();
        loads.into_iter().map(|load| load.join().unwrap()).collect()
    });
    // To be read, not to fail by: `make bench` compares.
    println!("one load: {one:?}; twenty at once: {:?}", started.elapsed());
    assert_eq!(loaded.len(), 20, "ids that are all different: {loaded:?}");
    let listed: BTreeSet<String> = ids(&bpfman.run(&["list", "programs"]))
        .into_iter()
        .collect();
    assert_eq!(listed, loaded);

    // And twenty unloads at once.
    thread::scope(|scope| {
        for id in &loaded {
            scope.spawn(|| {
                let _ = bpfman.run(&["unload", id]).ok();
            });
        }
    });
    assert_eq!(
        ids(&bpfman.run(&["list", "programs"])),
        Vec::<String>::new()
    );
    assert_eq!(bpfman.pins(), Vec::<std::path::PathBuf>::new());
}

#[test]
fn a_program_that_was_loaded_by_another_process_is_listed_with_all() {
    let Some(object) = Object::example("tracepoint-counter") else {
        return;
    };
    if !lanes::root() {
        return;
    }
    let (ours, other) = (Bpfman::new(), Bpfman::new());
    let id = load(&other, &object);
    assert_eq!(ids(&ours.run(&["list", "programs"])), Vec::<String>::new());
    assert!(ids(&ours.run(&["list", "programs", "--all"])).contains(&id));
    let shown = ours.run(&["get", "program", &id]);
    assert!(
        !shown.ok().contains("Bpfman State\n BPF Function"),
        "{shown:#?}"
    );
    assert_eq!(shown.field("Program ID"), id);
}
