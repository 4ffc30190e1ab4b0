//! Families of programs that libbpf loads and `load` has no TYPE word for, by section and by word.

/// A family: what its programs are called, the words that a user may ask for them by, and the sections of libbpf's
/// `section_defs` up to the first `/`, without `.s`.
struct Family {
    name: &'static str,
    words: &'static [&'static str],
    sections: &'static [&'static str],
}

const fn family(
    name: &'static str,
    words: &'static [&'static str],
    sections: &'static [&'static str],
) -> Family {
    Family {
        name,
        words,
        sections,
    }
}

/// Rows whose section is told by more than the part before `/` are in [`section_family`].
const FAMILIES: &[Family] = &[
    family("LSM", &["lsm"], &["lsm"]),
    family("LSM cgroup", &["lsm_cgroup"], &["lsm_cgroup"]),
    family(
        "raw tracepoint",
        &["raw_tracepoint", "raw_tp", "raw_tracepoint_writable"],
        &["raw_tp", "raw_tracepoint", "raw_tp.w", "raw_tracepoint.w"],
    ),
    family("BTF tracepoint (tp_btf)", &["tp_btf"], &["tp_btf"]),
    family("fmod_ret", &["fmod_ret"], &["fmod_ret"]),
    family("fsession", &["fsession"], &["fsession"]),
    family(
        "kprobe_multi",
        &["kprobe_multi"],
        &["kprobe.multi", "kretprobe.multi", "kprobe.session"],
    ),
    family(
        "uprobe_multi",
        &["uprobe_multi"],
        &["uprobe.multi", "uretprobe.multi", "uprobe.session"],
    ),
    family("USDT", &["usdt"], &["usdt"]),
    family("ksyscall", &["ksyscall"], &["ksyscall", "kretsyscall"]),
    family("perf event", &["perf_event"], &["perf_event"]),
    family("cgroup", CGROUP_WORDS, &["cgroup", "cgroup_skb"]),
    family("sock_ops", &["sock_ops", "sockops"], &["sockops"]),
    family("sk_lookup", &["sk_lookup"], &["sk_lookup"]),
    family("flow dissector", &["flow_dissector"], &["flow_dissector"]),
    family("sk_msg", &["sk_msg"], &["sk_msg"]),
    family("sk_skb", &["sk_skb"], &["sk_skb"]),
    family("sk_reuseport", &["sk_reuseport"], &["sk_reuseport"]),
    family(
        "socket filter",
        &["socket_filter", "socket"],
        &["socket", "socket_filter"],
    ),
    family("lightweight tunnel (LWT)", LWT, LWT),
    family("syscall", &["syscall"], &["syscall"]),
    family("netfilter", &["netfilter"], &["netfilter"]),
    family("netkit", &["netkit"], &["netkit"]),
    family("iterator (iter)", &["iter"], &["iter"]),
    family("struct_ops", &["struct_ops"], &["struct_ops"]),
    family("freplace (EXT)", &["freplace", "ext"], &["freplace"]),
    family("LIRC", &["lirc_mode2"], &["lirc_mode2"]),
    family("TC action", &["action", "sched_act"], &["action"]),
    family("XDP device map", &["xdp_devmap"], &["xdp_devmap"]),
    family("XDP CPU map", &["xdp_cpumap"], &["xdp_cpumap"]),
];

const CGROUP_WORDS: &[&str] = &[
    "cgroup_skb",
    "cgroup_sock",
    "cgroup_sock_addr",
    "cgroup_sockopt",
    "cgroup_sysctl",
    "cgroup_device",
];

const LWT: &[&str] = &["lwt_in", "lwt_out", "lwt_xmit", "lwt_seg6local"];

/// What programs of a section are called, where `load` has no TYPE word for them (`LSM` for `lsm.s/file_open`). `None`
/// for sections that it loads, and for those that libbpf does not know either.
pub fn section_family(section: &str) -> Option<&'static str> {
    let section = section.strip_prefix('?').unwrap_or(section);
    let (head, rest) = section.split_once('/').unwrap_or((section, ""));
    let place = rest.split('/').next().unwrap_or_default();
    match (head, place) {
        ("xdp" | "xdp.frags", "devmap") => return Some("XDP device map"),
        ("xdp" | "xdp.frags", "cpumap") => return Some("XDP CPU map"),
        _ => {}
    }
    let head = head.strip_suffix(".s").unwrap_or(head);
    let found = FAMILIES
        .iter()
        .find(|family| family.sections.contains(&head));
    found.map(|family| family.name)
}

/// The same for a word that a user asks for.
pub fn word_family(word: &str) -> Option<&'static str> {
    let found = FAMILIES.iter().find(|family| family.words.contains(&word));
    found.map(|family| family.name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ProgramType, Section};

    /// Every name of `section_defs` in libbpf 1.6 (`src/libbpf.c`), with `/x` where a name may follow.
    const LIBBPF: &[&str] = &[
        "socket",
        "sk_reuseport/migrate",
        "sk_reuseport",
        "kprobe/x",
        "uprobe/x",
        "uprobe.s/x",
        "kretprobe/x",
        "uretprobe/x",
        "uretprobe.s/x",
        "kprobe.multi/x",
        "kretprobe.multi/x",
        "kprobe.session/x",
        "uprobe.multi/x",
        "uretprobe.multi/x",
        "uprobe.session/x",
        "uprobe.multi.s/x",
        "uretprobe.multi.s/x",
        "uprobe.session.s/x",
        "ksyscall/x",
        "kretsyscall/x",
        "usdt/x",
        "usdt.s/x",
        "tc/ingress",
        "tc/egress",
        "tcx/ingress",
        "tcx/egress",
        "tc",
        "classifier",
        "action",
        "netkit/primary",
        "netkit/peer",
        "tracepoint/x",
        "tp/x",
        "raw_tracepoint/x",
        "raw_tp/x",
        "raw_tracepoint.w/x",
        "raw_tp.w/x",
        "tp_btf/x",
        "fentry/x",
        "fmod_ret/x",
        "fexit/x",
        "fsession/x",
        "fentry.s/x",
        "fmod_ret.s/x",
        "fexit.s/x",
        "fsession.s/x",
        "freplace/x",
        "lsm/x",
        "lsm.s/x",
        "lsm_cgroup/x",
        "iter/x",
        "iter.s/x",
        "syscall",
        "xdp.frags/devmap",
        "xdp/devmap",
        "xdp.frags/cpumap",
        "xdp/cpumap",
        "xdp.frags",
        "xdp",
        "perf_event",
        "lwt_in",
        "lwt_out",
        "lwt_xmit",
        "lwt_seg6local",
        "sockops",
        "sk_skb/stream_parser",
        "sk_skb/stream_verdict",
        "sk_skb/verdict",
        "sk_skb",
        "sk_msg",
        "lirc_mode2",
        "flow_dissector",
        "cgroup_skb/ingress",
        "cgroup_skb/egress",
        "cgroup/skb",
        "cgroup/sock_create",
        "cgroup/sock_release",
        "cgroup/sock",
        "cgroup/post_bind4",
        "cgroup/post_bind6",
        "cgroup/bind4",
        "cgroup/bind6",
        "cgroup/connect4",
        "cgroup/connect6",
        "cgroup/connect_unix",
        "cgroup/sendmsg4",
        "cgroup/sendmsg6",
        "cgroup/sendmsg_unix",
        "cgroup/recvmsg4",
        "cgroup/recvmsg6",
        "cgroup/recvmsg_unix",
        "cgroup/getpeername4",
        "cgroup/getpeername6",
        "cgroup/getpeername_unix",
        "cgroup/getsockname4",
        "cgroup/getsockname6",
        "cgroup/getsockname_unix",
        "cgroup/sysctl",
        "cgroup/getsockopt",
        "cgroup/setsockopt",
        "cgroup/dev",
        "struct_ops/x",
        "struct_ops.s/x",
        "sk_lookup",
        "netfilter",
    ];

    #[test]
    fn every_section_of_libbpf_is_loaded_or_has_a_family() {
        for name in LIBBPF {
            let section = Section::parse(name);
            assert_ne!(section, Section::Unknown, "{name}");
            let loaded = ProgramType::ALL.iter().any(|kind| kind.fits(&section));
            assert_eq!(section_family(name).is_some(), !loaded, "{name}");
            let optional = format!("?{name}");
            assert_eq!(section_family(&optional), section_family(name), "{name}");
        }
        for name in [
            "",
            "mystery",
            "xdpcap",
            "tcx/ingress",
            "fentry.s/x",
            "lsmx/y",
        ] {
            assert_eq!(section_family(name), None, "{name}");
        }
        assert_eq!(section_family("lsm.s/file_open"), Some("LSM"));
    }

    #[test]
    fn words_of_families_are_no_types() {
        for family in FAMILIES {
            for word in family.words {
                assert!(word.parse::<ProgramType>().is_err(), "{word}");
                assert_eq!(word_family(word), Some(family.name));
            }
        }
        assert_eq!(word_family("xdp"), None);
        assert_eq!(word_family("mystery"), None);
    }
}
