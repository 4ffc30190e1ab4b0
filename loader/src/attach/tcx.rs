use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::error::{Doing, HookPlace};
use crate::kernel::{Device, Kernel, KernelError, LinkSpec, Side, TcxMember};
use crate::state::{ChainKey, Guard, Hook, LinkRecord, PlaceRecord};
use crate::{Link, Loader, LoaderError, TcDirection};

use super::Attaching;

/// What was asked for.
pub(super) struct Asked {
    pub(super) iface: String,
    pub(super) direction: TcDirection,
    pub(super) priority: u32,
    pub(super) netns: Option<PathBuf>,
}

/// A link of ours on the hook.
struct Neighbour<H> {
    priority: u32,
    sequence: u64,
    handle: H,
}

/// Those, in order, and the link of the program that is to be attached where it is one of them.
type Neighbours<H> = (Vec<Neighbour<H>>, Option<u32>);

impl<K: Kernel> Loader<K> {
    pub(super) fn attach_tcx(
        &self,
        guard: &mut Guard,
        attaching: Attaching,
        asked: Asked,
    ) -> Result<Link, LoaderError> {
        let id = attaching.program_id;
        let name = HookPlace {
            iface: asked.iface.clone(),
            direction: Some(asked.direction),
            netns: asked.netns.clone(),
        };
        super::check_priority(id, &name, asked.priority)?;
        let what = format!("attaching program {id} to {name}");
        let (device, iface) = self.device(&what, &asked.iface, asked.netns.as_deref())?;
        let key = ChainKey {
            hook: Hook::Tcx(asked.direction),
            nsid: device.nsid,
            ifindex: device.ifindex,
        };
        let (neighbours, twice) = self.neighbours(guard, &attaching, (key, &device), &name)?;
        let function = attaching.program.function.clone();
        let refused = |link| LoaderError::TcxTwice {
            id,
            function: function.clone(),
            place: Box::new(name.clone()),
            link,
        };
        if let Some(link) = twice {
            return Err(refused(Some(link)));
        }
        let position = place_among(
            neighbours
                .iter()
                .map(|other| (other.priority, other.sequence)),
            (asked.priority, attaching.sequence),
        );
        // Before the one that comes after it, else after the last: whatever stands between ours stays there.
        let beside = match neighbours.get(position) {
            Some(next) => Some((Side::Before, &next.handle)),
            None => neighbours.last().map(|last| (Side::After, &last.handle)),
        };
        let place = PlaceRecord::Tcx {
            iface,
            direction: asked.direction,
            nsid: key.nsid,
            ifindex: key.ifindex,
            priority: asked.priority,
            netns: asked.netns.clone(),
        };
        let link = |program: &K::Handle| {
            let spec = LinkSpec::Tcx {
                program,
                device: &device,
                direction: asked.direction,
                beside,
            };
            match self.kernel.link(&spec) {
                // Somebody else attached it.
                Err(error) if super::is_there_already(&error) => Err(refused(None)),
                link => link.doing(|| what.clone()),
            }
        };
        self.attach_single_at(guard, attaching, place, &what, position, link)
    }

    /// Our links on the hook, those that came there with their interface included. Those that lead nowhere any more are
    /// forgotten.
    fn neighbours(
        &self,
        guard: &mut Guard,
        attaching: &Attaching,
        (key, device): (ChainKey, &Device),
        name: &HookPlace,
    ) -> Result<Neighbours<K::Handle>, LoaderError> {
        let Hook::Tcx(direction) = key.hook else {
            return Ok((Vec::new(), None));
        };
        let pins = self.pins();
        let members = match self.kernel.tcx_members(device, direction) {
            // A kernel without TCX, which says so when the link is made.
            Err(KernelError::Syscall { source, .. })
                if source.raw_os_error() == Some(libc::EINVAL) =>
            {
                Vec::new()
            }
            members => members.doing(|| format!("looking for TCX links on {name}"))?,
        };
        let mut neighbours = Vec::new();
        let mut stale: BTreeMap<u32, LinkRecord> = BTreeMap::new();
        let mut twice = None;
        for (link_id, link) in &attaching.links {
            let Some((found, priority)) = link.order() else {
                continue;
            };
            let runs = |member: &TcxMember| member.program_id == link.program_id;
            if found.hook != key.hook || (found != key && !members.iter().any(runs)) {
                continue;
            }
            let path = pins.link(*link_id);
            let what = || format!("opening link {link_id}");
            let handle = self.kernel.open_pin(&path).doing(what)?;
            let on = match &handle {
                Some(handle) => self.kernel.link_interface(handle).doing(what)?,
                None => None,
            };
            let (Some(handle), Some(_)) = (handle, on) else {
                if found == key {
                    stale.insert(*link_id, link.clone());
                }
                continue;
            };
            let id = self.kernel.link_id(&handle).doing(what)?;
            if !members.iter().any(|member| member.link_id == id) {
                // Its interface was moved away.
                continue;
            }
            if link.program_id == attaching.program_id {
                twice = Some(*link_id);
            }
            neighbours.push(Neighbour {
                priority,
                sequence: link.sequence,
                handle,
            });
        }
        if !stale.is_empty() {
            self.forget(guard, name, stale)?;
        }
        neighbours.sort_by_key(|other| (other.priority, other.sequence));
        Ok((neighbours, twice))
    }
}

/// How many of those that are there, in order, come before a newcomer.
fn place_among(there: impl Iterator<Item = (u32, u64)>, newcomer: (u32, u64)) -> usize {
    there.take_while(|other| *other < newcomer).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newcomer_stands_behind_those_of_its_priority() {
        let there = [(10, 4), (50, 1), (50, 3), (70, 2)];
        for (priority, expected) in [(1, 0), (10, 1), (11, 1), (50, 3), (70, 4), (1000, 4)] {
            assert_eq!(
                place_among(there.into_iter(), (priority, 5)),
                expected,
                "{priority}"
            );
        }
        assert_eq!(place_among([].into_iter(), (1, 1)), 0);
    }
}
