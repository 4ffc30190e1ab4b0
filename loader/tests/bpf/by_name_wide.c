// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* A map of the same name as one of by_name.c, and of another size. */
#include "bpf.h"

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, __u64);
	__uint(pinning, 1);
} everybodys SEC(".maps");

SEC("tc")
int count(void *skb)
{
	__u32 key = 0;

	return bpf_map_lookup_elem(&everybodys, &key) ? 1 : 0;
}
