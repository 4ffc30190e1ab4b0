use clap::Args;

#[derive(Debug, Args)]
pub(crate) struct UnloadArgs {
    /// Required: Program Id to be unloaded
    pub(crate) program_id: u32,

    /// Optional: A program that is not there is no error
    #[arg(long)]
    pub(crate) ignore_missing: bool,
}
