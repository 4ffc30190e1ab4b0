//! What we stand on goes away under us: interface, namespace, binary, bpffs, `/run`. Each is named, and the next command
//! works: in a VM.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use bpfman_tests::objects::Object;
use bpfman_tests::vm::{HELPERS, Vm, VmOutcome};

const PROGRAMS: &str = r#"
#include <linux/pkt_cls.h>
struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, 1);
    __type(key, __u32);
    __type(value, __u64);
} seen SEC(".maps");
static __always_inline int count(int verdict)
{
    __u32 key = 0;
    __u64 *often = bpf_map_lookup_elem(&seen, &key);
    if (often)
        __sync_fetch_and_add(often, 1);
    return verdict;
}
SEC("xdp")
int on_xdp(struct xdp_md *ctx) { return count(XDP_PASS); }
SEC("tc")
int on_tc(struct __sk_buff *ctx) { return count(TC_ACT_OK); }
SEC("tracepoint/syscalls/sys_enter_kill")
int on_kill(void *ctx) { return count(0); }
SEC("uprobe")
int on_call(void *ctx) { return count(0); }
"#;

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
    let object = Object::compile(PROGRAMS)?;
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
until ! ip link show veth0 >/dev/null 2>&1; do :; done
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
until ! ip link show veth0 >/dev/null 2>&1; do :; done
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
fn bpffs_is_unmounted() {
    let script = r#"
loads() { xdp=$(load program.o xdp:on_xdp) tc=$(load program.o tc:on_tc) kill=$(load program.o tracepoint:on_kill); }
everywhere() {
    on_veth0
    attach "$kill" tracepoint -t syscalls/sys_enter_kill
}
everywhere >/dev/null
umount /run/bpfman/fs
listed LISTED
tell PROGRAMS bpfman list programs
tell ATTACH bpfman attach "$xdp" xdp -i veth0 -p 70
tell ATTACH_TC bpfman attach "$tc" tc -d ingress -i veth0 -p 70
tell DOCTOR bpfman doctor
grep -i bpffs /tmp/out | sed 's/^/DOCTOR_SAYS=/'
# Programs of now on the hooks of before, whose links are still on record.
loads
works AT_ONCE
# What is left of before goes when it is told to.
for id in $(bpfman list programs | awk 'NR > 1 { print $1 }'); do n=$((${n:-0} + 1)); tell "UNLOAD_$n" bpfman unload "$id"; done
echo "UNLOADED=$n"
listed REST
tell WELL bpfman doctor
traffic | sed 's/^/TRAFFIC /'
# The same, repaired by the doctor.
loads
everywhere >/dev/null
umount /run/bpfman/fs
tell REPAIR bpfman doctor --repair
tell REPAIRED bpfman doctor
listed REPAIRED_LINKS
loads
works AFTER_REPAIR
over
"#;
    let Some(outcome) = run(script) else { return };
    let _ = outcome.ok();
    assert_eq!(outcome.value("LISTED"), "6");
    told(&outcome, "PROGRAMS", 0, 0, &[]);
    for name in ["ATTACH", "ATTACH_TC"] {
        told(&outcome, name, 1, 3, &["/run/bpfman/fs", "bpffs unmounted"]);
    }
    told(&outcome, "DOCTOR", 1, 2, &[]);
    assert!(
        outcome.value("DOCTOR_SAYS").contains("/run/bpfman/fs"),
        "{}",
        outcome.output
    );
    assert_eq!(outcome.value("AT_ONCE"), "yes");
    // Three of before, and three of now.
    assert_eq!(outcome.value("UNLOADED"), "6");
    for n in 1..=6 {
        told(&outcome, &format!("UNLOAD_{n}"), 0, 1, &[]);
    }
    assert_eq!(outcome.value("REST"), "0");
    told(&outcome, "WELL", 0, 0, &[]);
    assert!(
        !outcome.output.contains("TRAFFIC filter"),
        "{}",
        outcome.output
    );
    told(&outcome, "REPAIR", 0, 2, &[]);
    told(&outcome, "REPAIRED", 0, 0, &[]);
    assert_eq!(outcome.value("REPAIRED_LINKS"), "0");
    assert_eq!(outcome.value("AFTER_REPAIR"), "yes");
    nothing_left(&outcome);
}

#[test]
fn run_is_wiped() {
    let script = r#"
on_veth0 >/dev/null
attach "$kill" tracepoint -t syscalls/sys_enter_kill >/dev/null
rm -rf /run/bpfman 2>/dev/null || true
umount /run/bpfman/fs
rm -rf /run/bpfman
tell PROGRAMS bpfman list programs
listed LISTED
tell ATTACH bpfman attach "$xdp" xdp -i veth0 -p 70
tell UNLOAD bpfman unload "$tc"
xdp=$(load program.o xdp:on_xdp) tc=$(load program.o tc:on_tc)
works AGAIN
# The filters of before run programs that are ours no more; nothing on record leads there.
traffic | grep -c 'pref 50 bpf.*handle' | sed 's/^/FILTERS=/' || true
tell DOCTOR bpfman doctor
tell REPAIR bpfman doctor --repair
traffic | grep 'pref 50 bpf.*handle' | sed 's/^/FILTER /' || true
tell WELL bpfman doctor
works STILL
over
"#;
    let Some(outcome) = run(script) else { return };
    let _ = outcome.ok();
    told(&outcome, "PROGRAMS", 0, 0, &[]);
    assert_eq!(outcome.value("LISTED"), "0");
    for name in ["ATTACH", "UNLOAD"] {
        told(&outcome, name, 1, 2, &["program"]);
    }
    assert_eq!(outcome.value("AGAIN"), "yes");
    assert_eq!(outcome.value("FILTERS"), "2");
    told(&outcome, "DOCTOR", 1, 2, &[]);
    told(&outcome, "REPAIR", 0, 2, &[]);
    told(&outcome, "WELL", 0, 0, &[]);
    assert!(!outcome.output.contains("FILTER "), "{}", outcome.output);
    assert_eq!(outcome.value("STILL"), "yes");
    nothing_left(&outcome);
}
