//! Chains of programs on one hook of an interface, by dispatchers that call them one after the other.

pub(crate) mod action;
pub(crate) mod chain;
pub(crate) mod plan;
