use crate::error::Doing;
use crate::kernel::{Kernel, KernelError, LinkSpec};
use crate::state::{Guard, PlaceRecord};
use crate::{Link, Loader, LoaderError};

use super::Attaching;

impl<K: Kernel> Loader<K> {
    pub(super) fn attach_kprobe(
        &self,
        guard: &mut Guard,
        attaching: Attaching,
        function: String,
        offset: u64,
    ) -> Result<Link, LoaderError> {
        let id = attaching.program_id;
        let retprobe = attaching.program.retprobe;
        if retprobe && offset != 0 {
            return Err(LoaderError::KretprobeOffset {
                id,
                function,
                offset,
            });
        }
        let what = format!("attaching program {id} to kernel function {function}");
        let place = PlaceRecord::Kprobe {
            function: function.clone(),
            offset,
        };
        self.attach_single(guard, attaching, place, &what, |program| {
            let spec = LinkSpec::Kprobe {
                program,
                function: &function,
                offset,
                retprobe,
            };
            match self.kernel.link(&spec) {
                Err(source @ KernelError::NoKernelFunction { .. }) => {
                    Err(self.no_function(&what, &function, false, source))
                }
                link => link.doing(|| what.clone()),
            }
        })
    }

    /// A function that the kernel does not have, with the one that was most likely meant.
    pub(crate) fn no_function(
        &self,
        what: &str,
        function: &str,
        tracing: bool,
        source: KernelError,
    ) -> LoaderError {
        LoaderError::NotInKernel {
            what: what.to_owned(),
            near: self.kernel.near_function(function, tracing),
            source: Box::new(source),
        }
    }
}
