//! A host without a network: a store that somebody else's tool filled, on media that cannot be written, and the kernel.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use std::path::Path;
use std::process::Command;

use bpfman_tests::cli::{Bpfman, HELD};
use bpfman_tests::lanes;
use bpfman_tests::layout::check;
use bpfman_tests::objects::Object;
use bpfman_tests::registry::Registry;

/// No network at all, not even loopback.
const ALONE: [&str; 2] = ["unshare", "-n"];

fn build(object: &Object, reference: &str) {
    let words = ["image", "build", "--runtime", "builtin", "-t", reference];
    let words = [&words[..], &["-b", object.arg()]].concat();
    let _ = Bpfman::new().run(&words).ok();
}

fn run(program: &Path, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    let program = program.display();
    assert!(output.status.success(), "{program} {arguments:?}: {stderr}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Fills a store by skopeo, alone.
fn filled_by(skopeo: &Path, store: &Path, name: &str) {
    let (source, target) = (
        format!("docker://{name}"),
        format!("oci:{}:{name}", store.display()),
    );
    let quiet = ["copy", "-q", "--insecure-policy", "--src-tls-verify=false"];
    let _ = run(skopeo, &[&quiet[..], &[&source, &target]].concat());
}

#[test]
fn without_a_network() {
    let (Some(skopeo), Some(_)) = (lanes::tool("skopeo"), lanes::tool("unshare")) else {
        return;
    };
    if !lanes::root() {
        return;
    }
    let (Some(registry), Some(object)) = (Registry::start(), Object::example("xdp-counter")) else {
        return;
    };
    let name = registry.reference("acme/xdp-counter:test");
    build(&object, &name);
    let bpfman = Bpfman::new();
    filled_by(&skopeo, &bpfman.images(), &name);
    let pull = ["image", "pull", "-p", "Never", "-i", &name];
    let read_only = format!(
        "mount --bind {0} {0} && mount -o remount,ro,bind {0} && exec \"$@\"",
        bpfman.images().display()
    );
    let Some(alone) = lanes::mount_namespace() else {
        return;
    };
    let read_only = [alone, &["-n", "sh", "-c", &read_only, "sh"]].concat();
    for by in [&ALONE[..], &read_only] {
        assert_eq!(bpfman.run_by(by, &pull).ok(), HELD);
    }
    assert!(
        !bpfman.images().join(".bpfman").exists(),
        "reading wrote something"
    );
    let near = name.replace(":test", ":tess");
    let absent = bpfman.run_by(&ALONE, &["image", "pull", "-p", "Never", "-i", &near]);
    assert!(
        absent.failure().contains(&format!("did you mean {name}?")),
        "{absent:#?}"
    );

    // From store to store, twice the same bytes.
    let archives = ["one.tar", "two.tar"].map(|name| bpfman.home().join(name));
    let other = Bpfman::new();
    for archive in &archives {
        let archive = archive.to_string_lossy();
        let _ = bpfman.run(&["image", "export", &name, "-o", &archive]).ok();
        let imported = other.run(&["image", "import", &archive]);
        assert!(
            imported.ok().starts_with(&format!("Imported {name} ")),
            "{imported:#?}"
        );
    }
    assert_eq!(
        std::fs::read(&archives[0]).unwrap(),
        std::fs::read(&archives[1]).unwrap()
    );
    check(&other.images());
    let of = |bpfman: &Bpfman| {
        let inspected = bpfman.run(&["image", "inspect", &name, "-o", "json"]);
        inspected.ok().to_owned()
    };
    assert_eq!(of(&bpfman), of(&other));
    assert_eq!(other.run_by(&ALONE, &pull).ok(), HELD);
    let removed = other.run(&["image", "remove", &name]);
    assert!(
        removed.ok().starts_with(&format!("Removed {name} ")),
        "{removed:#?}"
    );
    let left = std::fs::read_dir(other.images().join("blobs/sha256")).unwrap();
    assert_eq!(left.count(), 0);
}

/// What `skopeo copy` brought is loaded into this machine's kernel with no network at all.
#[test]
fn what_skopeo_brought_is_loaded_without_a_network() {
    let (Some(skopeo), Some(_)) = (lanes::tool("skopeo"), lanes::tool("unshare")) else {
        return;
    };
    if !lanes::root() || !lanes::tracefs() {
        return;
    }
    let (Some(registry), Some(object)) = (Registry::start(), Object::example("tracepoint-counter"))
    else {
        return;
    };
    let name = registry.reference("acme/tracepoint-counter:test");
    build(&object, &name);
    let bpfman = Bpfman::new();
    filled_by(&skopeo, &bpfman.images(), &name);
    drop(registry);

    let load = ["load", "image", "-p", "Never", "-i", &name, "--programs"];
    let load = [&load[..], &["tracepoint:tracepoint_kill_recorder"]].concat();
    let loaded = bpfman.run_by(&ALONE, &load);
    let id = loaded.field("Program ID");
    let shown = bpfman.run(&["get", "program", &id]);
    assert_eq!(shown.field("Image URL"), name);
    assert_eq!(shown.field("BPF Function"), "tracepoint_kill_recorder");
    let _ = bpfman.run(&["unload", &id]).ok();
    assert_eq!(bpfman.pins(), Vec::<std::path::PathBuf>::new());

    let absent = name.replace(":test", ":other");
    let load = ["load", "image", "-p", "Never", "-i", &absent, "--programs"];
    let load = [&load[..], &["tracepoint:tracepoint_kill_recorder"]].concat();
    let outcome = bpfman.run_by(&ALONE, &load);
    assert!(outcome.failure().contains(&name), "{outcome:#?}");
}

/// Other tools read what our store is.
#[test]
fn other_tools_read_our_store() {
    let (Some(registry), Some(object)) = (Registry::start(), Object::example("xdp-counter")) else {
        return;
    };
    let (Some(skopeo), Some(oras), Some(crane)) = (
        lanes::tool("skopeo"),
        lanes::foreign_tool("oras"),
        lanes::foreign_tool("crane"),
    ) else {
        return;
    };
    let bpfman = Bpfman::new();
    let name = registry.reference("acme/xdp-counter:test");
    build(&object, &name);
    let _ = bpfman.run(&["image", "pull", "-i", &name]).ok();
    let digest = bpfman.run(&["image", "inspect", &name]).field("Digest");
    let store = bpfman.images().display().to_string();

    let local = format!("oci:{store}:{name}");
    let seen = run(&skopeo, &["inspect", "--format", "{{.Digest}}", &local]);
    assert_eq!(seen.trim(), digest);
    let fetch = ["manifest", "fetch", "--descriptor", "--oci-layout"];
    let by_digest = format!("{store}@{digest}");
    let seen = run(&oras, &[&fetch[..], &[&by_digest]].concat());
    assert!(seen.contains(&digest), "{seen}");
    // The store itself, as it is: every blob is read and hashed, and arrives in a registry under its digest.
    let target = registry.reference("by/crane:x");
    let seen = run(&crane, &["push", "--insecure", &store, &target]);
    assert!(seen.contains(&digest), "{seen}");
    let _ = run(&crane, &["validate", "--insecure", "--remote", &target]);
    let target = registry.reference("by/oras:x");
    let copy = [
        "copy",
        "--from-oci-layout",
        "--to-plain-http",
        &by_digest,
        &target,
    ];
    let _ = run(&oras, &copy);
    let seen = run(&crane, &["digest", "--insecure", &target]);
    assert_eq!(seen.trim(), digest);
}
