//! bpffs is unmounted and `/run` is wiped under programs that are attached, on this machine's own kernel: what is gone is
//! named, and the next command works. As root.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod wire;

use bpfman_tests::cli::Bpfman;
use bpfman_tests::lanes;
use bpfman_tests::objects::{Object, Packets};

use wire::{Wire, json, load, seen};

/// A program of each kind and how it is attached.
struct Attached {
    program: String,
    hook: Vec<String>,
}

fn everywhere(bpfman: &Bpfman, object: &Object, wire: &Wire) -> [Attached; 3] {
    let netns = wire.path();
    let cases = [
        ("xdp:on_xdp", format!("xdp -i veth0 -p 50 -n {netns}")),
        (
            "tc:on_tc",
            format!("tc -d ingress -i veth0 -p 50 -n {netns}"),
        ),
        (
            "tracepoint:on_kill",
            "tracepoint -t syscalls/sys_enter_kill".to_owned(),
        ),
    ];
    cases.map(|(program, hook)| {
        let attached = Attached {
            program: load(bpfman, object, program),
            hook: hook.split(' ').map(str::to_owned).collect(),
        };
        let _ = attach(bpfman, &attached).ok();
        attached
    })
}

fn attach(bpfman: &Bpfman, attached: &Attached) -> bpfman_tests::cli::Outcome {
    let mut arguments = vec!["attach", &attached.program];
    arguments.extend(attached.hook.iter().map(String::as_str));
    bpfman.run(&arguments)
}

fn links(bpfman: &Bpfman) -> usize {
    let links = json(&bpfman.run(&["list", "links", "-o", "json"]));
    links.as_array().unwrap().len()
}

/// Of what `everywhere` made, the program of TC is still held by its filter, or not, as the kernel lets EXT programs be.
fn unmount(bpfman: &Bpfman, [xdp, ..]: &[Attached; 3]) {
    bpfman.unmount(&[&xdp.program]);
}

/// Programs of now on the hooks of before: they count, and go again.
fn works(bpfman: &Bpfman, object: &Object, wire: &Wire) {
    let now = everywhere(bpfman, object, wire);
    wire.ping(2);
    for attached in &now[..2] {
        assert_eq!(seen(bpfman, &attached.program), 2, "{:?}", attached.hook);
    }
    for attached in &now {
        let _ = bpfman.run(&["unload", &attached.program]).ok();
    }
}

fn parts(name: &str) -> Option<(Object, Wire)> {
    let (object, wire) = (Object::counting(Packets::EchoRequests)?, Wire::new(name)?);
    lanes::tracefs().then_some((object, wire))
}

#[test]
fn bpffs_is_unmounted() {
    let Some((object, wire)) = parts("unmounted") else {
        return;
    };
    let bpfman = Bpfman::new();
    let before = everywhere(&bpfman, &object, &wire);
    unmount(&bpfman, &before);
    // Only pins held the program of XDP; that of TC may still be held by its filter.
    let [xdp, ..] = &before;
    let listed = bpfman.run(&["list", "programs"]);
    let _ = listed.ok();
    let named = format!(
        "program {} is recorded but the kernel no longer has it",
        xdp.program
    );
    assert!(listed.stderr.contains(&named), "{listed:#?}");
    assert_eq!(links(&bpfman), 3);
    let refused = attach(&bpfman, xdp);
    for words in [
        format!("program {} is recorded but gone", xdp.program),
        "was bpffs unmounted?".to_owned(),
        format!("`bpfman unload {}` removes the record", xdp.program),
    ] {
        assert!(refused.failure().contains(&words), "{words}: {refused:#?}");
    }
    // The next commands work: what was said to be done, and then all over again.
    for attached in &before {
        let _ = bpfman.run(&["unload", &attached.program]).ok();
    }
    assert_eq!(links(&bpfman), 0);
    works(&bpfman, &object, &wire);
    let _ = bpfman.run(&["doctor"]).ok();

    // The same, seen by the doctor, who has a line for each program, and mends it.
    let before = everywhere(&bpfman, &object, &wire);
    unmount(&bpfman, &before);
    let found = bpfman.run(&["doctor"]);
    assert_eq!(found.status, Some(1), "{found:#?}");
    for attached in &before {
        let named = format!("program {} (", attached.program);
        assert!(found.stdout.contains(&named), "{named}: {found:#?}");
    }
    let _ = bpfman.run(&["doctor", "--repair"]).ok();
    let _ = bpfman.run(&["doctor"]).ok();
    // What the doctor could mend is ours again.
    let left = json(&bpfman.run(&["list", "programs", "-o", "json"]));
    for program in left.as_array().unwrap() {
        let id = program["program_id"].to_string();
        let _ = bpfman.run(&["unload", &id]).ok();
    }
    works(&bpfman, &object, &wire);
    assert_eq!(links(&bpfman), 0);
    assert_eq!(bpfman.pins(), Vec::<std::path::PathBuf>::new());
}

#[test]
fn run_is_wiped() {
    let Some((object, wire)) = parts("wiped") else {
        return;
    };
    let bpfman = Bpfman::new();
    let before = everywhere(&bpfman, &object, &wire);
    unmount(&bpfman, &before);
    std::fs::remove_dir_all(bpfman.runtime()).unwrap();
    // As on a machine where nothing was ever loaded; what is asked for by its id is named.
    let listed = json(&bpfman.run(&["list", "programs", "-o", "json"]));
    assert_eq!(listed.as_array().unwrap().len(), 0);
    assert_eq!(links(&bpfman), 0);
    for attached in &before {
        for refused in [
            attach(&bpfman, attached),
            bpfman.run(&["unload", &attached.program]),
        ] {
            let said = refused.failure();
            let id = &attached.program;
            let names = said.contains(&format!("no program with id {id}"))
                || said.contains(&format!("program {id} was not loaded by bpfman"));
            assert!(names, "{said}");
        }
    }
    works(&bpfman, &object, &wire);
    assert_eq!(bpfman.pins(), Vec::<std::path::PathBuf>::new());
}
