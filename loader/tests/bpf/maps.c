// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Maps whose sizes or types depend on the machine or need care, and data of every kind. */
#include "bpf.h"

#define MAP(name, kind, entries, key_type, value_type) \
	struct {                                       \
		__uint(type, kind);                    \
		__uint(max_entries, entries);          \
		__type(key, key_type);                 \
		__type(value, value_type);             \
	} name SEC(".maps")

MAP(queue_of_addresses_with_a_long_name, BPF_MAP_TYPE_HASH, 4, __u32, __u64);
MAP(devices, BPF_MAP_TYPE_DEVMAP, 4, __u32, __u32);

struct {
	__uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY);
	__uint(key_size, 4);
	__uint(value_size, 4);
} perf SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 2);
	__uint(key_size, 4);
	__uint(value_size, 4);
} jumps SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 5000);
} ring SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_QUEUE);
	__uint(max_entries, 4);
	__type(value, __u64);
} queue SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_BLOOM_FILTER);
	__uint(max_entries, 64);
	__type(value, __u64);
} bloom SEC(".maps");

struct inner {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH_OF_MAPS);
	__uint(max_entries, 4);
	__type(key, __u32);
	__array(values, struct inner);
} outer SEC(".maps");

int in_data = 5;
int in_bss = 0;
const volatile __u64 in_rodata = 9;

SEC("tc")
int classify(void *skb)
{
	in_bss += in_data;
	return in_rodata;
}
