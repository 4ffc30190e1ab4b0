//! Two namespaces of this machine's own kernel with a link between them, and programs that count what passes.

use std::process::Command;

use bpfman_tests::cli::{Bpfman, Outcome};
use bpfman_tests::lanes;
use bpfman_tests::objects::Object;
use serde_json::Value;

/// Two namespaces with the ends of a link: `veth0` (10.1.0.1) and `veth1` (10.1.0.2).
pub(crate) struct Wire {
    name: String,
}

impl Wire {
    /// `None` after the test was skipped.
    pub(crate) fn new(name: &str) -> Option<Self> {
        for tool in ["ip", "tc", "busybox", "bpftool"] {
            lanes::tool(tool)?;
        }
        if !lanes::root() {
            return None;
        }
        let name = format!("bpfman-{name}-{}", std::process::id());
        let wire = Self { name };
        let (here, there) = (wire.netns("here"), wire.netns("there"));
        let script = format!(
            "set -e; ip netns add {here}; ip netns add {there}
            ip link add veth0 netns {here} type veth peer name veth1 netns {there}
            ip -n {here} addr add 10.1.0.1/24 dev veth0; ip -n {here} link set veth0 up
            ip -n {there} addr add 10.1.0.2/24 dev veth1; ip -n {there} link set veth1 up"
        );
        let output = sh(&script);
        if output.status != Some(0) {
            lanes::skip_or_fail(&format!("no veth on this machine: {}", output.stderr));
            return None;
        }
        Some(wire)
    }

    pub(crate) fn netns(&self, end: &str) -> String {
        format!("{}-{end}", self.name)
    }

    /// The namespace of `veth0`, as an argument.
    pub(crate) fn path(&self) -> String {
        format!("/run/netns/{}", self.netns("here"))
    }

    pub(crate) fn ping(&self, count: u32) {
        let netns = self.netns("there");
        let _ = sh(&format!(
            "ip netns exec {netns} busybox ping -q -A -c {count} 10.1.0.1"
        ))
        .ok();
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        for end in ["here", "there"] {
            let _ = sh(&format!("ip netns del {}", self.netns(end)));
        }
    }
}

pub(crate) fn sh(script: &str) -> Outcome {
    Outcome::of(&Command::new("sh").args(["-c", script]).output().unwrap())
}

/// Loads a program and gives its id.
pub(crate) fn load(bpfman: &Bpfman, object: &Object, program: &str) -> String {
    bpfman
        .run(&[
            "load",
            "file",
            "--path",
            object.arg(),
            "--programs",
            program,
        ])
        .field("Program ID")
}

/// The number in a program's map.
pub(crate) fn seen(bpfman: &Bpfman, id: &str) -> u64 {
    let map = bpfman.runtime().join(format!("fs/maps/{id}/seen"));
    let output = sh(&format!(
        "bpftool -j map lookup pinned {} key 0 0 0 0",
        map.display()
    ));
    let found: Value = serde_json::from_str(output.ok()).unwrap();
    found["formatted"]["value"].as_u64().unwrap()
}

pub(crate) fn json(outcome: &Outcome) -> Value {
    serde_json::from_str(outcome.ok()).unwrap()
}
