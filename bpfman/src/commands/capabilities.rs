use std::path::Path;

use bytecode_object::ProgramType;
use loader::kernel::linux::{Capability, LinuxKernel, missing_capabilities};
use loader::{
    AttachPoint, Attachment, Guard, Link, LinkFilter, Loader, LoaderError, ReadGuard, TcDirection,
};

use crate::config::Config;
use crate::error::Error;
use crate::output::waiting;

/// What a spinner says while the lock is waited for.
pub(super) const LOCK: &str = "waiting for another bpfman command, which holds the lock";

/// `list` and `get`: programs are walked and opened by id.
pub(super) const READ: [Capability; 1] = [Capability::SysAdmin];
/// `detach` and `unload`, whatever is taken away.
pub(super) const REMOVE: [Capability; 1] = [Capability::Bpf];
/// To replace what runs on a hook by another revision of its chain: members are EXT programs, which the kernel counts as
/// tracing, and what is replaced is opened by its id, to be put back when a later step fails.
const REBUILD: [Capability; 4] = [
    Capability::Bpf,
    Capability::Perfmon,
    Capability::NetAdmin,
    Capability::SysAdmin,
];
/// To remove a TC filter, whose program is opened by its id for the same reason.
const REMOVE_FILTER: [Capability; 3] =
    [Capability::Bpf, Capability::NetAdmin, Capability::SysAdmin];

/// `doctor --repair`: all that the others need.
pub(super) const REPAIR: [Capability; 4] = REBUILD;

/// `load` of programs of these types. Whether bpffs is there is asked only when it matters.
pub(super) fn to_load(
    types: impl Iterator<Item = ProgramType>,
    is_mounted: impl FnOnce() -> Result<bool, LoaderError>,
) -> Result<Vec<Capability>, LoaderError> {
    // Perfmon for packet programs too: in a chain they are EXT programs, which the kernel counts as tracing.
    let mut needed = vec![Capability::Bpf, Capability::Perfmon];
    if types.into_iter().any(is_network) {
        needed.push(Capability::NetAdmin);
    }
    let mounting = [Capability::SysAdmin];
    if !missing_capabilities(&mounting).is_empty() {
        match is_mounted() {
            Ok(true) => {}
            Ok(false) => needed.extend(mounting),
            // Root's folder is closed to others: what this process lacks anyway is what they are told.
            Err(_) if !missing_capabilities(&needed).is_empty() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(needed)
}

/// `attach` to a place.
pub(super) fn to_attach(point: &AttachPoint) -> Vec<Capability> {
    let (needed, netns): (&[Capability], _) = match point {
        // In a chain they are EXT programs.
        AttachPoint::Xdp { netns, .. } | AttachPoint::Tc { netns, .. } => (
            &[Capability::Bpf, Capability::Perfmon, Capability::NetAdmin],
            netns.is_some(),
        ),
        AttachPoint::Tcx { netns, .. } => {
            (&[Capability::Bpf, Capability::NetAdmin], netns.is_some())
        }
        AttachPoint::Tracepoint { .. }
        | AttachPoint::Kprobe { .. }
        | AttachPoint::Uprobe(_)
        | AttachPoint::Fentry
        | AttachPoint::Fexit => (&[Capability::Bpf, Capability::Perfmon], false),
    };
    let mut needed = needed.to_vec();
    if netns {
        // setns(2).
        needed.push(Capability::SysAdmin);
    }
    needed
}

/// `attach` to a place, with the links that there are.
pub(super) fn to_join(point: &AttachPoint, links: &[Link]) -> &'static [Capability] {
    let Some(wanted) = chain_at(point) else {
        return &[];
    };
    if links.iter().any(|link| chain_of(link) == Some(wanted)) {
        &REBUILD
    } else {
        &[]
    }
}

/// To take those away of all links whose id is `going`'s.
pub(super) fn to_remove(links: &[Link], going: impl Fn(&Link) -> bool) -> &'static [Capability] {
    let mut needed: &[Capability] = &REMOVE;
    for link in links.iter().filter(|link| going(link)) {
        let Some(chain) = chain_of(link) else {
            continue;
        };
        let mut others = links.iter().filter(|other| chain_of(other) == Some(chain));
        if others.any(|other| !going(other)) {
            return &REBUILD;
        }
        if chain.direction.is_some() {
            needed = &REMOVE_FILTER;
        }
    }
    needed
}

/// A hook that has a dispatcher.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Chain<'a> {
    iface: &'a str,
    /// Of TC; XDP has none.
    direction: Option<TcDirection>,
    netns: Option<&'a Path>,
}

fn chain_at(point: &AttachPoint) -> Option<Chain<'_>> {
    let (iface, direction, netns) = match point {
        AttachPoint::Xdp { iface, netns, .. } => (iface, None, netns),
        AttachPoint::Tc {
            iface,
            direction,
            netns,
            ..
        } => (iface, Some(*direction), netns),
        _ => return None,
    };
    Some(Chain {
        iface,
        direction,
        netns: netns.as_deref(),
    })
}

fn chain_of(link: &Link) -> Option<Chain<'_>> {
    let (iface, direction, netns) = match &link.attachment {
        Attachment::Xdp { iface, netns, .. } => (iface, None, netns),
        Attachment::Tc {
            iface,
            direction,
            netns,
            ..
        } => (iface, Some(*direction), netns),
        _ => return None,
    };
    Some(Chain {
        iface,
        direction,
        netns: netns.as_deref(),
    })
}

fn is_network(kind: ProgramType) -> bool {
    matches!(kind, ProgramType::Tc | ProgramType::Tcx | ProgramType::Xdp)
}

/// A loader for this host.
pub(super) fn loader(config: &Config) -> Loader<LinuxKernel> {
    Loader::new(LinuxKernel::new(), config.loader())
}

/// The lock, to change something.
pub(super) fn lock(loader: &Loader<LinuxKernel>) -> Result<Guard, LoaderError> {
    waiting(LOCK, || loader.lock())
}

/// The lock, to look only.
pub(super) fn lock_to_read(loader: &Loader<LinuxKernel>) -> Result<ReadGuard, LoaderError> {
    waiting(LOCK, || loader.lock_to_read())
}

/// Whether this process has capabilities.
pub(super) fn check(needed: &[Capability]) -> Result<(), Error> {
    let missing = missing_capabilities(needed);
    if missing.is_empty() {
        return Ok(());
    }
    Err(Error::Capabilities {
        missing: missing.join(", "),
    })
}

/// Whether it has those that depend on the links that there are, which are read only when it matters.
pub(super) fn check_links(
    loader: &Loader<LinuxKernel>,
    guard: &Guard,
    needed: impl FnOnce(&[Link]) -> &'static [Capability],
) -> Result<(), Error> {
    if missing_capabilities(&REBUILD).is_empty() {
        return Ok(());
    }
    check(needed(&loader.links(guard, &LinkFilter::default())?))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn xdp(id: u32, program_id: u32, iface: &str, netns: Option<&str>) -> Link {
        Link {
            id,
            program_id,
            function: "f".to_owned(),
            program_type: ProgramType::Xdp,
            attachment: Attachment::Xdp {
                iface: iface.to_owned(),
                priority: 50,
                position: 0,
                proceed_on: Vec::new(),
                netns: netns.map(Into::into),
            },
            metadata: BTreeMap::new(),
            gone: false,
            interface: None,
        }
    }

    fn tc(id: u32, program_id: u32, direction: TcDirection) -> Link {
        Link {
            program_type: ProgramType::Tc,
            attachment: Attachment::Tc {
                iface: "eth0".to_owned(),
                direction,
                priority: 50,
                position: 0,
                proceed_on: Vec::new(),
                netns: None,
            },
            ..xdp(id, program_id, "", None)
        }
    }

    fn tracepoint(id: u32, program_id: u32) -> Link {
        Link {
            program_type: ProgramType::Tracepoint,
            attachment: Attachment::Tracepoint {
                tracepoint: "sched/sched_switch".to_owned(),
            },
            ..xdp(id, program_id, "", None)
        }
    }

    #[test]
    fn what_is_taken_away_decides() {
        use TcDirection::{Egress, Ingress};
        let links = [
            xdp(1, 10, "eth0", None),
            xdp(2, 11, "eth0", None),
            xdp(3, 10, "eth1", None),
            xdp(4, 12, "eth1", Some("/run/netns/blue")),
            tc(5, 13, Ingress),
            tc(6, 13, Egress),
            tc(7, 14, Egress),
            tracepoint(8, 15),
        ];
        let detach: [(u32, &[Capability]); 9] = [
            (1, &REBUILD),
            (2, &REBUILD),
            (3, &REMOVE),
            (4, &REMOVE),
            (5, &REMOVE_FILTER),
            (6, &REBUILD),
            (7, &REBUILD),
            (8, &REMOVE),
            (9, &REMOVE),
        ];
        for (id, expected) in detach {
            assert_eq!(
                to_remove(&links, |link| link.id == id),
                expected,
                "link {id}"
            );
        }
        let unload: [(u32, &[Capability]); 6] = [
            (10, &REBUILD),
            (12, &REMOVE),
            (13, &REBUILD),
            (15, &REMOVE),
            (16, &REMOVE),
            (14, &REBUILD),
        ];
        for (id, expected) in unload {
            let found = to_remove(&links, |link| link.program_id == id);
            assert_eq!(found, expected, "program {id}");
        }
        let both = |link: &Link| [10, 11].contains(&link.program_id);
        assert_eq!(to_remove(&links, both), REMOVE);
    }

    #[test]
    fn a_chain_that_is_there_takes_more_to_join() {
        let links = [xdp(1, 10, "eth0", None), tc(2, 11, TcDirection::Ingress)];
        let at = |iface: &str, netns: Option<&str>| AttachPoint::Xdp {
            iface: iface.to_owned(),
            priority: 50,
            proceed_on: None,
            mode: None,
            netns: netns.map(Into::into),
        };
        let egress = AttachPoint::Tc {
            iface: "eth0".to_owned(),
            direction: TcDirection::Egress,
            priority: 50,
            proceed_on: None,
            netns: None,
        };
        let cases: [(AttachPoint, &[Capability]); 5] = [
            (at("eth0", None), &REBUILD),
            (at("eth1", None), &[]),
            (at("eth0", Some("/run/netns/blue")), &[]),
            (egress, &[]),
            (AttachPoint::Fentry, &[]),
        ];
        for (point, expected) in cases {
            assert_eq!(to_join(&point, &links), expected, "{point:?}");
        }
    }
}
