use crate::change;
use crate::dispatcher::chain::open_program;
use crate::error::Doing;
use crate::kernel::{Kernel, LinkSpec};
use crate::show;
use crate::state::{Guard, Key, LinkRecord, PlaceRecord};
use crate::{Link, Loader, LoaderError};

use super::Attaching;

impl<K: Kernel> Loader<K> {
    pub(super) fn attach_tracepoint(
        &self,
        guard: &mut Guard,
        attaching: Attaching,
        tracepoint: String,
    ) -> Result<Link, LoaderError> {
        let Attaching {
            program_id,
            program,
            link_id,
            sequence,
            metadata,
            links: _,
        } = attaching;
        let Some((category, name)) = split(&tracepoint) else {
            return Err(LoaderError::TracepointName { found: tracepoint });
        };
        let record = LinkRecord {
            program_id,
            sequence,
            metadata,
            place: PlaceRecord::Tracepoint {
                tracepoint: tracepoint.clone(),
            },
        };
        let pins = self.pins();
        let program_handle = open_program(&self.kernel, &pins, program_id)?;
        let what = format!("attaching program {program_id} to tracepoint {tracepoint}");
        self.prepare()?;
        change::run(&self.kernel, guard, &what, |change| {
            let spec = LinkSpec::Tracepoint {
                program: &program_handle,
                category,
                name,
            };
            let link = self.kernel.link(&spec).doing(|| what.clone())?;
            change.pin(&link, &pins.link(link_id))?;
            let put = change.records()?.put(Key::Link(link_id), Some(&record))?;
            change.record(vec![put])
        })?;
        Ok(show::link(link_id, record, &program, 0))
    }
}

/// Category and name; both go into a path of tracefs, so neither may be empty or lead out of it.
fn split(tracepoint: &str) -> Option<(&str, &str)> {
    let (category, name) = tracepoint.split_once('/')?;
    let plain = |part: &str| !part.is_empty() && part != "." && part != ".." && !part.contains('/');
    (plain(category) && plain(name)).then_some((category, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tracepoint_is_a_category_and_a_name() {
        for (text, expected) in [
            (
                "syscalls/sys_enter_openat",
                Some(("syscalls", "sys_enter_openat")),
            ),
            ("syscalls", None),
            ("/name", None),
            ("category/", None),
            ("a/b/c", None),
            ("../events", None),
            ("sched/..", None),
        ] {
            assert_eq!(split(text), expected, "{text}");
        }
    }
}
