mod access;
mod scheme;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use oci_client::errors::OciEnvelope;
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use reqwest::{Method, Response, StatusCode, Url};
use tokio::sync::OnceCell;

use self::access::Granted;
use crate::digest::{Digest, VerifiedBytes};
use crate::host::registries_conf::{Endpoint, Registries};
use crate::limits::{MAX_ANSWER_BYTES, MAX_MANIFEST_BYTES};
use crate::manifest::{self, Descriptor, Document};
use crate::printable::printable;
use crate::reference::Reference;
use crate::registry::advice;
use crate::registry::auth::Access;
use crate::registry::error::Context;
use crate::registry::http::{Request, Transport, body, header, may_lead, origin, remember_secrets};
use crate::registry::patience::{Patience, retry_after};
use crate::registry::reach::{Known, Reach};
use crate::registry::{Action, Reason, RegistryError};

/// Header by which a registry says what it sent (distribution-spec, "Pulling manifests").
pub(super) const DIGEST_HEADER: &str = "docker-content-digest";

/// What the answer of a server that speaks TLS to a plain request has in it, by Go's library, nginx and Apache.
const TLS_EXPECTED: [&str; 3] = ["HTTPS server", "HTTPS port", "SSL-enabled server port"];

/// One registry, as one user. Connections are kept between requests.
pub struct Client {
    registry: String,
    endpoint: Endpoint,
    reach: Arc<Reach>,
    registries: Arc<Registries>,
    base: Mutex<Base>,
    /// Held by the request that finds out which scheme is spoken; the others wait for what it finds.
    settling: futures_util::lock::Mutex<()>,
    /// Looked up when the registry asks.
    login: OnceCell<Option<Known>>,
    /// Whether nothing comes of showing who we are without being asked.
    is_stranger: AtomicBool,
    /// Whether uploads go in two requests, as one was refused.
    pub(super) uploads_by_patch: AtomicBool,
    /// When nobody waits for an answer any more.
    until: Option<Instant>,
    /// What a registry has accepted, by repository and access.
    accepted: Mutex<BTreeMap<(String, Access), Granted>>,
    /// Held while a token for a mount is asked for, so that blobs on their way at once ask for one.
    asking: futures_util::lock::Mutex<()>,
    /// Whether it has lists of referrers. Held by the request that finds out; the others wait for what it finds.
    pub(super) has_referrers: futures_util::lock::Mutex<Option<bool>>,
    transport: Transport,
}

/// Where the registry is.
struct Base {
    url: Url,
    /// The scheme that is tried when the first request shows that the other is not spoken.
    other: Option<&'static str>,
    /// Where it was taken to be before that.
    before: Option<Url>,
}

impl Base {
    /// A request that was made before the scheme was known, as it is to be sent now.
    fn rebased(&self, request: &Request) -> Request {
        let mut request = request.clone();
        if let Some(before) = &self.before
            && request.url.origin() == before.origin()
            && let Some(path) = request.url.as_str().strip_prefix(before.as_str())
            && let Ok(url) = self.url.join(path)
        {
            request.url = url;
        }
        request
    }
}

/// A document whose digest was checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// Digest of the bytes.
    pub digest: Digest,
    /// Media type of the document.
    pub media_type: String,
    /// What it says.
    pub document: Document,
    /// The document as it came: what the digest is of.
    pub bytes: VerifiedBytes,
}

impl Client {
    /// A client for the registry that a reference names, as images are pushed to it: no mirror, no other place.
    /// Opens no connection.
    ///
    /// # Errors
    ///
    /// When the host's configuration is broken or forbids it, or the registry's name cannot be part of a URL.
    pub fn new(reference: &Reference, reach: &Reach) -> Result<Self, RegistryError> {
        let failed =
            |error| RegistryError::new(reference.registry(), Action::Prepare, Reason::Reach(error));
        let registries = reach.registries().map_err(failed)?;
        let endpoint = reach
            .push_endpoint(&registries, reference)
            .map_err(failed)?;
        Self::of(endpoint, &Arc::new(reach.clone()), &registries)
    }

    /// A client for a server of a plan. Opens no connection.
    ///
    /// Plain http is for loopback, where it is tried first unless the host has certificates for the registry, and for
    /// servers that are marked insecure, where it is tried last.
    pub(crate) fn of(
        endpoint: Endpoint,
        reach: &Arc<Reach>,
        registries: &Arc<Registries>,
    ) -> Result<Self, RegistryError> {
        let registry = endpoint.reference.registry().to_owned();
        let failed = |reason| RegistryError::new(&registry, Action::Prepare, reason);
        let (scheme, other) = if endpoint.reference.is_loopback() {
            let certificates = reach
                .certificates(&endpoint.reference)
                .map_err(|error| failed(error.into()))?;
            if certificates.is_empty() {
                ("http", Some("https"))
            } else {
                ("https", None)
            }
        } else {
            ("https", endpoint.insecure.then_some("http"))
        };
        let url = Url::parse(&format!("{scheme}://{}/v2/", endpoint.reference.api_host()))
            .map_err(|error| failed(Reason::Url(error.to_string())))?;
        Ok(Self {
            transport: Transport::new(Arc::clone(reach), endpoint.clone()),
            registry,
            endpoint,
            reach: Arc::clone(reach),
            registries: Arc::clone(registries),
            base: Mutex::new(Base {
                url,
                other,
                before: None,
            }),
            settling: futures_util::lock::Mutex::default(),
            login: OnceCell::new(),
            is_stranger: AtomicBool::new(false),
            uploads_by_patch: AtomicBool::new(false),
            until: None,
            accepted: Mutex::default(),
            asking: futures_util::lock::Mutex::default(),
            has_referrers: futures_util::lock::Mutex::default(),
        })
    }

    /// Lets it make no pause that ends after this: what a registry that is to be left alone so long has said is worth more
    /// than that the time is over.
    pub(crate) fn until(&mut self, end: Instant) {
        self.until = Some(end);
    }

    /// Turns a reference into a digest and the document that it names, in one request. By its digest where it has one,
    /// else by its tag. After this, only digests are fetched.
    ///
    /// # Errors
    ///
    /// When there is no such thing, what came is not what the digest says, or it is not a manifest that is used.
    pub async fn resolve(&self, reference: &Reference) -> Result<Fetched, RegistryError> {
        let action = Action::FetchManifest(reference.to_string());
        let name = match (reference.digest(), reference.tag()) {
            (Some(digest), _) => digest.to_string(),
            (None, tag) => tag.unwrap_or_default().to_owned(),
        };
        self.document(&action, reference, &name, reference.digest(), None)
            .await
    }

    /// Fetches the document that an index names, from the repository of the reference.
    ///
    /// # Errors
    ///
    /// As [`resolve`](Self::resolve), and when length or media type are not what the descriptor says.
    pub async fn manifest(
        &self,
        reference: &Reference,
        descriptor: &Descriptor,
    ) -> Result<Fetched, RegistryError> {
        let action = Action::FetchManifest(reference.with_digest(descriptor.digest).to_string());
        let name = descriptor.digest.to_string();
        self.document(
            &action,
            reference,
            &name,
            Some(descriptor.digest),
            Some(descriptor),
        )
        .await
    }

    async fn document(
        &self,
        action: &Action,
        reference: &Reference,
        name: &str,
        digest: Option<Digest>,
        descriptor: Option<&Descriptor>,
    ) -> Result<Fetched, RegistryError> {
        let refused = |reason| self.error(action, reason);
        let mut request = Request::new(
            Method::GET,
            self.url(action, reference, &format!("manifests/{name}"))?,
        );
        for media_type in manifest::MEDIA_TYPES {
            request = request.header(ACCEPT, HeaderValue::from_static(media_type));
        }
        let response = self
            .request(action, reference, Access::Pull, &request)
            .await?;
        let content_type = header(&response, CONTENT_TYPE.as_str()).map(str::to_owned);
        let named = header(&response, DIGEST_HEADER).map(str::to_owned);
        let bytes = body(response, MAX_MANIFEST_BYTES).await.map_err(refused)?;
        let bytes = VerifiedBytes::hash(bytes);
        let found = bytes.digest();
        if let Some(descriptor) = descriptor
            && descriptor.size != bytes.len() as u64
        {
            return Err(refused(Reason::Length {
                expected: descriptor.size,
                found: bytes.len() as u64,
            }));
        }
        if let Some(expected) = digest
            && expected != found
        {
            return Err(refused(Reason::Digest { expected, found }));
        }
        check_digest_header(named.as_deref(), found).map_err(refused)?;
        let read = |outside: Option<&str>| {
            manifest::parse(&bytes, outside).map_err(|error| refused(Reason::Manifest(error)))
        };
        let (document, media_type) = read(content_type.as_deref())?;
        if let Some(descriptor) = descriptor {
            read(Some(&descriptor.media_type))?;
        }
        Ok(Fetched {
            digest: found,
            media_type,
            document,
            bytes,
        })
    }

    pub(super) fn patience(&self) -> &Patience {
        self.reach.patience()
    }

    pub(super) fn error(&self, action: &Action, reason: Reason) -> RegistryError {
        let advice = advice::of(action, &reason, &self.endpoint, &self.reach);
        let login = self.login.get().and_then(Option::as_ref);
        RegistryError {
            context: Box::new(Context {
                login: login.map(|known| known.source.clone()),
                advice,
            }),
            ..RegistryError::new(&self.registry, action.clone(), reason)
        }
    }

    /// `<base>/<repository>/<rest>`.
    pub(super) fn url(
        &self,
        action: &Action,
        reference: &Reference,
        rest: &str,
    ) -> Result<Url, RegistryError> {
        self.base()
            .url
            .join(&format!("{}/{rest}", reference.repository()))
            .map_err(|error| self.error(action, Reason::Url(error.to_string())))
    }

    /// Where the registry wants something sent to, if it may go there.
    pub(super) fn location(
        &self,
        action: &Action,
        response: &Response,
    ) -> Result<Url, RegistryError> {
        let location = header(response, "location")
            .and_then(|location| response.url().join(location).ok())
            .ok_or_else(|| self.error(action, Reason::Header { name: "Location" }))?;
        remember_secrets(&location);
        if !may_lead(&self.base().url, &location) {
            return Err(self.error(
                action,
                Reason::Location {
                    location: origin(&location),
                },
            ));
        }
        Ok(location)
    }

    /// Whether an address is at the registry itself.
    pub(super) fn is_ours(&self, url: &Url) -> bool {
        self.base().url.origin() == url.origin()
    }

    fn base(&self) -> MutexGuard<'_, Base> {
        self.base.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends a request; answers a 401 once, with what its challenge asks for. Gives only successes.
    ///
    /// The first request finds out whether the registry speaks https or plain http, where both are allowed; those that
    /// are sent beside it wait for that.
    pub(super) async fn request(
        &self,
        action: &Action,
        reference: &Reference,
        access: Access,
        request: &Request,
    ) -> Result<Response, RegistryError> {
        self.counted(action, reference, access, request, &mut 1)
            .await
    }

    /// As [`request`](Self::request), from an attempt on, which is counted up.
    pub(super) async fn counted(
        &self,
        action: &Action,
        reference: &Reference,
        access: Access,
        request: &Request,
        attempt: &mut u32,
    ) -> Result<Response, RegistryError> {
        if self.base().other.is_some() {
            let _settling = self.settling.lock().await;
            let other = self.base().other;
            if let Some(scheme) = other {
                return self
                    .first(action, reference, access, request, scheme, attempt)
                    .await;
            }
        }
        let request = self.base().rebased(request);
        self.authorized(action, reference, access, &request, attempt)
            .await
    }

    /// Sends a request until there is an answer that stands, as [`Patience`] has it.
    async fn send(
        &self,
        action: &Action,
        request: &Request,
        authorization: Option<&HeaderValue>,
        attempt: &mut u32,
    ) -> Result<Response, RegistryError> {
        loop {
            let sent = self.transport.send(request, authorization).await;
            let is_settling = {
                let base = self.base();
                base.other.is_some() && base.url.origin() == request.url.origin()
            };
            let pause = match &sent {
                // The other scheme is tried before this one is tried again.
                Err(_) if is_settling => None,
                Ok(response) => {
                    let wait = header(response, RETRY_AFTER.as_str())
                        .and_then(|header| retry_after(header, crate::clock::now()));
                    self.patience()
                        .after_answer(*attempt, response.status(), wait)
                }
                Err(reason) => self
                    .patience()
                    .after_failure(*attempt, &request.method, reason),
            };
            let Some(pause) = pause.filter(|pause| self.has_time(*pause)) else {
                return sent.map_err(|reason| self.error(action, reason));
            };
            log::debug!(
                "cannot {action} at registry {}: {}; once more in {pause:?}",
                self.registry,
                match &sent {
                    Ok(response) => response.status().to_string(),
                    Err(reason) => reason.to_string(),
                }
            );
            drop(sent);
            self.patience().pause(pause).await;
            *attempt += 1;
        }
    }

    /// Whether a pause ends before nobody waits any more.
    pub(super) fn has_time(&self, pause: Duration) -> bool {
        self.until
            .is_none_or(|until| pause < until.saturating_duration_since(Instant::now()))
    }

    /// Turns every status but success into an error, with what the registry said about it.
    async fn successful(
        &self,
        action: &Action,
        response: Response,
    ) -> Result<Response, RegistryError> {
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        // What cannot be read of the message must not hide the status.
        let message = body(response, MAX_ANSWER_BYTES)
            .await
            .ok()
            .and_then(|bytes| said(&bytes));
        Err(self.error(
            action,
            match status {
                StatusCode::UNAUTHORIZED => self.unauthorized(),
                StatusCode::FORBIDDEN => Reason::Denied { message },
                StatusCode::NOT_FOUND => Reason::NotFound { message },
                status => Reason::Status {
                    status: status.as_u16(),
                    message,
                },
            },
        ))
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("base", &self.base().url.as_str())
            .finish_non_exhaustive()
    }
}

/// Compares `Docker-Content-Digest` with what came. Of another algorithm it says nothing that is known here.
pub(super) fn check_digest_header(header: Option<&str>, found: Digest) -> Result<(), Reason> {
    match header {
        Some(header) if header.starts_with("sha256:") && header != found.to_string() => {
            Err(Reason::DigestHeader {
                header: printable(header, 80),
                found,
            })
        }
        _ => Ok(()),
    }
}

/// The first error of the distribution-spec's envelope, as `CODE: message`, printable and at most 200 characters; what a
/// server says to a plain request that speaks TLS.
fn said(bytes: &[u8]) -> Option<String> {
    let Ok(envelope) = serde_json::from_slice::<OciEnvelope>(bytes) else {
        let text = std::str::from_utf8(bytes).ok()?;
        return TLS_EXPECTED
            .iter()
            .find(|expected| text.contains(**expected))
            .map(|expected| format!("the plain request was sent to an {expected}"));
    };
    let first = envelope.errors.into_iter().next()?;
    let code = serde_json::to_value(&first.code).ok()?;
    let text = format!("{}: {}", code.as_str().unwrap_or_default(), first.message);
    Some(printable(&text, 200))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_registries_say() {
        let envelope = br#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest \u001bunknown","detail":{}}]}"#;
        assert_eq!(
            said(envelope).as_deref(),
            Some("MANIFEST_UNKNOWN: manifest unknown")
        );
        assert_eq!(
            said(br#"{"errors":[{"code":"OWN"}]}"#).as_deref(),
            Some("OWN: ")
        );
        assert_eq!(
            said(b"Client sent an HTTP request to an HTTPS server.\n").as_deref(),
            Some("the plain request was sent to an HTTPS server")
        );
        for text in ["", "<html>", "{}", r#"{"errors":[]}"#] {
            assert_eq!(said(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn schemes_and_hosts() {
        let base = |text: &str| {
            let client = Client::new(&text.parse().unwrap(), &Reach::default()).unwrap();
            client.base().url.to_string()
        };
        assert_eq!(base("quay.io/a"), "https://quay.io/v2/");
        assert_eq!(base("busybox"), "https://registry-1.docker.io/v2/");
        assert_eq!(base("127.0.0.1:5000/a"), "http://127.0.0.1:5000/v2/");
        assert_eq!(base("[::1]:5000/a"), "http://[::1]:5000/v2/");
        assert_eq!(base("localhost/a"), "http://localhost/v2/");
        assert_eq!(base("10.0.0.1:5000/a"), "https://10.0.0.1:5000/v2/");
    }
}
