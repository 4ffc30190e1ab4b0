//! Scopes of policies: which images a policy is about.

use std::fmt;

use crate::reference::{Reference, short_name};

/// Where the default registry keeps the images that are named without a path.
const OFFICIAL: &str = "docker.io/library/";

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
        // The first part must be the registry, not a path in the default one (`acme` is `docker.io/library/acme`).
        let image = match short_name(&whole) {
            None => whole.parse::<Reference>().ok(),
            Some(_) => None,
        };
        let named = image.filter(|image| {
            image.digest().is_none() && image.tag() == Some("latest") && !whole.ends_with(":latest")
        });
        let Some(image) = named else {
            return Err(ScopeError {
                found: text.to_owned(),
            });
        };
        let path = text.split_once('/').map(|(_, path)| format!("/{path}"));
        Ok(Self(Some(normal(&format!(
            "{}{}",
            image.registry(),
            path.unwrap_or_default()
        )))))
    }

    /// How narrowly it covers an image: of two scopes that do, the greater fit decides. `None` where it does not.
    pub fn fit(&self, image: &Reference) -> Option<(usize, bool)> {
        self.covers(&normal(&image.name()))
    }

    /// How narrowly it covers a [`normal`] name: the length of what it says of the name, and whether it says so in full;
    /// of two that cover a name, the greater one decides. `None` when it does not cover the name: what it says must be
    /// all of it, or end before a `/`.
    ///
    /// `docker.io/busybox` is what everybody calls `docker.io/library/busybox`, so it covers that too.
    pub(super) fn covers(&self, name: &str) -> Option<(usize, bool)> {
        let Some(scope) = &self.0 else {
            return Some((0, true));
        };
        let rest = name.strip_prefix(scope.as_str());
        if rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/')) {
            return Some((scope.len(), true));
        }
        let official = name.strip_prefix(OFFICIAL)?;
        (scope.strip_prefix("docker.io/") == Some(official)).then_some((name.len(), false))
    }
}

/// A reference's name (which has one spelling but for this) without the ports that a registry has by itself: https's,
/// and that of plain http, which is spoken on loopback and where the host's configuration allows it. Otherwise
/// `quay.io:443/acme/app` would be outside of `quay.io/acme`.
pub(super) fn normal(name: &str) -> String {
    let (host, path) = name.split_at(name.find('/').unwrap_or(name.len()));
    let host = [":443", ":80"]
        .into_iter()
        .find_map(|port| host.strip_suffix(port))
        .unwrap_or(host);
    format!("{host}{path}")
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
            "localhost:05000",
            "[0:0::1]:5000/a",
            "docker.io/busybox",
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
            "10.1/a",
            "acme/app",
            "acme",
            "quay.io/../acme",
            "docker.io.evil/..",
        ] {
            assert!(Scope::parse(bad).is_err(), "{bad}");
        }
    }
}
