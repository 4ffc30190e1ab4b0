//! Program types: the kernel's numbers, the guide's words, and what a TYPE word and a section ask the kernel for.

use std::borrow::Cow;

use aya_obj::generated::{BPF_F_SLEEPABLE, BPF_F_XDP_HAS_FRAGS, bpf_attach_type, bpf_prog_type};
use bytecode_object::{ProgramType, Section};

/// `enum bpf_prog_type`, in its order, in the guide's words: probes of both kinds are `probe`, classifiers `tc`.
const WORDS: [&str; 33] = [
    "unspec",
    "socket_filter",
    "probe",
    "tc",
    "sched_act",
    "tracepoint",
    "xdp",
    "perf_event",
    "cgroup_skb",
    "cgroup_sock",
    "lwt_in",
    "lwt_out",
    "lwt_xmit",
    "sock_ops",
    "sk_skb",
    "cgroup_device",
    "sk_msg",
    "raw_tracepoint",
    "cgroup_sock_addr",
    "lwt_seg6local",
    "lirc_mode2",
    "sk_reuseport",
    "flow_dissector",
    "cgroup_sysctl",
    "raw_tracepoint_writable",
    "cgroup_sockopt",
    "tracing",
    "struct_ops",
    "ext",
    "lsm",
    "sk_lookup",
    "syscall",
    "netfilter",
];

/// The guide's word for a number, `type_<n>` for one that is newer than this list.
pub(super) fn word(number: u32) -> Cow<'static, str> {
    let known = usize::try_from(number)
        .ok()
        .and_then(|number| WORDS.get(number));
    match known {
        Some(word) => Cow::Borrowed(word),
        None => Cow::Owned(format!("type_{number}")),
    }
}

/// What `BPF_PROG_LOAD` is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Kind {
    pub(super) program_type: bpf_prog_type,
    /// `enum bpf_attach_type`, 0 where the type has none.
    pub(super) attach_type: u32,
    pub(super) flags: u32,
}

/// What the kernel is asked for, for a program of that section; `None` where the two do not fit.
pub(super) fn kind(program_type: ProgramType, section: &Section) -> Option<Kind> {
    if !program_type.fits(section) {
        return None;
    }
    let (kernel_type, attach_type) = match program_type {
        ProgramType::Fentry => (
            bpf_prog_type::BPF_PROG_TYPE_TRACING,
            bpf_attach_type::BPF_TRACE_FENTRY as u32,
        ),
        ProgramType::Fexit => (
            bpf_prog_type::BPF_PROG_TYPE_TRACING,
            bpf_attach_type::BPF_TRACE_FEXIT as u32,
        ),
        ProgramType::Kprobe | ProgramType::Uprobe => (bpf_prog_type::BPF_PROG_TYPE_KPROBE, 0),
        ProgramType::Tc | ProgramType::Tcx => (bpf_prog_type::BPF_PROG_TYPE_SCHED_CLS, 0),
        ProgramType::Tracepoint => (bpf_prog_type::BPF_PROG_TYPE_TRACEPOINT, 0),
        ProgramType::Xdp => (
            bpf_prog_type::BPF_PROG_TYPE_XDP,
            bpf_attach_type::BPF_XDP as u32,
        ),
    };
    let flags = match section {
        Section::Xdp { frags: true } => BPF_F_XDP_HAS_FRAGS,
        Section::Uprobe { sleepable: true }
        | Section::Uretprobe { sleepable: true }
        | Section::Fentry { sleepable: true }
        | Section::Fexit { sleepable: true } => BPF_F_SLEEPABLE,
        _ => 0,
    };
    Some(Kind {
        program_type: kernel_type,
        attach_type,
        flags,
    })
}

/// The struct that the function of a dispatcher for that type gets a pointer to.
pub(super) fn context(program_type: ProgramType) -> &'static str {
    match program_type {
        ProgramType::Xdp => "xdp_md",
        _ => "__sk_buff",
    }
}

/// Member of a dispatcher: neither attach type nor frags flag, the dispatcher has both (libxdp's protocol).
pub(super) const EXTENSION: Kind = Kind {
    program_type: bpf_prog_type::BPF_PROG_TYPE_EXT,
    attach_type: 0,
    flags: 0,
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_stand_in_the_kernels_order() {
        let cases = [
            (bpf_prog_type::BPF_PROG_TYPE_UNSPEC as u32, "unspec"),
            (bpf_prog_type::BPF_PROG_TYPE_KPROBE as u32, "probe"),
            (bpf_prog_type::BPF_PROG_TYPE_SCHED_CLS as u32, "tc"),
            (bpf_prog_type::BPF_PROG_TYPE_XDP as u32, "xdp"),
            (
                bpf_prog_type::BPF_PROG_TYPE_SK_REUSEPORT as u32,
                "sk_reuseport",
            ),
            (bpf_prog_type::BPF_PROG_TYPE_TRACING as u32, "tracing"),
            (bpf_prog_type::BPF_PROG_TYPE_EXT as u32, "ext"),
            (bpf_prog_type::BPF_PROG_TYPE_NETFILTER as u32, "netfilter"),
            (33, "type_33"),
            (u32::MAX, "type_4294967295"),
        ];
        for (number, expected) in cases {
            assert_eq!(word(number), expected, "{number}");
        }
    }

    #[test]
    fn sections_decide_the_flags() {
        let cases = [
            (ProgramType::Xdp, "xdp", Some((6, 37, 0))),
            (
                ProgramType::Xdp,
                "xdp.frags/x",
                Some((6, 37, BPF_F_XDP_HAS_FRAGS)),
            ),
            (ProgramType::Tc, "tcx/ingress", Some((3, 0, 0))),
            (ProgramType::Tcx, "classifier", Some((3, 0, 0))),
            (ProgramType::Kprobe, "kretprobe/x", Some((2, 0, 0))),
            (
                ProgramType::Uprobe,
                "uretprobe.s/x",
                Some((2, 0, BPF_F_SLEEPABLE)),
            ),
            (
                ProgramType::Fentry,
                "fentry.s/x",
                Some((26, 24, BPF_F_SLEEPABLE)),
            ),
            (ProgramType::Fexit, "?fexit", Some((26, 25, 0))),
            (ProgramType::Tracepoint, "tp/a/b", Some((5, 0, 0))),
            (ProgramType::Tracepoint, "xdp", None),
        ];
        for (word, section, expected) in cases {
            let found = kind(word, &Section::parse(section));
            let found = found.map(|kind| (kind.program_type as u32, kind.attach_type, kind.flags));
            assert_eq!(found, expected, "{word} in {section}");
        }
    }
}
