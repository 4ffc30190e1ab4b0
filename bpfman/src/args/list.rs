use clap::{ArgAction, Args, Subcommand, ValueEnum};

use super::later::Later;
use super::result::ResultArgs;
use super::values::KeyValue;

#[derive(Debug, Args)]
/// Without a command `programs` is meant: `with_list_command`.
#[command(override_usage = "bpfman list [COMMAND]")]
pub(crate) struct ListArgs {
    #[command(subcommand)]
    pub(crate) command: ListCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ListCommand {
    /// List loaded eBPF programs; `list` alone does the same
    #[command(visible_alias = "program")]
    Programs(Later<ListProgramsArgs>),
    /// List the links that attach programs to hook points
    #[command(visible_alias = "link")]
    Links(Later<ListLinksArgs>),
}

#[derive(Debug, Args)]
pub(crate) struct ListProgramsArgs {
    #[command(flatten)]
    pub(crate) program_type: ProgramTypeArgs,

    /// Optional: Only programs of this application.
    /// Example: --application TestEbpfApp
    #[arg(long, verbatim_doc_comment)]
    pub(crate) application: Option<String>,

    /// Optional: Only programs that were loaded with this metadata; may be repeated, then
    /// all must match.
    /// Format: <KEY>=<VALUE>
    /// Example: --metadata-selector owner=acme
    #[arg(short, long, action = ArgAction::Append, verbatim_doc_comment)]
    pub(crate) metadata_selector: Vec<KeyValue>,

    /// Optional: Every program in the kernel, not only those that bpfman loaded.
    /// Example: --all
    #[arg(short, long, verbatim_doc_comment)]
    pub(crate) all: bool,

    #[command(flatten)]
    pub(crate) output: ResultArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ListLinksArgs {
    #[command(flatten)]
    pub(crate) program_type: ProgramTypeArgs,

    /// Optional: Only links of this application.
    /// Example: --application TestEbpfApp
    #[arg(long, verbatim_doc_comment)]
    pub(crate) application: Option<String>,

    /// Optional: Only links with this metadata, their own or their program's; may be
    /// repeated, then all must match.
    /// Format: <KEY>=<VALUE>
    /// Example: --metadata-selector owner=acme
    #[arg(short, long, action = ArgAction::Append, verbatim_doc_comment)]
    pub(crate) metadata_selector: Vec<KeyValue>,

    #[command(flatten)]
    pub(crate) output: ResultArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ProgramTypeArgs {
    /// Optional: Only this type of program, as the kernel counts types: kprobe and uprobe
    /// are probe, fentry and fexit are tracing, tc and tcx are tc.
    /// Example: --program-type xdp
    ///
    /// [possible values: unspec, socket-filter, probe, tc, sched-act, tracepoint, xdp,
    ///                   perf-event, cgroup-skb, cgroup-sock, lwt-in, lwt-out, lwt-xmit,
    ///                   sock-ops, sk-skb, cgroup-device, sk-msg, raw-tracepoint,
    ///                   cgroup-sock-addr, lwt-seg6-local, lirc-mode2, sk-reuseport,
    ///                   flow-dissector, cgroup-sysctl, raw-tracepoint-writable,
    ///                   cgroup-sockopt, tracing, struct-ops, ext, lsm, sk-lookup,
    ///                   syscall, netfilter]
    #[arg(
        short,
        long,
        value_enum,
        hide_possible_values = true,
        verbatim_doc_comment
    )]
    pub(crate) program_type: Option<KernelTypeWord>,
}

/// `enum bpf_prog_type` (kernel 6.12), in its order, in the words of the guide.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum KernelTypeWord {
    Unspec,
    SocketFilter,
    Probe,
    Tc,
    SchedAct,
    Tracepoint,
    Xdp,
    PerfEvent,
    CgroupSkb,
    CgroupSock,
    LwtIn,
    LwtOut,
    LwtXmit,
    SockOps,
    SkSkb,
    CgroupDevice,
    SkMsg,
    RawTracepoint,
    CgroupSockAddr,
    #[value(name = "lwt-seg6-local")]
    LwtSeg6Local,
    #[value(name = "lirc-mode2")]
    LircMode2,
    SkReuseport,
    FlowDissector,
    CgroupSysctl,
    RawTracepointWritable,
    CgroupSockopt,
    Tracing,
    StructOps,
    Ext,
    Lsm,
    SkLookup,
    Syscall,
    Netfilter,
}

impl KernelTypeWord {
    /// The word with underscores, as the loader names kernel types.
    pub(crate) fn kernel_name(self) -> Option<String> {
        self.to_possible_value()
            .map(|value| value.get_name().replace('-', "_"))
    }
}
