//! Pulls and pushes against a registry inside the test, which can misbehave.

// Helpers outside #[test] functions are test code too.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod admitted;
mod archives;
mod auth;
mod damage;
mod elf;
mod foreign;
mod host;
mod images;
mod mounts;
mod patience;
mod pulls;
mod pushes;
mod real;
mod refused;
mod signed;
mod stores;
mod time;
mod tls;

use bpfman_tests::faulty as server;
