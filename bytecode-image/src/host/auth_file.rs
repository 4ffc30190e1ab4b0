//! Files with logins: containers-auth.json(5), and docker's `config.json` of the same form.
//!
//! Own code: `docker_credential` (1.4) matches keys as whole texts only, so neither `host/path` nor the older forms
//! of docker.io, shows secrets in `Debug` and in errors, and runs helpers without a time limit or a cap.
//!
//! For an image in one file the first of these counts: a helper of `credHelpers` for its registry; the entry of
//! `auths` with the longest key that fits; `credsStore`. An entry without a login in it (docker writes such entries
//! beside `credsStore`) says nothing.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::{Map, Value};

use crate::redact;
use crate::reference::Reference;
use crate::registry::auth::{Credentials, CredentialsError};

/// Longest file with logins that is read, in bytes: 1 MiB, some five thousand logins.
pub const MAX_AUTH_FILE_BYTES: u64 = 1 << 20;

/// What docker's login tools and helpers call docker.io.
const DOCKER_HUB_SERVER: &str = "https://index.docker.io/v1/";

/// A text that nobody may read by accident: `Debug` never shows it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Keeps a text from being shown.
    pub fn new(text: impl Into<String>) -> Self {
        let text = text.into();
        redact::add(&text);
        Self(text)
    }

    /// The text itself, for a request alone.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

/// Who we are to a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Login {
    /// User name and password, for the Basic scheme or a token.
    Password(Credentials),
    /// An identity token: the `refresh_token` of a POST to the token realm (distribution, "OAuth2 Token
    /// Authentication").
    IdentityToken(Secret),
}

/// What a file says of an image's registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// A login in the file itself.
    Login {
        /// The key as it is written, for messages.
        key: String,
        /// The login.
        login: Login,
    },
    /// A program that has it.
    Helper {
        /// What follows `docker-credential-` in its name.
        name: String,
        /// What it is asked for.
        server: String,
        /// Whether it stands for every registry (`credsStore`), not for this one (`credHelpers`).
        general: bool,
    },
}

/// A file with logins. `Debug` shows keys and the names of helpers, nothing else.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuthFile {
    auths: BTreeMap<String, Entry>,
    helpers: BTreeMap<String, String>,
    store: Option<String>,
}

/// A value of `auths`. Its fields are judged when an image asks for it.
#[derive(Clone, PartialEq, Eq)]
struct Entry(Value);

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

/// Why a file with logins, or one entry of it, cannot be used. No message shows a value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AuthFileError {
    /// Not JSON.
    #[error("not JSON, in line {line}, column {column}")]
    Syntax {
        /// Line, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
    },
    /// A value of another type than its key has.
    #[error("key `{key}` is not {expected}")]
    Type {
        /// The key, with those that it is in: `auths.quay.io.auth`.
        key: String,
        /// What belongs there.
        expected: &'static str,
    },
    /// The `auth` of the entry is not a user name and a password.
    #[error("key `{key}`")]
    Credentials {
        /// The key, with those that it is in.
        key: String,
        /// What is wrong with it.
        #[source]
        source: CredentialsError,
    },
}

/// Most entries of a file whose secrets are kept out of messages when they are not used: 256.
const MAX_REMEMBERED: usize = 256;

/// Keeps the secrets of all entries out of messages: an engine or a helper may read the same file.
fn remember(auths: &Map<String, Value>) {
    let fields = auths
        .values()
        .take(MAX_REMEMBERED)
        .filter_map(Value::as_object)
        .flatten();
    for (field, value) in fields {
        match (field.as_str(), value.as_str()) {
            // What is wrong with it is said when it is used.
            ("auth", Some(text)) => drop(Credentials::from_base64(text)),
            ("username" | "email", _) | (_, None) => {}
            (_, Some(secret)) => redact::add(secret),
        }
    }
}

impl AuthFile {
    /// Reads the bytes of a file. Keys that are not known are passed over: `config.json` has many other settings.
    ///
    /// # Errors
    ///
    /// When they are not a JSON object with `auths`, `credHelpers` and `credsStore` of the right types.
    pub fn parse(bytes: &[u8]) -> Result<Self, AuthFileError> {
        // serde_json's own message may quote a value.
        let whole: Value =
            serde_json::from_slice(bytes).map_err(|error| AuthFileError::Syntax {
                line: error.line(),
                column: error.column(),
            })?;
        let Value::Object(mut whole) = whole else {
            return Err(AuthFileError::Type {
                key: ".".to_owned(),
                expected: "an object",
            });
        };
        let auths = object(&mut whole, "auths")?;
        remember(&auths);
        let auths = auths
            .into_iter()
            .map(|(key, value)| (key, Entry(value)))
            .collect();
        let helpers = object(&mut whole, "credHelpers")?
            .into_iter()
            .map(|(key, value)| match value {
                Value::String(name) => Ok((key, name)),
                _ => Err(AuthFileError::Type {
                    key: format!("credHelpers.{key}"),
                    expected: "a string",
                }),
            })
            .collect::<Result<_, _>>()?;
        let store = match whole.remove("credsStore") {
            None | Some(Value::Null) => None,
            Some(Value::String(name)) => Some(name).filter(|name| !name.is_empty()),
            Some(_) => {
                return Err(AuthFileError::Type {
                    key: "credsStore".to_owned(),
                    expected: "a string",
                });
            }
        };
        Ok(Self {
            auths,
            helpers,
            store,
        })
    }

    /// What the file says of an image.
    ///
    /// # Errors
    ///
    /// When the entry for the image is broken. Those of other images are not looked at.
    pub fn find(&self, image: &Reference) -> Result<Option<Found>, AuthFileError> {
        let registry = image.registry();
        let helper = self
            .helpers
            .iter()
            .find(|(key, _)| is_registry(key, registry));
        if let Some((key, name)) = helper.filter(|(_, name)| !name.is_empty()) {
            return Ok(Some(Found::Helper {
                name: name.clone(),
                server: key.clone(),
                general: false,
            }));
        }
        if let Some((key, entry)) = self.entry(image)
            && let Some(login) = entry.login(key)?
        {
            return Ok(Some(Found::Login {
                key: key.clone(),
                login,
            }));
        }
        Ok(self.store.clone().map(|name| {
            let server = if registry == "docker.io" {
                DOCKER_HUB_SERVER
            } else {
                registry
            };
            Found::Helper {
                name,
                server: server.to_owned(),
                general: true,
            }
        }))
    }

    /// The entry with the longest key that fits; a key in today's form before one in an older form.
    fn entry(&self, image: &Reference) -> Option<(&String, &Entry)> {
        let name = image.name();
        let covers = |key: &str| {
            let (host, path) = key
                .split_once('/')
                .map_or((key, None), |(host, path)| (host, Some(path)));
            host.eq_ignore_ascii_case(image.registry())
                && path.is_none_or(|path| {
                    let rest = image.repository().strip_prefix(path);
                    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
                })
        };
        self.auths
            .iter()
            .filter(|(key, _)| key.len() <= name.len() && covers(key))
            .max_by_key(|(key, _)| key.len())
            .or_else(|| {
                self.auths
                    .iter()
                    .find(|(key, _)| is_registry(key, image.registry()))
            })
    }
}

/// Whether a key is this registry and nothing longer, in today's form or in the older ones: `https://host/v1/`, and
/// the names that docker.io goes by.
fn is_registry(key: &str, registry: &str) -> bool {
    let host = ["https://", "http://"]
        .iter()
        .find_map(|scheme| key.strip_prefix(scheme));
    let host = host.map_or(key, |rest| {
        rest.split_once('/').map_or(rest, |(host, _)| host)
    });
    let hub = matches!(host, "index.docker.io" | "registry-1.docker.io");
    host.eq_ignore_ascii_case(registry) || (hub && registry == "docker.io")
}

/// The object with this name; an empty one where there is none.
fn object(whole: &mut Map<String, Value>, name: &str) -> Result<Map<String, Value>, AuthFileError> {
    match whole.remove(name) {
        None | Some(Value::Null) => Ok(Map::new()),
        Some(Value::Object(map)) => Ok(map),
        Some(_) => Err(AuthFileError::Type {
            key: name.to_owned(),
            expected: "an object",
        }),
    }
}

impl Entry {
    /// The login; `None` where the entry has none.
    fn login(&self, key: &str) -> Result<Option<Login>, AuthFileError> {
        let of = |field: &str| format!("auths.{key}.{field}");
        let Value::Object(fields) = &self.0 else {
            return Err(AuthFileError::Type {
                key: format!("auths.{key}"),
                expected: "an object",
            });
        };
        let text = |field: &str| match fields.get(field) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.as_str()).filter(|text| !text.is_empty())),
            Some(_) => Err(AuthFileError::Type {
                key: of(field),
                expected: "a string",
            }),
        };
        // Registries with identity tokens write an `auth` with an empty password beside it.
        if let Some(token) = text("identitytoken")? {
            return Ok(Some(Login::IdentityToken(Secret::new(token))));
        }
        if let Some(auth) = text("auth")? {
            let mut credentials =
                Credentials::from_base64(auth).map_err(|source| AuthFileError::Credentials {
                    key: of("auth"),
                    source,
                })?;
            // Old versions of docker fill the password up with zero bytes.
            let length = credentials.password.trim_end_matches('\0').len();
            credentials.password.truncate(length);
            return Ok(Some(Login::Password(credentials)));
        }
        // Pull secrets of clusters may have these two alone.
        Ok(match (text("username")?, text("password")?) {
            (Some(username), Some(password)) => Some(Login::Password(Credentials {
                username: username.to_owned(),
                password: password.to_owned(),
            })),
            _ => None,
        })
    }
}

#[cfg(test)]
mod tests;
