use bytecode_object::ProgramType;
use loader::{AttachPoint, AttachRequest, ProceedOn, XdpMode};

use super::capabilities::{loader, to_attach};
use crate::args::{
    AttachArgs, AttachCommand, KeyValue, OutputFormat, TracepointArgs, XdpArgs, XdpModeWord,
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
        AttachCommand::Kprobe(_) => return Err(Error::NotBuiltYet("attach kprobe")),
        AttachCommand::Uprobe(_) => return Err(Error::NotBuiltYet("attach uprobe")),
        AttachCommand::Fentry(_) => return Err(Error::NotBuiltYet("attach fentry")),
        AttachCommand::Fexit(_) => return Err(Error::NotBuiltYet("attach fexit")),
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

fn mode(word: XdpModeWord) -> XdpMode {
    match word {
        XdpModeWord::Drv => XdpMode::Driver,
        XdpModeWord::Skb => XdpMode::Skb,
        XdpModeWord::Hw => XdpMode::Hardware,
    }
}
