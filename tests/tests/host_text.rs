//! Text of any length and with any characters, results that cannot be printed, and want of descriptors, on this machine's
//! own kernel, as root.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod shell;

use std::fs::OpenOptions;

use bpfman_tests::cli::{Bpfman, Outcome};
use bpfman_tests::lanes;
use bpfman_tests::objects::{Object, Packets};

use shell::{json, load, sh};

/// Characters that no terminal may see: ESC, DEL, C1, a zero-width space, an override of direction, an isolate.
const HIDDEN: [char; 6] = [
    '\u{1b}', '\u{7f}', '\u{9b}', '\u{200b}', '\u{202e}', '\u{2066}',
];

fn parts() -> Option<(Bpfman, Object)> {
    if !lanes::root() || !lanes::tracefs() {
        return None;
    }
    let object = Object::counting(Packets::All)?;
    Some((Bpfman::new(), object))
}

fn assert_safe(outcome: &Outcome) {
    for text in [&outcome.stdout, &outcome.stderr] {
        let found = text.chars().find(|c| HIDDEN.contains(c));
        assert_eq!(found, None, "{text:?}");
    }
}

#[test]
fn metadata_above_its_cap_is_refused_before_anything_is_loaded() {
    let Some((bpfman, object)) = parts() else {
        return;
    };
    let file = [
        "load",
        "file",
        "-p",
        object.arg(),
        "--programs",
        "tracepoint:on_kill",
    ];
    let value = |length: usize| "m".repeat(length);
    let many: Vec<String> = (0..17)
        .map(|key| format!("{key}={}", value(4096)))
        .collect();
    let long_value = format!("k={}", value(70_000));
    let long_key = format!("{}=v", value(257));
    let mut cases: Vec<Vec<&str>> = vec![vec!["-m", &long_value], vec!["-m", &long_key]];
    let application = value(4097);
    cases.push(vec!["-a", &application]);
    cases.push(many.iter().flat_map(|pair| ["-m", pair.as_str()]).collect());
    for case in cases {
        let outcome = bpfman.run(&[&file[..], &case].concat());
        let text = outcome.failure();
        assert!(text.contains("the most is"), "{text}");
    }
    // What is refused made nothing: not even the runtime folder.
    assert!(!bpfman.runtime().join("fs").exists());
    let whole = value(4096);
    let program = bpfman
        .run(&[&file[..], &["-a", &whole]].concat())
        .field("Program ID");
    let found = json(&bpfman.run(&["list", "programs", "-o", "json"]));
    assert_eq!(found[0]["application"], whole);
    assert!(bpfman.run(&["list", "programs"]).ok().contains('…'));
    assert!(bpfman.run(&["get", "program", &program]).ok().contains('…'));
    let attach = [
        "attach",
        &program,
        "tracepoint",
        "-t",
        "syscalls/sys_enter_kill",
    ];
    let refused = bpfman.run(&[&attach[..], &["-m", &long_value]].concat());
    assert!(
        refused.failure().contains("the most is"),
        "{}",
        refused.stderr
    );
    assert_eq!(
        json(&bpfman.run(&["list", "links", "-o", "json"])),
        serde_json::json!([])
    );
    let _ = bpfman.run(&["unload", &program]).ok();
}

#[test]
fn hidden_characters_reach_no_terminal() {
    let Some((bpfman, object)) = parts() else {
        return;
    };
    if lanes::tool("ip").is_none() {
        return;
    }
    let bad: String = HIDDEN.iter().collect();
    let name = format!("a{bad}b");
    let program = bpfman.run(&[
        "load",
        "file",
        "-p",
        object.arg(),
        "--programs",
        "xdp:on_xdp",
        "-a",
        &name,
        "-m",
        &format!("owner={name}"),
    ]);
    assert_safe(&program);
    let id = program.field("Program ID");
    for arguments in [
        vec!["list", "programs"],
        vec!["list", "programs", "-o", "json"],
        vec!["get", "program", &id],
        vec!["get", "program", &id, "-o", "json"],
    ] {
        let outcome = bpfman.run(&arguments);
        let _ = outcome.ok();
        assert_safe(&outcome);
    }
    let found = json(&bpfman.run(&["get", "program", &id, "-o", "json"]));
    assert_eq!(found["bpfman_state"]["metadata"]["owner"], name);
    // Messages: names of files, images, interfaces and programs, and wrong usage.
    for arguments in [
        vec!["load", "file", "-p", &name, "--programs", "xdp:on_xdp"],
        vec![
            "load",
            "file",
            "-p",
            object.arg(),
            "--programs",
            &format!("xdp:{name}"),
        ],
        vec!["attach", &id, "xdp", "-i", &name, "-p", "50"],
        vec!["attach", &id, "xdp", "-i", "lo", "-p", "50", "-n", &name],
        vec!["load", "image", "-i", &name, "--programs", "xdp:on_xdp"],
        vec!["image", "inspect", &name],
        vec![&name],
        vec!["unload", &name],
        vec!["list", "programs", "--output", &name],
    ] {
        let outcome = bpfman.run(&arguments);
        assert_ne!(outcome.status, Some(0), "{arguments:?}");
        assert_safe(&outcome);
    }
    // The kernel takes such a name for an interface.
    let netns = format!("bpfman-text-{}", std::process::id());
    let iface = "e\u{1b}[31m\u{9b}0";
    let made = sh(&format!(
        "ip netns add {netns} && ip -n {netns} link add '{iface}' type dummy"
    ));
    if made.status == Some(0) {
        let path = format!("/run/netns/{netns}");
        let attached = bpfman.run(&["attach", &id, "xdp", "-i", iface, "-p", "50", "-n", &path]);
        let _ = attached.ok();
        assert_safe(&attached);
        for arguments in [vec!["list", "links"], vec!["list", "links", "-o", "json"]] {
            let outcome = bpfman.run(&arguments);
            let _ = outcome.ok();
            assert_safe(&outcome);
        }
        let found = json(&bpfman.run(&["list", "links", "-o", "json"]));
        assert_eq!(found[0]["attachment"]["interface"], iface);
    }
    let _ = sh(&format!("ip netns del {netns}"));
    assert_safe(&bpfman.run(&["doctor"]));
    let _ = bpfman.run(&["unload", &id]).ok();
}

#[test]
fn result_that_cannot_be_printed_leaves_what_was_done_and_says_so() {
    let Some((bpfman, object)) = parts() else {
        return;
    };
    let full = |arguments: &[&str]| {
        let device = OpenOptions::new().write(true).open("/dev/full").unwrap();
        let output = bpfman.command(arguments).stdout(device).output().unwrap();
        Outcome::of(&output)
    };
    for format in ["table", "json"] {
        let loaded = full(&[
            "load",
            "file",
            "-p",
            object.arg(),
            "--programs",
            "tracepoint:on_kill",
            "-o",
            format,
        ]);
        let programs = json(&bpfman.run(&["list", "programs", "-o", "json"]));
        let id = programs[0]["program_id"].to_string();
        let text = loaded.failure();
        assert!(
            text.contains(&format!("program {id} is loaded and stays loaded")),
            "{text}"
        );
        assert!(text.contains("No space left"), "{text}");
        assert!(text.contains(&format!("bpfman unload {id}")), "{text}");
        let attached = full(&[
            "attach",
            &id,
            "tracepoint",
            "-t",
            "syscalls/sys_enter_kill",
            "-o",
            format,
        ]);
        let links = json(&bpfman.run(&["list", "links", "-o", "json"]));
        let link = links[0]["link_id"].to_string();
        let text = attached.failure();
        assert!(
            text.contains(&format!("link {link} of program {id} is attached")),
            "{text}"
        );
        for arguments in [
            vec!["list", "programs"],
            vec!["get", "link", &link],
            vec!["list", "links", "-o", "json"],
        ] {
            let text = full(&arguments).failure().to_owned();
            assert!(text.contains("writing to standard output"), "{text}");
        }
        let _ = bpfman.run(&["detach", &link]).ok();
        let _ = bpfman.run(&["unload", &id]).ok();
    }
    // Several programs.
    let loaded = full(&[
        "load",
        "file",
        "-p",
        object.arg(),
        "--programs",
        "tracepoint:on_kill",
        "tc:on_tc",
    ]);
    let text = loaded.failure().to_owned();
    let programs = json(&bpfman.run(&["list", "programs", "-o", "json"]));
    for program in programs.as_array().unwrap() {
        let id = program["program_id"].to_string();
        assert!(text.contains(&id), "{text}");
        let _ = bpfman.run(&["unload", &id]).ok();
    }
    assert!(text.contains("are loaded and stay loaded"), "{text}");
}

#[test]
fn want_of_descriptors_is_not_a_refusal_of_the_verifier() {
    let Some((bpfman, object)) = parts() else {
        return;
    };
    // The runtime folder and its records.
    let first = load(&bpfman, &object, "tracepoint:on_kill");
    let arguments = [
        "load",
        "file",
        "-p",
        object.arg(),
        "--programs",
        "tracepoint:on_kill",
    ];
    let mut failed = 0;
    for limit in 4..100 {
        let prlimit = format!("--nofile={limit}");
        if lanes::tool("prlimit").is_none() {
            return;
        }
        let outcome = bpfman.run_by(&["prlimit", &prlimit], &arguments);
        if outcome.status == Some(0) {
            let _ = bpfman.run(&["unload", &outcome.field("Program ID")]).ok();
            break;
        }
        let text = &outcome.stderr;
        assert!(!text.contains("verifier"), "{limit}: {text}");
        assert!(!text.contains("panicked"), "{limit}: {text}");
        failed += 1;
    }
    assert!(failed > 0, "no limit was too low");
    let _ = bpfman.run(&["unload", &first]).ok();
    let _ = bpfman.run(&["doctor"]).ok();
}
