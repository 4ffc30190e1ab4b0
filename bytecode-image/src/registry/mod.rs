//! Registries by the OCI distribution-spec (1.1): what is needed to pull and push bytecode images, and no more.

pub mod auth;
mod error;
pub mod push;

pub use error::{Action, Reason, RegistryError};
