//! Scopes of policies: which images a policy is about.

use std::fmt;

use crate::reference::Reference;

/// The default registry under the names that references may also give it (docker's `index.docker.io` is the oldest).
const DOCKER_HUB: [&str; 2] = ["index.docker.io", "registry-1.docker.io"];

/// Which images a policy is about: every image, a registry, or a path in one down to a repository's whole name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Scope(Option<String>);

/// A text that no image can be in the scope of.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{found}` is not a scope: expected REGISTRY, REGISTRY/PATH, REGISTRY/PATH/NAME or *")]
pub struct ScopeError {
    /// The text.
    pub found: String,
}

impl Scope {
    /// Every image (`*`).
    pub const EVERYTHING: Self = Self(None);

    /// Reads `*`, or a registry (host with or without port) and the parts of a path that follow it.
    ///
    /// # Errors
    ///
    /// When no image could be in it: an empty part, a tag, a digest, a `*` inside.
    pub fn parse(text: &str) -> Result<Self, ScopeError> {
        if text == "*" {
            return Ok(Self::EVERYTHING);
        }
        // A scope is the start of a name, so one that names a repository must be a reference without tag and digest.
        let whole = match text.split_once('/') {
            Some(_) => text.to_owned(),
            None => format!("{text}/x"),
        };
        let known = whole.parse::<Reference>().is_ok_and(|image| {
            // The first part must be the registry, not a path in the default one (`acme` is `docker.io/library/acme`).
            let host = whole
                .split_once('/')
                .is_some_and(|(host, _)| normal(host) == normal(image.registry()));
            host && image.digest().is_none()
                && image.tag() == Some("latest")
                && !whole.ends_with(":latest")
        });
        if known {
            Ok(Self(Some(normal(text))))
        } else {
            Err(ScopeError {
                found: text.to_owned(),
            })
        }
    }

    /// Whether it covers a [`normal`] name: all of it, or a part that ends before a `/`.
    pub(super) fn covers(&self, name: &str) -> bool {
        match &self.0 {
            None => true,
            Some(scope) => name
                .strip_prefix(scope.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/')),
        }
    }

    /// How long it is, as a text: of two that cover a name, the longer one is the narrower.
    pub(super) fn length(&self) -> usize {
        self.0.as_ref().map_or(0, String::len)
    }
}

/// A name with its registry written the one way that is compared: lower case, without https's own port, the default
/// registry by its own name. Otherwise `QUAY.IO/acme/app` and `quay.io:443/acme/app` would be outside of `quay.io/acme`.
pub(super) fn normal(name: &str) -> String {
    let (host, path) = name
        .split_once('/')
        .map_or((name, None), |(host, path)| (host, Some(path)));
    let host = host.to_ascii_lowercase();
    let host = host.strip_suffix(":443").unwrap_or(&host);
    let host = if DOCKER_HUB.contains(&host) {
        "docker.io"
    } else {
        host
    };
    path.map_or_else(|| host.to_owned(), |path| format!("{host}/{path}"))
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_deref().unwrap_or("*"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes() {
        for good in [
            "*",
            "quay.io",
            "Quay.io",
            "quay.io/acme",
            "quay.io/acme/app",
            "localhost",
            "localhost:5000",
            "localhost:5000/a",
            "127.0.0.1:5000",
            "[::1]:5000/a",
            "docker.io",
            "docker.io/library",
            "index.docker.io",
        ] {
            assert!(Scope::parse(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "/",
            "quay.io/",
            "/a",
            "a b",
            "quay.io//a",
            "quay.io/acme:latest",
            "quay.io/acme:1",
            "quay.io/a@sha256:00",
            "quay.io/*",
            "**",
            "*/acme",
            "quay.io/Acme",
            "quay.io/acme/",
            "https://quay.io",
            "quay.io:x",
            "acme/app",
            "acme",
            "quay.io/../acme",
            "docker.io.evil/..",
        ] {
            assert!(Scope::parse(bad).is_err(), "{bad}");
        }
    }
}
