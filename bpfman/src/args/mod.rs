//! The command line: one file a command. The guide's commands, options, value names and defaults, in its order;
//! what the guide leaves out stands after it. Long texts keep their line ends, so they read the same everywhere.

mod attach;
mod detach;
mod doctor;
mod generate;
mod get;
mod image;
mod image_build;
mod image_name;
mod image_verify;
mod later;
mod list;
mod load;
mod result;
mod suggest;
mod template;
mod unload;
mod values;

use std::ffi::OsString;

use clap::{Arg, ArgAction, Command, CommandFactory, FromArgMatches, Parser, Subcommand};

pub(crate) use attach::{
    AttachArgs, AttachCommand, DirectionArgs, DirectionWord, ProbeArgs, TcArgs, TcxArgs,
    TracepointArgs, TracingArgs, UprobeArgs, XdpArgs, XdpModeWord,
};
pub(crate) use detach::DetachArgs;
pub(crate) use doctor::DoctorArgs;
pub(crate) use generate::{CompletionsArgs, ManArgs};
pub(crate) use get::{GetArgs, GetCommand};
pub(crate) use image::{ImageArgs, ImageCommand, PullArgs, PushArgs, RegistryArgs};
pub(crate) use image_build::{
    BuildArgs, BuildArgsFormat, BytecodeArgs, GenerateBuildArgs, RuntimeWord,
};
pub(crate) use image_verify::VerifyArgs;
pub(crate) use later::Later;
pub(crate) use list::{KernelTypeWord, ListArgs, ListCommand, ListLinksArgs, ListProgramsArgs};
pub(crate) use load::{LoadArgs, LoadCommand, LoadFileArgs, LoadImageArgs, LoadOptions};
pub(crate) use result::Shape;
pub(crate) use template::Template;
pub(crate) use unload::UnloadArgs;
pub(crate) use values::{GlobalValue, ImageUrl, KeyValue, OutputFormat};

/// Manage eBPF programs from a compiler's output to the kernel: build images of bytecode,
/// pull and load them, attach and detach their programs, and show what runs.
#[derive(Debug, Parser)]
#[command(
    name = "bpfman",
    version,
    verbatim_doc_comment,
    disable_version_flag = true
)]
pub(crate) struct Cli {
    /// Optional: Say more on standard error; goes before or after any command.
    ///
    /// Once (-v) for what is done, twice (-vv) for every step of it.
    #[arg(short, long, action = ArgAction::Count, global = true, verbatim_doc_comment, display_order = 900)]
    pub(crate) verbose: u8,

    /// Print version
    #[arg(short = 'V', long, action = ArgAction::Version, display_order = 1000)]
    version: Option<bool>,

    #[command(subcommand)]
    pub(crate) command: TopCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum TopCommand {
    /// Load eBPF programs into the kernel, from a file or an image
    Load(Later<LoadArgs>),
    /// Unload eBPF programs by their Program Ids
    #[command(visible_alias = "rm")]
    Unload(Later<UnloadArgs>),
    /// Attach a loaded eBPF program to a hook point by its Program Id
    Attach(Later<AttachArgs>),
    /// Detach eBPF programs from hook points by their Link Ids
    Detach(Later<DetachArgs>),
    /// List loaded eBPF programs or the links that attach them
    #[command(visible_aliases = ["ls", "ps"])]
    List(Later<ListArgs>),
    /// Show everything about one loaded program or one link
    Get(Later<GetArgs>),
    /// Work with images of eBPF bytecode
    Image(Later<ImageArgs>),
    /// Compare what is recorded with the kernel and bpffs
    ///
    /// Each difference is a line. What an interrupted command left is finished
    /// or undone first, as by any other command. The exit status is 0 when there
    /// is no difference, or all were repaired.
    #[command(verbatim_doc_comment)]
    Doctor(DoctorArgs),
    /// Print a completion script for a shell
    Completions(CompletionsArgs),
    /// Write the manual pages
    Man(ManArgs),
}

/// The whole command, as completions and manual pages see it.
pub(crate) fn command() -> Command {
    later::at_once(definition)
}

fn definition() -> Command {
    hide_verbose(Cli::command())
}

/// Reads the arguments of this process.
pub(crate) fn parse() -> Result<Cli, clap::Error> {
    parse_from(std::env::args_os())
}

pub(crate) fn parse_from(
    words: impl IntoIterator<Item = impl Into<OsString> + Clone>,
) -> Result<Cli, clap::Error> {
    let mut command = definition();
    let words = with_list_command(words.into_iter().map(Into::into).collect());
    let mut matches = command
        .try_get_matches_from_mut(&words)
        .map_err(|error| suggest::explain(error, &words))?;
    Cli::from_arg_matches_mut(&mut matches).map_err(|error| error.format(&mut command))
}

/// `list` alone is `list programs`. In words, so that the options of `list programs` are described once.
fn with_list_command(mut words: Vec<OsString>) -> Vec<OsString> {
    let is_verbose = |word: &OsString| {
        let word = word.to_string_lossy();
        word == "--verbose"
            || word
                .strip_prefix('-')
                .is_some_and(|rest| !rest.is_empty() && rest.chars().all(|c| c == 'v'))
    };
    let mut others = words
        .iter()
        .enumerate()
        .skip(1)
        .filter(|(_, word)| !is_verbose(word));
    let command = others.next();
    let Some((at, _)) = command.filter(|(_, word)| {
        ["list", "ls", "ps"]
            .iter()
            .any(|name| word.as_os_str() == *name)
    }) else {
        return words;
    };
    let is_alone = others.next().is_none_or(|(_, next)| {
        next.as_encoded_bytes().starts_with(b"-") && next != "-h" && next != "--help"
    });
    if is_alone {
        words.insert(at + 1, "programs".into());
    }
    words
}

/// `-v` goes with every command but is described once, by `bpfman --help`: a hidden twin with the same id takes the
/// place of the copy that clap would show in each one below this.
fn hide_verbose(mut command: Command) -> Command {
    for subcommand in command.get_subcommands_mut() {
        let twin = Arg::new("verbose")
            .short('v')
            .long("verbose")
            .action(ArgAction::Count)
            .global(true)
            .hide(true);
        *subcommand = hide_verbose(std::mem::take(subcommand).arg(twin));
    }
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Cli {
        parse_from(line.split(' ')).unwrap()
    }

    #[test]
    fn the_definition_is_sound() {
        command().debug_assert();
        definition().debug_assert();
    }

    #[test]
    fn verbose_goes_before_and_after_any_command() {
        let cases = [
            ("bpfman list links", 0),
            ("bpfman -v list links", 1),
            ("bpfman list -v links", 1),
            ("bpfman list links -vv", 2),
            ("bpfman attach 7 tracepoint -v -t a/b", 1),
        ];
        for (line, verbose) in cases {
            assert_eq!(parse(line).verbose, verbose, "{line}");
        }
    }

    #[test]
    fn list_alone_lists_programs() {
        for line in [
            "bpfman list",
            "bpfman ls",
            "bpfman -v ps",
            "bpfman list -v",
            "bpfman --verbose list -vv --all",
            "bpfman ps -q --application list",
        ] {
            let TopCommand::List(Later(ListArgs {
                command: ListCommand::Programs(_),
            })) = parse(line).command
            else {
                panic!("{line}");
            };
        }
        for line in ["bpfman list links", "bpfman ls -v link -q"] {
            let TopCommand::List(Later(ListArgs {
                command: ListCommand::Links(_),
            })) = parse(line).command
            else {
                panic!("{line}");
            };
        }
        for line in ["bpfman list -h", "bpfman ls --help"] {
            let help = parse_from(line.split(' ')).unwrap_err().to_string();
            assert!(help.contains("Commands:"), "{line}: {help}");
        }
    }

    #[test]
    fn lists_repeat_and_take_spaces() {
        let TopCommand::Load(Later(LoadArgs { command: LoadCommand::File(args) })) = parse(
            "bpfman load file --programs xdp:a kprobe:b -p x.o --programs fexit:c:d -g A=01 B=02 -g C=03 -m k=1 -m l=2",
        )
        .command
        else {
            panic!("not load file");
        };
        let functions: Vec<_> = args
            .programs
            .programs
            .iter()
            .map(|program| program.function.as_str())
            .collect();
        assert_eq!(functions, ["a", "b", "c"]);
        assert_eq!(args.options.global.len(), 3);
        assert_eq!(args.options.metadata.len(), 2);
        for line in [
            "bpfman attach 63661 xdp -i eno3 -p 30 --proceed-on drop pass dispatcher_return",
            "bpfman attach 63661 xdp -i eno3 -p 30 --proceed-on drop --proceed-on pass dispatcher_return",
        ] {
            let TopCommand::Attach(Later(AttachArgs {
                program_id: 63661,
                command: AttachCommand::Xdp(args),
            })) = parse(line).command
            else {
                panic!("not attach xdp");
            };
            assert_eq!(
                args.proceed_on,
                ["drop", "pass", "dispatcher_return"],
                "{line}"
            );
        }
    }
}
