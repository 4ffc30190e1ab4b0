//! What BuildKit says of its steps: `moby.buildkit.v1.StatusResponse` (BuildKit's `api/services/control/control.proto`),
//! as far as it is text. Pure.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

/// Fields of the messages, by their numbers in `control.proto`.
mod field {
    /// `StatusResponse.vertexes`.
    pub(super) const VERTEXES: u64 = 1;
    /// `StatusResponse.logs`.
    pub(super) const LOGS: u64 = 3;
    /// `Vertex.name`.
    pub(super) const NAME: u64 = 3;
    /// `Vertex.completed`: set in the message that repeats a step when it has ended.
    pub(super) const COMPLETED: u64 = 6;
    /// `Vertex.error`.
    pub(super) const ERROR: u64 = 7;
    /// `VertexLog.msg`.
    pub(super) const MESSAGE: u64 = 4;
}

/// Names of steps that are there for the first time, what they print, and why they fail. What cannot be read of it is
/// left out: it is only shown.
pub(super) fn lines(base64: &str) -> Vec<String> {
    let Ok(bytes) = BASE64_STANDARD.decode(base64) else {
        return Vec::new();
    };
    let mut lines = Vec::new();
    for (number, value) in Fields(&bytes) {
        match number {
            field::VERTEXES => lines.extend(step(value)),
            field::LOGS => lines.extend(text(value, field::MESSAGE)),
            _ => {}
        }
    }
    lines
}

fn step(vertex: &[u8]) -> Option<String> {
    let has = |wanted| Fields(vertex).any(|(number, _)| number == wanted);
    match text(vertex, field::ERROR) {
        Some(error) => Some(error),
        None if has(field::COMPLETED) => None,
        None => text(vertex, field::NAME),
    }
}

fn text(message: &[u8], wanted: u64) -> Option<String> {
    let (_, value) =
        Fields(message).find(|(number, value)| *number == wanted && !value.is_empty())?;
    Some(String::from_utf8_lossy(value).into_owned())
}

/// The length-delimited fields of a protobuf message; numbers are passed over. Ends where it cannot go on.
struct Fields<'a>(&'a [u8]);

impl<'a> Iterator for Fields<'a> {
    type Item = (u64, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let key = self.varint()?;
            match key & 7 {
                0 => {
                    self.varint()?;
                }
                1 => {
                    self.take(8)?;
                }
                2 => {
                    let length = usize::try_from(self.varint()?).ok()?;
                    return Some((key >> 3, self.take(length)?));
                }
                5 => {
                    self.take(4)?;
                }
                _ => return None,
            }
        }
    }
}

impl<'a> Fields<'a> {
    fn varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = *self.take(1)?.first()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A length-delimited field.
    fn of(number: u8, value: &[u8]) -> Vec<u8> {
        let length = u8::try_from(value.len()).unwrap();
        [&[number << 3 | 2, length], value].concat()
    }

    #[test]
    fn steps_output_and_errors() {
        let vertex = |rest: &[u8]| {
            of(
                1,
                &[of(1, b"sha256:0"), of(3, b"COPY"), rest.to_vec()].concat(),
            )
        };
        // cached, a bool; then the time of the start.
        let begun = vertex(&[&[4 << 3, 1], of(5, b"\x08\x01").as_slice()].concat());
        let ended = vertex(&of(6, b"\x08\x01"));
        let failed = vertex(&[of(6, b"\x08\x01"), of(7, b"not found")].concat());
        let log = of(3, &[of(1, b"sha256:0"), of(4, b"a line")].concat());
        let message = [begun, ended, failed, log].concat();
        assert_eq!(
            lines(&BASE64_STANDARD.encode(&message)),
            ["COPY", "not found", "a line"]
        );
        for length in 0..message.len() {
            let _ = lines(&BASE64_STANDARD.encode(&message[..length]));
        }
        assert_eq!(lines("no base64"), Vec::<String>::new());
        assert_eq!(
            lines(&BASE64_STANDARD.encode([0xff; 20])),
            Vec::<String>::new()
        );
    }
}
