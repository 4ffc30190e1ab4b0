//! Build arguments of real objects, in both byte orders.

// Helpers outside #[test] functions are test code too.
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

#[path = "../../bytecode-object/tests/compile/mod.rs"]
mod compile;

use std::path::PathBuf;

use builder::{Architecture, BuildError, BuildRequest, Inputs, Runtime};
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
        .map(|(name, value)| format!("{name}={value}"))
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
    assert!(error.contains("more than the 33554432"), "{error}");
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

    let differ = [
        (Architecture::Arm64, at("bpf_arm64_bpfel.o")),
        (Architecture::Riscv64, at("legacy.o")),
    ];
    let expected = format!(
        "the bytecode files {} and {} differ, but one image has one set of labels: program `count` is xdp in the first \
         and missing in the other; program `filter` is missing in the first and tc in the other; map `counts` is \
         per_cpu_array in the first and missing in the other; and 2 more",
        shown("bpf_arm64_bpfel.o"),
        shown("legacy.o")
    );
    assert_eq!(failure(&Inputs::architectures(differ)), expected);
}

fn request(inputs: Inputs, tag: &str) -> BuildRequest {
    BuildRequest {
        inputs,
        tag: tag.parse().expect("a reference"),
        container_file: None::<PathBuf>,
        runtime: Some(Runtime::Builtin),
        credentials: None,
    }
}

#[test]
fn builds_that_are_refused_before_anything_is_reached() {
    let Some(folder) = folder(&["bpf_x86_bpfel.o", "bpf_arm64_bpfel.o"]) else {
        return;
    };
    let inputs = Inputs::cilium_ebpf_project(folder.path());
    let error =
        builder::build(&request(inputs, "127.0.0.1:1/x:y"), &()).expect_err("two architectures");
    assert_eq!(
        chain(error),
        "not built yet: an image for more than one architecture"
    );

    let one = Inputs::architectures([(Architecture::Amd64, folder.path().join("bpf_x86_bpfel.o"))]);
    let digest = format!("127.0.0.1:1/x@sha256:{}", "0".repeat(64));
    let error = builder::build(&request(one, &digest), &()).expect_err("a digest");
    assert!(chain(error).contains("a digest"), "names what is wrong");
}
