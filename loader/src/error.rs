/// Why the loader could not do what was asked. The text says what was being done and what was found; the cause below
/// it is the [`source`](std::error::Error::source), what to do about it the [`hint`](LoaderError::hint).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoaderError {
    /// Parsed from the command line, built by a later issue.
    #[error("not built yet: {0}")]
    NotBuiltYet(&'static str),
    /// No such program, ours or the kernel's.
    #[error("there is no program with id {id}")]
    NoSuchProgram {
        /// Id asked for.
        id: u32,
    },
    /// No such link of ours.
    #[error("there is no link with id {id}")]
    NoSuchLink {
        /// Id asked for.
        id: u32,
    },
}

impl LoaderError {
    /// What to do about it, where that is known: one sentence.
    pub fn hint(&self) -> Option<String> {
        None
    }
}
