//! `image generate-build-args` as the guide prints it, for every way to name objects; stable over runs and over the order
//! of files.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::process::Command;

use bpfman_tests::cli::Bpfman;
use bpfman_tests::project::{ALL, MAPS, PROGRAMS, Project};

const GENERATE: [&str; 2] = ["image", "generate-build-args"];

fn generate(arguments: &[&str]) -> String {
    let outcome = Bpfman::new().run(&[GENERATE.as_slice(), arguments].concat());
    assert_eq!(outcome.stderr, "");
    outcome.ok().to_owned()
}

/// The lines of these files, in the order given, and the labels.
fn expected(files: &[(String, String)]) -> String {
    let mut text = String::new();
    for (name, path) in files {
        text.push_str(&format!("{name}={path}\n"));
    }
    text + &format!("PROGRAMS={PROGRAMS}\nMAPS={MAPS}\n")
}

/// `--bc-amd64-el` → `BC_AMD64_EL`.
fn argument(flag: &str) -> String {
    flag.trim_start_matches('-')
        .replace('-', "_")
        .to_uppercase()
}

fn text(project: &Project, architecture: &str) -> String {
    project.file(architecture).to_str().unwrap().to_owned()
}

#[test]
fn a_file_a_flag_and_a_project_of_thirteen() {
    let Some(project) = Project::thirteen() else {
        return;
    };
    let file = text(
        &project,
        if cfg!(target_endian = "big") {
            "s390x"
        } else {
            "amd64"
        },
    );
    assert_eq!(
        generate(&["-b", &file]),
        expected(&[("BYTECODE_FILE".to_owned(), file.clone())])
    );
    let mut all = Vec::new();
    let mut flags = Vec::new();
    for (architecture, _, flag) in ALL {
        let file = text(&project, architecture);
        let of_this = (argument(flag), file.clone());
        assert_eq!(
            generate(&[flag, &file]),
            expected(std::slice::from_ref(&of_this))
        );
        all.push(of_this);
        flags.push((flag, file));
    }
    let whole = expected(&all);
    // However often, and in whatever order the flags stand.
    for turn in 0..10 {
        assert_eq!(generate(&["-c", project.arg()]), whole);
        flags.rotate_left(turn);
        let turned: Vec<&str> = flags
            .iter()
            .flat_map(|(flag, file)| [*flag, file])
            .collect();
        assert_eq!(generate(&turned), whole);
    }
}

#[test]
fn s390x_alone() {
    let Some(project) = Project::compile(&["s390x"]) else {
        return;
    };
    assert_eq!(
        generate(&["-c", project.arg()]),
        expected(&[("BC_S390X_EB".to_owned(), text(&project, "s390x"))])
    );
}

#[test]
fn an_untargeted_pair_and_what_else_lies_there() {
    let Some(project) = Project::compile(&["amd64", "s390x"]) else {
        return;
    };
    let at = |name: &str| project.path().join(name).to_str().unwrap().to_owned();
    let (little, big) = (at("count_bpfel.o"), at("count_bpfeb.o"));
    std::fs::rename(project.file("amd64"), &little).unwrap();
    std::fs::rename(project.file("s390x"), &big).unwrap();
    let lines = ALL.map(|(_, name, flag)| {
        let file = if name.ends_with("eb.o") {
            &big
        } else {
            &little
        };
        (argument(flag), file.clone())
    });
    assert_eq!(generate(&["-c", project.arg()]), expected(&lines));

    std::fs::copy(&little, at("other.o")).unwrap();
    std::fs::write(at("README"), "").unwrap();
    let project_arguments = [GENERATE.as_slice(), &["-c", project.arg()]].concat();
    let outcome = Bpfman::new().run(&project_arguments);
    assert_eq!(outcome.ok(), expected(&lines));
    let expected_warning = format!("warning: {} is left out", at("other.o"));
    assert!(
        outcome.stderr.starts_with(&expected_warning),
        "{outcome:#?}"
    );
    assert_eq!(outcome.stderr.lines().count(), 1, "{outcome:#?}");

    std::fs::copy(&little, at("count_x86_bpfel.o")).unwrap();
    let outcome = Bpfman::new().run(&project_arguments);
    let message = outcome.failure();
    assert!(message.contains("two objects for amd64"), "{message}");
    for file in [&little, &at("count_x86_bpfel.o")] {
        assert!(message.contains(file), "{message}");
    }
}

#[test]
fn a_shell_reads_what_is_quoted_for_it() {
    let Some(project) = Project::compile(&["s390x"]) else {
        return;
    };
    // Whatever bytes a path has.
    let odd = project
        .path()
        .join(OsStr::from_bytes(b"it's $(a) \"b\",c=d\n\xff.o"));
    std::fs::rename(project.file("s390x"), &odd).unwrap();
    let bpfman = Bpfman::new();
    let run = |format: &str| {
        let mut command = bpfman.command(&GENERATE);
        command
            .arg("--bc-s390x-eb")
            .arg(&odd)
            .args(["--format", format]);
        command.output().unwrap()
    };
    let shell = run("shell");
    assert!(shell.status.success(), "{shell:?}");
    let script = [
        shell.stdout.as_slice(),
        b"printf '%s|%s|%s' \"$BC_S390X_EB\" \"$PROGRAMS\" \"$MAPS\"",
    ]
    .concat();
    let read = Command::new("sh")
        .arg("-c")
        .arg(OsStr::from_bytes(&script))
        .output()
        .unwrap();
    let expected = [
        odd.as_os_str().as_bytes(),
        format!("|{PROGRAMS}|{MAPS}").as_bytes(),
    ]
    .concat();
    assert_eq!(read.stdout, expected);
    for format in ["text", "json", "github"] {
        let refused = run(format);
        assert_eq!(refused.status.code(), Some(1), "{format}");
        assert!(refused.stdout.is_empty(), "{format}");
        assert!(
            String::from_utf8_lossy(&refused.stderr).contains("hint: "),
            "{format}"
        );
    }
}

#[test]
fn json_and_github() {
    let Some(project) = Project::compile(&["s390x"]) else {
        return;
    };
    let file = text(&project, "s390x");
    let json = generate(&["-c", project.arg(), "--format", "json"]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(
        json,
        serde_json::json!({ "BC_S390X_EB": file, "PROGRAMS": PROGRAMS, "MAPS": MAPS })
    );
    let lines = expected(&[("BC_S390X_EB".to_owned(), file)]);
    assert_eq!(
        generate(&["-c", project.arg(), "--format", "github"]),
        format!("{lines}build-args<<END\n{lines}END\n")
    );
}

#[test]
fn differences_are_shown() {
    let Some(project) = Project::compile(&["amd64", "arm64"]) else {
        return;
    };
    let other = bpfman_tests::objects::Object::compile(
        "SEC(\"tc\") int filter(struct __sk_buff *ctx) { return 0; }\n",
    );
    std::fs::copy(other.unwrap().path(), project.file("arm64")).unwrap();
    let outcome = Bpfman::new().run(&[GENERATE.as_slice(), &["-c", project.arg()]].concat());
    let (first, second) = (text(&project, "amd64"), text(&project, "arm64"));
    let expected = format!(
        "error: the bytecode files {first} (amd64) and {second} (arm64) do not have the same programs and maps\n\
         \x20 --- {first} (amd64)\n  +++ {second} (arm64)\n\
         \x20 - program count: xdp\n  + program filter: tc\n  - map counts: per_cpu_array\n\
         hint: build all from one source; `image build --allow-differences` gives each architecture labels of its own\n"
    );
    assert_eq!(outcome.failure(), expected);
    let build = [
        "image",
        "build",
        "-r",
        "builtin",
        "-t",
        "a.example/b:1",
        "--no-push",
    ];
    let build = [
        build.as_slice(),
        &["--allow-differences", "-c", project.arg()],
    ]
    .concat();
    assert!(
        Bpfman::new()
            .run(&build)
            .ok()
            .starts_with("a.example/b@sha256:")
    );
}
