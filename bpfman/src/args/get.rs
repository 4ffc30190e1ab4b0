use clap::{Args, Subcommand};

use super::result::TemplateArgs;
use super::values::{OutputArgs, link_id, program_id};

#[derive(Debug, Args)]
pub(crate) struct GetArgs {
    #[command(subcommand)]
    pub(crate) command: GetCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum GetCommand {
    /// Show a loaded program, whoever loaded it
    #[command(visible_alias = "programs")]
    Program {
        /// Required: Program Id to be shown
        #[arg(value_parser = program_id)]
        program_id: u32,

        #[command(flatten)]
        output: OutputArgs,

        #[command(flatten)]
        template: TemplateArgs,
    },
    /// Show a link, which attaches a program to a hook point
    #[command(visible_alias = "links")]
    Link {
        /// Required: Link Id to be shown
        #[arg(value_parser = link_id)]
        link_id: u32,

        #[command(flatten)]
        output: OutputArgs,

        #[command(flatten)]
        template: TemplateArgs,
    },
}
