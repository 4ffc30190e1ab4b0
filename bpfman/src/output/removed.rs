//! What `unload` and `detach` took away, as JSON.

use serde::Serialize;

/// A program that `unload` was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unloaded {
    pub(crate) program_id: u32,
    /// Links that went with it.
    pub(crate) links: Vec<u32>,
    /// There was no such program, which `--ignore-missing` allows.
    pub(crate) missing: bool,
}

/// A link that `detach` was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Detached {
    pub(crate) link_id: u32,
    /// The program that it attached.
    pub(crate) program_id: Option<u32>,
    /// There was no such link, which `--ignore-missing` allows.
    pub(crate) missing: bool,
}

#[derive(Debug, Serialize)]
pub(super) struct UnloadedJson<'a> {
    program_id: u32,
    links: &'a [u32],
    missing: bool,
}

impl<'a> From<&'a Unloaded> for UnloadedJson<'a> {
    fn from(found: &'a Unloaded) -> Self {
        Self {
            program_id: found.program_id,
            links: &found.links,
            missing: found.missing,
        }
    }
}

#[derive(Debug, Serialize)]
pub(super) struct DetachedJson {
    link_id: u32,
    program_id: Option<u32>,
    missing: bool,
}

impl From<&Detached> for DetachedJson {
    fn from(found: &Detached) -> Self {
        Self {
            link_id: found.link_id,
            program_id: found.program_id,
            missing: found.missing,
        }
    }
}
