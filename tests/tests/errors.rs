//! What goes wrong, on this machine's kernel and the real registry: exit status 1, a message of three parts (what was
//! being done to what, what went wrong, what to do), no panic, and nothing left behind.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use std::path::Path;

use bpfman_tests::cli::{Bpfman, Outcome};
use bpfman_tests::images::{self, Image};
use bpfman_tests::lanes;
use bpfman_tests::objects::Object;
use bpfman_tests::registry::Registry;

/// A program that reads through a pointer which may be null: the verifier says no. (Of an array with a constant key it
/// knows better since 6.14.)
const REJECTED: &str = r#"
struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, 1);
    __type(key, __u32);
    __type(value, __u64);
} numbers SEC(".maps");
SEC("tracepoint/syscalls/sys_enter_kill")
int rejected(void *ctx)
{
    __u32 key = 0;
    __u64 *number = bpf_map_lookup_elem(&numbers, &key);
    return *number;
}
"#;

/// The failure's message has three parts, and every one of these words; and nothing may be left behind.
#[track_caller]
fn refused(bpfman: &Bpfman, outcome: &Outcome, words: &[&str]) {
    let message = outcome.failure();
    for word in words {
        assert!(message.contains(word), "no '{word}' in:\n{message}");
    }
    let mut lines = message.lines();
    let what = lines.find(|line| !line.starts_with("warning: "));
    let what = what.and_then(|line| line.strip_prefix("error: "));
    let what = what.unwrap_or_else(|| panic!("no error at the beginning:\n{message}"));
    let why = lines.next().is_some_and(|line| line.starts_with("cause: "));
    assert!(why || what.contains(": "), "not why:\n{message}");
    let hints = message.lines().filter(|line| line.starts_with("hint: "));
    assert_eq!(hints.count(), 1, "not what to do:\n{message}");
    assert_eq!(
        bpfman.pins(),
        Vec::<std::path::PathBuf>::new(),
        "pins left behind"
    );
    let listed = bpfman.run(&["list", "programs"]);
    assert_eq!(
        listed.ok().lines().skip(1).count(),
        0,
        "programs left behind: {listed:#?}"
    );
}

fn load_file(path: &Path, programs: &str) -> (Bpfman, Outcome) {
    let bpfman = Bpfman::new();
    let outcome = bpfman.run(&[
        "load",
        "file",
        "--path",
        path.to_str().unwrap(),
        "--programs",
        programs,
    ]);
    (bpfman, outcome)
}

fn load_image(registry: &Registry, name: &str, programs: &str) -> (Bpfman, Outcome, String) {
    let bpfman = Bpfman::new();
    let reference = registry.reference(name);
    let outcome = bpfman.run(&[
        "load",
        "image",
        "--image-url",
        &reference,
        "--programs",
        programs,
    ]);
    (bpfman, outcome, reference)
}

/// No blob lies in the store that its name does not describe, and no index entry.
#[track_caller]
fn store_is_clean(bpfman: &Bpfman) {
    let index = std::fs::read_to_string(bpfman.images().join("index.json")).unwrap_or_default();
    assert!(!index.contains("sha256:"), "an image was kept: {index}");
    for entry in std::fs::read_dir(bpfman.images().join("blobs/sha256"))
        .into_iter()
        .flatten()
        .flatten()
    {
        let bytes = std::fs::read(entry.path()).unwrap();
        let name = entry.file_name().to_string_lossy().into_owned();
        assert_eq!(
            images::digest(&bytes),
            format!("sha256:{name}"),
            "a blob that is not what its name says"
        );
    }
}

macro_rules! as_root {
    () => {
        if !lanes::root() {
            return;
        }
    };
}

#[test]
fn a_file_that_is_not_there() {
    as_root!();
    let (bpfman, outcome) = load_file(Path::new("/nonexistent/program.o"), "xdp:pass");
    refused(&bpfman, &outcome, &["/nonexistent/program.o"]);
}

#[test]
fn truncated_files_of_every_length() {
    as_root!();
    let Some(object) = Object::example("xdp-counter") else {
        return;
    };
    let bytes = object.bytes();
    let folder = tempfile::TempDir::new().unwrap();
    let path = folder.path().join("cut.o");
    for eighths in 0..8 {
        std::fs::write(&path, &bytes[..bytes.len() * eighths / 8]).unwrap();
        let (bpfman, outcome) = load_file(&path, "xdp:xdp_stats");
        refused(&bpfman, &outcome, &["cut.o"]);
    }
}

#[test]
fn a_file_for_another_machine() {
    as_root!();
    let (bpfman, outcome) = load_file(&Object::of_the_host(), "xdp:pass");
    refused(&bpfman, &outcome, &["BPF"]);

    // Not a program that runs here but what becomes part of one: an ELF file of the same kind as eBPF objects.
    let Some(clang) = lanes::tool("clang") else {
        return;
    };
    let folder = tempfile::TempDir::new().unwrap();
    let (source, object) = (folder.path().join("x.c"), folder.path().join("x.o"));
    std::fs::write(&source, "int pass(void *ctx) { return 2; }\n").unwrap();
    let compiled = std::process::Command::new(clang)
        .arg("-c")
        .arg(&source)
        .arg("-o")
        .arg(&object)
        .status();
    assert!(compiled.is_ok_and(|status| status.success()));
    let (bpfman, outcome) = load_file(&object, "xdp:pass");
    refused(&bpfman, &outcome, &["x.o", "BPF"]);
}

#[test]
fn a_function_that_is_not_there_is_answered_with_those_that_are() {
    as_root!();
    let Some(object) = Object::example("xdp-counter") else {
        return;
    };
    let (bpfman, outcome) = load_file(object.path(), "xdp:xdp_stat");
    refused(&bpfman, &outcome, &["xdp_stat", "xdp_stats"]);
}

#[test]
fn a_type_that_does_not_fit_the_section() {
    as_root!();
    let Some(object) = Object::example("xdp-counter") else {
        return;
    };
    let (bpfman, outcome) = load_file(object.path(), "tracepoint:xdp_stats");
    refused(&bpfman, &outcome, &["xdp_stats", "tracepoint", "xdp"]);
}

#[test]
fn a_program_the_verifier_refuses_ends_with_its_log() {
    as_root!();
    let Some(object) = Object::compile(REJECTED) else {
        return;
    };
    let (bpfman, outcome) = load_file(object.path(), "tracepoint:rejected");
    refused(
        &bpfman,
        &outcome,
        &["rejected", "invalid mem access", "map_value_or_null"],
    );
}

#[test]
fn an_image_that_is_not_there() {
    as_root!();
    let Some(registry) = Registry::start() else {
        return;
    };
    let (bpfman, outcome, reference) = load_image(&registry, "nobody/nothing:1", "xdp:pass");
    refused(&bpfman, &outcome, &[&reference]);
    store_is_clean(&bpfman);
}

#[test]
fn a_registry_that_is_down() {
    as_root!();
    let Some(registry) = Registry::start() else {
        return;
    };
    let reference = registry.reference("nobody/nothing:1");
    drop(registry);
    let bpfman = Bpfman::new();
    let outcome = bpfman.run(&[
        "load",
        "image",
        "--image-url",
        &reference,
        "--programs",
        "xdp:pass",
    ]);
    refused(&bpfman, &outcome, &[&reference]);
    store_is_clean(&bpfman);
}

#[test]
fn a_layer_that_is_not_what_its_digest_says() {
    as_root!();
    let (Some(registry), Some(object)) = (Registry::start(), Object::example("xdp-counter")) else {
        return;
    };
    let layer = images::gzip(&images::tar(&[("program.o", &object.bytes())]));
    let mut other = object.bytes();
    // Another object, of the same length once packed: one byte of the licence's string is changed.
    let at = other
        .windows(8)
        .position(|window| window == b"Dual BSD")
        .unwrap();
    other[at] = b'X';
    let mut changed = images::gzip(&images::tar(&[("program.o", &other)]));
    changed.resize(layer.len(), 0);
    let Some(digest) = Image::new("xdp_stats", "xdp", layer).push(&registry, "changed:1") else {
        return;
    };
    std::fs::write(registry.blob_file(&digest), changed).unwrap();
    let (bpfman, outcome, _) = load_image(&registry, "changed:1", "xdp:xdp_stats");
    refused(&bpfman, &outcome, &[&digest]);
    store_is_clean(&bpfman);
}

#[test]
fn a_gzip_bomb() {
    as_root!();
    let Some(registry) = Registry::start() else {
        return;
    };
    // A file of zeros: a thousandth of it on the wire.
    let layer = images::gzip_of_zeros(256, &images::tar_head("program.o", 256 << 20));
    assert!(layer.len() < 1 << 20, "{}", layer.len());
    let Some(_) = Image::new("xdp_stats", "xdp", layer).push(&registry, "bomb:1") else {
        return;
    };
    let (bpfman, outcome, _) = load_image(&registry, "bomb:1", "xdp:xdp_stats");
    refused(&bpfman, &outcome, &["bomb:1"]);
    store_is_clean(&bpfman);
}

#[test]
fn a_tar_with_a_way_out() {
    as_root!();
    let (Some(registry), Some(object)) = (Registry::start(), Object::example("xdp-counter")) else {
        return;
    };
    for (name, path) in [
        ("up:1", "../program.o"),
        ("far:1", "a/../../program.o"),
        ("root:1", "/program.o"),
    ] {
        let layer = images::gzip(&images::tar(&[(path, &object.bytes())]));
        let Some(_) = Image::new("xdp_stats", "xdp", layer).push(&registry, name) else {
            return;
        };
        let (bpfman, outcome, _) = load_image(&registry, name, "xdp:xdp_stats");
        refused(&bpfman, &outcome, &[name, path]);
        store_is_clean(&bpfman);
        assert!(!bpfman.images().parent().unwrap().join("program.o").exists());
    }
}

#[test]
fn labels_that_contradict_the_object() {
    as_root!();
    let (Some(registry), Some(object)) = (Registry::start(), Object::example("xdp-counter")) else {
        return;
    };
    let layer = images::gzip(&images::tar(&[("program.o", &object.bytes())]));
    let Some(_) = Image::new("somebody_else", "kprobe", layer).push(&registry, "lies:1") else {
        return;
    };
    let (bpfman, outcome, _) = load_image(&registry, "lies:1", "xdp:xdp_stats");
    refused(&bpfman, &outcome, &["lies:1", "somebody_else"]);
}
