//! rtnetlink messages: requests out, answers in, and the attributes in both.

use std::io;
use std::os::fd::OwnedFd;

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLM_F_DUMP: u16 = 0x300;
pub(super) const NLM_F_EXCL: u16 = 0x200;
pub(super) const NLM_F_CREATE: u16 = 0x400;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
/// `NLA_F_NESTED` and `NLA_F_NET_BYTEORDER`.
const TYPE_MASK: u16 = 0x3fff;
/// `struct nlmsghdr`.
const HEADER: usize = 16;
/// Longest answer that is read at once, in bytes: the kernel fills at most 32 KiB of a dump, and an interface's
/// attributes without statistics and virtual functions are a few KiB.
const ANSWER_BYTES: usize = 64 << 10;

/// A request: message type, then the family's header (`struct ifinfomsg`, `struct tcmsg`), then attributes.
#[derive(Debug)]
pub(super) struct Request {
    kind: u16,
    body: Vec<u8>,
}

impl Request {
    pub(super) fn new(kind: u16, header: &[u8]) -> Self {
        Self {
            kind,
            body: header.to_vec(),
        }
    }

    /// One more attribute. Longer ones than 65531 bytes are none that we send.
    pub(super) fn attribute(mut self, kind: u16, value: &[u8]) -> Self {
        push(&mut self.body, kind, value);
        self
    }

    /// One more attribute, made of attributes.
    pub(super) fn nested(self, kind: u16, attributes: &[(u16, &[u8])]) -> Self {
        let mut inner = Vec::new();
        for (kind, value) in attributes {
            push(&mut inner, *kind, value);
        }
        self.attribute(kind, &inner)
    }

    fn bytes(&self, flags: u16) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEADER + self.body.len());
        out.extend_from_slice(&((HEADER + self.body.len()) as u32).to_ne_bytes());
        out.extend_from_slice(&self.kind.to_ne_bytes());
        out.extend_from_slice(&(NLM_F_REQUEST | flags).to_ne_bytes());
        // Sequence and port: each request has a socket of its own.
        out.extend_from_slice(&[0; 8]);
        out.extend_from_slice(&self.body);
        out
    }

    /// Asks for one thing, and returns what follows the message's header.
    pub(super) fn get(&self, answer_kind: u16) -> io::Result<Vec<u8>> {
        let socket = self.send(0)?;
        let answer = receive(&socket)?;
        let message = Messages(&answer).next().ok_or_else(malformed)??;
        if message.kind != answer_kind {
            return Err(malformed());
        }
        Ok(message.body.to_vec())
    }

    /// Asks for a change, and waits until it is done.
    pub(super) fn change(&self, flags: u16) -> io::Result<()> {
        let socket = self.send(NLM_F_ACK | flags)?;
        let answer = receive(&socket)?;
        // The acknowledgement is an error message with errno 0, which comes out as none.
        Messages(&answer)
            .next()
            .map_or_else(|| Ok(()), |message| message.map(drop))
    }

    /// Asks for all there is, and calls `each` with what follows the header of each message.
    pub(super) fn dump(&self, answer_kind: u16, mut each: impl FnMut(&[u8])) -> io::Result<()> {
        let socket = self.send(NLM_F_DUMP)?;
        loop {
            let answer = receive(&socket)?;
            if answer.is_empty() {
                return Err(malformed());
            }
            for message in Messages(&answer) {
                let message = message?;
                match message.kind {
                    NLMSG_DONE => return Ok(()),
                    kind if kind == answer_kind => each(message.body),
                    _ => {}
                }
            }
        }
    }

    /// Types of the attributes, behind a header of 16 bytes.
    #[cfg(test)]
    pub(super) fn attributes(&self) -> Vec<u16> {
        let attributes = Attributes(self.body.get(16..).unwrap_or_default());
        attributes.map(|(kind, _)| kind).collect()
    }

    fn send(&self, flags: u16) -> io::Result<OwnedFd> {
        let socket = rustix::net::socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            SocketFlags::CLOEXEC,
            None,
        )?;
        rustix::net::send(&socket, &self.bytes(flags), SendFlags::empty())?;
        Ok(socket)
    }
}

fn push(out: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
    out.extend_from_slice(&length.to_ne_bytes());
    out.extend_from_slice(&kind.to_ne_bytes());
    out.extend_from_slice(value);
    out.resize(out.len().next_multiple_of(4), 0);
}

fn receive(socket: &OwnedFd) -> io::Result<Vec<u8>> {
    let mut answer = vec![0; ANSWER_BYTES];
    let (length, _) = rustix::net::recv(socket, answer.as_mut_slice(), RecvFlags::empty())?;
    answer.truncate(length);
    Ok(answer)
}

/// What an answer is made of, one after the other; an error message of the kernel is the error that it tells of, and
/// an acknowledgement the end.
struct Messages<'a>(&'a [u8]);

struct Message<'a> {
    kind: u16,
    body: &'a [u8],
}

impl<'a> Iterator for Messages<'a> {
    type Item = io::Result<Message<'a>>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let message = (|| {
            let length = u32_at(self.0, 0)? as usize;
            let kind = u16_at(self.0, 4)?;
            let body = self.0.get(HEADER..length)?;
            Some((length, kind, body))
        })();
        let Some((length, kind, body)) = message else {
            self.0 = &[];
            return Some(Err(malformed()));
        };
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        if kind != NLMSG_ERROR {
            return Some(Ok(Message { kind, body }));
        }
        self.0 = &[];
        match u32_at(body, 0).map(u32::cast_signed) {
            None => Some(Err(malformed())),
            Some(0) => None,
            Some(error) => Some(Err(io::Error::from_raw_os_error(error.wrapping_neg()))),
        }
    }
}

/// `struct rtattr` and value, one after the other; ends at the first that is not whole.
pub(super) struct Attributes<'a>(pub(super) &'a [u8]);

impl<'a> Attributes<'a> {
    /// Value of the first of that type.
    pub(super) fn value(bytes: &'a [u8], wanted: u16) -> Option<&'a [u8]> {
        Self(bytes)
            .find(|(kind, _)| *kind == wanted)
            .map(|(_, value)| value)
    }
}

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

pub(super) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(
        bytes.get(at..at.checked_add(2)?)?.try_into().ok()?,
    ))
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(
        bytes.get(at..at.checked_add(4)?)?.try_into().ok()?,
    ))
}

/// Text that ends in NUL or with the value.
pub(super) fn text(value: &[u8]) -> String {
    let text = value.split(|byte| *byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(text).into_owned()
}

pub(super) fn malformed() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        "an rtnetlink answer that makes no sense",
    )
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in super::super) fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        push(&mut out, kind, value);
        out
    }

    fn message(kind: u16, body: &[u8]) -> Vec<u8> {
        let mut out = ((HEADER + body.len()) as u32).to_ne_bytes().to_vec();
        out.extend_from_slice(&kind.to_ne_bytes());
        out.resize(HEADER, 0);
        out.extend_from_slice(body);
        out.resize(out.len().next_multiple_of(4), 0);
        out
    }

    #[test]
    fn answers_are_read_message_by_message() {
        let ack = message(NLMSG_ERROR, &[0; 20]);
        let refusal = message(NLMSG_ERROR, &(-19_i32).to_ne_bytes());
        let two = [
            message(44, &[1]),
            message(44, &[2, 2]),
            message(NLMSG_DONE, &[0; 4]),
        ]
        .concat();
        type Expected<'a> = Vec<Result<(u16, Vec<u8>), Option<i32>>>;
        let cases: [(&str, Vec<u8>, Expected<'_>); 7] = [
            ("nothing", vec![], vec![]),
            ("an acknowledgement", ack, vec![]),
            ("a refusal", refusal, vec![Err(Some(libc::ENODEV))]),
            (
                "a dump",
                two,
                vec![
                    Ok((44, vec![1])),
                    Ok((44, vec![2, 2])),
                    Ok((NLMSG_DONE, vec![0; 4])),
                ],
            ),
            ("half a header", vec![0; 10], vec![Err(None)]),
            ("a length of nought", vec![0; 32], vec![Err(None)]),
            (
                "a length beyond the end",
                message(44, &[1; 8])[..20].to_vec(),
                vec![Err(None)],
            ),
        ];
        for (what, bytes, expected) in cases {
            let found: Vec<_> = Messages(&bytes)
                .map(|message| match message {
                    Ok(message) => Ok((message.kind, message.body.to_vec())),
                    Err(error) => Err(error.raw_os_error()),
                })
                .collect();
            assert_eq!(found, expected, "{what}");
        }
    }

    #[test]
    fn requests_are_laid_out_as_rtnetlink_wants_them() {
        let request = Request::new(36, &[7; 4])
            .attribute(1, b"bpf\0")
            .nested(2, &[(8, &[1, 0, 0, 0]), (7, b"x\0")]);
        let bytes = request.bytes(NLM_F_CREATE);
        assert_eq!(bytes.len(), 16 + 4 + 8 + 4 + 8 + 8);
        assert_eq!(u32_at(&bytes, 0), Some(48));
        assert_eq!(
            (u16_at(&bytes, 4), u16_at(&bytes, 6)),
            (Some(36), Some(0x401))
        );
        let attributes = &bytes[20..];
        assert_eq!(Attributes::value(attributes, 1), Some(&b"bpf\0"[..]));
        let options = Attributes::value(attributes, 2).unwrap();
        assert_eq!(Attributes::value(options, 8), Some(&[1, 0, 0, 0][..]));
        assert_eq!(
            Attributes::value(options, 7).map(text),
            Some("x".to_owned())
        );
        assert_eq!(Attributes::value(attributes, 9), None);
    }
}
