//! Links: a program on a hook, held by a descriptor or a pin.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use aya_obj::generated::bpf_attach_type;

use super::load::ENOTSUPP;
use super::netns::Namespace;
use super::{KernelError, LinuxKernel, failed, places, probes, sys, tracepoints};
use crate::kernel::{Device, LinkSpec, Side, TCX_LIMIT, TCX_PROGRAMS};
use crate::{TcDirection, XdpMode};

const XDP_FLAGS_SKB_MODE: u32 = 1 << 1;
const XDP_FLAGS_DRV_MODE: u32 = 1 << 2;
const XDP_FLAGS_HW_MODE: u32 = 1 << 3;

/// `enum` of linux/bpf.h, for `BPF_LINK_CREATE` of TCX.
const BPF_F_BEFORE: u32 = 1 << 3;
const BPF_F_AFTER: u32 = 1 << 4;
const BPF_F_LINK: u32 = 1 << 13;

/// fentry, fexit and fmod_ret programs of one function (`BPF_MAX_TRAMP_LINKS` in include/linux/bpf.h).
const TRAMPOLINE_PROGRAMS: u32 = 38;
/// Programs on one tracepoint (`BPF_TRACE_MAX_PROGS` in kernel/trace/bpf_trace.c).
const TRACEPOINT_PROGRAMS: u32 = 64;

pub(super) fn link(
    kernel: &LinuxKernel,
    spec: &LinkSpec<'_, OwnedFd>,
) -> Result<OwnedFd, KernelError> {
    match spec {
        LinkSpec::Xdp {
            program,
            device,
            mode,
        } => xdp(program, device, *mode),
        LinkSpec::Extension {
            program,
            target,
            function,
        } => extension(kernel, program, target, function),
        LinkSpec::Tcx {
            program,
            device,
            direction,
            beside,
        } => tcx(kernel, program, device, *direction, *beside),
        LinkSpec::Tracepoint {
            program,
            category,
            name,
        } => tracepoints::tracepoint(program, category, name),
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

fn xdp(program: &OwnedFd, device: &Device, mode: XdpMode) -> Result<OwnedFd, KernelError> {
    let ifindex = device.ifindex;
    let flags = match mode {
        XdpMode::Driver => XDP_FLAGS_DRV_MODE,
        XdpMode::Skb => XDP_FLAGS_SKB_MODE,
        XdpMode::Hardware => XDP_FLAGS_HW_MODE,
    };
    // The kernel looks the index up in the namespace of the thread that asks.
    let made = Namespace::of(device)?.run(|| {
        let target = sys::LinkTarget::Interface(ifindex);
        sys::link_create(program.as_fd(), &target, bpf_attach_type::BPF_XDP, flags)
    });
    made.map_err(|error| {
        gone_or(device, error, || {
            format!("linking an XDP program to interface {ifindex}")
        })
    })
}

fn tcx(
    kernel: &LinuxKernel,
    program: &OwnedFd,
    device: &Device,
    direction: TcDirection,
    beside: Option<(Side, &OwnedFd)>,
) -> Result<OwnedFd, KernelError> {
    let ifindex = device.ifindex;
    let attach_type = tcx_type(direction);
    let (beside, flags) = match beside {
        None => (None, 0),
        Some((Side::Before, link)) => (Some(link.as_fd()), BPF_F_BEFORE | BPF_F_LINK),
        Some((Side::After, link)) => (Some(link.as_fd()), BPF_F_AFTER | BPF_F_LINK),
    };
    let made = Namespace::of(device)?.run(|| {
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
        let full = matches!(source.raw_os_error(), Some(libc::ERANGE | libc::E2BIG));
        let members = || places::tcx_members(device, direction).map_or(0, |found| found.len());
        if full && members() >= TCX_PROGRAMS as usize {
            return KernelError::Full {
                what: format!("the TCX {direction} hook of interface {ifindex}"),
                limit: TCX_PROGRAMS,
                constant: TCX_LIMIT,
                source,
            };
        }
        gone_or(device, source, || {
            format!("linking a TCX program to interface {ifindex}")
        })
    })
}

pub(super) fn tcx_type(direction: TcDirection) -> bpf_attach_type {
    match direction {
        TcDirection::Ingress => bpf_attach_type::BPF_TCX_INGRESS,
        TcDirection::Egress => bpf_attach_type::BPF_TCX_EGRESS,
    }
}

/// `ENODEV`: the interface is gone.
pub(super) fn gone_or(
    device: &Device,
    error: io::Error,
    call: impl FnOnce() -> String,
) -> KernelError {
    if error.raw_os_error() == Some(libc::ENODEV) {
        return KernelError::InterfaceGone {
            ifindex: device.ifindex,
            nsid: device.nsid,
        };
    }
    failed(call)(error)
}

pub(super) fn extension(
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
    .map_err(|source| {
        // A machine that cannot rewrite a running program's calls (`bpf_arch_text_poke`).
        if source.raw_os_error() == Some(ENOTSUPP) {
            return KernelError::NoExtensions { source };
        }
        failed(|| format!("linking a program to `{function}` of a dispatcher"))(source)
    })
}

/// A program on a perf event; the link holds the event.
pub(super) fn perf_event(
    program: &OwnedFd,
    event: &OwnedFd,
    call: impl FnOnce() -> String,
) -> Result<OwnedFd, KernelError> {
    let target = sys::LinkTarget::PerfEvent(event.as_fd());
    let made = sys::link_create(program.as_fd(), &target, bpf_attach_type::BPF_PERF_EVENT, 0);
    made.map_err(|source| {
        if source.raw_os_error() == Some(libc::E2BIG) {
            return KernelError::Full {
                what: "the tracepoint".to_owned(),
                limit: TRACEPOINT_PROGRAMS,
                constant: "BPF_TRACE_MAX_PROGS",
                source,
            };
        }
        failed(call)(source)
    })
}

/// `BPF_LINK_CREATE` does it too, from 5.19 on; this call does it on every kernel.
fn tracing(program: &OwnedFd) -> Result<OwnedFd, KernelError> {
    sys::tracing_open(program.as_fd()).map_err(|source| {
        if source.raw_os_error() == Some(libc::E2BIG) {
            return KernelError::Full {
                what: "the function".to_owned(),
                limit: TRAMPOLINE_PROGRAMS,
                constant: "BPF_MAX_TRAMP_LINKS",
                source,
            };
        }
        failed(|| "linking a program to its function".to_owned())(source)
    })
}
