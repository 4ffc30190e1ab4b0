//! Our speed and memory beside those of the tools that people know, in one run: `bench BPFMAN [--rounds N] [CASE]…`.
//!
//! Every case runs its contestants in turn (A B C A B C …), so that what the machine does meanwhile falls on all of them,
//! and shows medians. Only the command itself is timed, not what prepares it or clears up after it.
#![allow(clippy::print_stdout, clippy::expect_used, clippy::panic)]

mod builds;
mod cases;
mod chains;
mod measure;
mod pulls;
mod signatures;

use std::path::PathBuf;
use std::process::ExitCode;

use cases::Context;
use measure::{Case, Summary};

/// With `--strict` the exit status is 1 when a figure is missed or a case cannot be run.
const USAGE: &str = "usage: bench BPFMAN [--rounds N] [--strict] [CASE]…";

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let Some(binary) = arguments.next() else {
        return usage();
    };
    let mut rounds = 15;
    let mut strict = false;
    let mut wanted = Vec::new();
    while let Some(argument) = arguments.next() {
        if argument == "--rounds" {
            match arguments.next().and_then(|value| value.parse().ok()) {
                Some(value) => rounds = value,
                None => return usage(),
            }
        } else if argument == "--strict" {
            strict = true;
        } else {
            wanted.push(argument);
        }
    }
    let mut names: Vec<&str> = cases::ALL.iter().map(|(name, _)| *name).collect();
    names.push(chains::NAME);
    if let Some(name) = wanted.iter().find(|name| !names.contains(&name.as_str())) {
        println!("bench: no case '{name}'; there are {}", names.join(", "));
        return ExitCode::from(2);
    }

    let binary = PathBuf::from(binary);
    let context = Context::new(&binary);
    println!(
        "medians of {rounds} rounds, in turn: time, and time of processors; memory is the peak of the resident set\n"
    );
    let asked = |name: &str| wanted.is_empty() || wanted.iter().any(|asked| asked == name);
    let mut results = Vec::new();
    for (name, make) in cases::ALL.into_iter().filter(|(name, _)| asked(name)) {
        let result = make(&context)
            .map(|case| print(name, &case, &measure::run(&case, rounds)))
            .inspect_err(|reason| println!("{name}: skipped: {reason}\n"));
        results.push(result);
    }
    if asked(chains::NAME) {
        let result = chains::run(&binary)
            .inspect_err(|reason| println!("{}: skipped: {reason}\n", chains::NAME));
        results.push(result);
    }
    let missed = results
        .iter()
        .filter(|result| **result == Ok(false))
        .count();
    let skipped = results.iter().filter(|result| result.is_err()).count();
    println!(
        "{} cases: {missed} with a figure that is missed, {skipped} skipped",
        results.len()
    );
    if strict && missed + skipped > 0 {
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn usage() -> ExitCode {
    println!("{USAGE}");
    ExitCode::from(2)
}

/// One case: a line a contestant, ours first, with how many times theirs ours takes and whether that is within bounds.
/// Returns whether every bound was kept.
fn print(name: &str, case: &Case<'_>, summaries: &[Summary]) -> bool {
    println!("{name}: {}", case.title);
    let Some((ours, theirs)) = summaries.split_first() else {
        return true;
    };
    let mut kept = true;
    let mut judge = |within: bool| {
        kept &= within;
        if within { "kept" } else { "MISSED" }
    };
    let memory = judge(ours.peak_kib <= case.most_kib);
    let time = case.most_milliseconds.map_or_else(String::new, |most| {
        format!(", {most} ms: {}", judge(ours.milliseconds <= most))
    });
    println!(
        "  {:<22} {:>9.2} ms {:>9.2} ms {:>7.1} MiB   (at most {:.0} MB: {memory}{time})",
        ours.name,
        ours.milliseconds,
        ours.worked,
        mib(ours.peak_kib),
        mib(case.most_kib) * 1.048_576,
    );
    for (their, contestant) in theirs.iter().zip(case.contestants.iter().skip(1)) {
        let ratio = ours.milliseconds / their.milliseconds;
        let more = ours.milliseconds - their.milliseconds;
        let judged = match (contestant.most_times, case.most_more_milliseconds) {
            (Some(most), _) => format!("   (at most {most}: {})", judge(ratio <= most)),
            (None, Some(most)) => {
                let judged = judge(more <= most);
                format!(", {more:.2} ms more (at most {most}: {judged})")
            }
            (None, None) => String::new(),
        };
        println!(
            "  {:<22} {:>9.2} ms {:>9.2} ms {:>7.1} MiB   ours takes {ratio:.2} times as long{judged}",
            their.name,
            their.milliseconds,
            their.worked,
            mib(their.peak_kib),
        );
    }
    println!();
    kept
}

fn mib(kib: u64) -> f64 {
    // A few megabytes: far below where a float loses a digit.
    u32::try_from(kib).map_or(f64::INFINITY, |kib| f64::from(kib) / 1024.0)
}
