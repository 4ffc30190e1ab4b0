use super::capabilities::{READ, check, loader};
use crate::args::GetCommand;
use crate::config::Config;
use crate::error::Error;
use crate::output::Printer;

/// `get program` and `get link`.
pub(super) fn run(command: &GetCommand) -> Result<(), Error> {
    let config = Config::read()?;
    check(&READ)?;
    let loader = loader(&config);
    let guard = loader.lock_to_read()?;
    match command {
        GetCommand::Program { program_id, output } => {
            Printer::new(output.output).program(&loader.program(&guard, *program_id)?)
        }
        GetCommand::Link { link_id, output } => {
            Printer::new(output.output).link(&loader.link(&guard, *link_id)?)
        }
    }
}
