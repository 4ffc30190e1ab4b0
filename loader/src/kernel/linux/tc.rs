//! clsact and direct-action filters, by rtnetlink (net/sched/sch_api.c, cls_api.c and cls_bpf.c).

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use super::netlink::{Attributes, NLM_F_CREATE, NLM_F_EXCL, Request, text, u32_at};
use super::netns::Namespace;
use super::{KernelError, failed};
use crate::TcDirection;
use crate::kernel::{Device, IngressQdisc, TC_FILTER_NAME, TC_PREFERENCE, TcFilter};

const RTM_NEWQDISC: u16 = 36;
const RTM_DELQDISC: u16 = 37;
const RTM_GETQDISC: u16 = 38;
const RTM_NEWTFILTER: u16 = 44;
const RTM_DELTFILTER: u16 = 45;
const RTM_GETTFILTER: u16 = 46;
const TCA_KIND: u16 = 1;
const TCA_OPTIONS: u16 = 2;
const TCA_CHAIN: u16 = 11;
const TCA_INGRESS_BLOCK: u16 = 13;
const TCA_EGRESS_BLOCK: u16 = 14;
const TCA_BPF_FD: u16 = 6;
const TCA_BPF_NAME: u16 = 7;
const TCA_BPF_FLAGS: u16 = 8;
const TCA_BPF_ID: u16 = 11;
/// `TCA_BPF_FLAG_ACT_DIRECT`: what the program returns is what happens to the packet.
const DIRECT_ACTION: u32 = 1;
/// `TC_H_CLSACT`, which is `TC_H_INGRESS`, too.
const CLSACT: u32 = 0xffff_fff1;
/// `TC_H_MAKE(TC_H_CLSACT, 0)`.
const CLSACT_HANDLE: u32 = 0xffff_0000;
const CLSACT_INGRESS: u32 = 0xffff_fff2;
const CLSACT_EGRESS: u32 = 0xffff_fff3;
const ETH_P_ALL: u16 = 3;
/// `struct tcmsg`.
const TCMSG: usize = 20;
pub(super) fn ingress_qdisc(device: &Device) -> Result<IngressQdisc, KernelError> {
    run(device, "looking for the ingress qdisc", || {
        let mut found = IngressQdisc::None;
        let request = Request::new(RTM_GETQDISC, &tcmsg(device.ifindex, 0, 0, 0)?);
        request.dump(RTM_NEWQDISC, |message| {
            if let Some(qdisc) = qdisc(message, device.ifindex) {
                found = qdisc;
            }
        })?;
        Ok(found)
    })
}

pub(super) fn add_clsact(device: &Device) -> Result<(), KernelError> {
    let added = run(device, "adding clsact", || {
        Request::new(
            RTM_NEWQDISC,
            &tcmsg(device.ifindex, CLSACT_HANDLE, CLSACT, 0)?,
        )
        .attribute(TCA_KIND, b"clsact\0")
        .change(NLM_F_CREATE | NLM_F_EXCL)
    });
    needing(
        added,
        "clsact qdisc",
        "CONFIG_NET_SCH_INGRESS",
        "sch_ingress",
    )
}

/// `ENOENT` to what adds something: its kind is not known.
fn needing<T>(
    added: Result<T, KernelError>,
    what: &'static str,
    option: &'static str,
    module: &'static str,
) -> Result<T, KernelError> {
    match added {
        Err(KernelError::Syscall { source, .. }) if source.raw_os_error() == Some(libc::ENOENT) => {
            Err(KernelError::NoTrafficControl {
                what,
                option,
                module,
                source,
            })
        }
        added => added,
    }
}

pub(super) fn remove_unused_clsact(device: &Device) -> Result<bool, KernelError> {
    let result = run(device, "removing clsact", || {
        let mut ours = false;
        let mut shared = false;
        Request::new(RTM_GETQDISC, &tcmsg(device.ifindex, 0, 0, 0)?).dump(
            RTM_NEWQDISC,
            |message| {
                if qdisc(message, device.ifindex) == Some(IngressQdisc::Clsact) {
                    ours = true;
                    shared = has_block(message);
                }
            },
        )?;
        if !ours || shared {
            return Ok(false);
        }
        for parent in [CLSACT_INGRESS, CLSACT_EGRESS] {
            if !dump(device.ifindex, parent)?.is_empty() {
                return Ok(false);
            }
        }
        let request = Request::new(
            RTM_DELQDISC,
            &tcmsg(device.ifindex, CLSACT_HANDLE, CLSACT, 0)?,
        );
        match request.change(0) {
            Err(error) if is_gone(&error) => Ok(false),
            result => result.map(|()| true),
        }
    });
    gone_is(result, false)
}

pub(super) fn filters(
    device: &Device,
    direction: TcDirection,
) -> Result<Vec<TcFilter>, KernelError> {
    run(device, "listing the filters", || {
        match dump(device.ifindex, parent(direction)) {
            // Without CONFIG_NET_SCHED nobody answers (`rtnetlink_rcv_msg`), and there are none.
            Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => Ok(Vec::new()),
            found => found,
        }
    })
}

pub(super) fn add_filter(
    device: &Device,
    direction: TcDirection,
    program: &OwnedFd,
    handle: Option<u32>,
) -> Result<(), KernelError> {
    // Handle 0: the kernel takes the lowest that is free.
    let request = || with_program(device, direction, handle.unwrap_or(0), program);
    let added = run(device, "adding a filter", || {
        request()?.change(NLM_F_CREATE | NLM_F_EXCL)
    });
    needing(added, "bpf classifier", "CONFIG_NET_CLS_BPF", "cls_bpf")
}

pub(super) fn replace_filter(
    device: &Device,
    direction: TcDirection,
    old: u32,
    program: &OwnedFd,
) -> Result<bool, KernelError> {
    let result = run(device, "replacing a filter", || {
        let Some(filter) = ours(device, direction, old)? else {
            return Ok(false);
        };
        // With a handle that is there and without NLM_F_CREATE, `cls_bpf_change` puts the new program in the old
        // one's place by `list_replace_rcu`: a packet is seen by one of them, and by one only.
        let request = with_program(device, direction, filter.handle, program)?;
        match request.change(0) {
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
            result => result.map(|()| true),
        }
    });
    gone_is(result, false)
}

pub(super) fn remove_filter(
    device: &Device,
    direction: TcDirection,
    program: u32,
) -> Result<Option<u32>, KernelError> {
    let result = run(device, "removing a filter", || {
        let Some(filter) = ours(device, direction, program)? else {
            return Ok(None);
        };
        let header = tcmsg(device.ifindex, filter.handle, parent(direction), info())?;
        let request = Request::new(RTM_DELTFILTER, &header).attribute(TCA_KIND, b"bpf\0");
        match request.change(0) {
            Err(error) if is_gone(&error) => Ok(None),
            result => result.map(|()| Some(filter.handle)),
        }
    });
    gone_is(result, None)
}

/// The filter at our preference that runs a program.
fn ours(device: &Device, direction: TcDirection, program: u32) -> io::Result<Option<TcFilter>> {
    let filters = dump(device.ifindex, parent(direction))?;
    Ok(filters.into_iter().find(|filter| {
        filter.preference == TC_PREFERENCE
            && filter.chain == 0
            && filter.program_id == Some(program)
    }))
}

fn with_program(
    device: &Device,
    direction: TcDirection,
    handle: u32,
    program: &OwnedFd,
) -> io::Result<Request> {
    let header = tcmsg(device.ifindex, handle, parent(direction), info())?;
    let request = Request::new(RTM_NEWTFILTER, &header).attribute(TCA_KIND, b"bpf\0");
    Ok(request.nested(
        TCA_OPTIONS,
        &[
            (TCA_BPF_FD, &program.as_raw_fd().to_ne_bytes()),
            (TCA_BPF_NAME, &[TC_FILTER_NAME.as_bytes(), &[0]].concat()),
            (TCA_BPF_FLAGS, &DIRECT_ACTION.to_ne_bytes()),
        ],
    ))
}

fn dump(ifindex: u32, parent: u32) -> io::Result<Vec<TcFilter>> {
    let mut filters = Vec::new();
    let request = Request::new(RTM_GETTFILTER, &tcmsg(ifindex, 0, parent, 0)?);
    request.dump(RTM_NEWTFILTER, |message| filters.extend(filter(message)))?;
    Ok(filters)
}

fn parent(direction: TcDirection) -> u32 {
    match direction {
        TcDirection::Ingress => CLSACT_INGRESS,
        TcDirection::Egress => CLSACT_EGRESS,
    }
}

/// `tcm_info` of our filters: preference and protocol.
fn info() -> u32 {
    u32::from(TC_PREFERENCE) << 16 | u32::from(ETH_P_ALL.to_be())
}

fn tcmsg(ifindex: u32, handle: u32, parent: u32, info: u32) -> io::Result<Vec<u8>> {
    // Signed, for whatever reason.
    let ifindex = i32::try_from(ifindex).map_err(io::Error::other)?;
    let mut out = vec![0; 4];
    out.extend_from_slice(&ifindex.to_ne_bytes());
    for word in [handle, parent, info] {
        out.extend_from_slice(&word.to_ne_bytes());
    }
    Ok(out)
}

/// What an `RTM_NEWQDISC` says of the ingress place of an interface. The kernel may list other interfaces, too.
fn qdisc(message: &[u8], ifindex: u32) -> Option<IngressQdisc> {
    if u32_at(message, 4)? != ifindex || u32_at(message, 12)? != CLSACT {
        return None;
    }
    let kind = text(Attributes::value(message.get(TCMSG..)?, TCA_KIND)?);
    Some(match kind.as_str() {
        "clsact" => IngressQdisc::Clsact,
        _ => IngressQdisc::Other { kind },
    })
}

/// Whether its filters are those of a block that other interfaces use as well.
fn has_block(message: &[u8]) -> bool {
    let attributes = message.get(TCMSG..).unwrap_or_default();
    Attributes(attributes).any(|(kind, value)| {
        matches!(kind, TCA_INGRESS_BLOCK | TCA_EGRESS_BLOCK) && u32_at(value, 0) != Some(0)
    })
}

/// An `RTM_NEWTFILTER`. One with handle 0 is the preference as such, listed before the filters that it has.
fn filter(message: &[u8]) -> Option<TcFilter> {
    let handle = u32_at(message, 8)?;
    let info = u32_at(message, 16)?;
    let attributes = message.get(TCMSG..)?;
    let options = Attributes::value(attributes, TCA_OPTIONS).unwrap_or_default();
    let [preference, protocol] = [info >> 16, info & 0xffff].map(|half| half as u16);
    Some(TcFilter {
        preference,
        protocol: u16::from_be(protocol),
        chain: Attributes::value(attributes, TCA_CHAIN)
            .and_then(|value| u32_at(value, 0))
            .unwrap_or(0),
        kind: text(Attributes::value(attributes, TCA_KIND)?),
        handle,
        program_id: Attributes::value(options, TCA_BPF_ID).and_then(|value| u32_at(value, 0)),
        name: Attributes::value(options, TCA_BPF_NAME).map(text),
    })
}

fn run<T: Send>(
    device: &Device,
    doing: &str,
    work: impl FnOnce() -> io::Result<T> + Send,
) -> Result<T, KernelError> {
    let namespace = Namespace::of(device)?;
    namespace.run(work).map_err(|error| match error {
        error if error.raw_os_error() == Some(libc::ENODEV) => KernelError::InterfaceGone {
            ifindex: device.ifindex,
            nsid: device.nsid,
        },
        error => failed(|| format!("{doing} of interface {}", device.ifindex))(error),
    })
}

/// What is not there any more is nothing to remove or replace.
fn gone_is<T>(result: Result<T, KernelError>, none: T) -> Result<T, KernelError> {
    match result {
        Err(KernelError::InterfaceGone { .. }) => Ok(none),
        result => result,
    }
}

/// `ENOENT`: no such filter or qdisc; `EINVAL`: no clsact any more (`__tcf_qdisc_find`, `tc_get_qdisc`).
fn is_gone(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::EINVAL))
}
