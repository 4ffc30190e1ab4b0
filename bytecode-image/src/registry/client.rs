use std::collections::BTreeMap;
use std::fmt;
use std::io::Write;
use std::sync::{Mutex, PoisonError};

use oci_client::errors::OciEnvelope;
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderValue, WWW_AUTHENTICATE};
use reqwest::{Method, Response, StatusCode, Url};

use crate::digest::{Digest, Hasher};
use crate::limits::{MAX_ANSWER_BYTES, MAX_MANIFEST_BYTES};
use crate::manifest::{self, Descriptor, Document};
use crate::printable::printable;
use crate::progress::Progress;
use crate::reference::Reference;
use crate::registry::auth::{Access, Challenge, Credentials};
use crate::registry::http::{Request, Transport, body, failed, header, may_lead};
use crate::registry::{Action, Reason, RegistryError, auth};

/// Header by which a registry says what it sent (distribution-spec, "Pulling manifests").
pub(super) const DIGEST_HEADER: &str = "docker-content-digest";

/// One registry, as one user. Connections are kept between requests.
pub struct Client {
    registry: String,
    base: Url,
    credentials: Option<Credentials>,
    /// What a registry has accepted, by repository and access: the `Authorization` header.
    accepted: Mutex<BTreeMap<(String, Access), HeaderValue>>,
    transport: Transport,
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
    pub bytes: Vec<u8>,
}

impl Client {
    /// A client for the registry of a reference. Opens no connection.
    ///
    /// # Errors
    ///
    /// When the registry's name cannot be part of a URL.
    pub fn new(
        reference: &Reference,
        credentials: Option<Credentials>,
    ) -> Result<Self, RegistryError> {
        let scheme = if reference.is_loopback() {
            "http"
        } else {
            "https"
        };
        let registry = reference.registry().to_owned();
        let base =
            Url::parse(&format!("{scheme}://{}/v2/", reference.api_host())).map_err(|error| {
                RegistryError::new(&registry, Action::Prepare, Reason::Url(error.to_string()))
            })?;
        Ok(Self {
            registry,
            base,
            credentials,
            accepted: Mutex::default(),
            transport: Transport::default(),
        })
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
        let found = Digest::of(&bytes);
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

    /// Fetches a blob into `sink`, hashed and counted as it streams. When this fails, what the sink has is worthless.
    ///
    /// # Errors
    ///
    /// When length or digest are not what the descriptor says, the transfer breaks off, or the sink cannot be written.
    pub async fn blob(
        &self,
        reference: &Reference,
        descriptor: &Descriptor,
        sink: &mut dyn Write,
        progress: &dyn Progress,
    ) -> Result<(), RegistryError> {
        let action = Action::FetchBlob(descriptor.digest, reference.name());
        let refused = |reason| self.error(&action, reason);
        let url = self.url(&action, reference, &format!("blobs/{}", descriptor.digest))?;
        let request = Request::new(Method::GET, url);
        let mut response = self
            .request(&action, reference, Access::Pull, &request)
            .await?;
        let expected = descriptor.size;
        if let Some(found) = response.content_length()
            && found != expected
        {
            return Err(refused(Reason::Length { expected, found }));
        }
        let (mut hasher, mut found) = (Hasher::default(), 0_u64);
        while let Some(chunk) = response
            .chunk()
            .await
            .map_err(|error| refused(failed(error)))?
        {
            found += chunk.len() as u64;
            if found > expected {
                return Err(refused(Reason::Length { expected, found }));
            }
            hasher.update(&chunk);
            sink.write_all(&chunk)
                .map_err(|error| refused(Reason::Write(error)))?;
            progress.advance(chunk.len() as u64);
        }
        if found != expected {
            return Err(refused(Reason::Length { expected, found }));
        }
        let found = hasher.finish();
        if found != descriptor.digest {
            return Err(refused(Reason::Digest {
                expected: descriptor.digest,
                found,
            }));
        }
        Ok(())
    }

    pub(super) fn error(&self, action: &Action, reason: Reason) -> RegistryError {
        RegistryError::new(&self.registry, action.clone(), reason)
    }

    /// `<base>/<repository>/<rest>`.
    pub(super) fn url(
        &self,
        action: &Action,
        reference: &Reference,
        rest: &str,
    ) -> Result<Url, RegistryError> {
        self.base
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
        if !may_lead(&self.base, &location) {
            return Err(self.error(
                action,
                Reason::Location {
                    location: super::http::origin(&location),
                },
            ));
        }
        Ok(location)
    }

    /// Sends a request; answers a 401 once, with what its challenge asks for. Gives only successes.
    pub(super) async fn request(
        &self,
        action: &Action,
        reference: &Reference,
        access: Access,
        request: &Request,
    ) -> Result<Response, RegistryError> {
        let key = (reference.repository().to_owned(), access);
        // An upload may lead to another host: what the registry accepted is not for that one.
        let ours = request.url.origin() == self.base.origin();
        let accepted = if ours {
            self.lock().get(&key).cloned()
        } else {
            None
        };
        let send = async |authorization: Option<&HeaderValue>| {
            self.transport
                .send(request, authorization)
                .await
                .map_err(|reason| self.error(action, reason))
        };
        let mut response = send(accepted.as_ref()).await?;
        // Only the registry's own challenge is answered, never one of a host that it redirected to.
        if response.status() == StatusCode::UNAUTHORIZED
            && ours
            && response.url().origin() == self.base.origin()
        {
            let authorization = self
                .answer(action, &response, &key, accepted.as_ref())
                .await?;
            response = send(Some(&authorization)).await?;
            if response.status() != StatusCode::UNAUTHORIZED {
                self.lock().insert(key, authorization);
            }
        }
        self.successful(action, response).await
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<(String, Access), HeaderValue>> {
        self.accepted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The `Authorization` header that a challenge asks for.
    async fn answer(
        &self,
        action: &Action,
        response: &Response,
        (repository, access): &(String, Access),
        tried: Option<&HeaderValue>,
    ) -> Result<HeaderValue, RegistryError> {
        let challenges: Vec<_> = response
            .headers()
            .get_all(WWW_AUTHENTICATE)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .collect();
        let challenge =
            Challenge::read(&challenges).map_err(|reason| self.error(action, reason))?;
        let unauthorized = || {
            self.error(
                action,
                Reason::Unauthorized {
                    with_credentials: self.credentials.is_some(),
                },
            )
        };
        match challenge {
            Challenge::Basic => {
                let credentials = self.credentials.as_ref().ok_or_else(unauthorized)?;
                let header = credentials.basic();
                // The same user name and password will not do better the second time.
                if tried == Some(&header) {
                    Err(unauthorized())
                } else {
                    Ok(header)
                }
            }
            Challenge::Bearer(bearer) => {
                let url = bearer
                    .token_url(&self.base, repository, *access)
                    .map_err(|reason| self.error(action, reason))?;
                let action = Action::Token(super::http::origin(&url));
                let basic = self.credentials.as_ref().map(Credentials::basic);
                let request = Request::new(Method::GET, url);
                let response = self.transport.send(&request, basic.as_ref()).await;
                let response = response.map_err(|reason| self.error(&action, reason))?;
                let response = self.successful(&action, response).await?;
                let token = body(response, MAX_ANSWER_BYTES)
                    .await
                    .and_then(|bytes| auth::bearer(&bytes));
                token.map_err(|reason| self.error(&action, reason))
            }
        }
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
                StatusCode::UNAUTHORIZED => Reason::Unauthorized {
                    with_credentials: self.credentials.is_some(),
                },
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
            .field("base", &self.base.as_str())
            .finish_non_exhaustive()
    }
}

/// Compares `Docker-Content-Digest` with what came. Of another algorithm it says nothing that is known here.
pub(super) fn check_digest_header(header: Option<&str>, found: Digest) -> Result<(), Reason> {
    match header {
        Some(header) if header.starts_with("sha256:") && header != found.to_string() => {
            Err(Reason::DigestHeader {
                header: header.chars().take(80).collect(),
                found,
            })
        }
        _ => Ok(()),
    }
}

/// The first error of the distribution-spec's envelope, as `CODE: message`, printable and at most 200 characters.
fn said(bytes: &[u8]) -> Option<String> {
    let envelope: OciEnvelope = serde_json::from_slice(bytes).ok()?;
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
        for text in ["", "<html>", "{}", r#"{"errors":[]}"#] {
            assert_eq!(said(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn schemes_and_hosts() {
        let base = |text: &str| {
            Client::new(&text.parse().unwrap(), None)
                .unwrap()
                .base
                .to_string()
        };
        assert_eq!(base("quay.io/a"), "https://quay.io/v2/");
        assert_eq!(base("busybox"), "https://registry-1.docker.io/v2/");
        assert_eq!(base("127.0.0.1:5000/a"), "http://127.0.0.1:5000/v2/");
        assert_eq!(base("[::1]:5000/a"), "http://[::1]:5000/v2/");
        assert_eq!(base("localhost/a"), "http://localhost/v2/");
        assert_eq!(base("10.0.0.1:5000/a"), "https://10.0.0.1:5000/v2/");
    }
}
