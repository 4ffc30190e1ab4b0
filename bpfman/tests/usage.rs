//! Exit statuses, and that stdout carries results only: wrong usage, what needs no kernel.

// Helpers outside #[test] functions are test code too.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

use std::process::{Command, Output};

fn bpfman(args: &str) -> Output {
    let args = args.split_whitespace();
    Command::new(env!("CARGO_BIN_EXE_bpfman"))
        .args(args)
        .env("BPFMAN_CONFIG", "/dev/null")
        .output()
        .unwrap()
}

/// Runs a command line that must fail with a status, say something on stderr and nothing on stdout.
fn fails(args: &str, status: i32, expected: &str) {
    let output = bpfman(args);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(status), "{args}\n{stderr}");
    assert!(stderr.contains(expected), "{args}\n{stderr}");
    assert!(
        !stderr.contains('\x1b'),
        "colour without a terminal: {args}\n{stderr}"
    );
    assert!(output.stdout.is_empty(), "{args}");
}

#[test]
fn wrong_usage_is_status_2() {
    let objects = "image generate-build-args";
    let build = "image build -t localhost:5000/a";
    let cases = [
        ("", "Usage: bpfman"),
        ("no-such-command", "unrecognized subcommand"),
        ("load", "Usage: bpfman load"),
        ("load file", "--programs <PROGRAMS>..."),
        ("load file -p x.o", "--programs <PROGRAMS>..."),
        ("load file --programs xdp:pass", "--path <PATH>"),
        ("load file -p x.o --programs", "a value is required"),
        ("load file -p x.o --programs xdp", "no function name"),
        (
            "load file -p x.o --programs xdp:a bogus:b",
            "unknown program type `bogus`",
        ),
        (
            "load file -p x.o --programs fentry:f",
            "fentry:FUNC_NAME:ATTACH_FUNC",
        ),
        (
            "load file -p x.o --programs xdp:f:g",
            "xdp takes no function",
        ),
        ("load file -p x.o --programs xdp:f -g A=1", "even number"),
        (
            "load file -p x.o --programs xdp:f -g A=01 B",
            "expected NAME=HEX",
        ),
        (
            "load file -p x.o --programs xdp:f -g A=01 -g A=02",
            "global variable `A` is given twice",
        ),
        (
            "load file -p x.o --programs xdp:f -m a",
            "expected KEY=VALUE",
        ),
        (
            "load file -p x.o --programs xdp:f -m a=1 -m a=2",
            "key `a` is given two values",
        ),
        (
            "load file -p x.o --programs xdp:f --map-owner-id x",
            "not a program id",
        ),
        (
            "load file -p x.o --programs xdp:f -o yaml",
            "[possible values: table, json]",
        ),
        ("load image --programs xdp:f", "--image-url <IMAGE_URL>"),
        (
            "load image --programs xdp:f -i UPPER/case",
            "capital letter",
        ),
        (
            "load image --programs xdp:f -i localhost:5000/a -p always",
            "[possible values: Always, IfNotPresent, Never]",
        ),
        (
            "image pull -i localhost:5000/a -p ifnotpresent",
            "[possible values: Always, IfNotPresent, Never]",
        ),
        (
            "image pull -i localhost:5000/a -r ===",
            "--registry-auth: the registry credentials are not base64",
        ),
        (
            "load file -p x.o --programs xdp:f tc:g xdp:f",
            "`f` is asked for twice",
        ),
        ("attach", "Usage: bpfman attach <PROGRAM_ID> <COMMAND>"),
        ("attach 1 uprobe -t libc", "--fn-name <FN_NAME>"),
        ("attach 1", "Usage: bpfman attach <PROGRAM_ID> <COMMAND>"),
        ("attach x xdp -i eth0 -p 1", "not a program id"),
        ("attach 1 xdp -i eth0", "--priority <PRIORITY>"),
        ("attach 1 xdp -p 1", "--iface <IFACE>"),
        ("attach 1 xdp -i eth0 -p 0", "0 is not in 1..=1000"),
        ("attach 1 xdp -i eth0 -p 1001", "1001 is not in 1..=1000"),
        (
            "attach 1 xdp -i eth0 -p 1 --proceed-on ok",
            "[possible values: aborted, drop, pass",
        ),
        (
            "attach 1 xdp -i eth0 -p 1 --mode native",
            "[possible values: drv, skb, hw]",
        ),
        ("attach 1 tc -i eth0 -p 1", "--direction <DIRECTION>"),
        (
            "attach 1 tc -i eth0 -p 1 -d both",
            "[possible values: ingress, egress]",
        ),
        (
            "attach 1 tcx -d ingress -i eth0 -p 1 --proceed-on ok",
            "unexpected argument '--proceed-on'",
        ),
        ("attach 1 tracepoint", "--tracepoint <TRACEPOINT>"),
        ("attach 1 tracepoint -t sys_enter", "expected CATEGORY/NAME"),
        ("attach 1 kprobe", "--fn-name <FN_NAME>"),
        ("attach 1 kprobe -f f -o json", "write `--output json`"),
        ("attach 1 uprobe -f f", "--target <TARGET>"),
        ("detach", "<LINK_ID>"),
        ("detach eth0", "not a link id"),
        ("detach 5 --application a", "cannot be used with"),
        ("unload", "<PROGRAM_ID>"),
        ("unload abc", "not a program id"),
        ("unload 5 abc", "not a program id"),
        ("unload 4294967296", "not a program id"),
        ("unload 5 --application a", "cannot be used with"),
        ("get program abc", "not a program id"),
        ("get link abc", "not a link id"),
        ("attach 1 uprobe -t libc -f f -p abc", "not a process id"),
        ("attach 5 xpd", "did you mean 'xdp'?"),
        (
            "attach 5 xpd",
            "the commands here are xdp, tc, tcx, tracepoint,",
        ),
        (
            "load file -p x.o --programs xdp_stats",
            "TYPE is missing, as in `xdp:xdp_stats`",
        ),
        ("load file -p x.o --programs xpd:f", "did you mean `xdp`?"),
        ("list programs -q -o json", "cannot be used with"),
        ("list programs -q --format x", "cannot be used with"),
        ("list programs --format x -o json", "cannot be used with"),
        (
            "list programs --format {{.progam_id}}",
            "did you mean `program_id`?",
        ),
        ("image pull", "--image-url <IMAGE_URL>"),
        ("image verify", "--image-url <IMAGE_URL>"),
        ("image inspect", "--image-url <IMAGE_URL>"),
        ("image remove", "<IMAGES>"),
        (
            "image pull localhost:5000/a -i localhost:5000/b",
            "cannot be used with",
        ),
        ("unload -1", "unexpected argument"),
        ("list frobs", "the commands here are programs, links"),
        ("list --all links", "unexpected argument 'links'"),
        (
            "list programs -p socket_filter",
            "invalid value 'socket_filter'",
        ),
        ("list links --all", "unexpected argument"),
        ("get program", "<PROGRAM_ID>"),
        (objects, "--bytecode <BYTECODE>|--cilium-ebpf-project"),
        (&format!("{objects} -b a.o -c dir"), "cannot be used with"),
        (
            &format!("{objects} -b a.o --bc-amd64-el b.o"),
            "cannot be used with",
        ),
        (
            &format!("{objects} -c dir --bc-s390x-eb b.o"),
            "cannot be used with",
        ),
        (
            "image build -f Containerfile.bytecode -b a.o",
            "--tag <TAG>",
        ),
        (&format!("{build} -b a.o"), "--container-file is missing"),
        (
            &format!("{build} -b a.o -r docker"),
            "--container-file is missing",
        ),
        (
            &format!("{build} -b a.o -r buildah"),
            "[possible values: docker, podman, builtin]",
        ),
        (
            &format!("{build} -f Containerfile.bytecode"),
            "--bytecode <BYTECODE>|--cilium-ebpf-project",
        ),
        ("completions tcsh", "[possible values: bash"),
        ("man", "<DIR>"),
    ];
    for (args, expected) in cases {
        fails(args, 2, expected);
    }
}

/// The password must not reach a log through an error message.
#[test]
fn registry_credentials_are_never_repeated() {
    let output = bpfman("image pull -i localhost:5000/a -r s3cr3t");
    assert_eq!(output.status.code(), Some(2));
    assert!(!String::from_utf8_lossy(&output.stderr).contains("s3cr3t"));
}

/// The command line is understood, and then there is no such program (or, for who is not root, no right to look).
#[test]
fn hooks_are_parsed_with_all_their_options() {
    for args in [
        "attach 4294967295 xdp -i eth0 -p 1 --mode skb -n /run/netns/a --proceed-on drop pass -m a=b",
        "attach 4294967295 tc -d ingress -i eth0 -p 1 -n /run/netns/a -m a=b -o json",
        "attach 4294967295 tc --direction egress --iface eth0 --priority 1000 --proceed-on ok --proceed-on trap shot",
        "attach 4294967295 tcx -d egress -i eth0 -p 1 -n /run/netns/a -m a=b -o json",
        "attach 4294967295 kprobe -f try_to_wake_up -o 8 -m a=b --output json",
        "attach 4294967295 kprobe --fn-name try_to_wake_up --offset 8 --metadata a=b",
        "attach 4294967295 uprobe -f malloc -t libc -p 1 -c 2 -o 0 -m a=b",
        "attach 4294967295 uprobe --target /bin/a --offset 8 --pid 1 --container-pid 2 --output json",
        "attach 4294967295 fentry -o json",
        "attach 4294967295 fexit -m a=b",
    ] {
        fails(args, 1, "error: ");
    }
}

#[test]
fn a_store_that_is_not_there_holds_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let images = folder.path().join("images");
    let run = |args: &str| {
        Command::new(env!("CARGO_BIN_EXE_bpfman"))
            .args(args.split_whitespace())
            .env("BPFMAN_IMAGE_DIR", &images)
            .current_dir(folder.path())
            .output()
            .unwrap()
    };
    let answers = [
        (
            "image list",
            " Image  Digest  Platform  Programs  Size  Verified \n",
        ),
        ("image list -o json", "[]\n"),
        ("image prune", "Freed 0 B in 0 files\n"),
        ("image prune --all", "Freed 0 B in 0 files\n"),
    ];
    for (args, expected) in answers {
        let output = run(args);
        assert_eq!(String::from_utf8_lossy(&output.stdout), expected, "{args}");
        assert_eq!(output.status.code(), Some(0), "{args}");
    }
    for args in [
        "image inspect localhost:5000/a",
        "image remove localhost:5000/a localhost:5000/b",
        "image tag localhost:5000/a localhost:5000/b",
        "image push localhost:5000/a",
        "image export localhost:5000/a -o a.tar",
    ] {
        let output = run(args);
        let stderr = String::from_utf8_lossy(&output.stderr);
        let export = "error: cannot export localhost:5000/a\ncause: ";
        let stderr = stderr.replace(export, "error: ");
        assert!(
            stderr.starts_with("error: image localhost:5000/a:latest is not in the store "),
            "{args}: {stderr}"
        );
        assert!(stderr.contains("\nhint: "), "{args}: {stderr}");
        assert_eq!(output.status.code(), Some(1), "{args}");
    }
    let output = run("image import a.tar");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        stderr.starts_with(
            "error: cannot import a.tar\ncause: cannot read the archive a.tar\ncause: No such file"
        ),
        "{stderr}"
    );
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn a_broken_configuration_is_named() {
    let output = Command::new(env!("CARGO_BIN_EXE_bpfman"))
        .args(["image", "pull", "-i", "localhost:1/a"])
        .env("BPFMAN_CONFIG", "/nonexistent/bpfman.toml")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        stderr.starts_with("error: reading the configuration /nonexistent/bpfman.toml\ncause: "),
        "{stderr}"
    );
}

#[test]
fn version_completions_and_manual_pages() {
    for version in ["--version", "-V"] {
        let output = bpfman(version);
        assert_eq!(
            String::from_utf8_lossy(&output.stdout),
            format!("bpfman {}\n", env!("CARGO_PKG_VERSION"))
        );
    }
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let output = bpfman(&format!("completions {shell}"));
        assert!(output.status.success(), "{shell}");
        assert!(
            String::from_utf8_lossy(&output.stdout).contains("generate-build-args"),
            "{shell}"
        );
    }
    let dir = tempfile::tempdir().unwrap();
    let output = bpfman(&format!("man {}/pages", dir.path().display()));
    assert!(output.status.success(), "{output:?}");
    let page = std::fs::read_to_string(dir.path().join("pages/bpfman-load-file.1")).unwrap();
    assert!(page.contains("map\\-owner\\-id"), "{page}");
}

#[test]
fn a_reader_that_goes_away_is_no_panic() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = Command::new(env!("CARGO_BIN_EXE_bpfman"))
        .arg("--help")
        .stdout(writer)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(output.stderr.is_empty(), "{output:?}");
}

#[test]
fn a_full_disk_is_an_error() {
    let full = std::fs::OpenOptions::new()
        .write(true)
        .open("/dev/full")
        .unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_bpfman"))
        .arg("--help")
        .stdout(full)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        stderr.starts_with("error: writing to standard output\ncause: No space left"),
        "{stderr}"
    );
}

#[test]
fn what_the_configuration_says_of_signatures() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("bpfman.toml");
    std::fs::copy(
        concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../tests/fixtures/signatures/good.pub"
        ),
        folder.path().join("good.pub"),
    )
    .unwrap();
    let refused = |text: &str, args: &str| {
        std::fs::write(&config, text).unwrap();
        let output = Command::new(env!("CARGO_BIN_EXE_bpfman"))
            .args(args.split(' '))
            .env("BPFMAN_CONFIG", &config)
            .env("BPFMAN_IMAGE_DIR", folder.path().join("images"))
            .current_dir(folder.path())
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    let policy = "[[signing.policy]]\nscope = \"localhost:1\"\nkeys = [\"gone.pub\"]\n";
    let stderr = refused(policy, "image pull -i localhost:1/a -p Never");
    assert!(
        stderr.contains("line 3, key `signing.policy[0].keys[0]`\n"),
        "{stderr}"
    );
    assert!(stderr.contains("gone.pub"), "{stderr}");

    // No request is made for what would be refused anyway.
    let closed = "[signing]\nallow_unsigned = false\n";
    let stderr = refused(closed, "image pull -i localhost:1/a");
    assert!(
        stderr.starts_with(
            "error: cannot pull localhost:1/a\ncause: image localhost:1/a:latest is refused: no policy of the configuration covers it"
        ),
        "{stderr}"
    );
    assert!(stderr.contains("\nhint: "), "{stderr}");

    // A key of the command line needs no policy, and a policy needs an image.
    for args in [
        "image verify -i localhost:1/a --key good.pub -p Never",
        "image verify -i localhost:1/a --certificate-identity a --certificate-oidc-issuer b -p Never",
    ] {
        let stderr = refused(closed, args);
        assert!(
            stderr.starts_with(
                "error: cannot verify localhost:1/a\ncause: image localhost:1/a:latest"
            ),
            "{args}: {stderr}"
        );
        assert!(stderr.contains("is not in the store"), "{args}: {stderr}");
    }
    let stderr = refused(closed, "image verify -i localhost:1/a --key gone.pub");
    assert!(
        stderr.starts_with("error: cannot use --key gone.pub\ncause: reading gone.pub\n"),
        "{stderr}"
    );
}

/// Before the configuration is read, which is broken here, and before capabilities are looked for.
#[test]
fn a_login_that_is_none_is_wrong_usage_whatever_else_is_wrong() {
    for command in [
        "load image --programs xdp:pass",
        "image pull",
        "image verify",
    ] {
        let args = format!("{command} -i quay.io/acme/xdp -r s3cr3t");
        let output = Command::new(env!("CARGO_BIN_EXE_bpfman"))
            .args(args.split_whitespace())
            .env("BPFMAN_CONFIG", "/")
            .output()
            .unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{args}\n{stderr}");
        assert!(stderr.contains("not base64"), "{args}\n{stderr}");
        assert!(!stderr.contains("s3cr3t"), "{args}\n{stderr}");
    }
}

#[test]
fn pipes_and_devices_are_refused_without_waiting() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe");
    let made = Command::new("mkfifo").arg(&pipe).status().unwrap();
    assert!(made.success());
    std::fs::write(folder.path().join("Containerfile"), "FROM scratch\n").unwrap();
    let run = |args: &str, config: &str, path: &str| {
        Command::new(env!("CARGO_BIN_EXE_bpfman"))
            .args(args.replace("PATH", path).split_whitespace())
            .env("BPFMAN_CONFIG", config.replace("PATH", path))
            .env("BPFMAN_IMAGE_DIR", folder.path().join("images"))
            .current_dir(folder.path())
            .output()
            .unwrap()
    };
    let cases = [
        ("load file --path PATH --programs xdp:pass", "/dev/null"),
        ("image generate-build-args --bytecode PATH", "/dev/null"),
        (
            "image build -t localhost:1/a -f Containerfile --bytecode PATH",
            "/dev/null",
        ),
        ("image verify -i localhost:1/a --key PATH", "/dev/null"),
        (
            "image verify -i localhost:1/a --certificate-identity a --certificate-oidc-issuer https://b --trusted-root PATH",
            "/dev/null",
        ),
        ("image pull -i localhost:1/a", "PATH"),
    ];
    for (path, what) in [
        (pipe.to_str().unwrap(), "a pipe (FIFO), not a regular file"),
        ("/dev/zero", "a device, not a regular file"),
    ] {
        for (args, config) in cases {
            let output = run(args, config, path);
            let stderr = String::from_utf8_lossy(&output.stderr);
            // Without the rights to load, that is the first thing to say.
            let refused = stderr.contains(what) && stderr.contains(path)
                || args.starts_with("load") && stderr.contains("CAP_");
            assert!(refused, "{args}\n{stderr}");
            assert_eq!(output.status.code(), Some(1), "{args}\n{stderr}");
        }
    }
}
