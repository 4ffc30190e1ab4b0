use std::fmt;
use std::str::FromStr;

/// What builds an image: the values of `--runtime`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Runtime {
    /// The docker daemon.
    Docker,
    /// The podman service.
    Podman,
    /// This program itself; no daemon, no Containerfile.
    Builtin,
}

/// A word that is no runtime.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown runtime `{0}`: expected docker, podman or builtin")]
pub struct UnknownRuntime(pub String);

impl Runtime {
    /// Every runtime, in the order in which they are looked for.
    pub const ALL: [Self; 3] = [Self::Docker, Self::Podman, Self::Builtin];

    /// The word of `--runtime`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Docker => "docker",
            Self::Podman => "podman",
            Self::Builtin => "builtin",
        }
    }
}

impl fmt::Display for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Runtime {
    type Err = UnknownRuntime;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|runtime| runtime.as_str() == word)
            .ok_or_else(|| UnknownRuntime(word.to_owned()))
    }
}
