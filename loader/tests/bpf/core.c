// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* CO-RE: where a member lies is the running kernel's to say. */
#include "bpf.h"

struct task_struct {
	int pid;
	int tgid;
} __attribute__((preserve_access_index));

static __u64 (*bpf_get_current_task)(void) = (void *)35;
static long (*bpf_probe_read_kernel)(void *to, __u32 size, const void *from) = (void *)113;

__u32 pid = 0;
__u32 tgid = 0;

SEC("tracepoint/syscalls/sys_enter_getpgid")
int remember(void *ctx)
{
	struct task_struct *task = (void *)bpf_get_current_task();

	bpf_probe_read_kernel(&pid, sizeof(pid), &task->pid);
	bpf_probe_read_kernel(&tgid, sizeof(tgid), &task->tgid);
	return 0;
}

/* A sibling that needs what no kernel has. */
struct no_such_struct_anywhere {
	int member;
} __attribute__((preserve_access_index));

SEC("kprobe/nothing")
int impossible(void *ctx)
{
	struct no_such_struct_anywhere *nowhere = (void *)bpf_get_current_task();
	int value = 0;

	bpf_probe_read_kernel(&value, sizeof(value), &nowhere->member);
	return value;
}
