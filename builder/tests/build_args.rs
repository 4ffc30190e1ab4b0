//! Build arguments of real objects, in both byte orders.

// Helpers outside #[test] functions are test code too.
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

#[path = "../../bytecode-object/tests/compile/mod.rs"]
mod compile;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use builder::{Architecture, BuildError, BuildRequest, Inputs, Output, Runtime};
use bytecode_image::platform::Platform;
use bytecode_object::ByteOrder;

/// A folder of objects: `counter` under these names, by each name's byte order.
fn folder(names: &[&str]) -> Option<tempfile::TempDir> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for name in names {
        let target = if name.ends_with("eb.o") {
            "bpfeb"
        } else {
            "bpfel"
        };
        let object = compile::object("counter", target, &["-g"])?;
        std::fs::write(folder.path().join(name), object).expect("an object's file");
    }
    Some(folder)
}

fn lines(inputs: &Inputs) -> Vec<String> {
    let arguments = builder::build_args(inputs).unwrap_or_else(|error| panic!("{error}"));
    arguments
        .iter()
        .map(|(name, value)| format!("{name}={}", value.display()))
        .collect()
}

/// An error and its causes, in one line.
fn failure(inputs: &Inputs) -> String {
    chain(builder::build_args(inputs).expect_err("refused"))
}

fn chain(error: BuildError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

const LABELS: [&str; 2] = [
    r#"PROGRAMS={"count":"xdp"}"#,
    r#"MAPS={"counts":"per_cpu_array"}"#,
];

/// An object of the host's byte order, and one of the other.
fn of_the_host() -> (&'static str, &'static str) {
    match Platform::host().byte_order() {
        Some(ByteOrder::Big) => ("bpf_bpfeb.o", "bpf_bpfel.o"),
        _ => ("bpf_bpfel.o", "bpf_bpfeb.o"),
    }
}

#[test]
fn one_file() {
    let (name, _) = of_the_host();
    let Some(folder) = folder(&[name]) else {
        return;
    };
    let path = folder.path().join(name);
    let expected = [format!("BYTECODE_FILE={}", path.display())];
    let labels = LABELS.map(str::to_owned);
    assert_eq!(
        lines(&Inputs::bytecode(&path)),
        [expected.as_slice(), &labels].concat()
    );
}

#[test]
fn a_project() {
    let names = [
        "bpf_x86_bpfel.o",
        "bpf_arm64_bpfel.o",
        "bpf_powerpc_bpfel.o",
        "bpf_s390_bpfeb.o",
    ];
    let Some(folder) = folder(&names) else { return };
    let at = |name| folder.path().join(name).display().to_string();
    let expected = [
        format!("BC_AMD64_EL={}", at(names[0])),
        format!("BC_ARM64_EL={}", at(names[1])),
        format!("BC_PPC64LE_EL={}", at(names[2])),
        format!("BC_S390X_EB={}", at(names[3])),
        LABELS[0].to_owned(),
        LABELS[1].to_owned(),
    ];
    assert_eq!(lines(&Inputs::cilium_ebpf_project(folder.path())), expected);
}

#[test]
fn an_untargeted_pair_is_for_every_architecture() {
    let Some(folder) = folder(&["bpf_bpfel.o", "bpf_bpfeb.o"]) else {
        return;
    };
    let lines = lines(&Inputs::cilium_ebpf_project(folder.path()));
    let names: Vec<&str> = lines
        .iter()
        .filter_map(|line| line.split('=').next())
        .collect();
    let mut expected: Vec<&str> = Architecture::ALL
        .iter()
        .map(|architecture| architecture.build_arg())
        .collect();
    expected.extend(["PROGRAMS", "MAPS"]);
    assert_eq!(names, expected);
}

#[test]
fn what_is_refused() {
    let (good, other) = of_the_host();
    let names = [good, other, "bpf_arm64_bpfel.o"];
    let Some(folder) = folder(&names) else { return };
    let Some(legacy) = compile::object("legacy", "bpfel", &["-g"]) else {
        return;
    };
    let at = |name: &str| folder.path().join(name);
    let shown = |name: &str| at(name).display().to_string();
    std::fs::write(at("legacy.o"), legacy).expect("an object's file");
    std::fs::write(at("empty.o"), "").expect("an empty file");

    let error = failure(&Inputs::bytecode(at(other)));
    assert!(
        error.starts_with(&format!("the bytecode file {} is ", shown(other))),
        "{error}"
    );
    let error = failure(&Inputs::bytecode(at("missing.o")));
    assert!(
        error.starts_with(&format!(
            "cannot read the bytecode file {}: No such",
            shown("missing.o")
        )),
        "{error}"
    );
    let error = failure(&Inputs::bytecode(at("empty.o")));
    assert_eq!(
        error,
        format!(
            "cannot use the bytecode file {}: the file is empty",
            shown("empty.o")
        )
    );
    let error = failure(&Inputs::bytecode("/dev/zero"));
    assert_eq!(
        error,
        "cannot read the bytecode file /dev/zero: it is a device, not a regular file"
    );
    let error = failure(&Inputs::architectures([(
        Architecture::S390x,
        at("bpf_arm64_bpfel.o"),
    )]));
    assert!(
        error.ends_with("is little-endian, but s390x is big-endian"),
        "{error}"
    );
    assert_eq!(
        failure(&Inputs::architectures([])),
        "no bytecode file given"
    );

    let differ = Inputs::architectures([
        (Architecture::Arm64, at("bpf_arm64_bpfel.o")),
        (Architecture::Riscv64, at("legacy.o")),
    ]);
    let error = builder::build_args(&differ).expect_err("other programs");
    let (first, other) = (shown("bpf_arm64_bpfel.o"), shown("legacy.o"));
    let expected = [
        format!("--- {first} (arm64)"),
        format!("+++ {other} (riscv64)"),
        "- program count: xdp".to_owned(),
        "+ program filter: tc".to_owned(),
        "- map counts: per_cpu_array".to_owned(),
        "+ map jump: prog_array".to_owned(),
        "+ map table: hash".to_owned(),
    ];
    assert_eq!(error.diff(), expected);
    assert_eq!(
        chain(error),
        format!(
            "the bytecode files {first} (arm64) and {other} (riscv64) do not have the same programs and maps"
        )
    );
}

/// Two builds of `shapes` with these flags, for amd64 and arm64: the diff that they are refused with.
fn diff(flags: [&[&str]; 2]) -> Option<Vec<String>> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for (name, flags) in ["bpf_x86_bpfel.o", "bpf_arm64_bpfel.o"].iter().zip(flags) {
        let object = compile::object("shapes", "bpfel", &[["-g"].as_slice(), flags].concat())?;
        std::fs::write(folder.path().join(name), object).expect("an object's file");
    }
    let diff = match builder::build_args(&Inputs::cilium_ebpf_project(folder.path())) {
        Ok(_) => Vec::new(),
        Err(error) => error.diff(),
    };
    Some(diff.into_iter().skip(2).collect())
}

#[test]
fn programs_and_maps_that_only_look_alike() {
    let section = |word: &str| format!("-DSECTION=\"{word}\"");
    let table: &[([&str; 2], &[&str])] = &[
        (
            ["xdp", "xdp.frags"],
            &[
                "- program run: xdp, section xdp",
                "+ program run: xdp, section xdp.frags",
            ],
        ),
        (
            ["kprobe/a", "kretprobe/a"],
            &[
                "- program run: kprobe, section kprobe/a",
                "+ program run: kprobe, section kretprobe/a",
            ],
        ),
        (
            ["uprobe/a", "uprobe.s/a"],
            &[
                "- program run: uprobe, section uprobe/a",
                "+ program run: uprobe, section uprobe.s/a",
            ],
        ),
        (
            ["kprobe.multi/a", "ksyscall/a"],
            &[
                "- program run: kprobe, section kprobe.multi/a",
                "+ program run: kprobe, section ksyscall/a",
            ],
        ),
        (["xdp", "tc"], &["- program run: xdp", "+ program run: tc"]),
        // Another function, or another word for the same.
        (["kprobe/__x64_sys_read", "kprobe/__arm64_sys_read"], &[]),
        (
            ["tp/sched/sched_switch", "tracepoint/sched/sched_switch"],
            &[],
        ),
    ];
    for ([first, other], expected) in table {
        // The files are compared in the order of their architectures, so amd64's comes first.
        let flags = [section(first), section(other)];
        let Some(found) = diff([&[&flags[0]], &[&flags[1]]]) else {
            return;
        };
        assert_eq!(found, *expected, "{first} {other}");
    }
    let table: &[(&str, &[&str])] = &[
        (
            "-DVALUE=pair",
            &[
                "- map table: hash, key 4, value 4, entries 1",
                "+ map table: hash, key 4, value 24, entries 1",
            ],
        ),
        (
            "-DENTRIES=2",
            &[
                "- map table: hash, key 4, value 4, entries 1",
                "+ map table: hash, key 4, value 4, entries 2",
            ],
        ),
    ];
    for (flag, expected) in table {
        let Some(found) = diff([&[], &[flag]]) else {
            return;
        };
        assert_eq!(found, *expected, "{flag}");
    }
}

#[test]
fn labels_that_no_reader_takes_are_not_built() {
    let long = "x".repeat(600);
    let flag = format!("-Drun={long}");
    let Some(object) = compile::object("shapes", "bpfel", &["-g", &flag]) else {
        return;
    };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("long.o");
    std::fs::write(&file, object).expect("an object's file");
    let inputs = Inputs::architectures([(Architecture::Amd64, file)]);
    let error = builder::build_args(&inputs).expect_err("refused");
    let hint = error.hint().expect("a hint");
    assert!(hint.contains("several objects"), "{hint}");
    let message = chain(error);
    assert!(
        message.contains("long.o is too much for the labels"),
        "{message}"
    );
    assert!(message.contains("longer than 512 bytes"), "{message}");
}

fn request(inputs: Inputs, tag: &str) -> BuildRequest {
    BuildRequest {
        inputs,
        tag: tag.parse().expect("a reference"),
        other_tags: Vec::new(),
        container_file: None::<PathBuf>,
        runtime: Some(Runtime::Builtin),
        reach: bytecode_image::registry::Reach::default(),
        store: None,
        push: false,
        output: None,
        annotations: BTreeMap::new(),
        allow_differences: false,
    }
}

#[test]
fn a_tag_cannot_know_its_digest() {
    let Some(folder) = folder(&["bpf_x86_bpfel.o"]) else {
        return;
    };
    let one = Inputs::architectures([(Architecture::Amd64, folder.path().join("bpf_x86_bpfel.o"))]);
    let digest = format!("127.0.0.1:1/x@sha256:{}", "0".repeat(64));
    let error = builder::build(&request(one, &digest), &()).expect_err("a digest");
    assert!(chain(error).contains("a digest"), "names what is wrong");
}

/// The digest of an image that goes nowhere.
fn built(request: &BuildRequest) -> String {
    let built = builder::build(request, &()).unwrap_or_else(|error| panic!("{}", chain(error)));
    built.digest.to_string()
}

#[test]
fn a_digest_is_of_what_is_in_the_image_and_of_nothing_else() {
    let names = ["bpf_x86_bpfel.o", "bpf_s390_bpfeb.o"];
    let (Some(here), Some(there)) = (folder(&names), folder(&names)) else {
        return;
    };
    let of =
        |folder: &tempfile::TempDir, tag| request(Inputs::cilium_ebpf_project(folder.path()), tag);
    let digest = built(&of(&here, "127.0.0.1:1/x:1"));
    assert_eq!(digest, built(&of(&there, "b.example/other:2")));

    let mut annotated = of(&here, "127.0.0.1:1/x:1");
    annotated
        .annotations
        .insert("org.opencontainers.image.revision".into(), "1".into());
    assert_ne!(built(&annotated), digest);

    let file = there.path().join(names[0]);
    let mut object = std::fs::read(&file).expect("an object");
    // Behind the section headers, where nobody looks.
    object.push(0);
    std::fs::write(&file, object).expect("an object's file");
    assert_ne!(built(&of(&there, "127.0.0.1:1/x:1")), digest);
}

#[test]
fn differences_that_are_meant() {
    let Some(folder) = folder(&["bpf_arm64_bpfel.o"]) else {
        return;
    };
    let Some(legacy) = compile::object("legacy", "bpfel", &["-g"]) else {
        return;
    };
    std::fs::write(folder.path().join("bpf_x86_bpfel.o"), legacy).expect("an object's file");
    let layout = folder.path().join("layout");
    let mut request = request(
        Inputs::cilium_ebpf_project(folder.path()),
        "127.0.0.1:1/x:1",
    );
    request.output = Some(Output::Layout(layout.clone()));
    builder::build(&request, &()).expect_err("differences are refused");
    assert!(!layout.exists(), "nothing is written");
    request.allow_differences = true;
    builder::build(&request, &()).expect("differences are allowed");
    let blobs = std::fs::read_dir(layout.join("blobs/sha256")).expect("blobs");
    let programs: BTreeSet<String> = blobs
        .filter_map(|blob| {
            let bytes = std::fs::read(blob.expect("a blob").path()).expect("a blob");
            let blob: serde_json::Value = serde_json::from_slice(&bytes).ok()?;
            let label = blob["config"]["Labels"]["io.ebpf.programs"].as_str()?;
            Some(format!("{} {label}", blob["architecture"]))
        })
        .collect();
    let expected = [r#""amd64" {"filter":"tc"}"#, r#""arm64" {"count":"xdp"}"#];
    assert_eq!(programs, BTreeSet::from(expected.map(str::to_owned)));
}
