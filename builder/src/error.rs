use bytecode_image::reference::Reference;
use bytecode_image::registry::RegistryError;
use bytecode_image::store::StoreError;

use crate::{EngineError, ImageError, OutputError, PlanError, Signal};

/// Why an image was not built and pushed. The cause is its `source()`: print the whole chain.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// The objects.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The engine.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The image that was put together or came from the engine.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// A tag to be given to what is built cannot say what its digest is.
    #[error(
        "cannot build {reference}: it has a digest, which is known only when the image is built"
    )]
    DigestInTag {
        /// The tag asked for.
        reference: Box<Reference>,
    },
    /// The registry.
    #[error("cannot push the image {reference}")]
    Push {
        /// Where it was pushed to.
        reference: Box<Reference>,
        /// What the registry said.
        #[source]
        source: Box<RegistryError>,
    },
    /// The local store, where an image is kept that is not pushed.
    #[error("cannot keep the image in the local store")]
    Store(#[from] StoreError),
    /// No tokio runtime, or no signals.
    #[error("cannot start the I/O runtime")]
    Runtime(#[source] std::io::Error),
    /// SIGINT or SIGTERM.
    #[error("stopped by {signal} while {doing} {reference}, whose tag names what it named before{}", doing.or_not())]
    Stopped {
        /// What came.
        signal: Signal,
        /// What was being done.
        doing: Doing,
        /// To what.
        reference: Box<Reference>,
    },
    /// The file or folder that the image is written to.
    #[error(transparent)]
    Output(#[from] OutputError),
}

/// What a build that was stopped was doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doing {
    /// Nothing had been sent to the registry.
    Building,
    /// The registry may have taken the last request, which moves the tag, without its answer being seen.
    Pushing,
}

impl Doing {
    fn or_not(self) -> &'static str {
        match self {
            Self::Building => "",
            Self::Pushing => ", or the whole new image if that was sent already",
        }
    }
}

impl std::fmt::Display for Doing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Building => "building",
            Self::Pushing => "pushing",
        })
    }
}

impl BuildError {
    /// Where objects differ that have to be alike: the lines of [`PlanError::diff`]. Empty for every other error.
    pub fn diff(&self) -> Vec<String> {
        match self {
            Self::Plan(error) => error.diff(),
            _ => Vec::new(),
        }
    }

    /// What to do about it, where that is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Plan(error) => error.hint().map(str::to_owned),
            Self::Engine(error) => error.hint(),
            Self::Push { source, .. } => source.hint(),
            Self::Store(error) => error.hint(),
            Self::Image(error) => error.hint().map(str::to_owned),
            Self::DigestInTag { .. } => Some("give NAME:TAG".to_owned()),
            _ => None,
        }
    }
}
