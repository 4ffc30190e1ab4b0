//! docker and podman through bollard: podman's service speaks docker's API, so they differ in their addresses alone.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::io::Read;
use std::path::Path;
use std::time::Duration;

use bollard::Docker;
use bollard::errors::Error;
use bollard::query_parameters::{BuildImageOptions, RemoveImageOptions, TagImageOptions};
use bytecode_image::host::open_regular;
use bytecode_image::platform::Platform;
use bytecode_image::pull::Progress;
use bytecode_image::reference::Reference;
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt};

use super::EngineError;
use super::address::Address;
use super::archive::{self, ArchiveError, MAX_ARCHIVE_BYTES};
use super::buildkit::{Message, Messages};
use super::context::{CONTAINER_FILE, Context};
use super::transport::Transport;
use crate::image::{ImageError, Unpacked};
use crate::plan::BuildPlan;
use crate::{Architecture, BuildError, Runtime};

/// Longest Containerfile that is read, in bytes: 1 MiB.
const MAX_CONTAINER_FILE_BYTES: u64 = 1 << 20;

/// How long a daemon may take to remove what was built.
const CLEANING: Duration = Duration::from_secs(10);

/// How many lines of a failed build's output are kept for its error.
const LAST_LINES: usize = 5;

/// How much of each of these lines, in characters: they go into one message.
const LINE_CHARACTERS: usize = 200;

/// What is shown of a build's steps: it ends however the build is left.
struct Steps<'a>(&'a dyn Progress);

impl Drop for Steps<'_> {
    fn drop(&mut self) {
        self.0.finish();
    }
}

/// A daemon that answered.
pub(crate) struct Daemon {
    pub(super) runtime: Runtime,
    transport: Transport,
    docker: Docker,
    /// Ids of the images that it has of us, in the order in which they came.
    made: RefCell<Vec<String>>,
    /// The one among them that is for this host, or the only one.
    host: RefCell<Option<String>>,
}

/// The build of one architecture's image.
struct Build {
    architecture: Architecture,
    arguments: HashMap<String, String>,
    context: Bytes,
}

/// What a build has said so far.
#[derive(Default)]
struct Output {
    lines: VecDeque<String>,
    image: Option<String>,
    /// The last step begins with an image that was there before.
    from: bool,
}

impl Daemon {
    /// Connects; says why not in a few words.
    pub(super) async fn connect(runtime: Runtime, address: &Address) -> Result<Self, String> {
        let transport = Transport::to(address).map_err(|error| error.to_string())?;
        let docker = transport.docker().map_err(|error| reason(&error))?;
        docker.ping().await.map_err(|error| reason(&error))?;
        log::debug!("{runtime} answers at {address}");
        Ok(Self {
            runtime,
            transport,
            docker,
            made: RefCell::default(),
            host: RefCell::default(),
        })
    }

    /// Builds an image an architecture, fetches each from the engine and checks it against the plan. No image has a
    /// name in the engine then: [`Self::keep`] names one, [`Self::clean`] removes the rest.
    pub(super) async fn build(
        &self,
        plan: &BuildPlan,
        container_file: &Path,
        progress: &dyn Progress,
    ) -> Result<Vec<(Architecture, Unpacked)>, BuildError> {
        let container_file = read(container_file)?;
        let context = Context::of(plan);
        let files = context.tar(&container_file).map_err(EngineError::Context)?;
        let files = Bytes::from(files);
        let buildkit = self.has_buildkit().await?;
        let host = Architecture::from_goarch(&Platform::host().architecture);
        let mut images = Vec::with_capacity(plan.objects.len());
        let count = plan.objects.len();
        let steps = Steps(progress);
        for (number, (&architecture, object)) in plan.objects.iter().enumerate() {
            let building = format!(
                "building {architecture} with {} ({} of {count})",
                self.runtime,
                number + 1
            );
            log::info!("{building}");
            steps.0.step(&building);
            let step = Build {
                architecture,
                arguments: context.arguments(architecture),
                context: files.clone(),
            };
            let image = if buildkit {
                self.run_buildkit(step).await?
            } else {
                self.run(step).await?
            };
            self.note(&image);
            if plan.objects.len() == 1 || Some(architecture) == host {
                *self.host.borrow_mut() = Some(image.clone());
            }
            let found = self.layers(&image).await?;
            if found != 1 {
                return Err(ImageError::Layers { found }.into());
            }
            let built = self.export(&image).await?;
            built.check(&object.bytes, object.labels())?;
            images.push((architecture, built.into_oci(&Platform::from(architecture))?));
        }
        Ok(images)
    }

    /// Names the image of the host's architecture, or the only one, in the engine, as after a `docker build -t`.
    pub(super) async fn keep(&self, tag: &Reference) -> Result<(), EngineError> {
        let Some(image) = self.host.borrow().clone() else {
            return Ok(());
        };
        let options = TagImageOptions {
            repo: Some(tag.name()),
            tag: tag.tag().map(str::to_owned),
        };
        let tagged = self.docker.tag_image(&image, Some(options)).await;
        tagged.map_err(|error| self.api("name the image that it built", error))?;
        self.made.borrow_mut().retain(|made| !same(made, &image));
        Ok(())
    }

    /// Removes the images that nobody asked the engine to keep. An engine that will not is no reason to fail.
    pub(super) async fn clean(&self) {
        let made = self.made.take();
        let clean = async {
            // A finished image takes its stages along; those that it did not need are left.
            for image in made.iter().rev() {
                let options = None::<RemoveImageOptions>;
                match self.docker.remove_image(image, options, None).await {
                    Ok(_) => {}
                    Err(Error::DockerResponseServerError {
                        status_code: 404, ..
                    }) => {}
                    Err(error) => {
                        log::debug!("{} keeps the image {image}: {error}", self.runtime);
                    }
                }
            }
        };
        if tokio::time::timeout(CLEANING, clean).await.is_err() {
            log::warn!("{} still holds images without a name", self.runtime);
        }
    }

    /// Takes down an image that the engine has of us.
    fn note(&self, image: &str) {
        let mut made = self.made.borrow_mut();
        if !made.iter().any(|known| same(known, image)) {
            made.push(image.to_owned());
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
        let parameters = [
            ("dockerfile", CONTAINER_FILE),
            ("buildargs", &arguments),
            ("platform", &platform),
            ("nocache", "1"),
        ];
        let started = Messages::start(&self.transport, &parameters, build.context).await;
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
                Message::Output(lines) => lines.iter().for_each(|line| {
                    output.add(line);
                }),
                Message::Image(id) => {
                    self.note(&id);
                    output.image = Some(id);
                }
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
            for image in output.add(&step.stream.or(step.status).unwrap_or_default()) {
                self.note(&image);
            }
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
    /// Keeps the last lines. Gives the ids of images of ours that it names: docker's classic builder and podman keep
    /// one of every step of every stage, also of stages that the finished image does not have.
    fn add(&mut self, text: &str) -> Vec<String> {
        let mut images = Vec::new();
        for line in text.lines().map(str::trim) {
            if let Some((_, step)) = line
                .get(..5)
                .filter(|word| word.eq_ignore_ascii_case("step "))
                .and_then(|_| line.split_once(':'))
            {
                self.from = step.trim_start().to_ascii_lowercase().starts_with("from ");
            }
            images.extend(image_of_step(line).filter(|_| !self.from));
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
        images
    }
}

/// Whether two ids are of one image: a step's is the beginning of it, without `sha256:`.
fn same(first: &str, other: &str) -> bool {
    let [first, other] = [first, other].map(|id| id.strip_prefix("sha256:").unwrap_or(id));
    first.starts_with(other) || other.starts_with(first)
}

/// The id in `---> 0123456789ab` (docker) and `--> 0123456789ab` (podman), what a step has made.
fn image_of_step(line: &str) -> Option<String> {
    let id = line
        .strip_prefix("---> ")
        .or_else(|| line.strip_prefix("--> "))?;
    let hex = id.bytes().all(|byte| byte.is_ascii_hexdigit());
    (hex && (11..=64).contains(&id.len())).then(|| id.to_owned())
}

/// Reads a Containerfile up to the cap, so that a device costs no more than that.
fn read(path: &Path) -> Result<Vec<u8>, EngineError> {
    let failed = |source| EngineError::ContainerFile {
        path: path.to_owned(),
        source,
    };
    let mut bytes = Vec::new();
    open_regular(path)
        .and_then(|file| {
            let limit = MAX_CONTAINER_FILE_BYTES;
            file.take(limit + 1).read_to_end(&mut bytes)
        })
        .map_err(failed)?;
    if bytes.len() as u64 > MAX_CONTAINER_FILE_BYTES {
        let text = "it has more than the 1 MiB that a Containerfile may have";
        return Err(failed(std::io::Error::other(text)));
    }
    Ok(bytes)
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
    fn images_of_steps() {
        let mut output = Output::default();
        let table: &[(&str, &[&str])] = &[
            // docker's classic builder
            ("Step 1/4 : FROM alpine AS base\n", &[]),
            (" ---> c059bfaa849c\n", &[]),
            ("Step 2/4 : COPY a /\n", &[]),
            (" ---> Running in 0123456789ab\n", &[]),
            (" ---> 4b825dc642cb\n", &["4b825dc642cb"]),
            ("Step 3/4 : FROM scratch\n", &[]),
            (" ---> \n", &[]),
            // podman
            (
                "STEP 1/2: FROM alpine\n--> 8f7a3f0e1d2\nSTEP 2/2: COPY a /\n--> 9f7a3f0e1d2\n",
                &["9f7a3f0e1d2"],
            ),
            ("--> Using cache 4b825dc642cb\n", &[]),
            ("---> ../../etc\n", &[]),
        ];
        assert!(same("sha256:0123456789abcdef", "0123456789ab"));
        assert!(!same("sha256:0123456789abcdef", "1123456789ab"));
        for (text, expected) in table {
            assert_eq!(output.add(text), *expected, "{text}");
        }
    }

    #[test]
    fn containerfile_that_is_a_device_is_refused() {
        let error = read(Path::new("/dev/zero")).unwrap_err();
        let cause = std::error::Error::source(&error).unwrap().to_string();
        assert_eq!(cause, "it is a device, not a regular file");
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
