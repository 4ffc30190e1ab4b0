use loader::{LinkFilter, ProgramFilter};

use super::capabilities::{READ, check, loader, lock_to_read};
use crate::args::{KernelTypeWord, Later, ListArgs, ListCommand, ListLinksArgs, ListProgramsArgs};
use crate::config::Config;
use crate::error::Error;
use crate::metadata;
use crate::output::Printer;

/// `list programs`, which `list` alone is too, and `list links`.
pub(super) fn run(args: ListArgs) -> Result<(), Error> {
    match args.command {
        ListCommand::Programs(Later(args)) => programs(args),
        ListCommand::Links(Later(args)) => links(args),
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
    let config = Config::read_or_default();
    check(&READ)?;
    let loader = loader(&config);
    let guard = lock_to_read(&loader)?;
    let programs = loader.programs(&guard, &filter)?;
    Printer::new(args.output).programs(&programs)
}

fn links(args: ListLinksArgs) -> Result<(), Error> {
    let filter = LinkFilter {
        kernel_type: args
            .program_type
            .program_type
            .and_then(KernelTypeWord::kernel_name),
        metadata: metadata::collect(args.metadata_selector, args.application)?,
    };
    let config = Config::read_or_default();
    check(&READ)?;
    let loader = loader(&config);
    let guard = lock_to_read(&loader)?;
    let links = loader.links(&guard, &filter)?;
    Printer::new(args.output).links(&links)
}
