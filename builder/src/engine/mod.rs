//! What turns a plan into an image: docker, podman, or this program itself.

mod address;
mod archive;
mod buildkit;
mod builtin;
mod context;
mod daemon;
mod trace;
mod transport;

use std::io::Read;
use std::path::{Path, PathBuf};

use bytecode_image::host::open_regular;
use bytecode_image::pull::Progress;
use bytecode_image::reference::Reference;

use crate::image::Unpacked;
use crate::plan::BuildPlan;
use crate::{Architecture, BuildError, BuildRequest, Runtime};
use address::Address;
pub use archive::ArchiveError;
use daemon::Daemon;

/// Why an engine made no image.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// No daemon at any of the addresses that were tried.
    #[error("no {} daemon answers; tried {}", names(tried), list(tried))]
    Unreachable {
        /// Every address that was tried.
        tried: Vec<Tried>,
    },
    /// `DOCKER_HOST`, `CONTAINER_HOST` or a context that cannot be used.
    #[error("{variable} is `{found}`: expected unix:///PATH, tcp://HOST:PORT or http://HOST:PORT")]
    Address {
        /// The variable, or what else said it.
        variable: &'static str,
        /// What it is.
        found: String,
    },
    /// A context of docker's command line that is not there, or not as it should be.
    #[error("docker's context `{name}` cannot be read from {}", file.display())]
    DockerContext {
        /// Its name.
        name: String,
        /// Where docker keeps it.
        file: PathBuf,
    },
    /// docker or podman without a Containerfile.
    #[error("{runtime} needs a Containerfile")]
    NoContainerFile {
        /// The engine.
        runtime: Runtime,
    },
    /// The Containerfile cannot be read.
    #[error("cannot read the Containerfile {}", path.display())]
    ContainerFile {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The archive that is sent to the engine.
    #[error("cannot put the build context together")]
    Context(#[source] std::io::Error),
    /// A step of the Containerfile failed.
    #[error(
        "{runtime} cannot build the image for {architecture}: {message}{}",
        last_lines(output)
    )]
    Step {
        /// The engine.
        runtime: Runtime,
        /// What it was built for.
        architecture: Architecture,
        /// What the engine says went wrong.
        message: String,
        /// The last lines of its output.
        output: Vec<String>,
    },
    /// The conversation with the daemon broke down.
    #[error("{runtime} cannot {doing}")]
    Api {
        /// The engine.
        runtime: Runtime,
        /// What was asked of it.
        doing: &'static str,
        /// What went wrong.
        #[source]
        source: Box<bollard::errors::Error>,
    },
    /// The image that the engine gave out cannot be used.
    #[error("cannot use the image that {runtime} built")]
    Archive {
        /// The engine.
        runtime: Runtime,
        /// What is wrong with it.
        #[source]
        source: ArchiveError,
    },
}

/// An address at which no daemon answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tried {
    /// Whose it was.
    pub runtime: Runtime,
    /// The address.
    pub address: String,
    /// Why it is none.
    pub reason: String,
}

/// What BuildKit says in a docker that keeps its images in containerd and does not find the files of a build (moby issue
/// 47717, mended in 27.5).
const CONTEXT_LOST: &str = "failed to read downloaded context: failed to load cache key";

impl EngineError {
    /// The address that cannot be used, where that is why.
    fn address(&self) -> &str {
        match self {
            Self::Address { found, .. } => found,
            Self::DockerContext { name, .. } => name,
            _ => "",
        }
    }

    pub(crate) fn hint(&self) -> Option<String> {
        match self {
            Self::Unreachable { .. } => {
                Some("start the daemon, or build without one: --runtime builtin".to_owned())
            }
            Self::Address { found, .. } if found.starts_with("ssh://") => {
                Some("forward the daemon's socket and name it: ssh -L /tmp/docker.sock:/var/run/docker.sock …, DOCKER_HOST=unix:///tmp/docker.sock; or --runtime builtin".to_owned())
            }
            Self::Address { .. } => Some("--runtime builtin needs no daemon".to_owned()),
            Self::DockerContext { .. } => {
                Some("`docker context ls` shows what there is; DOCKER_HOST goes before it".to_owned())
            }
            Self::Step { message, .. } if message.starts_with(CONTEXT_LOST) => {
                Some("docker 25 to 27.4 that keeps its images in containerd loses what it is sent for BuildKit: set DOCKER_BUILDKIT=0, or build without it: --runtime builtin".to_owned())
            }
            Self::NoContainerFile { .. } => {
                Some("give --container-file Containerfile.bytecode, or --runtime builtin, which needs none".to_owned())
            }
            _ => None,
        }
    }
}

fn names(tried: &[Tried]) -> String {
    let mut names: Vec<&str> = tried.iter().map(|tried| tried.runtime.as_str()).collect();
    names.dedup();
    names.join(" or ")
}

fn list(tried: &[Tried]) -> String {
    let tried = tried
        .iter()
        .map(|tried| format!("{} ({})", tried.address, tried.reason));
    tried.collect::<Vec<_>>().join(", ")
}

/// In one line: the command line's printer escapes control characters of what others wrote.
fn last_lines(output: &[String]) -> String {
    match output {
        [] => String::new(),
        lines => format!(" (its last lines: {})", lines.join("; ")),
    }
}

/// What builds.
pub(crate) enum Engine {
    /// This program.
    Builtin,
    /// A daemon that answered.
    Daemon(Box<Daemon>),
}

impl Engine {
    /// The engine asked for, or the first that answers.
    pub(crate) async fn of(request: &BuildRequest) -> Result<Self, EngineError> {
        let candidates = match request.runtime {
            Some(Runtime::Builtin) => return Ok(Self::Builtin),
            Some(runtime) => vec![runtime],
            None => vec![Runtime::Docker, Runtime::Podman],
        };
        find(&candidates).await.map(Box::new).map(Self::Daemon)
    }

    /// Builds every image of a plan. Ordered by architecture.
    pub(crate) async fn build(
        &self,
        request: &BuildRequest,
        plan: &BuildPlan,
        progress: &dyn Progress,
    ) -> Result<Vec<(Architecture, Unpacked)>, BuildError> {
        match (self, &request.container_file) {
            (Self::Builtin, _) => builtin::build(plan),
            (Self::Daemon(daemon), Some(file)) => daemon.build(plan, file, progress).await,
            (Self::Daemon(daemon), None) => Err(EngineError::NoContainerFile {
                runtime: daemon.runtime,
            }
            .into()),
        }
    }

    /// Names what was built in the engine itself, once all else is done.
    pub(crate) async fn keep(&self, tag: &Reference) -> Result<(), EngineError> {
        match self {
            Self::Builtin => Ok(()),
            Self::Daemon(daemon) => daemon.keep(tag).await,
        }
    }

    /// Removes what the engine need not keep: on every way out.
    pub(crate) async fn clean(&self) {
        match self {
            Self::Builtin => {}
            Self::Daemon(daemon) => daemon.clean().await,
        }
    }
}

/// Longest file of docker's contexts that is read: 1 MiB. They have a few hundred bytes.
const MAX_SETTINGS_BYTES: u64 = 1 << 20;

/// A file of docker's contexts; `None` where it cannot be read.
fn read_settings(file: &Path) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut file = open_regular(file).ok()?.take(MAX_SETTINGS_BYTES);
    file.read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

/// The first daemon that answers.
async fn find(runtimes: &[Runtime]) -> Result<Daemon, EngineError> {
    let mut tried = Vec::new();
    let user = rustix::process::getuid().as_raw();
    for &runtime in runtimes {
        let addresses = Address::of(
            runtime,
            user,
            |name| std::env::var(name).ok(),
            read_settings,
        );
        let addresses = match addresses {
            Ok(addresses) => addresses,
            // The other one may answer: nobody asked for this one.
            Err(error) if runtimes.len() > 1 => {
                log::warn!("{runtime} is passed over: {error}");
                tried.push(Tried {
                    runtime,
                    address: error.address().to_owned(),
                    reason: error.to_string(),
                });
                continue;
            }
            Err(error) => return Err(error),
        };
        for address in addresses {
            match Daemon::connect(runtime, &address).await {
                Ok(daemon) => return Ok(daemon),
                Err(reason) => tried.push(Tried {
                    runtime,
                    address: address.to_string(),
                    reason,
                }),
            }
        }
    }
    Err(EngineError::Unreachable { tried })
}
