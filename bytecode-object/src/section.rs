/// What an ELF section name says about the programs in it (libbpf's conventions: `section_defs` in libbpf.c,
/// and the older `classifier` and `action` words).
///
/// The name up to the first `/` decides, a leading `?` (libbpf: "not loaded by default") is passed over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Section {
    /// `xdp`, `xdp.frags`, with or without `/name`.
    Xdp {
        /// Accepts packets in several fragments (`BPF_F_XDP_HAS_FRAGS`, kernel 5.18).
        frags: bool,
    },
    /// `tc`, `tc/ingress`, `tc/egress`, `classifier`.
    Tc,
    /// `tcx/ingress`, `tcx/egress`.
    Tcx,
    /// `kprobe`.
    Kprobe,
    /// `kretprobe`.
    Kretprobe,
    /// `uprobe`, `uprobe.s`.
    Uprobe {
        /// May sleep (`.s`).
        sleepable: bool,
    },
    /// `uretprobe`, `uretprobe.s`.
    Uretprobe {
        /// May sleep (`.s`).
        sleepable: bool,
    },
    /// `tracepoint`, `tp`.
    Tracepoint,
    /// `fentry`, `fentry.s`.
    Fentry {
        /// May sleep (`.s`).
        sleepable: bool,
    },
    /// `fexit`, `fexit.s`.
    Fexit {
        /// May sleep (`.s`).
        sleepable: bool,
    },
    /// A section of a program type that `load` has no word for, by the kernel's name of that type
    /// (`cgroup_skb`, `lsm`, `raw_tracepoint`, `xdp_devmap`…).
    Other(&'static str),
    /// A section that no convention known here names.
    Unknown,
}

impl Section {
    /// Reads a section name. Never fails: a name that no convention has is [`Section::Unknown`].
    pub fn parse(name: &str) -> Self {
        let name = name.strip_prefix('?').unwrap_or(name);
        let (head, rest) = match name.split_once('/') {
            Some((head, rest)) => (head, Some(rest)),
            None => (name, None),
        };
        let (kind, sleepable) = match head.strip_suffix(".s") {
            Some(kind) => (kind, true),
            None => (head, false),
        };
        match kind {
            "fentry" => return Self::Fentry { sleepable },
            "fexit" => return Self::Fexit { sleepable },
            "uprobe" => return Self::Uprobe { sleepable },
            "uretprobe" => return Self::Uretprobe { sleepable },
            "fmod_ret" | "fsession" | "iter" => return Self::Other("tracing"),
            "lsm" => return Self::Other("lsm"),
            "struct_ops" => return Self::Other("struct_ops"),
            "uprobe.multi" | "uretprobe.multi" | "uprobe.session" | "usdt" => {
                return Self::Other("kprobe");
            }
            _ if sleepable => return Self::Unknown,
            _ => {}
        }
        // These two attach to map entries, not to interfaces (BPF_XDP_DEVMAP, BPF_XDP_CPUMAP).
        let place = rest.and_then(|rest| rest.split('/').next());
        match (head, place) {
            ("xdp" | "xdp.frags", Some("devmap")) => Self::Other("xdp_devmap"),
            ("xdp" | "xdp.frags", Some("cpumap")) => Self::Other("xdp_cpumap"),
            ("xdp", _) => Self::Xdp { frags: false },
            ("xdp.frags", _) => Self::Xdp { frags: true },
            ("tc" | "classifier", _) => Self::Tc,
            ("tcx", _) => Self::Tcx,
            ("kprobe", _) => Self::Kprobe,
            ("kretprobe", _) => Self::Kretprobe,
            ("tracepoint" | "tp", _) => Self::Tracepoint,
            ("cgroup", Some(place)) => cgroup(place),
            (head, _) => other(head),
        }
    }

    /// The word for this section in the `io.ebpf.programs` label: a TYPE word where there is one (a retprobe has its
    /// probe's), the kernel's name of the type else, `unspec` for a section that is not known.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Xdp { .. } => "xdp",
            Self::Tc => "tc",
            Self::Tcx => "tcx",
            Self::Kprobe | Self::Kretprobe => "kprobe",
            Self::Uprobe { .. } | Self::Uretprobe { .. } => "uprobe",
            Self::Tracepoint => "tracepoint",
            Self::Fentry { .. } => "fentry",
            Self::Fexit { .. } => "fexit",
            Self::Other(name) => name,
            Self::Unknown => "unspec",
        }
    }
}

/// Types that the part before the first `/` decides and that have no TYPE word.
fn other(head: &str) -> Section {
    Section::Other(match head {
        "action" => "sched_act",
        "cgroup_skb" => "cgroup_skb",
        "flow_dissector" => "flow_dissector",
        "freplace" => "ext",
        "kprobe.multi" | "kretprobe.multi" | "kprobe.session" | "ksyscall" | "kretsyscall" => {
            "kprobe"
        }
        "lirc_mode2" => "lirc_mode2",
        "lsm_cgroup" => "lsm",
        "lwt_in" => "lwt_in",
        "lwt_out" => "lwt_out",
        "lwt_seg6local" => "lwt_seg6local",
        "lwt_xmit" => "lwt_xmit",
        "netfilter" => "netfilter",
        "netkit" => "sched_cls",
        "perf_event" => "perf_event",
        "raw_tp" | "raw_tracepoint" => "raw_tracepoint",
        "raw_tp.w" | "raw_tracepoint.w" => "raw_tracepoint_writable",
        "sk_lookup" => "sk_lookup",
        "sk_msg" => "sk_msg",
        "sk_reuseport" => "sk_reuseport",
        "sk_skb" => "sk_skb",
        "socket" | "socket_filter" => "socket_filter",
        "sockops" => "sock_ops",
        "syscall" => "syscall",
        "tp_btf" => "tracing",
        // Names of libbpf before 1.0.
        "xdp_cpumap" => "xdp_cpumap",
        "xdp_devmap" => "xdp_devmap",
        _ => return Section::Unknown,
    })
}

/// `cgroup/<place>`: the place decides.
fn cgroup(place: &str) -> Section {
    Section::Other(match place {
        "skb" => "cgroup_skb",
        "dev" => "cgroup_device",
        "sysctl" => "cgroup_sysctl",
        "getsockopt" | "setsockopt" => "cgroup_sockopt",
        "sock" | "sock_create" | "sock_release" | "post_bind4" | "post_bind6" => "cgroup_sock",
        _ => {
            let hook = place.trim_end_matches("_unix").trim_end_matches(['4', '6']);
            match hook {
                "bind" | "connect" | "getpeername" | "getsockname" | "recvmsg" | "sendmsg" => {
                    "cgroup_sock_addr"
                }
                _ => return Section::Unknown,
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_labels() {
        let table: &[(&str, Section, &str)] = &[
            ("xdp", Section::Xdp { frags: false }, "xdp"),
            ("xdp/counter", Section::Xdp { frags: false }, "xdp"),
            ("?xdp", Section::Xdp { frags: false }, "xdp"),
            ("xdp.frags", Section::Xdp { frags: true }, "xdp"),
            ("xdp.frags/x", Section::Xdp { frags: true }, "xdp"),
            ("xdp/devmap", Section::Other("xdp_devmap"), "xdp_devmap"),
            (
                "xdp.frags/cpumap",
                Section::Other("xdp_cpumap"),
                "xdp_cpumap",
            ),
            ("xdpcap", Section::Unknown, "unspec"),
            ("tc", Section::Tc, "tc"),
            ("tc/ingress", Section::Tc, "tc"),
            ("tc/egress", Section::Tc, "tc"),
            ("tc/anything", Section::Tc, "tc"),
            ("classifier", Section::Tc, "tc"),
            ("classifier/x", Section::Tc, "tc"),
            ("tcx/ingress", Section::Tcx, "tcx"),
            ("tcx/egress", Section::Tcx, "tcx"),
            ("action", Section::Other("sched_act"), "sched_act"),
            ("action/x", Section::Other("sched_act"), "sched_act"),
            ("kprobe", Section::Kprobe, "kprobe"),
            ("?kprobe/do_unlinkat", Section::Kprobe, "kprobe"),
            ("kretprobe", Section::Kretprobe, "kprobe"),
            ("kretprobe/do_unlinkat", Section::Kretprobe, "kprobe"),
            ("kprobe.multi/tcp_*", Section::Other("kprobe"), "kprobe"),
            ("uprobe", Section::Uprobe { sleepable: false }, "uprobe"),
            (
                "uprobe//lib/libc.so.6:malloc",
                Section::Uprobe { sleepable: false },
                "uprobe",
            ),
            ("uprobe.s/x", Section::Uprobe { sleepable: true }, "uprobe"),
            (
                "uretprobe",
                Section::Uretprobe { sleepable: false },
                "uprobe",
            ),
            (
                "uretprobe.s",
                Section::Uretprobe { sleepable: true },
                "uprobe",
            ),
            (
                "tracepoint/syscalls/sys_enter_openat",
                Section::Tracepoint,
                "tracepoint",
            ),
            ("tp", Section::Tracepoint, "tracepoint"),
            ("tp/sched/sched_switch", Section::Tracepoint, "tracepoint"),
            ("tp_btf/sched_switch", Section::Other("tracing"), "tracing"),
            (
                "raw_tracepoint/sys_enter",
                Section::Other("raw_tracepoint"),
                "raw_tracepoint",
            ),
            ("raw_tp", Section::Other("raw_tracepoint"), "raw_tracepoint"),
            (
                "raw_tp.w/x",
                Section::Other("raw_tracepoint_writable"),
                "raw_tracepoint_writable",
            ),
            (
                "fentry/vfs_read",
                Section::Fentry { sleepable: false },
                "fentry",
            ),
            (
                "fentry.s/vfs_read",
                Section::Fentry { sleepable: true },
                "fentry",
            ),
            ("fexit", Section::Fexit { sleepable: false }, "fexit"),
            (
                "fexit.s/vfs_read",
                Section::Fexit { sleepable: true },
                "fexit",
            ),
            ("fmod_ret/x", Section::Other("tracing"), "tracing"),
            ("fmod_ret.s/x", Section::Other("tracing"), "tracing"),
            ("fsession.s/x", Section::Other("tracing"), "tracing"),
            ("xdp_devmap/x", Section::Other("xdp_devmap"), "xdp_devmap"),
            ("lsm/file_open", Section::Other("lsm"), "lsm"),
            ("lsm.s/file_open", Section::Other("lsm"), "lsm"),
            ("lsm_cgroup/x", Section::Other("lsm"), "lsm"),
            ("freplace/x", Section::Other("ext"), "ext"),
            ("socket", Section::Other("socket_filter"), "socket_filter"),
            ("perf_event", Section::Other("perf_event"), "perf_event"),
            ("sk_lookup/x", Section::Other("sk_lookup"), "sk_lookup"),
            (
                "struct_ops/init",
                Section::Other("struct_ops"),
                "struct_ops",
            ),
            (
                "struct_ops.s/init",
                Section::Other("struct_ops"),
                "struct_ops",
            ),
            (
                "cgroup_skb/egress",
                Section::Other("cgroup_skb"),
                "cgroup_skb",
            ),
            ("cgroup/skb", Section::Other("cgroup_skb"), "cgroup_skb"),
            (
                "cgroup/connect4",
                Section::Other("cgroup_sock_addr"),
                "cgroup_sock_addr",
            ),
            (
                "cgroup/connect_unix",
                Section::Other("cgroup_sock_addr"),
                "cgroup_sock_addr",
            ),
            (
                "cgroup/post_bind6",
                Section::Other("cgroup_sock"),
                "cgroup_sock",
            ),
            ("cgroup", Section::Unknown, "unspec"),
            ("cgroup/", Section::Unknown, "unspec"),
            ("xdp.s", Section::Unknown, "unspec"),
            ("", Section::Unknown, "unspec"),
            ("?", Section::Unknown, "unspec"),
        ];
        for (name, section, label) in table {
            assert_eq!(&Section::parse(name), section, "section {name}");
            assert_eq!(section.label(), *label, "label of {name}");
        }
    }
}
