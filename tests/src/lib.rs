//! What the tests of several crates need: real registries, engines and kernels, each started and stopped by a value.
//!
//! Everything here is scaffolding of tests: it panics where a test has to fail, and prints what a test has to say.
#![allow(
    clippy::panic,
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stderr
)]

pub mod chapters;
pub mod cli;
pub mod engines;
pub mod faulty;
pub mod fixtures;
pub mod images;
pub mod lanes;
pub mod layout;
pub mod objects;
pub mod project;
pub mod random;
pub mod registry;
pub mod server;
pub mod tls;
pub mod vm;
