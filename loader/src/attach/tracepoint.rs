use crate::error::Doing;
use crate::kernel::{Kernel, KernelError, LinkSpec};
use crate::state::{Guard, PlaceRecord};
use crate::{Link, Loader, LoaderError};

use super::Attaching;

impl<K: Kernel> Loader<K> {
    pub(super) fn attach_tracepoint(
        &self,
        guard: &mut Guard,
        attaching: Attaching,
        tracepoint: String,
    ) -> Result<Link, LoaderError> {
        let Some((category, name)) = split(&tracepoint) else {
            return Err(LoaderError::TracepointName { found: tracepoint });
        };
        let id = attaching.program_id;
        let what = format!("attaching program {id} to tracepoint {tracepoint}");
        let place = PlaceRecord::Tracepoint {
            tracepoint: tracepoint.clone(),
        };
        let function = attaching.program.function.clone();
        let mut links = attaching.links.iter();
        let there = links.find(|(_, link)| link.program_id == id && link.place == place);
        let there = there.map(|(link, _)| *link);
        self.attach_single(guard, attaching, place, &what, |program| {
            let spec = LinkSpec::Tracepoint {
                program,
                category,
                name,
            };
            match self.kernel.link(&spec) {
                Err(source @ KernelError::NoTracepoint { .. }) => Err(LoaderError::NotInKernel {
                    what: what.clone(),
                    near: self.kernel.near_tracepoint(&tracepoint),
                    source: Box::new(source),
                }),
                Err(error) if super::is_there_already(&error) => {
                    Err(LoaderError::TracepointTwice {
                        what: what.clone(),
                        function,
                        link: there,
                    })
                }
                link => link.doing(|| what.clone()),
            }
        })
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
