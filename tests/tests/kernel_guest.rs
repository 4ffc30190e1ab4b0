//! The functions of `tests/src/guest.sh` themselves: a script that fails ends at once, whatever it had started.

use bpfman_tests::vm::{HELPERS, Vm};

/// Runs the script, which has to fail, and not by the limit of the VM.
fn fails(script: &str, says: &str) {
    let Some(vm) = Vm::new() else { return };
    let outcome = vm
        .option("--limit", "60")
        .run(&format!("{HELPERS}{script}\necho NOT_REACHED\n"));
    assert_eq!(outcome.status, Some(1), "{outcome:#?}");
    assert!(outcome.output.contains(says), "{outcome:#?}");
    assert!(!outcome.output.contains("NOT_REACHED"), "{outcome:#?}");
}

#[test]
fn a_failure_ends_the_jobs_that_hold_a_pipe() {
    // Both ways to have a reader that waits for the last writer, with jobs that have children of their own. The job of
    // the script is not taken for one of theirs.
    let script = r#"
wire
meanwhile sleep 1000
stays=$!
begin_and_fail() {
    meanwhile ping_until /tmp/never
    meanwhile sh -c 'sleep 1000; :'
    eventually peer_runs
    false
}
begin_and_fail | cat
kill -0 "$stays"
echo "JOBS=$(ps | grep -c '[s]leep 1000')"
made=$(begin_and_fail)
"#;
    fails(script, "JOBS=1\n");
}

#[test]
fn what_does_not_come_is_said() {
    fails(
        "patience=2\neventually peer_runs\n",
        "waited in vain: peer_runs",
    );
}
