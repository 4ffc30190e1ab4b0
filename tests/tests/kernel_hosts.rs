//! What differs from host to host (drivers, namespaces, rights), on a real kernel: in a VM.
#![allow(clippy::unwrap_used)]

use bpfman_tests::objects::Object;
use bpfman_tests::vm::{HELPERS, Vm, VmOutcome};

const PROGRAMS: &str = r#"
SEC("xdp")
int pass(struct xdp_md *ctx) { return XDP_PASS; }
SEC("fentry/veth_xmit")
int module(unsigned long long *ctx) { return 0; }
SEC("tc")
int ok(struct __sk_buff *ctx) { return 0; }
"#;

/// Two ends of a link: `veth0` and, in the namespace `peer`, `veth1`; and `dummy0`, whose driver knows no XDP.
const SETUP: &str = r#"
ip netns add peer
ip link add veth0 type veth peer name veth1 netns peer
ip link add dummy0 type dummy
for name in veth0 dummy0; do ip link set "$name" up; done
ip -n peer link set veth1 up
# said COMMAND…: what a command that has to succeed says on stderr, in one line
said() { "$@" >/tmp/out 2>/tmp/err || { cat /tmp/out /tmp/err; return 1; }; tr '\n' ' ' </tmp/err; }
"#;

fn run(script: &str, tools: &[&str]) -> Option<VmOutcome> {
    let object = Object::compile(PROGRAMS)?;
    let mut vm = Vm::new()?.tool("bpftool")?.option("--limit", "300");
    for tool in tools {
        vm = vm.tool(tool)?;
    }
    let vm = vm.file(object.path(), "/root/program.o");
    Some(vm.run(&format!("{HELPERS}{SETUP}{script}")))
}

/// What a script said under a name is asserted to have all of these words.
#[track_caller]
fn says(outcome: &VmOutcome, name: &str, words: &[&str]) {
    let _ = outcome.ok();
    let line = outcome.value(name);
    for word in words {
        assert!(line.contains(word), "{name}: no {word:?} in {line}");
    }
}

#[test]
fn the_generic_hook_is_taken_with_a_warning_and_the_mode_of_a_chain_is_known() {
    let script = r#"
mode() { bpftool net list dev "$1" | sed -n 's/^.*(\([0-9]*\)) \([a-z]*\) id.*/\2/p'; }
id=$(load program.o xdp:pass)
for name in dummy0 lo veth0; do
    echo "FIRST_$name=$(said bpfman attach "$id" xdp --iface "$name" --priority 5)"
    echo "MODE_$name=$(mode "$name")"
done
for name in dummy0 lo; do
    echo "SKB_$name=$(said bpfman attach "$id" xdp --iface "$name" --priority 6 --mode skb)"
    echo "DRV_$name=$(refused bpfman attach "$id" xdp --iface "$name" --priority 7 --mode drv)"
done
echo "DRV_veth0=$(said bpfman attach "$id" xdp --iface veth0 --priority 6 --mode drv)"
echo "SKB_veth0=$(refused bpfman attach "$id" xdp --iface veth0 --priority 7 --mode skb)"
bpfman unload "$id"
id=$(load program.o xdp:pass)
echo "ASKED=$(refused bpfman attach "$id" xdp --iface dummy0 --priority 5 --mode drv)"
bpfman unload "$id"
left_behind | sed 's/^/LEFT /'
"#;
    let Some(outcome) = run(script, &[]) else {
        return;
    };
    for name in ["dummy0", "lo"] {
        says(
            &outcome,
            &format!("FIRST_{name}"),
            &[
                name,
                "no XDP programs in driver (drv) mode",
                "generic (skb)",
            ],
        );
        assert_eq!(outcome.value(&format!("MODE_{name}")), "generic");
        assert_eq!(outcome.value(&format!("SKB_{name}")), "");
        says(
            &outcome,
            &format!("DRV_{name}"),
            &["in drv mode", "the chain there is in skb mode"],
        );
    }
    assert_eq!(outcome.value("FIRST_veth0"), "");
    assert_eq!(outcome.value("MODE_veth0"), "driver");
    assert_eq!(outcome.value("DRV_veth0"), "");
    says(&outcome, "SKB_veth0", &["the chain there is in drv mode"]);
    says(
        &outcome,
        "ASKED",
        &["does not take XDP programs in drv mode"],
    );
    assert!(!outcome.output.contains("\nLEFT "), "{}", outcome.output);
}

#[test]
fn a_chain_is_found_wherever_its_namespace_is_now() {
    let script = r#"
id=$(load program.o tc:ok)
mkfifo /tmp/pipe
for path in /tmp/pipe /dev/null /proc/self/ns/mnt /root/program.o; do
    echo "NO_NAMESPACE=$(refused bpfman attach "$id" tc -d ingress -i veth1 -p 1 -n "$path")"
done >/tmp/none
cat /tmp/none

# Reached through a process that ends, while the namespace lives on by a mount.
meanwhile ip netns exec peer sleep 1000
sleeper=$!
in_peer() { ip netns identify "$sleeper" | grep -q peer; }
eventually in_peer
touch /tmp/blue /tmp/red
mount --bind "/proc/$sleeper/ns/net" /tmp/blue
first=$(attach "$id" tc -d ingress -i veth1 -p 1 -n "/proc/$sleeper/ns/net")
kill "$sleeper"
wait "$sleeper" || true
ip netns del peer
inside() {
    ln -s "$1" /run/netns/look
    shift
    ip netns exec look "$@"
    rm /run/netns/look
}
filters() { inside "$1" tc filter show dev veth1 ingress | grep -c ' handle '; }
second=$(attach "$id" tc -d ingress -i veth1 -p 2 -n /tmp/blue)
echo "JOINED=$(filters /tmp/blue)"
bpfman detach "$second"
# By another mount yet.
mount --bind /tmp/blue /tmp/red
umount /tmp/blue
echo "STILL=$(filters /tmp/red)"
bpfman detach "$first"
echo "QDISC=$(inside /tmp/red tc qdisc show dev veth1 clsact)"
bpfman unload "$id"
left_behind | sed 's/^/LEFT /'
"#;
    let Some(outcome) = run(script, &[]) else {
        return;
    };
    let refusals: Vec<&str> = outcome
        .ok()
        .lines()
        .filter_map(|line| line.strip_prefix("NO_NAMESPACE="))
        .collect();
    assert_eq!(refusals.len(), 4, "{}", outcome.output);
    for refusal in refusals {
        assert!(refusal.contains("is no network namespace"), "{refusal}");
        assert!(refusal.contains("hint"), "{refusal}");
    }
    assert_eq!(outcome.value("JOINED"), "1");
    assert_eq!(outcome.value("STILL"), "1");
    assert_eq!(outcome.value("QDISC"), "");
    assert!(!outcome.output.contains("\nLEFT "), "{}", outcome.output);
}

#[test]
fn without_the_jit_one_program_runs_alone_on_a_hook() {
    let script = r#"
echo 0 >/proc/sys/net/core/bpf_jit_enable
for entry in xdp:pass tc:ok; do
    echo "LOADED_${entry%:*}=$(said bpfman load file --path program.o --programs "$entry")"
    id=$(field "Program ID" </tmp/out)
    case $entry in
        xdp:*) set -- xdp --iface veth0 ;;
        *) set -- tc -d ingress --iface veth0 ;;
    esac
    link=$(attach "$id" "$@" --priority 5)
    echo "LINK_${entry%:*}=$(bpfman get link "$link" | tr -s ' \n' ' ')"
    echo "SECOND_${entry%:*}=$(refused bpfman attach "$id" "$@" --priority 6)"
    bpfman unload "$id"
done 2>&1
left_behind | sed 's/^/LEFT /'
"#;
    let Some(outcome) = run(script, &[]) else {
        return;
    };
    for (kind, proceed_on) in [
        ("xdp", "pass, dispatcher_return"),
        ("tc", "ok, pipe, dispatcher_return"),
    ] {
        says(
            &outcome,
            &format!("LOADED_{kind}"),
            &["refuses EXT programs", "JIT", "without a dispatcher"],
        );
        says(
            &outcome,
            &format!("LINK_{kind}"),
            &["Position: 0", proceed_on],
        );
        says(
            &outcome,
            &format!("SECOND_{kind}"),
            &["without a dispatcher", "bpf_jit_enable"],
        );
    }
    assert!(!outcome.output.contains("\nLEFT "), "{}", outcome.output);
}

#[test]
fn each_command_asks_for_the_capabilities_that_it_uses() {
    let script = r#"
# with CAPABILITIES COMMAND…: root with these only
with() {
    only=$1
    shift
    setpriv --bounding-set "-all$only" --inh-caps -all "$@"
}
net=,+bpf,+perfmon,+net_admin
all=$net,+sys_admin
echo "MOUNT=$(refused with $net bpfman load file --path program.o --programs xdp:pass)"
bpfman unload "$(load program.o xdp:pass)"
said with $net bpfman load file --path program.o --programs xdp:pass
first=$(field "Program ID" </tmp/out)
second=$(load program.o xdp:pass)
said with $net bpfman attach "$first" xdp --iface veth0 --priority 1
link=$(field "Link ID" </tmp/out)
echo "JOIN=$(refused with $net bpfman attach "$second" xdp --iface veth0 --priority 2)"
echo "NETNS=$(refused with $net bpfman attach "$second" xdp --iface veth1 --priority 2 -n /run/netns/peer)"
said with ,+bpf bpfman detach "$link"
said with $all bpfman attach "$first" xdp --iface veth0 --priority 1
said with $all bpfman attach "$second" xdp --iface veth0 --priority 2
link=$(field "Link ID" </tmp/out)
echo "LEAVE=$(refused with $net bpfman detach "$link")"
echo "UNLOAD=$(refused with $net bpfman unload "$second")"
said with $all bpfman detach "$link"
said with ,+bpf bpfman unload "$second"
said with ,+bpf bpfman unload "$first"
tc=$(load program.o tc:ok)
said with $net bpfman attach "$tc" tc -d ingress --iface veth0 --priority 1
link=$(field "Link ID" </tmp/out)
echo "FILTER=$(refused with ,+bpf bpfman detach "$link")"
said with ,+bpf,+net_admin,+sys_admin bpfman detach "$link"
said with $net bpfman unload "$tc"
echo "LIST=$(refused with $net bpfman list programs)"
echo "GET=$(refused with $net bpfman get link 1)"
echo "NONE=$(refused with "" bpfman unload "$tc")"
left_behind | sed 's/^/LEFT /'
"#;
    let Some(outcome) = run(script, &["setpriv"]) else {
        return;
    };
    for name in ["MOUNT", "JOIN", "NETNS", "LEAVE", "UNLOAD", "LIST", "GET"] {
        says(&outcome, name, &["CAP_SYS_ADMIN"]);
        assert!(!outcome.value(name).contains("CAP_BPF"), "{name}");
    }
    says(&outcome, "FILTER", &["CAP_NET_ADMIN, CAP_SYS_ADMIN"]);
    says(&outcome, "NONE", &["CAP_BPF"]);
    assert!(!outcome.output.contains("\nLEFT "), "{}", outcome.output);
}

#[test]
fn what_an_interface_or_a_kernel_lacks_is_named() {
    let script = r#"
id=$(load program.o tc:ok)
echo "NEAR=$(refused bpfman attach "$id" tc -d ingress -i veth7 -p 1)"
echo "NEAR_THERE=$(refused bpfman attach "$id" tc -d ingress -i veth0 -p 1 -n /run/netns/peer)"
echo "MODULE=$(refused bpfman load file --path program.o --programs fentry:module:veth_xmit)"
rmmod cls_bpf
rm -rf /lib/modules
echo "CLASSIFIER=$(refused bpfman attach "$id" tc -d ingress -i veth0 -p 1)"
echo "QDISC_LEFT=$(tc qdisc show dev veth0 clsact)"
rmmod sch_ingress
echo "QDISC=$(refused bpfman attach "$id" tc -d ingress -i veth0 -p 1)"
bpfman unload "$id"
left_behind | sed 's/^/LEFT /'
"#;
    let Some(outcome) = run(script, &[]) else {
        return;
    };
    says(
        &outcome,
        "NEAR",
        &["no interface `veth7`", "did you mean `veth0`?"],
    );
    says(
        &outcome,
        "NEAR_THERE",
        &["no interface `veth0`", "did you mean `veth1`?"],
    );
    says(&outcome, "MODULE", &["module veth", "kprobe"]);
    says(
        &outcome,
        "CLASSIFIER",
        &[
            "no bpf classifier",
            "CONFIG_NET_CLS_BPF",
            "modprobe cls_bpf",
        ],
    );
    assert_eq!(outcome.value("QDISC_LEFT"), "");
    says(
        &outcome,
        "QDISC",
        &[
            "no clsact qdisc",
            "CONFIG_NET_SCH_INGRESS",
            "modprobe sch_ingress",
        ],
    );
    assert!(!outcome.output.contains("\nLEFT "), "{}", outcome.output);
}

#[test]
fn programs_are_not_loaded_into_a_mount_that_ends_with_the_command() {
    let script = r#"
echo "ALONE=$(refused ip netns exec peer bpfman load file --path program.o --programs xdp:pass)"
[ ! -e /run/bpfman/fs ] || find /run/bpfman/fs | sed 's/^/LEFT /'
cat >/tmp/shell <<'END'
bpfman load file --path program.o --programs xdp:pass >/tmp/out
bpfman list programs | tail -n +2
END
ip netns exec peer sh /tmp/shell 2>/tmp/err
echo "SHELL=$(tr '\n' ' ' </tmp/err)"
id=$(field "Program ID" </tmp/out)
bpfman unload "$id" 2>/dev/null
# With the mount there, it does not matter who comes.
bpfman unload "$(load program.o xdp:pass)"
said ip netns exec peer bpfman load file --path program.o --programs xdp:pass
id=$(field "Program ID" </tmp/out)
bpfman list programs | tail -n +2 | sed 's/^ *\([0-9]*\).*/THERE=\1/' | grep "$id"
bpfman unload "$id"
left_behind | sed 's/^/LEFT /'
"#;
    let Some(outcome) = run(script, &[]) else {
        return;
    };
    says(
        &outcome,
        "ALONE",
        &["mount namespace of its own", "--netns"],
    );
    says(&outcome, "SHELL", &["programs end with it"]);
    assert!(!outcome.output.contains("LEFT "), "{}", outcome.output);
}
