//! What several targets start from.

pub mod signatures;
