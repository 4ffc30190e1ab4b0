use std::fmt;
use std::time::Duration;

use crate::digest::Digest;
use crate::manifest::ManifestError;
use crate::registry::reach::ReachError;

/// A request to a registry that failed: what was asked of which registry, and as `source()` why it failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} at registry {registry}")]
pub struct RegistryError {
    /// Host and port that were asked.
    pub registry: String,
    /// What was asked.
    pub action: Action,
    /// Why it failed.
    #[source]
    pub reason: Box<Reason>,
    /// What a hint needs to know; boxed, as errors are moved a lot.
    pub(super) context: Box<Context>,
}

/// What a client knows about this host that a hint needs.
#[derive(Debug, Default)]
pub(super) struct Context {
    /// Where the login is from that was looked up.
    pub(super) login: Option<String>,
    /// What to do on this host, by its files.
    pub(super) advice: Option<String>,
}

/// What is asked of a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Action {
    /// Get ready to speak to it.
    Prepare,
    /// Fetch a manifest or an index.
    FetchManifest(String),
    /// Fetch a blob of a repository.
    FetchBlob(Digest, String),
    /// List what refers to a manifest or an index.
    ListReferrers(String),
    /// Get a token from this realm.
    Token(String),
    /// Send a blob to a repository.
    PushBlob(Digest, String),
    /// Send a manifest or an index.
    PushManifest(String),
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Prepare => f.write_str("prepare requests"),
            Self::FetchManifest(reference) => write!(f, "fetch the manifest of {reference}"),
            Self::FetchBlob(digest, repository) => write!(f, "fetch blob {digest} of {repository}"),
            Self::ListReferrers(reference) => write!(f, "list the referrers of {reference}"),
            Self::Token(realm) => write!(f, "get a token from {realm}"),
            Self::PushBlob(digest, repository) => write!(f, "push blob {digest} to {repository}"),
            Self::PushManifest(reference) => write!(f, "push the manifest of {reference}"),
        }
    }
}

/// Why a request to a registry failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Reason {
    /// No image to push.
    #[error("there is no image to push")]
    Nothing,
    /// The host's configuration.
    #[error(transparent)]
    Reach(#[from] ReachError),
    /// Names that make no URL.
    #[error("no URL can be made of these names: {0}")]
    Url(String),
    /// No connection: refused, no route, unknown name, TLS handshake.
    #[error("no connection to the registry")]
    Connect(#[source] reqwest::Error),
    /// A certificate of the registry that is not trusted.
    #[error("the registry's certificate is refused")]
    Certificate(#[source] rustls::Error),
    /// Nothing came for longer than a documented time.
    #[error("the registry did not answer in time")]
    Timeout(#[source] reqwest::Error),
    /// A mirror that has not answered by when the next server must be asked.
    #[error("no answer within {} s, and the next server is to be asked in time", .limit.as_secs())]
    Silent {
        /// Its part of the time of a pull.
        limit: Duration,
    },
    /// What looks for a login came to no end.
    #[error("the login cannot be looked up")]
    Login(#[source] tokio::task::JoinError),
    /// A redirect to plain http elsewhere, from https to http, or to no http at all.
    #[error("a redirect to {to} is refused: expected https, or plain http on loopback")]
    Redirect {
        /// Scheme, host and port.
        to: String,
    },
    /// A redirect to where the request was before.
    #[error("a redirect to {to} leads back to where the request was already")]
    RedirectLoop {
        /// Scheme, host and port.
        to: String,
    },
    /// A redirect from plain http to https of the same host and port.
    #[error("the registry speaks https only")]
    Upgrade,
    /// One redirect after the other.
    #[error("more than {limit} redirects")]
    Redirects {
        /// How many are followed.
        limit: usize,
    },
    /// The connection broke, or what came was not HTTP.
    #[error("the transfer broke off")]
    Transfer(#[source] reqwest::Error),
    /// 401 after all that we have was tried.
    #[error("{}", match .with { Some(source) => format!("the registry does not accept these credentials, of {source}"), None => "the registry asks for credentials, and none were given".to_owned() })]
    Unauthorized {
        /// Where the credentials are from that were sent, if any were.
        with: Option<String>,
    },
    /// A 401 whose challenge is missing, unreadable, or of another scheme than Basic and Bearer.
    #[error("the registry answered 401 with a challenge that is not understood: {challenge:?}")]
    Challenge {
        /// The `WWW-Authenticate` header.
        challenge: String,
    },
    /// A token realm that must not see credentials.
    #[error(
        "token realm `{realm}` is refused: expected an https URL, or plain http on loopback for a loopback registry"
    )]
    Realm {
        /// The URL that the challenge named.
        realm: String,
    },
    /// A token answer without a token.
    #[error("the token service's answer has no token in it")]
    Token,
    /// 403.
    #[error("access denied{}", described(.message))]
    Denied {
        /// What the registry said.
        message: Option<String>,
    },
    /// 404.
    #[error("not found{}", described(.message))]
    NotFound {
        /// What the registry said.
        message: Option<String>,
    },
    /// Any other status than the request can be answered with.
    #[error("HTTP status {status}{}", described(.message))]
    Status {
        /// HTTP status.
        status: u16,
        /// What the registry said.
        message: Option<String>,
    },
    /// More bytes than the cap of its kind.
    #[error("it has {} bytes: at most {limit} are read", match .found { Some(found) => found.to_string(), None => format!("more than {limit}") })]
    TooLarge {
        /// Bytes announced, where they were.
        found: Option<u64>,
        /// The cap.
        limit: u64,
    },
    /// Another length than the descriptor says.
    #[error("wrong length: expected {expected} bytes, found {found}{}", if .found > .expected { " or more" } else { "" })]
    Length {
        /// Bytes that the descriptor says.
        expected: u64,
        /// Bytes that came, or were announced.
        found: u64,
    },
    /// Other content than the digest says.
    #[error("wrong digest: expected {expected}, found {found}")]
    Digest {
        /// The digest asked for.
        expected: Digest,
        /// The digest of what came.
        found: Digest,
    },
    /// A `Docker-Content-Digest` header that is another digest than the body's.
    #[error("the registry says that the content is {header:?}, but it is {found}")]
    DigestHeader {
        /// The header.
        header: String,
        /// The digest of what came.
        found: Digest,
    },
    /// A push that was answered with success, and is not there.
    #[error("the registry answered HTTP status {status}, but does not have what was sent")]
    NotStored {
        /// HTTP status of the push.
        status: u16,
    },
    /// A manifest that is refused.
    #[error("its manifest is refused")]
    Manifest(#[source] ManifestError),
    /// A header that the answer needs and has not, or that cannot be used.
    #[error("the registry's answer has no usable {name} header")]
    Header {
        /// Name of the header.
        name: &'static str,
    },
    /// An upload address that would send content over plain http to another machine.
    #[error(
        "the registry wants the upload at `{location}`: expected https, or plain http on loopback"
    )]
    Location {
        /// Where the upload should go.
        location: String,
    },
    /// What came could not be written down.
    #[error("cannot write what was fetched")]
    Write(#[source] std::io::Error),
}

fn described(message: &Option<String>) -> String {
    message
        .as_ref()
        .map(|message| format!(": {message}"))
        .unwrap_or_default()
}

impl RegistryError {
    pub(crate) fn new(registry: &str, action: Action, reason: Reason) -> Self {
        Self {
            registry: registry.to_owned(),
            action,
            reason: Box::new(reason),
            context: Box::default(),
        }
    }

    /// What to do, where that is known.
    pub fn hint(&self) -> Option<String> {
        let Context { login, advice } = &*self.context;
        if advice.is_some() {
            return advice.clone();
        }
        let registry = &self.registry;
        if let (Action::Token(realm), Reason::Connect(_) | Reason::Timeout(_)) =
            (&self.action, &*self.reason)
        {
            return Some(format!(
                "check that {realm}, the token service of {registry}, is reachable from here"
            ));
        }
        let log_in = || {
            format!(
                "log in with `podman login {registry}`, `docker login` or `skopeo login`, or give --registry-auth the base64 form of USERNAME:PASSWORD"
            )
        };
        let is_push = matches!(self.action, Action::PushBlob(..) | Action::PushManifest(_));
        Some(match &*self.reason {
            Reason::Connect(_) | Reason::Certificate(_) => format!(
                "check that {registry} is the right host and port, and that it is reachable from here"
            ),
            Reason::Timeout(_) | Reason::Silent { .. } => {
                format!("check the network between here and {registry}, then try again")
            }
            Reason::Reach(error) => return error.hint(),
            Reason::Unauthorized { with: None } => log_in(),
            Reason::Unauthorized { with: Some(source) } => {
                format!(
                    "check user name and password of {source}, and that they are for {registry}"
                )
            }
            Reason::Denied { .. } => match login {
                None => log_in(),
                Some(source) => {
                    format!("check that the user of {source} may do this in this repository")
                }
            },
            Reason::NotFound { .. } => match (&self.action, login) {
                (Action::FetchManifest(_), None) => format!(
                    "check the spelling of repository and tag; if the repository is private, {}",
                    log_in()
                ),
                (Action::FetchManifest(_), Some(source)) => format!(
                    "check the spelling of repository and tag, and that the user of {source} may read it"
                ),
                (Action::PushBlob(..) | Action::PushManifest(_), _) => {
                    format!(
                        "check that the repository exists at {registry}, or may be created by a push"
                    )
                }
                (Action::FetchBlob(..), _) => {
                    format!("the image is incomplete at {registry}: push it again")
                }
                _ => return None,
            },
            Reason::Digest { .. } | Reason::Length { .. } | Reason::DigestHeader { .. }
                if is_push =>
            {
                format!("the content was changed at {registry} or on the way there: push it again")
            }
            Reason::Digest { .. } | Reason::Length { .. } | Reason::DigestHeader { .. } => {
                format!(
                    "the content was changed at {registry} or on the way here: nothing of it was kept"
                )
            }
            Reason::NotStored { .. } => "push it again".to_owned(),
            Reason::Status { status: 429, .. } => match login {
                None => format!("wait a while, or {}", log_in()),
                Some(_) => "wait a while, then try again".to_owned(),
            },
            Reason::Status { status: 500.., .. } => {
                format!("{registry} has a problem of its own: try again later")
            }
            _ => return None,
        })
    }
}
