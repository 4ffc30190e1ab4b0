// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Maps with entries in the object, beside a program that does not use them. */
#include "bpf.h"

static long (*bpf_tail_call)(void *ctx, void *programs, __u32 index) = (void *)12;

__u64 ran[4] = {};

SEC("xdp")
int target(struct xdp_md *ctx)
{
	ran[0]++;
	return XDP_PASS;
}

/* Jumps on, to one that jumps nowhere else. */
SEC("xdp")
int between(struct xdp_md *ctx);

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 4);
	__uint(key_size, 4);
	__array(values, int(void *));
} jumps SEC(".maps") = {
	.values = { [1] = (void *)&between, [3] = (void *)&target },
};

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__uint(key_size, 4);
	__array(values, int(void *));
} second SEC(".maps") = {
	.values = { (void *)&target },
};

int between(struct xdp_md *ctx)
{
	ran[1]++;
	bpf_tail_call(ctx, &second, 0);
	return XDP_DROP;
}

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__uint(key_size, 4);
	__uint(value_size, 4);
} empty SEC(".maps");

SEC("xdp")
int jump(struct xdp_md *ctx)
{
	ran[2]++;
	bpf_tail_call(ctx, &jumps, 1);
	return XDP_DROP;
}

SEC("xdp")
int jump_nowhere(struct xdp_md *ctx)
{
	bpf_tail_call(ctx, &empty, 0);
	return XDP_DROP;
}

struct inner {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} first_inner SEC(".maps"), second_inner SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 4);
	__type(key, __u32);
	__array(values, struct inner);
} outer SEC(".maps") = {
	.values = { [0] = &first_inner, [2] = &second_inner },
};

SEC("xdp")
int count_inside(struct xdp_md *ctx)
{
	__u32 index = 2, zero = 0;
	void *inner = bpf_map_lookup_elem(&outer, &index);
	__u64 *count;

	if (!inner)
		return XDP_DROP;
	count = bpf_map_lookup_elem(inner, &zero);
	if (count)
		++*count;
	return XDP_PASS;
}

/* An array whose entry is of another type than who jumps. */
SEC("tc")
int of_another_type(void *ctx)
{
	return 0;
}

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__uint(key_size, 4);
	__array(values, int(void *));
} wrong SEC(".maps") = {
	.values = { (void *)&of_another_type },
};

SEC("xdp")
int jump_to_another_type(struct xdp_md *ctx)
{
	bpf_tail_call(ctx, &wrong, 0);
	return XDP_DROP;
}
