//! Packets on this machine's own kernel, between namespaces of the test: as root. Many test machines are in lockdown
//! and refuse EXT programs: there one program an interface works, attached directly.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod wire;

use std::collections::BTreeSet;
use std::path::Path;
use std::thread;

use bpfman_tests::cli::Bpfman;
use bpfman_tests::lanes;
use bpfman_tests::objects::{Object, Packets};
use serde_json::Value;
use tempfile::TempDir;

use wire::{Wire, json, load, seen, sh};

#[test]
fn one_program_an_interface_works_where_ext_programs_are_refused() {
    let Some(object) = Object::counting(Packets::EchoRequests) else {
        return;
    };
    let Some(wire) = Wire::new("direct") else {
        return;
    };
    let bpfman = Bpfman::new();
    let netns = wire.path();
    let xdp: &[&str] = &["xdp", "-i", "veth0", "-p", "50", "-n", &netns];
    let tc: &[&str] = &[
        "tc", "-d", "ingress", "-i", "veth0", "-p", "50", "-n", &netns,
    ];
    let cases = [
        ("xdp:on_xdp", xdp, vec!["pass", "dispatcher_return"]),
        ("tc:on_tc", tc, vec!["ok", "pipe", "dispatcher_return"]),
    ];
    for (program, hook, proceed_on) in cases {
        let arguments = [
            "load",
            "file",
            "--path",
            object.arg(),
            "--programs",
            program,
        ];
        let loaded = bpfman.run(&arguments);
        let first = loaded.field("Program ID");
        let second = load(&bpfman, &object, program);
        let direct = loaded.stderr.contains("without a dispatcher");
        println!(
            "{program}: attached {}",
            if direct { "directly" } else { "in a chain" }
        );

        let attach = |id: &str| {
            let mut arguments = vec!["attach", id];
            arguments.extend(hook);
            arguments.extend(["-o", "json"]);
            bpfman.run(&arguments)
        };
        let link = json(&attach(&first));
        let id = link["link_id"].to_string();
        // As ever.
        assert_eq!(link["attachment"]["position"], 0, "{link}");
        assert_eq!(
            link["attachment"]["proceed_on"],
            Value::from(proceed_on),
            "{link}"
        );
        assert_eq!(bpfman.run(&["get", "link", &id]).field("Position"), "0");
        let listed = bpfman.run(&["list", "links"]);
        assert!(
            listed.ok().contains("veth0") && listed.stdout.contains("pos-0"),
            "{listed:#?}"
        );
        wire.ping(3);
        assert_eq!(seen(&bpfman, &first), 3, "{program}");

        let again = attach(&second);
        if direct {
            let said = again.failure();
            for words in [
                format!("attaching program {second} to veth0"),
                format!("program {second} was loaded without a dispatcher"),
                format!("program {first} is attached there"),
                "EXT programs".to_owned(),
                format!("detach the link of program {first} first"),
                "lockdown".to_owned(),
            ] {
                assert!(said.contains(&words), "no {words:?} in {said}");
            }
        } else {
            assert_eq!(json(&again)["attachment"]["position"], 1);
        }
        // The first was not touched.
        wire.ping(2);
        assert_eq!(seen(&bpfman, &first), 5, "{program}");
        let _ = bpfman.run(&["unload", &first]).ok();
        // Now there is room.
        if direct {
            let _ = json(&attach(&second));
        }
        let before = seen(&bpfman, &second);
        wire.ping(2);
        assert_eq!(seen(&bpfman, &second) - before, 2, "{program}");
        let _ = bpfman.run(&["unload", &second]).ok();
        let here = wire.netns("here");
        let left = sh(&format!(
            "ip -n {here} link show dev veth0; ip netns exec {here} tc qdisc show dev veth0"
        ));
        let left = left.ok();
        assert!(!left.contains("xdp") && !left.contains("clsact"), "{left}");
    }
    assert_eq!(bpfman.pins(), Vec::<std::path::PathBuf>::new());
}

#[test]
fn fifty_commands_of_all_kinds_at_once_all_succeed() {
    let Some(object) = Object::counting(Packets::EchoRequests) else {
        return;
    };
    let Some(wire) = Wire::new("fifty") else {
        return;
    };
    if !lanes::tracefs() {
        return;
    }
    // They wait for each other: for as long as it takes where the machine has other things to do.
    let folder = TempDir::new().unwrap();
    let config = folder.path().join("bpfman.toml");
    std::fs::write(&config, "[database]\nmax_retries = 100\n").unwrap();
    let bpfman = Bpfman::new().env("BPFMAN_CONFIG", config.to_str().unwrap());
    let netns = wire.path();
    // The kernel takes a program once a tracepoint.
    let calls = [
        "kill",
        "tkill",
        "tgkill",
        "getpriority",
        "setpriority",
        "getrusage",
        "sysinfo",
        "times",
        "newuname",
        "umask",
        "getpgid",
        "setpgid",
        "getsid",
        "setsid",
        "getgroups",
        "setgroups",
        "sched_yield",
    ];
    let places = calls.map(|call| format!("syscalls/sys_enter_{call}"));
    let tracepoint = |n: usize| vec!["tracepoint", "-t", places[n].as_str()];
    let xdp = ["xdp", "-i", "veth0", "-p", "50", "-n", &netns];
    let tc = |direction| {
        [
            "tc", "-d", direction, "-i", "veth0", "-p", "50", "-n", &netns,
        ]
    };
    let attach = |id: &str, hook: &[&str]| {
        let mut arguments = vec!["attach", id];
        arguments.extend(hook);
        bpfman.run(&arguments).field("Link ID")
    };
    // Ten to be unloaded, ten links to be detached, and programs to be attached.
    let of_kill = "tracepoint:on_kill";
    let unloaded: Vec<String> = (0..10).map(|_| load(&bpfman, &object, of_kill)).collect();
    let stays = load(&bpfman, &object, of_kill);
    let detached: Vec<String> = (0..10).map(|n| attach(&stays, &tracepoint(n))).collect();
    let on_xdp = load(&bpfman, &object, "xdp:on_xdp");
    let on_tc = load(&bpfman, &object, "tc:on_tc");
    let mut hooks: Vec<(&String, Vec<&str>)> = vec![
        (&on_xdp, xdp.to_vec()),
        (&on_tc, tc("ingress").to_vec()),
        (&on_tc, tc("egress").to_vec()),
    ];
    hooks.extend((10..17).map(|n| (&stays, tracepoint(n))));

    let (loaded, attached) = thread::scope(|scope| {
        let (mut loads, mut attaches) = (Vec::new(), Vec::new());
        for n in 0..10 {
            loads.push(scope.spawn(|| load(&bpfman, &object, of_kill)));
            let (id, hook) = &hooks[n];
            attaches.push(scope.spawn(move || attach(id, hook)));
            scope.spawn(|| {
                let _ = bpfman.run(&["list", "links"]).ok();
            });
            let (link, id) = (&detached[n], &unloaded[n]);
            scope.spawn(|| {
                let _ = bpfman.run(&["detach", link]).ok();
            });
            scope.spawn(|| {
                let _ = bpfman.run(&["unload", id]).ok();
            });
        }
        let join = |threads: Vec<thread::ScopedJoinHandle<'_, String>>| -> BTreeSet<String> {
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .collect()
        };
        (join(loads), join(attaches))
    });
    assert_eq!((loaded.len(), attached.len()), (10, 10));

    // What is there is what was asked for, and it works.
    let listed = json(&bpfman.run(&["list", "programs", "-o", "json"]));
    let programs: BTreeSet<String> = listed
        .as_array()
        .unwrap()
        .iter()
        .map(|program| program["program_id"].to_string())
        .collect();
    let mut expected = loaded;
    expected.extend([stays.clone(), on_xdp.clone(), on_tc.clone()]);
    assert_eq!(programs, expected);
    let listed = json(&bpfman.run(&["list", "links", "-o", "json"]));
    let links: BTreeSet<String> = listed
        .as_array()
        .unwrap()
        .iter()
        .map(|link| link["link_id"].to_string())
        .collect();
    assert_eq!(links, attached);
    wire.ping(2);
    assert_eq!(seen(&bpfman, &on_xdp), 2);
    // The request came in; what went out was a reply.
    assert_eq!(seen(&bpfman, &on_tc), 2);
    for id in &expected {
        let _ = bpfman.run(&["unload", id]).ok();
    }
    assert_eq!(bpfman.pins(), Vec::<std::path::PathBuf>::new());
    assert!(Path::new(&netns).exists());
}
