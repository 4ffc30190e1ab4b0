use super::object::{Object, Place};
use super::world::World;
use super::{KernelError, errno};
use crate::kernel::LinkSpec;

/// Makes a link, as the kernel does.
pub(super) fn link(world: &mut World, spec: &LinkSpec<'_, Object>) -> Result<Object, KernelError> {
    let (place, program) = match spec {
        LinkSpec::Xdp {
            program,
            device,
            mode,
        } => {
            let iface = world.reach(device)?;
            if world.xdp_link(iface).is_some() {
                return Err(errno("link", libc::EBUSY));
            }
            if world.refused_modes.contains(mode) {
                return Err(errno("link", libc::EOPNOTSUPP));
            }
            (Place::Xdp(Some(iface), *mode), program.of_kind("xdp")?)
        }
        LinkSpec::Extension {
            program,
            target,
            function,
        } => {
            let target = target.dispatcher()?;
            if target.slot(function).is_some() {
                return Err(errno("link", libc::EBUSY));
            }
            let place = Place::Slot {
                target,
                function: (*function).to_owned(),
            };
            (place, program.of_kind("ext")?)
        }
        LinkSpec::Tcx {
            program,
            device,
            direction,
            beside,
        } => {
            let iface = world.reach(device)?;
            let program = program.of_kind("tc")?;
            return world.add_tcx(iface, *direction, *beside, program);
        }
        LinkSpec::Tracepoint {
            program,
            category,
            name,
        } => {
            let place = format!("{category}/{name}");
            let known = world.tracepoints.as_ref();
            if known.is_some_and(|known| !known.contains(&place)) {
                return Err(KernelError::NoTracepoint {
                    category: (*category).to_owned(),
                    name: (*name).to_owned(),
                    path: format!("/sys/kernel/tracing/events/{place}/id").into(),
                });
            }
            (Place::Tracepoint(place), program.of_kind("tracepoint")?)
        }
        LinkSpec::Kprobe {
            program,
            function,
            offset,
            retprobe,
        } => {
            if !world.functions.contains(*function) {
                return Err(KernelError::NoKernelFunction {
                    function: (*function).to_owned(),
                });
            }
            let place = format!("{function}+{offset}{}", end(*retprobe));
            (Place::Probe(place), program.of_kind("probe")?)
        }
        LinkSpec::Uprobe {
            program,
            binary,
            offset,
            pid,
            retprobe,
        } => {
            let Object::Binary(path) = binary else {
                return Err(errno("link", libc::EINVAL));
            };
            let pid = pid.map(|pid| format!(" in {pid}")).unwrap_or_default();
            let place = format!("{}+{offset}{pid}{}", path.display(), end(*retprobe));
            (Place::Probe(place), program.of_kind("probe")?)
        }
        LinkSpec::Tracing { program } => {
            let program = program.of_kind("tracing")?;
            if world.is_linked(program.id) {
                return Err(errno("link", libc::EBUSY));
            }
            (Place::Probe("its function".to_owned()), program)
        }
    };
    let link = world.add_link(place, program);
    link.take_place();
    Ok(Object::Link(link))
}

fn end(retprobe: bool) -> &'static str {
    if retprobe { " at return" } else { "" }
}
