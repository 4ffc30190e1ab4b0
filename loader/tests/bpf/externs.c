// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Programs that use externs of the kernel, beside one that does not. */
#include "bpf.h"

extern int LINUX_KERNEL_VERSION __attribute__((section(".kconfig")));
extern void bpf_rcu_read_lock(void) __attribute__((section(".ksyms")));
extern const void init_task __attribute__((weak)) __attribute__((section(".ksyms")));

const volatile int limit = 7;

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
	return LINUX_KERNEL_VERSION > 5;
}

SEC("xdp")
int with_kfunc(struct xdp_md *ctx)
{
	bpf_rcu_read_lock();
	return XDP_PASS;
}

SEC("xdp")
int with_weak_ksym(struct xdp_md *ctx)
{
	return &init_task ? XDP_PASS : XDP_DROP;
}
