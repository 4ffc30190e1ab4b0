//! What an object asks of the kernel that is to load it. Pure: what the kernel at hand has is for its caller to know.
//!
//! Versions are those of the kernel as released (the commit that brought it, by `git describe --contains`). A vendor's
//! kernel may have more than its version says, so a version is the reason that is given after a refusal, never one to
//! refuse by.

use std::fmt;

use crate::{ObjectInfo, ProgramInfo, Section, map_type_name};

/// A version of Linux.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KernelVersion(
    /// Major number.
    pub u32,
    /// Minor number.
    pub u32,
);

impl fmt::Display for KernelVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0, self.1)
    }
}

/// The kernel that brought a map type (`enum bpf_map_type`); `None` for one that is newer than this list.
pub fn map_type_since(map_type: u32) -> Option<KernelVersion> {
    let (major, minor) = match map_type_name(map_type)? {
        "hash" | "array" => (3, 19),
        "prog_array" => (4, 2),
        "perf_event_array" => (4, 3),
        "per_cpu_hash" | "per_cpu_array" | "stack_trace" => (4, 6),
        "cgroup_array" => (4, 8),
        "lru_hash" | "lru_per_cpu_hash" => (4, 10),
        "lpm_trie" => (4, 11),
        "array_of_maps" | "hash_of_maps" => (4, 12),
        "devmap" | "sockmap" => (4, 14),
        "cpumap" => (4, 15),
        "xskmap" | "sockhash" => (4, 18),
        "cgroup_storage" | "reuseport_sockarray" => (4, 19),
        "per_cpu_cgroup_storage" | "queue" | "stack" => (4, 20),
        "sk_storage" => (5, 2),
        "devmap_hash" => (5, 4),
        "struct_ops" => (5, 6),
        "ringbuf" => (5, 8),
        "inode_storage" => (5, 10),
        "task_storage" => (5, 11),
        "bloom_filter" => (5, 16),
        "user_ringbuf" => (6, 1),
        "cgrp_storage" => (6, 2),
        "arena" => (6, 9),
        _ => return None,
    };
    Some(KernelVersion(major, minor))
}

/// XDP programs that take packets in several fragments: `BPF_F_XDP_HAS_FRAGS` (f45d5b6ce2e8).
pub const XDP_FRAGS_SINCE: KernelVersion = KernelVersion(5, 18);

/// TCX links (e420bed02507).
pub const TCX_SINCE: KernelVersion = KernelVersion(6, 6);

/// Programs that may sleep, at a trampoline: `BPF_F_SLEEPABLE` (1e6c62a88215).
pub const SLEEPABLE_SINCE: KernelVersion = KernelVersion(5, 10);

/// Uprobes that may sleep (8c7dcb84e3b7).
pub const SLEEPABLE_UPROBE_SINCE: KernelVersion = KernelVersion(6, 0);

impl Section {
    /// The kernel that brought this kind of program; `None` where it is not known here.
    pub fn since(&self) -> Option<KernelVersion> {
        Some(match self {
            Self::Xdp { frags: true } => XDP_FRAGS_SINCE,
            Self::Xdp { frags: false } => KernelVersion(4, 8),
            Self::Tc => KernelVersion(4, 1),
            Self::Tcx => TCX_SINCE,
            // Uretprobes and kretprobes came to BPF with the probes themselves (2541517c32be).
            Self::Kprobe | Self::Kretprobe => KernelVersion(4, 1),
            Self::Uprobe { sleepable: true } | Self::Uretprobe { sleepable: true } => {
                SLEEPABLE_UPROBE_SINCE
            }
            Self::Uprobe { sleepable: false } | Self::Uretprobe { sleepable: false } => {
                KernelVersion(4, 1)
            }
            Self::Tracepoint => KernelVersion(4, 7),
            Self::Fentry { sleepable: true } | Self::Fexit { sleepable: true } => SLEEPABLE_SINCE,
            Self::Fentry { sleepable: false } | Self::Fexit { sleepable: false } => {
                KernelVersion(5, 5)
            }
            Self::Other(kind) => match *kind {
                "ext" | "struct_ops" => KernelVersion(5, 6),
                "lsm" => KernelVersion(5, 7),
                "raw_tracepoint" => KernelVersion(4, 17),
                "sk_lookup" => KernelVersion(5, 9),
                "tracing" => KernelVersion(5, 5),
                _ => return None,
            },
            Self::Unknown => return None,
        })
    }

    /// Whether its programs are attached by a type of the kernel's: to a function of its BTF, a hook, a table.
    fn names_kernel_types(&self) -> bool {
        matches!(
            self,
            Self::Fentry { .. }
                | Self::Fexit { .. }
                | Self::Other("tracing" | "lsm" | "struct_ops")
        )
    }
}

/// Why a program needs the types of the running kernel (`/sys/kernel/btf/vmlinux`, `CONFIG_DEBUG_INFO_BTF`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum KernelBtfUse {
    /// It attaches to one of them: fentry, fexit, tp_btf, lsm, struct_ops and the like.
    Attach,
    /// CO-RE relocations, its own or of what it may call.
    Relocations,
    /// The object has externs that are looked up there (`__ksym`: kfuncs and variables).
    Symbols,
}

impl fmt::Display for KernelBtfUse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Attach => "attaches to a type of the kernel's",
            Self::Relocations => "is fitted to the kernel's types (CO-RE)",
            Self::Symbols => "uses functions or variables of the kernel (__ksym)",
        })
    }
}

/// What some programs of an object, and all of its maps, ask of a kernel.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Needs {
    /// The newest kernel that anything of it came with, and what that is: `map events (ringbuf)`.
    pub kernel: Option<(KernelVersion, String)>,
    /// Programs that need the running kernel's types, by name, with a reason.
    pub kernel_btf: Vec<(String, KernelBtfUse)>,
}

impl ProgramInfo {
    /// Why the running kernel's types are needed for it; `None` where they are not.
    pub fn kernel_btf(&self, object: &ObjectInfo) -> Option<KernelBtfUse> {
        if self.section.names_kernel_types() {
            Some(KernelBtfUse::Attach)
        } else if self.core_relocations || object.core_relocations_in_text {
            Some(KernelBtfUse::Relocations)
        } else {
            object.kernel_symbols.then_some(KernelBtfUse::Symbols)
        }
    }
}

impl ObjectInfo {
    /// What these programs and the object's maps need. Names that the object does not have are passed over.
    pub fn needs<'a>(&self, programs: impl IntoIterator<Item = &'a str>) -> Needs {
        let mut needs = Needs::default();
        let mut newest = |since: Option<KernelVersion>, what: String| {
            let newer = |(known, _): &(KernelVersion, String)| since > Some(*known);
            if let Some(since) = since
                && needs.kernel.as_ref().is_none_or(newer)
            {
                needs.kernel = Some((since, what));
            }
        };
        for name in programs {
            let Some(program) = self.programs.get(name) else {
                continue;
            };
            let section = &program.section_name;
            newest(
                program.section.since(),
                format!("program {name} ({section})"),
            );
            if let Some(reason) = program.kernel_btf(self) {
                needs.kernel_btf.push((name.to_owned(), reason));
            }
        }
        for (name, map) in &self.maps {
            let kind = map_type_name(map.map_type).unwrap_or("of an unknown type");
            newest(map_type_since(map.map_type), format!("map {name} ({kind})"));
        }
        needs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_of_map_but_the_first_has_a_version() {
        assert_eq!(map_type_since(0), None);
        let since: Vec<_> = (1..34).map(map_type_since).collect();
        assert!(since.iter().all(Option::is_some), "{since:?}");
        assert_eq!(map_type_since(34), None);
        assert_eq!(map_type_since(27), Some(KernelVersion(5, 8)));
    }

    #[test]
    fn versions_of_sections() {
        let table = [
            ("xdp", Some((4, 8)), false),
            ("xdp.frags", Some((5, 18)), false),
            ("tcx/ingress", Some((6, 6)), false),
            ("fentry/x", Some((5, 5)), true),
            ("fexit.s/x", Some((5, 10)), true),
            ("uprobe.s", Some((6, 0)), false),
            ("lsm/file_open", Some((5, 7)), true),
            ("tp_btf/x", Some((5, 5)), true),
            ("struct_ops/x", Some((5, 6)), true),
            ("mystery", None, false),
        ];
        for (name, since, types) in table {
            let section = Section::parse(name);
            let since = since.map(|(major, minor)| KernelVersion(major, minor));
            assert_eq!(section.since(), since, "{name}");
            assert_eq!(section.names_kernel_types(), types, "{name}");
        }
    }
}
