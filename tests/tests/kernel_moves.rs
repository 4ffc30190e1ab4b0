//! Chains whose interface is moved to another network namespace and back, and whose number goes to another interface. In a
//! VM, where several programs run on one interface.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use bpfman_tests::objects::{Object, Packets};
use bpfman_tests::vm::{HELPERS, Vm};

const SCRIPT: &str = r#"
wire
xdp=$(load program.o xdp:on_xdp) tc=$(load program.o tc:on_tc)
index=$(cat /sys/class/net/veth0/ifindex)
ip netns add blue
blue="-n /run/netns/blue"
# doctor NAME: whether records, kernel and bpffs agree
doctor() { if bpfman doctor >/tmp/doctor 2>&1; then echo "$1=clean"; else echo "$1=$(tr '\n' ' ' </tmp/doctor)"; fi; }
# where NAME LINK: name, index, namespace and whether it is gone
where() {
    bpfman get link "$2" -o json >/tmp/link
    echo "$1=$(sed -n 's/^ *"\(interface\|ifindex\|network_namespace\|gone\)": "\{0,1\}\([^",]*\).*/\2/p' /tmp/link | tr '\n' ' ')"
}
counted() { # NAME: how often programs count one packet
    was=$(value "$xdp" seen)
    ping_from_peer -c 1 >/dev/null
    echo "$1=$(($(value "$xdp" seen) - was))"
}
addressed() { # NETNS
    ip $1 addr add 10.1.0.1/24 dev veth0
    ip $1 link set veth0 up
}
one=$(attach "$xdp" xdp -i veth0 -p 50)
two=$(attach "$xdp" xdp -i veth0 -p 60)
filter=$(attach "$tc" tc -d ingress -i veth0 -p 50)
counted BEFORE

ip link set veth0 netns blue
addressed "-n blue"
where MOVED "$one"
where FILTER "$filter"
doctor DIFFERS
bpfman doctor --repair
doctor REPAIRED
counted MOVED_COUNT

# Another interface gets the number, and a chain of its own.
ip link add new0 index "$index" type veth peer name new1
ip link set new0 up
on_new=$(attach "$xdp" xdp -i new0 -p 50)
attach "$xdp" xdp -i new0 -p 60 >/dev/null
where NEW "$on_new"
where STILL "$one"
doctor BOTH
counted BOTH_COUNT

# The chain that was moved is joined where it is.
three=$(attach "$xdp" xdp -i veth0 -p 55 $blue)
where JOINED "$three"
where FIRST "$one"
counted JOINED_COUNT
doctor JOINED_DOCTOR
bpfman detach "$two"
counted DETACHED_COUNT

# And back, where its number is another one's now.
ip link set new0 down
ip -n blue link set veth0 netns 1
addressed ""
where BACK "$one"
four=$(attach "$xdp" xdp -i veth0 -p 70)
where BACK_JOINED "$four"
counted BACK_COUNT
doctor BACK_DOCTOR
for link in $one $three $four; do bpfman detach "$link"; done
doctor END
ip link del new0
for id in $(bpfman list programs | awk 'NR > 1 { print $1 }'); do bpfman unload "$id"; done
left_behind | sed 's/^/LEFT /'
"#;

#[test]
fn chain_goes_where_its_interface_goes() {
    let Some(object) = Object::counting(Packets::EchoRequests) else {
        return;
    };
    let Some(vm) = Vm::new().and_then(|vm| vm.tool("bpftool")) else {
        return;
    };
    let vm = vm
        .option("--limit", "300")
        .file(object.path(), "/root/program.o");
    let outcome = vm.run(&format!("{HELPERS}{SCRIPT}"));
    let _ = outcome.ok();
    let place = |name: &str| {
        let value = outcome.value(name);
        let words: Vec<String> = value.split_whitespace().map(str::to_owned).collect();
        words
    };
    let (blue, gone) = ("/run/netns/blue", "true");
    assert_eq!(outcome.value("BEFORE"), "2");
    let moved = place("MOVED");
    let index = moved[1].as_str();
    assert_eq!(moved, ["veth0", index, blue, "false"]);
    assert_eq!(place("FILTER")[3], gone);
    assert!(outcome.value("DIFFERS").contains("the TC chain on veth0"));
    assert_eq!(outcome.value("REPAIRED"), "clean");
    assert_eq!(outcome.value("MOVED_COUNT"), "2");
    assert_eq!(place("NEW"), ["new0", index, "null", "false"]);
    assert_eq!(place("STILL"), moved);
    assert_eq!(outcome.value("BOTH"), "clean");
    assert_eq!(outcome.value("BOTH_COUNT"), "2");
    assert_eq!(place("JOINED"), moved);
    assert_eq!(place("FIRST"), moved);
    assert_eq!(outcome.value("JOINED_COUNT"), "3");
    assert_eq!(outcome.value("JOINED_DOCTOR"), "clean");
    assert_eq!(outcome.value("DETACHED_COUNT"), "2");
    let back = place("BACK");
    assert_eq!((back[0].as_str(), back[2].as_str()), ("veth0", "null"));
    assert_ne!(back[1], index);
    assert_eq!(place("BACK_JOINED"), back);
    assert_eq!(outcome.value("BACK_COUNT"), "3");
    assert_eq!(outcome.value("BACK_DOCTOR"), "clean");
    assert_eq!(outcome.value("END"), "clean");
    assert!(!outcome.output.contains("LEFT "), "{}", outcome.output);
}
