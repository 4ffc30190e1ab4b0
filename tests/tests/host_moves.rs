//! Interfaces that are renamed, swapped, moved to another network namespace, deleted, and whose numbers are given out
//! again, on this machine's own kernel, as root: `list`, `get`, `doctor`, `doctor --repair`, `detach` and `unload` in each
//! of these states.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod shell;

use bpfman_tests::cli::Bpfman;
use bpfman_tests::lanes;
use bpfman_tests::objects::{Object, Packets};
use serde_json::Value;

use shell::{json, load, sh};

/// Two namespaces that this test alone uses.
struct Spaces {
    here: String,
    there: String,
}

impl Spaces {
    /// `None` after the test was skipped.
    fn new(name: &str) -> Option<Self> {
        for tool in ["ip", "tc"] {
            lanes::tool(tool)?;
        }
        if !lanes::root() {
            return None;
        }
        let name = format!("bpfman-{name}-{}", std::process::id());
        let spaces = Self {
            here: format!("{name}-here"),
            there: format!("{name}-there"),
        };
        let made = sh(&format!(
            "set -e; ip netns add {here}; ip netns add {there}; {}",
            pair(&spaces.here, "mv0", 700),
            here = spaces.here,
            there = spaces.there,
        ));
        if made.status != Some(0) {
            lanes::skip_or_fail(&format!("no veth on this machine: {}", made.stderr));
            return None;
        }
        Some(spaces)
    }

    /// `ip` in the first namespace.
    fn ip(&self, arguments: &str) {
        let _ = sh(&format!("ip -n {} {arguments}", self.here)).ok();
    }

    fn rename(&self, from: &str, to: &str) {
        self.ip(&format!("link set dev {from} down"));
        self.ip(&format!("link set dev {from} name {to}"));
        self.ip(&format!("link set dev {to} up"));
    }

    fn path(end: &str) -> String {
        format!("/run/netns/{end}")
    }
}

impl Drop for Spaces {
    fn drop(&mut self) {
        let _ = sh(&format!(
            "ip netns del {}; ip netns del {}",
            self.here, self.there
        ));
    }
}

/// The command that makes a veth pair in a namespace.
fn pair(netns: &str, name: &str, index: u32) -> String {
    format!(
        "ip -n {netns} link add {name} index {index} type veth peer name {name}p; \
         ip -n {netns} link set {name} up; ip -n {netns} link set {name}p up"
    )
}

/// A hook of each kind.
const HOOKS: [(&str, &str); 3] = [
    ("xdp:on_xdp", "xdp"),
    ("tc:on_tc", "tc -d ingress"),
    ("tcx:on_tcx", "tcx -d ingress"),
];

/// A program that is attached, by its id and its link's.
struct Attached {
    program: String,
    link: String,
}

fn attach(
    bpfman: &Bpfman,
    object: &Object,
    (program, hook): (&str, &str),
    iface: &str,
    netns: &str,
) -> Attached {
    let program = load(bpfman, object, program);
    let netns = Spaces::path(netns);
    let mut arguments = vec!["attach", &program];
    arguments.extend(hook.split(' '));
    arguments.extend(["-i", iface, "-p", "50", "-n", &netns]);
    let link = bpfman.run(&arguments).field("Link ID");
    Attached { program, link }
}

/// Name, namespace, index and state of a link, as each of the commands shows it.
fn shown(bpfman: &Bpfman, link: &str) -> (String, String, u64, bool) {
    let found = json(&bpfman.run(&["get", "link", link, "-o", "json"]));
    let listed = json(&bpfman.run(&["list", "links", "-o", "json"]));
    let listed = listed.as_array().unwrap();
    assert!(listed.contains(&found), "{listed:?}");
    let place = &found["attachment"];
    let name = place["interface"].as_str().unwrap().to_owned();
    let table = bpfman.run(&["list", "links"]);
    assert!(table.ok().contains(&name), "{}", table.stdout);
    assert_eq!(bpfman.run(&["get", "link", link]).field("Interface"), name);
    (
        name,
        place["network_namespace"].as_str().unwrap_or("").to_owned(),
        place["ifindex"].as_u64().unwrap(),
        found["gone"].as_bool().unwrap(),
    )
}

fn differences(bpfman: &Bpfman) -> Vec<String> {
    let found = bpfman.run(&["doctor", "-o", "json"]);
    let found: Vec<Value> = serde_json::from_str(&found.stdout).unwrap();
    let word = |found: &Value| found["difference"].as_str().unwrap().to_owned();
    found.iter().map(word).collect()
}

fn repaired(bpfman: &Bpfman) {
    let _ = bpfman.run(&["doctor", "--repair"]).ok();
    assert_eq!(differences(bpfman), [""; 0]);
}

/// The programs and their links go, and nothing is left.
fn ends(bpfman: &Bpfman, detached: &[&Attached], unloaded: &[&Attached]) {
    for attached in detached {
        let _ = bpfman
            .run(&["detach", &attached.link, "--ignore-missing"])
            .ok();
        assert_eq!(differences(bpfman), [""; 0]);
    }
    for attached in detached.iter().chain(unloaded) {
        let _ = bpfman.run(&["unload", &attached.program]).ok();
    }
    assert_eq!(differences(bpfman), [""; 0]);
    assert_eq!(
        json(&bpfman.run(&["list", "links", "-o", "json"])),
        Value::Array(Vec::new())
    );
}

fn each_hook(name: &str, test: impl Fn(&Bpfman, &Object, &Spaces, (&str, &str))) {
    for (number, hook) in HOOKS.into_iter().enumerate() {
        let Some(object) = Object::counting(Packets::All) else {
            return;
        };
        let Some(spaces) = Spaces::new(&format!("{name}{number}")) else {
            return;
        };
        test(&Bpfman::new(), &object, &spaces, hook);
    }
}

#[test]
fn renamed_interface_is_shown_by_its_new_name() {
    each_hook("rename", |bpfman, object, spaces, hook| {
        let first = attach(bpfman, object, hook, "mv0", &spaces.here);
        spaces.rename("mv0", "mv2");
        let here = Spaces::path(&spaces.here);
        assert_eq!(shown(bpfman, &first.link), ("mv2".into(), here, 700, false));
        let found = json(&bpfman.run(&["get", "link", &first.link, "-o", "json"]));
        assert_eq!(found["attachment"]["interface_at_attach"], "mv0");
        assert_eq!(differences(bpfman), [""; 0]);
        ends(bpfman, &[&first], &[]);
    });
}

#[test]
fn swapped_names_do_not_mix_links() {
    each_hook("swap", |bpfman, object, spaces, hook| {
        let _ = sh(&pair(&spaces.here, "mv3", 703)).ok();
        let first = attach(bpfman, object, hook, "mv0", &spaces.here);
        for (from, to) in [("mv0", "tmp"), ("mv3", "mv0"), ("tmp", "mv3")] {
            spaces.rename(from, to);
        }
        let second = attach(bpfman, object, hook, "mv0", &spaces.here);
        let here = Spaces::path(&spaces.here);
        assert_eq!(
            shown(bpfman, &first.link),
            ("mv3".into(), here.clone(), 700, false)
        );
        assert_eq!(
            shown(bpfman, &second.link),
            ("mv0".into(), here, 703, false)
        );
        assert_eq!(differences(bpfman), [""; 0]);
        ends(bpfman, &[&first], &[&second]);
    });
}

#[test]
fn moved_interface_is_found_where_it_is() {
    each_hook("move", |bpfman, object, spaces, hook| {
        let first = attach(bpfman, object, hook, "mv0", &spaces.here);
        spaces.ip(&format!("link set mv0 netns {}", spaces.there));
        let there = Spaces::path(&spaces.there);
        if hook.1.starts_with("tc ") {
            // The kernel drops the qdisc.
            assert!(shown(bpfman, &first.link).3);
            assert_eq!(differences(bpfman), ["chain_stopped"]);
            repaired(bpfman);
            return ends(bpfman, &[], &[&first]);
        }
        assert_eq!(
            shown(bpfman, &first.link),
            ("mv0".into(), there, 700, false)
        );
        assert_eq!(differences(bpfman), [""; 0]);
        // A new interface gets its number, and its name.
        let _ = sh(&pair(&spaces.here, "new0", 700)).ok();
        let second = attach(bpfman, object, hook, "new0", &spaces.here);
        assert_eq!(shown(bpfman, &first.link).1, Spaces::path(&spaces.there));
        assert_eq!(
            shown(bpfman, &second.link),
            ("new0".into(), Spaces::path(&spaces.here), 700, false)
        );
        assert_eq!(differences(bpfman), [""; 0]);
        // Our own program on the moved interface is ours: without chains it is named as the holder, else joined.
        let other = load(bpfman, object, hook.0);
        let there = Spaces::path(&spaces.there);
        let mut arguments = vec!["attach", &other];
        arguments.extend(hook.1.split(' '));
        arguments.extend(["-i", "mv0", "-p", "60", "-n", &there]);
        let joined = bpfman.run(&arguments);
        if joined.status != Some(0) {
            let text = &joined.stderr;
            assert!(
                text.contains(&format!("program {} is attached", first.program)),
                "{text}"
            );
        }
        assert_eq!(shown(bpfman, &first.link).1, there);
        assert_eq!(differences(bpfman), [""; 0]);
        let _ = bpfman.run(&["unload", &other]).ok();
        ends(bpfman, &[&first], &[&second]);
    });
}

#[test]
fn moved_and_back_is_as_before() {
    each_hook("back", |bpfman, object, spaces, hook| {
        let first = attach(bpfman, object, hook, "mv0", &spaces.here);
        spaces.ip(&format!("link set mv0 netns {}", spaces.there));
        let _ = sh(&format!(
            "ip -n {} link set mv0 netns {}",
            spaces.there, spaces.here
        ))
        .ok();
        let here = Spaces::path(&spaces.here);
        let lost = hook.1.starts_with("tc ");
        let (name, netns, index, gone) = shown(bpfman, &first.link);
        assert_eq!(
            (name.as_str(), &netns, index, gone),
            ("mv0", &here, 700, lost)
        );
        if lost {
            assert_eq!(differences(bpfman), ["chain_detached"]);
        }
        repaired(bpfman);
        assert!(!shown(bpfman, &first.link).3);
        ends(bpfman, &[&first], &[]);
    });
}

#[test]
fn deleted_interface_is_forgotten_by_repair() {
    each_hook("gone", |bpfman, object, spaces, hook| {
        let first = attach(bpfman, object, hook, "mv0", &spaces.here);
        spaces.ip("link del mv0");
        assert_eq!(shown(bpfman, &first.link).0, "mv0");
        assert!(shown(bpfman, &first.link).3);
        let stopped = if hook.1.starts_with("tcx") {
            "link_stopped"
        } else {
            "chain_stopped"
        };
        assert_eq!(differences(bpfman), [stopped]);
        repaired(bpfman);
        ends(bpfman, &[], &[&first]);
    });
}

#[test]
fn deleted_namespace_stops_nothing() {
    each_hook("netns", |bpfman, object, spaces, hook| {
        let first = attach(bpfman, object, hook, "mv0", &spaces.here);
        let second = attach(bpfman, object, hook, "mv0p", &spaces.here);
        let _ = sh(&format!("ip netns del {}", spaces.here)).ok();
        // The kernel ends a namespace some time later.
        for _ in 0..200 {
            let gone = |link: &str| {
                json(&bpfman.run(&["get", "link", link, "-o", "json"]))["gone"] == true
            };
            if gone(&first.link) && gone(&second.link) {
                break;
            }
            let _ = sh("ip netns list-id >/dev/null; :");
        }
        assert!(shown(bpfman, &first.link).3, "{}", hook.0);
        for link in [&first.link, &second.link] {
            let _ = bpfman.run(&["detach", link]).ok();
        }
        ends(bpfman, &[], &[&first, &second]);
    });
}

#[test]
fn number_of_a_deleted_interface_passes_nothing_on() {
    each_hook("reuse", |bpfman, object, spaces, hook| {
        let first = attach(bpfman, object, hook, "mv0", &spaces.here);
        spaces.ip("link del mv0");
        let _ = sh(&pair(&spaces.here, "new0", 700)).ok();
        let (name, _, _, gone) = shown(bpfman, &first.link);
        assert_eq!((name.as_str(), gone), ("mv0", true));
        let stopped = if hook.1.starts_with("tcx") {
            "link_stopped"
        } else {
            "chain_stopped"
        };
        assert_eq!(differences(bpfman), [stopped]);
        repaired(bpfman);
        let other = sh(&format!(
            "ip -n {0} -d link show new0; tc -n {0} qdisc show dev new0",
            spaces.here
        ));
        assert!(!other.stdout.contains("prog/xdp"), "{}", other.stdout);
        assert!(!other.stdout.contains("clsact"), "{}", other.stdout);
        let second = attach(bpfman, object, hook, "new0", &spaces.here);
        assert_eq!(shown(bpfman, &second.link).0, "new0");
        ends(bpfman, &[&second], &[&first]);
    });
}

#[test]
fn alternative_names_of_any_length_are_found() {
    each_hook("alt", |bpfman, object, spaces, hook| {
        let names = [
            "short0".to_owned(),
            "u".repeat(16),
            "uplink-to-the-core-switch".into(),
            "n".repeat(127),
        ];
        for name in names {
            spaces.ip(&format!("link property add dev mv0 altname {name}"));
            let first = attach(bpfman, object, hook, &name, &spaces.here);
            assert_eq!(shown(bpfman, &first.link).0, "mv0");
            assert_eq!(differences(bpfman), [""; 0]);
            ends(bpfman, &[&first], &[]);
        }
        let program = load(bpfman, object, hook.0);
        let netns = Spaces::path(&spaces.here);
        for name in ["m".repeat(127), "m".repeat(128), "m".repeat(5000)] {
            let mut arguments = vec!["attach", &program];
            arguments.extend(hook.1.split(' '));
            arguments.extend(["-i", &name, "-p", "50", "-n", &netns]);
            let refused = bpfman.run(&arguments);
            assert_eq!(refused.status, Some(1));
            assert!(
                refused.stderr.contains("no interface"),
                "{}",
                refused.stderr
            );
        }
    });
}

#[test]
fn tcx_link_above_the_limit_names_it() {
    let (Some(object), Some(spaces)) = (Object::counting(Packets::All), Spaces::new("full")) else {
        return;
    };
    let bpfman = Bpfman::new();
    let hook = HOOKS[2];
    let mut all = Vec::new();
    for _ in 0..63 {
        all.push(attach(&bpfman, &object, hook, "mv0", &spaces.here));
    }
    let links = json(&bpfman.run(&["list", "links", "-o", "json"]));
    let mut positions: Vec<u64> = links
        .as_array()
        .unwrap()
        .iter()
        .map(|link| link["attachment"]["position"].as_u64().unwrap())
        .collect();
    positions.sort_unstable();
    assert_eq!(positions, (0..63).collect::<Vec<u64>>());
    let program = load(&bpfman, &object, hook.0);
    let netns = Spaces::path(&spaces.here);
    for priority in ["50", "1"] {
        let refused = bpfman.run(&[
            "attach", &program, "tcx", "-d", "ingress", "-i", "mv0", "-p", priority, "-n", &netns,
        ]);
        assert_eq!(refused.status, Some(1));
        let text = &refused.stderr;
        assert!(
            text.contains("has 63 programs") && text.contains("BPF_MPROG_MAX"),
            "{text}"
        );
    }
}

#[test]
fn xdp_mode_is_shown() {
    let (Some(object), Some(spaces)) = (Object::counting(Packets::All), Spaces::new("mode")) else {
        return;
    };
    let bpfman = Bpfman::new();
    let netns = Spaces::path(&spaces.here);
    for (iface, asked, expected) in [
        ("mv0", None, "drv"),
        ("mv0", Some("drv"), "drv"),
        ("mv0", Some("skb"), "skb"),
        ("lo", None, "skb"),
    ] {
        let program = load(&bpfman, &object, "xdp:on_xdp");
        let mut arguments = vec![
            "attach", &program, "xdp", "-i", iface, "-p", "50", "-n", &netns,
        ];
        arguments.extend(asked.iter().flat_map(|mode| ["--mode", mode]));
        let attached = bpfman.run(&arguments);
        assert_eq!(attached.field("XDP Mode"), expected, "{iface} {asked:?}");
        let link = attached.field("Link ID");
        assert_eq!(
            bpfman.run(&["get", "link", &link]).field("XDP Mode"),
            expected
        );
        let found = json(&bpfman.run(&["get", "link", &link, "-o", "json"]));
        assert_eq!(found["attachment"]["mode"], expected);
        let _ = bpfman.run(&["unload", &program]).ok();
    }
}
