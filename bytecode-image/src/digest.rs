//! Content digests. Only sha256: it is the one algorithm that every registry and tool speaks, and accepting one
//! algorithm means that two digests are equal exactly when their contents are.

use std::fmt;
use std::ops::Deref;
use std::str::FromStr;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::printable::printable;

/// How much of a wrong digest a message shows: a whole one of sha256 and a little.
const MESSAGE_CHARS: usize = 80;

/// The sha256 of some content, written `sha256:<64 lower-case hex digits>` (OCI image-spec, descriptor.md, "Digests").
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest([u8; 32]);

/// Why a text is not a digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DigestError {
    /// Another algorithm, or none.
    #[error("`{text}` is not a sha256 digest: expected `sha256:` and 64 hex digits")]
    Algorithm {
        /// What was found, shortened.
        text: String,
    },
    /// Not 64 lower-case hex digits after the algorithm.
    #[error("`{text}` is not a digest: expected 64 lower-case hex digits after `sha256:`")]
    Hex {
        /// What was found, shortened.
        text: String,
    },
}

impl Digest {
    /// Reads `sha256:<64 hex>`.
    ///
    /// # Errors
    ///
    /// When the algorithm is another one or the digits are not 64 lower-case hex digits.
    pub fn parse(text: &str) -> Result<Self, DigestError> {
        let Some(hex) = text.strip_prefix("sha256:") else {
            return Err(DigestError::Algorithm {
                text: printable(text, MESSAGE_CHARS),
            });
        };
        let mut bytes = [0_u8; 32];
        let digits = hex.as_bytes();
        if digits.len() != 2 * bytes.len() {
            return Err(DigestError::Hex {
                text: printable(text, MESSAGE_CHARS),
            });
        }
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            let mut value = 0;
            for digit in pair {
                let nibble = match digit {
                    b'0'..=b'9' => digit - b'0',
                    b'a'..=b'f' => digit - b'a' + 10,
                    _ => {
                        return Err(DigestError::Hex {
                            text: printable(text, MESSAGE_CHARS),
                        });
                    }
                };
                value = value << 4 | nibble;
            }
            *byte = value;
        }
        Ok(Self(bytes))
    }

    /// The digest of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// The 64 hex digits without the algorithm: the name of a blob's file in an OCI image layout.
    pub fn hex(&self) -> String {
        let mut text = String::with_capacity(64);
        for byte in self.0 {
            for nibble in [byte >> 4, byte & 15] {
                text.push(char::from_digit(u32::from(nibble), 16).unwrap_or('0'));
            }
        }
        text
    }
}

/// Content in memory together with its digest. Only hashing makes one, so that the bytes that are parsed, verified,
/// unpacked and loaded are the bytes that were hashed, whatever becomes of the file that they were read from.
#[derive(Clone, PartialEq, Eq)]
pub struct VerifiedBytes {
    digest: Digest,
    bytes: Bytes,
}

impl VerifiedBytes {
    /// Hashes content.
    pub fn hash(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        Self {
            digest: Digest::of(&bytes),
            bytes,
        }
    }

    /// Hashes content that must have this digest.
    ///
    /// # Errors
    ///
    /// The digest that it has instead.
    pub fn with_digest(bytes: impl Into<Bytes>, expected: Digest) -> Result<Self, Digest> {
        let found = Self::hash(bytes);
        match found.digest == expected {
            true => Ok(found),
            false => Err(found.digest),
        }
    }

    /// The digest of the content.
    pub fn digest(&self) -> Digest {
        self.digest
    }
}

impl Deref for VerifiedBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl fmt::Debug for VerifiedBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes of {}", self.bytes.len(), self.digest)
    }
}

/// Hashes content that comes in pieces.
#[derive(Debug, Clone, Default)]
pub struct Hasher(Sha256);

impl Hasher {
    /// Takes the next piece.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The digest of all pieces.
    pub fn finish(self) -> Digest {
        Digest(self.0.finalize().into())
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

impl TryFrom<String> for Digest {
    type Error = DigestError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text)
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn of_and_back() {
        assert_eq!(Digest::of(b"").to_string(), EMPTY);
        assert_eq!(Digest::parse(EMPTY).unwrap(), Digest::of(b""));
        let mut hasher = Hasher::default();
        hasher.update(b"ab");
        hasher.update(b"c");
        assert_eq!(hasher.finish(), Digest::of(b"abc"));
        let json = serde_json::to_string(&Digest::of(b"")).unwrap();
        assert_eq!(json, format!("\"{EMPTY}\""));
        assert_eq!(
            serde_json::from_str::<Digest>(&json).unwrap(),
            Digest::of(b"")
        );
    }

    #[test]
    fn verified_bytes_have_the_digest_of_their_content() {
        let bytes = VerifiedBytes::hash(b"abc".to_vec());
        assert_eq!((bytes.digest(), &*bytes), (Digest::of(b"abc"), &b"abc"[..]));
        assert_eq!(
            VerifiedBytes::with_digest(b"abc".to_vec(), bytes.digest()),
            Ok(bytes.clone())
        );
        assert_eq!(
            VerifiedBytes::with_digest(b"abd".to_vec(), bytes.digest()),
            Err(Digest::of(b"abd"))
        );
    }

    #[test]
    fn refused() {
        let cases = [
            "",
            "sha256",
            "sha256:",
            "sha512:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
            "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b85",
            "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b8550",
            "sha256:E3B0C44298FC1C149AFBF4C8996FB92427AE41E4649B934CA495991B7852B855",
            "sha256:../0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
            "sha256:éb0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        ];
        for case in cases {
            assert!(Digest::parse(case).is_err(), "{case}");
        }
    }
}
