//! An object as aya reads it.

/// Why an object's headers could not be rewritten.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NormaliseError {
    /// A header or table that lies outside the file or contradicts it.
    #[error("damaged ELF: {what}")]
    Damaged {
        /// Which one.
        what: &'static str,
    },
}
