/// Names of `enum bpf_map_type` (`include/uapi/linux/bpf.h`, kernel 6.18), in its order.
const NAMES: [&str; 34] = [
    "unspec",
    "hash",
    "array",
    "prog_array",
    "perf_event_array",
    "per_cpu_hash",
    "per_cpu_array",
    "stack_trace",
    "cgroup_array",
    "lru_hash",
    "lru_per_cpu_hash",
    "lpm_trie",
    "array_of_maps",
    "hash_of_maps",
    "devmap",
    "sockmap",
    "cpumap",
    "xskmap",
    "sockhash",
    "cgroup_storage",
    "reuseport_sockarray",
    "per_cpu_cgroup_storage",
    "queue",
    "stack",
    "sk_storage",
    "devmap_hash",
    "struct_ops",
    "ringbuf",
    "inode_storage",
    "task_storage",
    "bloom_filter",
    "user_ringbuf",
    "cgrp_storage",
    "arena",
];

/// Name of a map type (`enum bpf_map_type`) as it stands in the `io.ebpf.maps` label.
/// An unknown number gives `None`.
pub fn map_type_name(map_type: u32) -> Option<&'static str> {
    NAMES.get(usize::try_from(map_type).ok()?).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_the_kernel() {
        let table = [
            (0, Some("unspec")),
            (1, Some("hash")),
            (6, Some("per_cpu_array")),
            (13, Some("hash_of_maps")),
            (21, Some("per_cpu_cgroup_storage")),
            (27, Some("ringbuf")),
            (33, Some("arena")),
            (34, None),
            (u32::MAX, None),
        ];
        for (number, name) in table {
            assert_eq!(map_type_name(number), name, "{number}");
        }
    }
}
