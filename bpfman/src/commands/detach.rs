use loader::LoaderError;

use super::capabilities::loader;
use crate::args::DetachArgs;
use crate::error::Error;

/// `detach`.
pub(super) fn run(args: &DetachArgs) -> Result<(), Error> {
    let loader = loader()?;
    match loader.detach(&mut loader.lock()?, args.link_id) {
        Err(LoaderError::NoSuchLink { .. }) if args.ignore_missing => Ok(()),
        other => Ok(other?),
    }
}
