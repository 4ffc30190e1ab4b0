// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* One CO-RE relocation of every kind, as bpf_core_read.h of libbpf makes them. */
#include "bpf.h"

#define __core __attribute__((preserve_access_index))
#define FIELD_OFFSET 0
#define FIELD_SIZE 1
#define FIELD_EXISTS 2
#define FIELD_SIGNED 3
#define FIELD_LSHIFT 4
#define FIELD_RSHIFT 5

struct list_head {
	struct list_head *next, *prev;
} __core;

struct mm_struct;

/* A variant of its own name, members in another order, one that no kernel has. */
struct task_struct___mine {
	int tgid;
	int pid;
	struct list_head tasks;
	struct mm_struct *mm;
	char comm[16];
	struct task_struct___mine *group_leader;
	int no_such_member;
	unsigned int sched_reset_on_fork : 1;
} __core;

struct sk_buff {
	unsigned int len;
	/* In anonymous unions and structs. */
	struct net_device *dev;
	unsigned char cloned : 1;
} __core;

struct nowhere_to_be_found {
	int member;
} __core;

enum bpf_map_type {
	BPF_MAP_TYPE_RINGBUF_ = 1,
};
enum bpf_map_type___mine {
	BPF_MAP_TYPE_RINGBUF___mine = 77,
	BPF_MAP_TYPE_NEVER_HEARD_OF = 78,
};

typedef __u64 (*btf_trace_sched_switch)(void *, int);
typedef int pid_t;

static __u64 (*bpf_get_current_task)(void) = (void *)35;

__u64 out[24] = {};

SEC("tracepoint")
int kinds(void *ctx)
{
	struct task_struct___mine *task = (void *)0;
	struct sk_buff *skb = (void *)0;
	int at = 0;

	out[0] = __builtin_preserve_field_info(task->pid, FIELD_OFFSET);
	out[1] = __builtin_preserve_field_info(task->tasks.prev, FIELD_OFFSET);
	out[2] = __builtin_preserve_field_info(task->comm[3], FIELD_OFFSET);
	out[3] = __builtin_preserve_field_info(task->comm, FIELD_SIZE);
	out[4] = __builtin_preserve_field_info(task->no_such_member, FIELD_EXISTS);
	out[5] = __builtin_preserve_field_info(task->mm, FIELD_EXISTS);
	out[6] = __builtin_preserve_field_info(task->pid, FIELD_SIGNED);
	out[7] = __builtin_preserve_field_info(task->sched_reset_on_fork, FIELD_LSHIFT);
	out[8] = __builtin_preserve_field_info(task->sched_reset_on_fork, FIELD_RSHIFT);
	out[9] = __builtin_preserve_field_info(task->group_leader, FIELD_OFFSET);
	out[10] = __builtin_preserve_field_info(skb->dev, FIELD_OFFSET);
	out[11] = __builtin_preserve_field_info(skb->cloned, FIELD_RSHIFT);
	out[12] = __builtin_preserve_type_info(*(struct task_struct___mine *)0, 0);
	out[13] = __builtin_preserve_type_info(*(struct nowhere_to_be_found *)0, 0);
	out[14] = __builtin_preserve_type_info(*(struct sk_buff *)0, 1);
	out[15] = __builtin_preserve_type_info(*(btf_trace_sched_switch *)0, 0);
	out[16] = __builtin_preserve_type_info(*(pid_t *)0, 1);
	out[17] = __builtin_preserve_enum_value(
		*(typeof(enum bpf_map_type___mine) *)BPF_MAP_TYPE_RINGBUF___mine, 1);
	out[18] = __builtin_preserve_enum_value(
		*(typeof(enum bpf_map_type___mine) *)BPF_MAP_TYPE_NEVER_HEARD_OF, 0);
	return at;
}

/* The number of a type in the kernel's BTF. */
SEC("tracepoint")
int number(void *ctx)
{
	out[19] = __builtin_btf_type_id(*(struct sk_buff *)0, 1);
	return 0;
}
