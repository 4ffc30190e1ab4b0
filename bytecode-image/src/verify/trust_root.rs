//! The trust root: whose certificates, logs and time stamps count (sigstore protobuf-specs, `TrustedRoot`).

use std::borrow::Cow;
use std::fmt;
use std::sync::OnceLock;

use sigstore_verify::trust_root::{SIGSTORE_PRODUCTION_TRUSTED_ROOT, TrustedRoot};
use sigstore_verify::{Error as LibraryError, Verifier, trust_root};

use super::limits::MAX_TRUSTED_ROOT_BYTES;
use crate::digest::Digest;

/// The day of the built-in copy of the public-good instance's trust root (`sigstore-trust-root` 0.15.1 took it from
/// the TUF repository of sigstore.dev). A test holds day and content together.
pub const BUILT_IN_DATE: &str = "2026-10-23";

/// Certificate authorities, transparency logs, certificate logs and time stamp authorities that are trusted.
///
/// The built-in one is read at its first use, so that a check by key alone does not pay for it.
pub struct TrustRoot {
    json: Cow<'static, str>,
    digest: Digest,
    built_in: bool,
    loaded: OnceLock<Loaded>,
}

pub(super) struct Loaded {
    pub(super) root: TrustedRoot,
    pub(super) verifier: Verifier,
}

/// Why a trust root cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrustRootError {
    /// Longer than [`MAX_TRUSTED_ROOT_BYTES`].
    #[error("the trusted root has {found} bytes: at most {MAX_TRUSTED_ROOT_BYTES} are read")]
    TooLong {
        /// Bytes found.
        found: usize,
    },
    /// Not UTF-8.
    #[error("the trusted root is not UTF-8 text")]
    NotText(#[source] std::str::Utf8Error),
    /// Another document, or a broken one.
    #[error("it is not a sigstore trusted root: expected the JSON of `trusted_root.json`")]
    Parse(#[source] trust_root::Error),
    /// Keys or certificates in it that cannot be used.
    #[error("the trusted root cannot be used")]
    Unusable(#[source] Box<LibraryError>),
}

impl TrustRoot {
    /// The copy of the public-good instance's trust root that is built in, of [`BUILT_IN_DATE`].
    pub fn built_in() -> Self {
        Self::new(Cow::Borrowed(SIGSTORE_PRODUCTION_TRUSTED_ROOT), true)
    }

    /// Reads a `trusted_root.json`, which replaces the built-in one.
    ///
    /// # Errors
    ///
    /// When it is too long, is no trusted root, or has keys or certificates that cannot be used.
    pub fn from_json(bytes: &[u8]) -> Result<Self, TrustRootError> {
        if bytes.len() > MAX_TRUSTED_ROOT_BYTES {
            return Err(TrustRootError::TooLong { found: bytes.len() });
        }
        let text = std::str::from_utf8(bytes).map_err(TrustRootError::NotText)?;
        let root = Self::new(Cow::Owned(text.to_owned()), false);
        root.loaded()?;
        Ok(root)
    }

    fn new(json: Cow<'static, str>, built_in: bool) -> Self {
        Self {
            digest: Digest::of(json.as_bytes()),
            json,
            built_in,
            loaded: OnceLock::new(),
        }
    }

    /// The sha256 of its bytes: part of a policy's id.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// The day of the built-in copy; `None` for one that was read.
    pub fn built_in_date(&self) -> Option<&'static str> {
        self.built_in.then_some(BUILT_IN_DATE)
    }

    pub(super) fn loaded(&self) -> Result<&Loaded, TrustRootError> {
        if let Some(loaded) = self.loaded.get() {
            return Ok(loaded);
        }
        let root = TrustedRoot::from_json(&self.json).map_err(TrustRootError::Parse)?;
        let verifier =
            Verifier::new(&root).map_err(|error| TrustRootError::Unusable(Box::new(error)))?;
        Ok(self.loaded.get_or_init(|| Loaded { root, verifier }))
    }
}

impl Default for TrustRoot {
    fn default() -> Self {
        Self::built_in()
    }
}

impl fmt::Debug for TrustRoot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let origin = self.built_in_date().unwrap_or("file");
        write!(f, "TrustRoot({origin} {})", self.digest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_copy_loads_and_is_of_its_date() {
        let root = TrustRoot::built_in();
        assert!(root.loaded().is_ok());
        // A newer crate brings a newer copy: look up its day, then change both.
        assert_eq!(
            (BUILT_IN_DATE, root.digest().to_string().as_str()),
            (
                "2026-10-23",
                "sha256:6494e21ea73fa7ee769f85f57d5a3e6a08725eae1e38c755fc3517c9e6bc0b66"
            ),
        );
    }

    #[test]
    fn refused() {
        let long = vec![b' '; MAX_TRUSTED_ROOT_BYTES + 1];
        let cases: [(&[u8], &str); 6] = [
            (b"", "it is not a sigstore trusted root"),
            (b"{}", "it is not a sigstore trusted root"),
            (b"[]", "it is not a sigstore trusted root"),
            (b"\xff", "the trusted root is not UTF-8 text"),
            (&long, "the trusted root has 1048577 bytes: at most 1048576 are read"),
            (
                br#"{"mediaType":"m","certificateAuthorities":[{"uri":"u","certChain":{"certificates":[{"rawBytes":"AA=="}]}}]}"#,
                "the trusted root cannot be used",
            ),
        ];
        for (bytes, expected) in cases {
            let error = TrustRoot::from_json(bytes).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{error}");
        }
    }
}
