//! Settings and an image to the servers that are asked for it, in their order.
//!
//! Where the manual leaves a choice, it is made as podman and skopeo make it (seen with skopeo 1.9): a host without a
//! port fits every port; a wildcard goes before a host that covers the same part of the name; of two tables with one
//! prefix in one file the first counts. Prefixes with a tag or a digest fit as the manual says; those tools, against
//! it, match them with the name alone, so that they never fit there.

use super::Registries;
use super::parse::{PullFromMirror, Registry, ShortNameMode, is_host};
use super::table::{Located, Setting};
use crate::reference::{Reference, ReferenceError};

/// A server to ask for an image. Servers are asked in the order of the plan; the first that has the image is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// The image's own name: what it is kept, listed and verified as. It differs from what the user typed for a
    /// short name only.
    pub image: Reference,
    /// What is asked for: registry, repository, tag and digest as the server has them.
    pub reference: Reference,
    /// Whether plain http, and https with a certificate that nobody vouches for, are allowed.
    pub insecure: bool,
    /// Whether it is a mirror: one that fails, or has no such image, is passed over.
    pub mirror: bool,
    /// The table of `registries.conf` that says so.
    pub at: Option<Setting>,
}

/// Why nobody can be asked for an image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    /// The host's administrator forbids it.
    #[error("{image} is blocked: {at} has `blocked = true` for `{prefix}`")]
    Blocked {
        /// The image.
        image: String,
        /// The prefix that fits.
        prefix: String,
        /// The table that says so.
        at: Box<Setting>,
    },
    /// Several registries, `short-name-mode = "enforcing"`, and nobody to choose.
    #[error(
        "the short name `{short}` could be any of {}: short-name-mode is enforcing, so write the whole name",
        candidates.join(", ")
    )]
    Ambiguous {
        /// What the user typed, without tag and digest.
        short: String,
        /// The full names.
        candidates: Vec<String>,
    },
    /// A location whose first part is no registry.
    #[error(
        "{at}: `{location}` does not begin with a registry: expected a dot or a port in it, or localhost"
    )]
    NoHost {
        /// What is set.
        location: String,
        /// The setting.
        at: Box<Setting>,
    },
    /// An image's name with the location in it is not a reference.
    #[error("{at}: with `{location}`, {image} would be `{rewritten}`")]
    Rewritten {
        /// The image.
        image: String,
        /// What is set.
        location: String,
        /// What comes out.
        rewritten: String,
        /// The setting.
        at: Box<Setting>,
        /// What is wrong with it.
        #[source]
        source: Box<ReferenceError>,
    },
}

/// The reference that an image's name becomes when `location` stands for its beginning, `rest` being what follows.
fn rewrite(location: &Located, rest: &str, image: &str) -> Result<Reference, PlanError> {
    let place = || (location.value.clone(), Box::new(location.at.clone()));
    if !is_host(location.value.split('/').next().unwrap_or_default()) {
        let (location, at) = place();
        return Err(PlanError::NoHost { location, at });
    }
    let rewritten = format!("{}{rest}", location.value);
    rewritten.parse().map_err(|source| {
        let (location, at) = place();
        PlanError::Rewritten {
            image: image.to_owned(),
            location,
            rewritten,
            at,
            source: Box::new(source),
        }
    })
}

impl Registries {
    /// The servers to ask for an image, in their order; never empty.
    ///
    /// `short` is what the user typed without tag and digest when that has no registry in front (`busybox`,
    /// `acme/xdp`), else `None`. Registries of a short name that are blocked are left out while there are others.
    ///
    /// # Errors
    ///
    /// When the image is blocked, its short name is ambiguous, or a location makes no reference of its name.
    pub fn plan(&self, image: &Reference, short: Option<&str>) -> Result<Vec<Endpoint>, PlanError> {
        let images = match short {
            Some(short) => self.full_names(image, short)?,
            None => vec![image.clone()],
        };
        let mut endpoints = Vec::new();
        let mut blocked = None;
        for image in &images {
            match self.endpoints(image) {
                Ok(found) => endpoints.extend(found),
                Err(error @ PlanError::Blocked { .. }) => blocked = blocked.or(Some(error)),
                Err(error) => return Err(error),
            }
        }
        match blocked {
            Some(error) if endpoints.is_empty() => Err(error),
            _ => Ok(endpoints),
        }
    }

    /// What a short name stands for, the one that is tried first in front: its alias, else itself in each of the
    /// registries to search, else itself in docker.io. Tag and digest are the image's.
    ///
    /// # Errors
    ///
    /// When there are several and `short-name-mode` is `enforcing`.
    pub fn full_names(&self, image: &Reference, short: &str) -> Result<Vec<Reference>, PlanError> {
        let whole = image.to_string();
        let suffix = whole.strip_prefix(&image.name()).unwrap_or_default();
        if let Some(Some(alias)) = self.conf.aliases.get(short) {
            return Ok(vec![rewrite(alias, suffix, short)?]);
        }
        let search = self.conf.search.as_deref().unwrap_or_default();
        if search.is_empty() {
            return Ok(vec![image.clone()]);
        }
        let names = search
            .iter()
            .map(|registry| rewrite(registry, &format!("/{short}{suffix}"), short))
            .collect::<Result<Vec<_>, _>>()?;
        if names.len() > 1 && self.conf.mode == Some(ShortNameMode::Enforcing) {
            let candidates = names.iter().map(Reference::name).collect();
            return Err(PlanError::Ambiguous {
                short: short.to_owned(),
                candidates,
            });
        }
        Ok(names)
    }

    /// The servers of one image: the mirrors of the `[[registry]]` with the longest prefix that fits, then its location.
    fn endpoints(&self, image: &Reference) -> Result<Vec<Endpoint>, PlanError> {
        let text = image.to_string();
        let mut best: Option<(usize, &Registry)> = None;
        for registry in &self.conf.registries {
            let Some(length) = fits(&text, &registry.prefix) else {
                continue;
            };
            let better = best.is_none_or(|(longest, other)| {
                // A host and a wildcard over it cover the same part of the name: podman takes the wildcard.
                let wildcard = registry.prefix.starts_with('*') && !other.prefix.starts_with('*');
                length > longest || (length == longest && wildcard)
            });
            if better {
                best = Some((length, registry));
            }
        }
        let Some((length, registry)) = best else {
            let (image, reference) = (image.clone(), image.clone());
            return Ok(vec![Endpoint {
                image,
                reference,
                insecure: false,
                mirror: false,
                at: None,
            }]);
        };
        if registry.blocked {
            return Err(PlanError::Blocked {
                image: text,
                prefix: registry.prefix.clone(),
                at: Box::new(registry.at.clone()),
            });
        }
        let rest = text.get(length..).unwrap_or_default();
        let by_digest = image.digest().is_some();
        let mut endpoints = Vec::new();
        for mirror in &registry.mirrors {
            let used = match mirror.pull {
                _ if registry.mirror_by_digest_only => by_digest,
                PullFromMirror::All => true,
                PullFromMirror::DigestOnly => by_digest,
                PullFromMirror::TagOnly => !by_digest,
            };
            if used {
                endpoints.push(Endpoint {
                    image: image.clone(),
                    reference: rewrite(&mirror.location, rest, &text)?,
                    insecure: mirror.insecure,
                    mirror: true,
                    at: Some(mirror.location.at.clone()),
                });
            }
        }
        let reference = match &registry.location {
            Some(location) if location.value != registry.prefix => rewrite(location, rest, &text)?,
            _ => image.clone(),
        };
        endpoints.push(Endpoint {
            image: image.clone(),
            reference,
            insecure: registry.insecure,
            mirror: false,
            at: Some(registry.at.clone()),
        });
        Ok(endpoints)
    }
}

/// How much of an image's name a prefix covers, in bytes; `None` where it does not fit.
///
/// A host without a port fits the host at any port, as it does for podman and skopeo.
fn fits(image: &str, prefix: &str) -> Option<usize> {
    if let Some(domain) = prefix.strip_prefix('*') {
        let host = image.split('/').next().unwrap_or_default();
        let host = host.rsplit_once(':').map_or(host, |(host, _)| host);
        return host
            .strip_suffix(domain)
            .is_some_and(|rest| !rest.is_empty())
            .then_some(host.len());
    }
    let rest = image.strip_prefix(prefix)?;
    (rest.is_empty() || rest.starts_with(['/', ':', '@'])).then_some(prefix.len())
}
