// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Counts the packets and bytes that an interface receives, and leaves them to the next program. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

/* TCX_NEXT of linux/bpf.h, which has it since Linux 6.6. */
#define NEXT -1

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
} tcx_stats_map SEC(".maps");

SEC("tcx/ingress")
int tcx_stats(struct __sk_buff *ctx)
{
	__u32 key = 0;
	struct counter *counter = bpf_map_lookup_elem(&tcx_stats_map, &key);

	if (counter) {
		counter->packets++;
		counter->bytes += ctx->len;
	}
	return NEXT;
}

char _license[] SEC("license") = "Dual BSD/GPL";
