use loader::{AttachPoint, AttachRequest, ProceedOn, TcDirection, UprobePoint, XdpMode};

use super::capabilities::{check, check_links, loader, lock, to_attach, to_join};
use crate::args::{
    AttachArgs, AttachCommand, DirectionArgs, DirectionWord, KeyValue, ProbeArgs, Shape, TcArgs,
    TcxArgs, TracepointArgs, TracingArgs, UprobeArgs, XdpArgs, XdpModeWord,
};
use crate::config::Config;
use crate::error::Error;
use crate::metadata;
use crate::output::Printer;

/// `attach`.
pub(super) fn run(args: AttachArgs) -> Result<(), Error> {
    let (point, metadata, shape) = match args.command {
        AttachCommand::Xdp(args) => xdp(args),
        AttachCommand::Tc(args) => tc(args),
        AttachCommand::Tcx(args) => tcx(args),
        AttachCommand::Tracepoint(args) => tracepoint(args),
        AttachCommand::Kprobe(args) => kprobe(args),
        AttachCommand::Uprobe(args) => uprobe(args),
        AttachCommand::Fentry(args) => tracing(AttachPoint::Fentry, args),
        AttachCommand::Fexit(args) => tracing(AttachPoint::Fexit, args),
    };
    let request = AttachRequest {
        point,
        metadata: metadata::collect(metadata, None)?,
    };
    let config = Config::read()?;
    check(&to_attach(&request.point))?;
    let loader = loader(&config);
    let mut guard = lock(&loader)?;
    check_links(&loader, &guard, |links| to_join(&request.point, links))?;
    let link = loader.attach(&mut guard, args.program_id, request)?;
    Printer::new(shape).attached(&link)
}

type Parts = (AttachPoint, Vec<KeyValue>, Shape);

fn xdp(args: XdpArgs) -> Parts {
    let point = AttachPoint::Xdp {
        iface: args.iface.iface,
        priority: args.iface.priority,
        proceed_on: proceed_on(args.proceed_on),
        mode: args.mode.map(mode),
        netns: args.place.netns,
    };
    (point, args.place.metadata.metadata, args.output.into())
}

fn tc(args: TcArgs) -> Parts {
    let point = AttachPoint::Tc {
        iface: args.iface.iface,
        direction: direction(&args.direction),
        priority: args.iface.priority,
        proceed_on: proceed_on(args.proceed_on),
        netns: args.place.netns,
    };
    (point, args.place.metadata.metadata, args.output.into())
}

fn tcx(args: TcxArgs) -> Parts {
    let point = AttachPoint::Tcx {
        iface: args.iface.iface,
        direction: direction(&args.direction),
        priority: args.iface.priority,
        netns: args.place.netns,
    };
    (point, args.place.metadata.metadata, args.output.into())
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
        args.output.into(),
    )
}

fn kprobe(args: ProbeArgs) -> Parts {
    let point = AttachPoint::Kprobe {
        function: args.fn_name,
        offset: args.offset,
    };
    (
        point,
        args.metadata.metadata,
        (args.output.output, args.output.script).into(),
    )
}

fn uprobe(args: UprobeArgs) -> Parts {
    let point = AttachPoint::Uprobe(UprobePoint {
        target: args.target,
        function: args.fn_name,
        offset: args.offset,
        pid: args.pid,
        container_pid: args.container_pid,
    });
    (
        point,
        args.metadata.metadata,
        (args.output.output, args.output.script).into(),
    )
}

fn tracing(point: AttachPoint, args: TracingArgs) -> Parts {
    (point, args.metadata.metadata, args.output.into())
}

fn mode(word: XdpModeWord) -> XdpMode {
    match word {
        XdpModeWord::Drv => XdpMode::Driver,
        XdpModeWord::Skb => XdpMode::Skb,
        XdpModeWord::Hw => XdpMode::Hardware,
    }
}
