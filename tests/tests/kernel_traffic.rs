//! TC chains, TCX links and network namespaces on a real kernel, with real packets: in a VM.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use bpfman_tests::chapters;
use bpfman_tests::objects::Object;
use bpfman_tests::vm::{HELPERS, Vm, VmOutcome};

/// What is to be used beyond the helpers.
const SETUP: &str = r#"
wire
places() { bpfman list links | tail -n +2 | awk -v id="$1" '$1 == id { print $(NF - 1), $NF }'; }
"#;

/// Programs that note when they last saw an echo request, and how many they saw, and return `RETURNS`.
const NOTE: &str = r#"
#include <linux/pkt_cls.h>
volatile const __s32 RETURNS = 0;
struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, 2);
    __type(key, __u32);
    __type(value, __u64);
} seen SEC(".maps");
static __always_inline int note(void *data, void *end)
{
    __u32 when = 0, often = 1;
    __u64 *at = bpf_map_lookup_elem(&seen, &when), *count = bpf_map_lookup_elem(&seen, &often);
    unsigned char *packet = data;
    /* IPv4, ICMP, echo request */
    if (!at || !count || data + 35 > end || packet[12] != 8 || packet[13] || packet[23] != 1 || packet[34] != 8)
        return RETURNS;
    *at = bpf_ktime_get_ns();
    __sync_fetch_and_add(count, 1);
    return RETURNS;
}
SEC("tc")
int mark(struct __sk_buff *ctx) { return note((void *)(long)ctx->data, (void *)(long)ctx->data_end); }
SEC("xdp")
int xdp_mark(struct xdp_md *ctx)
{
    note((void *)(long)ctx->data, (void *)(long)ctx->data_end);
    return XDP_PASS;
}
"#;

fn run(script: &str) -> Option<VmOutcome> {
    let object = Object::compile(NOTE)?;
    let vm = Vm::new()?
        .tool("bpftool")?
        .option("--limit", "400")
        .file(object.path(), "/root/program.o");
    Some(vm.run(&format!("{HELPERS}{SETUP}{script}")))
}

/// What follows `prefix` in the lines that begin with it.
fn lines<'a>(outcome: &'a VmOutcome, prefix: &str) -> Vec<&'a str> {
    let lines = outcome.ok().lines();
    lines.filter_map(|line| line.strip_prefix(prefix)).collect()
}

/// What follows `NAME ` is asserted to have all of these words.
fn says(outcome: &VmOutcome, name: &str, words: &[&str]) {
    let line = outcome.value(name);
    for word in words {
        assert!(line.contains(word), "{name}: no {word:?} in {line}");
    }
}

#[test]
fn ten_tc_programs_run_in_order_beside_filters_of_others() {
    let script = r#"
# Others have filters before, at and behind our preference, on a clsact of theirs.
tc qdisc add dev veth0 clsact
for place in "49 ip" "50 all" "51 ip"; do
    # shellcheck disable=SC2086
    set -- $place
    tc filter add dev veth0 ingress pref "$1" protocol "$2" handle 0x7 bpf bytecode '1,6 0 0 0,' flowid 1:1
done
traffic >/tmp/before
for priority in 500 20 900 1 50 50 1000 300 21 70; do
    id=$(load program.o tc:mark)
    attach "$id" tc --direction ingress --iface veth0 --priority "$priority" >/dev/null
    ids="${ids:-} $id:$priority"
done
id=$(load program.o tc:mark)
echo "ELEVENTH=$(refused bpfman attach "$id" tc -d ingress -i veth0 -p 5)"
# The other direction is another chain.
attach "$id" tc -d egress -i veth0 -p 5 >/dev/null
echo "EGRESS=$(places "$id")"
ping_from_peer -c 1
for entry in $ids; do echo "SEEN $(value "${entry%:*}" seen) ${entry#*:} $(places "${entry%:*}")"; done
tc filter show dev veth0 ingress | grep 'handle 0x7' | sed 's/^/THEIRS /'
# One in the middle goes.
middle=$(echo "$ids" | tr ' ' '\n' | sed -n 's/:300$//p')
bpfman unload "$middle"
ping_from_peer -c 1
for entry in $ids; do
    [ "${entry%:*}" = "$middle" ] || echo "AGAIN $(value "${entry%:*}" seen) ${entry#*:} $(places "${entry%:*}")"
done
for entry in $ids "$id:5"; do [ "${entry%:*}" = "$middle" ] || bpfman unload "${entry%:*}"; done
traffic >/tmp/after
cmp /tmp/before /tmp/after && echo "UNTOUCHED=yes"
# A clsact of our own goes with us, but not while somebody else uses it.
tc qdisc del dev veth0 clsact
id=$(load program.o tc:mark)
link=$(attach "$id" tc -d egress -i veth0 -p 5)
bpfman detach "$link"
echo "OWN_CLSACT=$(tc qdisc show dev veth0 clsact)"
link=$(attach "$id" tc -d egress -i veth0 -p 5)
tc filter add dev veth0 ingress pref 9 protocol ip bpf bytecode '1,6 0 0 0,' flowid 1:1
bpfman detach "$link"
echo "USED_CLSACT=$(tc filter show dev veth0 ingress | tail -n 1)"
tc qdisc del dev veth0 clsact
# What is in the way.
tc qdisc add dev veth0 ingress
echo "QDISC=$(refused bpfman attach "$id" tc -d egress -i veth0 -p 5)"
echo "QDISC_LEFT=$(tc qdisc show dev veth0 ingress)"
tc qdisc del dev veth0 ingress
tc qdisc add dev veth0 clsact
tc filter add dev veth0 ingress pref 50 protocol ip bpf bytecode '1,6 0 0 0,' flowid 1:1
echo "PREFERENCE=$(refused bpfman attach "$id" tc -d ingress -i veth0 -p 5)"
# Somebody takes our filter away.
link=$(attach "$id" tc -d egress -i veth0 -p 5)
tc qdisc del dev veth0 clsact
again=$(attach "$id" tc -d egress -i veth0 -p 6 2>/tmp/said)
echo "FORGOTTEN=$(cat /tmp/said)"
[ "$(bpfman list links | tail -n +2 | awk '{ print $2 }')" = "$again" ]
bpfman unload "$id"
left_behind | sed 's/^/LEFT /'
"#;
    let Some(outcome) = run(script) else { return };
    let order = |prefix: &str| {
        let mut seen: Vec<(u64, u32, String)> = lines(&outcome, prefix)
            .iter()
            .map(|line| {
                let words: Vec<&str> = line.split_whitespace().collect();
                let at: u64 = words[0].parse().unwrap();
                assert!(at > 0, "a program saw nothing: {line}");
                (at, words[1].parse().unwrap(), words[2..].join(" "))
            })
            .collect();
        seen.sort();
        for (position, (_, _, place)) in seen.iter().enumerate() {
            assert_eq!(*place, format!("ingress pos-{position}"), "{seen:?}");
        }
        seen.into_iter().map(|(_, priority, _)| priority).collect()
    };
    let first: Vec<u32> = order("SEEN ");
    assert_eq!(first, [1, 20, 21, 50, 50, 70, 300, 500, 900, 1000]);
    let second: Vec<u32> = order("AGAIN ");
    assert_eq!(second, [1, 20, 21, 50, 50, 70, 500, 900, 1000]);
    says(&outcome, "ELEVENTH", &["veth0 ingress", "10 programs"]);
    assert_eq!(outcome.value("EGRESS"), "egress pos-0");
    assert_eq!(lines(&outcome, "THEIRS ").len(), 3, "{}", outcome.output);
    assert_eq!(outcome.value("UNTOUCHED"), "yes");
    assert_eq!(outcome.value("OWN_CLSACT"), "");
    says(&outcome, "USED_CLSACT", &["pref 9"]);
    says(
        &outcome,
        "QDISC",
        &["qdisc `ingress`", "tc qdisc del dev veth0 ingress"],
    );
    says(&outcome, "QDISC_LEFT", &["qdisc ingress"]);
    says(
        &outcome,
        "PREFERENCE",
        &["preference 50", "`bpf` filters", "0x0800"],
    );
    says(&outcome, "FORGOTTEN", &["veth0 egress", "forgetting links"]);
    assert_eq!(lines(&outcome, "LEFT "), Vec::<&str>::new());
}

#[test]
fn fifty_changes_of_a_chain_lose_no_packet_and_let_none_escape() {
    let script = r#"
stays=$(load program.o tc:mark)
moves=$(load program.o tc:mark)
attach "$stays" tc -d ingress -i veth0 -p 500 >/dev/null
meanwhile ping_until /tmp/enough >/tmp/ping
ping=$!
eventually peer_runs
for n in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25; do
    link=$(attach "$moves" tc -d ingress -i veth0 -p "$((n * 37))")
    bpfman detach "$link"
done
touch /tmp/enough
wait "$ping"
echo "PING=$(cat /tmp/ping)"
echo "STAYED=$(value "$stays" seen 1)"
echo "MOVED=$(value "$moves" seen 1)"
bpfman unload "$stays"
bpfman unload "$moves"
left_behind | sed 's/^/LEFT /'
"#;
    let Some(outcome) = run(script) else { return };
    let output = outcome.ok();
    let (sent, received) = outcome.value("PING").split_once(' ').unwrap();
    let (sent, received): (u64, u64) = (sent.parse().unwrap(), received.parse().unwrap());
    assert!(
        sent >= 200,
        "too few pings to prove anything: {sent}\n{output}"
    );
    assert_eq!(received, sent, "came back and sent\n{output}");
    // The member that stays saw each of them, and each once.
    let stayed: u64 = outcome.value("STAYED").parse().unwrap();
    assert_eq!(stayed, sent, "went through the chain and sent\n{output}");
    let moved: u64 = outcome.value("MOVED").parse().unwrap();
    assert!(moved > 0 && moved < stayed, "{moved} of {stayed}\n{output}");
    assert_eq!(lines(&outcome, "LEFT "), Vec::<&str>::new());
}

#[test]
fn tcx_links_and_namespaces() {
    let script = r#"
next="-g RETURNS=FFFFFFFF"
# shellcheck disable=SC2086
loads() { load program.o "$@" $next; }
# Other bpfmans, each with a runtime folder of its own, stand for others: their links know nothing of each other.
foreign() { # NAME COMMAND…
    name=$1
    shift
    BPFMAN_RUNTIME_DIR=/run/$name "$@"
}
other() { foreign "$1" bpfman load file --path program.o --programs tcx:mark -g RETURNS=FFFFFFFF >/tmp/load; field "Program ID" </tmp/load; }
noted() { bpftool -j map lookup pinned "/run/$1/fs/maps/$2/seen" key "$3" 0 0 0 | sed 's/.*"formatted":{[^}]*"value":\([0-9]*\).*/\1/'; }
first=$(loads tcx:mark)
release=$(uname -r)
case $release in
6.[0-5].* | 5.*)
    echo "TCX=$(refused bpfman attach "$first" tcx -d ingress -i veth0 -p 50)"
    ;;
*)
    one=$(other one) two=$(other two)
    foreign one bpfman attach "$one" tcx -d ingress -i veth0 -p 1 >/dev/null
    attach "$first" tcx -d ingress -i veth0 -p 50 >/dev/null
    foreign two bpfman attach "$two" tcx -d ingress -i veth0 -p 2 >/dev/null
    for priority in 10 50 1000; do
        id=$(loads tcx:mark)
        attach "$id" tcx -d ingress -i veth0 -p "$priority" >/dev/null
        ids="${ids:-} $id:$priority"
    done
    ping_from_peer -c 1
    for entry in "$first:50" $ids; do echo "SEEN $(value "${entry%:*}" seen) ${entry#*:} $(places "${entry%:*}")"; done
    echo "SEEN $(noted one "$one" 0) one"
    echo "SEEN $(noted two "$two" 0) two"
    echo "TCX=$(refused bpfman attach "$first" tcx -d ingress -i veth0 -p 60)"
    attach "$first" tcx -d egress -i veth0 -p 60 >/dev/null
    for entry in $ids "$first:"; do bpfman unload "${entry%:*}"; done
    before=$(noted two "$two" 1)
    ping_from_peer -c 1
    [ "$before" != "$(noted two "$two" 1)" ] && echo "FOREIGN=runs"
    foreign one bpfman unload "$one"
    foreign two bpfman unload "$two"
    first=$(loads tcx:mark)
    ;;
esac
bpfman unload "$first"

# --- namespaces
tc=$(load program.o tc:mark) tcx=$(loads tcx:mark) xdp=$(load program.o xdp:xdp_mark)
echo "NOWHERE=$(refused bpfman attach "$tc" tc -d ingress -i veth1 -p 1 -n /run/netns/nobody)"
echo "NO_NAMESPACE=$(refused bpfman attach "$tc" tc -d ingress -i veth1 -p 1 -n /etc/passwd)"
echo "OTHER_SIDE=$(refused bpfman attach "$tc" tc -d ingress -i veth0 -p 1 -n /run/netns/peer)"
inside() {
    attach "$xdp" xdp -i veth1 -p 5 -n /run/netns/peer
    attach "$xdp" xdp -i veth1 -p 6 -n /run/netns/peer
    attach "$tc" tc -d ingress -i veth1 -p 5 -n /run/netns/peer
    attach "$tc" tc -d ingress -i veth1 -p 6 -n /run/netns/peer
    case $release in 6.[0-5].* | 5.*) ;; *) attach "$tcx" tcx -d ingress -i veth1 -p 5 -n /run/netns/peer ;; esac
}
links=$(inside 2>/tmp/said)
[ ! -s /tmp/said ]
ping -q -c 2 10.1.0.2
echo "COUNTED=$(value "$xdp" seen 1) $(value "$tc" seen 1)"
ip netns exec peer tc qdisc show dev veth1 clsact | sed 's/^/CLSACT=/'
# The chains are built anew there, and taken down.
for link in $links; do bpfman detach "$link"; done
echo "AFTER=$(ip netns exec peer tc qdisc show dev veth1 clsact)$(ip -n peer link show dev veth1 | grep prog/xdp || true)"
# From within another namespace than the one it was attached from.
link=$(attach "$tc" tc -d egress -i veth0 -p 5)
ip netns exec peer bpfman detach "$link"
echo "ACROSS=$(tc qdisc show dev veth0 clsact)"

# --- a namespace that goes away under us
links=$(inside)
ip netns del peer
eventually no_veth0
echo "LISTED=$(bpfman list links | tail -n +2 | wc -l)"
echo "GONE=$(refused bpfman attach "$xdp" xdp -i veth1 -p 7 -n /run/netns/peer)"
# Another of that name, maybe with its numbers: what was there is no hindrance.
wire
fresh=$(inside 2>/tmp/said)
ping -q -c 1 10.1.0.2
for link in $links $fresh; do bpfman detach "$link" 2>/dev/null || true; done
echo "LINKS=$(bpfman list links | tail -n +2 | wc -l)"
# An interface that goes away, and unload instead of detach.
inside >/dev/null
ip link del veth0
for id in $tc $tcx $xdp; do bpfman unload "$id"; done
ip netns del peer
left_behind | sed 's/^/LEFT /'
"#;
    let Some(outcome) = run(script) else { return };
    if outcome.value("TCX").contains("6.6") {
        says(
            &outcome,
            "TCX",
            &["TCX needs kernel 6.6", "load the program as `tc`"],
        );
    } else {
        let mut seen: Vec<(u64, String)> = lines(&outcome, "SEEN ")
            .iter()
            .map(|line| {
                let (at, what) = line.split_once(' ').unwrap();
                let at: u64 = at.parse().unwrap();
                assert!(at > 0, "a program saw nothing: {line}");
                (at, what.to_owned())
            })
            .collect();
        seen.sort();
        let order: Vec<&str> = seen.iter().map(|(_, what)| what.as_str()).collect();
        let expected = [
            "one",
            // Positions count the link of somebody else before them.
            "10 ingress pos-1",
            "50 ingress pos-2",
            "50 ingress pos-3",
            "1000 ingress pos-4",
            "two",
        ];
        assert_eq!(order, expected);
        says(
            &outcome,
            "TCX",
            &["`mark`", "veth0 ingress", "already, by link"],
        );
        assert_eq!(outcome.value("FOREIGN"), "runs");
    }
    says(&outcome, "NOWHERE", &["/run/netns/nobody", "No such file"]);
    says(
        &outcome,
        "NO_NAMESPACE",
        &["/etc/passwd is no network namespace"],
    );
    says(&outcome, "OTHER_SIDE", &["no interface `veth0`"]);
    // Two requests, and each program is there twice.
    assert_eq!(outcome.value("COUNTED"), "4 4");
    says(&outcome, "CLSACT", &["clsact"]);
    assert_eq!(outcome.value("AFTER"), "");
    assert_eq!(outcome.value("ACROSS"), "");
    // Two of XDP and of TC each, and one of TCX where there is TCX.
    let listed = if outcome.value("TCX").contains("6.6") {
        "4"
    } else {
        "5"
    };
    assert_eq!(outcome.value("LISTED"), listed);
    says(&outcome, "GONE", &["veth1 in /run/netns/peer"]);
    assert_eq!(outcome.value("LINKS"), "0");
    assert_eq!(lines(&outcome, "LEFT "), Vec::<&str>::new());
}

#[test]
fn the_examples_of_the_chapters_work_as_they_stand() {
    let Some(vm) = Vm::new().and_then(|vm| vm.tool("bpftool")) else {
        return;
    };
    // TCX is refused by kernels before 6.6, which is what its own test is about.
    let has_tcx = std::env::var("KERNEL").as_deref() != Ok("6.1");
    let names: &[_] = if has_tcx {
        &["xdp", "tc", "tcx"]
    } else {
        &["xdp", "tc"]
    };
    chapters::work(vm, "ip link set lo up", names);
}
