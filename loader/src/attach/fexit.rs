use crate::kernel::Kernel;
use crate::state::{Guard, PlaceRecord};
use crate::{Link, Loader, LoaderError};

use super::Attaching;

impl<K: Kernel> Loader<K> {
    pub(super) fn attach_fexit(
        &self,
        guard: &mut Guard,
        attaching: Attaching,
    ) -> Result<Link, LoaderError> {
        self.attach_tracing(guard, attaching, PlaceRecord::Fexit)
    }
}
