// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Programs that use externs of the kernel, each kind in one of its own, beside one that does not. */
#include "bpf.h"

#define __weak __attribute__((weak))
#define __ksym __attribute__((section(".ksyms")))
#define __kconfig __attribute__((section(".kconfig")))

enum libbpf_tristate {
	TRI_NO = 0,
	TRI_YES = 1,
	TRI_MODULE = 2,
};

struct rq;

extern int LINUX_KERNEL_VERSION __kconfig;
extern _Bool LINUX_HAS_BPF_COOKIE __kconfig;
extern _Bool CONFIG_BPF_SYSCALL __kconfig;
extern enum libbpf_tristate CONFIG_NET __kconfig;
extern unsigned long CONFIG_HZ __kconfig;
extern char CONFIG_DEFAULT_HOSTNAME[7] __kconfig;
extern int CONFIG_NO_SUCH_OPTION __kconfig __weak;
extern _Bool CONFIG_NO_OTHER_OPTION __kconfig;
extern _Bool NO_OPTION_AT_ALL __kconfig;
extern _Bool CONFIG_NR_CPUS __kconfig;

extern const void init_task __ksym __weak;
extern const void no_such_symbol __ksym;
extern const void no_such_weak_symbol __ksym __weak;
extern const struct rq runqueues __ksym;
extern const struct rq no_such_variable __ksym;

extern void bpf_rcu_read_lock(void) __ksym;
extern void bpf_rcu_read_unlock(void) __ksym;
extern void bpf_no_such_kfunc(void) __ksym;
extern void bpf_no_such_weak_kfunc(void) __ksym __weak;

static void *(*bpf_per_cpu_ptr)(const void *variable, __u32 cpu) = (void *)153;

const volatile int limit = 7;
/* What the programs found. */
__u64 seen[8] = {};

static __noinline int twice(int value)
{
	volatile int copy = value;

	return copy + copy;
}

SEC("xdp")
int plain(struct xdp_md *ctx)
{
	return twice(limit) > 7 ? XDP_PASS : XDP_DROP;
}

SEC("xdp")
int with_kconfig(struct xdp_md *ctx)
{
	seen[0] = LINUX_KERNEL_VERSION;
	seen[1] = CONFIG_HZ;
	seen[2] = CONFIG_NET;
	seen[3] = CONFIG_BPF_SYSCALL;
	seen[4] = CONFIG_NO_SUCH_OPTION;
	seen[5] = CONFIG_DEFAULT_HOSTNAME[1];
	seen[6] = LINUX_HAS_BPF_COOKIE;
	return XDP_PASS;
}

/* The same from a function that it calls. */
static __noinline int version(void)
{
	return LINUX_KERNEL_VERSION;
}

SEC("xdp")
int with_kconfig_below(struct xdp_md *ctx)
{
	seen[0] = version();
	return XDP_PASS;
}

SEC("xdp")
int with_unset_kconfig(struct xdp_md *ctx)
{
	return CONFIG_NO_OTHER_OPTION;
}

SEC("xdp")
int with_unknown_kconfig(struct xdp_md *ctx)
{
	return NO_OPTION_AT_ALL;
}

SEC("xdp")
int with_unfit_kconfig(struct xdp_md *ctx)
{
	return CONFIG_NR_CPUS;
}

SEC("xdp")
int with_kfunc(struct xdp_md *ctx)
{
	bpf_rcu_read_lock();
	bpf_rcu_read_unlock();
	return XDP_PASS;
}

SEC("xdp")
int with_missing_kfunc(struct xdp_md *ctx)
{
	bpf_no_such_kfunc();
	return XDP_PASS;
}

SEC("xdp")
int with_weak_kfunc(struct xdp_md *ctx)
{
	if (bpf_no_such_weak_kfunc)
		bpf_no_such_weak_kfunc();
	seen[0] = 77;
	return XDP_PASS;
}

SEC("xdp")
int with_weak_ksym(struct xdp_md *ctx)
{
	seen[0] = (__u64)&init_task;
	seen[1] = (__u64)&no_such_weak_symbol;
	return &init_task ? XDP_PASS : XDP_DROP;
}

SEC("xdp")
int with_missing_ksym(struct xdp_md *ctx)
{
	seen[0] = (__u64)&no_such_symbol;
	return XDP_PASS;
}

SEC("xdp")
int with_typed_ksym(struct xdp_md *ctx)
{
	const struct rq *rq = bpf_per_cpu_ptr(&runqueues, 0);

	seen[0] = rq != 0;
	return XDP_PASS;
}

SEC("xdp")
int with_missing_variable(struct xdp_md *ctx)
{
	return bpf_per_cpu_ptr(&no_such_variable, 0) != 0;
}
