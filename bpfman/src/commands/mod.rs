//! One file a command: request in, library call, printer out.

mod attach;
mod capabilities;
mod detach;
mod digest_file;
mod doctor;
mod generate;
mod get;
mod image_build;
mod image_pull;
mod image_push;
mod image_store;
mod image_verify;
mod list;
mod load;
mod man;
mod unload;

use std::collections::BTreeSet;

pub(crate) use image_store::store;

use crate::args::{ImageCommand, Later, TopCommand};
use crate::error::Error;

/// Runs a command.
pub(crate) fn run(command: TopCommand) -> Result<(), Error> {
    match command {
        TopCommand::Load(Later(args)) => load::run(args.command),
        TopCommand::Unload(Later(args)) => unload::run(args),
        TopCommand::Attach(Later(args)) => attach::run(args),
        TopCommand::Detach(Later(args)) => detach::run(args),
        TopCommand::List(Later(args)) => list::run(args),
        TopCommand::Get(Later(args)) => get::run(args.command),
        TopCommand::Image(Later(args)) => image(args.command),
        TopCommand::Doctor(args) => doctor::run(&args),
        TopCommand::Completions(args) => generate::completions(args.shell),
        TopCommand::Man(args) => generate::man(&args.dir),
    }
}

/// Ids as they were typed, each one once.
fn once_each(ids: Vec<u32>) -> Vec<u32> {
    let mut seen = BTreeSet::new();
    ids.into_iter().filter(|id| seen.insert(*id)).collect()
}

fn image(command: ImageCommand) -> Result<(), Error> {
    match command {
        ImageCommand::Pull(args) => image_pull::run(args),
        ImageCommand::Build(args) => image_build::build(*args),
        ImageCommand::GenerateBuildArgs(args) => image_build::generate_build_args(args),
        ImageCommand::List { output } => image_store::list(output.output),
        ImageCommand::Inspect { image, output } => image_store::inspect(&image, output.output),
        ImageCommand::Verify(args) => image_verify::run(*args),
        ImageCommand::Remove { images } => image_store::remove(images.into_vec()),
        ImageCommand::Prune { all } => image_store::prune(all),
        ImageCommand::Export {
            images,
            output,
            all_platforms,
        } => image_store::export(images.into_vec(), &output, all_platforms),
        ImageCommand::Import { file, tag } => image_store::import(&file, tag),
        ImageCommand::Push(args) => image_push::push(&args),
        ImageCommand::Tag { image, name } => image_push::tag(&image, name),
    }
}
