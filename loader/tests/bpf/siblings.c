// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* What libbpf's conventions put beside a program: struct_ops, arenas, data sections of one's own, maps that no kernel has. */
#include "bpf.h"

#define __ulong(name, val) enum { name##_is_ = val } name
#define BPF_F_MMAPABLE (1U << 10)

/* A map of a type that no kernel has yet: nobody uses it. */
struct {
	__uint(type, 1000);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} from_the_future SEC(".maps");

struct {
	__uint(type, 1000);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} from_the_future_used SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARENA);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 16);
	__ulong(map_extra, 0x10000000);
} arena SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARENA);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 16);
} arena_anywhere SEC(".maps");

int in_arena __attribute__((section(".addr_space.1"))) = 5;

extern void *bpf_arena_alloc_pages(void *map, void *address, __u32 pages, int node, __u64 flags)
	__attribute__((section(".ksyms")));

/* Data sections of one's own. */
__u64 counted SEC(".data.counts") = 1;
const volatile __u32 step SEC(".rodata.settings") = 3;
__u64 plain_bss = 0;

SEC("struct_ops/congestion")
void ops_ssthresh(void *ctx)
{
}

struct some_ops {
	void *ssthresh;
	char name[16];
};

SEC(".struct_ops")
struct some_ops ops = {
	.ssthresh = (void *)ops_ssthresh,
	.name = "mine",
};

SEC(".struct_ops.link")
struct some_ops ops_with_link = {
	.ssthresh = (void *)ops_ssthresh,
	.name = "mine_too",
};

SEC("xdp")
int count(struct xdp_md *ctx)
{
	counted += step;
	plain_bss++;
	return XDP_PASS;
}

SEC("xdp")
int from_arena(struct xdp_md *ctx)
{
	return in_arena;
}

SEC("xdp")
int from_future(struct xdp_md *ctx)
{
	__u32 key = 0;

	return bpf_map_lookup_elem(&from_the_future_used, &key) ? XDP_PASS : XDP_DROP;
}

SEC("uprobe.s")
int allocate(void *ctx)
{
	plain_bss = (__u64)bpf_arena_alloc_pages(&arena, 0, 1, -1, 0);
	return 0;
}

SEC("uprobe.s")
int allocate_anywhere(void *ctx)
{
	plain_bss = (__u64)bpf_arena_alloc_pages(&arena_anywhere, 0, 1, -1, 0);
	return 0;
}
