use std::path::PathBuf;

use bytecode_image::platform::Platform;
use clap::{Args, Subcommand};

use super::image_build::{BuildArgs, GenerateBuildArgs};
use super::image_name::{ImageName, ImageNames};
use super::image_verify::VerifyArgs;
use super::values::{ImageUrl, OutputArgs, PullPolicyWord};

/// The guide's line, and the one for an image that is named without its option.
const PULL_USAGE: &str = "bpfman image pull [OPTIONS] --image-url <IMAGE_URL>\n       \
     bpfman image pull [OPTIONS] <IMAGE>";
const VERIFY_USAGE: &str = "bpfman image verify [OPTIONS] --image-url <IMAGE_URL>\n       \
     bpfman image verify [OPTIONS] <IMAGE>";
const INSPECT_USAGE: &str = "bpfman image inspect [OPTIONS] <IMAGE>\n       \
     bpfman image inspect [OPTIONS] --image-url <IMAGE_URL>";

#[derive(Debug, Args)]
pub(crate) struct ImageArgs {
    #[command(subcommand)]
    pub(crate) command: ImageCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ImageCommand {
    /// Pull an image of eBPF bytecode into the local store
    #[command(override_usage = PULL_USAGE)]
    Pull(PullArgs),
    /// Build an image of eBPF bytecode from object files and push it to a registry.
    ///
    /// An image is made of a container file (--container-file), a name (--tag) and at least
    /// one object file, which is given in one of three ways:
    ///
    /// * --bytecode: one object, for the architecture of this machine.
    ///
    /// * --cilium-ebpf-project: the folder of a cilium/ebpf project, with an object for each
    ///   architecture in it.
    ///
    /// * --bc-386-el .. --bc-s390x-eb: one object each for one or more architectures.
    ///
    /// Examples:
    ///    bpfman image build -f Containerfile.bytecode -t quay.io/<USER>/go-xdp-counter:test \
    ///      -b ./examples/go-xdp-counter/bpf_x86_bpfel.o
    #[command(verbatim_doc_comment, override_usage = super::image_build::BUILD_USAGE)]
    Build(Box<BuildArgs>),
    /// Print the build arguments for a container file that packs the given object files.
    ///
    /// At least one object file is given, in one of three ways:
    ///
    /// * --bytecode: one object, for the architecture of this machine.
    ///
    /// * --cilium-ebpf-project: the folder of a cilium/ebpf project, with an object for each
    ///   architecture in it.
    ///
    /// * --bc-386-el .. --bc-s390x-eb: one object each for one or more architectures.
    ///
    /// Examples:
    ///   bpfman image generate-build-args --bc-amd64-el ./examples/go-xdp-counter/bpf_x86_bpfel.o
    #[command(verbatim_doc_comment)]
    GenerateBuildArgs(GenerateBuildArgs),
    /// List the images in the local store
    #[command(visible_alias = "ls")]
    List {
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Show an image: labels, digests, platforms, layers, signatures
    #[command(override_usage = INSPECT_USAGE)]
    Inspect {
        #[command(flatten)]
        image: ImageName,

        #[command(flatten)]
        output: OutputArgs,
    },
    /// Check the signatures of an image
    #[command(override_usage = VERIFY_USAGE)]
    Verify(Box<VerifyArgs>),
    /// Remove images from the local store
    #[command(
        visible_alias = "rm",
        override_usage = "bpfman image remove [OPTIONS] <IMAGES>..."
    )]
    Remove {
        #[command(flatten)]
        images: ImageNames,
    },
    /// Remove from the local store what no image refers to
    Prune {
        /// Optional: Every image too
        #[arg(long)]
        all: bool,
    },
    /// Push an image of the local store to a registry
    Push(PushArgs),
    /// Give an image of the local store one more name
    Tag {
        /// Required: Image that is to get the name
        image: ImageUrl,

        /// Required: The new name
        name: ImageUrl,
    },
    /// Write images of the local store to one OCI archive
    #[command(override_usage = "bpfman image export [OPTIONS] --output <OUTPUT> <IMAGES>...")]
    Export {
        #[command(flatten)]
        images: ImageNames,

        /// Required: Archive to be made; - for standard output
        #[arg(short, long)]
        output: PathBuf,

        /// Optional: Every platform, not only this machine's
        #[arg(long)]
        all_platforms: bool,
    },
    /// Read the images of an archive into the local store
    ///
    /// An archive is what `image export`, `docker save`, `podman save` and `skopeo copy` write:
    /// a file (plain, gzip or zstd), or a folder.
    #[command(verbatim_doc_comment)]
    Import {
        /// Required: Archive or folder to be read; - for standard input
        file: PathBuf,

        /// Optional: Name for the one image of the archive.
        /// Example: --tag quay.io/bpfman-bytecode/xdp_pass:latest
        #[arg(short, long, verbatim_doc_comment)]
        tag: Option<ImageUrl>,
    },
}

#[derive(Debug, Args)]
pub(crate) struct PushArgs {
    /// Required: Image to be pushed
    pub(crate) image: ImageUrl,

    /// Optional: Name to push it to, when it is not its own
    pub(crate) destination: Option<ImageUrl>,

    /// Optional: User and password for the registry: '<username>:<password>' in base64, as
    /// docker and podman keep it in their files.
    /// Example: --registry-auth "dXNlcjpwYXNzd29yZA=="
    #[arg(short, long, verbatim_doc_comment)]
    pub(crate) registry_auth: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct PullArgs {
    #[command(flatten)]
    pub(crate) registry: RegistryArgs,

    /// Optional: Platform to pull, when it is not this machine's.
    /// Format: <OS>/<ARCHITECTURE>[/<VARIANT>]
    /// Example: --platform linux/arm64
    #[arg(long, verbatim_doc_comment)]
    pub(crate) platform: Option<Platform>,

    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// Which image, and how it is asked for.
#[derive(Debug, Args)]
pub(crate) struct RegistryArgs {
    #[command(flatten)]
    pub(crate) image_url: ImageName,

    /// Optional: User and password for the registry: '<username>:<password>' in base64, as
    /// docker and podman keep it in their files.
    /// Example: --registry-auth "dXNlcjpwYXNzd29yZA=="
    #[arg(short, long, verbatim_doc_comment)]
    pub(crate) registry_auth: Option<String>,

    /// Optional: When the registry is asked: each time, only for an image that is not in the
    /// local store, or never.
    ///
    /// [possible values: Always, IfNotPresent, Never]
    ///
    /// [default: IfNotPresent]
    #[arg(
        short,
        long,
        value_enum,
        default_value_t,
        hide_default_value = true,
        hide_possible_values = true,
        verbatim_doc_comment
    )]
    pub(crate) pull_policy: PullPolicyWord,
}
