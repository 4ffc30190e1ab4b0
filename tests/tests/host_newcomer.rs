//! Ids, templates and JSON for scripts, several at once and whole applications: on this machine's own kernel.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use bpfman_tests::cli::{Bpfman, Outcome};
use bpfman_tests::lanes;
use bpfman_tests::objects::{Object, Packets};
use serde_json::Value;

const HOOK: [&str; 3] = ["tracepoint", "-t", "syscalls/sys_enter_kill"];

/// A place and programs to load, or `None` after the test was skipped.
fn place() -> Option<(Bpfman, Object)> {
    let object = Object::counting(Packets::All)?;
    (lanes::root() && lanes::tracefs()).then(|| (Bpfman::new(), object))
}

fn json(outcome: &Outcome) -> Value {
    serde_json::from_str(outcome.ok()).unwrap()
}

fn load(bpfman: &Bpfman, object: &Object, more: &[&str]) -> Outcome {
    let programs = ["--programs", "tracepoint:on_kill"];
    bpfman.run(&[&["load", "file", "-p", object.arg()], &programs[..], more].concat())
}

/// What `-q` printed: ids, one per line, and nothing else.
fn ids(outcome: &Outcome) -> Vec<String> {
    let ids: Vec<String> = outcome.ok().lines().map(str::to_owned).collect();
    assert_eq!(outcome.stderr, "");
    for id in &ids {
        assert!(id.parse::<u32>().is_ok(), "{outcome:#?}");
    }
    ids
}

#[test]
fn quiet_template_and_json_name_the_same_program() {
    let Some((bpfman, object)) = place() else {
        return;
    };
    let both = ["tracepoint:on_kill_with_a_long_name", "-q", "-a", "web"];
    let loaded = ids(&load(&bpfman, &object, &both));
    assert_eq!(loaded.len(), 2);
    assert_eq!(ids(&bpfman.run(&["list", "-q"])), loaded);
    assert_eq!(ids(&bpfman.run(&["list", "programs", "--quiet"])), loaded);
    assert_eq!(
        ids(&bpfman.run(&["ps", "-q", "--application", "web"])),
        loaded
    );
    assert!(ids(&bpfman.run(&["ps", "-q", "--application", "none"])).is_empty());

    let attach = [&["attach", &loaded[0]], &HOOK[..], &["-q"]].concat();
    let links = ids(&bpfman.run(&attach));
    assert_eq!(links.len(), 1);
    assert_eq!(ids(&bpfman.run(&["list", "links", "-q"])), links);
    let attach = [
        &["attach", &loaded[1]],
        &HOOK[..],
        &["--format", "{{.ID}} {{.ProgramID}} {{.tracepoint}}"],
    ];
    let line = bpfman.run(&attach.concat());
    let second = line.ok().split(' ').next().unwrap().to_owned();
    assert_eq!(
        line.ok(),
        format!("{second} {} syscalls/sys_enter_kill\n", loaded[1])
    );

    // One template for lists, loads and single programs.
    let template = "{{.program_id}} {{.bpf_function}} {{.application}}";
    let lines = bpfman.run(&["list", "programs", "--format", template]);
    let expected = format!(
        "{} on_kill web\n{} on_kill_with_a_long_name web\n",
        loaded[0], loaded[1]
    );
    assert_eq!(lines.ok(), expected);
    let line = bpfman.run(&["get", "program", &loaded[0], "--format", template]);
    assert_eq!(line.ok(), format!("{} on_kill web\n", loaded[0]));
    let line = load(&bpfman, &object, &["--format", template]);
    let third = line.ok().split(' ').next().unwrap().to_owned();
    assert_eq!(line.ok(), format!("{third} on_kill \n"));

    // `.[].program_id` is the id everywhere.
    let id = |value: &Value| value["program_id"].to_string();
    let listed = json(&bpfman.run(&["list", "programs", "-o", "json"]));
    let listed: Vec<String> = listed.as_array().unwrap().iter().map(id).collect();
    assert_eq!(listed, [&loaded[..], std::slice::from_ref(&third)].concat());
    let one = json(&load(&bpfman, &object, &["-o", "json"]));
    assert_eq!(one[0]["program_id"], one[0]["kernel_state"]["program_id"]);
    let got = json(&bpfman.run(&["get", "program", &third, "-o", "json"]));
    assert_eq!(id(&got), third);

    // A template that is wrong is known before anything is loaded.
    let before = bpfman.run(&["list", "-q"]).stdout;
    let wrong = load(&bpfman, &object, &["--format", "{{.nonsense}}"]);
    assert_eq!((wrong.status, wrong.stdout.as_str()), (Some(2), ""));
    assert_eq!(bpfman.run(&["list", "-q"]).stdout, before);
}

#[test]
fn several_and_whole_applications_are_taken_away() {
    let Some((bpfman, object)) = place() else {
        return;
    };
    let one = |more: &[&str]| ids(&load(&bpfman, &object, &[more, &["-q"]].concat())).remove(0);
    let attach =
        |id: &str| ids(&bpfman.run(&[&["attach", id], &HOOK[..], &["-q"]].concat())).remove(0);
    let (first, second, third) = (one(&[]), one(&["-a", "web"]), one(&["-a", "web"]));
    let [of_first, of_second, of_third] = [&first, &second, &third].map(|id| attach(id));

    // The one that is not there keeps none of the others, is named, and makes the command fail.
    let detached = bpfman.run(&["detach", &of_first, "1", &of_first, "-o", "json"]);
    assert_eq!(detached.status, Some(1), "{detached:#?}");
    assert!(
        detached
            .stderr
            .starts_with("error: there is no link with id 1\n"),
        "{detached:#?}"
    );
    let gone: Value = serde_json::from_str(&detached.stdout).unwrap();
    assert_eq!(gone.as_array().unwrap().len(), 1);
    assert_eq!(gone[0]["link_id"].to_string(), of_first);
    assert_eq!(gone[0]["program_id"].to_string(), first);
    assert_eq!(
        ids(&bpfman.run(&["list", "links", "-q"])),
        [of_second.clone(), of_third.clone()]
    );

    let gone = json(&bpfman.run(&["detach", "--application", "web", "-o", "json"]));
    let gone: Vec<String> = gone
        .as_array()
        .unwrap()
        .iter()
        .map(|link| link["link_id"].to_string())
        .collect();
    assert_eq!(gone, [of_second, of_third]);
    assert_eq!(
        ids(&bpfman.run(&["list", "-q"])),
        [first.clone(), second.clone(), third.clone()]
    );

    let link = attach(&second);
    let gone = json(&bpfman.run(&["unload", "--application", "web", "-o", "json"]));
    assert_eq!(gone[0]["program_id"].to_string(), second);
    assert_eq!(gone[0]["links"][0].to_string(), link);
    assert_eq!(gone[0]["missing"], false);
    assert_eq!(gone[1]["program_id"].to_string(), third);
    assert_eq!(ids(&bpfman.run(&["list", "-q"])), [first.as_str()]);

    let fourth = one(&[]);
    let silent = bpfman.run(&["rm", &first, &fourth]);
    assert_eq!((silent.ok(), silent.stderr.as_str()), ("", ""));
    let missing = json(&bpfman.run(&["rm", &first, "--ignore-missing", "-o", "json"]));
    assert_eq!(missing[0]["missing"], true);
    assert!(bpfman.pins().is_empty(), "{:?}", bpfman.pins());
}

#[test]
fn verbose_tells_the_steps_of_load_attach_and_unload() {
    let Some((bpfman, object)) = place() else {
        return;
    };
    let said = |outcome: Outcome, expected: &[&str], not: &[&str]| {
        let _ = outcome.ok();
        for step in expected {
            assert!(outcome.stderr.contains(step), "{step}: {outcome:#?}");
        }
        for step in not {
            assert!(!outcome.stderr.contains(step), "{step}: {outcome:#?}");
        }
        outcome
    };
    let loaded = said(
        load(&bpfman, &object, &["-q", "-v"]),
        &[
            "info: loading ",
            "info: loaded tracepoint:on_kill as program ",
        ],
        &["debug: "],
    );
    let id = loaded.ok().trim().to_owned();
    let _ = said(
        load(&bpfman, &object, &["-vv"]),
        &[
            "debug: pinning ",
            "debug: writing the records",
            "debug: creating the folder ",
        ],
        &[],
    );
    let attach = [&["attach", &id], &HOOK[..], &["-vv"]].concat();
    let _ = said(
        bpfman.run(&attach),
        &["info: attaching", "debug: pinning "],
        &[],
    );
    let _ = said(
        bpfman.run(&["unload", &id, "-v"]),
        &["info: unloading program "],
        &["debug: "],
    );
}

/// A spinner says what is waited for, on a terminal only.
#[test]
fn a_wait_for_the_lock_is_shown_on_a_terminal() {
    let Some((bpfman, object)) = place() else {
        return;
    };
    let Some(script) = lanes::tool("script") else {
        return;
    };
    let id = ids(&load(&bpfman, &object, &["-q"])).remove(0);
    let config = "[database]\nmax_retries = 10\nmillisec_delay = 100\n";
    std::fs::write(bpfman.home().join("bpfman.toml"), config).unwrap();
    let lock = std::fs::File::open(bpfman.runtime().join("lock")).unwrap();
    lock.lock().unwrap();
    let waiting = "waiting for another bpfman command";
    let piped = bpfman.run(&["list"]);
    assert!(!piped.failure().contains(waiting), "{piped:#?}");
    // `script` gives its command a terminal.
    let quiet = r#"script=$0; exec "$script" -qec "$*" /dev/null"#;
    let shown = bpfman.run_by(
        &["sh", "-c", quiet, script.to_str().unwrap()],
        &["unload", &id],
    );
    assert!(shown.stdout.contains(waiting), "{shown:#?}");
    drop(lock);
    let _ = bpfman.run(&["unload", &id]).ok();
}

/// A typo in the configuration keeps nobody from what must always work.
#[test]
fn a_broken_configuration_lets_detach_unload_and_doctor_work() {
    let Some((bpfman, object)) = place() else {
        return;
    };
    let id = ids(&load(&bpfman, &object, &["-q"])).remove(0);
    let attach = [&["attach", &id], &HOOK[..], &["-q"]].concat();
    let link = ids(&bpfman.run(&attach)).remove(0);
    let config = bpfman.home().join("bpfman.toml");
    std::fs::write(&config, "[signing]\nalow_unsigned = false\n").unwrap();
    let refused = load(&bpfman, &object, &[]);
    assert!(
        refused
            .failure()
            .starts_with("error: in the configuration ")
    );
    for arguments in [
        &["doctor"][..],
        &["list", "links"],
        &["get", "program", &id],
        &["detach", &link],
        &["unload", &id],
        &["doctor", "--repair"],
    ] {
        let outcome = bpfman.run(arguments);
        let _ = outcome.ok();
        assert!(
            outcome.stderr.starts_with("warning: in the configuration ")
                && outcome.stderr.ends_with("; using the defaults\n"),
            "{outcome:#?}"
        );
    }
    assert!(bpfman.pins().is_empty());
}
