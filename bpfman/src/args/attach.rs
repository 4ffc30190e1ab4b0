use std::path::PathBuf;

use clap::builder::PossibleValuesParser;
use clap::{ArgAction, Args, Subcommand, ValueEnum};

use super::result::{ResultArgs, ScriptArgs};
use super::values::{KeyValue, OutputFormat, offset, process_id, program_id, tracepoint};

/// Words of XDP return codes, in the kernel's order; 31 is the dispatcher's own.
const XDP_CODES: [&str; 6] = [
    "aborted",
    "drop",
    "pass",
    "tx",
    "redirect",
    "dispatcher_return",
];
/// Words of TC return codes, in the kernel's order; the last is the dispatcher's own.
const TC_CODES: [&str; 11] = [
    "unspec",
    "ok",
    "reclassify",
    "shot",
    "pipe",
    "stolen",
    "queued",
    "repeat",
    "redirect",
    "trap",
    "dispatcher_return",
];

#[derive(Debug, Args)]
pub(crate) struct AttachArgs {
    /// Required: Program Id to be attached
    #[arg(value_parser = program_id)]
    pub(crate) program_id: u32,

    #[command(subcommand)]
    pub(crate) command: AttachCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum AttachCommand {
    /// Attach an XDP program to an interface
    Xdp(XdpArgs),
    /// Attach a TC program to one direction of an interface
    Tc(TcArgs),
    /// Attach a TCX program to one direction of an interface
    Tcx(TcxArgs),
    /// Attach a program to a tracepoint of the kernel
    Tracepoint(TracepointArgs),
    /// Attach a kprobe or kretprobe program to a function of the kernel
    Kprobe(ProbeArgs),
    /// Attach a uprobe or uretprobe program to a function of a user-space binary
    Uprobe(UprobeArgs),
    /// Attach an fentry program to the function that it was loaded for
    Fentry(TracingArgs),
    /// Attach an fexit program to the function that it was loaded for
    Fexit(TracingArgs),
}

#[derive(Debug, Args)]
pub(crate) struct XdpArgs {
    #[command(flatten)]
    pub(crate) iface: IfaceArgs,

    /// Optional: Return codes after which the next program of the chain runs too. With any
    /// other code the chain ends there.
    /// Several are given by repeating the option or with spaces between them.
    /// Example: --proceed-on pass --proceed-on drop
    ///
    /// [possible values: aborted, drop, pass, tx, redirect, dispatcher_return]
    ///
    /// [default: pass, dispatcher_return]
    #[arg(
        long,
        num_args = 1..,
        action = ArgAction::Append,
        value_parser = PossibleValuesParser::new(XDP_CODES),
        hide_possible_values = true,
        verbatim_doc_comment
    )]
    pub(crate) proceed_on: Vec<String>,

    #[command(flatten)]
    pub(crate) place: PlaceArgs,

    /// Optional: Where the program sits: in the driver, in the kernel's generic hook after
    /// the driver, or on the card. Overrides xdp_mode of the configuration; unset in both:
    /// the driver, and the generic hook where the driver refuses.
    ///
    /// [possible values: drv, skb, hw]
    #[arg(long, value_enum, hide_possible_values = true, verbatim_doc_comment)]
    pub(crate) mode: Option<XdpModeWord>,

    #[command(flatten)]
    pub(crate) output: ResultArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum XdpModeWord {
    Drv,
    Skb,
    Hw,
}

#[derive(Debug, Args)]
pub(crate) struct TcArgs {
    #[command(flatten)]
    pub(crate) direction: DirectionArgs,

    #[command(flatten)]
    pub(crate) iface: IfaceArgs,

    /// Optional: Return codes after which the next program of the chain runs too. With any
    /// other code the chain ends there.
    /// Several are given by repeating the option or with spaces between them.
    /// Example: --proceed-on ok --proceed-on pipe
    ///
    /// [possible values: unspec, ok, reclassify, shot, pipe, stolen, queued,
    ///                   repeat, redirect, trap, dispatcher_return]
    ///
    /// [default: ok, pipe, dispatcher_return]
    #[arg(
        long,
        num_args = 1..,
        action = ArgAction::Append,
        value_parser = PossibleValuesParser::new(TC_CODES),
        hide_possible_values = true,
        verbatim_doc_comment
    )]
    pub(crate) proceed_on: Vec<String>,

    #[command(flatten)]
    pub(crate) place: PlaceArgs,

    #[command(flatten)]
    pub(crate) output: ResultArgs,
}

#[derive(Debug, Args)]
pub(crate) struct TcxArgs {
    #[command(flatten)]
    pub(crate) direction: DirectionArgs,

    #[command(flatten)]
    pub(crate) iface: IfaceArgs,

    #[command(flatten)]
    pub(crate) place: PlaceArgs,

    #[command(flatten)]
    pub(crate) output: ResultArgs,
}

#[derive(Debug, Args)]
pub(crate) struct TracepointArgs {
    /// Required: Tracepoint to attach to, as <CATEGORY>/<NAME>.
    /// Example: --tracepoint syscalls/sys_enter_openat
    #[arg(short, long, value_parser = tracepoint, verbatim_doc_comment)]
    pub(crate) tracepoint: String,

    #[command(flatten)]
    pub(crate) metadata: MetadataArgs,

    #[command(flatten)]
    pub(crate) output: ResultArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ProbeArgs {
    /// Required: Kernel function to attach to.
    /// Example: --fn-name try_to_wake_up
    #[arg(short, long, verbatim_doc_comment)]
    pub(crate) fn_name: String,

    /// Optional: Bytes from the start of the function; a kretprobe takes none.
    ///
    /// [default: 0]
    #[arg(
        short,
        long,
        default_value_t,
        hide_default_value = true,
        value_parser = offset,
        verbatim_doc_comment
    )]
    pub(crate) offset: u64,

    #[command(flatten)]
    pub(crate) metadata: MetadataArgs,

    #[command(flatten)]
    pub(crate) output: LongOutputArgs,
}

#[derive(Debug, Args)]
pub(crate) struct UprobeArgs {
    /// Optional: Function of the target to attach to; without it, --offset is required.
    /// Example: --fn-name malloc
    #[arg(short, long, required_unless_present = "offset", verbatim_doc_comment)]
    pub(crate) fn_name: Option<String>,

    /// Optional: Bytes from the start of the function, or from the start of the file when
    /// no function is named.
    ///
    /// [default: 0]
    #[arg(
        short,
        long,
        default_value_t,
        hide_default_value = true,
        value_parser = offset,
        verbatim_doc_comment
    )]
    pub(crate) offset: u64,

    /// Required: Name of a library, or absolute path of a library or an executable.
    /// Example: --target libc
    #[arg(short, long, verbatim_doc_comment)]
    pub(crate) target: String,

    /// Optional: Only when this process runs the function; every process when absent.
    #[arg(short, long, value_parser = process_id, verbatim_doc_comment)]
    pub(crate) pid: Option<u32>,

    /// Optional: Process of the container in whose file system the target is looked up, as
    /// the host numbers it.
    #[arg(short, long, value_parser = process_id, verbatim_doc_comment)]
    pub(crate) container_pid: Option<u32>,

    #[command(flatten)]
    pub(crate) metadata: MetadataArgs,

    #[command(flatten)]
    pub(crate) output: LongOutputArgs,
}

#[derive(Debug, Args)]
pub(crate) struct TracingArgs {
    #[command(flatten)]
    pub(crate) metadata: MetadataArgs,

    #[command(flatten)]
    pub(crate) output: ResultArgs,
}

#[derive(Debug, Args)]
pub(crate) struct IfaceArgs {
    /// Required: Interface to attach to
    #[arg(short, long)]
    pub(crate) iface: String,

    /// Required: Place of the program in the chain of its interface: lower runs first.
    /// [possible values: 1-1000]
    #[arg(short, long, value_parser = clap::value_parser!(u32).range(1..=1000), verbatim_doc_comment)]
    pub(crate) priority: u32,
}

#[derive(Debug, Args)]
pub(crate) struct DirectionArgs {
    /// Required: Packets that the program sees: those that come in or those that go out.
    ///
    /// [possible values: ingress, egress]
    #[arg(
        short,
        long,
        value_enum,
        hide_possible_values = true,
        verbatim_doc_comment
    )]
    pub(crate) direction: DirectionWord,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum DirectionWord {
    Ingress,
    Egress,
}

#[derive(Debug, Args)]
pub(crate) struct PlaceArgs {
    /// Optional: Path of the network namespace that the interface is in.
    /// Example: -n /var/run/netns/bpfman-test
    #[arg(short, long, verbatim_doc_comment)]
    pub(crate) netns: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) metadata: MetadataArgs,
}

#[derive(Debug, Args)]
pub(crate) struct MetadataArgs {
    /// Optional: Metadata to keep with the link; may be repeated.
    /// Format: <KEY>=<VALUE>
    ///
    /// The list commands can select the links that carry it.
    /// Example: --metadata owner=acme
    #[arg(short, long, action = ArgAction::Append, verbatim_doc_comment)]
    pub(crate) metadata: Vec<KeyValue>,
}

/// `--output` where `-o` means the offset.
#[derive(Debug, Args)]
pub(crate) struct LongOutputArgs {
    /// Optional: How the result is printed.
    ///
    /// [possible values: table, json]
    ///
    /// [default: table]
    #[arg(
        long,
        value_enum,
        default_value_t,
        hide_default_value = true,
        hide_possible_values = true,
        verbatim_doc_comment
    )]
    pub(crate) output: OutputFormat,

    #[command(flatten)]
    pub(crate) script: ScriptArgs,
}
