use bytecode_object::ProgramType;
use loader::kernel::linux::Capability;
use loader::{AttachPoint, AttachRequest, ProceedOn, TcDirection, UprobePoint, XdpMode};

use super::capabilities::{loader, to_attach};
use crate::args::{
    AttachArgs, AttachCommand, DirectionArgs, DirectionWord, KeyValue, OutputFormat, ProbeArgs,
    TcArgs, TcxArgs, TracepointArgs, TracingArgs, UprobeArgs, XdpArgs, XdpModeWord,
};
use crate::config::Config;
use crate::error::Error;
use crate::metadata;
use crate::output::Printer;

/// `attach`.
pub(super) fn run(args: AttachArgs) -> Result<(), Error> {
    let (hook, (point, metadata, format)) = match args.command {
        AttachCommand::Xdp(args) => (ProgramType::Xdp, xdp(args)),
        AttachCommand::Tc(args) => (ProgramType::Tc, tc(args)),
        AttachCommand::Tcx(args) => (ProgramType::Tcx, tcx(args)),
        AttachCommand::Tracepoint(args) => (ProgramType::Tracepoint, tracepoint(args)),
        AttachCommand::Kprobe(args) => (ProgramType::Kprobe, kprobe(args)),
        AttachCommand::Uprobe(args) => (ProgramType::Uprobe, uprobe(args)),
        AttachCommand::Fentry(args) => (ProgramType::Fentry, tracing(AttachPoint::Fentry, args)),
        AttachCommand::Fexit(args) => (ProgramType::Fexit, tracing(AttachPoint::Fexit, args)),
    };
    let mut needed = to_attach(hook);
    if in_namespace(&point) {
        // setns(2).
        needed.push(Capability::SysAdmin);
    }
    let request = AttachRequest {
        point,
        metadata: metadata::collect(metadata, None)?,
    };
    let loader = loader(&needed, &Config::read()?)?;
    let link = loader.attach(&mut loader.lock()?, args.program_id, request)?;
    Printer::new(format).link(&link)
}

type Parts = (AttachPoint, Vec<KeyValue>, OutputFormat);

fn xdp(args: XdpArgs) -> Parts {
    let point = AttachPoint::Xdp {
        iface: args.iface.iface,
        priority: args.iface.priority,
        proceed_on: proceed_on(args.proceed_on),
        mode: args.mode.map(mode),
        netns: args.place.netns,
    };
    (point, args.place.metadata.metadata, args.output.output)
}

fn tc(args: TcArgs) -> Parts {
    let point = AttachPoint::Tc {
        iface: args.iface.iface,
        direction: direction(&args.direction),
        priority: args.iface.priority,
        proceed_on: proceed_on(args.proceed_on),
        netns: args.place.netns,
    };
    (point, args.place.metadata.metadata, args.output.output)
}

fn tcx(args: TcxArgs) -> Parts {
    let point = AttachPoint::Tcx {
        iface: args.iface.iface,
        direction: direction(&args.direction),
        priority: args.iface.priority,
        netns: args.place.netns,
    };
    (point, args.place.metadata.metadata, args.output.output)
}

fn in_namespace(point: &AttachPoint) -> bool {
    match point {
        AttachPoint::Xdp { netns, .. }
        | AttachPoint::Tc { netns, .. }
        | AttachPoint::Tcx { netns, .. } => netns.is_some(),
        _ => false,
    }
}

fn proceed_on(words: Vec<String>) -> Option<ProceedOn> {
    Some(words).filter(|words| !words.is_empty()).map(ProceedOn)
}

fn direction(args: &DirectionArgs) -> TcDirection {
    match args.direction {
        DirectionWord::Ingress => TcDirection::Ingress,
        DirectionWord::Egress => TcDirection::Egress,
    }
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
