use bytecode_object::ProgramType;
use loader::{AttachPoint, AttachRequest, ProceedOn, UprobePoint, XdpMode};

use super::capabilities::{loader, to_attach};
use crate::args::{
    AttachArgs, AttachCommand, KeyValue, OutputFormat, ProbeArgs, TracepointArgs, TracingArgs,
    UprobeArgs, XdpArgs, XdpModeWord,
};
use crate::config::Config;
use crate::error::Error;
use crate::metadata;
use crate::output::Printer;

/// `attach`.
pub(super) fn run(args: AttachArgs) -> Result<(), Error> {
    let (hook, (point, metadata, format)) = match args.command {
        AttachCommand::Xdp(args) => (ProgramType::Xdp, xdp(args)?),
        AttachCommand::Tracepoint(args) => (ProgramType::Tracepoint, tracepoint(args)),
        AttachCommand::Tc(_) => return Err(Error::NotBuiltYet("attach tc")),
        AttachCommand::Tcx(_) => return Err(Error::NotBuiltYet("attach tcx")),
        AttachCommand::Kprobe(args) => (ProgramType::Kprobe, kprobe(args)),
        AttachCommand::Uprobe(args) => (ProgramType::Uprobe, uprobe(args)),
        AttachCommand::Fentry(args) => (ProgramType::Fentry, tracing(AttachPoint::Fentry, args)),
        AttachCommand::Fexit(args) => (ProgramType::Fexit, tracing(AttachPoint::Fexit, args)),
    };
    let request = AttachRequest {
        point,
        metadata: metadata::collect(metadata, None)?,
    };
    let loader = loader(&to_attach(hook), &Config::read()?)?;
    let link = loader.attach(&mut loader.lock()?, args.program_id, request)?;
    Printer::new(format).link(&link)
}

type Parts = (AttachPoint, Vec<KeyValue>, OutputFormat);

fn xdp(args: XdpArgs) -> Result<Parts, Error> {
    if args.place.netns.is_some() {
        return Err(Error::NotBuiltYet("attach xdp --netns"));
    }
    let point = AttachPoint::Xdp {
        iface: args.iface.iface,
        priority: args.iface.priority,
        proceed_on: Some(args.proceed_on)
            .filter(|words| !words.is_empty())
            .map(ProceedOn),
        mode: args.mode.map(mode),
        netns: args.place.netns,
    };
    Ok((point, args.place.metadata.metadata, args.output.output))
}

fn tracepoint(args: TracepointArgs) -> Parts {
    (
        AttachPoint::Tracepoint {
            tracepoint: args.tracepoint,
        },
        args.metadata.metadata,
        args.output.output,
    )
}

fn kprobe(args: ProbeArgs) -> Parts {
    let point = AttachPoint::Kprobe {
        function: args.fn_name,
        offset: args.offset,
    };
    (point, args.metadata.metadata, args.output.output)
}

fn uprobe(args: UprobeArgs) -> Parts {
    let point = AttachPoint::Uprobe(UprobePoint {
        target: args.target,
        function: args.fn_name,
        offset: args.offset,
        pid: args.pid,
        container_pid: args.container_pid,
    });
    (point, args.metadata.metadata, args.output.output)
}

fn tracing(point: AttachPoint, args: TracingArgs) -> Parts {
    (point, args.metadata.metadata, args.output.output)
}

fn mode(word: XdpModeWord) -> XdpMode {
    match word {
        XdpModeWord::Drv => XdpMode::Driver,
        XdpModeWord::Skb => XdpMode::Skb,
        XdpModeWord::Hw => XdpMode::Hardware,
    }
}
