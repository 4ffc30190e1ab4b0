//! Comparing records, kernel and bpffs, and mending the differences.

mod compare;
mod finding;
mod found;
mod recorded;
mod repair;

use std::collections::BTreeSet;
use std::path::PathBuf;

use compare::{Difference, compare};
pub use finding::{Diagnosis, Finding, FindingKind, Outcome, Remedy};
use recorded::Recorded;

use repair::Repair;

use crate::change::{self, Left, with_causes};
use crate::kernel::Kernel;
use crate::state::{Guard, Missing, RECORDS};
use crate::{Loader, LoaderError};

impl<K: Kernel> Loader<K> {
    /// Finishes or undoes what an interrupted command left, then names every difference between records, kernel and
    /// bpffs.
    ///
    /// # Errors
    ///
    /// When another process holds the lock for too long, or the kernel cannot be read.
    pub fn doctor(&self) -> Result<Vec<Diagnosis>, LoaderError> {
        let mut guard = Guard::acquire(&self.config, Missing::Empty)?;
        let found = self.examine(&mut guard)?;
        let left = found.into_iter().map(|difference| Diagnosis {
            finding: difference.finding,
            outcome: Outcome::Left,
        });
        Ok(left.collect())
    }

    /// As [`Loader::doctor`], and mends what it can, one difference after the other.
    ///
    /// # Errors
    ///
    /// As for [`Loader::doctor`]. A repair that fails is no error but an [`Outcome`].
    pub fn repair(&self) -> Result<Vec<Diagnosis>, LoaderError> {
        let mut guard = Guard::acquire(&self.config, Missing::Empty)?;
        let mut seen: Vec<Finding> = Vec::new();
        let mut failed: Vec<(Finding, LoaderError)> = Vec::new();
        let mut tried = BTreeSet::new();
        // A repair may be of several differences, and bring others to light: each is done with fresh eyes.
        let left = loop {
            let found = self.examine(&mut guard)?;
            for Difference { finding, .. } in &found {
                if !seen.iter().any(|known| same(known, finding)) {
                    seen.push(finding.clone());
                }
            }
            let next = found.iter().find_map(|difference| {
                let finding = &difference.finding;
                let fresh = tried.insert((finding.kind, finding.place.clone()));
                let repair = difference.repair.as_ref().filter(|_| fresh)?;
                Some((finding, repair))
            });
            let Some((finding, repair)) = next else {
                break found;
            };
            if let Err(error) = self.mend(&mut guard, &finding.place, repair) {
                failed.push((finding.clone(), error));
                // What the journal tells of may not be changed behind its back; and without bpffs everything looks gone.
                if matches!(repair, Repair::SetJournalAside | Repair::Prepare) {
                    break found;
                }
            }
        };
        let mut outcome = |finding: &Finding| {
            if !left.iter().any(|left| same(&left.finding, finding)) {
                return Outcome::Repaired;
            }
            match failed.iter().position(|(known, _)| same(known, finding)) {
                Some(place) => Outcome::Failed(Box::new(failed.swap_remove(place).1)),
                None => Outcome::Left,
            }
        };
        let diagnoses = seen.into_iter().map(|finding| Diagnosis {
            outcome: outcome(&finding),
            finding,
        });
        Ok(diagnoses.collect())
    }

    /// Every difference there is, in the order in which they are to be repaired.
    fn examine(&self, guard: &mut Guard) -> Result<Vec<Difference>, LoaderError> {
        let mut differences = self.interrupted(guard);
        differences.extend(old_database(guard)?);
        let pins = self.pins();
        let recorded = match guard.records().and_then(Recorded::read) {
            Ok(recorded) => recorded,
            Err(error) => {
                // Without all of them, what they are of would look like left over.
                differences.push(unreadable(
                    FindingKind::RecordsUnreadable,
                    self.config.runtime_dir.join(RECORDS).display().to_string(),
                    "records of bpfman",
                    LoaderError::State(error),
                    None,
                ));
                return Ok(differences);
            }
        };
        let found = found::look(&self.kernel, &pins, &recorded)?;
        differences.extend(compare(&recorded, &found, &pins));
        Ok(differences)
    }

    /// Finishes or undoes what interrupted commands left, and names what could not be.
    fn interrupted(&self, guard: &mut Guard) -> Vec<Difference> {
        if !guard.is_locked() {
            return Vec::new();
        }
        match change::recover(&self.kernel, guard) {
            Ok(left) => left.into_iter().map(unfinished).collect(),
            Err(error) => {
                let journal = self.config.runtime_dir.join("journal");
                vec![unreadable(
                    FindingKind::JournalUnreadable,
                    journal.display().to_string(),
                    "the steps of an interrupted command",
                    error,
                    Some(Repair::SetJournalAside),
                )]
            }
        }
    }
}

/// Whether two looks found the same difference, whatever words they had for it.
fn same(one: &Finding, other: &Finding) -> bool {
    (one.kind, &one.place) == (other.kind, &other.place)
}

fn unfinished(left: Left) -> Difference {
    let repair = Repair::SetJournalAside;
    Difference {
        finding: Finding {
            kind: FindingKind::ChangeUnfinished,
            place: format!("an interrupted command ({})", left.what),
            expected: "it to be finished or undone".to_owned(),
            found: with_causes(&left.error),
            remedy: Remedy::Repair(repair.to_string()),
        },
        repair: Some(repair),
    }
}

/// Names what an earlier version left.
fn old_database(guard: &Guard) -> Result<Vec<Difference>, LoaderError> {
    let repair = Repair::RemoveOldDatabase;
    let difference = |path: PathBuf| Difference {
        finding: Finding {
            kind: FindingKind::OldDatabase,
            place: path.display().to_string(),
            expected: format!("records in files, in the folder {RECORDS}"),
            found: "the database of an earlier version, which nothing reads".to_owned(),
            remedy: Remedy::Repair(repair.to_string()),
        },
        repair: Some(repair.clone()),
    };
    Ok(guard.old_database()?.into_iter().map(difference).collect())
}

fn unreadable(
    kind: FindingKind,
    place: String,
    expected: &str,
    error: LoaderError,
    repair: Option<Repair>,
) -> Difference {
    let by_hand = || {
        let hint = error.hint();
        Remedy::ByHand(hint.unwrap_or_else(|| "see why it cannot be read".to_owned()))
    };
    Difference {
        finding: Finding {
            kind,
            place,
            expected: expected.to_owned(),
            found: with_causes(&error),
            remedy: repair
                .as_ref()
                .map_or_else(by_hand, |repair| Remedy::Repair(repair.to_string())),
        },
        repair,
    }
}
