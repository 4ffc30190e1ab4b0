//! Image references: `[registry/]repository[:tag][@digest]`.
//!
//! The grammar is the one of the distribution project's `reference` package; the defaults are those of containers
//! tools: registry `docker.io`, its official images under `library/`, tag `latest` where there is neither tag nor digest.
//! The parser is our own because the ones of the registry crates compile regular expressions at their first call
//! (about 70 ms, several times what a whole pull takes).

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use reqwest::Url;

use crate::digest::{Digest, DigestError};
use crate::limits::MAX_REFERENCE_BYTES;

/// The registry of references that name none.
const DEFAULT_REGISTRY: &str = "docker.io";

/// Names of the default registry that older references use.
const DEFAULT_REGISTRY_ALIASES: [&str; 2] = ["index.docker.io", "registry-1.docker.io"];

/// Longest repository, in bytes (distribution `NameTotalLengthMax`).
const MAX_REPOSITORY_BYTES: usize = 255;

/// Longest tag, in bytes (distribution-spec, "Pulling manifests").
const MAX_TAG_BYTES: usize = 128;

/// A whole reference: every default is filled in and every part has one spelling, so that two that mean the same are
/// equal, as values and as texts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// Why a text is not a reference.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReferenceError {
    /// Nothing at all, or nothing where the repository belongs.
    #[error("the image reference names no repository: expected [REGISTRY/]NAME[:TAG][@sha256:…]")]
    Empty,
    /// Longer than [`MAX_REFERENCE_BYTES`], or a repository longer than 255 bytes.
    #[error("the image reference has a part of {found} bytes: at most {limit} are allowed")]
    TooLong {
        /// Bytes found.
        found: usize,
        /// Bytes allowed.
        limit: usize,
    },
    /// `https://…`.
    #[error("`{reference}` is a URL: an image reference has no `{scheme}://`")]
    Url {
        /// The whole text.
        reference: String,
        /// What stands before `://`.
        scheme: String,
    },
    /// A host name, address or port that cannot be.
    #[error(
        "`{registry}` in `{reference}` is not a registry: expected HOST, HOST:PORT or [IPv6]:PORT"
    )]
    Registry {
        /// The whole text.
        reference: String,
        /// The part that is wrong.
        registry: String,
    },
    /// A repository with a capital letter, which the grammar does not have.
    #[error(
        "repository `{repository}` in `{reference}` has a capital letter: repositories are lower case"
    )]
    UpperCase {
        /// The whole text.
        reference: String,
        /// The part that is wrong.
        repository: String,
    },
    /// Any other character or separator out of place.
    #[error(
        "`{repository}` in `{reference}` is not a repository: expected letters, digits and single `.`, `_`, `-` between them, in parts divided by `/`"
    )]
    Repository {
        /// The whole text.
        reference: String,
        /// The part that is wrong.
        repository: String,
    },
    /// A tag that cannot be.
    #[error(
        "`{tag}` in `{reference}` is not a tag: expected at most 128 letters, digits, `_`, `.`, `-`, the first not `.` or `-`"
    )]
    Tag {
        /// The whole text.
        reference: String,
        /// The part that is wrong.
        tag: String,
    },
    /// What follows the `@` is not a digest.
    #[error("in the image reference `{reference}`")]
    Digest {
        /// The whole text.
        reference: String,
        /// What is wrong with it.
        #[source]
        source: DigestError,
    },
}

impl Reference {
    /// Host and port, spelled the one way that all spellings of them have: `quay.io`, `127.0.0.1:5000`, `[::1]:5000`,
    /// `docker.io`.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// Path in the registry, without registry, tag and digest: `library/busybox`.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag, `latest` where the text had neither tag nor digest.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest. Where there is one it decides, and the tag only says where it came from.
    pub fn digest(&self) -> Option<Digest> {
        self.digest
    }

    /// The same repository by digest alone: what names an image once it is resolved.
    #[must_use]
    pub fn with_digest(&self, digest: Digest) -> Self {
        Self {
            registry: self.registry.clone(),
            repository: self.repository.clone(),
            tag: None,
            digest: Some(digest),
        }
    }

    /// `registry/repository`, without tag and digest: what scopes of policies and pushed digests are written with.
    pub fn name(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }

    /// Host and port that answer for the registry: `registry-1.docker.io` for `docker.io`, else the registry itself.
    pub fn api_host(&self) -> &str {
        if self.registry == DEFAULT_REGISTRY {
            "registry-1.docker.io"
        } else {
            &self.registry
        }
    }

    /// Whether the registry is this machine: `localhost`, `127.0.0.0/8`, `::1`. Only these may speak plain http.
    pub fn is_loopback(&self) -> bool {
        split_host(&self.registry).is_some_and(|(host, _)| is_loopback_host(host))
    }
}

/// What was typed, without tag and digest, when it names no registry (`busybox`, `acme/xdp`): a short name, which
/// `registries.conf` can give a meaning. `None` when a registry stands in front.
pub fn short_name(typed: &str) -> Option<&str> {
    let name = typed.split('@').next().unwrap_or(typed);
    if let Some((first, _)) = name.split_once('/')
        && is_registry_part(first)
    {
        return None;
    }
    let path = name.rfind('/').map_or(0, |slash| slash + 1);
    let tag = name.get(path..)?.find(':').map(|colon| path + colon);
    name.get(..tag.unwrap_or(name.len()))
}

/// Whether the part before the first `/` is a host: it has a dot or a port, or is localhost.
fn is_registry_part(first: &str) -> bool {
    first == "localhost" || first.contains(['.', ':', '['])
}

/// Whether a host (an IPv6 address with or without brackets) is this machine.
pub(crate) fn is_loopback_host(host: &str) -> bool {
    let address = host
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(host);
    address.eq_ignore_ascii_case("localhost")
        || address
            .parse::<IpAddr>()
            .is_ok_and(|address| match address {
                IpAddr::V4(address) => Ipv4Addr::is_loopback(&address),
                IpAddr::V6(address) => Ipv6Addr::is_loopback(&address),
            })
}

/// Host (brackets kept) and port of `host`, `host:port`, `[ipv6]`, `[ipv6]:port`; `None` when it is none of them.
fn split_host(registry: &str) -> Option<(&str, Option<u16>)> {
    let (host, port) = if registry.starts_with('[') {
        let end = registry.find(']')?;
        let (host, rest) = registry.split_at_checked(end + 1)?;
        host.strip_prefix('[')?
            .strip_suffix(']')?
            .parse::<Ipv6Addr>()
            .ok()?;
        match rest {
            "" => (host, None),
            rest => (host, Some(rest.strip_prefix(':')?)),
        }
    } else {
        let (host, port) = match registry.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (registry, None),
        };
        let label = |label: &str| {
            !label.is_empty()
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b == b'-')
        };
        if !host.split('.').all(label) {
            return None;
        }
        (host, port)
    };
    match port {
        None => Some((host, None)),
        Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => match digits.parse::<u16>() {
            Ok(port) if port > 0 => Some((host, Some(port))),
            _ => None,
        },
        Some(_) => None,
    }
}

/// A registry spelled the one way that is kept and compared: lower case (RFC 3986, 3.2.2), the port without zeros in
/// front, an IPv6 address in its shortest form, the default registry by its own name. Two spellings that reach one server
/// must not be two registries to a policy, so a host that a URL would spell otherwise (`10.1` is `10.0.0.1` there) is none.
fn canonical(registry: &str) -> Option<String> {
    let lower = registry.to_ascii_lowercase();
    let (host, port) = split_host(&lower)?;
    let url = Url::parse(&format!("https://{host}/")).ok()?;
    let spelled = url.host_str()?;
    if spelled != host && !host.starts_with('[') {
        return None;
    }
    if matches!(port, None | Some(443))
        && (host == DEFAULT_REGISTRY || DEFAULT_REGISTRY_ALIASES.contains(&host))
    {
        return Some(DEFAULT_REGISTRY.to_owned());
    }
    Some(match port {
        Some(port) => format!("{spelled}:{port}"),
        None => spelled.to_owned(),
    })
}

/// One part of a repository: letters and digits, between them one `.`, one or two `_`, or any number of `-`.
fn is_path_component(component: &str) -> bool {
    let alphanumeric = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let mut separator = String::new();
    let mut any = false;
    for b in component.bytes() {
        if alphanumeric(b) {
            let between = separator.is_empty()
                || (any
                    && (matches!(separator.as_str(), "." | "_" | "__")
                        || separator.bytes().all(|b| b == b'-')));
            if !between {
                return false;
            }
            separator.clear();
            any = true;
        } else if matches!(b, b'.' | b'_' | b'-') {
            separator.push(char::from(b));
        } else {
            return false;
        }
    }
    any && separator.is_empty()
}

fn is_tag(tag: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    tag.len() <= MAX_TAG_BYTES
        && tag.bytes().next().is_some_and(word)
        && tag.bytes().all(|b| word(b) || matches!(b, b'.' | b'-'))
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.is_empty() {
            return Err(ReferenceError::Empty);
        }
        if text.len() > MAX_REFERENCE_BYTES {
            return Err(ReferenceError::TooLong {
                found: text.len(),
                limit: MAX_REFERENCE_BYTES,
            });
        }
        let reference = || text.to_owned();
        if let Some((scheme, _)) = text.split_once("://") {
            return Err(ReferenceError::Url {
                reference: reference(),
                scheme: scheme.to_owned(),
            });
        }
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => {
                let digest = Digest::parse(digest).map_err(|source| ReferenceError::Digest {
                    reference: reference(),
                    source,
                })?;
                (rest, Some(digest))
            }
            None => (text, None),
        };
        let (registry, path) = match rest.split_once('/') {
            Some((first, path)) if is_registry_part(first) => (first, path),
            _ => (DEFAULT_REGISTRY, rest),
        };
        let Some(registry) = canonical(registry) else {
            return Err(ReferenceError::Registry {
                reference: reference(),
                registry: registry.to_owned(),
            });
        };
        let (path, tag) = match path.rsplit_once(':') {
            Some((path, tag)) => (path, Some(tag)),
            None => (path, None),
        };
        if let Some(tag) = tag
            && !is_tag(tag)
        {
            return Err(ReferenceError::Tag {
                reference: reference(),
                tag: tag.to_owned(),
            });
        }
        if path.is_empty() {
            return Err(ReferenceError::Empty);
        }
        if !path.split('/').all(is_path_component) {
            let repository = path.to_owned();
            return Err(
                if path
                    .split('/')
                    .all(|part| is_path_component(&part.to_ascii_lowercase()))
                {
                    ReferenceError::UpperCase {
                        reference: reference(),
                        repository,
                    }
                } else {
                    ReferenceError::Repository {
                        reference: reference(),
                        repository,
                    }
                },
            );
        }
        let repository = if registry == DEFAULT_REGISTRY && !path.contains('/') {
            format!("library/{path}")
        } else {
            path.to_owned()
        };
        if repository.len() > MAX_REPOSITORY_BYTES {
            return Err(ReferenceError::TooLong {
                found: repository.len(),
                limit: MAX_REPOSITORY_BYTES,
            });
        }
        let tag = match (tag, digest) {
            (Some(tag), _) => Some(tag.to_owned()),
            (None, None) => Some("latest".to_owned()),
            (None, Some(_)) => None,
        };
        Ok(Self {
            registry,
            repository,
            tag,
            digest,
        })
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
