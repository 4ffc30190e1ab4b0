//! Base64 as Go reads it (`encoding/base64`, `StdEncoding`): what cosign, docker and podman take.

pub(crate) use base64::DecodeError;
use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

/// Padding is needed; bits after the last byte are not looked at.
const ENGINE: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::RequireCanonical)
        .with_decode_allow_trailing_bits(true),
);

/// The bytes that a text stands for. Line ends (`\r`, `\n`) may be anywhere; spaces may not.
pub(crate) fn decode(text: &str) -> Result<Vec<u8>, DecodeError> {
    let joined: Vec<u8> = text
        .bytes()
        .filter(|byte| !matches!(byte, b'\r' | b'\n'))
        .collect();
    ENGINE.decode(joined)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each result was compared with Go's.
    #[test]
    fn decodes_as_go_does() {
        for text in [
            "aGVsbG8=",
            "aGVsbG8=\n",
            "aGVs\nbG8=\n",
            "aGVs\r\nbG8=\r\n",
            "\naGVsbG8=",
            "aGVsbG8\n=",
            "aGVsbG9=",
        ] {
            assert_eq!(
                decode(text).ok().as_deref(),
                Some(&b"hello"[..]),
                "{text:?}"
            );
        }
        assert_eq!(decode("").unwrap(), b"");
        assert_eq!(decode("\n").unwrap(), b"");
        for text in [
            "aGVsbG8",
            "aGVsbG8= ",
            "aGVs bG8=",
            "aGVs\tbG8=",
            "aGVsbG8==",
            "aGVsbG8=a",
            "aGV-bG8=",
            "=",
            "a",
        ] {
            assert!(decode(text).is_err(), "{text:?}");
        }
    }
}
