// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
// Two programs of one section: one knows a type of the kernel's, the other nothing.
#define SEC(name) __attribute__((section(name), used))

struct task_struct {
	int pid;
} __attribute__((preserve_access_index));

#ifdef KFUNC
extern void bpf_rcu_read_lock(void) SEC(".ksyms");
#endif

// Looked up by its address alone.
extern const void init_task SEC(".ksyms");

SEC("tc") int plain(void *ctx)
{
#ifdef KFUNC
	bpf_rcu_read_lock();
#endif
	return (long)&init_task & 1;
}

SEC("tc") int fitted(struct task_struct *task) { return task->pid; }

#ifdef CALLED
__attribute__((noinline)) int called(struct task_struct *task) { return task->pid; }
#endif

char _license[] SEC("license") = "GPL";
