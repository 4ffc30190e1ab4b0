//! What others have on the hooks that we use stays as it is, through a whole life of ours: in a VM.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use bpfman_tests::objects::Object;
use bpfman_tests::vm::{HELPERS, Vm};

const PROGRAMS: &str = r#"
#include <linux/pkt_cls.h>
SEC("xdp")
int on_xdp(struct xdp_md *ctx) { return XDP_PASS; }
SEC("tc")
int on_tc(struct __sk_buff *ctx) { return TC_ACT_UNSPEC; }
SEC("tcx/ingress")
int on_tcx(struct __sk_buff *ctx) { return -1; }
SEC("tracepoint/syscalls/sys_enter_kill")
int on_kill(void *ctx) { return 0; }
"#;

/// What bpftool loads for others: it refuses an object with a section that it does not know.
const THEIRS: &str = r#"
SEC("xdp")
int on_xdp(struct xdp_md *ctx) { return XDP_PASS; }
SEC("tc")
int on_tc(struct __sk_buff *ctx) { return -1; }
"#;

const SCRIPT: &str = r#"
wire
for card in card1 card2; do ip link add "$card" type dummy && ip link set "$card" up; done

# --- what others have: filters of the kernel's classic kind and BPF programs, on our preference and around it, both
# directions; an XDP program by netlink, an XDP link, a tracepoint link, and TCX links on both sides of ours. Another
# bpfman, with a runtime folder of its own, stands for whoever makes links.
classic() { tc filter add dev veth0 "$1" pref "$2" protocol "$3" handle 0x7 bpf bytecode '1,6 0 0 0,' flowid 1:1; }
tc qdisc add dev veth0 clsact
for direction in ingress egress; do
    classic "$direction" 49 ip
    classic "$direction" 50 all
    classic "$direction" 51 ip
done
bpftool prog loadall theirs.o /sys/fs/bpf/theirs
tc filter add dev veth0 ingress pref 48 protocol all handle 0x9 bpf da pinned /sys/fs/bpf/theirs/on_tc
tc filter add dev veth0 egress pref 52 protocol all handle 0x9 bpf da pinned /sys/fs/bpf/theirs/on_tc
bpftool net attach xdpgeneric pinned /sys/fs/bpf/theirs/on_xdp dev card1
theirs() { BPFMAN_RUNTIME_DIR=/run/theirs bpfman "$@"; }
theirs_load() { theirs load file --path program.o --programs "$1" >/tmp/load; field "Program ID" </tmp/load; }
theirs attach "$(theirs_load xdp:on_xdp)" xdp -i card2 -p 50 >/dev/null
theirs attach "$(theirs_load tracepoint:on_kill)" tracepoint -t syscalls/sys_enter_kill >/dev/null
has_tcx=yes
case $(uname -r) in 6.[0-5].* | 5.*) has_tcx=no ;; esac
echo "TCX=$has_tcx"
their_tcx() {
    [ $has_tcx = no ] || theirs attach "$(theirs_load tcx:on_tcx)" tcx -d ingress -i veth0 -p "$1" >/dev/null
}
their_tcx 1

world() {
    for device in veth0 card1 card2; do
        tc qdisc show dev $device
        tc filter show dev $device ingress
        tc filter show dev $device egress
    done
    bpftool net show
    bpftool link show
    bpftool prog show
    bpftool map show
    ip -d link show
}
world >/tmp/before

# --- a whole life of ours, on all of these hooks
xdp=$(load program.o xdp:on_xdp) tc=$(load program.o tc:on_tc) kill=$(load program.o tracepoint:on_kill)
ours() {
    for priority in 50 10; do
        attach "$xdp" xdp -i veth0 -p $priority
        attach "$tc" tc -d ingress -i veth0 -p $priority
        attach "$tc" tc -d egress -i veth0 -p $priority
    done
    attach "$kill" tracepoint -t syscalls/sys_enter_kill
    [ $has_tcx = no ] || attach "$tcx" tcx -d ingress -i veth0 -p 50
}
[ $has_tcx = no ] || tcx=$(load program.o tcx:on_tcx)
links=$(ours)
echo "OURS=$(echo "$links" | wc -l)"
echo "NETLINK=$(refused bpfman attach "$xdp" xdp -i card1 -p 50)"
echo "LINK=$(refused bpfman attach "$xdp" xdp -i card2 -p 50)"
world >/tmp/during
# Nothing that was there is missing or looks another way: all but that veth0 has XDP now.
grep -Fvx -f /tmp/during /tmp/before | sed 's/^/CHANGED /' || true
echo "MORE=$(grep -Fvxc -f /tmp/before /tmp/during)"
for link in $links; do bpfman detach "$link"; done
links=$(ours)
for id in $xdp $tc $kill ${tcx:-}; do bpfman unload "$id"; done
# The kernel frees what nobody holds a moment later.
for look in 1 2 3 4 5 6 7 8; do
    world >/tmp/after
    if cmp -s /tmp/before /tmp/after; then break; fi
done
diff /tmp/before /tmp/after | sed 's/^/DIFFERENT /'
"#;

#[test]
fn a_whole_life_of_ours_leaves_what_others_have_as_it_was() {
    let (Some(object), Some(theirs)) = (Object::compile(PROGRAMS), Object::compile(THEIRS)) else {
        return;
    };
    let Some(vm) = Vm::new().and_then(|vm| vm.tool("bpftool")) else {
        return;
    };
    let outcome = vm
        .option("--limit", "300")
        .file(object.path(), "/root/program.o")
        .file(theirs.path(), "/root/theirs.o")
        .run(&format!("{HELPERS}{SCRIPT}"));
    let output = outcome.ok();
    let lines = |prefix: &str| -> Vec<&str> {
        output
            .lines()
            .filter_map(|line| line.strip_prefix(prefix))
            .collect()
    };
    assert_eq!(lines("DIFFERENT "), Vec::<&str>::new(), "{output}");
    let ours = if outcome.value("TCX") == "yes" {
        "8"
    } else {
        "7"
    };
    assert_eq!(outcome.value("OURS"), ours);
    let more: u32 = outcome.value("MORE").parse().unwrap();
    assert!(more > 20, "ours were not there: {output}");
    // The interface itself says that it has XDP.
    let changed = lines("CHANGED ");
    assert!(
        changed.iter().all(|line| line.contains(": veth0@")),
        "{changed:#?}"
    );
    for name in ["NETLINK", "LINK"] {
        let said = outcome.value(name);
        assert!(said.contains("card") && said.contains("program"), "{said}");
    }
}
