//! `bpfman doctor` on chains with dispatchers, in a VM: slots, links and filters that are taken away by hand, and records
//! that are removed under everything that is attached.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use bpfman_tests::objects::{Object, Packets};
use bpfman_tests::vm::{HELPERS, Vm};

const SCRIPT: &str = r#"
ip link set lo up
fs=/run/bpfman/fs
# doctor NAME [OPTION]…: its exit status and the differences, in one line
doctor() {
    name=$1 status=0
    shift
    bpfman doctor -o json "$@" >/tmp/found 2>/dev/null || status=$?
    echo "$name=$status $(sed -n 's/.*"difference": "\([a-z_]*\)".*/\1/p' /tmp/found | tr '\n' ' ')"
}
xdp=$(load program.o xdp:on_xdp 2>/dev/null) tc=$(load program.o tc:on_tc 2>/dev/null)
for priority in 50 60; do
    attach "$xdp" xdp -i lo -p $priority 2>/dev/null >/dev/null
    attach "$tc" tc -d ingress -i lo -p $priority >/dev/null
done
doctor WHOLE
# The members live on by the slots that are left.
rm $fs/xdp/*_2/link_0 $fs/tc-ingress/*_2/link_1 "$fs/prog_$xdp" "$fs/maps/$tc/seen"
doctor SLOTS
doctor SLOTS_REPAIRED --repair
doctor SLOTS_AFTER
rm $fs/xdp/*_link
tc filter del dev lo ingress
doctor HOOKS
doctor HOOKS_REPAIRED --repair
doctor HOOKS_AFTER
ping -q -c 1 127.0.0.1 >/dev/null
[ "$(value "$xdp" seen)" -ge 4 ] && [ "$(value "$tc" seen)" -ge 4 ] && echo "COUNTED=yes"
rm -r /run/bpfman/records
doctor RECORDS
doctor RECORDS_REPAIRED --repair
doctor RECORDS_AFTER
bpfman doctor -o json >/tmp/found 2>/dev/null || true
# As it says.
sh -c "$(sed -n 's/.*`\(tc filter del [^`]*\)`.*/\1/p' /tmp/found)"
doctor AT_LAST
find $fs -type f ! -name '*.debug' | sed 's/^/LEFT /'
bpftool prog list | sed 's/^/LEFT /'
"#;

#[test]
fn chains_are_mended_and_what_lost_its_records_is_taken_away() {
    let (Some(object), Some(vm)) = (
        Object::counting(Packets::All),
        Vm::new().and_then(|vm| vm.tool("bpftool")),
    ) else {
        return;
    };
    let outcome = vm
        .option("--limit", "300")
        .file(object.path(), "/root/program.o")
        .run(&format!("{HELPERS}{SCRIPT}"));
    let output = outcome.ok();
    let slots = "program_unpinned map_unpinned slot_differs slot_differs";
    let hooks = "chain_detached chain_detached";
    // An XDP link, two folders of maps, two programs and two of slots; the filter lives without a pin.
    let pins = ["left_over"; 7].join(" ");
    for (name, expected) in [
        ("WHOLE", "0".to_owned()),
        ("SLOTS", format!("1 {slots}")),
        ("SLOTS_REPAIRED", format!("0 {slots}")),
        ("SLOTS_AFTER", "0".to_owned()),
        ("HOOKS", format!("1 {hooks}")),
        ("HOOKS_REPAIRED", format!("0 {hooks}")),
        ("HOOKS_AFTER", "0".to_owned()),
        ("COUNTED", "yes".to_owned()),
        ("RECORDS", format!("1 {pins} filter_left_over")),
        ("RECORDS_REPAIRED", format!("1 {pins} filter_left_over")),
        ("RECORDS_AFTER", "1 filter_left_over".to_owned()),
        ("AT_LAST", "0".to_owned()),
    ] {
        assert_eq!(outcome.value(name).trim(), expected, "{name}\n{output}");
    }
    assert!(!output.contains("LEFT "), "{output}");
}
