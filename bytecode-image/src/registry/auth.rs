//! Who we are to a registry: credentials, the challenge of a 401 answer, and tokens.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// User name and password for one registry. `Debug` never shows the password.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// User name; without a colon, which divides it from the password on the wire (RFC 7617, 2).
    pub username: String,
    /// Password or access token.
    pub password: String,
}

/// Why a text is not credentials. The text itself is never part of the message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CredentialsError {
    /// Not base64.
    #[error(
        "the registry credentials are not base64: expected the base64 form of USERNAME:PASSWORD"
    )]
    Base64,
    /// Base64 of something else than text.
    #[error(
        "the registry credentials are base64 of bytes that are not UTF-8: expected USERNAME:PASSWORD"
    )]
    Utf8,
    /// No colon, or nothing before it.
    #[error(
        "the registry credentials are base64 of a text without a user name: expected USERNAME:PASSWORD"
    )]
    UserName,
}

impl Credentials {
    /// Reads the base64 form of `USERNAME:PASSWORD`, as `--registry-auth` and the `auth` field of auth files have it.
    ///
    /// # Errors
    ///
    /// When it is not base64 of a UTF-8 text with a user name and a colon.
    pub fn from_base64(text: &str) -> Result<Self, CredentialsError> {
        let bytes = STANDARD
            .decode(text.trim())
            .map_err(|_| CredentialsError::Base64)?;
        let text = String::from_utf8(bytes).map_err(|_| CredentialsError::Utf8)?;
        match text.split_once(':') {
            Some((username, password)) if !username.is_empty() => Ok(Self {
                username: username.to_owned(),
                password: password.to_owned(),
            }),
            _ => Err(CredentialsError::UserName),
        }
    }

    /// The `Authorization` header of the Basic scheme (RFC 7617).
    pub(crate) fn basic(&self) -> String {
        format!(
            "Basic {}",
            STANDARD.encode(format!("{}:{}", self.username, self.password))
        )
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("username", &self.username)
            .finish_non_exhaustive()
    }
}
