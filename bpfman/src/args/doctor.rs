use clap::Args;

use super::values::OutputArgs;

#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    /// Optional: Repair the differences, one by one. What others made is left
    /// as it is, and named.
    #[arg(long, verbatim_doc_comment)]
    pub(crate) repair: bool,

    #[command(flatten)]
    pub(crate) output: OutputArgs,
}
