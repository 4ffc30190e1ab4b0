//! Which kernel brought what: for the sentence that follows a refusal. Never asked before the kernel has refused.

use aya_obj::generated::bpf_map_type::{self, *};
use aya_obj::generated::bpf_prog_type::{self, *};

use super::version::Version;
use crate::kernel::Need;

/// The kernel that brought a type of map, and the option that it needs beyond `CONFIG_BPF_SYSCALL`.
fn of_map(map_type: bpf_map_type) -> Option<(Version, Option<&'static str>)> {
    Some(match map_type {
        BPF_MAP_TYPE_HASH | BPF_MAP_TYPE_ARRAY => (Version(3, 19), None),
        BPF_MAP_TYPE_PROG_ARRAY => (Version(4, 2), None),
        BPF_MAP_TYPE_PERF_EVENT_ARRAY => (Version(4, 3), Some("CONFIG_BPF_EVENTS")),
        BPF_MAP_TYPE_PERCPU_HASH | BPF_MAP_TYPE_PERCPU_ARRAY => (Version(4, 6), None),
        BPF_MAP_TYPE_STACK_TRACE => (Version(4, 6), Some("CONFIG_PERF_EVENTS")),
        BPF_MAP_TYPE_CGROUP_ARRAY => (Version(4, 8), Some("CONFIG_CGROUPS")),
        BPF_MAP_TYPE_LRU_HASH | BPF_MAP_TYPE_LRU_PERCPU_HASH => (Version(4, 10), None),
        BPF_MAP_TYPE_LPM_TRIE => (Version(4, 11), None),
        BPF_MAP_TYPE_ARRAY_OF_MAPS | BPF_MAP_TYPE_HASH_OF_MAPS => (Version(4, 12), None),
        BPF_MAP_TYPE_DEVMAP => (Version(4, 14), Some("CONFIG_NET")),
        BPF_MAP_TYPE_SOCKMAP => (Version(4, 14), Some("CONFIG_BPF_STREAM_PARSER")),
        BPF_MAP_TYPE_CPUMAP => (Version(4, 15), Some("CONFIG_NET")),
        BPF_MAP_TYPE_XSKMAP => (Version(4, 18), Some("CONFIG_XDP_SOCKETS")),
        BPF_MAP_TYPE_SOCKHASH => (Version(4, 18), Some("CONFIG_BPF_STREAM_PARSER")),
        BPF_MAP_TYPE_REUSEPORT_SOCKARRAY => (Version(4, 19), Some("CONFIG_INET")),
        BPF_MAP_TYPE_QUEUE | BPF_MAP_TYPE_STACK => (Version(4, 20), None),
        BPF_MAP_TYPE_SK_STORAGE => (Version(5, 2), Some("CONFIG_NET")),
        BPF_MAP_TYPE_DEVMAP_HASH => (Version(5, 4), Some("CONFIG_NET")),
        BPF_MAP_TYPE_STRUCT_OPS => (Version(5, 6), Some("CONFIG_BPF_JIT")),
        BPF_MAP_TYPE_RINGBUF => (Version(5, 8), None),
        BPF_MAP_TYPE_INODE_STORAGE => (Version(5, 10), Some("CONFIG_BPF_LSM")),
        BPF_MAP_TYPE_TASK_STORAGE => (Version(5, 11), None),
        BPF_MAP_TYPE_BLOOM_FILTER => (Version(5, 16), None),
        BPF_MAP_TYPE_USER_RINGBUF => (Version(6, 1), None),
        BPF_MAP_TYPE_CGRP_STORAGE => (Version(6, 2), Some("CONFIG_CGROUPS")),
        BPF_MAP_TYPE_ARENA => (Version(6, 9), Some("CONFIG_MMU")),
        _ => return None,
    })
}

/// The same for types of programs, as far as bpfman loads them.
fn of_program(program_type: bpf_prog_type) -> Option<(Version, Option<&'static str>)> {
    Some(match program_type {
        BPF_PROG_TYPE_KPROBE => (Version(4, 1), Some("CONFIG_BPF_EVENTS")),
        BPF_PROG_TYPE_SCHED_CLS => (Version(4, 1), Some("CONFIG_NET_CLS_BPF")),
        BPF_PROG_TYPE_TRACEPOINT => (Version(4, 7), Some("CONFIG_BPF_EVENTS")),
        BPF_PROG_TYPE_XDP => (Version(4, 8), Some("CONFIG_NET")),
        BPF_PROG_TYPE_TRACING => (Version(5, 5), Some("CONFIG_DEBUG_INFO_BTF")),
        BPF_PROG_TYPE_EXT => (Version(5, 6), Some("CONFIG_DEBUG_INFO_BTF")),
        _ => return None,
    })
}

/// What a kernel of that version lacks for a map, if its type is why it refused.
pub(super) fn map(map_type: u32, running: Version) -> Option<Need> {
    need(
        bpf_map_type::try_from(map_type).ok().and_then(of_map),
        running,
    )
}

/// What a kernel of that version lacks for a program.
pub(super) fn program(program_type: bpf_prog_type, running: Version) -> Option<Need> {
    need(of_program(program_type), running)
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
        assert_eq!(
            program(BPF_PROG_TYPE_EXT, Version(5, 4)),
            old((5, 6), (5, 4))
        );
        let kprobe = program(BPF_PROG_TYPE_KPROBE, Version(6, 1));
        assert_eq!(kprobe, option("CONFIG_BPF_EVENTS"));
    }
}
