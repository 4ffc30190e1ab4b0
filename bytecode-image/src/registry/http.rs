use std::sync::OnceLock;
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue, LOCATION};
use reqwest::{Method, Response, Url};

use crate::reference::is_loopback_host;
use crate::registry::Reason;

/// How long a connection may take to be made: 10 s, enough for a second SYN to be answered from the other side of the world.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long nothing may come, neither an answer nor the next bytes of one: 30 s, what busy registries take at worst.
pub const READ_TIMEOUT: Duration = Duration::from_secs(30);

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

/// Connections. Two clients, each made when it is first needed: plain http needs no certificates, and reading the
/// host's takes longer than a small pull.
#[derive(Debug, Default)]
pub(super) struct Transport {
    plain: OnceLock<reqwest::Client>,
    tls: OnceLock<reqwest::Client>,
}

impl Transport {
    fn client(&self, url: &Url) -> Result<&reqwest::Client, Reason> {
        let secure = url.scheme() == "https";
        let slot = if secure { &self.tls } else { &self.plain };
        if let Some(client) = slot.get() {
            return Ok(client);
        }
        // Fails when there is a provider already, which then is used.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("bpfman/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(READ_TIMEOUT)
            // Followed in `send`, by rules that a policy of the library cannot express.
            .redirect(reqwest::redirect::Policy::none())
            .http1_only()
            .no_proxy();
        if !secure {
            builder = builder.tls_certs_only(std::iter::empty());
        }
        let client = builder
            .build()
            .map_err(|error| Reason::Transfer(error.without_url()))?;
        Ok(slot.get_or_init(|| client))
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

/// Whether a request may go on from one URL to another: to https always, to plain http only on loopback and from
/// plain http.
pub(super) fn may_lead(from: &Url, to: &Url) -> bool {
    match to.scheme() {
        "https" => true,
        "http" => from.scheme() == "http" && to.host_str().is_some_and(is_loopback_host),
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
    if error.is_timeout() {
        Reason::Timeout(error)
    } else if error.is_connect() {
        Reason::Connect(error)
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
