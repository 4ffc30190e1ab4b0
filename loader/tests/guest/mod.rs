//! A test that runs itself again in a VM.

use std::process::Command;

use bpfman_tests::lanes;

use crate::objects;

/// Where the objects lie in the guest.
const GUEST_OBJECTS: &str = "/root/objects";
/// Set where the test really runs.
const INSIDE: &str = "BPFMAN_TEST_OBJECTS";

/// Two ends of a link: `veth0` (10.1.0.1) and, in the namespace `peer`, `veth1` (10.1.0.2).
const SETUP: &str =
    "set -e; ip netns add peer; ip link add veth0 type veth peer name veth1 netns peer;
    ip addr add 10.1.0.1/24 dev veth0; ip link set veth0 up;
    ip -n peer addr add 10.1.0.2/24 dev veth1; ip -n peer link set veth1 up;";

/// Whether this is the guest. If not, the test of that name was run in one with the objects compiled from those sources
/// of `tests/bpf`, and the caller has to return.
pub(crate) fn inside(test: &str, sources: &[&str]) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    for tool in ["qemu-system-x86_64", "busybox", "cpio", "modprobe", "ip"] {
        if lanes::tool(tool).is_none() {
            return false;
        }
    }
    let folder = tempfile::tempdir().unwrap();
    for name in sources {
        let path = folder.path().join(format!("{name}.o"));
        if objects::compile(name, &path).is_none() {
            return false;
        }
    }
    let ip = lanes::tool("ip").unwrap();
    let binary = std::env::current_exe().unwrap();
    let script = format!(
        "{SETUP} export {INSIDE}={GUEST_OBJECTS} CI=true; exec /bin/guest-test --exact --nocapture {test}"
    );
    let output = Command::new(lanes::repository().join("tests/vm/run"))
        .arg("--file")
        .arg(format!("{}:/bin/ip", ip.display()))
        .arg("--file")
        .arg(format!("{}:/bin/guest-test", binary.display()))
        .arg("--file")
        .arg(format!("{}:{GUEST_OBJECTS}", folder.path().display()))
        .args(["--", "sh", "-c", &script])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    println!("{said}");
    let ended_well = output.status.success() && said.contains("1 passed");
    assert!(
        ended_well,
        "in the guest: {said}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    false
}
