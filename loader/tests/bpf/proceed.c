// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Three programs a hook, each of which returns what its byte of the packet says. */
#include "bpf.h"

struct __sk_buff {
	__u32 len;
	__u32 unread[18];
	__u32 data;
	__u32 data_end;
};

static long (*bpf_skb_pull_data)(struct __sk_buff *ctx, __u32 len) = (void *)39;
static long (*bpf_xdp_adjust_head)(struct xdp_md *ctx, int delta) = (void *)44;

/* A bit a program that ran. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} ran SEC(".maps");

static __always_inline int answer(void *data, void *end, int place)
{
	__u32 key = 0;
	__u64 *bits = bpf_map_lookup_elem(&ran, &key);

	if (bits)
		*bits |= 1 << place;
	if (data + 14 > end)
		return 0;
	return ((signed char *)data)[place];
}

#define XDP(place)                                                                       \
	SEC("xdp")                                                                       \
	int xdp_##place(struct xdp_md *ctx)                                              \
	{                                                                                \
		return answer((void *)(long)ctx->data, (void *)(long)ctx->data_end, place); \
	}

#define TC(place)                                                                        \
	SEC("tc")                                                                        \
	int tc_##place(struct __sk_buff *ctx)                                            \
	{                                                                                \
		return answer((void *)(long)ctx->data, (void *)(long)ctx->data_end, place); \
	}

XDP(0)
XDP(1)
XDP(2)
TC(0)
TC(1)
TC(2)

/* What changes the packet may stand in a slot, too. */
SEC("xdp")
int xdp_changes(struct xdp_md *ctx)
{
	return bpf_xdp_adjust_head(ctx, 0) ? 1 : 2;
}

SEC("tc")
int tc_changes(struct __sk_buff *ctx)
{
	return bpf_skb_pull_data(ctx, 14) ? 2 : 0;
}
