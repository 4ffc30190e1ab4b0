//! Registries by the OCI distribution-spec (1.1): what is needed to pull and push bytecode images, and no more.
//!
//! # What comes from oci-client, and what does not
//!
//! `oci-client` gives the vocabulary: the error envelope of registries ([`oci_client::errors`]) and the media types. The requests are ours,
//! over the HTTP library that it uses too. Its own client (0.18) sends `GET /v2/` before the first request of each
//! repository, keeps the first credential per registry, compiles regular expressions for each reference type (70 ms
//! at the first parse), buffers manifests of any size, accepts a manifest with both `layers` and `manifests` and a
//! `Content-Type` that differs from `mediaType`, checks no lengths, and follows a descriptor's `urls`.

mod advice;
pub mod auth;
mod blob;
mod challenge;
mod client;
mod error;
mod http;
mod mount;
mod patience;
pub mod push;
pub mod push_stored;
mod reach;
mod referrers;
mod tls;

pub use client::{Client, Fetched};
pub use error::{Action, Reason, RegistryError};
pub use http::MAX_REDIRECTS;
pub use patience::{
    CONNECT_TIMEOUT, MAX_ATTEMPTS, MAX_RETRY_AFTER, MAX_SLOW_CONNECTIONS, OPTIONAL_DEADLINE,
    PULL_DEADLINE, Patience, Pauses, READ_TIMEOUT,
};
pub use reach::{Reach, ReachError};
pub use referrers::{MAX_REFERRER_PAGES, RawDocument};
pub use tls::PemProblem;
