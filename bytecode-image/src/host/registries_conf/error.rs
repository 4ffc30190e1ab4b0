//! What can be wrong with `registries.conf`.

use std::path::PathBuf;

use super::table::Setting;
use crate::host::file::FileError;

/// Why the registries' configuration cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegistriesError {
    /// A file cannot be read.
    #[error("reading the configuration of registries")]
    File(#[source] FileError),
    /// Not UTF-8, which TOML is.
    #[error("in {}: not UTF-8", file.display())]
    NotUtf8 {
        /// The file.
        file: PathBuf,
    },
    /// Not TOML.
    #[error("in {}, line {line}: {message}", file.display())]
    Syntax {
        /// The file.
        file: PathBuf,
        /// Line, from 1.
        line: usize,
        /// What the TOML parser says.
        message: String,
    },
    /// A value that cannot be.
    #[error("{at}: {problem}")]
    Value {
        /// The setting.
        at: Setting,
        /// What is wrong with it.
        problem: Problem,
    },
}

/// What is wrong with a setting.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// Another type.
    #[error("expected {expected}, found {found}")]
    Type {
        /// What belongs there.
        expected: &'static str,
        /// The TOML type that is there.
        found: &'static str,
    },
    /// A word that is none of the known ones.
    #[error("`{found}` is none of {expected}")]
    Word {
        /// The words.
        expected: &'static str,
        /// What is there.
        found: String,
    },
    /// A location or prefix with nothing in it.
    #[error("it is empty: expected HOST[:PORT][/PATH]")]
    Empty,
    /// `https://…`.
    #[error(
        "`{0}` is a URL: expected HOST[:PORT][/PATH] without `https://`; plain http is `insecure = true`"
    )]
    Url(String),
    /// A path where a registry belongs.
    #[error("`{0}` is not a registry: expected HOST or HOST:PORT")]
    NotARegistry(String),
    /// A `*` elsewhere than in front of a whole host.
    #[error("`{0}`: a `*` stands in front of a host only, as in *.example.com")]
    Wildcard(String),
    /// Neither location nor a wildcard prefix.
    #[error(
        "the registry has no `location`, and only a prefix like *.example.com may stand without one"
    )]
    NoLocation,
    /// A mirror without a place.
    #[error("the mirror has no `location`")]
    NoMirrorLocation,
    /// A key of mirrors in a registry's own table.
    #[error("it belongs to [[registry.mirror]]")]
    NotInRegistry,
    /// Two settings that exclude each other.
    #[error("the registry has `mirror-by-digest-only`, so its mirrors cannot have this key")]
    MirrorByDigestOnly,
    /// Two tables of one location that say different things.
    #[error("another [[registry]] with the location `{location}` has another value of `{key}`")]
    Conflict {
        /// The location.
        location: String,
        /// `insecure` or `blocked`.
        key: &'static str,
    },
    /// An alias's name that is no short name.
    #[error(
        "`{0}` is not a short name: expected NAME or PATH/NAME without a registry, tag or digest"
    )]
    ShortName(String),
    /// An alias's value that is no full name.
    #[error("`{0}` is not a full name: expected REGISTRY/NAME without tag and digest")]
    FullName(String),
    /// Both forms of the file at once.
    #[error(
        "the file has keys of version 1 ([registries…]) and of version 2: expected version 2 alone"
    )]
    MixedVersions,
    /// Version 1 in a drop-in file.
    #[error(
        "a drop-in file is of version 2: expected [[registry]] and unqualified-search-registries"
    )]
    Version1,
}

impl From<FileError> for RegistriesError {
    fn from(source: FileError) -> Self {
        Self::File(source)
    }
}
