use clap::Args;

#[derive(Debug, Args)]
pub(crate) struct DetachArgs {
    /// Required: Link Id to be detached
    pub(crate) link_id: u32,

    /// Optional: A link that is not there is no error
    #[arg(long)]
    pub(crate) ignore_missing: bool,
}
