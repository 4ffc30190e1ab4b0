// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* One program of every TYPE word, in the section names that libbpf takes, beside siblings that aya-obj does not know. */
#include "bpf.h"

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16);
	__type(key, __u32);
	__type(value, __u64);
} seen SEC(".maps");

#define PROGRAM(section, name)                                         \
	SEC(section) int name(void *ctx)                               \
	{                                                              \
		__u32 key = 0;                                         \
		return bpf_map_lookup_elem(&seen, &key) ? 1 : 0;       \
	}

PROGRAM("xdp", xdp_plain)
PROGRAM("xdp/name", xdp_named)
PROGRAM("xdp.frags", xdp_frags)
PROGRAM("tc", tc_plain)
PROGRAM("tc/ingress", tc_ingress)
PROGRAM("tc/egress", tc_egress)
PROGRAM("classifier", classifier_plain)
PROGRAM("classifier/name", classifier_named)
PROGRAM("tcx/ingress", tcx_ingress)
PROGRAM("tcx/egress", tcx_egress)
PROGRAM("kprobe/do_sys_open", kprobe_named)
PROGRAM("kretprobe", kretprobe_plain)
PROGRAM("uprobe/libc.so.6:malloc", uprobe_named)
PROGRAM("uretprobe", uretprobe_plain)
PROGRAM("tracepoint/syscalls/sys_enter_getpgid", tracepoint_named)
PROGRAM("tp/sched/sched_switch", tp_named)
PROGRAM("?tracepoint", tracepoint_optional)
/* Two in one section, only one of which may be wanted. */
PROGRAM("tracepoint", tracepoint_first)
PROGRAM("tracepoint", tracepoint_second)

/* Not for us: none of them may stop the others. */
PROGRAM("action", an_action)
PROGRAM("ksyscall/open", ksyscall)
PROGRAM("usdt/x:y:z", usdt)
PROGRAM("kprobe.multi/x*", kprobe_multi)
PROGRAM("struct_ops/op", struct_op)
PROGRAM("cgroup_skb/nowhere", cgroup_nowhere)
PROGRAM("maps_of_mine", with_name_of_maps)
PROGRAM("version2", with_name_of_version)
PROGRAM("something else", something_else)

SEC("fentry/vfs_read")
int fentry_named(void *ctx)
{
	return 0;
}

SEC("fexit")
int fexit_plain(void *ctx)
{
	return 0;
}
