use crate::change;
use crate::dispatcher::chain::open_program;
use crate::kernel::Kernel;
use crate::show;
use crate::state::{Guard, Key, LinkRecord, PlaceRecord};
use crate::{Link, Loader, LoaderError};

use super::Attaching;

impl<K: Kernel> Loader<K> {
    /// Makes a link that stands by itself (no chain is built anew for it), pins and records it.
    ///
    /// `what` is what is being done, `link` makes the kernel's link of the program.
    pub(super) fn attach_single(
        &self,
        guard: &mut Guard,
        attaching: Attaching,
        place: PlaceRecord,
        what: &str,
        link: impl FnOnce(&K::Handle) -> Result<K::Handle, LoaderError>,
    ) -> Result<Link, LoaderError> {
        self.attach_single_at(guard, attaching, place, what, 0, link)
    }

    /// The same for a link that has a position among others.
    pub(super) fn attach_single_at(
        &self,
        guard: &mut Guard,
        attaching: Attaching,
        place: PlaceRecord,
        what: &str,
        position: usize,
        link: impl FnOnce(&K::Handle) -> Result<K::Handle, LoaderError>,
    ) -> Result<Link, LoaderError> {
        let Attaching {
            program_id,
            program,
            link_id,
            sequence,
            metadata,
            links: _,
        } = attaching;
        let record = LinkRecord {
            program_id,
            sequence,
            metadata,
            place,
        };
        let pins = self.pins();
        let program_handle = open_program(&self.kernel, &pins, program_id)?;
        self.prepare()?;
        change::run(&self.kernel, guard, what, |change| {
            let link = link(&program_handle)?;
            change.pin(&link, &pins.link(link_id))?;
            let put = change.records()?.put(Key::Link(link_id), Some(&record))?;
            change.record(vec![put])
        })?;
        let link = show::link(link_id, record.clone(), &program, position);
        Ok(self.located(guard, link, &record))
    }
}
