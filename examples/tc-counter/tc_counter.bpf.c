// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Counts the packets and bytes of one direction of an interface, and lets all of them pass. */
#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_helpers.h>

struct counter {
	__u64 packets;
	__u64 bytes;
};

/* One entry, and in it one counter a CPU: no two CPUs ever write the same one. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct counter);
} tc_stats_map SEC(".maps");

SEC("tc")
int tc_stats(struct __sk_buff *ctx)
{
	__u32 key = 0;
	struct counter *counter = bpf_map_lookup_elem(&tc_stats_map, &key);

	if (counter) {
		counter->packets++;
		counter->bytes += ctx->len;
	}
	return TC_ACT_OK;
}

char _license[] SEC("license") = "Dual BSD/GPL";
