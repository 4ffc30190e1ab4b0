// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* One application of several programs that share a map: each counts in an entry of its own. */
#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_helpers.h>

enum program { XDP, TC, TRACEPOINT, KPROBE, UPROBE, URETPROBE, PROGRAMS };

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, PROGRAMS);
	__type(key, __u32);
	__type(value, __u64);
} app_stats_map SEC(".maps");

static __always_inline void count(__u32 program)
{
	__u64 *events = bpf_map_lookup_elem(&app_stats_map, &program);

	if (events)
		(*events)++;
}

SEC("xdp")
int app_xdp(struct xdp_md *ctx)
{
	count(XDP);
	return XDP_PASS;
}

SEC("tc")
int app_tc(struct __sk_buff *ctx)
{
	count(TC);
	return TC_ACT_OK;
}

SEC("tracepoint/syscalls/sys_enter_kill")
int app_tracepoint(void *ctx)
{
	count(TRACEPOINT);
	return 0;
}

SEC("kprobe/vfs_unlink")
int app_kprobe(void *ctx)
{
	count(KPROBE);
	return 0;
}

SEC("uprobe")
int app_uprobe(void *ctx)
{
	count(UPROBE);
	return 0;
}

SEC("uretprobe")
int app_uretprobe(void *ctx)
{
	count(URETPROBE);
	return 0;
}

char _license[] SEC("license") = "Dual BSD/GPL";
