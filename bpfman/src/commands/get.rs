use super::capabilities::{READ, check, loader, lock_to_read};
use crate::args::GetCommand;
use crate::config::Config;
use crate::error::Error;
use crate::output::Printer;

/// `get program` and `get link`.
pub(super) fn run(command: GetCommand) -> Result<(), Error> {
    let config = Config::read_or_default();
    check(&READ)?;
    let loader = loader(&config);
    let guard = lock_to_read(&loader)?;
    match command {
        GetCommand::Program {
            program_id,
            output,
            template,
        } => {
            let program = loader.program(&guard, program_id)?;
            Printer::new((output.output, template)).program(&program)
        }
        GetCommand::Link {
            link_id,
            output,
            template,
        } => {
            let link = loader.link(&guard, link_id)?;
            Printer::new((output.output, template)).link(&link)
        }
    }
}
