//! eBPF objects to bytecode images: labels from the objects, images by docker, podman or without a daemon.
//!
//! [`build_args`] stops where the labels are known, [`build`] goes on to a pushed image. Both make the same plan
//! first, so a build argument is never another label than the built image's.

mod arch;
mod bpf2go;
mod build_args;
mod engine;
mod error;
mod image;
mod index;
mod inputs;
mod keep;
mod layout;
mod plan;
mod runtime;
mod signals;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::path::PathBuf;

use bytecode_image::digest::Digest;
use bytecode_image::pull::Progress;
use bytecode_image::reference::Reference;
use bytecode_image::registry::Reach;
use bytecode_image::registry::push;
use bytecode_image::store::{Store, StoreError};

use engine::Engine;
use index::Packed;
use plan::{BuildPlan, Differences};
use signals::Signals;

pub use arch::Architecture;
pub use build_args::{BuildArgs, Format};
pub use engine::{ArchiveError, EngineError, Tried};
pub use error::{BuildError, Doing};
pub use image::ImageError;
pub use inputs::{InputError, Inputs};
pub use layout::{Output, OutputError, UnknownOutput};
pub use plan::{Difference, PlanError};
pub use runtime::{Runtime, UnknownRuntime};
pub use signals::Signal;

/// What `image build` was asked for.
#[derive(Debug, Clone)]
pub struct BuildRequest {
    /// The objects.
    pub inputs: Inputs,
    /// Where the image is pushed to.
    pub tag: Reference,
    /// More names of the image; each is pushed to, too.
    pub other_tags: Vec<Reference>,
    /// The Containerfile; docker and podman need one, `builtin` ignores it.
    pub container_file: Option<PathBuf>,
    /// `None`: docker if its daemon answers, else podman.
    pub runtime: Option<Runtime>,
    /// How the registry is reached, and who we are to it.
    pub reach: Reach,
    /// Remembers what was pushed where, so that the next push to the same registry mounts it. Keeps an image that goes
    /// nowhere else.
    pub store: Option<Store>,
    /// `false`: the image goes to `output`, or to the store where there is none.
    pub push: bool,
    /// Written to before the image is pushed.
    pub output: Option<Output>,
    /// Annotations of every manifest and of the index, by key.
    pub annotations: BTreeMap<String, String>,
    /// `true`: objects may have different programs and maps; each architecture then has labels of its own.
    pub allow_differences: bool,
}

impl BuildRequest {
    /// Every name of the image.
    fn tags(&self) -> impl Iterator<Item = &Reference> {
        std::iter::once(&self.tag).chain(&self.other_tags)
    }
}

/// What was built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Built {
    /// The tag that was asked for; it names the image where it was pushed or written to.
    pub reference: Reference,
    /// Digest of the manifest, or of the index over several architectures.
    pub digest: Digest,
}

/// Builds an image, or an index of one image an architecture, and pushes it. Blocks; makes a runtime of its own on
/// this thread.
///
/// Nothing is pushed before everything is built and checked, and the tag is moved last. SIGINT and SIGTERM end it with
/// an error, after the engine was rid of what it built.
///
/// # Errors
///
/// When an object is not one, does not fit its architecture or its siblings, the engine or the registry fails, the
/// engine's image does not hold the object and its labels, or the output cannot be written.
pub fn build(request: &BuildRequest, progress: &dyn Progress) -> Result<Built, BuildError> {
    let differences = if request.allow_differences {
        Differences::Allowed
    } else {
        Differences::Refused
    };
    let plan = BuildPlan::read(&request.inputs, differences)?;
    let mut tags = request.tags();
    if let Some(tag) = tags.find(|tag| tag.digest().is_some()) {
        return Err(BuildError::DigestInTag {
            reference: Box::new(tag.clone()),
        });
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(BuildError::Runtime)?;
    runtime.block_on(async {
        let mut signals = Signals::listen().map_err(BuildError::Runtime)?;
        let engine = Engine::of(request).await?;
        let doing = Cell::new(Doing::Building);
        let done = signals
            .or(run(request, &plan, &engine, progress, &doing))
            .await;
        // A second signal ends the wait.
        let _ = signals.or(engine.clean()).await;
        done.unwrap_or_else(|signal| {
            Err(BuildError::Stopped {
                signal,
                doing: doing.get(),
                reference: Box::new(request.tag.clone()),
            })
        })
    })
}

fn is_denied(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{PermissionDenied, ReadOnlyFilesystem};
    matches!(error.kind(), PermissionDenied | ReadOnlyFilesystem)
}

async fn run(
    request: &BuildRequest,
    plan: &BuildPlan,
    engine: &Engine,
    progress: &dyn Progress,
    doing: &Cell<Doing>,
) -> Result<Built, BuildError> {
    let images = engine.build(request, plan, progress).await?;
    let packed = Packed::of(images, &request.annotations)?;
    log::info!("built {} ({})", request.tag, packed.digest()?);
    if let Some(output) = &request.output {
        for tag in request.tags() {
            log::info!("writing {tag} to the output");
            layout::write(output, tag, &packed)?;
        }
    }
    if request.push {
        doing.set(Doing::Pushing);
        for tag in request.tags() {
            push::push_image(
                tag,
                &request.reach,
                &packed.images,
                packed.index.clone(),
                request.store.as_ref(),
                progress,
            )
            .await
            .map_err(|source| BuildError::Push {
                reference: Box::new(tag.clone()),
                source: Box::new(source),
            })?;
        }
    } else if let (None, Some(store)) = (&request.output, &request.store) {
        match keep::keep(store, request.tags(), &packed) {
            // The digest is the result of a build without a push; the copy needs a store that this user may write.
            Err(BuildError::Store(StoreError::Io { path, source, .. })) if is_denied(&source) => {
                log::warn!(
                    "{} is built, but not kept in the local store: {}: {source}",
                    request.tag,
                    path.display()
                );
            }
            kept => kept?,
        }
    }
    for tag in request.tags() {
        match engine.keep(tag).await {
            Ok(()) => {}
            // It is in the registry, which is what was asked for.
            Err(error) if request.push => log::warn!("{error}"),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(Built {
        reference: request.tag.clone(),
        digest: packed.digest()?,
    })
}

/// The build arguments that `docker build` and `podman build` take for these objects with one of our Containerfiles.
///
/// # Errors
///
/// When an object is not one, does not fit its architecture, or has other programs or maps than its siblings.
pub fn build_args(inputs: &Inputs) -> Result<BuildArgs, BuildError> {
    Ok(BuildArgs::of(&BuildPlan::read(
        inputs,
        Differences::Refused,
    )?))
}
