// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* A map that no other object has. */
#include "bpf.h"

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} other SEC(".maps");

SEC("tc")
int count(void *skb)
{
	__u32 key = 0;

	return bpf_map_lookup_elem(&other, &key) ? 1 : 0;
}
