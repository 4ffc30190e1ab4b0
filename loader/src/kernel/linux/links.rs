//! Links: a program on a hook, held by a descriptor or a pin.

use std::fs;
use std::io::ErrorKind;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use aya_obj::generated::bpf_attach_type;

use super::netns::Namespace;
use super::{KernelError, LinuxKernel, failed, probes, sys};
use crate::kernel::{LinkSpec, Side};
use crate::{TcDirection, XdpMode};

const XDP_FLAGS_SKB_MODE: u32 = 1 << 1;
const XDP_FLAGS_DRV_MODE: u32 = 1 << 2;
const XDP_FLAGS_HW_MODE: u32 = 1 << 3;

/// `enum` of linux/bpf.h, for `BPF_LINK_CREATE` of TCX.
const BPF_F_BEFORE: u32 = 1 << 3;
const BPF_F_AFTER: u32 = 1 << 4;
const BPF_F_LINK: u32 = 1 << 13;

/// Where tracefs is mounted (since 4.1), and where debugfs shows it.
const TRACEFS: [&str; 2] = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"];

pub(super) fn link(
    kernel: &LinuxKernel,
    spec: &LinkSpec<'_, OwnedFd>,
) -> Result<OwnedFd, KernelError> {
    match spec {
        LinkSpec::Xdp {
            program,
            ifindex,
            mode,
            netns,
        } => xdp(program, *ifindex, *mode, *netns),
        LinkSpec::Extension {
            program,
            target,
            function,
        } => extension(kernel, program, target, function),
        LinkSpec::Tcx {
            program,
            ifindex,
            direction,
            beside,
            netns,
        } => tcx(kernel, program, *ifindex, *direction, *beside, *netns),
        LinkSpec::Tracepoint {
            program,
            category,
            name,
        } => tracepoint(program, category, name),
        LinkSpec::Kprobe {
            program,
            function,
            offset,
            retprobe,
        } => probes::kprobe(program, function, *offset, *retprobe),
        LinkSpec::Uprobe {
            program,
            binary,
            offset,
            pid,
            retprobe,
        } => probes::uprobe(program, binary, *offset, *pid, *retprobe),
        LinkSpec::Tracing { program } => tracing(program),
    }
}

fn xdp(
    program: &OwnedFd,
    ifindex: u32,
    mode: Option<XdpMode>,
    netns: Option<&Path>,
) -> Result<OwnedFd, KernelError> {
    let flags = match mode {
        None => 0,
        Some(XdpMode::Driver) => XDP_FLAGS_DRV_MODE,
        Some(XdpMode::Skb) => XDP_FLAGS_SKB_MODE,
        Some(XdpMode::Hardware) => XDP_FLAGS_HW_MODE,
    };
    // The kernel looks the index up in the namespace of the thread that asks.
    let made = Namespace::open(netns)?.run(|| {
        let target = sys::LinkTarget::Interface(ifindex);
        sys::link_create(program.as_fd(), &target, bpf_attach_type::BPF_XDP, flags)
    });
    made.map_err(failed(|| {
        format!("linking an XDP program to interface {ifindex}")
    }))
}

fn tcx(
    kernel: &LinuxKernel,
    program: &OwnedFd,
    ifindex: u32,
    direction: TcDirection,
    beside: Option<(Side, &OwnedFd)>,
    netns: Option<&Path>,
) -> Result<OwnedFd, KernelError> {
    let attach_type = match direction {
        TcDirection::Ingress => bpf_attach_type::BPF_TCX_INGRESS,
        TcDirection::Egress => bpf_attach_type::BPF_TCX_EGRESS,
    };
    let (beside, flags) = match beside {
        None => (None, 0),
        Some((Side::Before, link)) => (Some(link.as_fd()), BPF_F_BEFORE | BPF_F_LINK),
        Some((Side::After, link)) => (Some(link.as_fd()), BPF_F_AFTER | BPF_F_LINK),
    };
    let made = Namespace::open(netns)?.run(|| {
        let target = sys::LinkTarget::Tcx { ifindex, beside };
        sys::link_create(program.as_fd(), &target, attach_type, flags)
    });
    made.map_err(|source| {
        // A vendor's kernel may have it, whatever its number says: only a refusal is asked about.
        let unknown = matches!(source.raw_os_error(), Some(libc::EINVAL | libc::E2BIG));
        if unknown && !kernel.version.has_tcx() {
            return KernelError::TooOld {
                what: "TCX",
                needs: "6.6",
                running: kernel.version.to_string(),
                source,
            };
        }
        failed(|| format!("linking a TCX program to interface {ifindex}"))(source)
    })
}

fn extension(
    kernel: &LinuxKernel,
    program: &OwnedFd,
    target: &OwnedFd,
    function: &str,
) -> Result<OwnedFd, KernelError> {
    let id = kernel.function_of(target, function)?;
    let target = sys::LinkTarget::Function(target.as_fd(), id);
    // EXT programs have no attach type of their own: nought, which is this one's number.
    sys::link_create(
        program.as_fd(),
        &target,
        bpf_attach_type::BPF_CGROUP_INET_INGRESS,
        0,
    )
    .map_err(failed(|| {
        format!("linking a program to `{function}` of a dispatcher")
    }))
}

fn tracepoint(program: &OwnedFd, category: &str, name: &str) -> Result<OwnedFd, KernelError> {
    let id = tracepoint_id(category, name)?;
    let event = sys::tracepoint_event(id).map_err(failed(|| {
        format!("opening an event of tracepoint {category}/{name}")
    }))?;
    perf_event(program, &event, || {
        format!("linking a program to tracepoint {category}/{name}")
    })
}

/// A program on a perf event; the link holds the event.
pub(super) fn perf_event(
    program: &OwnedFd,
    event: &OwnedFd,
    call: impl FnOnce() -> String,
) -> Result<OwnedFd, KernelError> {
    let target = sys::LinkTarget::PerfEvent(event.as_fd());
    sys::link_create(program.as_fd(), &target, bpf_attach_type::BPF_PERF_EVENT, 0)
        .map_err(failed(call))
}

/// `BPF_LINK_CREATE` does it too, from 5.19 on; this call does it on every kernel.
fn tracing(program: &OwnedFd) -> Result<OwnedFd, KernelError> {
    sys::tracing_open(program.as_fd())
        .map_err(failed(|| "linking a program to its function".to_owned()))
}

fn tracepoint_id(category: &str, name: &str) -> Result<u64, KernelError> {
    let mut tracefs = TRACEFS
        .iter()
        .map(Path::new)
        .filter(|path| path.join("events").is_dir());
    let tracefs = tracefs.next().ok_or(KernelError::NoTracefs)?;
    let path = id_file(tracefs, category, name);
    let none = |path| KernelError::NoTracepoint {
        category: category.to_owned(),
        name: name.to_owned(),
        path,
    };
    let Some(path) = path else {
        return Err(none(tracefs.join("events")));
    };
    let call = || format!("reading {}", path.display());
    let text = match fs::read_to_string(&path) {
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Err(none(path));
        }
        text => text.map_err(failed(call))?,
    };
    text.trim()
        .parse()
        .map_err(|error| failed(call)(std::io::Error::new(ErrorKind::InvalidData, error)))
}

/// `events/<category>/<name>/id`; `None` for a name that is no name but a way out of there.
fn id_file(tracefs: &Path, category: &str, name: &str) -> Option<PathBuf> {
    let plain =
        |word: &str| !word.is_empty() && word != "." && word != ".." && !word.contains(['/', '\0']);
    (plain(category) && plain(name))
        .then(|| tracefs.join("events").join(category).join(name).join("id"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_lead_out_of_tracefs() {
        let cases = [
            (
                "sched",
                "sched_switch",
                Some("/t/events/sched/sched_switch/id"),
            ),
            ("..", "x", None),
            ("sched", "..", None),
            ("sched", "a/b", None),
            ("", "x", None),
            ("sched", "", None),
            ("sched", "a\0b", None),
        ];
        for (category, name, expected) in cases {
            assert_eq!(
                id_file(Path::new("/t"), category, name),
                expected.map(PathBuf::from),
                "{category}/{name}"
            );
        }
    }
}
