use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue, LOCATION};
use reqwest::{Certificate, ClientBuilder, Identity, Method, Response, Url};

use crate::host::registries_conf::Endpoint;
use crate::reference::is_loopback_host;
use crate::registry::Reason;
use crate::registry::reach::{Reach, ReachError};

/// How many redirects of one request are followed: 5. Registries send one, to where their blobs are.
pub const MAX_REDIRECTS: usize = 5;

/// One request, kept whole so that it can be sent again with credentials.
#[derive(Debug, Clone)]
pub(super) struct Request {
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) headers: HeaderMap,
    pub(super) body: Option<Bytes>,
}

impl Request {
    pub(super) fn new(method: Method, url: Url) -> Self {
        Self {
            method,
            url,
            headers: HeaderMap::new(),
            body: None,
        }
    }

    pub(super) fn header(mut self, name: reqwest::header::HeaderName, value: HeaderValue) -> Self {
        self.headers.append(name, value);
        self
    }

    pub(super) fn body(mut self, body: Bytes) -> Self {
        self.body = Some(body);
        self
    }
}

/// Connections. Clients are made when they are first needed: plain http needs no certificates, and reading the host's
/// takes longer than a small pull.
#[derive(Debug)]
pub(super) struct Transport {
    reach: Arc<Reach>,
    endpoint: Endpoint,
    plain: OnceLock<reqwest::Client>,
    /// For the registry itself: its certificates, ours, and what it may be without.
    tls: OnceLock<reqwest::Client>,
    /// For where it redirects to, and for token services: its authorities are good there too, and so is what nobody
    /// vouches for where the registry is marked insecure, as for containers tools.
    elsewhere: OnceLock<reqwest::Client>,
}

impl Transport {
    pub(super) fn new(reach: Arc<Reach>, endpoint: Endpoint) -> Self {
        Self {
            reach,
            endpoint,
            plain: OnceLock::new(),
            tls: OnceLock::new(),
            elsewhere: OnceLock::new(),
        }
    }

    fn client(&self, url: &Url) -> Result<&reqwest::Client, Reason> {
        let (slot, tls) = match (url.scheme(), self.is_registry(url)) {
            ("https", true) => (&self.tls, Some(true)),
            ("https", false) => (&self.elsewhere, Some(false)),
            _ => (&self.plain, None),
        };
        if let Some(client) = slot.get() {
            return Ok(client);
        }
        // Fails when there is a provider already, which then is used.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let patience = self.reach.patience();
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("bpfman/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(patience.connect)
            .read_timeout(patience.read)
            // Followed in `send`, by rules that a policy of the library cannot express.
            .redirect(reqwest::redirect::Policy::none())
            .http1_only();
        builder = match self.reach.proxies()?.into_reqwest() {
            Some(proxy) => builder.proxy(proxy),
            None => builder.no_proxy(),
        };
        builder = match tls {
            Some(registry) => self.secure(builder, registry)?,
            None => builder.tls_certs_only(std::iter::empty()),
        };
        let client = builder
            .build()
            .map_err(|error| Reason::Transfer(error.without_url()))?;
        Ok(slot.get_or_init(|| client))
    }

    /// Whether a URL leads to the host and port of the registry.
    fn is_registry(&self, url: &Url) -> bool {
        let registry = Url::parse(&format!("https://{}/", self.endpoint.reference.api_host()));
        registry.is_ok_and(|registry| {
            registry.host_str() == url.host_str()
                && registry.port_or_known_default() == url.port_or_known_default()
        })
    }

    fn secure(&self, mut builder: ClientBuilder, registry: bool) -> Result<ClientBuilder, Reason> {
        let found = self.reach.certificates(&self.endpoint.reference)?;
        for authority in &found.authorities {
            let certificates =
                Certificate::from_pem_bundle(&authority.pem).map_err(|source| ReachError::Pem {
                    file: authority.file.clone(),
                    source,
                })?;
            builder = builder.tls_certs_merge(certificates);
        }
        if self.endpoint.insecure {
            builder = builder.tls_danger_accept_invalid_certs(true);
        }
        if !registry {
            return Ok(builder);
        }
        let mut clients = found.clients.iter();
        if let Some(pair) = clients.next() {
            let mut pem = pair.certificate.pem.clone();
            pem.push(b'\n');
            pem.extend_from_slice(&pair.key_pem);
            let identity = Identity::from_pem(&pem).map_err(|source| ReachError::Pem {
                file: pair.certificate.file.clone(),
                source,
            })?;
            builder = builder.identity(identity);
        }
        if let Some(other) = clients.next() {
            log::warn!(
                "{} has more than one client certificate: {} is used, {} is not",
                self.endpoint.reference.registry(),
                found
                    .clients
                    .first()
                    .map(|pair| pair.certificate.file.display().to_string())
                    .unwrap_or_default(),
                other.certificate.file.display()
            );
        }
        Ok(builder)
    }

    /// Sends a request and follows redirects of GET and HEAD. `authorization` goes to the origin of the request's URL
    /// and to no other.
    pub(super) async fn send(
        &self,
        request: &Request,
        authorization: Option<&HeaderValue>,
    ) -> Result<Response, Reason> {
        let mut url = request.url.clone();
        for _ in 0..=MAX_REDIRECTS {
            let client = self.client(&url)?;
            let mut sent = client
                .request(request.method.clone(), url.clone())
                .headers(request.headers.clone());
            if let Some(authorization) = authorization
                && url.origin() == request.url.origin()
            {
                sent = sent.header(AUTHORIZATION, authorization.clone());
            }
            if let Some(body) = &request.body {
                sent = sent.body(body.clone());
            }
            let response = sent.send().await.map_err(failed)?;
            let followed = matches!(request.method, Method::GET | Method::HEAD)
                && [301, 302, 303, 307, 308].contains(&response.status().as_u16());
            if !followed {
                return Ok(response);
            }
            let next = header(&response, LOCATION.as_str())
                .and_then(|location| url.join(location).ok())
                .ok_or(Reason::Header { name: "Location" })?;
            if !may_lead(&url, &next) {
                return Err(Reason::Redirect { to: origin(&next) });
            }
            url = next;
        }
        Err(Reason::Redirects {
            limit: MAX_REDIRECTS,
        })
    }
}

/// Whether a request may go on from one URL to another: to https always; to plain http only from plain http, and there
/// to loopback or to the same host and port.
pub(super) fn may_lead(from: &Url, to: &Url) -> bool {
    match to.scheme() {
        "https" => true,
        "http" => {
            from.scheme() == "http"
                && (from.origin() == to.origin() || to.host_str().is_some_and(is_loopback_host))
        }
        _ => false,
    }
}

/// Scheme, host and port: what may be shown of a URL whose query can hold a signature.
pub(super) fn origin(url: &Url) -> String {
    url.origin().ascii_serialization()
}

/// A header that is plain text.
pub(super) fn header<'a>(response: &'a Response, name: &str) -> Option<&'a str> {
    response
        .headers()
        .get(name)
        .and_then(|value| value.to_str().ok())
}

/// The reason behind an error of the transport, without the URL: it can hold a signature.
pub(super) fn failed(error: reqwest::Error) -> Reason {
    let error = error.without_url();
    // A connection that took too long to be made is none, and is tried again as such.
    if error.is_connect() {
        Reason::Connect(error)
    } else if error.is_timeout() {
        Reason::Timeout(error)
    } else {
        Reason::Transfer(error)
    }
}

/// Reads a whole answer into memory, up to a cap.
pub(super) async fn body(mut response: Response, limit: u64) -> Result<Vec<u8>, Reason> {
    if let Some(found) = response.content_length()
        && found > limit
    {
        return Err(Reason::TooLarge {
            found: Some(found),
            limit,
        });
    }
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(failed)? {
        if bytes.len() as u64 + chunk.len() as u64 > limit {
            return Err(Reason::TooLarge { found: None, limit });
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_requests_may_lead() {
        let cases = [
            ("https://a.example/", "https://b.example/", true),
            ("http://127.0.0.1:5000/", "https://b.example/", true),
            ("http://127.0.0.1:5000/", "http://127.0.0.2:80/", true),
            ("http://localhost/", "http://[::1]/", true),
            ("http://127.0.0.1/", "http://b.example/", false),
            ("http://a.example:5000/", "http://a.example:5000/b", true),
            ("http://a.example:5000/", "http://a.example/b", false),
            ("http://a.example:5000/", "http://b.example:5000/", false),
            ("http://127.0.0.1/", "http://127.0.0.1.b.example/", false),
            ("https://a.example/", "http://a.example/", false),
            ("https://a.example/", "http://127.0.0.1/", false),
            ("https://a.example/", "file:///etc/passwd", false),
        ];
        for (from, to, expected) in cases {
            assert_eq!(
                may_lead(&from.parse().unwrap(), &to.parse().unwrap()),
                expected,
                "{from} {to}"
            );
        }
    }
}
