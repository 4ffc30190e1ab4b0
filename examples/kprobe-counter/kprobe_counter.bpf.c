// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Counts the calls of a kernel function: which one is said when the program is attached. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

/* One entry, and in it one counter a CPU: no two CPUs ever write the same one. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} kprobe_stats_map SEC(".maps");

SEC("kprobe/vfs_unlink")
int kprobe_counter(void *ctx)
{
	__u32 key = 0;
	__u64 *calls = bpf_map_lookup_elem(&kprobe_stats_map, &key);

	if (calls)
		(*calls)++;
	return 0;
}

char _license[] SEC("license") = "Dual BSD/GPL";
