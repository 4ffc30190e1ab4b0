//! How a result is printed: for people, as JSON, or for scripts.

use clap::Args;

use super::template::Template;
use super::values::{OutputArgs, OutputFormat};

/// What is printed of a result.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) enum Shape {
    /// A table.
    #[default]
    Table,
    /// JSON.
    Json,
    /// Ids, one per line.
    Ids,
    /// One line per result.
    Template(Template),
}

/// `--output`, `--quiet` and `--format`.
#[derive(Debug, Args)]
pub(crate) struct ResultArgs {
    #[command(flatten)]
    pub(crate) output: OutputArgs,

    #[command(flatten)]
    pub(crate) script: ScriptArgs,
}

/// What scripts want of a result.
#[derive(Debug, Args)]
pub(crate) struct ScriptArgs {
    /// Optional: Print ids only, one per line.
    #[arg(short, long, conflicts_with_all = ["output", "format"], verbatim_doc_comment)]
    pub(crate) quiet: bool,

    #[command(flatten)]
    pub(crate) template: TemplateArgs,
}

/// `--format`.
#[derive(Debug, Args)]
pub(crate) struct TemplateArgs {
    /// Optional: Print a line per result, with its fields as JSON names them.
    /// Format: text with {{.<FIELD>}} or {{json .<FIELD>}} in it
    /// Example: --format '{{.program_id}} {{.bpf_function}}'
    #[arg(
        long,
        value_name = "TEMPLATE",
        conflicts_with = "output",
        verbatim_doc_comment
    )]
    pub(crate) format: Option<Template>,
}

impl From<OutputFormat> for Shape {
    fn from(format: OutputFormat) -> Self {
        match format {
            OutputFormat::Table => Self::Table,
            OutputFormat::Json => Self::Json,
        }
    }
}

impl From<(OutputFormat, TemplateArgs)> for Shape {
    fn from((output, args): (OutputFormat, TemplateArgs)) -> Self {
        args.format.map_or_else(|| output.into(), Self::Template)
    }
}

impl From<(OutputFormat, ScriptArgs)> for Shape {
    fn from((output, args): (OutputFormat, ScriptArgs)) -> Self {
        if args.quiet {
            Self::Ids
        } else {
            (output, args.template).into()
        }
    }
}

impl From<ResultArgs> for Shape {
    fn from(args: ResultArgs) -> Self {
        (args.output.output, args.script).into()
    }
}
