// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
// A CO-RE relocation, which needs the running kernel's BTF.
#define SEC(name) __attribute__((section(name), used))

struct task_struct {
	int pid;
} __attribute__((preserve_access_index));

SEC("fexit/schedule") int scheduled(struct task_struct **context) { return (*context)->pid; }

char _license[] SEC("license") = "GPL";
