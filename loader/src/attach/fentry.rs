use crate::error::Doing;
use crate::kernel::{Kernel, LinkSpec};
use crate::state::{Guard, PlaceRecord};
use crate::{Link, Loader, LoaderError};

use super::Attaching;

impl<K: Kernel> Loader<K> {
    pub(super) fn attach_fentry(
        &self,
        guard: &mut Guard,
        attaching: Attaching,
    ) -> Result<Link, LoaderError> {
        self.attach_tracing(guard, attaching, PlaceRecord::Fentry)
    }

    /// Switches on what was fixed when the program was loaded. The kernel gives a program one place on its function
    /// (`bpf_trampoline_link_prog` in kernel/bpf/trampoline.c), so there is one link of it at a time.
    pub(super) fn attach_tracing(
        &self,
        guard: &mut Guard,
        attaching: Attaching,
        place: PlaceRecord,
    ) -> Result<Link, LoaderError> {
        let id = attaching.program_id;
        let program = &attaching.program;
        let function = program.attach_function.clone().unwrap_or_default();
        let mut links = attaching.links.iter();
        if let Some((link, _)) = links.find(|(_, link)| link.program_id == id) {
            return Err(LoaderError::TracesAlready {
                id,
                function,
                link: *link,
            });
        }
        let what = format!(
            "attaching program {id} as {} of kernel function {function}",
            program.program_type
        );
        self.attach_single(guard, attaching, place, &what, |program| {
            let spec = LinkSpec::Tracing { program };
            self.kernel.link(&spec).doing(|| what.clone())
        })
    }
}
