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
