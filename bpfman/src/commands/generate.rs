use std::path::Path;

use clap_complete::Shell;

use crate::args;
use crate::error::Error;
use crate::output::Printer;

/// `completions SHELL`.
pub(super) fn completions(shell: Shell) -> Result<(), Error> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut args::command(), "bpfman", &mut script);
    Printer::default().text(&String::from_utf8_lossy(&script))
}

/// `man DIR`.
pub(super) fn man(dir: &Path) -> Result<(), Error> {
    std::fs::create_dir_all(dir)
        .and_then(|()| clap_mangen::generate_to(args::command(), dir))
        .map_err(|source| Error::Man {
            dir: dir.to_owned(),
            source,
        })
}
