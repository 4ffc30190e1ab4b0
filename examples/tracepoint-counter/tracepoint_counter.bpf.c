// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Counts the calls of kill(2) by the signal they send. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#define SIGNALS 65 /* 0, which only asks whether a process is there, and 1 to 64 */

/* What the tracepoint syscalls/sys_enter_kill hands over: its `format` file in tracefs. */
struct sys_enter_kill {
	__u64 common;
	__s64 syscall;
	__u64 pid;
	__u64 signal;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, SIGNALS);
	__type(key, __u32);
	__type(value, __u64);
} kill_stats_map SEC(".maps");

SEC("tracepoint/syscalls/sys_enter_kill")
int tracepoint_kill_recorder(struct sys_enter_kill *ctx)
{
	__u32 signal = ctx->signal;
	__u64 *calls = bpf_map_lookup_elem(&kill_stats_map, &signal);

	if (calls)
		(*calls)++;
	return 0;
}

char _license[] SEC("license") = "Dual BSD/GPL";
