use clap::Args;

#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    /// Optional: Mend the differences that are found
    #[arg(long)]
    pub(crate) repair: bool,
}
