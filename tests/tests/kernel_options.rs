//! Every option of every kind of attach, proved by real events that are counted in a map while it is attached, and not
//! afterwards: in a VM. What is proved by tests of their own is named in `ELSEWHERE`.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::collections::BTreeSet;

use bpfman_tests::cli::Bpfman;
use bpfman_tests::lanes;
use bpfman_tests::objects::{Object, Packets};
use bpfman_tests::vm::{HELPERS, Vm, VmOutcome};

/// A way to attach, which proves the options named.
struct Row {
    kind: &'static str,
    options: &'static [&'static str],
    arguments: &'static str,
    /// What it counts two of.
    events: &'static str,
    /// How XDP then is on `veth0`.
    mode: &'static str,
}

const fn row(
    kind: &'static str,
    options: &'static [&'static str],
    arguments: &'static str,
    events: &'static str,
    mode: &'static str,
) -> Row {
    Row {
        kind,
        options,
        arguments,
        events,
        mode,
    }
}

#[rustfmt::skip]
const ROWS: [Row; 11] = [
    row("xdp", &["iface"], "-i veth0 -p 50", "arrivals", "xdp"),
    row("xdp", &["mode", "output"], "-i veth0 -p 50 --mode drv -o json", "arrivals", "xdp"),
    row("xdp", &["mode"], "-i veth0 -p 50 --mode skb", "arrivals", "xdpgeneric"),
    row("xdp", &["netns", "metadata"], "-i veth1 -p 50 -n /run/netns/peer -m owner=us", "departures", ""),
    row("tc", &["iface", "direction", "output"], "-d ingress -i veth0 -p 50 --output json", "arrivals", ""),
    row("tc", &["direction", "metadata"], "-d egress -i veth0 -p 50 -m owner=us", "departures", ""),
    row("tc", &["netns"], "-d ingress -i veth1 -p 50 -n /run/netns/peer", "departures", ""),
    row("tcx", &["iface", "direction", "output"], "-d ingress -i veth0 -p 50 -o json", "arrivals", ""),
    row("tcx", &["direction", "metadata"], "-d egress -i veth0 -p 50 -m owner=us", "departures", ""),
    row("tcx", &["netns"], "-d ingress -i veth1 -p 50 -n /run/netns/peer", "departures", ""),
    row("tracepoint", &["tracepoint", "metadata", "output"],
        "-t syscalls/sys_enter_kill -m owner=us -o json", "kills", ""),
];

/// A kind, an option of it, and the file and the words of the test that proves it.
const ELSEWHERE: [(&str, &str, &str, &str); 25] = [
    (
        "xdp",
        "priority",
        "kernel.rs",
        "fn ten_xdp_programs_run_in_priority_order_and_the_eleventh_is_refused()",
    ),
    (
        "xdp",
        "proceed-on",
        "kernel.rs",
        "fn a_chain_goes_on_only_where_proceed_on_says_so()",
    ),
    (
        "tc",
        "priority",
        "kernel_traffic.rs",
        "fn ten_tc_programs_run_in_order_beside_filters_of_others()",
    ),
    (
        "tc",
        "proceed-on",
        "kernel_options.rs",
        "fn modes_fragments_and_proceed_on()",
    ),
    (
        "tcx",
        "priority",
        "kernel_traffic.rs",
        "fn tcx_links_and_namespaces()",
    ),
    ("kprobe", "fn-name", "kernel_probes.rs", "\"kprobe 3 0\""),
    ("kprobe", "fn-name", "kernel_probes.rs", "\"kretprobe 3 0\""),
    (
        "kprobe",
        "offset",
        "kernel_probes.rs",
        "\"kprobe-offset 3 0\"",
    ),
    ("kprobe", "metadata", "kernel_probes.rs", "\"kretprobe 1\""),
    (
        "kprobe",
        "output",
        "kernel_probes.rs",
        "vfs_unlink -m a=b --output json",
    ),
    ("uprobe", "fn-name", "kernel_probes.rs", "\"uprobe 3 0\""),
    ("uprobe", "fn-name", "kernel_probes.rs", "\"uretprobe 3 0\""),
    ("uprobe", "offset", "kernel_probes.rs", "\"offset 3 0\""),
    (
        "uprobe",
        "offset",
        "kernel_probes.rs",
        "\"offset-return 3 0\"",
    ),
    ("uprobe", "target", "kernel_probes.rs", "\"library 3 0\""),
    (
        "uprobe",
        "target",
        "kernel_probes.rs",
        "\"library-version 3 0\"",
    ),
    ("uprobe", "pid", "kernel_probes.rs", "\"pid 3 0\""),
    (
        "uprobe",
        "pid",
        "kernel_probes.rs",
        "\"pid-of-another 0 0\"",
    ),
    (
        "uprobe",
        "container-pid",
        "kernel_probes.rs",
        "\"container 3 0\"",
    ),
    ("uprobe", "metadata", "kernel_probes.rs", "\"uretprobe 1\""),
    (
        "uprobe",
        "output",
        "host_probes.rs",
        "\"uprobe\", \"--output\", \"json\"",
    ),
    (
        "fentry",
        "metadata",
        "kernel_probes.rs",
        "\"fentry-again 1\"",
    ),
    (
        "fentry",
        "output",
        "kernel_probes.rs",
        "unlinks fentry -m a=b --output json",
    ),
    ("fexit", "metadata", "kernel_probes.rs", "\"fexit 1\""),
    (
        "fexit",
        "output",
        "kernel_probes.rs",
        "unlinks fexit -m a=b -o json",
    ),
];

const SETUP: &str = r#"
wire
# Neighbours are known before a program drops what finds them.
ping_from_peer -c 1 >/dev/null
veth0_stays_known
# xdp, xdpgeneric or nothing: how XDP is on an interface
mode_of() { ip link show dev "$1" | sed -n 's/.* mtu [0-9]* \(xdp[a-z]*\) .*/\1/p'; }
# counted ID COMMAND…: how many events a program counts meanwhile
counted() {
    counter=$1
    shift
    was=$(value "$counter" seen)
    "$@" >/dev/null
    echo $(($(value "$counter" seen) - was))
}
"#;

fn run(script: &str) -> Option<VmOutcome> {
    let object = Object::counting(Packets::EchoRequests)?;
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

#[test]
fn every_option_of_every_kind_has_a_row() {
    let bpfman = Bpfman::new();
    let kinds = [
        "xdp",
        "tc",
        "tcx",
        "tracepoint",
        "kprobe",
        "uprobe",
        "fentry",
        "fexit",
    ];
    let mut offered = BTreeSet::new();
    for kind in kinds {
        let help = bpfman.run(&["attach", "1", kind, "--help"]);
        let options = help
            .ok()
            .lines()
            .map(str::trim_start)
            .filter(|line| line.starts_with('-'))
            .filter_map(|line| line.split_once("--"))
            .map(|(_, option)| option.split([' ', ',']).next().unwrap())
            // What is printed is the same for every kind: host_newcomer.rs.
            .filter(|option| !["help", "verbose", "quiet", "format"].contains(option));
        offered.extend(options.map(|option| (kind, option.to_owned())));
    }
    let in_rows = ROWS
        .iter()
        .flat_map(|row| row.options.iter().map(|option| (row.kind, *option)));
    let elsewhere = ELSEWHERE.iter().map(|(kind, option, ..)| (*kind, *option));
    let proved: BTreeSet<(&str, String)> = in_rows
        .chain(elsewhere)
        .map(|(kind, option)| (kind, option.to_owned()))
        .collect();
    assert_eq!(offered, proved);

    for (kind, option, file, words) in ELSEWHERE {
        let path = lanes::repository().join("tests/tests").join(file);
        let source = std::fs::read_to_string(path).unwrap();
        // Not the words of this table itself.
        let proof = source.split("const SETUP").last().unwrap();
        assert!(
            proof.contains(words),
            "{kind} --{option}: no {words} in {file}"
        );
    }
}

#[test]
fn every_row_counts_while_it_is_attached() {
    let mut script = String::from(
        r#"
trap : USR1
# Seen from veth0: what comes in, what goes out
arrivals() { ping_from_peer -c 2; }
departures() { ping -q -A -c 2 10.1.0.2; }
kills() { kill -USR1 $$; kill -USR1 $$; }
# row NUMBER EVENTS ID TYPE OPTION…
row() {
    number=$1 events=$2 id=$3
    shift 3
    link=$(attach "$id" "$@")
    mode=$(mode_of veth0)
    attached=$(counted "$id" "$events")
    case "$*" in
    *"-m owner=us"*) selected=$(bpfman list links -m owner=us | awk 'NR > 1 { print $2 }') ;;
    *) selected=$link ;;
    esac
    [ "$selected" = "$link" ] || echo "NOT SELECTED: $link, but '$selected'"
    bpfman detach "$link"
    echo "ROW $number $attached $(counted "$id" "$events") $mode"
}
xdp=$(load program.o xdp:on_xdp) tc=$(load program.o tc:on_tc)
tracepoint=$(load program.o tracepoint:on_kill) tcx=$(load program.o tcx:on_tcx)
# A link of somebody else's metadata, which is not selected with ours.
stays=$(attach "$tracepoint" tracepoint -t syscalls/sys_enter_tkill -m owner=them)
has_tcx=yes
case $(uname -r) in 6.[0-5].* | 5.*) has_tcx=no ;; esac
echo "TCX=$has_tcx"
"#,
    );
    for (number, row) in ROWS.iter().enumerate() {
        let Row {
            kind,
            arguments,
            events,
            ..
        } = row;
        if *kind == "tcx" {
            script.push_str("[ $has_tcx = no ] || ");
        }
        script.push_str(&format!(
            "row {number} {events} \"${kind}\" {kind} {arguments}\n"
        ));
    }
    script.push_str(
        r#"
for id in $xdp $tc $tcx $tracepoint; do bpfman unload "$id"; done
left_behind | sed 's/^/LEFT /'
"#,
    );
    let Some(outcome) = run(&script) else { return };
    let has_tcx = outcome.value("TCX") == "yes";
    let expected: Vec<String> = ROWS
        .iter()
        .enumerate()
        .filter(|(_, row)| has_tcx || row.kind != "tcx")
        .map(|(number, row)| format!("{number} 2 0 {}", row.mode))
        .collect();
    assert_eq!(lines(&outcome, "ROW "), expected, "{}", outcome.output);
    assert_eq!(lines(&outcome, "NOT SELECTED"), Vec::<&str>::new());
    assert_eq!(lines(&outcome, "LEFT "), Vec::<&str>::new());
}

#[test]
fn modes_fragments_and_proceed_on() {
    let script = r#"
xdp=$(load program.o xdp:on_xdp) frags=$(load program.o xdp:on_frags)

# --- a driver without native XDP: generic, with a warning; and nothing but what --mode says
requests() { ping -q -A -c 2 127.0.0.1; }
link=$(attach "$xdp" xdp -i lo -p 50 2>/tmp/warned)
echo "LO=$(mode_of lo) $(counted "$xdp" requests)"
echo "LO_WARNED=$(tr '\n' ' ' </tmp/warned)"
echo "DIFFERS=$(refused bpfman attach "$xdp" xdp -i lo -p 60 --mode drv)"
bpfman detach "$link"
echo "LO_AFTER=$(mode_of lo) $(counted "$xdp" requests)"
ip link add card type dummy
ip link set card up
echo "DRV=$(refused bpfman attach "$xdp" xdp -i card -p 50 --mode drv)"
echo "HW=$(refused bpfman attach "$xdp" xdp -i card -p 50 --mode hw)"
link=$(attach "$xdp" xdp -i card -p 50 2>/tmp/warned)
echo "CARD=$(mode_of card)"
echo "CARD_WARNED=$(tr '\n' ' ' </tmp/warned)"
bpfman detach "$link"
# The configuration says it, the option overrides it.
mkdir -p /etc/bpfman
printf '[interfaces.veth0]\nxdp_mode = "skb"\n' >/etc/bpfman/bpfman.toml
link=$(attach "$xdp" xdp -i veth0 -p 50)
configured=$(mode_of veth0)
bpfman detach "$link"
link=$(attach "$xdp" xdp -i veth0 -p 50 --mode drv)
echo "CONFIGURED=$configured $(mode_of veth0)"
bpfman detach "$link"
rm /etc/bpfman/bpfman.toml

# --- a driver that takes packets of several fragments only from programs that take them
ip link set veth0 mtu 9000
ip -n peer link set veth1 mtu 9000
big() { ping_from_peer -c 2 -s 8000; }
link=$(attach "$xdp" xdp -i veth0 -p 50 2>/tmp/warned)
echo "BIG=$(mode_of veth0) $(counted "$xdp" big)"
echo "BIG_WARNED=$(tr '\n' ' ' </tmp/warned)"
bpfman detach "$link"
echo "BIG_DRV=$(refused bpfman attach "$xdp" xdp -i veth0 -p 50 --mode drv)"
link=$(attach "$frags" xdp -i veth0 -p 50 --mode drv)
attach "$frags" xdp -i veth0 -p 60 >/dev/null
echo "FRAGS=$(mode_of veth0) $(counted "$frags" big)"
# One without is refused while such packets come, and the chain stays as it was.
echo "MIXED=$(refused bpfman attach "$xdp" xdp -i veth0 -p 70)"
echo "FRAGS_STILL=$(mode_of veth0) $(counted "$frags" big)"
ip link set veth0 mtu 1500
ip -n peer link set veth1 mtu 1500
small() { ping_from_peer -c 2; }
other=$(attach "$xdp" xdp -i veth0 -p 70)
echo "TOGETHER=$(counted "$frags" small) $(counted "$xdp" small)"
# Without it the chain takes them again.
bpfman detach "$other"
ip link set veth0 mtu 9000
ip -n peer link set veth1 mtu 9000
echo "FRAGS_AGAIN=$(mode_of veth0) $(counted "$frags" big)"
bpfman unload "$frags"
echo "FRAGS_GONE=$(mode_of veth0)"
ip link set veth0 mtu 1500
ip -n peer link set veth1 mtu 1500

# --- proceed-on of TC: with the code that a program returns, and without it
shoots=$(load program.o tc:on_tc -g RETURNS=02000000) behind=$(load program.o tc:on_tc)
one() { ping_from_peer -c 1 -W 1 || true; }
tc_chain() { # NAME PROCEED-ON…
    name=$1
    shift
    link=$(attach "$shoots" tc -d ingress -i veth0 -p 10 "$@")
    ping_from_peer -c 1 -W 1 >/dev/null && passed=yes || passed=no
    echo "TC $name $passed $(counted "$shoots" one) $(counted "$behind" one)"
    bpfman detach "$link"
}
attach "$behind" tc -d ingress -i veth0 -p 20 >/dev/null
tc_chain default
tc_chain shot --proceed-on shot
tc_chain others --proceed-on ok pipe --proceed-on trap
tc_chain both --proceed-on ok shot
for id in $shoots $behind $xdp; do bpfman unload "$id"; done
left_behind | sed 's/^/LEFT /'
"#;
    let Some(outcome) = run(script) else { return };
    let says = |name: &str, words: &[&str]| {
        let line = outcome.value(name);
        for word in words {
            assert!(line.contains(word), "{name}: no {word:?} in {line}");
        }
    };
    let _ = outcome.ok();
    assert_eq!(outcome.value("LO"), "xdpgeneric 2");
    assert_eq!(outcome.value("LO_AFTER").trim(), "0");
    says("LO_WARNED", &["lo", "generic (skb) mode"]);
    says("DIFFERS", &["lo", "drv", "skb", "--mode"]);
    assert_eq!(outcome.value("CARD"), "xdpgeneric");
    says("CARD_WARNED", &["card", "generic (skb) mode"]);
    says("DRV", &["card", "drv", "--mode skb"]);
    says("HW", &["card", "hw", "--mode skb"]);
    assert_eq!(outcome.value("CONFIGURED"), "xdpgeneric xdp");

    assert_eq!(outcome.value("BIG"), "xdpgeneric 2");
    says("BIG_WARNED", &["veth0", "generic (skb) mode"]);
    says("BIG_DRV", &["veth0", "drv"]);
    // Two members, each of which saw both.
    assert_eq!(outcome.value("FRAGS"), "xdp 4");
    says("MIXED", &["replacing the dispatcher"]);
    assert_eq!(outcome.value("FRAGS_STILL"), "xdp 4");
    assert_eq!(outcome.value("TOGETHER"), "4 2");
    assert_eq!(outcome.value("FRAGS_AGAIN"), "xdp 4");
    assert_eq!(outcome.value("FRAGS_GONE"), "");

    // Name, whether the packet passed, how many of one the first and the second program saw.
    let chains = lines(&outcome, "TC ");
    let expected = [
        "default no 1 0",
        "shot yes 1 1",
        "others no 1 0",
        "both yes 1 1",
    ];
    assert_eq!(chains, expected, "{}", outcome.output);
    assert_eq!(lines(&outcome, "LEFT "), Vec::<&str>::new());
}
