//! Whether globals fit the variables of an object.

/// A global that does not fit the object.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GlobalError {
    /// No variable of that name.
    #[error("no global variable `{name}` in the object; it has {}", list(.available))]
    Unknown {
        /// Name asked for.
        name: String,
        /// Variables there are, sorted.
        available: Vec<String>,
    },
    /// The value has another size than the variable.
    #[error("global variable `{name}` has {expected} bytes, its value {found}")]
    Size {
        /// Variable.
        name: String,
        /// Its size in bytes.
        expected: u64,
        /// Bytes given.
        found: u64,
    },
}

fn list(names: &[String]) -> String {
    if names.is_empty() {
        return "none".to_owned();
    }
    names.join(", ")
}
