//! The examples: compiled for every architecture with the same bytes in every folder; loaded, attached and read.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use bpfman_tests::cli::Bpfman;
use bpfman_tests::lanes;
use bpfman_tests::vm::{HELPERS, Vm};
use tempfile::TempDir;

const EXAMPLES: [&str; 7] = [
    "app-counter",
    "kprobe-counter",
    "tc-counter",
    "tcx-counter",
    "tracepoint-counter",
    "uprobe-counter",
    "xdp-counter",
];

/// bpf2go's names for what `make` compiles for, and the architecture of each.
const OBJECTS: [(&str, &str); 4] = [
    ("bpf_x86_bpfel.o", "amd64"),
    ("bpf_arm64_bpfel.o", "arm64"),
    ("bpf_powerpc_bpfel.o", "ppc64le"),
    ("bpf_s390_bpfeb.o", "s390x"),
];

/// A copy of the examples' sources in a folder below `place`, compiled; `None` after the test was skipped.
fn compiled(place: &Path) -> Option<PathBuf> {
    for tool in ["clang", "llvm-strip", "make"] {
        lanes::tool(tool)?;
    }
    let examples = place.join("examples");
    std::fs::create_dir_all(&examples).unwrap();
    let from = lanes::repository().join("examples");
    std::fs::copy(from.join("bpf.mk"), examples.join("bpf.mk")).unwrap();
    for example in EXAMPLES {
        let to = examples.join(example);
        std::fs::create_dir(&to).unwrap();
        let source = format!("{}.bpf.c", example.replace('-', "_"));
        for name in ["Makefile", &source] {
            std::fs::copy(from.join(example).join(name), to.join(name)).unwrap();
        }
        let output = Command::new("make").arg("-C").arg(&to).output().unwrap();
        assert!(output.status.success(), "{example}: {output:?}");
    }
    Some(examples)
}

fn objects(examples: &Path) -> BTreeMap<(&'static str, &'static str), Vec<u8>> {
    let mut found = BTreeMap::new();
    for example in EXAMPLES {
        for (name, _) in OBJECTS {
            let file = examples.join(example).join(name);
            found.insert((example, name), std::fs::read(file).unwrap());
        }
    }
    found
}

#[test]
fn every_folder_gives_the_same_bytes_and_the_same_image() {
    let (here, there) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let far = there.path().join("another folder/deeper");
    let (Some(here), Some(there)) = (compiled(here.path()), compiled(&far)) else {
        return;
    };
    let (first, second) = (objects(&here), objects(&there));
    for (name, bytes) in &first {
        assert!(bytes == &second[name], "{name:?} depends on its folder");
    }
    let bpfman = Bpfman::new();
    for example in EXAMPLES {
        let digest = |examples: &Path| {
            let mut build = bpfman.command(&["image", "build", "-r", "builtin", "--no-push"]);
            build.args(["-t", "registry.example/counter:1", "-c"]);
            let output = build.arg(examples.join(example)).output().unwrap();
            assert!(output.status.success(), "{example}: {output:?}");
            String::from_utf8(output.stdout).unwrap()
        };
        assert_eq!(digest(&here), digest(&there), "{example}");
    }
}

/// What each example's README says, with events of its own; then its reader, which must have counted them.
const SCRIPT: &str = r#"
ip netns add peer
ip link add veth0 type veth peer name veth1 netns peer
ip addr add 10.1.0.1/24 dev veth0
ip link set veth0 up
ip -n peer addr add 10.1.0.2/24 dev veth1
ip -n peer link set veth1 up
packets() { ip netns exec peer ping -q -A -c 10 10.1.0.1 >/dev/null; }
unlinks() { for number in 1 2 3; do touch /tmp/x; rm /tmp/x; done; }
kills() { for number in 1 2 3; do kill -0 1; /bin/busybox kill -0 1; done; }
calls() { for number in 1 2 3; do bpftool version >/dev/null; done; }
# of EXAMPLE EVENTS READER
of() {
    "$2"
    echo "$1=$("/bin/$1" "$3" | tr '\n' ' ')"
}
ldconfig

id=$(load xdp.o xdp:xdp_stats)
attach "$id" xdp --iface veth0 --priority 50 >/dev/null
of xdp-counter packets "$id"

id=$(load tc.o tc:tc_stats)
attach "$id" tc --direction ingress --iface veth0 --priority 50 >/dev/null
of tc-counter packets "$id"

id=$(load tcx.o tcx:tcx_stats)
case $(uname -r) in
6.[0-5].* | 5.*)
    echo "NO_TCX=$(refused bpfman attach "$id" tcx --direction ingress --iface veth0 --priority 50)"
    bpfman unload "$id"
    ;;
*)
    attach "$id" tcx --direction ingress --iface veth0 --priority 50 >/dev/null
    of tcx-counter packets "$id"
    ;;
esac

id=$(load tracepoint.o tracepoint:tracepoint_kill_recorder)
attach "$id" tracepoint --tracepoint syscalls/sys_enter_kill >/dev/null
of tracepoint-counter kills "$id"

id=$(load kprobe.o kprobe:kprobe_counter)
attach "$id" kprobe --fn-name vfs_unlink >/dev/null
of kprobe-counter unlinks "$id"

id=$(load uprobe.o uprobe:uprobe_counter)
attach "$id" uprobe --target libc --fn-name malloc >/dev/null
of uprobe-counter calls "$id"

bpfman load file --path app.o --application app-counter --programs \
    xdp:app_xdp tc:app_tc tracepoint:app_tracepoint kprobe:app_kprobe uprobe:app_uprobe uprobe:app_uretprobe >/tmp/loaded
program() { awk -v name="$1" '{ for (i = 2; i <= NF; i++) if ($i == name) print $1 }' /tmp/loaded; }
attach "$(program app_xdp)" xdp --iface veth0 --priority 50 >/dev/null
attach "$(program app_tc)" tc --direction ingress --iface veth0 --priority 50 >/dev/null
attach "$(program app_tracepoint)" tracepoint --tracepoint syscalls/sys_enter_kill >/dev/null
attach "$(program app_kprobe)" kprobe --fn-name vfs_unlink >/dev/null
attach "$(program app_uprobe)" uprobe --target libc --fn-name malloc >/dev/null
attach "$(program app_uretprobe)" uprobe --target libc --fn-name malloc >/dev/null
everything() { packets; kills; unlinks; calls; }
of app-counter everything "$(program app_xdp)"
"#;

/// The numbers in a line.
fn numbers(line: &str) -> Vec<u64> {
    line.split(|c: char| !c.is_ascii_digit())
        .filter_map(|number| number.parse().ok())
        .collect()
}

#[test]
fn every_example_counts_on_a_real_kernel() {
    let place = TempDir::new().unwrap();
    let Some(examples) = compiled(place.path()) else {
        return;
    };
    let Some(mut vm) = Vm::new().and_then(|vm| vm.tool("bpftool")) else {
        return;
    };
    let folder = std::env::current_exe().unwrap();
    // target/debug/deps/<test> → target/debug
    let folder = folder.ancestors().nth(2).unwrap();
    for example in EXAMPLES {
        let object = examples.join(example).join("bpf_x86_bpfel.o");
        let name = example.strip_suffix("-counter").unwrap();
        vm = vm.file(&object, &format!("/root/{name}.o"));
        let reader = folder.join(example);
        assert!(reader.is_file(), "cargo build --workspace: {reader:?}");
        vm = vm.file(&reader, &format!("/bin/{example}"));
    }
    // Ubuntu's ldconfig is a script around the real one.
    let mut programs = ["/sbin/ldconfig.real", "/sbin/ldconfig"]
        .iter()
        .map(Path::new);
    let ldconfig = programs.find(|path| path.is_file()).unwrap();
    vm = vm.file(ldconfig, "/bin/ldconfig").option("--limit", "400");
    let outcome = vm.run(&format!("{HELPERS}\n{SCRIPT}"));
    let output = outcome.ok();
    let mut of_packets = vec!["xdp-counter", "tc-counter"];
    if output.contains("NO_TCX=") {
        let said = outcome.value("NO_TCX");
        for words in ["TCX needs kernel 6.6 or newer", "load the program as `tc`"] {
            assert!(said.contains(words), "{words}: {said}");
        }
    } else {
        of_packets.push("tcx-counter");
    }
    for example in of_packets {
        let found = numbers(outcome.value(example));
        let [packets, bytes] = found.as_slice() else {
            panic!("{example}: {found:?}");
        };
        assert!(*packets >= 10, "{example}: {packets} packets");
        assert!(*bytes >= 10 * 98, "{example}: {bytes} bytes");
    }
    // `signal 0: N calls`.
    let kills = numbers(outcome.value("tracepoint-counter"));
    assert_eq!(kills[0], 0, "{kills:?}");
    assert!(kills[1] >= 3, "{kills:?}");
    for example in ["kprobe-counter", "uprobe-counter"] {
        let calls = numbers(outcome.value(example));
        assert!(calls[0] >= 3, "{example}: {calls:?}");
    }
    let events = numbers(outcome.value("app-counter"));
    assert_eq!(events.len(), 6, "{events:?}");
    for (program, events) in ["xdp", "tc", "tracepoint", "kprobe", "uprobe", "uretprobe"]
        .iter()
        .zip(events)
    {
        assert!(events >= 3, "{program} of app-counter: {events} events");
    }
}
