/// Why the loader could not do what was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoaderError {
    /// Parsed from the command line, built by a later issue.
    #[error("not built yet: {0}")]
    NotBuiltYet(&'static str),
}
