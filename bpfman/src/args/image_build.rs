use std::path::PathBuf;

use builder::Output;
use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::{ArgAction, ArgGroup, Args, ValueEnum};

use super::values::{ImageUrl, KeyValue};

/// The guide's line, with `--container-file` in brackets: `--runtime builtin` needs none.
pub(crate) const BUILD_USAGE: &str = "bpfman image build [OPTIONS] --tag <TAG> [--container-file <CONTAINER_FILE>] \
     <--bytecode <BYTECODE>|--cilium-ebpf-project <CILIUM_EBPF_PROJECT>|--bc-386-el <BC_386_EL>|\
     --bc-amd64-el <BC_AMD64_EL>|--bc-arm-el <BC_ARM_EL>|--bc-arm64-el <BC_ARM64_EL>|\
     --bc-loong64-el <BC_LOONG64_EL>|--bc-mips-eb <BC_MIPS_EB>|--bc-mipsle-el <BC_MIPSLE_EL>|\
     --bc-mips64-eb <BC_MIPS64_EB>|--bc-mips64le-el <BC_MIPS64LE_EL>|--bc-ppc64-eb <BC_PPC64_EB>|\
     --bc-ppc64le-el <BC_PPC64LE_EL>|--bc-riscv64-el <BC_RISCV64_EL>|--bc-s390x-eb <BC_S390X_EB>>";

/// Names of the options that name an object for one architecture.
const ARCHITECTURES: [&str; 13] = [
    "bc_386_el",
    "bc_amd64_el",
    "bc_arm_el",
    "bc_arm64_el",
    "bc_loong64_el",
    "bc_mips_eb",
    "bc_mipsle_el",
    "bc_mips64_eb",
    "bc_mips64le_el",
    "bc_ppc64_eb",
    "bc_ppc64le_el",
    "bc_riscv64_el",
    "bc_s390x_eb",
];

#[derive(Debug, Args)]
pub(crate) struct BuildArgs {
    /// Required: Name of the image, with its registry and, where wanted, a tag; may be repeated.
    /// Example: --tag quay.io/bpfman-bytecode/xdp_pass:latest
    #[arg(short, long, required = true, action = ArgAction::Append, verbatim_doc_comment)]
    pub(crate) tag: Vec<ImageUrl>,

    /// Required: Container file that the image is built with; --runtime builtin needs none.
    /// Example: --container-file Containerfile.bytecode
    #[arg(short = 'f', long, verbatim_doc_comment)]
    pub(crate) container_file: Option<PathBuf>,

    /// Optional: What builds the image: docker, podman, or bpfman itself (builtin). Unset:
    /// docker where its daemon answers, else podman.
    /// Example: --runtime podman
    ///
    /// [possible values: docker, podman, builtin]
    #[arg(
        short,
        long,
        value_enum,
        hide_possible_values = true,
        verbatim_doc_comment
    )]
    pub(crate) runtime: Option<RuntimeWord>,

    #[command(flatten)]
    pub(crate) bytecode: BytecodeArgs,

    /// Optional: Build, but push nothing: the image is kept in the local store, where
    /// `load image` finds it, unless --output names another place.
    #[arg(long, verbatim_doc_comment)]
    pub(crate) no_push: bool,

    /// Optional: Write the image to a folder or an archive in OCI format too.
    /// Format: oci:<DIR> or oci-archive:<FILE>
    #[arg(long, value_parser = output(), verbatim_doc_comment)]
    pub(crate) output: Option<Output>,

    /// Optional: Write the digest of the image, or of the index over several, to this file.
    #[arg(long, verbatim_doc_comment)]
    pub(crate) digest_file: Option<PathBuf>,

    /// Optional: User and password for the registry: '<username>:<password>' in base64, as
    /// docker and podman keep it in their files.
    /// Example: --registry-auth "dXNlcjpwYXNzd29yZA=="
    #[arg(long, verbatim_doc_comment)]
    pub(crate) registry_auth: Option<String>,

    /// Optional: Annotation for every manifest and for the index over them; may be repeated.
    /// Format: <KEY>=<VALUE>
    #[arg(long, action = ArgAction::Append, verbatim_doc_comment)]
    pub(crate) annotation: Vec<KeyValue>,

    /// Optional: Take objects that do not have the same programs and maps. Each architecture
    /// then has labels of its own.
    #[arg(long, verbatim_doc_comment)]
    pub(crate) allow_differences: bool,
}

/// Paths are bytes, which `FromStr` has not.
fn output() -> impl TypedValueParser<Value = Output> {
    OsStringValueParser::new().try_map(|text| Output::try_from(text.as_os_str()))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum RuntimeWord {
    Docker,
    Podman,
    Builtin,
}

#[derive(Debug, Args)]
pub(crate) struct GenerateBuildArgs {
    #[command(flatten)]
    pub(crate) bytecode: BytecodeArgs,

    /// Optional: How the arguments are printed: a line each, quoted for a shell, as JSON, or
    /// for the output file of a GitHub workflow.
    ///
    /// [possible values: text, shell, json, github]
    ///
    /// [default: text]
    #[arg(
        long,
        value_enum,
        default_value_t,
        hide_default_value = true,
        hide_possible_values = true,
        verbatim_doc_comment
    )]
    pub(crate) format: BuildArgsFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum BuildArgsFormat {
    #[default]
    Text,
    Shell,
    Json,
    Github,
}

/// The three ways to name objects. They exclude each other, so that no architecture is named twice; at least one
/// must be there.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("objects").required(true).multiple(true))]
pub(crate) struct BytecodeArgs {
    /// Optional: Object file for the architecture of this machine.
    /// Example: -b ./examples/go-xdp-counter/bpf_x86_bpfel.o
    #[arg(short, long, group = "objects", conflicts_with = "cilium_ebpf_project", conflicts_with_all = ARCHITECTURES, verbatim_doc_comment)]
    pub(crate) bytecode: Option<PathBuf>,

    /// Optional: Folder of a cilium/ebpf project: every object in it whose name ends in
    /// bpf_<GOARCH>_<(el/eb)>.o goes into the image, each for its architecture.
    /// Example: --cilium-ebpf-project ./examples/go-xdp-counter
    #[arg(short, long, group = "objects", conflicts_with_all = ARCHITECTURES, verbatim_doc_comment)]
    pub(crate) cilium_ebpf_project: Option<PathBuf>,

    /// Optional: Object file for 386.
    /// Example: --bc-386-el ./examples/go-xdp-counter/bpf_386_bpfel.o
    #[arg(long, group = "objects", verbatim_doc_comment)]
    pub(crate) bc_386_el: Option<PathBuf>,

    /// Optional: Object file for amd64.
    /// Example: --bc-amd64-el ./examples/go-xdp-counter/bpf_x86_bpfel.o
    #[arg(long, group = "objects", verbatim_doc_comment)]
    pub(crate) bc_amd64_el: Option<PathBuf>,

    /// Optional: Object file for arm.
    /// Example: --bc-arm-el ./examples/go-xdp-counter/bpf_arm_bpfel.o
    #[arg(long, group = "objects", verbatim_doc_comment)]
    pub(crate) bc_arm_el: Option<PathBuf>,

    /// Optional: Object file for arm64.
    /// Example: --bc-arm64-el ./examples/go-xdp-counter/bpf_arm64_bpfel.o
    #[arg(long, group = "objects", verbatim_doc_comment)]
    pub(crate) bc_arm64_el: Option<PathBuf>,

    /// Optional: Object file for loong64.
    /// Example: --bc-loong64-el ./examples/go-xdp-counter/bpf_loong64_bpfel.o
    #[arg(long, group = "objects", verbatim_doc_comment)]
    pub(crate) bc_loong64_el: Option<PathBuf>,

    /// Optional: Object file for mips.
    /// Example: --bc-mips-eb ./examples/go-xdp-counter/bpf_mips_bpfeb.o
    #[arg(long, group = "objects", verbatim_doc_comment)]
    pub(crate) bc_mips_eb: Option<PathBuf>,

    /// Optional: Object file for mipsle.
    /// Example: --bc-mipsle-el ./examples/go-xdp-counter/bpf_mipsle_bpfel.o
    #[arg(long, group = "objects", verbatim_doc_comment)]
    pub(crate) bc_mipsle_el: Option<PathBuf>,

    /// Optional: Object file for mips64.
    /// Example: --bc-mips64-eb ./examples/go-xdp-counter/bpf_mips64_bpfeb.o
    #[arg(long, group = "objects", verbatim_doc_comment)]
    pub(crate) bc_mips64_eb: Option<PathBuf>,

    /// Optional: Object file for mips64le.
    /// Example: --bc-mips64le-el ./examples/go-xdp-counter/bpf_mips64le_bpfel.o
    #[arg(long, group = "objects", verbatim_doc_comment)]
    pub(crate) bc_mips64le_el: Option<PathBuf>,

    /// Optional: Object file for ppc64.
    /// Example: --bc-ppc64-eb ./examples/go-xdp-counter/bpf_ppc64_bpfeb.o
    #[arg(long, group = "objects", verbatim_doc_comment)]
    pub(crate) bc_ppc64_eb: Option<PathBuf>,

    /// Optional: Object file for ppc64le.
    /// Example: --bc-ppc64le-el ./examples/go-xdp-counter/bpf_ppc64le_bpfel.o
    #[arg(long, group = "objects", verbatim_doc_comment)]
    pub(crate) bc_ppc64le_el: Option<PathBuf>,

    /// Optional: Object file for riscv64.
    /// Example: --bc-riscv64-el ./examples/go-xdp-counter/bpf_riscv64_bpfel.o
    #[arg(long, group = "objects", verbatim_doc_comment)]
    pub(crate) bc_riscv64_el: Option<PathBuf>,

    /// Optional: Object file for s390x.
    /// Example: --bc-s390x-eb ./examples/go-xdp-counter/bpf_s390x_bpfeb.o
    #[arg(long, group = "objects", verbatim_doc_comment)]
    pub(crate) bc_s390x_eb: Option<PathBuf>,
}
