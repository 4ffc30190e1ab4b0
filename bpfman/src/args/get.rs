use clap::{Args, Subcommand};

use super::values::OutputArgs;

#[derive(Debug, Args)]
pub(crate) struct GetArgs {
    #[command(subcommand)]
    pub(crate) command: GetCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum GetCommand {
    /// Show a loaded program, whoever loaded it
    Program {
        /// Required: Program Id to be shown
        program_id: u32,

        #[command(flatten)]
        output: OutputArgs,
    },
    /// Show a link, which attaches a program to a hook point
    Link {
        /// Required: Link Id to be shown
        link_id: u32,

        #[command(flatten)]
        output: OutputArgs,
    },
}
