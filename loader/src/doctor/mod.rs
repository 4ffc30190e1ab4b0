//! Comparing records, kernel and bpffs, and mending the differences.

mod compare;
mod finding;
mod found;
mod recorded;
mod repair;

use compare::{Difference, compare};
pub use finding::{Diagnosis, Finding, FindingKind, Outcome, Remedy};
use recorded::Recorded;

use crate::kernel::Kernel;
use crate::state::{Guard, Missing};
use crate::{Loader, LoaderError, change};

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
        self.doctor()
    }

    /// Every difference there is, in the order in which they are to be repaired.
    fn examine(&self, guard: &mut Guard) -> Result<Vec<Difference>, LoaderError> {
        change::recover(&self.kernel, guard)?;
        let pins = self.pins();
        let recorded = Recorded::read(guard.records()?)?;
        let found = found::look(&self.kernel, &pins, &recorded)?;
        Ok(compare(&recorded, &found, &pins))
    }
}
