// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* A map with entries in the object, beside a program that does not use it. */
#include "bpf.h"

static long (*bpf_tail_call)(void *ctx, void *programs, __u32 index) = (void *)12;

SEC("xdp")
int target(struct xdp_md *ctx)
{
	return XDP_PASS;
}

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__uint(key_size, 4);
	__array(values, int(void *));
} jumps SEC(".maps") = {
	.values = { (void *)&target },
};

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__uint(key_size, 4);
	__uint(value_size, 4);
} empty SEC(".maps");

SEC("xdp")
int jump(struct xdp_md *ctx)
{
	bpf_tail_call(ctx, &jumps, 0);
	return XDP_DROP;
}

SEC("xdp")
int jump_nowhere(struct xdp_md *ctx)
{
	bpf_tail_call(ctx, &empty, 0);
	return XDP_DROP;
}
