//! docker and podman through bollard: podman's service speaks docker's API, so they differ in their addresses alone.

use std::collections::{HashMap, VecDeque};
use std::path::Path;

use bollard::errors::Error;
use bollard::query_parameters::{BuildImageOptions, RemoveImageOptions};
use bollard::{API_DEFAULT_VERSION, Docker};
use bytecode_image::platform::Platform;
use bytecode_image::reference::Reference;
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt};

use super::EngineError;
use super::address::Address;
use super::archive::{self, ArchiveError, MAX_ARCHIVE_BYTES};
use super::buildkit::{Message, Messages};
use super::context::{CONTAINER_FILE, Context};
use crate::image::{ImageError, Unpacked};
use crate::plan::BuildPlan;
use crate::{Architecture, BuildError, Runtime};

/// How long a daemon may take to begin an answer, in seconds: bollard's own default.
const TIMEOUT_SECONDS: u64 = 120;

/// How many lines of a failed build's output are kept for its error.
const LAST_LINES: usize = 5;

/// How much of each of these lines, in characters: they go into one message.
const LINE_CHARACTERS: usize = 200;

/// A daemon that answered.
pub(super) struct Daemon {
    pub(super) runtime: Runtime,
    address: Address,
    docker: Docker,
}

/// The build of one architecture's image.
struct Build {
    architecture: Architecture,
    tag: Option<String>,
    arguments: HashMap<String, String>,
    context: Bytes,
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
        Ok(Self {
            runtime,
            address: address.clone(),
            docker,
        })
    }

    /// Builds an image an architecture, fetches each from the engine and checks it against the plan.
    ///
    /// The engine keeps the image of the host's architecture, or the only one, under its tag, as after a
    /// `docker build -t`; the others are removed from it.
    pub(super) async fn build(
        &self,
        plan: &BuildPlan,
        container_file: &Path,
        tag: &Reference,
    ) -> Result<Vec<(Architecture, Unpacked)>, BuildError> {
        let container_file =
            std::fs::read(container_file).map_err(|source| EngineError::ContainerFile {
                path: container_file.to_owned(),
                source,
            })?;
        let context = Context::of(plan);
        let files = context.tar(&container_file).map_err(EngineError::Context)?;
        let files = Bytes::from(files);
        let buildkit = self.has_buildkit().await?;
        let host = Architecture::from_goarch(&Platform::host().architecture);
        let mut images = Vec::with_capacity(plan.objects.len());
        for (&architecture, object) in &plan.objects {
            let tagged = plan.objects.len() == 1 || Some(architecture) == host;
            let step = Build {
                architecture,
                tag: tagged.then(|| tag.to_string()),
                arguments: context.arguments(architecture),
                context: files.clone(),
            };
            let image = if buildkit {
                self.run_buildkit(step).await?
            } else {
                self.run(step).await?
            };
            let found = self.layers(&image).await?;
            if found != 1 {
                return Err(ImageError::Layers { found }.into());
            }
            let built = self.export(&image).await?;
            if !tagged {
                self.remove(&image).await;
            }
            built.check(&object.bytes, object.labels())?;
            images.push((architecture, built.into_oci(&Platform::from(architecture))?));
        }
        Ok(images)
    }

    /// Removes an image that nobody asked the engine to keep. An engine that will not is no reason to fail.
    async fn remove(&self, image: &str) {
        let removed = self
            .docker
            .remove_image(image, None::<RemoveImageOptions>, None)
            .await;
        if let Err(error) = removed {
            log::debug!("{} keeps the image {image}: {error}", self.runtime);
        }
    }

    /// Whether the daemon is docker's with BuildKit in it, which builds only the stages that are needed.
    /// `DOCKER_BUILDKIT=0` says no, as it does to docker's own command line.
    async fn has_buildkit(&self) -> Result<bool, EngineError> {
        if self.runtime != Runtime::Docker
            || std::env::var("DOCKER_BUILDKIT").is_ok_and(|value| value == "0")
        {
            return Ok(false);
        }
        let version = self.docker.version().await;
        let version = version.map_err(|error| self.api("say its version", error))?;
        // A socket of podman at docker's address answers here too.
        let mut components = version.components.iter().flatten();
        let moby = components.any(|component| component.name == "Engine");
        Ok(moby && version.api_version.as_deref().is_some_and(api_has_buildkit))
    }

    /// Runs a build with BuildKit; gives the id of the image.
    async fn run_buildkit(&self, build: Build) -> Result<String, EngineError> {
        let lost = |error| self.api("build the image", error);
        let arguments =
            serde_json::to_string(&build.arguments).map_err(|error| lost(error.into()))?;
        let platform = Platform::from(build.architecture).to_string();
        let mut parameters = vec![
            ("dockerfile", CONTAINER_FILE),
            ("buildargs", &arguments),
            ("platform", &platform),
            ("nocache", "1"),
        ];
        parameters.extend(build.tag.as_deref().map(|tag| ("t", tag)));
        let started = Messages::start(&self.address, &parameters, build.context).await;
        let mut output = Output::default();
        let mut messages = match started {
            Ok(messages) => messages,
            Err(Error::DockerResponseServerError { message, .. }) => {
                return Err(self.failed(build.architecture, message, output));
            }
            Err(error) => return Err(lost(error)),
        };
        while let Some(message) = messages.next().await.map_err(lost)? {
            match message {
                Message::Output(lines) => lines.iter().for_each(|line| output.add(line)),
                Message::Image(id) => output.image = Some(id),
                Message::Failed(message) => {
                    return Err(self.failed(build.architecture, message, output));
                }
            }
        }
        self.image(build.architecture, output)
    }

    /// Runs a build with docker's classic builder or podman; gives the id of the image.
    async fn run(&self, build: Build) -> Result<String, EngineError> {
        let architecture = build.architecture;
        // No `platform`: docker's classic builder refuses it with FROM scratch. The image's platform is written into
        // its configuration later. No cache: engines look an image up without its platform, and would give the first
        // architecture's for all.
        let options = BuildImageOptions {
            t: build.tag,
            dockerfile: CONTAINER_FILE.to_owned(),
            buildargs: Some(build.arguments),
            nocache: true,
            rm: true,
            forcerm: true,
            ..BuildImageOptions::default()
        };
        let body = bollard::body_full(build.context);
        let mut steps = self.docker.build_image(options, None, Some(body));
        let mut output = Output::default();
        while let Some(step) = steps.next().await {
            let step = match step {
                Ok(step) => step,
                Err(Error::DockerStreamError { error }) => {
                    return Err(self.failed(architecture, error, output));
                }
                Err(Error::DockerResponseServerError { message, .. }) => {
                    return Err(self.failed(architecture, message, output));
                }
                Err(error) => return Err(self.api("build the image", error)),
            };
            if let Some(detail) = step.error_detail {
                let message = detail
                    .message
                    .unwrap_or_else(|| "no reason given".to_owned());
                return Err(self.failed(architecture, message, output));
            }
            output.image = step.aux.and_then(|aux| aux.id).or(output.image);
            output.add(&step.stream.or(step.status).unwrap_or_default());
        }
        self.image(architecture, output)
    }

    /// The image of a build that has ended.
    fn image(&self, architecture: Architecture, mut output: Output) -> Result<String, EngineError> {
        match output.image.take() {
            Some(image) => Ok(image),
            None => {
                let message = "it ended without an image".to_owned();
                Err(self.failed(architecture, message, output))
            }
        }
    }

    /// How many layers an image has. Asked first: docker gives no image without one out, podman one that is damaged.
    async fn layers(&self, image: &str) -> Result<usize, EngineError> {
        let inspected = self.docker.inspect_image(image).await;
        let inspected =
            inspected.map_err(|error| self.api("show the image that it built", error))?;
        let layers = inspected.root_fs.and_then(|root| root.layers);
        Ok(layers.map_or(0, |layers| layers.len()))
    }

    /// Fetches an image from the engine, up to the cap.
    async fn export(&self, image: &str) -> Result<Unpacked, EngineError> {
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

    fn failed(&self, architecture: Architecture, message: String, output: Output) -> EngineError {
        EngineError::Step {
            runtime: self.runtime,
            architecture,
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
            let line: String = line.chars().take(LINE_CHARACTERS).collect();
            // BuildKit names a step for each of its parts.
            if self.lines.back() == Some(&line) {
                continue;
            }
            if self.lines.len() == LAST_LINES {
                self.lines.pop_front();
            }
            self.lines.push_back(line);
        }
    }
}

/// Whether an API version is one with BuildKit: 1.39, of docker 18.09, or later.
fn api_has_buildkit(version: &str) -> bool {
    let mut parts = version.split('.').map(|part| part.parse().unwrap_or(0));
    let (major, minor) = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    (major, minor) >= (1_u32, 39_u32)
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
    fn api_versions() {
        for (version, expected) in [
            ("1.39", true),
            ("1.41", true),
            ("2.0", true),
            ("1.38", false),
            ("1", false),
            ("", false),
        ] {
            assert_eq!(api_has_buildkit(version), expected, "{version}");
        }
    }

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
