use std::path::PathBuf;

use clap::{ArgAction, Args, Subcommand};
use loader::ProgramRequest;

use super::image::RegistryArgs;
use super::result::ResultArgs;
use super::values::{GlobalValue, KeyValue, program, program_id};

/// The guide's line, and the one for an image that is named without its option.
const LOAD_IMAGE_USAGE: &str = "bpfman load image [OPTIONS] --programs <PROGRAMS>... --image-url <IMAGE_URL>\n       \
     bpfman load image [OPTIONS] <IMAGE> --programs <PROGRAMS>...";

#[derive(Debug, Args)]
pub(crate) struct LoadArgs {
    #[command(subcommand)]
    pub(crate) command: LoadCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum LoadCommand {
    /// Load eBPF programs from a local object file (.o)
    File(LoadFileArgs),
    /// Load eBPF programs from an OCI image in a registry or in the local store
    #[command(override_usage = LOAD_IMAGE_USAGE)]
    Image(LoadImageArgs),
}

#[derive(Debug, Args)]
pub(crate) struct LoadFileArgs {
    #[command(flatten)]
    pub(crate) programs: ProgramsArgs,

    /// Required: Path of the object file.
    /// Example: --path /run/bpfman/examples/go-xdp-counter/bpf_x86_bpfel.o
    #[arg(short, long, verbatim_doc_comment)]
    pub(crate) path: PathBuf,

    #[command(flatten)]
    pub(crate) options: LoadOptions,

    #[command(flatten)]
    pub(crate) output: ResultArgs,
}

#[derive(Debug, Args)]
pub(crate) struct LoadImageArgs {
    #[command(flatten)]
    pub(crate) programs: ProgramsArgs,

    #[command(flatten)]
    pub(crate) registry: RegistryArgs,

    #[command(flatten)]
    pub(crate) options: LoadOptions,

    #[command(flatten)]
    pub(crate) output: ResultArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ProgramsArgs {
    /// Required: Programs to load: for each, what it is to be and the name of its function
    /// in the object (not of its section).
    /// Format <TYPE>:<FUNC_NAME>
    ///
    /// For fentry and fexit the kernel function that is traced is fixed at load time, so
    /// it belongs to the format.
    /// Format <TYPE>:<FUNC_NAME>:<ATTACH_FUNC>
    ///
    /// Programs of one object that share maps or global variables are loaded together:
    /// give their <TYPE>:<FUNC_NAME> pairs with spaces between them.
    /// Example: --programs xdp:xdp_stats kprobe:kprobe_counter
    /// Example: --programs fentry:test_fentry:do_unlinkat
    ///
    /// [possible values for <TYPE>: fentry, fexit, kprobe, tc, tcx, tracepoint,
    ///                              uprobe, xdp]
    #[arg(long, required = true, num_args = 1.., action = ArgAction::Append, value_parser = program, verbatim_doc_comment)]
    pub(crate) programs: Vec<ProgramRequest>,
}

#[derive(Debug, Args)]
pub(crate) struct LoadOptions {
    /// Optional: Global variables to set before the programs are loaded.
    /// Format: <NAME>=<Hex Value>
    ///
    /// The bytes are written as they stand: size, byte order, alignment and padding are up
    /// to the caller, and the size must be the variable's. Several pairs are given with
    /// spaces between them.
    /// Example: -g GLOBAL_u8=01 GLOBAL_u32=0A0B0C0D
    #[arg(short, long, num_args = 1.., action = ArgAction::Append, verbatim_doc_comment)]
    pub(crate) global: Vec<GlobalValue>,

    /// Optional: Name of the application that the programs of this command belong to.
    /// It is kept as the metadata bpfman_application=<APPLICATION>, and the list commands
    /// can select by it.
    /// Example: --application TestEbpfApp
    #[arg(short, long, verbatim_doc_comment)]
    pub(crate) application: Option<String>,

    /// Optional: Metadata to keep with the programs; may be repeated.
    /// Format: <KEY>=<VALUE>
    ///
    /// The list commands can select the programs that carry it.
    /// Example: --metadata owner=acme
    #[arg(short, long, action = ArgAction::Append, verbatim_doc_comment)]
    pub(crate) metadata: Vec<KeyValue>,

    /// Optional: Program Id of a loaded program whose maps are to be shared: the new
    /// programs use its maps of the same names instead of making their own.
    /// Example: --map-owner-id 63178
    #[arg(long, value_parser = program_id, verbatim_doc_comment)]
    pub(crate) map_owner_id: Option<u32>,
}
