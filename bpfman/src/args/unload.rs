use clap::Args;

use super::values::{OutputArgs, program_id};

#[derive(Debug, Args)]
#[command(
    override_usage = "bpfman unload [OPTIONS] <PROGRAM_ID>...\n       bpfman unload [OPTIONS] --application <APPLICATION>"
)]
pub(crate) struct UnloadArgs {
    /// Required: Program Id to be unloaded; several with spaces between them
    #[arg(
        value_name = "PROGRAM_ID",
        value_parser = program_id,
        required_unless_present = "application",
        conflicts_with = "application"
    )]
    pub(crate) program_ids: Vec<u32>,

    /// Optional: Unload every program of this application instead.
    /// Example: --application TestEbpfApp
    #[arg(short, long, verbatim_doc_comment)]
    pub(crate) application: Option<String>,

    /// Optional: A program that is not there is no error
    #[arg(long)]
    pub(crate) ignore_missing: bool,

    #[command(flatten)]
    pub(crate) output: OutputArgs,
}
