use log::warn;

use crate::error::Doing;
use crate::kernel::{Kernel, LinkSpec};
use crate::state::{Guard, PlaceRecord};
use crate::{Link, Loader, LoaderError, UprobePoint};

use super::Attaching;

impl<K: Kernel> Loader<K> {
    pub(super) fn attach_uprobe(
        &self,
        guard: &mut Guard,
        attaching: Attaching,
        point: UprobePoint,
    ) -> Result<Link, LoaderError> {
        let id = attaching.program_id;
        let retprobe = attaching.program.retprobe;
        let UprobePoint {
            target,
            function,
            offset,
            pid,
            container_pid,
        } = point.clone();
        if function.is_none() && offset == 0 {
            return Err(LoaderError::NoUprobePlace { id, target });
        }
        if retprobe && function.is_some() && offset != 0 {
            warn!(
                "a uretprobe takes the return address from the top of the stack: {offset} bytes into a function \
                 another value may be there, which breaks the process"
            );
        }
        let what = match &function {
            Some(function) => format!("attaching program {id} to {function} of {target}"),
            None => format!("attaching program {id} to offset {offset} of {target}"),
        };
        let found = self.kernel.uprobe_place(&point).doing(|| what.clone())?;
        let place = PlaceRecord::Uprobe {
            target,
            function,
            offset,
            pid,
            container_pid,
            path: found.path,
        };
        self.attach_single(guard, attaching, place, &what, |program| {
            let spec = LinkSpec::Uprobe {
                program,
                binary: &found.binary,
                offset: found.offset,
                pid,
                retprobe,
            };
            self.kernel.link(&spec).doing(|| what.clone())
        })
    }
}
