//! Our speed and memory beside those of the tools that people know, in one run: `bench BPFMAN [--rounds N] [CASE]…`.
//!
//! Every case runs its contestants in turn (A B C A B C …), so that what the machine does meanwhile falls on all of them,
//! and shows medians. Only the command itself is timed, not what prepares it or clears up after it.
#![allow(clippy::print_stdout, clippy::expect_used, clippy::panic)]

mod builds;
mod cases;
mod measure;
mod signatures;

use std::path::PathBuf;
use std::process::ExitCode;

use cases::Context;
use measure::{Case, Summary};

const USAGE: &str = "usage: bench BPFMAN [--rounds N] [CASE]…";

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let Some(binary) = arguments.next() else {
        return usage();
    };
    let mut rounds = 15;
    let mut wanted = Vec::new();
    while let Some(argument) = arguments.next() {
        if argument == "--rounds" {
            match arguments.next().and_then(|value| value.parse().ok()) {
                Some(value) => rounds = value,
                None => return usage(),
            }
        } else {
            wanted.push(argument);
        }
    }
    let unknown = wanted
        .iter()
        .find(|name| !cases::ALL.iter().any(|(known, _)| known == name));
    if let Some(name) = unknown {
        let names: Vec<&str> = cases::ALL.iter().map(|(name, _)| *name).collect();
        println!("bench: no case '{name}'; there are {}", names.join(", "));
        return ExitCode::from(2);
    }

    let context = Context::new(PathBuf::from(binary));
    println!("medians of {rounds} rounds, in turn; memory is the peak of the resident set\n");
    for (name, make) in cases::ALL {
        if wanted.is_empty() || wanted.iter().any(|asked| asked == name) {
            match make(&context) {
                Ok(case) => print(name, &case, &measure::run(&case, rounds)),
                Err(reason) => println!("{name}: skipped: {reason}\n"),
            }
        }
    }
    ExitCode::SUCCESS
}

fn usage() -> ExitCode {
    println!("{USAGE}");
    ExitCode::from(2)
}

/// One case: a line a contestant, ours first, with how many times theirs ours takes and whether that is within bounds.
fn print(name: &str, case: &Case<'_>, summaries: &[Summary]) {
    println!("{name}: {}", case.title);
    let Some((ours, theirs)) = summaries.split_first() else {
        return;
    };
    let memory = if ours.peak_kib <= case.most_kib {
        "kept"
    } else {
        "MISSED"
    };
    let time = match case.most_milliseconds {
        Some(most) if ours.milliseconds <= most => format!(", {most} ms: kept"),
        Some(most) => format!(", {most} ms: MISSED"),
        None => String::new(),
    };
    println!(
        "  {:<22} {:>9.2} ms {:>7.1} MiB   (at most {:.0} MB: {memory}{time})",
        ours.name,
        ours.milliseconds,
        mib(ours.peak_kib),
        mib(case.most_kib) * 1.048_576,
    );
    for (their, contestant) in theirs.iter().zip(case.contestants.iter().skip(1)) {
        let ratio = ours.milliseconds / their.milliseconds;
        let more = ours.milliseconds - their.milliseconds;
        let judged = match contestant.most_times {
            Some(most) if ratio <= most => format!("   (at most {most}: kept)"),
            Some(most) => format!("   (at most {most}: MISSED)"),
            None => match case.most_more_milliseconds {
                Some(most) if more <= most => format!(", {more:.2} ms more (at most {most}: kept)"),
                Some(most) => format!(", {more:.2} ms more (at most {most}: MISSED)"),
                None => String::new(),
            },
        };
        println!(
            "  {:<22} {:>9.2} ms {:>7.1} MiB   ours takes {ratio:.2} times as long{judged}",
            their.name,
            their.milliseconds,
            mib(their.peak_kib),
        );
    }
    println!();
}

fn mib(kib: u64) -> f64 {
    // A few megabytes: far below where a float loses a digit.
    u32::try_from(kib).map_or(f64::INFINITY, |kib| f64::from(kib) / 1024.0)
}
