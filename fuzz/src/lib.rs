//! What several targets start from.

#[cfg(feature = "signatures")]
pub mod signatures;
