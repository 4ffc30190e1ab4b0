//! docker and podman through bollard: podman's service speaks docker's API, so they differ in their addresses alone.

use std::collections::VecDeque;
use std::path::Path;

use bollard::errors::Error;
use bollard::query_parameters::BuildImageOptions;
use bollard::{API_DEFAULT_VERSION, Docker};
use bytecode_image::platform::Platform;
use bytecode_image::reference::Reference;
use bytecode_image::registry::push;
use futures_util::{StreamExt, TryStreamExt};

use super::EngineError;
use super::address::Address;
use super::archive::{self, ArchiveError, MAX_ARCHIVE_BYTES};
use super::context::{self, CONTAINER_FILE, ContextError};
use crate::plan::BuildPlan;
use crate::{BuildError, Runtime};

/// How long a daemon may take to begin an answer, in seconds: bollard's own default.
const TIMEOUT_SECONDS: u64 = 120;

/// How many lines of a failed build's output are kept for its error.
const LAST_LINES: usize = 5;

/// How much of each of these lines, in characters: they go into one message.
const LINE_CHARACTERS: usize = 200;

/// A daemon that answered.
pub(super) struct Daemon {
    pub(super) runtime: Runtime,
    docker: Docker,
}

/// What a build has said so far.
#[derive(Default)]
struct Output {
    lines: VecDeque<String>,
    image: Option<String>,
}

impl Daemon {
    /// Connects; says why not in a few words.
    pub(super) async fn connect(runtime: Runtime, address: &Address) -> Result<Self, String> {
        let docker = match address {
            Address::Unix(path) => {
                Docker::connect_with_unix(path, TIMEOUT_SECONDS, API_DEFAULT_VERSION)
            }
            Address::Http(host) => {
                Docker::connect_with_http(host, TIMEOUT_SECONDS, API_DEFAULT_VERSION)
            }
        };
        let docker = docker.map_err(|error| reason(&error))?;
        docker.ping().await.map_err(|error| reason(&error))?;
        log::debug!("{runtime} answers at {address}");
        Ok(Self { runtime, docker })
    }

    /// Builds the plan's one image, fetches it from the engine, checks it against the plan and packs it.
    /// The engine keeps the image under its tag, as after a `docker build -t`.
    pub(super) async fn build(
        &self,
        plan: &BuildPlan,
        container_file: &Path,
        tag: &Reference,
    ) -> Result<push::Image, BuildError> {
        let (architecture, object) = plan.only_object()?;
        let container_file =
            std::fs::read(container_file).map_err(|source| EngineError::ContainerFile {
                path: container_file.to_owned(),
                source,
            })?;
        let arguments = context::arguments(plan, architecture, object)?;
        let context = context::tar(&container_file, object).map_err(|error| match error {
            ContextError::Path(error) => BuildError::from(error),
            ContextError::Tar(error) => EngineError::Context(error).into(),
        })?;
        // No `platform`: docker's classic builder refuses it with FROM scratch. The image's platform is written into
        // its configuration below.
        let options = BuildImageOptions {
            t: Some(tag.to_string()),
            dockerfile: CONTAINER_FILE.to_owned(),
            buildargs: Some(arguments),
            rm: true,
            forcerm: true,
            ..BuildImageOptions::default()
        };
        let image = self.run(options, context).await?;
        let built = self.export(&image).await?;
        built.check(&object.bytes, plan.labels())?;
        Ok(built.into_oci(&Platform::from(architecture))?.pack()?)
    }

    /// Runs the build; gives the id of the image.
    async fn run(
        &self,
        options: BuildImageOptions,
        context: Vec<u8>,
    ) -> Result<String, EngineError> {
        let body = bollard::body_full(context.into());
        let mut steps = self.docker.build_image(options, None, Some(body));
        let mut output = Output::default();
        while let Some(step) = steps.next().await {
            let step = match step {
                Ok(step) => step,
                Err(Error::DockerStreamError { error }) => return Err(self.failed(error, output)),
                Err(Error::DockerResponseServerError { message, .. }) => {
                    return Err(self.failed(message, output));
                }
                Err(error) => return Err(self.api("build the image", error)),
            };
            if let Some(detail) = step.error_detail {
                let message = detail
                    .message
                    .unwrap_or_else(|| "no reason given".to_owned());
                return Err(self.failed(message, output));
            }
            output.image = step.aux.and_then(|aux| aux.id).or(output.image);
            output.add(&step.stream.or(step.status).unwrap_or_default());
        }
        match output.image.take() {
            Some(image) => Ok(image),
            None => Err(self.failed("it ended without an image".to_owned(), output)),
        }
    }

    /// Fetches an image from the engine, up to the cap.
    async fn export(&self, image: &str) -> Result<crate::image::Unpacked, EngineError> {
        let failed = |source| EngineError::Archive {
            runtime: self.runtime,
            source,
        };
        let mut archive = Vec::new();
        let mut pieces = self.docker.export_image(image);
        let lost = |error| self.api("give out the image that it built", error);
        while let Some(piece) = pieces.try_next().await.map_err(lost)? {
            archive.extend_from_slice(&piece);
            if archive.len() as u64 > MAX_ARCHIVE_BYTES {
                return Err(failed(ArchiveError::TooLarge {
                    limit: MAX_ARCHIVE_BYTES,
                }));
            }
        }
        archive::read(&archive).map_err(failed)
    }

    fn failed(&self, message: String, output: Output) -> EngineError {
        EngineError::Step {
            runtime: self.runtime,
            message: message.trim().to_owned(),
            output: output.lines.into(),
        }
    }

    fn api(&self, doing: &'static str, source: Error) -> EngineError {
        EngineError::Api {
            runtime: self.runtime,
            doing,
            source: Box::new(source),
        }
    }
}

impl Output {
    fn add(&mut self, text: &str) {
        for line in text.lines().map(str::trim) {
            // A bare arrow announces an image id that is not there yet.
            if matches!(line, "" | "--->" | "-->") {
                continue;
            }
            log::info!("{line}");
            if self.lines.len() == LAST_LINES {
                self.lines.pop_front();
            }
            self.lines
                .push_back(line.chars().take(LINE_CHARACTERS).collect());
        }
    }
}

/// The innermost cause: bollard and hyper wrap `connection refused` three times.
fn reason(error: &Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_kept() {
        let mut output = Output::default();
        output.add("Step 1/2 : FROM scratch\n");
        output.add(" ---> \n");
        assert_eq!(output.lines, ["Step 1/2 : FROM scratch"]);
        for number in 0..LAST_LINES {
            output.add(&format!("{number}\n\n"));
        }
        assert_eq!(output.lines, ["0", "1", "2", "3", "4"]);
        output.add(&"x".repeat(1000));
        assert_eq!(output.lines.back().map(String::len), Some(LINE_CHARACTERS));
    }
}
