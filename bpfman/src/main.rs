//! `bpfman`: reads the command line, runs one command, prints what came of it.

mod args;
mod commands;
mod complete;
mod config;
mod error;
mod metadata;
mod output;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use output::Stderr;

fn main() -> ExitCode {
    output::hold_panics();
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|_| {
        Stderr::labelled(
            "error",
            &format!("bpfman itself failed: {}", output::panic_message()),
        );
        ExitCode::FAILURE
    })
}

fn run() -> ExitCode {
    if let Some(answered) = complete::answer() {
        return answered;
    }
    let cli = match args::parse() {
        Ok(cli) => cli,
        Err(message) => {
            return match output::clap_message(&message) {
                Ok(()) => ExitCode::from(u8::try_from(message.exit_code()).unwrap_or(2)),
                Err(error) => report(&error, 0),
            };
        }
    };
    output::init_logger(cli.verbose);
    match commands::run(cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => report(&error, cli.verbose),
    }
}

fn report(error: &error::Error, verbose: u8) -> ExitCode {
    Stderr::error(error, verbose > 0);
    ExitCode::from(error.exit_status())
}
