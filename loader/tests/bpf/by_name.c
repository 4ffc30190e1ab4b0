// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Maps that are shared: by their names with every load, or with the owner of a folder only. */
#include "bpf.h"

#define LIBBPF_PIN_BY_NAME 1

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} everybodys SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} owners SEC(".maps");

const volatile __u64 weight = 1;

SEC("tc")
int count(void *skb)
{
	__u32 key = 0;
	__u64 *counter = bpf_map_lookup_elem(&everybodys, &key);

	if (counter)
		*counter += weight;
	counter = bpf_map_lookup_elem(&owners, &key);
	if (counter)
		*counter += weight;
	return 0;
}
