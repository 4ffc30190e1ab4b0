use loader::LoaderError;

use super::capabilities::{REMOVE, check, check_links, loader, to_remove};
use crate::args::DetachArgs;
use crate::config::Config;
use crate::error::Error;

/// `detach`.
pub(super) fn run(args: &DetachArgs) -> Result<(), Error> {
    let config = Config::read()?;
    check(&REMOVE)?;
    let loader = loader(&config);
    let mut guard = loader.lock()?;
    check_links(&loader, &guard, |links| {
        to_remove(links, |link| link.id == args.link_id)
    })?;
    match loader.detach(&mut guard, args.link_id) {
        Err(LoaderError::NoSuchLink { .. }) if args.ignore_missing => Ok(()),
        other => Ok(other?),
    }
}
