//! Which kernel brought what: for the sentence that follows a refusal. Never asked before the kernel has refused.

use aya_obj::generated::bpf_map_type::{self, *};
use aya_obj::generated::bpf_prog_type::*;
use aya_obj::generated::{BPF_F_SLEEPABLE, BPF_F_XDP_HAS_FRAGS};
use bytecode_object::{
    KernelVersion, SLEEPABLE_SINCE, SLEEPABLE_UPROBE_SINCE, XDP_FRAGS_SINCE, map_type_since,
};

use super::program_types::Kind;
use super::version::Version;
use crate::kernel::Need;

/// The kernel that brought a type of map, and the option that it needs beyond `CONFIG_BPF_SYSCALL`.
fn of_map(map_type: bpf_map_type) -> Option<(Version, Option<&'static str>)> {
    let option = match map_type {
        BPF_MAP_TYPE_PERF_EVENT_ARRAY => Some("CONFIG_BPF_EVENTS"),
        BPF_MAP_TYPE_STACK_TRACE => Some("CONFIG_PERF_EVENTS"),
        BPF_MAP_TYPE_CGROUP_ARRAY | BPF_MAP_TYPE_CGRP_STORAGE => Some("CONFIG_CGROUPS"),
        BPF_MAP_TYPE_DEVMAP
        | BPF_MAP_TYPE_CPUMAP
        | BPF_MAP_TYPE_SK_STORAGE
        | BPF_MAP_TYPE_DEVMAP_HASH => Some("CONFIG_NET"),
        BPF_MAP_TYPE_SOCKMAP | BPF_MAP_TYPE_SOCKHASH => Some("CONFIG_BPF_STREAM_PARSER"),
        BPF_MAP_TYPE_XSKMAP => Some("CONFIG_XDP_SOCKETS"),
        BPF_MAP_TYPE_REUSEPORT_SOCKARRAY => Some("CONFIG_INET"),
        BPF_MAP_TYPE_STRUCT_OPS => Some("CONFIG_BPF_JIT"),
        BPF_MAP_TYPE_INODE_STORAGE => Some("CONFIG_BPF_LSM"),
        BPF_MAP_TYPE_ARENA => Some("CONFIG_MMU"),
        _ => None,
    };
    let since = map_type_since(map_type as u32)?;
    Some((since.into(), option))
}

/// The same for programs, as far as bpfman loads them.
fn of_program(kind: Kind) -> Option<(Version, Option<&'static str>)> {
    let (version, option) = match kind.program_type {
        BPF_PROG_TYPE_KPROBE => (Version(4, 1), Some("CONFIG_BPF_EVENTS")),
        BPF_PROG_TYPE_SCHED_CLS => (Version(4, 1), Some("CONFIG_NET_CLS_BPF")),
        BPF_PROG_TYPE_TRACEPOINT => (Version(4, 7), Some("CONFIG_BPF_EVENTS")),
        BPF_PROG_TYPE_XDP => (Version(4, 8), Some("CONFIG_NET")),
        BPF_PROG_TYPE_TRACING => (Version(5, 5), Some("CONFIG_DEBUG_INFO_BTF")),
        BPF_PROG_TYPE_EXT => (Version(5, 6), Some("CONFIG_DEBUG_INFO_BTF")),
        _ => return None,
    };
    let frags = kind.program_type == BPF_PROG_TYPE_XDP && kind.flags & BPF_F_XDP_HAS_FRAGS != 0;
    let sleeps = kind.flags & BPF_F_SLEEPABLE != 0;
    let more = match kind.program_type {
        _ if frags => Some(XDP_FRAGS_SINCE),
        BPF_PROG_TYPE_KPROBE if sleeps => Some(SLEEPABLE_UPROBE_SINCE),
        _ if sleeps => Some(SLEEPABLE_SINCE),
        _ => None,
    };
    let version = more.map_or(version, |more| version.max(more.into()));
    Some((version, option))
}

/// What a kernel of that version lacks for a map, if its type is why it refused.
pub(super) fn map(map_type: u32, running: Version) -> Option<Need> {
    need(
        bpf_map_type::try_from(map_type).ok().and_then(of_map),
        running,
    )
}

/// What a kernel of that version lacks for a program.
pub(super) fn program(kind: Kind, running: Version) -> Option<Need> {
    need(of_program(kind), running)
}

impl From<KernelVersion> for Version {
    fn from(KernelVersion(major, minor): KernelVersion) -> Self {
        Self(major, minor)
    }
}

fn need(needed: Option<(Version, Option<&'static str>)>, running: Version) -> Option<Need> {
    let (version, option) = needed?;
    if running < version {
        return Some(Need::Kernel {
            needed: (version.0, version.1),
            running: (running.0, running.1),
        });
    }
    option.map(|option| Need::Option { option })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_depends_on_the_kernel() {
        let old = |needed, running| Some(Need::Kernel { needed, running });
        let option = |option| Some(Need::Option { option });
        let cases = [
            (BPF_MAP_TYPE_ARENA, Version(6, 1), old((6, 9), (6, 1))),
            (BPF_MAP_TYPE_ARENA, Version(6, 12), option("CONFIG_MMU")),
            (BPF_MAP_TYPE_RINGBUF, Version(5, 7), old((5, 8), (5, 7))),
            (BPF_MAP_TYPE_RINGBUF, Version(5, 8), None),
            (
                BPF_MAP_TYPE_XSKMAP,
                Version(6, 1),
                option("CONFIG_XDP_SOCKETS"),
            ),
        ];
        for (kind, running, expected) in cases {
            assert_eq!(map(kind as u32, running), expected, "{kind:?}");
        }
        assert_eq!(map(99, Version(6, 1)), None);
        let kind = |program_type, flags| Kind {
            program_type,
            attach_type: 0,
            flags,
        };
        let plain = |program_type, running| program(kind(program_type, 0), running);
        assert_eq!(plain(BPF_PROG_TYPE_EXT, Version(5, 4)), old((5, 6), (5, 4)));
        let kprobe = plain(BPF_PROG_TYPE_KPROBE, Version(6, 1));
        assert_eq!(kprobe, option("CONFIG_BPF_EVENTS"));
        // What a section asks for beyond its type.
        let cases = [
            (BPF_PROG_TYPE_XDP, BPF_F_XDP_HAS_FRAGS, (5, 17), (5, 18)),
            (BPF_PROG_TYPE_KPROBE, BPF_F_SLEEPABLE, (5, 19), (6, 0)),
            (BPF_PROG_TYPE_TRACING, BPF_F_SLEEPABLE, (5, 9), (5, 10)),
        ];
        for (program_type, flags, running, needed) in cases {
            let found = program(kind(program_type, flags), Version(running.0, running.1));
            assert_eq!(found, old(needed, running), "{program_type:?}");
        }
    }
}
