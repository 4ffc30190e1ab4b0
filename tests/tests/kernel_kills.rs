//! The process is killed at every write to the journal, on a real kernel: the next command leaves nothing half done. In
//! a VM, with a `bpfman` that kills itself where it is told to (`--features failpoints`).
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::print_stdout)]

use bpfman_tests::cli;
use bpfman_tests::objects::{Object, Packets};
use bpfman_tests::vm::{HELPERS, Vm};

/// What the scripts use.
const SETUP: &str = r#"
wire
printf '%s\n' 'prog show' 'map show' 'link show' 'net show dev veth0' >/tmp/of-bpftool
printf '%s\n' 'qdisc show dev veth0' 'filter show dev veth0 ingress' 'filter show dev veth0 egress' >/tmp/of-tc
# shape FILE: all that there is of programs, maps, links, hooks and pins, and the links that bpfman knows of; ids left out
shape() {
    {
        bpftool batch file /tmp/of-bpftool | grep -v '^processed ' | sed -n \
            -e 's/^[0-9]*: \([a-z_]*  name [^ ]*\).*/\1/p' \
            -e 's/^[0-9]*: \([a-z_]*\)  prog .*/link \1/p' \
            -e '/veth0(/p'
        tc -batch /tmp/of-tc
        find /run/bpfman/fs ! -name '*.debug'
        awk 'NR > 1 { print "listed", $3, $NF }' /tmp/links
    } | sed 's/[0-9][0-9]*/N/g' | sort >"$1"
}
# kills NAME DO BACK: kills DO at its first moment, its second and so on, until it is through. BACK takes it back.
kills() {
    name=$1 do=$2 back=$3
    "$do"
    bpfman list links >/tmp/links
    shape /tmp/after
    # The folders that stay are there now.
    "$back"
    bpfman list links >/tmp/links
    shape /tmp/before
    moment=0 undone=0 finished=0
    while :; do
        moment=$((moment + 1))
        export BPFMAN_FAILPOINT=$moment
        status=0
        "$do" >/tmp/did 2>&1 || status=$?
        unset BPFMAN_FAILPOINT
        [ "$status" = 137 ] || break
        # The next command, and what the doctor then finds.
        bpfman list links >/tmp/links 2>/tmp/said
        bpfman doctor >>/tmp/said 2>&1 || half
        # The kernel frees what nobody holds a moment later.
        for look in 1 2 3 4 5 6 7 8; do
            shape /tmp/now
            if cmp -s /tmp/now /tmp/before || cmp -s /tmp/now /tmp/after; then break; fi
        done
        if cmp -s /tmp/now /tmp/before; then
            undone=$((undone + 1))
        elif cmp -s /tmp/now /tmp/after; then
            finished=$((finished + 1))
            "$back"
        else
            half
        fi
    done
    [ "$status" = 0 ] || half
    echo "KILLED $name $undone $finished"
}
half() {
    echo "HALF $name, moment $moment, status $status"
    cat /tmp/did /tmp/said
    diff /tmp/before /tmp/now || true
    diff /tmp/after /tmp/now || true
    exit 1
}
listed() { bpfman list programs | awk 'NR > 1 { print $1 }'; }
# Commands that may die: without a pipe, which would hide it.
loads() { bpfman load file --path program.o --programs "$@" >/tmp/load; }
loaded() { loads "$1" && field "Program ID" </tmp/load; }
attaches() { bpfman attach "$@" >/tmp/attached; }
# The link that is not one of those that stay.
new_link() { bpfman list links | awk -v stay=" ${stay:-} " 'NR > 1 && !index(stay, " " $2 " ") { print $2 }'; }
detach_new() { bpfman detach "$(new_link)"; }
unload_all() { for id in $(listed); do bpfman unload "$id"; done; }
"#;

/// After each script: nothing is left, the folders that stay apart.
const END: &str = r#"
unload_all
left_behind | sed 's/^/LEFT /'
find /run/bpfman/fs -mindepth 2 ! -path '*/maps/by-name' ! -name '*.debug' | sed 's/^/LEFT /'
tc qdisc show dev veth0 clsact | sed 's/^/LEFT /'
"#;

/// Runs a script that kills these acts. Each is undone at its first moments, and finished at its last.
fn kill(script: &str, acts: &[&str]) {
    let Some(binary) = cli::failpoints_binary() else {
        return;
    };
    let (Some(object), Some(vm)) = (
        Object::counting(Packets::All),
        Vm::of(&binary).and_then(|vm| vm.tool("bpftool")),
    ) else {
        return;
    };
    let outcome = vm
        .option("--limit", "300")
        .file(object.path(), "/root/program.o")
        .run(&format!("{HELPERS}{SETUP}{script}{END}"));
    let output = outcome.ok();
    let killed = output
        .lines()
        .filter_map(|line| line.strip_prefix("KILLED "));
    let killed: Vec<Vec<&str>> = killed.map(|line| line.split(' ').collect()).collect();
    for act in &killed {
        let (undone, finished): (u32, u32) = (act[1].parse().unwrap(), act[2].parse().unwrap());
        println!("{}: undone {undone} times, finished {finished}", act[0]);
        // Before the first write and after it, and the last one of all.
        assert!(undone >= 2 && finished >= 1, "{act:?}\n{output}");
    }
    let lacking = output.contains("TCX=lacking");
    let expected = acts.iter().filter(|act| !(lacking && act.contains("tcx")));
    assert!(
        killed.iter().map(|act| act[0]).eq(expected.copied()),
        "{output}"
    );
    assert!(!output.contains("LEFT "), "{output}");
}

#[test]
fn load_and_unload() {
    let script = r#"
load_three() { loads xdp:on_xdp tc:on_tc tracepoint:on_kill; }
kills load load_three unload_all
unload_all
# What is attached is unloaded: a chain is built anew without it, another one ends.
stays=$(loaded xdp:on_xdp)
attaches "$stays" xdp -i veth0 -p 30
unload_two() { bpfman unload "$two"; }
load_two() {
    two=$(loaded xdp:on_xdp)
    attaches "$two" xdp -i veth0 -p 20
    attaches "$two" xdp -i veth0 -p 40
    attaches "$two" xdp -i lo -p 40
}
load_two 2>/dev/null
kills unload unload_two load_two
"#;
    kill(script, &["load", "unload"]);
}

#[test]
fn attach_and_detach_of_the_third_member_of_an_xdp_chain() {
    let script = r#"
xdp=$(loaded xdp:on_xdp)
stay="$(attach "$xdp" xdp -i veth0 -p 10) $(attach "$xdp" xdp -i veth0 -p 50)"
attach_xdp() { attaches "$xdp" xdp -i veth0 -p 30; }
kills attach-xdp attach_xdp detach_new
kills detach-xdp detach_new attach_xdp
"#;
    kill(script, &["attach-xdp", "detach-xdp"]);
}

#[test]
fn attach_and_detach_of_the_first_and_the_second_tc_program() {
    let script = r#"
tc=$(loaded tc:on_tc)
attach_tc() { attaches "$tc" tc -d ingress -i veth0 -p 30; }
kills attach-tc attach_tc detach_new
kills detach-tc detach_new attach_tc
# A member of a chain, which is swapped in its filter.
stay=$(attach "$tc" tc -d ingress -i veth0 -p 50)
kills attach-second-tc attach_tc detach_new
"#;
    kill(script, &["attach-tc", "detach-tc", "attach-second-tc"]);
}

#[test]
fn attach_and_detach_of_links_of_their_own() {
    let script = r#"
kill=$(loaded tracepoint:on_kill)
attach_kill() { attaches "$kill" tracepoint -t syscalls/sys_enter_kill; }
kills attach-tracepoint attach_kill detach_new
kills detach-tracepoint detach_new attach_kill
case $(uname -r) in
6.[0-5].* | 5.*) echo "TCX=lacking" ;;
*)
    tcx=$(loaded tcx:on_tcx)
    attach_tcx() { attaches "$tcx" tcx -d ingress -i veth0 -p 30; }
    kills attach-tcx attach_tcx detach_new
    kills detach-tcx detach_new attach_tcx
    ;;
esac
"#;
    let acts = [
        "attach-tracepoint",
        "detach-tracepoint",
        "attach-tcx",
        "detach-tcx",
    ];
    kill(script, &acts);
}
