//! What pulls and builds say: the warning about signatures, and the steps of `-v`.
#![allow(clippy::unwrap_used)]

use bpfman_tests::cli::Bpfman;
use bpfman_tests::objects::Object;
use bpfman_tests::registry::Registry;

/// A registry with an image of an example, or `None` after the test was skipped.
fn pushed() -> Option<(Registry, Object, String)> {
    let (registry, object) = (Registry::start()?, Object::example("xdp-counter")?);
    let name = registry.reference("acme/xdp-counter:v1");
    let build = [
        "image",
        "build",
        "-r",
        "builtin",
        "-t",
        &name,
        "-b",
        object.arg(),
    ];
    let built = Bpfman::new().run(&build);
    assert_eq!(built.stderr, "", "{built:#?}");
    let _ = built.ok();
    Some((registry, object, name))
}

fn configured(text: &str) -> Bpfman {
    let bpfman = Bpfman::new();
    std::fs::write(bpfman.home().join("bpfman.toml"), text).unwrap();
    bpfman
}

#[test]
fn an_image_without_proof_is_warned_of_once_and_the_warning_can_be_ended() {
    let Some((_registry, _, name)) = pushed() else {
        return;
    };
    let bpfman = Bpfman::new();
    let pull = ["image", "pull", &name];
    let file = bpfman.home().join("bpfman.toml");
    let warning = format!(
        "warning: {name}: signatures not verified, no signing policy matches\n\
         hint: these lines of {} accept what no policy covers without this warning, or with `false` refuse it\n  \
         [signing]\n  allow_unsigned = true\n",
        file.display()
    );
    // From the registry, and from the store: each command says it once.
    for _ in 0..2 {
        let pulled = bpfman.run(&pull);
        let _ = pulled.ok();
        assert_eq!(pulled.stderr, warning);
    }
    for level in ["off", "error"] {
        let pulled = Bpfman::new().env("RUST_LOG", level).run(&pull);
        let _ = pulled.ok();
        assert_eq!(pulled.stderr, "", "RUST_LOG={level}");
    }
    // The lines do what the hint says of them.
    let accepting = configured("[signing]\nallow_unsigned = true\n");
    let pulled = accepting.run(&pull);
    let _ = pulled.ok();
    assert_eq!(pulled.stderr, "");
    let said = accepting.run(&["-v", "image", "pull", &name]).stderr;
    assert!(
        said.contains(&format!("info: {name}: signatures not verified")),
        "{said}"
    );
    let refusing = configured("[signing]\nallow_unsigned = false\n").run(&pull);
    assert!(refusing.failure().contains("is refused"), "{refusing:#?}");
    // A policy goes before them: what it covers must be signed.
    let scope = name.split('/').next().unwrap();
    let key = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/signatures/good.pub");
    let policy = format!("[[signing.policy]]\nscope = \"{scope}\"\nkeys = [\"{key}\"]\n");
    for also in ["", "[signing]\nallow_unsigned = true\n"] {
        let refused = configured(&format!("{also}{policy}")).run(&pull);
        assert!(!refused.failure().contains("warning"), "{refused:#?}");
    }
    let disabled = configured("[signing]\nverify_enabled = false\n").run(&pull);
    let _ = disabled.ok();
    assert!(
        disabled.stderr.starts_with(&format!(
            "warning: {name}: signature verification is disabled, the configuration says `verify_enabled = false`\n"
        )) && disabled
            .stderr
            .ends_with("  [signing]\n  verify_enabled = true\n"),
        "{disabled:#?}"
    );
}

#[test]
fn verbose_tells_the_steps_of_a_pull_and_of_a_build() {
    let Some((registry, object, name)) = pushed() else {
        return;
    };
    let infos = |text: &str| {
        text.lines()
            .filter(|line| line.starts_with("info: "))
            .count()
    };
    let debugs = |text: &str| {
        text.lines()
            .filter(|line| line.starts_with("debug: "))
            .count()
    };

    let pulled = Bpfman::new().run(&["image", "pull", &name, "-v"]);
    for step in [
        format!("info: asking {} for {name}", registry.address()),
        "info: fetching ".to_owned(),
        format!("info: stored {name} (sha256:"),
    ] {
        assert!(pulled.stderr.contains(&step), "{step}: {pulled:#?}");
    }
    assert_eq!(debugs(&pulled.stderr), 0, "{pulled:#?}");
    let bpfman = Bpfman::new();
    let pulled = bpfman.run(&["image", "pull", &name, "-vv"]);
    for step in ["debug: ", " is sha256:", "debug: fetched sha256:"] {
        assert!(pulled.stderr.contains(step), "{step}: {pulled:#?}");
    }
    let kept = bpfman.run(&["image", "pull", &name, "-v"]);
    assert!(
        kept.stderr
            .contains(&format!("info: the store has {name} (")),
        "{kept:#?}"
    );
    assert!(!kept.stderr.contains("asking"), "{kept:#?}");

    let other = registry.reference("acme/xdp-counter:v2");
    let build = [
        "image",
        "build",
        "-r",
        "builtin",
        "-t",
        &other,
        "-b",
        object.arg(),
    ];
    let built = Bpfman::new().run(&[&build[..], &["-v"]].concat());
    for step in [
        format!("info: packing {} for linux/", object.arg()),
        format!("info: built {other} (sha256:"),
        format!("info: pushing {other}: 1 images, 2 blobs, "),
    ] {
        assert!(built.stderr.contains(&step), "{step}: {built:#?}");
    }
    assert!(infos(&built.stderr) >= 3 && debugs(&built.stderr) == 0);
    let built = Bpfman::new().run(&[&build[..], &["-vv"]].concat());
    for step in [
        "debug: pushed sha256:",
        "debug: moving the tag v2 to sha256:",
    ] {
        assert!(built.stderr.contains(step), "{step}: {built:#?}");
    }
}

/// Ids and names for the shell, from a store that has something.
#[test]
fn completion_offers_images_and_their_functions() {
    let Some((_registry, object, name)) = pushed() else {
        return;
    };
    let bpfman = Bpfman::new().env("BPFMAN_COMPLETE", "fish");
    let pulled = bpfman
        .command(&["image", "pull", &name])
        .env_remove("BPFMAN_COMPLETE")
        .status();
    assert!(pulled.unwrap().success());
    let offered = |words: &[&str]| {
        let line = [&["--", "bpfman"], words].concat();
        let answer = bpfman.run(&line);
        answer.ok().to_owned()
    };
    let repository = name.split(':').next().unwrap();
    for words in [
        &["image", "inspect", repository][..],
        &["image", "rm", ""],
        &["load", "image", "-i", ""],
        &["image", "pull", ""],
    ] {
        assert!(offered(words).contains(&name), "{words:?}");
    }
    let path = object.arg();
    for words in [
        &["load", "image", "-i", &name, "--programs", ""][..],
        &["load", "image", &name, "--programs", "xdp:"],
        &["load", "file", "-p", path, "--programs", ""],
        &["load", "file", "--path", path, "--programs", "xdp:xdp_s"],
    ] {
        assert!(offered(words).contains("xdp:xdp_stats"), "{words:?}");
    }
    // bash splits at colons, and puts its answer behind the last one.
    let script = r#"
eval "$(bpfman completions bash)"
complete -p bpfman | grep -q -e '-F _bpfman_things' || exit 3
for line in "$@"; do
    COMP_LINE=$line COMP_POINT=${#line} COMP_TYPE=9
    _bpfman_things bpfman
    echo "${COMPREPLY[*]}"
done
"#;
    let bin = bpfman.home().join("bin");
    std::fs::create_dir(&bin).unwrap();
    std::os::unix::fs::symlink(bpfman_tests::cli::binary(), bin.join("bpfman")).unwrap();
    let path = std::env::var("PATH").unwrap();
    let (host, rest) = name.split_once(':').unwrap();
    let (before, last) = name.rsplit_once(':').unwrap();
    let answers = std::process::Command::new("bash")
        .args(["-c", script, "bash"])
        .arg(format!("bpfman image inspect {host}"))
        .arg(format!("bpfman image inspect {host}:"))
        .arg(format!("bpfman image inspect {before}:v"))
        .arg(format!("bpfman load image -i {name} --programs xdp:"))
        .arg("bpfman unl")
        .env("PATH", format!("{}:{path}", bin.display()))
        .env("BPFMAN_IMAGE_DIR", bpfman.images())
        .env("BPFMAN_CONFIG", "/dev/null")
        .output()
        .unwrap();
    assert!(answers.status.success(), "{answers:?}");
    let said = String::from_utf8(answers.stdout).unwrap();
    let expected = [&name, rest, last, "xdp_stats", "unload"];
    assert_eq!(said.lines().collect::<Vec<_>>(), expected);
}
