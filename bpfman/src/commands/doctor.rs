use loader::{Outcome, Remedy};

use super::capabilities::{LOCK, READ, REPAIR, check, loader};
use crate::args::DoctorArgs;
use crate::config::Config;
use crate::error::Error;
use crate::output::{Printer, waiting};

/// `doctor`: succeeds when there is no difference, or none is left.
pub(super) fn run(args: &DoctorArgs) -> Result<(), Error> {
    let needed: &[_] = if args.repair { &REPAIR } else { &READ };
    let config = Config::read_or_default();
    check(needed)?;
    let loader = loader(&config);
    let found = waiting(LOCK, || {
        if args.repair {
            loader.repair()
        } else {
            loader.doctor()
        }
    })?;
    Printer::new(args.output.output).doctor(&found, args.repair)?;
    let left = found
        .iter()
        .filter(|found| !matches!(found.outcome, Outcome::Repaired));
    let repairable = left
        .clone()
        .filter(|left| matches!(left.finding.remedy, Remedy::Repair(_)));
    match (left.count(), repairable.count()) {
        (0, _) => Ok(()),
        (left, repairable) => Err(Error::Differences {
            left,
            repairable: if args.repair { 0 } else { repairable },
        }),
    }
}
