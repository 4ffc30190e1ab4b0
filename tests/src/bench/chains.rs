//! The case of XDP chains: ours and libxdp's in one VM, because not every host allows EXT programs. The machine is
//! emulated, and a nanosecond of its clock is an instruction, so that the figures are the same in every run.

use std::path::Path;
use std::process::Command;

use bpfman_tests::lanes;
use bpfman_tests::objects::Object;

use crate::measure::median;

pub(crate) const NAME: &str = "chains";

/// The program that every chain is made of.
const EMPTY: &str = "SEC(\"xdp\")\nint pass(struct xdp_md *ctx) { return XDP_PASS; }\n";

/// What is measured, as the guest names it, in which unit, what it is, and how many times as long as libxdp ours may take.
const FIGURES: [(&str, &str, &str, Option<f64>); 5] = [
    (
        "attach",
        "ms",
        "the tenth program attached (libxdp's: loaded too)",
        None,
    ),
    (
        "detach",
        "ms",
        "the tenth program detached (libxdp's: unloaded too)",
        None,
    ),
    ("run1", "ns", "a packet through a chain of one", Some(1.0)),
    ("run5", "ns", "a packet through a chain of five", Some(1.0)),
    ("run10", "ns", "a packet through a chain of ten", Some(1.0)),
];

/// Fills chains of ours on veth0 and of libxdp's on veth2, measures both in turn, and prints lines `NAME WHO VALUE`.
const SCRIPT: &str = r#"
set -eu
export LIBXDP_OBJECT_PATH=/root
for first in 0 2; do
    ip link add veth$first type veth peer name veth$((first + 1))
    ip link set veth$first up
    ip link set veth$((first + 1)) up
done
dd if=/dev/zero of=/tmp/packet bs=64 count=1 2>/dev/null
field() { sed -n "s/^ *$1: *\([^ ]*\).*/\1/p" | head -n 1; }
now() { sed -n 's/^now at \([0-9]*\) nsecs.*/\1/p' /proc/timer_list | head -n 1; }
took() { # NAME WHO COMMAND…
    name=$1 who=$2
    shift 2
    before=$(now)
    "$@" >/tmp/took || { cat /tmp/took; exit 1; }
    echo "$name $who $(awk -v from="$before" -v to="$(now)" 'BEGIN { printf "%.2f", (to - from) / 1e6 }')"
}
ours() { bpfman attach "$program" xdp --iface veth0 --priority 50 --mode skb; }
theirs() { xdp-loader load -m skb veth2 /root/pass.o; }
load() { program=$(bpfman load file --path /root/pass.o --programs xdp:pass | field "Program ID"); }
run() { # NAME WHO INTERFACE
    id=$(ip link show dev "$3" | sed -n 's/.*prog\/xdp id \([0-9]*\).*/\1/p')
    bpftool prog run id "$id" data_in /tmp/packet repeat 20000 >/tmp/run
    echo "$1 $2 $(sed -n 's/.*(average): \([0-9]*\)ns.*/\1/p' /tmp/run)"
}
for count in 1 2 3 4 5 6 7 8 9 10; do
    load
    ours >/tmp/ours
    theirs
    case $count in 1 | 5 | 10)
        for _ in 1 2 3; do
            run run$count ours veth0
            run run$count theirs veth2
        done ;;
    esac
done
for _ in 1 2 3; do
    link=$(field "Link ID" </tmp/ours)
    took detach ours bpfman detach "$link"
    last=$(xdp-loader status veth2 | awk '$1 == "=>" { id = $4 } END { print id }')
    took detach theirs xdp-loader unload veth2 -i "$last"
    took attach ours ours
    cp /tmp/took /tmp/ours
    took attach theirs theirs
done
"#;

/// Runs the guest, prints a line a figure, and returns whether ours took at most as long everywhere.
pub(crate) fn run(binary: &Path) -> Result<bool, String> {
    let tools = lanes::foreign_package("own", "xdp-tools").ok_or("no xdp-tools")?;
    let library = lanes::foreign_package("own", "libxdp1").ok_or("no libxdp1")?;
    let bpftool = lanes::tool("bpftool").ok_or("no bpftool")?;
    lanes::tool("qemu-system-x86_64").ok_or("no qemu-system-x86_64")?;
    let object = Object::compile(EMPTY).ok_or("the program cannot be compiled")?;
    let multiarch = format!("usr/lib/{}-linux-gnu", std::env::consts::ARCH);
    let files = [
        (binary.to_owned(), "/bin/bpfman"),
        (bpftool, "/bin/bpftool"),
        (tools.join("usr/sbin/xdp-loader"), "/bin/xdp-loader"),
        (
            library.join(multiarch).join("bpf/xdp-dispatcher.o"),
            "/root/xdp-dispatcher.o",
        ),
        (object.path().to_owned(), "/root/pass.o"),
    ];
    let mut command = Command::new(lanes::repository().join("tests/vm/run"));
    command.args(["--count", "--limit", "600"]);
    for (host, guest) in files {
        command.arg("--file");
        command.arg(format!("{}:{guest}", host.display()));
    }
    let output = command
        .args(["--", "sh", "-c", SCRIPT])
        .output()
        .map_err(|error| error.to_string())?;
    let text = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        return Err(format!("the guest failed:\n{text}{stderr}"));
    }

    println!(
        "{NAME}: empty XDP programs on an interface, ours and libxdp's, in one emulated machine"
    );
    let mut kept = true;
    for (name, unit, what, most) in FIGURES {
        let of = |who: &str| median(values(&text, name, who));
        let (ours, theirs) = (of("ours"), of("theirs"));
        let ratio = ours / theirs;
        let judged = most.map_or(String::new(), |most| {
            let within = ratio <= most;
            kept &= within;
            let judged = if within { "kept" } else { "MISSED" };
            format!("   (at most {most}: {judged})")
        });
        println!(
            "  {what:<54} {ours:>8.2} {unit:<2} libxdp {theirs:>8.2} {unit:<2} ours takes {ratio:.2} times as long{judged}"
        );
    }
    println!();
    Ok(kept)
}

/// The values of the lines `NAME WHO VALUE`.
fn values(text: &str, name: &str, who: &str) -> Vec<f64> {
    let fields = text.lines().map(|line| line.split_whitespace());
    fields
        .filter_map(|mut fields| {
            let of_both = fields.next()? == name && fields.next()? == who;
            fields.next().filter(|_| of_both)?.parse().ok()
        })
        .collect()
}
