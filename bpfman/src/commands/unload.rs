use std::collections::BTreeMap;

use loader::{LinkFilter, LoaderError};

use super::capabilities::{READ, REMOVE, check, check_links, loader, lock, to_remove};
use super::once_each;
use crate::args::{OutputFormat, UnloadArgs};
use crate::config::Config;
use crate::error::Error;
use crate::metadata::APPLICATION_KEY;
use crate::output::{Printer, Unloaded};

/// `unload`: each program by itself, so that one that cannot be unloaded keeps none of the others.
pub(super) fn run(args: UnloadArgs) -> Result<(), Error> {
    let config = Config::read_or_default();
    check(&REMOVE)?;
    let loader = loader(&config);
    let mut guard = lock(&loader)?;
    let ids = match &args.application {
        Some(application) => {
            let metadata = BTreeMap::from([(APPLICATION_KEY.to_owned(), application.clone())]);
            let ids = loader.recorded_programs(&guard, &metadata)?;
            if ids.is_empty() && !args.ignore_missing {
                return Err(Error::NoSuchApplication {
                    what: "program",
                    application: application.clone(),
                });
            }
            ids
        }
        None => once_each(args.program_ids),
    };
    // All that may be lacking is known before anything is changed.
    for id in &ids {
        if !loader.is_managed(&guard, *id)? {
            // Only the kernel tells whether another tool loaded it.
            check(&READ)?;
        }
        check_links(&loader, &guard, |links| {
            to_remove(links, |link| link.program_id == *id)
        })?;
    }
    // JSON names the links of each program.
    let links = match args.output.output {
        OutputFormat::Json => loader.links(&guard, &LinkFilter::default())?,
        OutputFormat::Table => Vec::new(),
    };
    let mut unloaded = Vec::new();
    let mut failed = Vec::new();
    for program_id in ids {
        let own = links.iter().filter(|link| link.program_id == program_id);
        let links = own.map(|link| link.id).collect();
        let missing = match loader.unload(&mut guard, program_id) {
            Ok(()) => false,
            Err(LoaderError::NoSuchProgram { .. }) if args.ignore_missing => true,
            Err(error) => {
                failed.push(error.into());
                continue;
            }
        };
        unloaded.push(Unloaded {
            program_id,
            links,
            missing,
        });
    }
    Error::of_several(failed, &unloaded, |unloaded| {
        Printer::new(args.output.output).unloaded(unloaded)
    })
}
