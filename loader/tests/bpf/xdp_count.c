// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#include "bpf.h"

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} packets SEC(".maps");

/* What the program returns. */
const volatile __u32 verdict = XDP_PASS;

static __always_inline int count(void)
{
	__u32 key = 0;
	__u64 *counter = bpf_map_lookup_elem(&packets, &key);

	if (counter)
		*counter += 1;
	return verdict;
}

SEC("xdp/count")
int xdp_count(struct xdp_md *ctx)
{
	return count();
}

SEC("xdp.frags/count")
int xdp_count_frags(struct xdp_md *ctx)
{
	return count();
}

/* The verifier has something to say about this one. */
SEC("xdp/broken")
int xdp_broken(struct xdp_md *ctx)
{
	return *(__u8 *)(long)ctx->data;
}
