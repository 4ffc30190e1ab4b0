//! How this host reaches registries: the configuration that podman, docker and skopeo on it already use.
//!
//! | file | what |
//! | --- | --- |
//! | [`environment`] | the variables that name files, and the places where the files are |
//! | [`auth_file`] | `auth.json` and `config.json`: which login is for which image |
//! | [`helper`] | `docker-credential-…` programs |
//! | [`logins`] | the files and programs above, in their order |
//! | [`registries_conf`] | mirrors, moved and blocked registries, short names |
//! | [`certs_d`] | private CAs and client certificates |
//! | [`proxy`] | `HTTP_PROXY`, `HTTPS_PROXY`, `NO_PROXY` |
//!
//! Parsing and choosing are functions from values to values. Files are read in [`logins`], [`certs_d`] and
//! [`registries_conf::Registries::read`] only, each up to a documented number of bytes, and only when one of those
//! is called.
//!
//! What one of the containers tools refuses when it reads a file is refused here when it is read; what is only wrong
//! for some images is an error for those images alone, so that a file that works there works here.

pub mod auth_file;
pub mod certs_d;
pub mod environment;
mod file;
pub mod helper;
pub mod logins;
pub mod proxy;
pub mod registries_conf;

pub use file::{FileError, open_regular};
