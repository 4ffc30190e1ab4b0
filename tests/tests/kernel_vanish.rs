//! An interface, a namespace or the runtime folder goes away under chains: it is named, and the next command works. In a
//! VM. A binary that is replaced is in `kernel_probes.rs`, an unmounted bpffs in `host_vanish.rs`.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use bpfman_tests::objects::{Object, Packets};
use bpfman_tests::vm::{HELPERS, Vm, VmOutcome};

const SETUP: &str = r#"
wire
xdp=$(load program.o xdp:on_xdp) tc=$(load program.o tc:on_tc) kill=$(load program.o tracepoint:on_kill)
# A command's exit status and what it says, in one line
tell() {
    name=$1
    shift
    status=0
    "$@" >/tmp/out 2>/tmp/err || status=$?
    echo "$name=$status $(wc -l </tmp/err) $(tr '\n' ' ' </tmp/err)"
}
on_veth0() { # OPTION…
    attach "$xdp" xdp -i veth0 -p 50 "$@"
    attach "$xdp" xdp -i veth0 -p 60 "$@"
    attach "$tc" tc -d ingress -i veth0 -p 50 "$@"
    attach "$tc" tc -d ingress -i veth0 -p 60 "$@"
    attach "$tc" tc -d egress -i veth0 -p 50 "$@"
}
links() { bpfman list links | awk 'NR > 1 { print $2 }'; }
listed() { echo "$1=$(bpfman list links | awk 'NR > 1' | wc -l)"; }
# Everything works: packets and calls are counted by programs that are attached now
works() {
    made=$(on_veth0 2>/tmp/said)
    was="$(value "$xdp" seen) $(value "$tc" seen)"
    ping_from_peer -c 1 >/dev/null
    now="$(value "$xdp" seen) $(value "$tc" seen)"
    # Each of the five was there, so more than two of each kind counted.
    awk -v name="$1" -v was="$was" -v now="$now" 'BEGIN {
        split(was, a); split(now, b)
        print name "=" (b[1] - a[1] >= 2 && b[2] - a[2] >= 3 ? "yes" : "no: " was " / " now)
    }'
    for link in $made; do bpfman detach "$link"; done
}
over() {
    for id in $(bpfman list programs | awk 'NR > 1 { print $1 }'); do bpfman unload "$id"; done
    left_behind | sed 's/^/LEFT /'
}
"#;

fn run(script: &str) -> Option<VmOutcome> {
    let object = Object::counting(Packets::All)?;
    let vm = Vm::new()?
        .tool("bpftool")?
        .option("--limit", "300")
        .file(object.path(), "/root/program.o");
    Some(vm.run(&format!("{HELPERS}{SETUP}{script}")))
}

/// The line of a command: its exit status is asserted, that its message has one to `lines` lines, and all of the words.
fn told(outcome: &VmOutcome, name: &str, status: u32, lines: u32, words: &[&str]) {
    let line = outcome.value(name);
    let mut parts = line.splitn(3, ' ');
    let mut number = || parts.next().unwrap().parse::<u32>().unwrap();
    assert_eq!(number(), status, "{name}: {line}");
    let found = number();
    assert!(
        found <= lines && (found > 0 || words.is_empty()),
        "{name}: {line}"
    );
    for word in words {
        assert!(line.contains(word), "{name}: no {word:?} in {line}");
    }
}

fn nothing_left(outcome: &VmOutcome) {
    assert!(!outcome.ok().contains("LEFT "), "{}", outcome.output);
}

#[test]
fn an_interface_is_deleted() {
    let script = r#"
made=$(on_veth0)
ip link del veth0
listed LISTED
tell ATTACH bpfman attach "$xdp" xdp -i veth0 -p 70
tell GET bpfman get program "$xdp"
for link in $made; do tell "DETACH_$((++n))" bpfman detach "$link"; done
listed REST
ip netns del peer
wire
works AGAIN
# The same, without a word to bpfman before another interface of that name is there.
on_veth0 >/dev/null
ip link del veth0
ip netns del peer
wire
tell TAKES_OVER bpfman attach "$xdp" xdp -i veth0 -p 70
tell UNLOAD bpfman unload "$tc"
listed LEFT_OF_XDP
over
"#;
    let script = format!("n=0\n{script}").replace("$((++n))", "$((n = n + 1))");
    let Some(outcome) = run(&script) else { return };
    let _ = outcome.ok();
    assert_eq!(outcome.value("LISTED"), "5");
    told(&outcome, "ATTACH", 1, 3, &["no interface `veth0`"]);
    told(&outcome, "GET", 0, 0, &[]);
    for n in 1..=5 {
        told(&outcome, &format!("DETACH_{n}"), 0, 1, &[]);
    }
    assert_eq!(outcome.value("REST"), "0");
    assert_eq!(outcome.value("AGAIN"), "yes");
    told(&outcome, "TAKES_OVER", 0, 1, &[]);
    told(&outcome, "UNLOAD", 0, 1, &[]);
    nothing_left(&outcome);
}

#[test]
fn a_namespace_is_deleted() {
    let script = r#"
peer="-n /run/netns/peer"
# veth1 is veth0 of the other side
in_peer() {
    # shellcheck disable=SC2086
    {
        attach "$xdp" xdp -i veth1 -p 50 $peer
        attach "$xdp" xdp -i veth1 -p 60 $peer
        attach "$tc" tc -d ingress -i veth1 -p 50 $peer
        attach "$tc" tc -d egress -i veth1 -p 50 $peer
    }
}
made=$(in_peer)
ip netns del peer
eventually no_veth0
listed LISTED
# shellcheck disable=SC2086
tell ATTACH bpfman attach "$xdp" xdp -i veth1 -p 70 $peer
n=0
for link in $made; do n=$((n + 1)); tell "DETACH_$n" bpfman detach "$link"; done
listed REST
wire
works AGAIN
in_peer >/dev/null
ip netns del peer
eventually no_veth0
tell UNLOAD_1 bpfman unload "$xdp"
tell UNLOAD_2 bpfman unload "$tc"
listed NONE
over
"#;
    let Some(outcome) = run(script) else { return };
    let _ = outcome.ok();
    assert_eq!(outcome.value("LISTED"), "4");
    told(
        &outcome,
        "ATTACH",
        1,
        3,
        &["/run/netns/peer", "No such file"],
    );
    for n in 1..=4 {
        told(&outcome, &format!("DETACH_{n}"), 0, 1, &[]);
    }
    assert_eq!(outcome.value("REST"), "0");
    assert_eq!(outcome.value("AGAIN"), "yes");
    told(&outcome, "UNLOAD_1", 0, 1, &[]);
    told(&outcome, "UNLOAD_2", 0, 1, &[]);
    assert_eq!(outcome.value("NONE"), "0");
    nothing_left(&outcome);
}

#[test]
fn the_runtime_folder_is_wiped_and_filters_stay() {
    let script = r#"
fresh() { xdp=$(load program.o xdp:on_xdp) tc=$(load program.o tc:on_tc); }
unmounted() { umount /run/bpfman/fs && rm -r /run/bpfman; }
# What is a mount point cannot be removed, only all that is in it.
emptied() { rm -rf /run/bpfman 2>/dev/null || [ -z "$(ls -A /run/bpfman/fs)" ]; }
# doctor NAME [OPTION]…: its exit status and the differences, in one line; what it says, in lines
doctor() {
    name=$1 status=0
    shift
    bpfman doctor "$@" >/tmp/found 2>/dev/null || status=$?
    sed "s/^/SAYS $name /" /tmp/found
    bpfman doctor -o json >/tmp/found 2>/dev/null || true
    echo "$name=$status $(sed -n 's/.*"difference": "\([a-z_]*\)".*/\1/p' /tmp/found | tr '\n' ' ')"
}
for wiped in unmounted emptied; do
    on_veth0 >/dev/null 2>&1
    old=$tc
    "$wiped"
    traffic | grep -c ' bpfman direct-action ' | sed "s/^/OLD_$wiped=/"
    doctor "NAMED_$wiped"
    listed "LISTED_$wiped"
    tell "UNLOAD_$wiped" bpfman unload "$old"
    # Beside what is left, which never sees a packet then.
    fresh
    works "WORKS_$wiped"
    doctor "STILL_$wiped" --repair
    # As it says.
    sed -n 's/.*`\(tc filter del [^`]*\)`.*/\1/p' /tmp/found >/tmp/by-hand
    sh -e /tmp/by-hand
    doctor "MENDED_$wiped"
    works "AFTER_$wiped"
done
over
traffic | grep filter | sed 's/^/LEFT /'
"#;
    let Some(outcome) = run(script) else { return };
    let output = outcome.ok();
    let both = "1 filter_left_over filter_left_over";
    for wiped in ["unmounted", "emptied"] {
        let value = |name: &str| outcome.value(&format!("{name}_{wiped}")).trim();
        assert_eq!(value("OLD"), "2", "{output}");
        for name in ["NAMED", "STILL"] {
            assert_eq!(value(name), both, "{output}");
            for direction in ["ingress", "egress"] {
                let place = format!("SAYS {name}_{wiped} TC filter 50 of veth0 {direction}: ");
                let command = format!(
                    "by hand: unless another bpfman's: `tc filter del dev veth0 {direction} "
                );
                let mut lines = output.lines().filter(|line| line.starts_with(&place));
                assert!(
                    lines.next().is_some_and(|line| line.contains(&command)),
                    "{place}\n{output}"
                );
            }
        }
        assert_eq!(value("LISTED"), "0");
        let unload = format!("UNLOAD_{wiped}");
        told(&outcome, &unload, 1, 3, &["no program with id"]);
        assert_eq!(value("WORKS"), "yes", "{output}");
        assert_eq!(value("MENDED"), "0", "{output}");
        assert_eq!(value("AFTER"), "yes", "{output}");
    }
    nothing_left(&outcome);
}
