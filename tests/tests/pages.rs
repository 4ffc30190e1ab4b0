//! The commands that the pages show: README, `docs/` and the READMEs of the examples. Compile commands are run as they
//! stand. `bpfman` commands are run where there is nothing yet: they may fail for that, never for wrong usage.
//!
//! The commands of the examples in `docs/attach` run whole in a VM (`bpfman_tests::chapters`), those of the examples'
//! READMEs in `kernel_examples.rs`. What is not run here stands in [`NOT_RUN`] with its reason; a page with another
//! command fails, so that nobody forgets it.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use bpfman_tests::{cli, lanes};
use tempfile::TempDir;

/// Programs whose commands are not run, and why.
const NOT_RUN: [(&str, &str); 17] = [
    (
        "bpftool",
        "asks the kernel: in a VM, bpfman_tests::chapters",
    ),
    ("cargo", "this test is what it builds"),
    ("cosign", "signs in a real registry: signatures_cosign.rs"),
    ("crane", "needs a registry: registry_store.rs"),
    ("docker", "needs a daemon: engines_cli.rs"),
    ("eval", "sets variables for docker: engines_cli.rs"),
    ("find", "looks at what a demo left: make demo"),
    ("ip", "makes interfaces: make demo"),
    ("podman", "needs an image of podman's: engines_*.rs"),
    ("make", "its targets are compared with the Makefile"),
    ("oras", "needs a registry: registry_store.rs"),
    ("ping", "needs a network: in a VM, bpfman_tests::chapters"),
    ("skopeo", "needs a registry: registry_store.rs"),
    ("target", "reads a loaded map: kernel_examples.rs"),
    ("tc", "asks the kernel: in a VM, bpfman_tests::chapters"),
    ("tests", "boots a VM: the kernel lane"),
    ("uname", "says which kernel the demo has"),
];

/// A command as a page shows it, in one line.
#[derive(Debug)]
struct Shown {
    /// For messages.
    #[allow(dead_code)]
    page: String,
    command: String,
}

fn pages() -> Vec<PathBuf> {
    let root = lanes::repository();
    let mut pages = vec![root.join("README.md")];
    let mut folders = vec![root.join("docs"), root.join("examples")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|end| end == "md") {
                pages.push(path);
            }
        }
    }
    pages.sort();
    pages
}

fn name(page: &Path) -> String {
    let page = page.strip_prefix(lanes::repository()).unwrap();
    page.display().to_string()
}

/// The blocks of these kinds.
fn blocks<'a>(text: &'a str, kinds: &[&str]) -> Vec<&'a str> {
    let blocks = text.split("```").skip(1).step_by(2);
    let of_kind = blocks.filter_map(|block| {
        let (kind, body) = block.split_once('\n')?;
        kinds.contains(&kind.trim()).then_some(body)
    });
    of_kind.collect()
}

/// The commands of a page: lines behind a prompt; where a block has none, all lines that are neither empty nor comments.
fn commands(page: &Path) -> Vec<Shown> {
    let text = std::fs::read_to_string(page).unwrap();
    let mut found = Vec::new();
    for block in blocks(&text, &["console", "sh", "bash"]) {
        let prompts = ["$ ", "# "];
        let prompted = block.lines().any(|line| line.starts_with("$ "))
            || (block.lines().any(|line| line.starts_with("# bpf")));
        let mut lines = block.lines();
        while let Some(line) = lines.next() {
            let begun = if prompted {
                let behind = prompts.iter().find_map(|prompt| line.strip_prefix(prompt));
                // Comments of a transcript begin like root's prompt.
                match behind {
                    Some(behind) if line.starts_with("$ ") || behind.starts_with("bpf") => behind,
                    _ => continue,
                }
            } else if line.is_empty() || line.starts_with('#') || line.starts_with(' ') {
                continue;
            } else {
                line
            };
            let mut command = without_comment(begun).to_owned();
            while let Some(begun) = command.strip_suffix('\\') {
                let next = without_comment(lines.next().unwrap_or_default());
                command = format!("{} {}", begun.trim_end(), next.trim());
            }
            found.push(Shown {
                page: name(page),
                command,
            });
        }
    }
    found
}

/// What stands before two spaces and a `#`, or a `#` after one.
fn without_comment(line: &str) -> &str {
    line.split_once(" #")
        .map_or(line, |(command, _)| command)
        .trim_end()
}

/// The command itself, without `sudo`, variables of its own, or the variable that takes its output.
fn plain(command: &str) -> &str {
    let mut words = command;
    if let Some((_, inner)) = words.split_once("=$(")
        && let Some(inner) = inner.strip_suffix(')')
    {
        words = inner;
    }
    while let Some((first, rest)) = words.split_once(' ')
        && (first == "sudo" || first.contains('='))
    {
        words = rest;
    }
    words
}

/// A synopsis has options that may be left out, or values in capitals, in brackets.
fn is_synopsis(command: &str) -> bool {
    command.contains("[--") || command.contains("<PATH>") || command.contains("<PROGRAM_ID>")
}

/// A folder with `bpfman` in a PATH of its own, and `sudo`, which is nothing here.
fn desk() -> TempDir {
    let desk = TempDir::new().unwrap();
    let bin = desk.path().join("bin");
    std::fs::create_dir(&bin).unwrap();
    std::os::unix::fs::symlink(cli::binary(), bin.join("bpfman")).unwrap();
    let sudo = bin.join("sudo");
    std::fs::write(&sudo, "#!/bin/sh\nexec \"$@\"\n").unwrap();
    std::fs::set_permissions(&sudo, std::fs::Permissions::from_mode(0o755)).unwrap();
    desk
}

fn shell(desk: &Path, command: &str) -> std::process::Output {
    let path = format!(
        "{}:{}",
        desk.join("bin").display(),
        std::env::var("PATH").unwrap_or_default()
    );
    Command::new("sh")
        .args(["-c", command])
        .env("PATH", path)
        .env("HOME", desk)
        .env("USER", "acme")
        .env("QUAY_USER", "acme")
        .env("id", "4294967295")
        .env("BPFMAN_CONFIG", "/dev/null")
        .env("BPFMAN_RUNTIME_DIR", desk.join("run"))
        .env("BPFMAN_IMAGE_DIR", desk.join("images"))
        .env("BPFMAN_ADMITTED_DIR", desk.join("admitted"))
        .current_dir(desk)
        .output()
        .unwrap()
}

#[test]
fn every_bpfman_command_of_the_pages_is_understood() {
    let desk = desk();
    let mut run = 0;
    for shown in pages().iter().flat_map(|page| commands(page)) {
        let command = &shown.command;
        let words = plain(command);
        if !words.starts_with("bpfman ") || is_synopsis(words) {
            continue;
        }
        // Placeholders, as they are spelled: <PROGRAM ID>, <ID OF app_xdp>, sha256:…
        let mut line = words.replace("sha256:…", &format!("sha256:{}", "0".repeat(64)));
        while let Some((before, rest)) = line.split_once('<') {
            let (_, after) = rest.split_once('>').unwrap_or_else(|| panic!("{shown:?}"));
            line = format!("{before}4294967295{after}");
        }
        // What reads the output need not be there.
        let line = line.split(" | ").next().unwrap_or_default();
        let mut line = line.to_owned();
        // No test asks a registry of the internet.
        let pulls = ["image pull", "image verify", "load image"];
        if pulls.iter().any(|command| line.contains(command))
            && !line.contains(" -p ")
            && !line.contains(" --pull-policy ")
        {
            line.push_str(" --pull-policy Never");
        }
        let output = shell(desk.path(), &line);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(
            matches!(output.status.code(), Some(0 | 1)),
            "{shown:?}: {line}: {stderr}"
        );
        for wrong in [
            "Usage:",
            "For more information, try",
            "panicked",
            "not found",
        ] {
            assert!(!stderr.contains(wrong), "{shown:?}: {line}: {stderr}");
        }
        run += 1;
    }
    assert!(run > 80, "only {run} commands were found");
}

#[test]
fn every_other_command_of_the_pages_has_its_place() {
    let makefile = std::fs::read_to_string(lanes::repository().join("Makefile")).unwrap();
    for shown in pages().iter().flat_map(|page| commands(page)) {
        let command = &shown.command;
        let words = plain(command);
        let first = words.split([' ', '/']).next().unwrap();
        if first == "bpfman" || first == "clang" {
            continue;
        }
        assert!(
            NOT_RUN.iter().any(|(program, _)| *program == first),
            "{shown:?}: neither run nor in NOT_RUN"
        );
        for part in words.split("&&").map(str::trim) {
            let part = part.strip_prefix("sudo ").unwrap_or(part);
            let Some(arguments) = part.strip_prefix("make ") else {
                continue;
            };
            let mut arguments = arguments.split_whitespace();
            let target = arguments.find(|word| !word.starts_with('-') && !word.contains('='));
            let target = target.unwrap_or("help");
            if part.contains(" -C ") {
                assert!(
                    lanes::repository().join(target).join("Makefile").exists(),
                    "{shown:?}"
                );
            } else {
                assert!(makefile.contains(&format!("\n{target}:")), "{shown:?}");
            }
        }
    }
}

#[test]
fn every_compile_command_of_the_pages_works() {
    let Some(_) = lanes::tool("clang") else {
        return;
    };
    let mut compiled = 0;
    for page in pages() {
        let text = std::fs::read_to_string(&page).unwrap();
        let Some((_, rest)) = text.split_once("compiled with `clang ") else {
            assert!(
                !name(&page).starts_with("docs/attach/"),
                "{}: compiled how?",
                name(&page)
            );
            continue;
        };
        let (command, _) = rest.split_once('`').unwrap();
        let source = blocks(&text, &["c"]);
        let source = source
            .last()
            .unwrap_or_else(|| panic!("{}: no source", name(&page)));
        let mut words = command.split_whitespace();
        let file = words.find(|word| word.ends_with(".bpf.c")).unwrap();
        let desk = desk();
        std::fs::write(desk.path().join(file), source).unwrap();
        let output = shell(desk.path(), &format!("clang -Wall -Werror {command}"));
        assert!(
            output.status.success(),
            "{}: clang {command}: {}",
            name(&page),
            String::from_utf8_lossy(&output.stderr)
        );
        // What is loaded next is what was compiled.
        let (_, object) = command.split_once(" -o ").unwrap();
        assert!(desk.path().join(object).is_file(), "{}", name(&page));
        let loads = format!("--path {object} ");
        assert!(text.contains(&loads), "{}: {loads}", name(&page));
        compiled += 1;
    }
    assert!(compiled >= 7, "only {compiled} pages have a source");
}
