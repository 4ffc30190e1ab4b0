//! What `bpfman` does to a real kernel, with real packets: in a VM, so that the machine's own kernel does not matter.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use bpfman_tests::objects::{Object, Packets};
use bpfman_tests::vm::{HELPERS, Vm, VmOutcome};

/// A program that notes when it last saw an echo request and returns `RETURNS`. What else comes (neighbours, routers) may
/// come at any moment.
const MARK: &str = r#"
volatile const __u32 RETURNS = XDP_PASS;
struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, 1);
    __type(key, __u32);
    __type(value, __u64);
} seen SEC(".maps");
SEC("xdp")
int mark(struct xdp_md *ctx)
{
    __u32 key = 0;
    __u64 *seen_at = bpf_map_lookup_elem(&seen, &key);
    void *end = (void *)(long)ctx->data_end;
    unsigned char *packet = (void *)(long)ctx->data;
    /* IPv4, ICMP, echo request */
    if (!seen_at || (void *)packet + 35 > end || packet[12] != 8 || packet[13] || packet[23] != 1 || packet[34] != 8)
        return RETURNS;
    *seen_at = bpf_ktime_get_ns();
    return RETURNS;
}
"#;

fn run(object: &Object, script: &str) -> Option<VmOutcome> {
    let vm = Vm::new()?
        .tool("bpftool")?
        .file(object.path(), "/root/program.o");
    Some(vm.run(&format!("{HELPERS}wire\n{script}")))
}

#[test]
fn ten_xdp_programs_run_in_priority_order_and_the_eleventh_is_refused() {
    let Some(object) = Object::compile(MARK) else {
        return;
    };
    // Not in order, and one priority twice: of those the first attached runs first.
    let script = r#"
for priority in 500 20 900 1 50 50 1000 300 21 70; do
    id=$(load program.o xdp:mark)
    attach "$id" xdp --iface veth0 --priority "$priority" >/dev/null
    ids="${ids:-} $id:$priority"
done
id=$(load program.o xdp:mark)
status=0
bpfman attach "$id" xdp --iface veth0 --priority 5 >/tmp/out 2>/tmp/err || status=$?
echo "ELEVENTH=$status $(tr '\n' ' ' </tmp/err)"
bpfman unload "$id"
ping_from_peer -c 1
for entry in $ids; do echo "SEEN $(value "${entry%:*}" seen) ${entry#*:} ${entry%:*}"; done
bpfman list links | sed 's/^/LINK/'
# One in the middle goes.
middle=$(echo "$ids" | tr ' ' '\n' | sed -n 's/:300$//p')
bpfman unload "$middle"
ping_from_peer -c 1
for entry in $ids; do
    [ "${entry%:*}" = "$middle" ] || echo "AGAIN $(value "${entry%:*}" seen) ${entry#*:} ${entry%:*}"
done
bpfman list links | sed 's/^/REST/'
for entry in $ids; do [ "${entry%:*}" = "$middle" ] || bpfman unload "${entry%:*}"; done
left_behind | sed 's/^/LEFT /'
"#;
    let Some(outcome) = run(&object, script) else {
        return;
    };
    let output = outcome.ok();
    let words = |prefix: &str| -> Vec<Vec<String>> {
        let lines = output.lines().filter_map(|line| line.strip_prefix(prefix));
        lines
            .map(|line| line.split_whitespace().map(str::to_owned).collect())
            .collect()
    };

    // Time, priority and id of each, as they ran; and that they are shown in this order.
    let order = |seen: &str, shown: &str| -> Vec<(u32, u64)> {
        let mut seen: Vec<(u64, u32, u64)> = words(seen)
            .iter()
            .map(|line| {
                (
                    line[0].parse().unwrap(),
                    line[1].parse().unwrap(),
                    line[2].parse().unwrap(),
                )
            })
            .collect();
        assert!(
            seen.iter().all(|(time, ..)| *time > 0),
            "a program saw no packet: {seen:?}"
        );
        seen.sort_unstable();
        let shown = words(shown);
        for (position, (.., id)) in seen.iter().enumerate() {
            let place = (id.to_string(), format!("pos-{position}"));
            let is_there = |line: &Vec<String>| line[0] == place.0 && line.last() == Some(&place.1);
            assert!(
                shown.iter().any(is_there),
                "{place:?} is not listed:\n{output}"
            );
        }
        seen.into_iter()
            .map(|(_, priority, id)| (priority, id))
            .collect()
    };
    let priorities = |order: &[(u32, u64)]| -> Vec<u32> {
        order.iter().map(|(priority, _)| *priority).collect()
    };
    let ten = order("SEEN ", "LINK");
    assert_eq!(
        priorities(&ten),
        [1, 20, 21, 50, 50, 70, 300, 500, 900, 1000]
    );
    assert!(
        ten[3].1 < ten[4].1,
        "of two with one priority the first attached runs first: {ten:?}"
    );
    let nine = order("AGAIN ", "REST");
    assert_eq!(priorities(&nine), [1, 20, 21, 50, 50, 70, 500, 900, 1000]);

    let eleventh = outcome.value("ELEVENTH");
    assert!(eleventh.starts_with("1 "), "{eleventh}");
    assert!(
        eleventh.contains("10") && eleventh.contains("veth0"),
        "names the limit and the interface: {eleventh}"
    );
    assert_eq!(words("LEFT "), Vec::<Vec<String>>::new());
}

#[test]
fn a_chain_goes_on_only_where_proceed_on_says_so() {
    let Some(object) = Object::compile(MARK) else {
        return;
    };
    // Every action, with and without it in the mask of the first program; the second tells whether it was reached.
    let script = r#"
chain() { # RETURNS NAME PROCEED…
    returns=$1 name=$2
    shift 2
    first=$(load program.o xdp:mark -g "RETURNS=0${returns}000000")
    second=$(load program.o xdp:mark)
    attach "$first" xdp --iface veth0 --priority 1 "$@" >/dev/null
    attach "$second" xdp --iface veth0 --priority 2 >/dev/null
    ping_from_peer -c 1 -W 1 >/dev/null && passed=yes || passed=no
    if [ "$(value "$second" seen)" -gt 0 ]; then reached=yes; else reached=no; fi
    [ "$(value "$first" seen)" -gt 0 ]
    echo "CHAIN $name $passed $reached"
    bpfman unload "$first"
    bpfman unload "$second"
}
# Neighbours are known before a program drops what finds them.
ping_from_peer -c 1 >/dev/null
veth0_stays_known
chain 2 pass-default
chain 1 drop-default
chain 0 aborted-default
chain 1 drop-proceeds --proceed-on drop
chain 0 aborted-proceeds --proceed-on aborted drop
chain 2 pass-only-drop --proceed-on drop
chain 3 tx-proceeds --proceed-on tx --proceed-on pass
chain 3 tx-stops --proceed-on pass
left_behind | sed 's/^/LEFT /'
"#;
    let Some(outcome) = run(&object, script) else {
        return;
    };
    let output = outcome.ok();
    let chains: Vec<&str> = output
        .lines()
        .filter_map(|line| line.strip_prefix("CHAIN "))
        .collect();
    // Name, whether the packet passed, whether the second program saw it.
    let expected = [
        "pass-default yes yes",
        "drop-default no no",
        "aborted-default no no",
        "drop-proceeds yes yes",
        "aborted-proceeds yes yes",
        "pass-only-drop yes no",
        "tx-proceeds yes yes",
        "tx-stops no no",
    ];
    assert_eq!(chains, expected, "{output}");
    assert!(!output.contains("LEFT "), "{output}");
}

/// Programs whose code says what they return.
const CONSTANTS: &str = r#"
#define PROGRAM(type, context, name, result) \
    SEC(type)                                \
    int name(struct context *ctx)            \
    {                                        \
        LOOK(0);                             \
        return result;                       \
    }
PROGRAM("xdp", xdp_md, xdp_pass, XDP_PASS)
PROGRAM("xdp", xdp_md, xdp_drop, XDP_DROP)
PROGRAM("xdp", xdp_md, xdp_on, 31)
PROGRAM("tc", __sk_buff, tc_ok, TC_ACT_OK)
PROGRAM("tc", __sk_buff, tc_shot, TC_ACT_SHOT)
PROGRAM("tc", __sk_buff, tc_pipe, TC_ACT_PIPE)
"#;

#[test]
fn an_only_member_does_what_its_list_says_in_a_slot_or_without() {
    let Some(object) = Object::counting_and(Packets::EchoRequests, CONSTANTS) else {
        return;
    };
    let script = r#"
# Whether a ping passes, and how many programs counted it.
through() {
    before=$(value "$maps" seen)
    if ping_from_peer -c 1 -W 1 >/dev/null; then passed=yes; else passed=no; fi
    echo "$passed $(($(value "$maps" seen) - before))"
}
ids() { # TYPE:NAME…: loads them together and prints their ids
    bpfman load file --path program.o --programs "$@" --quiet
}
alone() { # NAME ID OTHER HOOK OPTION…: what it is alone, beside another, and alone again
    name=$1 id=$2 other=$3 hook=$4
    shift 4
    first=$(attach "$id" $hook --iface veth0 --priority 50 "$@")
    line="$name: $(through)"
    second=$(attach "$other" $hook --iface veth0 --priority 60)
    line="$line, $(through)"
    bpfman detach "$second"
    echo "ALONE $line, $(through)"
    bpfman doctor
    bpfman detach "$first"
}
ping_from_peer -c 1 >/dev/null
veth0_stays_known
set -- $(ids xdp:xdp_pass xdp:xdp_drop xdp:xdp_on)
maps=$1
alone pass "$1" "$1" xdp
alone drop "$2" "$1" xdp
alone "drop, and on" "$2" "$1" xdp --proceed-on drop
alone on "$3" "$1" xdp
for id in "$@"; do bpfman unload "$id"; done
set -- $(ids tc:tc_ok tc:tc_shot tc:tc_pipe)
maps=$1
alone ok "$1" "$1" "tc --direction ingress"
alone shot "$2" "$1" "tc --direction ingress"
alone pipe "$3" "$1" "tc --direction ingress"
for id in "$@"; do bpfman unload "$id"; done
left_behind | sed 's/^/LEFT /'
"#;
    let Some(outcome) = run(&object, script) else {
        return;
    };
    let output = outcome.ok();
    let lines = output.lines();
    let found: Vec<&str> = lines
        .filter_map(|line| line.strip_prefix("ALONE "))
        .collect();
    let expected = [
        "pass: yes 1, yes 2, yes 1",
        "drop: no 1, no 1, no 1",
        "drop, and on: yes 1, yes 2, yes 1",
        "on: yes 1, yes 2, yes 1",
        "ok: yes 1, yes 2, yes 1",
        "shot: no 1, no 1, no 1",
        "pipe: yes 1, yes 2, yes 1",
    ];
    assert_eq!(found, expected, "{output}");
    assert!(!output.contains("LEFT "), "{output}");
}

#[test]
fn fifty_rebuilds_of_a_chain_lose_no_packet() {
    let Some(object) = Object::compile(MARK) else {
        return;
    };
    let script = r#"
stays=$(load program.o xdp:mark) id=$(load program.o xdp:mark)
attach "$stays" xdp --iface veth0 --priority 13 >/dev/null
meanwhile ping_until /tmp/enough >/tmp/ping
ping=$!
# Until it has begun.
eventually peer_runs
# Before, at and behind a member that stays.
round() {
    link=$(attach "$id" xdp --iface veth0 --priority "$1")
    bpfman detach "$link"
}
for n in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25; do round "$n"; done
touch /tmp/enough
wait "$ping"
echo "PING=$(cat /tmp/ping)"
echo "SEEN=$(value "$stays" seen)"
bpfman unload "$stays"
bpfman unload "$id"
left_behind | sed 's/^/LEFT /'
"#;
    let Some(outcome) = run(&object, script) else {
        return;
    };
    let output = outcome.ok();
    let (sent, received) = outcome.value("PING").split_once(' ').unwrap();
    let (sent, received): (u32, u32) = (sent.parse().unwrap(), received.parse().unwrap());
    assert!(
        sent >= 200,
        "too few pings to prove anything: {sent}\n{output}"
    );
    assert_eq!(received, sent, "came back and sent\n{output}");
    assert_ne!(outcome.value("SEEN"), "0");
    assert!(!output.contains("LEFT "), "{output}");
}

#[test]
fn twenty_loads_at_once_all_succeed() {
    let Some(object) = Object::compile(MARK) else {
        return;
    };
    // They wait for each other: for as long as it takes where a command takes seconds.
    let script = r#"
mkdir -p /etc/bpfman
printf '[database]\nmax_retries = 100\n' >/etc/bpfman/bpfman.toml
for n in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
    meanwhile bpfman load file --path program.o --programs xdp:mark >"/tmp/load.$n" 2>&1
    loads="${loads:-} $!"
done
for load in $loads; do wait "$load" || cat /tmp/load.*; done
echo "DIFFERENT=$(for out in /tmp/load.*; do field "Program ID" <"$out"; done | sort -u | wc -l)"
echo "LISTED=$(bpfman list programs | tail -n +2 | wc -l)"
for id in $(bpfman list programs | tail -n +2 | awk '{ print $1 }'); do bpfman unload "$id"; done
left_behind | sed 's/^/LEFT /'
"#;
    let Some(outcome) = run(&object, script) else {
        return;
    };
    assert_eq!(
        (outcome.value("DIFFERENT"), outcome.value("LISTED")),
        ("20", "20"),
        "{}",
        outcome.ok()
    );
    assert!(!outcome.ok().contains("LEFT "), "{}", outcome.ok());
}

#[test]
fn a_tracepoint_counts_while_it_is_attached() {
    let Some(object) = Object::example("tracepoint-counter") else {
        return;
    };
    let script = r#"
id=$(load program.o tracepoint:tracepoint_kill_recorder)
# Entry 10 of the map: how often SIGUSR1 was sent.
count() { bpftool -j map dump pinned "/run/bpfman/fs/maps/$id/kill_stats_map" | sed 's/.*"key":10,"values":\[{"cpu":0,"value":\([0-9]*\).*/\1/'; }
trap : USR1
echo "BEFORE=$(count)"
link=$(attach "$id" tracepoint --tracepoint syscalls/sys_enter_kill)
for n in 1 2 3 4 5; do kill -USR1 $$; done
echo "ATTACHED=$(count)"
bpfman list links
bpfman detach "$link"
kill -USR1 $$
echo "DETACHED=$(count)"
bpfman unload "$id"
left_behind | sed 's/^/LEFT /'
"#;
    let Some(outcome) = run(&object, script) else {
        return;
    };
    let output = outcome.ok();
    let counts = ["BEFORE", "ATTACHED", "DETACHED"].map(|name| outcome.value(name));
    assert_eq!(counts, ["0", "5", "5"], "{output}");
    assert!(output.contains("syscalls/sys_enter_kill"), "{output}");
    assert!(!output.contains("LEFT "), "{output}");
}
