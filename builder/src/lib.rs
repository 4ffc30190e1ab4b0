//! eBPF objects to bytecode images: labels from the objects, images by docker, podman or without a daemon.
//!
//! [`build_args`] stops where the labels are known, [`build`] goes on to a pushed image. Both make the same plan
//! first, so a build argument is never another label than the built image's.

mod arch;
mod build_args;
mod engine;
mod error;
mod image;
mod inputs;
mod plan;
mod runtime;

use std::path::PathBuf;

use bytecode_image::digest::Digest;
use bytecode_image::pull::Progress;
use bytecode_image::reference::Reference;
use bytecode_image::registry::auth::Credentials;
use bytecode_image::registry::push;

pub use arch::Architecture;
pub use engine::{ArchiveError, EngineError, Tried};
pub use error::BuildError;
pub use image::ImageError;
pub use inputs::{InputError, Inputs};
pub use plan::{Difference, PlanError};
pub use runtime::{Runtime, UnknownRuntime};

/// What `image build` was asked for.
#[derive(Debug, Clone)]
pub struct BuildRequest {
    /// The objects.
    pub inputs: Inputs,
    /// Where the image is pushed to.
    pub tag: Reference,
    /// The Containerfile; docker and podman need one, `builtin` ignores it.
    pub container_file: Option<PathBuf>,
    /// `None`: docker if its daemon answers, else podman.
    pub runtime: Option<Runtime>,
    /// Of the registry; `None` pushes without any.
    pub credentials: Option<Credentials>,
}

/// What was built and pushed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Built {
    /// The tag that names it now.
    pub reference: Reference,
    /// Digest of the manifest.
    pub digest: Digest,
}

/// Builds an image and pushes it. Blocks; makes a runtime of its own on this thread.
///
/// # Errors
///
/// When an object is not one or does not fit its architecture, the engine or the registry fails, or the engine's
/// image does not hold the object and its labels.
pub fn build(request: &BuildRequest, progress: &dyn Progress) -> Result<Built, BuildError> {
    let plan = plan::BuildPlan::read(&request.inputs)?;
    plan.only_object()?;
    if request.tag.digest().is_some() {
        return Err(BuildError::DigestInTag {
            reference: Box::new(request.tag.clone()),
        });
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(BuildError::Runtime)?;
    runtime.block_on(async {
        let image = engine::build(request, &plan).await?;
        let digest = push::push_image(
            &request.tag,
            request.credentials.clone(),
            &[image],
            None,
            progress,
        )
        .await
        .map_err(|source| BuildError::Push {
            reference: Box::new(request.tag.clone()),
            source: Box::new(source),
        })?;
        Ok(Built {
            reference: request.tag.clone(),
            digest,
        })
    })
}

/// The build arguments that `docker build` and `podman build` take for these objects with one of our Containerfiles:
/// name and value, files first and sorted by architecture, then `PROGRAMS` and `MAPS`.
///
/// # Errors
///
/// When an object is not one, does not fit its architecture, or has other programs or maps than its siblings.
pub fn build_args(inputs: &Inputs) -> Result<Vec<(String, String)>, BuildError> {
    let plan = plan::BuildPlan::read(inputs)?;
    Ok(build_args::build_args(&plan)?)
}
