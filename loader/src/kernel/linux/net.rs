//! Interfaces: their names, and the XDP program that is on one.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::net::{AddressFamily, SocketFlags, SocketType};

use super::netlink::{Attributes, Request, malformed, text, u32_at};
use super::netns::Namespace;
use super::{KernelError, failed};
use crate::kernel::Interface;
use crate::near::nearest;

const RTM_NEWLINK: u16 = 16;
const RTM_GETLINK: u16 = 18;
const IFLA_IFNAME: u16 = 3;
const IFLA_EXT_MASK: u16 = 29;
/// `RTEXT_FILTER_SKIP_STATS`: a shorter answer.
const SKIP_STATS: u32 = 8;
const IFLA_XDP: u16 = 43;
/// `IFLA_XDP_PROG_ID`, and that of the driver, the generic hook and the card: the first is not given when there are several.
const IFLA_XDP_IDS: [u16; 4] = [4, 5, 6, 7];
/// `struct ifinfomsg`.
const IFINFOMSG: usize = 16;

pub(super) fn interfaces(netns: Option<&Path>) -> Result<Vec<String>, KernelError> {
    let found = Namespace::open(netns)?.run(names);
    found.map_err(failed(|| "listing the interfaces".to_owned()))
}

pub(super) fn interface(name: &str, netns: Option<&Path>) -> Result<Interface, KernelError> {
    let call = || match netns {
        Some(netns) => format!("looking up interface `{name}` in {}", netns.display()),
        None => format!("looking up interface `{name}`"),
    };
    let namespace = Namespace::open(netns)?;
    let found = namespace.run(|| {
        let socket = datagram_socket()?;
        match rustix::net::netdevice::name_to_index(&socket, name) {
            Ok(index) => Ok(Some(index)),
            Err(rustix::io::Errno::NODEV) => Ok(None),
            Err(error) => Err(error.into()),
        }
    });
    let found = found.map_err(failed(call))?;
    let ifindex = found.ok_or_else(|| {
        // The answer is no whether there is a list or not.
        let names = namespace.run(names).unwrap_or_default();
        KernelError::NoInterface {
            name: name.to_owned(),
            near: nearest(name, names.iter().map(String::as_str)).map(str::to_owned),
        }
    })?;
    let nsid = namespace.inode().map_err(failed(call))?;
    Ok(Interface { ifindex, nsid })
}

pub(super) fn xdp_program_on(
    ifindex: u32,
    netns: Option<&Path>,
) -> Result<Option<u32>, KernelError> {
    let namespace = Namespace::open(netns)?;
    let request = Request::new(RTM_GETLINK, &ifinfomsg(ifindex))
        .attribute(IFLA_EXT_MASK, &SKIP_STATS.to_ne_bytes());
    let found = namespace.run(|| xdp_program(&request.get(RTM_NEWLINK)?));
    found.map_err(failed(|| {
        format!("asking for the XDP program on interface {ifindex}")
    }))
}

/// Names of the interfaces of this thread's namespace.
fn names() -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    let request = Request::new(RTM_GETLINK, &ifinfomsg(0))
        .attribute(IFLA_EXT_MASK, &SKIP_STATS.to_ne_bytes());
    request.dump(RTM_NEWLINK, |message| {
        let attributes = message.get(IFINFOMSG..).unwrap_or_default();
        names.extend(Attributes::value(attributes, IFLA_IFNAME).map(text));
    })?;
    Ok(names)
}

fn datagram_socket() -> io::Result<OwnedFd> {
    // netdevice(7): any socket will do.
    let socket = rustix::net::socket_with(
        AddressFamily::UNIX,
        SocketType::DGRAM,
        SocketFlags::CLOEXEC,
        None,
    )?;
    Ok(socket)
}

/// `struct ifinfomsg` for one interface.
fn ifinfomsg(ifindex: u32) -> [u8; 16] {
    let mut out = [0; 16];
    let (_, from_index) = out.split_at_mut(4);
    let (index, _) = from_index.split_at_mut(4);
    index.copy_from_slice(&ifindex.to_ne_bytes());
    out
}

/// Id of the program in an `RTM_NEWLINK`.
fn xdp_program(message: &[u8]) -> io::Result<Option<u32>> {
    let attributes = message.get(IFINFOMSG..).ok_or_else(malformed)?;
    let Some(xdp) = Attributes::value(attributes, IFLA_XDP) else {
        return Ok(None);
    };
    let mut ids = IFLA_XDP_IDS
        .iter()
        .filter_map(|wanted| u32_at(Attributes::value(xdp, *wanted)?, 0));
    Ok(ids.find(|&id| id != 0))
}

#[cfg(test)]
mod tests {
    use super::super::netlink::tests::attribute;
    use super::*;

    #[test]
    fn the_id_is_found_whatever_stands_around_it() {
        let name = attribute(3, b"veth0\0");
        let id = |kind, id: u32| attribute(kind, &id.to_ne_bytes());
        let xdp = |inner: &[u8]| attribute(IFLA_XDP | 0x8000, inner);
        let cases = [
            ("nothing of XDP", name.clone(), None),
            (
                "not attached",
                [name.clone(), xdp(&attribute(2, &[0]))].concat(),
                None,
            ),
            (
                "one mode",
                [name, xdp(&[attribute(2, &[1]), id(4, 77)].concat())].concat(),
                Some(77),
            ),
            (
                "several modes",
                xdp(&[attribute(2, &[4]), id(5, 8), id(6, 9)].concat()),
                Some(8),
            ),
            ("id nought", xdp(&[id(4, 0), id(6, 9)].concat()), Some(9)),
            ("a length of nought", vec![0; 8], None),
            (
                "a length beyond the end",
                vec![255, 0, 43, 0, 1, 2, 3, 4],
                None,
            ),
        ];
        for (what, attributes, expected) in cases {
            assert_eq!(
                xdp_program(&[ifinfomsg(1).as_slice(), &attributes].concat()).unwrap(),
                expected,
                "{what}"
            );
        }
    }

    #[test]
    fn half_a_message_is_an_error() {
        assert!(xdp_program(&[]).is_err());
        assert!(xdp_program(&[0; IFINFOMSG - 1]).is_err());
    }
}
