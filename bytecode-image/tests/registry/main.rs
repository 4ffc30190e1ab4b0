//! Pulls and pushes against a registry inside the test, which can misbehave.

// Helpers outside #[test] functions are test code too.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod admitted;
mod auth;
mod elf;
mod host;
mod images;
mod patience;
mod pulls;
mod pushes;
mod real;
mod refused;
mod server;
mod signed;
mod stores;
