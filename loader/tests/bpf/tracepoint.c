// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#include "bpf.h"

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} events SEC(".maps");

/* 0: count every process. */
const volatile __u32 only_pid = 0;
/* How much an event counts. */
const volatile __u64 weight = 1;

SEC("tracepoint/syscalls/sys_enter_getpgid")
int count(void *ctx)
{
	__u32 key = 0;
	__u64 *counter;

	if (only_pid && (bpf_get_current_pid_tgid() >> 32) != only_pid)
		return 0;
	counter = bpf_map_lookup_elem(&events, &key);
	if (counter)
		__sync_fetch_and_add(counter, weight);
	return 0;
}
