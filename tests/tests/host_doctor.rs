//! `bpfman doctor` on this machine's own kernel, as root: what is broken by hand is named and mended.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::fs;
use std::process::Command;

use bpfman_tests::cli::{Bpfman, Outcome};
use bpfman_tests::lanes;
use bpfman_tests::objects::{Object, Packets};
use serde_json::Value;

/// A network namespace with its loopback interface.
struct Netns(String);

impl Netns {
    /// `None` after the test was skipped.
    fn new() -> Option<Self> {
        for tool in ["ip", "tc"] {
            lanes::tool(tool)?;
        }
        let netns = Self(format!("bpfman-doctor-{}", std::process::id()));
        let made = Command::new("ip").args(["netns", "add", &netns.0]).status();
        assert!(made.unwrap().success());
        netns.tool("ip", &["link", "set", "lo", "up"]);
        Some(netns)
    }

    /// Standard output of `ip` or `tc`, run in it.
    fn tool(&self, tool: &str, arguments: &[&str]) -> String {
        let output = Command::new(tool)
            .args(["-n", &self.0])
            .args(arguments)
            .output()
            .unwrap();
        assert!(output.status.success(), "{tool} {arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn path(&self) -> String {
        format!("/run/netns/{}", self.0)
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.0]).status();
    }
}

/// The words of the differences that a run of `doctor -o json` printed.
fn differences(outcome: &Outcome) -> Vec<String> {
    let found: Vec<Value> = serde_json::from_str(&outcome.stdout).unwrap();
    let word = |found: &Value| found["difference"].as_str().unwrap().to_owned();
    found.iter().map(word).collect()
}

#[test]
fn what_is_broken_by_hand_is_named_and_mended() {
    if !lanes::root() || !lanes::tracefs() {
        return;
    }
    let (Some(object), Some(netns)) = (Object::counting(Packets::All), Netns::new()) else {
        return;
    };
    let bpfman = Bpfman::new();
    let load = |program: &str| {
        let arguments = ["load", "file", "-p", object.arg(), "--programs", program];
        bpfman.run(&arguments).field("Program ID")
    };
    let path = netns.path();
    let on_lo = |id: &str, words: &[&str]| {
        let place = ["-i", "lo", "-p", "50", "-n", &path];
        let arguments = [&["attach", id], words, &place].concat();
        bpfman.run(&arguments).field("Link ID")
    };
    let agrees = || {
        let outcome = bpfman.run(&["doctor"]);
        assert_eq!(outcome.ok(), "Records, kernel and bpffs agree\n");
        assert_eq!(bpfman.run(&["doctor", "-o", "json"]).ok(), "[]\n");
    };
    agrees();
    let [kill, xdp, tc] = [
        "tracepoint:on_kill_with_a_long_name",
        "xdp:on_xdp",
        "tc:on_tc",
    ]
    .map(load);
    let arguments = [
        "attach",
        &kill,
        "tracepoint",
        "-t",
        "syscalls/sys_enter_kill",
    ];
    let traced = bpfman.run(&arguments).field("Link ID");
    let on_xdp = on_lo(&xdp, &["xdp"]);
    let on_tc = on_lo(&tc, &["tc", "-d", "ingress"]);
    agrees();

    let fs = bpfman.runtime().join("fs");
    // The XDP and TC programs live on by their hooks.
    fs::remove_file(fs.join(format!("prog_{tc}"))).unwrap();
    fs::remove_file(fs.join(format!("maps/{xdp}/seen"))).unwrap();
    fs::rename(fs.join(format!("links/{traced}")), fs.join("links/7")).unwrap();
    let link = bpfman
        .pins()
        .into_iter()
        .find(|pin| pin.to_string_lossy().ends_with("_link"));
    fs::remove_file(link.unwrap()).unwrap();
    fs::create_dir(fs.join("mine")).unwrap();
    let found = bpfman.run(&["doctor", "-o", "json"]);
    assert_eq!(found.status, Some(1), "{found:#?}");
    assert_eq!(
        differences(&found),
        [
            "program_unpinned",
            "map_unpinned",
            "link_gone",
            "chain_detached",
            "left_over",
            "unknown"
        ],
        "{found:#?}"
    );
    assert_eq!(
        found.stderr,
        "error: 6 of these differences are left\nhint: `bpfman doctor --repair` repairs 5 of them\n"
    );

    let repaired = bpfman.run(&["doctor", "--repair"]);
    assert_eq!(repaired.status, Some(1), "{repaired:#?}");
    assert_eq!(
        repaired.stdout.matches("; repaired\n").count(),
        5,
        "{repaired:#?}"
    );
    assert!(repaired.stdout.contains("/mine: "), "{repaired:#?}");
    fs::remove_dir(fs.join("mine")).unwrap();
    agrees();

    // Somebody removes the filter, with everything that clsact has.
    netns.tool("tc", &["qdisc", "del", "dev", "lo", "clsact"]);
    let found = bpfman.run(&["doctor", "-o", "json"]);
    assert_eq!(differences(&found), ["chain_detached"], "{found:#?}");
    let _ = bpfman.run(&["doctor", "--repair"]).ok();
    agrees();
    let filters = netns.tool("tc", &["filter", "show", "dev", "lo", "ingress"]);
    assert!(
        filters.contains("pref 50") && filters.contains("bpfman"),
        "{filters}"
    );
    assert!(netns.tool("ip", &["link", "show", "lo"]).contains("xdp"));
    let links = bpfman.run(&["list", "links"]);
    assert!(
        links.stdout.contains(&on_xdp) && links.stdout.contains(&on_tc),
        "{links:#?}"
    );
    assert!(!links.stdout.contains(&traced), "{links:#?}");

    for id in [kill, xdp, tc] {
        let _ = bpfman.run(&["unload", &id]).ok();
    }
    agrees();
    assert_eq!(bpfman.pins(), Vec::<std::path::PathBuf>::new());
    assert_eq!(
        netns.tool("tc", &["qdisc", "show", "dev", "lo", "clsact"]),
        ""
    );
}

#[test]
fn after_bpffs_was_unmounted_one_command_cleans_up() {
    let Some(object) = Object::example("tracepoint-counter") else {
        return;
    };
    if !lanes::root() || !lanes::tracefs() || lanes::tool("umount").is_none() {
        return;
    }
    let bpfman = Bpfman::new();
    let program = "tracepoint:tracepoint_kill_recorder";
    let arguments = ["load", "file", "-p", object.arg(), "--programs", program];
    let id = bpfman.run(&arguments).field("Program ID");
    let arguments = ["attach", &id, "tracepoint", "-t", "syscalls/sys_enter_kill"];
    let _ = bpfman.run(&arguments).ok();
    bpfman.unmount(&[&id]);
    let found = bpfman.run(&["doctor", "-o", "json"]);
    assert_eq!(
        differences(&found),
        ["bpffs_not_mounted", "program_gone", "link_gone"],
        "{found:#?}"
    );
    let _ = bpfman.run(&["doctor", "--repair"]).ok();
    assert_eq!(
        bpfman.run(&["doctor"]).ok(),
        "Records, kernel and bpffs agree\n"
    );
    assert_eq!(bpfman.run(&["list", "programs", "-o", "json"]).ok(), "[]\n");
}
