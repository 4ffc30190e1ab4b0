use loader::{LinkFilter, ProgramFilter};

use super::capabilities::{READ, check, loader};
use crate::args::{KernelTypeWord, ListCommand, ListLinksArgs, ListProgramsArgs};
use crate::config::Config;
use crate::error::Error;
use crate::metadata;
use crate::output::Printer;

/// `list programs` and `list links`.
pub(super) fn run(command: ListCommand) -> Result<(), Error> {
    match command {
        ListCommand::Programs(args) => programs(args),
        ListCommand::Links(args) => links(args),
    }
}

fn programs(args: ListProgramsArgs) -> Result<(), Error> {
    let filter = ProgramFilter {
        kernel_type: args
            .program_type
            .program_type
            .and_then(KernelTypeWord::kernel_name),
        metadata: metadata::collect(args.metadata_selector, args.application)?,
        all: args.all,
    };
    let config = Config::read()?;
    check(&READ)?;
    let loader = loader(&config);
    let guard = loader.lock_to_read()?;
    let programs = loader.programs(&guard, &filter)?;
    Printer::new(args.output.output).programs(&programs)
}

fn links(args: ListLinksArgs) -> Result<(), Error> {
    let filter = LinkFilter {
        kernel_type: args
            .program_type
            .program_type
            .and_then(KernelTypeWord::kernel_name),
        metadata: metadata::collect(args.metadata_selector, args.application)?,
    };
    let config = Config::read()?;
    check(&READ)?;
    let loader = loader(&config);
    let guard = loader.lock_to_read()?;
    let links = loader.links(&guard, &filter)?;
    Printer::new(args.output.output).links(&links)
}
