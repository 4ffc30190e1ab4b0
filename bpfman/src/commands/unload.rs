use loader::LoaderError;

use super::capabilities::{REMOVE, loader};
use crate::args::UnloadArgs;
use crate::config::Config;
use crate::error::Error;

/// `unload`.
pub(super) fn run(args: &UnloadArgs) -> Result<(), Error> {
    let loader = loader(&REMOVE, &Config::read()?)?;
    match loader.unload(&mut loader.lock()?, args.program_id) {
        Err(LoaderError::NoSuchProgram { .. }) if args.ignore_missing => Ok(()),
        other => Ok(other?),
    }
}
