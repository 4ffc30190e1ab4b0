//! Shell commands, loading a program, and JSON of a run.

use std::process::Command;

use bpfman_tests::cli::{Bpfman, Outcome};
use bpfman_tests::objects::Object;
use serde_json::Value;

pub(crate) fn sh(script: &str) -> Outcome {
    Outcome::of(&Command::new("sh").args(["-c", script]).output().unwrap())
}

/// Loads a program and gives its id.
pub(crate) fn load(bpfman: &Bpfman, object: &Object, program: &str) -> String {
    let arguments = ["load", "file", "-p", object.arg(), "--programs", program];
    bpfman.run(&arguments).field("Program ID")
}

pub(crate) fn json(outcome: &Outcome) -> Value {
    serde_json::from_str(outcome.ok()).unwrap()
}
