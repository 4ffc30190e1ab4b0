use loader::LoaderError;

use super::capabilities::{READ, REMOVE, check, check_links, loader, to_remove};
use crate::args::UnloadArgs;
use crate::config::Config;
use crate::error::Error;

/// `unload`.
pub(super) fn run(args: &UnloadArgs) -> Result<(), Error> {
    let config = Config::read()?;
    check(&REMOVE)?;
    let loader = loader(&config);
    let mut guard = loader.lock()?;
    let id = args.program_id;
    if !loader.is_managed(&guard, id)? {
        // Whether it is somebody else's only the kernel knows.
        check(&READ)?;
    }
    check_links(&loader, &guard, |links| {
        to_remove(links, |link| link.program_id == id)
    })?;
    match loader.unload(&mut guard, id) {
        Err(LoaderError::NoSuchProgram { .. }) if args.ignore_missing => Ok(()),
        other => Ok(other?),
    }
}
