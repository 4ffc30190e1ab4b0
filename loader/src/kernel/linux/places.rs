//! Where links are now: interfaces move between network namespaces, and their XDP and TCX links with them
//! (`__dev_change_net_namespace` in net/core/dev.c takes only qdiscs away).

use std::io;
use std::os::fd::BorrowedFd;

use super::links::{gone_or, tcx_type};
use super::netns::{Namespace, every_other};
use super::{KernelError, failed, net, sys};
use crate::kernel::{Device, LinkKind, LinkPlace, TCX_PROGRAMS, TcxMember};
use crate::{TcDirection, XdpMode};

/// What is looked for on an interface of this thread's namespace.
#[derive(Debug, Clone, Copy)]
struct Wanted {
    ifindex: u32,
    link: sys::LinkInfo,
}

/// The interface that has it.
struct Found {
    name: String,
    mode: Option<XdpMode>,
}

pub(super) fn of_link(link: BorrowedFd<'_>, known: &Device) -> Result<LinkPlace, KernelError> {
    let call = || "reading the interface of a link".to_owned();
    let link = sys::link_info(link).map_err(failed(call))?;
    let (LinkKind::Xdp(ifindex) | LinkKind::Tcx(ifindex)) = link.kind else {
        return Err(failed(call)(io::Error::from(io::ErrorKind::InvalidInput)));
    };
    let Some(ifindex) = ifindex else {
        return Ok(LinkPlace::Gone);
    };
    let wanted = Wanted { ifindex, link };
    // The namespace of before, if it still is; then every other one.
    match Namespace::located(known) {
        Ok((namespace, path)) => {
            let found = namespace.run(|| look(wanted));
            let call = || format!("looking for a link on interface {ifindex}");
            if let Some(Found { name, mode }) = found.map_err(failed(call))? {
                let device = Device {
                    ifindex,
                    nsid: known.nsid,
                    netns: path,
                };
                return Ok(LinkPlace::On { device, name, mode });
            }
        }
        Err(KernelError::InterfaceGone { .. }) => {}
        // One that may not be entered is where the link is most likely.
        Err(error) => return Err(error),
    }
    for (namespace, path) in every_other(known.nsid)? {
        // One that ended meanwhile, or may not be entered, hides no other.
        let Ok(Some(Found { name, mode })) = namespace.run(|| look(wanted)) else {
            continue;
        };
        let nsid = namespace.inode().map_err(failed(call))?;
        let device = Device {
            ifindex,
            nsid,
            netns: path,
        };
        return Ok(LinkPlace::On { device, name, mode });
    }
    Ok(LinkPlace::Hidden { ifindex })
}

/// Whether an interface of this thread's namespace has the link. Indices are the same in many namespaces: what runs
/// there tells.
fn look(wanted: Wanted) -> io::Result<Option<Found>> {
    let state = match net::state(wanted.ifindex) {
        Err(error) if error.raw_os_error() == Some(libc::ENODEV) => return Ok(None),
        state => state?,
    };
    let name = state.name;
    if let LinkKind::Xdp(_) = wanted.link.kind {
        let mut programs = state.xdp.into_iter();
        let found = programs.find(|(_, id)| *id == wanted.link.program_id);
        return Ok(found.map(|(mode, _)| Found {
            name,
            mode: Some(mode),
        }));
    }
    for direction in [TcDirection::Ingress, TcDirection::Egress] {
        let members = members(wanted.ifindex, direction)?;
        if members.iter().any(|found| found.link_id == wanted.link.id) {
            return Ok(Some(Found { name, mode: None }));
        }
    }
    Ok(None)
}

pub(super) fn tcx_members(
    device: &Device,
    direction: TcDirection,
) -> Result<Vec<TcxMember>, KernelError> {
    let found = Namespace::of(device)?.run(|| members(device.ifindex, direction));
    found.map_err(|error| {
        gone_or(device, error, || {
            format!("listing the TCX programs of interface {}", device.ifindex)
        })
    })
}

fn members(ifindex: u32, direction: TcDirection) -> io::Result<Vec<TcxMember>> {
    let attach_type = tcx_type(direction);
    // More than any kernel of today takes; one that takes more says how many.
    let mut ids = vec![(0, 0); TCX_PROGRAMS as usize];
    loop {
        let count = sys::tcx_query(ifindex, attach_type, &mut ids)?;
        if count <= ids.len() {
            ids.truncate(count);
            let member = |(program_id, link_id)| TcxMember {
                program_id,
                link_id,
            };
            return Ok(ids.into_iter().map(member).collect());
        }
        ids.resize(count, (0, 0));
    }
}
