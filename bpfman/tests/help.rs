//! Every `--help` and `-h` against `tests/golden/help/`. `BPFMAN_UPDATE_GOLDEN=1` writes the files anew.

// Helpers outside #[test] functions are test code too.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;

/// Standard output of a command that must succeed and say nothing on stderr.
fn bpfman(args: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_bpfman"))
        .args(args)
        .output()
        .unwrap();
    assert!(output.status.success(), "{args:?}: {output:?}");
    assert!(output.stderr.is_empty(), "{args:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Names in the `Commands:` part of a help text.
fn subcommands(help: &str) -> Vec<String> {
    help.lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.strip_prefix("  ")?.split(' ').next())
        .filter(|name| !name.is_empty() && *name != "help")
        .map(str::to_owned)
        .collect()
}

/// File name → text, for a command and everything below it.
fn collect(path: &[&str], texts: &mut BTreeMap<String, String>) {
    let name = std::iter::once("bpfman")
        .chain(path.iter().copied())
        .collect::<Vec<_>>()
        .join("-");
    let long = bpfman(&[path, &["--help"]].concat());
    for child in subcommands(&long) {
        collect(&[path, &[child.as_str()]].concat(), texts);
    }
    texts.insert(
        format!("{name}.short.txt"),
        bpfman(&[path, &["-h"]].concat()),
    );
    texts.insert(format!("{name}.txt"), long);
}

#[test]
fn every_help_text_is_the_golden_one() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/help");
    let mut texts = BTreeMap::new();
    collect(&[], &mut texts);
    assert!(
        texts.len() > 60,
        "only {} help texts were found",
        texts.len()
    );
    if std::env::var_os("BPFMAN_UPDATE_GOLDEN").is_some() {
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).unwrap();
        for (name, text) in &texts {
            std::fs::write(folder.join(name), text).unwrap();
        }
    }
    let mut golden: BTreeMap<String, String> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| {
            (
                path.file_name().unwrap().to_str().unwrap().to_owned(),
                std::fs::read_to_string(path).unwrap(),
            )
        })
        .collect();
    for (name, text) in &texts {
        let expected = golden
            .remove(name)
            .unwrap_or_else(|| panic!("no golden file for {name}"));
        assert_eq!(*text, expected, "{name} differs");
    }
    assert!(
        golden.is_empty(),
        "golden files without a command: {:?}",
        golden.keys()
    );
}
