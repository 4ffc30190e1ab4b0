use std::path::Path;

use clap_complete::Shell;

use super::man;
use crate::args;
use crate::complete;
use crate::error::Error;
use crate::output::Printer;

/// `completions SHELL`.
pub(super) fn completions(shell: Shell) -> Result<(), Error> {
    let mut words = Vec::new();
    clap_complete::generate(shell, &mut args::command(), "bpfman", &mut words);
    let words = String::from_utf8_lossy(&words);
    match complete::script(shell, &words) {
        Some(script) => Printer::default().text(&script),
        None => Printer::default().text(&words),
    }
}

/// `man DIR`.
pub(super) fn man(dir: &Path) -> Result<(), Error> {
    man::write(args::command(), dir)
}
