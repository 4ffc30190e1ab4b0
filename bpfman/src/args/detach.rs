use clap::Args;

use super::values::{OutputArgs, link_id};

#[derive(Debug, Args)]
#[command(
    override_usage = "bpfman detach [OPTIONS] <LINK_ID>...\n       bpfman detach [OPTIONS] --application <APPLICATION>"
)]
pub(crate) struct DetachArgs {
    /// Required: Link Id to be detached; several with spaces between them
    #[arg(
        value_name = "LINK_ID",
        value_parser = link_id,
        required_unless_present = "application",
        conflicts_with = "application"
    )]
    pub(crate) link_ids: Vec<u32>,

    /// Optional: Detach every link of this application instead.
    /// Example: --application TestEbpfApp
    #[arg(short, long, verbatim_doc_comment)]
    pub(crate) application: Option<String>,

    /// Optional: A link that is not there is no error
    #[arg(long)]
    pub(crate) ignore_missing: bool,

    #[command(flatten)]
    pub(crate) output: OutputArgs,
}
