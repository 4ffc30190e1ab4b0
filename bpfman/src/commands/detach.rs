use loader::LoaderError;

use super::capabilities::{REMOVE, loader};
use crate::args::DetachArgs;
use crate::config::Config;
use crate::error::Error;

/// `detach`.
pub(super) fn run(args: &DetachArgs) -> Result<(), Error> {
    let loader = loader(&REMOVE, &Config::read()?)?;
    match loader.detach(&mut loader.lock()?, args.link_id) {
        Err(LoaderError::NoSuchLink { .. }) if args.ignore_missing => Ok(()),
        other => Ok(other?),
    }
}
