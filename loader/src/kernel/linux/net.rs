//! Interfaces: their names, and the XDP program that is on one.

use std::io;
use std::path::Path;

use super::links::gone_or;
use super::netlink::{Attributes, Request, malformed, text, u32_at};
use super::netns::Namespace;
use super::{KernelError, failed};
use crate::XdpMode;
use crate::kernel::{Device, Interface, InterfaceState};
use crate::near::nearest;

const RTM_NEWLINK: u16 = 16;
const RTM_GETLINK: u16 = 18;
const IFLA_IFNAME: u16 = 3;
const IFLA_EXT_MASK: u16 = 29;
/// `RTEXT_FILTER_SKIP_STATS`: a shorter answer.
const SKIP_STATS: u32 = 8;
const IFLA_XDP: u16 = 43;
const IFLA_ALT_IFNAME: u16 = 53;
/// `IFLA_XDP_DRV_PROG_ID`, `IFLA_XDP_SKB_PROG_ID` and `IFLA_XDP_HW_PROG_ID` (kernel 4.19).
const IFLA_XDP_MODES: [(u16, XdpMode); 3] = [
    (5, XdpMode::Driver),
    (6, XdpMode::Skb),
    (7, XdpMode::Hardware),
];
/// `IFNAMSIZ` and `ALTIFNAMSIZ` less the NUL.
const LONGEST_NAME: usize = 15;
const LONGEST_ALTERNATIVE: usize = 127;
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
    let found = match named(name) {
        Some(request) => namespace.run(|| match request.get(RTM_NEWLINK) {
            Ok(message) => found(&message).map(Some),
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(None),
            // A kernel before 5.5 knows no alternative names: no interface has one.
            Err(error)
                if error.raw_os_error() == Some(libc::EINVAL) && name.len() > LONGEST_NAME =>
            {
                Ok(None)
            }
            Err(error) => Err(error),
        }),
        None => Ok(None),
    };
    let found = found.map_err(failed(call))?;
    let (ifindex, name) = found.ok_or_else(|| {
        // The answer is no whether there is a list or not.
        let names = namespace.run(names).unwrap_or_default();
        KernelError::NoInterface {
            name: name.to_owned(),
            near: nearest(name, names.iter().map(String::as_str)).map(str::to_owned),
        }
    })?;
    let nsid = namespace.inode().map_err(failed(call))?;
    Ok(Interface {
        name,
        ifindex,
        nsid,
    })
}

pub(super) fn interface_state(device: &Device) -> Result<InterfaceState, KernelError> {
    let (namespace, netns) = Namespace::located(device)?;
    let found = namespace.run(|| state(device.ifindex));
    let found = found.map_err(|error| {
        gone_or(device, error, || {
            format!("looking at interface {}", device.ifindex)
        })
    })?;
    Ok(InterfaceState { netns, ..found })
}

/// An interface of this thread's namespace, without a path to that; `ENODEV` when there is none with that index.
pub(super) fn state(ifindex: u32) -> io::Result<InterfaceState> {
    let request = Request::new(RTM_GETLINK, &ifinfomsg(ifindex))
        .attribute(IFLA_EXT_MASK, &SKIP_STATS.to_ne_bytes());
    let message = request.get(RTM_NEWLINK)?;
    Ok(InterfaceState {
        name: found(&message)?.1,
        netns: None,
        xdp: xdp_programs(&message)?,
    })
}

/// Asks for an interface by name, or by an alternative one (`IFLA_ALT_IFNAME`, kernel 5.5), which may be longer. The
/// kernel compares names of both kinds with either attribute, but each takes only so many bytes. `None` for a name that
/// no interface can have.
fn named(name: &str) -> Option<Request> {
    let attribute = match name.len() {
        0 => return None,
        length if length <= LONGEST_NAME => IFLA_IFNAME,
        length if length <= LONGEST_ALTERNATIVE => IFLA_ALT_IFNAME,
        _ => return None,
    };
    if name.contains('\0') {
        return None;
    }
    let text = [name.as_bytes(), &[0]].concat();
    let request = Request::new(RTM_GETLINK, &ifinfomsg(0)).attribute(attribute, &text);
    Some(request.attribute(IFLA_EXT_MASK, &SKIP_STATS.to_ne_bytes()))
}

/// Index and name in an `RTM_NEWLINK`.
fn found(message: &[u8]) -> io::Result<(u32, String)> {
    let ifindex = u32_at(message, 4).ok_or_else(malformed)?;
    let attributes = message.get(IFINFOMSG..).ok_or_else(malformed)?;
    let name = Attributes::value(attributes, IFLA_IFNAME).ok_or_else(malformed)?;
    Ok((ifindex, text(name)))
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

/// `struct ifinfomsg` for one interface.
fn ifinfomsg(ifindex: u32) -> [u8; 16] {
    let mut out = [0; 16];
    let (_, from_index) = out.split_at_mut(4);
    let (index, _) = from_index.split_at_mut(4);
    index.copy_from_slice(&ifindex.to_ne_bytes());
    out
}

/// Modes and ids of the programs in an `RTM_NEWLINK`.
fn xdp_programs(message: &[u8]) -> io::Result<Vec<(XdpMode, u32)>> {
    let attributes = message.get(IFINFOMSG..).ok_or_else(malformed)?;
    let Some(xdp) = Attributes::value(attributes, IFLA_XDP) else {
        return Ok(Vec::new());
    };
    let programs = IFLA_XDP_MODES.iter().filter_map(|(wanted, mode)| {
        let id = u32_at(Attributes::value(xdp, *wanted)?, 0)?;
        (id != 0).then_some((*mode, id))
    });
    Ok(programs.collect())
}

#[cfg(test)]
mod tests {
    use super::super::netlink::tests::attribute;
    use super::*;

    #[test]
    fn programs_are_found_by_mode_whatever_stands_around_them() {
        use XdpMode::{Driver, Hardware, Skb};
        let name = attribute(3, b"veth0\0");
        let id = |kind, id: u32| attribute(kind, &id.to_ne_bytes());
        let xdp = |inner: &[u8]| attribute(IFLA_XDP | 0x8000, inner);
        let cases = [
            ("nothing of XDP", name.clone(), vec![]),
            (
                "not attached",
                [name.clone(), xdp(&attribute(2, &[0]))].concat(),
                vec![],
            ),
            (
                "one mode",
                [
                    name,
                    xdp(&[attribute(2, &[1]), id(4, 77), id(5, 77)].concat()),
                ]
                .concat(),
                vec![(Driver, 77)],
            ),
            (
                "several modes",
                xdp(&[attribute(2, &[4]), id(5, 8), id(6, 9), id(7, 10)].concat()),
                vec![(Driver, 8), (Skb, 9), (Hardware, 10)],
            ),
            (
                "id zero",
                xdp(&[id(5, 0), id(6, 9)].concat()),
                vec![(Skb, 9)],
            ),
            ("a length of zero", vec![0; 8], vec![]),
            (
                "a length beyond the end",
                vec![255, 0, 43, 0, 1, 2, 3, 4],
                vec![],
            ),
        ];
        for (what, attributes, expected) in cases {
            assert_eq!(
                xdp_programs(&[ifinfomsg(1).as_slice(), &attributes].concat()).unwrap(),
                expected,
                "{what}"
            );
        }
    }

    #[test]
    fn half_a_message_is_an_error() {
        for message in [&[][..], &[0; IFINFOMSG - 1]] {
            assert!(xdp_programs(message).is_err());
            assert!(found(message).is_err());
        }
        // Without a name.
        assert!(found(&[0; IFINFOMSG]).is_err());
    }

    #[test]
    fn names_are_asked_for_with_the_attribute_that_takes_their_length() {
        let attribute = |name: &str| named(name).map(|request| request.attributes()[0]);
        for (length, expected) in [
            (0, None),
            (1, Some(IFLA_IFNAME)),
            (15, Some(IFLA_IFNAME)),
            (16, Some(IFLA_ALT_IFNAME)),
            (127, Some(IFLA_ALT_IFNAME)),
            (128, None),
        ] {
            assert_eq!(attribute(&"a".repeat(length)), expected, "{length}");
        }
        assert_eq!(attribute("a\0b"), None);
    }
}
