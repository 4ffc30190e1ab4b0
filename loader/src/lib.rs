//! eBPF bytecode into the kernel and onto its hooks.
//!
//! The loader takes bytes and a request; it knows nothing of images, never prints and never talks to a network.
//! What was asked ([`LoadRequest`], [`AttachRequest`]), what the store keeps (private records) and what is shown
//! ([`Program`], [`Link`]) are three sets of types. Every change is planned, written to a journal and undone when
//! a step fails: see `docs/architecture.md`.

mod attach;
pub mod binary;
mod change;
mod config;
mod dispatcher;
mod doctor;
mod error;
pub mod globals;
pub mod kernel;
mod link;
mod load;
mod loader;
pub mod metadata;
mod near;
pub mod object;
mod paths;
mod program;
mod request;
mod show;
mod state;
#[cfg(test)]
mod tests;
mod unload;
mod whereabouts;

pub use config::Config;
pub use doctor::{Diagnosis, Finding, FindingKind, Outcome, Remedy};
pub use error::{HookPlace, LoaderError};
pub use link::{Attachment, Link, LinkInterface};
pub use loader::{Loader, ReadGuard};
pub use program::{KernelState, ManagedState, ManagedSummary, Program, ProgramSummary};
pub use request::{
    AttachPoint, AttachRequest, LinkFilter, LoadRequest, ProceedOn, ProgramFilter, ProgramRequest,
    Source, TcDirection, UprobePoint, XdpMode,
};
pub use state::{Guard, Holder, StateError};
