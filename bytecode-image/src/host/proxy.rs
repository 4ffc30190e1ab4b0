//! `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY`, read as podman, docker and skopeo read them (Go's `httpproxy`).
//!
//! Own code, though the HTTP library (reqwest 0.13) reads these variables too: it sends requests to loopback through
//! the proxy, knows no `host:port` and no `*.domain` in `NO_PROXY`, lets an empty `HTTP_PROXY` hide `http_proxy`,
//! takes `ALL_PROXY`, and goes to the registry directly when a value cannot be read. Loopback is never proxied here.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use reqwest::Url;

use crate::redact;
use crate::reference::is_loopback_host;

/// The proxies of this process.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Proxies {
    http: Option<ProxyUrl>,
    https: Option<ProxyUrl>,
    direct: Vec<Direct>,
}

/// The address of a proxy. `Debug` and `Display` never show its user name and password.
#[derive(Clone, PartialEq, Eq)]
pub struct ProxyUrl(Url);

impl ProxyUrl {
    /// The whole address, user name and password included: for the HTTP library alone.
    pub fn url(&self) -> &Url {
        &self.0
    }
}

impl fmt::Display for ProxyUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}://{}",
            self.0.scheme(),
            self.0.host_str().unwrap_or_default()
        )?;
        self.0.port().map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

impl fmt::Debug for ProxyUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Why a proxy variable cannot be used. Its value may hold a password, so no message shows it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProxyError {
    /// No URL.
    #[error(
        "{variable} is not the address of a proxy: expected [http://][USER:PASSWORD@]HOST[:PORT]"
    )]
    NotAUrl {
        /// Name of the variable.
        variable: &'static str,
    },
    /// A protocol that is not spoken.
    #[error("{variable} names a proxy by `{scheme}`: expected http, https, socks5 or socks5h")]
    Scheme {
        /// Name of the variable.
        variable: &'static str,
        /// The protocol.
        scheme: String,
    },
}

/// One entry of `NO_PROXY`.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Direct {
    All,
    Network {
        address: IpAddr,
        prefix: u8,
    },
    Address {
        address: IpAddr,
        port: Option<u16>,
    },
    /// A domain: `name` without a leading dot; the domain itself too, or only what is under it.
    Domain {
        name: String,
        itself: bool,
        port: Option<u16>,
    },
}

impl Proxies {
    /// Reads the variables of this process.
    ///
    /// # Errors
    ///
    /// When a proxy's variable holds something else than an address.
    pub fn of_process() -> Result<Self, ProxyError> {
        Self::read(|name| std::env::var(name).ok())
    }

    /// Reads the variables that `variable` gives: upper case first, then lower case; an empty one is none.
    ///
    /// # Errors
    ///
    /// When a proxy's variable holds something else than an address.
    pub fn read(variable: impl Fn(&str) -> Option<String>) -> Result<Self, ProxyError> {
        let first = |names: [&'static str; 2]| {
            names.into_iter().find_map(|name| {
                let value = variable(name)?.trim().to_owned();
                (!value.is_empty()).then_some((name, value))
            })
        };
        let proxy = |names| {
            first(names)
                .map(|(name, value)| proxy_url(name, &value))
                .transpose()
        };
        let direct = first(["NO_PROXY", "no_proxy"])
            .map(|(_, value)| value)
            .unwrap_or_default();
        Ok(Self {
            http: proxy(["HTTP_PROXY", "http_proxy"])?,
            https: proxy(["HTTPS_PROXY", "https_proxy"])?,
            direct: direct
                .split(',')
                .filter_map(|entry| Direct::parse(entry.trim()))
                .collect(),
        })
    }

    /// The proxy for a request to `url`; `None` means directly.
    pub fn of(&self, url: &Url) -> Option<&ProxyUrl> {
        let proxy = match url.scheme() {
            "http" => self.http.as_ref(),
            "https" => self.https.as_ref(),
            _ => None,
        }?;
        let host = url.host_str()?;
        let port = url.port_or_known_default()?;
        let direct =
            is_loopback_host(host) || self.direct.iter().any(|entry| entry.covers(host, port));
        (!direct).then_some(proxy)
    }

    /// The same for the HTTP library: every redirect is asked for anew. `None` where no proxy is set.
    pub fn into_reqwest(self) -> Option<reqwest::Proxy> {
        if self.http.is_none() && self.https.is_none() {
            return None;
        }
        let proxies = Arc::new(self);
        Some(reqwest::Proxy::custom(move |url| {
            proxies.of(url).map(|proxy| proxy.url().clone())
        }))
    }
}

fn proxy_url(variable: &'static str, value: &str) -> Result<ProxyUrl, ProxyError> {
    let text = if value.contains("://") {
        value.to_owned()
    } else {
        format!("http://{value}")
    };
    remember_password(&text);
    let url = Url::parse(&text).map_err(|_| ProxyError::NotAUrl { variable })?;
    if !matches!(url.scheme(), "http" | "https" | "socks5" | "socks5h") {
        return Err(ProxyError::Scheme {
            variable,
            scheme: url.scheme().to_owned(),
        });
    }
    if url.host_str().is_none_or(str::is_empty) {
        return Err(ProxyError::NotAUrl { variable });
    }
    Ok(ProxyUrl(url))
}

/// The password of an address, whether or not the whole of it can be used.
fn remember_password(text: &str) {
    let rest = text.split_once("://").map_or(text, |(_, rest)| rest);
    if let Some((userinfo, _)) = rest.rsplit_once('@') {
        match userinfo.split_once(':') {
            Some((user, password)) => {
                redact::add_login(user, password);
                // A proxy is shown what the escapes stand for.
                if let Ok(url) =
                    Url::parse(&format!("form:?{}={}", user, password.replace('+', "%2B")))
                {
                    for (user, password) in url.query_pairs() {
                        redact::add_login(&user, &password);
                    }
                }
            }
            None => redact::add(userinfo),
        }
    }
}

impl Direct {
    /// `None` for an entry that covers nothing, which Go passes over too.
    fn parse(entry: &str) -> Option<Self> {
        let entry = entry.to_ascii_lowercase();
        if entry == "*" {
            return Some(Self::All);
        }
        if let Some((address, prefix)) = entry.split_once('/') {
            let address: IpAddr = address.parse().ok()?;
            let prefix: u8 = prefix.parse().ok()?;
            let bits = if address.is_ipv4() { 32 } else { 128 };
            return (prefix <= bits).then_some(Self::Network { address, prefix });
        }
        // A bare IPv6 address has colons of its own.
        if let Ok(address) = entry.parse() {
            return Some(Self::Address {
                address,
                port: None,
            });
        }
        let (host, port) = match entry.rsplit_once(':') {
            Some((host, digits)) if !host.ends_with(':') && !digits.ends_with(']') => {
                (host, Some(digits.parse().ok()?))
            }
            _ => (&*entry, None),
        };
        if let Ok(address) = unbracketed(host).parse() {
            return Some(Self::Address { address, port });
        }
        let host = host
            .strip_prefix('*')
            .filter(|rest| rest.starts_with('.'))
            .unwrap_or(host);
        let (name, itself) = host
            .strip_prefix('.')
            .map_or((host, true), |name| (name, false));
        (!name.is_empty()).then(|| Self::Domain {
            name: name.to_owned(),
            itself,
            port,
        })
    }

    /// Whether a request to `host` (an IPv6 address in brackets) and `port` goes directly.
    fn covers(&self, host: &str, port: u16) -> bool {
        let address = || unbracketed(host).parse::<IpAddr>().ok();
        match self {
            Self::All => true,
            Self::Network {
                address: network,
                prefix,
            } => address().is_some_and(|address| in_network(address, *network, *prefix)),
            Self::Address {
                address: entry,
                port: only,
            } => address() == Some(*entry) && only.is_none_or(|only| only == port),
            Self::Domain {
                name,
                itself,
                port: only,
            } => {
                let host = host.to_ascii_lowercase();
                let host = host.strip_suffix('.').unwrap_or(&host);
                let under = || {
                    host.strip_suffix(name.as_str())
                        .is_some_and(|rest| rest.ends_with('.'))
                };
                ((*itself && host == name) || under()) && only.is_none_or(|only| only == port)
            }
        }
    }
}

fn unbracketed(host: &str) -> &str {
    host.strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(host)
}

/// Whether the first `prefix` bits of two addresses of one family are the same.
fn in_network(address: IpAddr, network: IpAddr, prefix: u8) -> bool {
    let (difference, bits) = match (address, network) {
        (IpAddr::V4(a), IpAddr::V4(b)) => (u128::from(a.to_bits() ^ b.to_bits()), 32_u32),
        (IpAddr::V6(a), IpAddr::V6(b)) => (a.to_bits() ^ b.to_bits(), 128),
        _ => return false,
    };
    // All bits after the prefix may differ; a shift by all 128 bits leaves nothing that may not.
    difference
        .checked_shr(bits.saturating_sub(u32::from(prefix)))
        .unwrap_or(0)
        == 0
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Names and values.
    type Variables<'a> = &'a [(&'a str, &'a str)];

    fn read(variables: Variables<'_>) -> Result<Proxies, ProxyError> {
        Proxies::read(|name| {
            variables
                .iter()
                .find(|(key, _)| *key == name)
                .map(|(_, value)| (*value).to_owned())
        })
    }

    fn of(variables: Variables<'_>, url: &str) -> Option<String> {
        read(variables)
            .unwrap()
            .of(&url.parse().unwrap())
            .map(ToString::to_string)
    }

    #[test]
    fn which_variable_counts() {
        let cases: [(Variables<'_>, &str, Option<&str>); 12] = [
            (&[], "https://quay.io/v2/", None),
            (
                &[("HTTPS_PROXY", "p:3128")],
                "https://quay.io/v2/",
                Some("http://p:3128"),
            ),
            (&[("HTTPS_PROXY", "p:3128")], "http://quay.io/v2/", None),
            (
                &[("HTTP_PROXY", "http://p:3128/x")],
                "http://quay.io/v2/",
                Some("http://p:3128"),
            ),
            (
                &[("https_proxy", "https://p")],
                "https://quay.io/v2/",
                Some("https://p"),
            ),
            (
                &[("HTTPS_PROXY", ""), ("https_proxy", "p:1")],
                "https://quay.io/v2/",
                Some("http://p:1"),
            ),
            (
                &[("HTTPS_PROXY", "a:1"), ("https_proxy", "b:1")],
                "https://quay.io/v2/",
                Some("http://a:1"),
            ),
            (
                &[("HTTPS_PROXY", "socks5h://p:1080")],
                "https://quay.io/v2/",
                Some("socks5h://p:1080"),
            ),
            (&[("ALL_PROXY", "p:1")], "https://quay.io/v2/", None),
            (&[("HTTP_PROXY", "p:1")], "http://localhost:5000/v2/", None),
            (&[("HTTP_PROXY", "p:1")], "http://127.3.2.1:5000/v2/", None),
            (&[("HTTP_PROXY", "p:1")], "http://[::1]:5000/v2/", None),
        ];
        for (variables, url, expected) in cases {
            assert_eq!(
                of(variables, url).as_deref(),
                expected,
                "{variables:?} {url}"
            );
        }
    }

    #[test]
    fn what_goes_directly() {
        let cases = [
            ("quay.io", "https://quay.io/", true),
            ("quay.io", "https://cdn.QUAY.io/", true),
            ("quay.io", "https://notquay.io/", false),
            (".quay.io", "https://cdn.quay.io/", true),
            (".quay.io", "https://quay.io/", false),
            ("*.quay.io", "https://a.b.quay.io/", true),
            ("*.quay.io", "https://quay.io/", false),
            ("quay.io:443", "https://quay.io/", true),
            ("quay.io:8443", "https://quay.io/", false),
            ("quay.io:8443", "https://quay.io:8443/", true),
            ("quay.io:x", "https://quay.io/", false),
            ("a.io , quay.io", "https://quay.io/", true),
            ("*", "https://quay.io/", true),
            ("io", "https://quay.io/", true),
            ("", "https://quay.io/", false),
            (",,.,:", "https://quay.io/", false),
            ("10.0.0.0/8", "https://10.1.2.3:5000/", true),
            ("10.0.0.0/8", "https://11.1.2.3:5000/", false),
            ("10.0.0.0/8", "https://10.example.com/", false),
            ("10.0.0.0/33", "https://10.0.0.0/", false),
            ("0.0.0.0/0", "https://9.9.9.9/", true),
            ("0.0.0.0/0", "https://[fd00::1]/", false),
            ("10.1.2.3", "https://10.1.2.3:5000/", true),
            ("10.1.2.3:443", "https://10.1.2.3:5000/", false),
            ("10.1.2.3:5000", "https://10.1.2.3:5000/", true),
            ("fd00::1", "https://[fd00::1]:5000/", true),
            ("[fd00::1]", "https://[fd00::1]:5000/", true),
            ("[fd00::1]:5000", "https://[fd00::1]:5000/", true),
            ("[fd00::1]:5001", "https://[fd00::1]:5000/", false),
            ("fd00::/16", "https://[fd00::1]:5000/", true),
            ("fd00::/16", "https://[fd01::1]:5000/", false),
            ("::/0", "https://[fd01::1]:5000/", true),
        ];
        for (no_proxy, url, direct) in cases {
            let proxy = of(&[("HTTPS_PROXY", "p:1"), ("NO_PROXY", no_proxy)], url);
            assert_eq!(proxy.is_none(), direct, "NO_PROXY={no_proxy} {url}");
        }
    }

    #[test]
    fn secrets_are_not_shown() {
        let proxies = read(&[("HTTPS_PROXY", "http://user:S3CR3T@p:3128")]).unwrap();
        let shown = format!("{proxies:?}");
        assert!(
            shown.contains("http://p:3128") && !shown.contains("S3CR3T") && !shown.contains("user"),
            "{shown}"
        );
        let proxy = proxies.of(&"https://quay.io/".parse().unwrap()).unwrap();
        assert_eq!(proxy.to_string(), "http://p:3128");
        assert_eq!(proxy.url().password(), Some("S3CR3T"));
        for value in [
            "http://user:S3CR3T@",
            "http://user:S3CR3T@p:99999",
            "ftp://user:S3CR3T@p",
            "://S3CR3T",
        ] {
            let error = read(&[("HTTPS_PROXY", value)]).unwrap_err();
            let shown = format!("{error} {error:?}");
            assert!(
                shown.contains("HTTPS_PROXY") && !shown.contains("S3CR3T"),
                "{shown}"
            );
        }
    }

    #[test]
    fn none_set_needs_no_proxy_at_all() {
        assert!(read(&[("NO_PROXY", "*")]).unwrap().into_reqwest().is_none());
        assert!(
            read(&[("http_proxy", "p:1")])
                .unwrap()
                .into_reqwest()
                .is_some()
        );
    }

    proptest! {
        #[test]
        fn never_panics(proxy in "\\PC{0,40}", direct in "[a-z0-9.:/*,\\[\\] ]{0,40}", host in "[a-z0-9.]{1,20}") {
            if let Ok(proxies) = read(&[("HTTPS_PROXY", &proxy), ("NO_PROXY", &direct)])
                && let Ok(url) = format!("https://{host}/").parse()
            {
                let _ = proxies.of(&url);
            }
        }
    }
}
