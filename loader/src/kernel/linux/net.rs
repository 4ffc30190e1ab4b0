//! Interfaces and network namespaces: names, and rtnetlink for the XDP program that is on one.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::{KernelError, failed};
use crate::kernel::Interface;

const RTM_NEWLINK: u16 = 16;
const RTM_GETLINK: u16 = 18;
const NLM_F_REQUEST: u16 = 1;
const NLMSG_ERROR: u16 = 2;
const IFLA_EXT_MASK: u16 = 29;
/// `RTEXT_FILTER_SKIP_STATS`: a shorter answer.
const SKIP_STATS: u32 = 8;
const IFLA_XDP: u16 = 43;
/// `IFLA_XDP_PROG_ID`, and that of the driver, the generic hook and the card: the first is not given when there are several.
const IFLA_XDP_IDS: [u16; 4] = [4, 5, 6, 7];
/// `NLA_F_NESTED` and `NLA_F_NET_BYTEORDER`.
const TYPE_MASK: u16 = 0x3fff;
/// `struct nlmsghdr` and `struct ifinfomsg`.
const HEADERS: usize = 32;
/// Longest answer that is read, in bytes: an interface's attributes without statistics and virtual functions are a few KiB.
const ANSWER_BYTES: usize = 64 << 10;

pub(super) fn interface(name: &str, netns: Option<&Path>) -> Result<Interface, KernelError> {
    let call = || match netns {
        Some(netns) => format!("looking up interface `{name}` in {}", netns.display()),
        None => format!("looking up interface `{name}`"),
    };
    let found = within(netns, || {
        let socket = datagram_socket()?;
        match rustix::net::netdevice::name_to_index(&socket, name) {
            Ok(index) => Ok(Some(index)),
            Err(rustix::io::Errno::NODEV) => Ok(None),
            Err(error) => Err(error.into()),
        }
    })
    .map_err(failed(call))?;
    let ifindex = found.ok_or_else(|| KernelError::NoInterface {
        name: name.to_owned(),
    })?;
    let namespace = netns.unwrap_or(Path::new("/proc/thread-self/ns/net"));
    let nsid = std::fs::metadata(namespace).map_err(failed(call))?.ino();
    Ok(Interface { ifindex, nsid })
}

pub(super) fn xdp_program_on(
    ifindex: u32,
    netns: Option<&Path>,
) -> Result<Option<u32>, KernelError> {
    within(netns, || {
        let socket = rustix::net::socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            SocketFlags::CLOEXEC,
            None,
        )?;
        rustix::net::send(&socket, &request(ifindex), SendFlags::empty())?;
        let mut answer = vec![0; ANSWER_BYTES];
        let (length, _) = rustix::net::recv(&socket, answer.as_mut_slice(), RecvFlags::empty())?;
        answer.truncate(length);
        xdp_program(&answer)
    })
    .map_err(failed(|| {
        format!("asking for the XDP program on interface {ifindex}")
    }))
}

/// Does something in a network namespace: in ours at once, else on a thread of its own that enters it and ends.
pub(super) fn within<T: Send>(
    netns: Option<&Path>,
    work: impl FnOnce() -> io::Result<T> + Send,
) -> io::Result<T> {
    let Some(netns) = netns else { return work() };
    let namespace = File::open(netns)?;
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().spawn_scoped(scope, || {
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
            work()
        })?;
        thread
            .join()
            .map_err(|_| io::Error::other("the thread in the namespace failed"))?
    })
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

/// `RTM_GETLINK` for one interface.
fn request(ifindex: u32) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEADERS + 8);
    out.extend_from_slice(&(HEADERS as u32 + 8).to_ne_bytes());
    out.extend_from_slice(&RTM_GETLINK.to_ne_bytes());
    out.extend_from_slice(&NLM_F_REQUEST.to_ne_bytes());
    // Sequence and port; family, type.
    out.extend_from_slice(&[0; 12]);
    out.extend_from_slice(&ifindex.to_ne_bytes());
    // Flags and change.
    out.extend_from_slice(&[0; 8]);
    out.extend_from_slice(&8_u16.to_ne_bytes());
    out.extend_from_slice(&IFLA_EXT_MASK.to_ne_bytes());
    out.extend_from_slice(&SKIP_STATS.to_ne_bytes());
    out
}

/// Id of the program in an answer to [`request`].
fn xdp_program(answer: &[u8]) -> io::Result<Option<u32>> {
    let kind = u16_at(answer, 4).ok_or_else(malformed)?;
    if kind == NLMSG_ERROR {
        let error = u32_at(answer, 16).ok_or_else(malformed)?.cast_signed();
        return Err(io::Error::from_raw_os_error(error.wrapping_neg()));
    }
    if kind != RTM_NEWLINK {
        return Err(malformed());
    }
    let attributes = answer.get(HEADERS..).ok_or_else(malformed)?;
    let Some(xdp) = Attributes(attributes).find(|(kind, _)| *kind == IFLA_XDP) else {
        return Ok(None);
    };
    let mut ids = IFLA_XDP_IDS.iter().filter_map(|wanted| {
        let (_, value) = Attributes(xdp.1).find(|(kind, _)| kind == wanted)?;
        u32_at(value, 0)
    });
    Ok(ids.find(|&id| id != 0))
}

/// `struct rtattr` and value, one after the other; ends at the first that is not whole.
struct Attributes<'a>(&'a [u8]);

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let length = usize::from(u16_at(self.0, 0)?);
        let kind = u16_at(self.0, 2)? & TYPE_MASK;
        let value = self.0.get(4..length)?;
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(
        bytes.get(at..at.checked_add(2)?)?.try_into().ok()?,
    ))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(
        bytes.get(at..at.checked_add(4)?)?.try_into().ok()?,
    ))
}

fn malformed() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        "an rtnetlink answer that makes no sense",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        out.extend_from_slice(&(4 + value.len() as u16).to_ne_bytes());
        out.extend_from_slice(&kind.to_ne_bytes());
        out.extend_from_slice(value);
        out.resize(out.len().next_multiple_of(4), 0);
        out
    }

    fn answer(kind: u16, rest: &[u8]) -> Vec<u8> {
        let mut out = vec![0; 4];
        out.extend_from_slice(&kind.to_ne_bytes());
        out.resize(if kind == NLMSG_ERROR { 16 } else { HEADERS }, 0);
        out.extend_from_slice(rest);
        out
    }

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
                xdp_program(&answer(RTM_NEWLINK, &attributes)).unwrap(),
                expected,
                "{what}"
            );
        }
    }

    #[test]
    fn errors_of_the_kernel_are_errors() {
        let error = xdp_program(&answer(NLMSG_ERROR, &(-19_i32).to_ne_bytes())).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(19));
        assert!(xdp_program(&[]).is_err());
        assert!(xdp_program(&answer(3, &[])).is_err());
    }
}
