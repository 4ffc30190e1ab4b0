use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue, LOCATION};
use reqwest::{ClientBuilder, Method, Response, Url};

use crate::host::registries_conf::Endpoint;
use crate::redact;
use crate::reference::is_loopback_host;
use crate::registry::Reason;
use crate::registry::patience::tls_error;
use crate::registry::reach::Reach;
use crate::registry::tls;

/// How many redirects of one request are followed: 10, as Go's library does. Registries send one, to where their blobs are.
pub const MAX_REDIRECTS: usize = 10;

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

    fn secure(&self, builder: ClientBuilder, registry: bool) -> Result<ClientBuilder, Reason> {
        let found = self.reach.certificates(&self.endpoint.reference)?;
        let mut clients = found.clients.iter();
        let identity = clients.next().filter(|_| registry);
        let config = tls::config(&found, self.endpoint.insecure, identity)?;
        if let (Some(used), Some(other)) = (identity, clients.next()) {
            log::warn!(
                "{} has more than one client certificate: {} is used, {} is not",
                self.endpoint.reference.registry(),
                used.certificate.file.display(),
                other.certificate.file.display()
            );
        }
        Ok(builder.tls_backend_preconfigured(config))
    }

    /// Sends a request and follows its redirects: all of GET and HEAD, those of other methods that keep the method
    /// (307 and 308). `authorization` goes to the origin of the request's URL and to no other.
    pub(super) async fn send(
        &self,
        request: &Request,
        authorization: Option<&HeaderValue>,
    ) -> Result<Response, Reason> {
        let mut url = request.url.clone();
        let mut visited = vec![url.clone()];
        loop {
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
            let followed = match response.status().as_u16() {
                307 | 308 => true,
                301..=303 => matches!(request.method, Method::GET | Method::HEAD),
                _ => false,
            };
            if !followed {
                return Ok(response);
            }
            let mut next = header(&response, LOCATION.as_str())
                .and_then(|location| url.join(location).ok())
                .ok_or(Reason::Header { name: "Location" })?;
            remember_secrets(&next);
            // The client would send the user name and password of a URL, which a server has no say in.
            let bare = next.set_username("").and_then(|()| next.set_password(None));
            if bare.is_err() || !may_lead(&url, &next) {
                return Err(Reason::Redirect { to: origin(&next) });
            }
            let upgrade = url.scheme() == "http"
                && next.scheme() == "https"
                && url.host_str() == next.host_str()
                && url.port() == next.port();
            if upgrade {
                return Err(Reason::Upgrade);
            }
            if visited.contains(&next) {
                return Err(Reason::RedirectLoop { to: origin(&next) });
            }
            if visited.len() > MAX_REDIRECTS {
                return Err(Reason::Redirects {
                    limit: MAX_REDIRECTS,
                });
            }
            visited.push(next.clone());
            url = next;
        }
    }
}

/// Keeps what a URL grants out of messages: the server that it leads to may echo it.
pub(super) fn remember_secrets(url: &Url) {
    const GRANTS: [&str; 7] = [
        "sig",
        "token",
        "secret",
        "credential",
        "key",
        "auth",
        "pass",
    ];
    if let Some(password) = url.password() {
        redact::add_login(url.username(), password);
    }
    for (key, value) in url.query_pairs() {
        let key = key.to_ascii_lowercase();
        if value.len() >= 8 && GRANTS.iter().any(|word| key.contains(word)) {
            redact::add(&value);
        }
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
    if let Some(source) = tls_error(&error)
        && matches!(
            source,
            rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented
        )
    {
        let source = source.clone();
        return Reason::Certificate(source);
    }
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
