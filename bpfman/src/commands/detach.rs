use std::collections::BTreeMap;

use loader::{LinkFilter, LoaderError};

use super::capabilities::{REMOVE, check, check_links, loader, lock, to_remove};
use super::once_each;
use crate::args::{DetachArgs, OutputFormat};
use crate::config::Config;
use crate::error::Error;
use crate::metadata::APPLICATION_KEY;
use crate::output::{Detached, Printer};

/// `detach`: each link by itself, so that one that cannot be detached keeps none of the others.
pub(super) fn run(args: DetachArgs) -> Result<(), Error> {
    let config = Config::read_or_default();
    check(&REMOVE)?;
    let loader = loader(&config);
    let mut guard = lock(&loader)?;
    let ids = match &args.application {
        Some(application) => {
            let filter = LinkFilter {
                metadata: BTreeMap::from([(APPLICATION_KEY.to_owned(), application.clone())]),
                ..LinkFilter::default()
            };
            let links = loader.links(&guard, &filter)?;
            if links.is_empty() && !args.ignore_missing {
                return Err(Error::NoSuchApplication {
                    what: "link",
                    application: application.clone(),
                });
            }
            links.iter().map(|link| link.id).collect()
        }
        None => once_each(args.link_ids),
    };
    // All that may be lacking is known before anything is changed.
    for id in &ids {
        check_links(&loader, &guard, |links| {
            to_remove(links, |link| link.id == *id)
        })?;
    }
    // JSON names the program of each link.
    let links = match args.output.output {
        OutputFormat::Json => loader.links(&guard, &LinkFilter::default())?,
        OutputFormat::Table => Vec::new(),
    };
    let mut detached = Vec::new();
    let mut failed = Vec::new();
    for link_id in ids {
        let own = links.iter().find(|link| link.id == link_id);
        let program_id = own.map(|link| link.program_id);
        let missing = match loader.detach(&mut guard, link_id) {
            Ok(()) => false,
            Err(LoaderError::NoSuchLink { .. }) if args.ignore_missing => true,
            Err(error) => {
                failed.push(error.into());
                continue;
            }
        };
        detached.push(Detached {
            link_id,
            program_id,
            missing,
        });
    }
    Error::of_several(failed, &detached, |detached| {
        Printer::new(args.output.output).detached(detached)
    })
}
