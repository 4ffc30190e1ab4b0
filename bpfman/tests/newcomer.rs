//! What newcomers and scripts type, and what they are told: nothing here needs a kernel.

// Helpers outside #[test] functions are test code too.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output};

/// A home of its own: configuration, records and images.
struct Home(tempfile::TempDir);

impl Home {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.0.path().join(name)
    }

    fn command(&self, args: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bpfman"));
        command
            .args(args.split_whitespace())
            .env("BPFMAN_CONFIG", self.path("bpfman.toml"))
            .env("BPFMAN_RUNTIME_DIR", self.path("run"))
            .env("BPFMAN_IMAGE_DIR", self.path("images"))
            .env("BPFMAN_ADMITTED_DIR", self.path("admitted"))
            .env_remove("RUST_LOG")
            .current_dir(self.0.path());
        command
    }

    fn run(&self, args: &str) -> Output {
        self.command(args).output().unwrap()
    }
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output().unwrap();
    id.stdout == b"0\n"
}

/// What is said of a configuration, and what makes it so.
type Broken<'a> = (&'static str, Box<dyn Fn() + 'a>);

/// Ways in which a configuration cannot be used: what is written there, and what is said of it.
fn broken(file: &Path) -> Vec<Broken<'_>> {
    let written = |text: &'static [u8]| {
        Box::new(move || {
            let _ = std::fs::remove_file(file);
            let _ = std::fs::remove_dir(file);
            std::fs::write(file, text).unwrap();
        })
    };
    vec![
        (
            "line 2, key `signing.allow_unsinged`: unknown field",
            written(b"[signing]\nallow_unsinged = false\n") as Box<dyn Fn()>,
        ),
        ("line 1: ", written(b"[signing\n")),
        (
            "line 2, key `database.max_retries`: invalid type",
            written(b"[database]\nmax_retries = \"many\"\n"),
        ),
        ("not UTF-8", written(b"\xff\xfe")),
        (
            "it is a directory, not a regular file",
            Box::new(move || {
                let _ = std::fs::remove_file(file);
                std::fs::create_dir(file).unwrap();
            }),
        ),
        (
            "No such file",
            Box::new(move || {
                let _ = std::fs::remove_dir(file);
            }),
        ),
    ]
}

#[test]
fn a_broken_configuration_blocks_neither_removing_nor_diagnosing() {
    let home = Home::new();
    for (said, make) in broken(&home.path("bpfman.toml")) {
        make();
        for (args, root_status) in [
            ("unload 4294967295", 1),
            ("unload 4294967295 --ignore-missing", 0),
            ("detach 4294967295", 1),
            ("detach 4294967295 --ignore-missing", 0),
            ("doctor", 0),
            ("doctor --repair", 0),
            ("list", 0),
            ("list programs", 0),
            ("list links", 0),
            ("get program 4294967295", 1),
            ("get link 4294967295", 1),
        ] {
            let output = home.run(args);
            let stderr = stderr(&output);
            assert!(
                stderr.starts_with("warning: ")
                    && stderr.contains("bpfman.toml")
                    && stderr.contains(said)
                    && stderr.contains("; using the defaults\n"),
                "{args}: {stderr}"
            );
            assert!(!stderr.contains("error: in the conf"), "{args}: {stderr}");
            if is_root() {
                assert_eq!(output.status.code(), Some(root_status), "{args}: {stderr}");
            }
        }
        for args in ["image list", "image ls -o json"] {
            let output = home.run(args);
            assert!(output.status.success(), "{args}: {output:?}");
            assert!(stderr(&output).contains("; using the defaults"), "{args}");
        }
    }
}

#[test]
fn a_broken_configuration_blocks_what_it_should_guard() {
    let home = Home::new();
    for (said, make) in broken(&home.path("bpfman.toml")) {
        make();
        for args in [
            "load file -p x.o --programs xdp:f",
            "load image -i localhost:1/a -p Never --programs xdp:f",
            "load image localhost:1/a -p Never --programs xdp:f",
            "image pull localhost:1/a -p Never",
            "image verify localhost:1/a -p Never",
            "attach 1 xdp -i lo -p 1",
        ] {
            let output = home.run(args);
            let stderr = stderr(&output);
            assert_eq!(output.status.code(), Some(1), "{args}: {stderr}");
            assert!(
                stderr.starts_with("error: ") && stderr.contains(said),
                "{args}: {stderr}"
            );
        }
    }
}

/// The policy is well formed, the key that it names is not there.
#[test]
fn a_policy_that_cannot_be_used_verifies_nothing_and_shows_images() {
    let home = Home::new();
    let policy = "[[signing.policy]]\nscope = \"localhost:1\"\nkeys = [\"gone.pub\"]\n";
    std::fs::write(home.path("bpfman.toml"), policy).unwrap();
    let output = home.run("image list");
    assert!(output.status.success(), "{output:?}");
    assert!(stderr(&output).contains("gone.pub"), "{output:?}");
    assert!(stderr(&output).contains("using the defaults"), "{output:?}");
    let output = home.run("image pull localhost:1/a -p Never");
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).starts_with("error: in the configuration"));
}

#[test]
fn images_are_named_with_and_without_their_option() {
    let home = Home::new();
    std::fs::write(home.path("bpfman.toml"), "").unwrap();
    for args in [
        "image pull -p Never localhost:1/a",
        "image pull localhost:1/a -p Never",
        "image pull -i localhost:1/a -p Never",
        "image pull --image-url=localhost:1/a -p Never",
        "image verify localhost:1/a --key k.pub -p Never",
        "image verify -i localhost:1/a --key k.pub -p Never",
        "image inspect localhost:1/a",
        "image inspect -i localhost:1/a",
        "image remove localhost:1/a localhost:1/b",
        "image rm localhost:1/a",
        "image remove -i localhost:1/a localhost:1/b",
        "image rm -i localhost:1/a -i localhost:1/b",
        "image export localhost:1/a -o a.tar",
        "image export -i localhost:1/a -o a.tar",
    ] {
        std::fs::copy(
            concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/../tests/fixtures/signatures/good.pub"
            ),
            home.path("k.pub"),
        )
        .unwrap();
        let output = home.run(args);
        let stderr = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{args}: {stderr}");
        assert!(stderr.contains("localhost:1/a"), "{args}: {stderr}");
        assert!(stderr.contains("is not in the store"), "{args}: {stderr}");
    }
}

#[test]
fn aliases_are_the_commands_that_they_stand_for() {
    let home = Home::new();
    std::fs::write(home.path("bpfman.toml"), "").unwrap();
    for (alias, command) in [
        ("list", "list programs"),
        ("ls", "list programs"),
        ("ps", "list programs"),
        (
            "ps --all -q --application a",
            "list programs --all -q --application a",
        ),
        ("list program -o json", "list programs -o json"),
        ("ls link", "list links"),
        ("get programs 4294967295", "get program 4294967295"),
        ("get links 4294967295", "get link 4294967295"),
        ("rm 4294967295", "unload 4294967295"),
        ("image ls", "image list"),
        ("image rm localhost:1/a", "image remove localhost:1/a"),
    ] {
        let [by_alias, by_name] = [alias, command].map(|args| home.run(args));
        assert_eq!(by_alias, by_name, "{alias}");
        assert_ne!(by_alias.status.code(), Some(2), "{alias}: {by_alias:?}");
    }
    let help = home.run("--help");
    let help = String::from_utf8_lossy(&help.stdout).into_owned();
    for shown in ["[aliases: ls, ps]", "[alias: rm]"] {
        assert!(help.contains(shown), "{help}");
    }
}

#[test]
fn nothing_of_an_application_is_named() {
    if !is_root() {
        return;
    }
    let home = Home::new();
    std::fs::write(home.path("bpfman.toml"), "").unwrap();
    for (args, said) in [
        (
            "unload --application web",
            "error: no program of the application `web`\nhint: ",
        ),
        (
            "detach --application web",
            "error: no link of the application `web`\nhint: ",
        ),
    ] {
        let output = home.run(args);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert!(stderr(&output).starts_with(said), "{output:?}");
        let output = home.run(&format!("{args} --ignore-missing -o json"));
        assert!(output.status.success(), "{output:?}");
        assert_eq!(output.stdout, b"[]\n");
    }
}

#[test]
fn several_ids_are_all_tried_and_each_failure_is_told() {
    if !is_root() {
        return;
    }
    let home = Home::new();
    std::fs::write(home.path("bpfman.toml"), "").unwrap();
    for command in ["unload", "detach"] {
        let output = home.run(&format!("{command} 4294967294 4294967295 4294967294"));
        let told = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{told}");
        for id in ["4294967294", "4294967295"] {
            let lines = told.lines();
            let errors = lines.filter(|line| line.starts_with("error: ") && line.contains(id));
            assert_eq!(errors.count(), 1, "{told}");
        }
        let output = home.run(&format!("{command} 4294967294 4294967295 -o json"));
        assert!(output.stdout.is_empty(), "{output:?}");
        let output = home.run(&format!(
            "{command} 4294967294 4294967295 --ignore-missing -o json"
        ));
        assert!(output.status.success(), "{output:?}");
        let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let missing = json.as_array().unwrap().iter();
        assert_eq!(missing.filter(|one| one["missing"] == true).count(), 2);
    }
}

/// Root has used bpfman, so its folder is there, and closed to others.
#[test]
fn who_is_not_root_is_told_to_be() {
    if !is_root() {
        return;
    }
    let home = Home::new();
    std::fs::write(home.path("bpfman.toml"), "").unwrap();
    std::fs::write(home.path("x.o"), "").unwrap();
    std::fs::create_dir(home.path("run")).unwrap();
    let closed = std::fs::Permissions::from_mode(0o700);
    std::fs::set_permissions(home.path("run"), closed).unwrap();
    let open = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(home.0.path(), open.clone()).unwrap();
    // Where `target` is closed to others.
    let binary = home.path("bpfman");
    // By another process: a copy that this one has open for writing cannot be run while another test forks.
    let copied = Command::new("cp")
        .args([Path::new(env!("CARGO_BIN_EXE_bpfman")), &binary])
        .status();
    assert!(copied.unwrap().success());
    std::fs::set_permissions(&binary, open).unwrap();
    for args in [
        "load file -p x.o --programs xdp:f",
        "load file -p x.o --programs tracepoint:f",
        "attach 1 xdp -i lo -p 1",
        "detach 1",
        "unload 1",
        "list",
        "get program 1",
        "doctor",
    ] {
        let output = Command::new(&binary)
            .args(args.split(' '))
            .env("BPFMAN_CONFIG", home.path("bpfman.toml"))
            .env("BPFMAN_RUNTIME_DIR", home.path("run"))
            .current_dir(home.0.path())
            .uid(65534)
            .gid(65534)
            .output()
            .unwrap();
        let stderr = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{args}: {stderr}");
        assert!(stderr.contains("run it as root (sudo)"), "{args}: {stderr}");
    }
}

fn completed(home: &Home, line: &str) -> Vec<String> {
    let words: Vec<&str> = line.split(' ').collect();
    let output = home
        .command("")
        .arg("--")
        .args(&words)
        .env("BPFMAN_COMPLETE", "fish")
        .output()
        .unwrap();
    assert!(output.status.success(), "{line}: {output:?}");
    assert!(output.stderr.is_empty(), "{line}: {output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let lines = text.lines().filter_map(|line| line.split('\t').next());
    lines.map(str::to_owned).collect()
}

#[test]
fn shells_are_offered_things() {
    let home = Home::new();
    std::fs::write(home.path("bpfman.toml"), "").unwrap();
    let offered = |line: &str| completed(&home, line);
    assert!(offered("bpfman lo").contains(&"load".to_owned()));
    assert!(offered("bpfman attach 5 ").contains(&"tracepoint".to_owned()));
    assert!(offered("bpfman attach 5 xdp --iface l").contains(&"lo".to_owned()));
    assert!(offered("bpfman attach 5 xdp --mode ").contains(&"skb".to_owned()));
    // Nothing is there, and nothing is said about that.
    for line in [
        "bpfman unload ",
        "bpfman detach ",
        "bpfman get program ",
        "bpfman list programs --application ",
        "bpfman image inspect ",
        "bpfman load file -p /dev/null --programs ",
        "bpfman load file -p none.o --programs ",
        "bpfman attach 5 tracepoint -t ../",
    ] {
        let found = offered(line);
        let things = found.iter().filter(|word| !word.starts_with('-'));
        assert_eq!(things.count(), 0, "{line}: {found:?}");
    }
    std::fs::write(home.path("bpfman.toml"), "nonsense").unwrap();
    assert!(completed(&home, "bpfman attach 5 xdp --iface l").contains(&"lo".to_owned()));
    assert!(!home.path("run").exists());
}
