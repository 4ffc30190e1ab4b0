// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * A chain of up to ten TC programs on one direction of one interface: xdp_dispatcher.bpf.c once more, as a classifier.
 *
 * No header is included: what is needed of the kernel's interface is below, so that any clang with a BPF back end
 * compiles this, whatever headers its machine has.
 */

typedef unsigned char __u8;
typedef unsigned int __u32;

#define SECTION(name) __attribute__((section(name), used))

/* linux/bpf.h. The verifier knows a function's argument by the name of its type, and only passes it on here. */
struct __sk_buff {
	__u32 len;
};

/* linux/pkt_cls.h */
#define TC_ACT_UNSPEC (-1)
#define TC_ACT_OK 0

/* linux/bpf.h, enum bpf_func_id */
static long (*const bpf_skb_pull_data)(struct __sk_buff *ctx, __u32 len) = (void *)39;

/*
 * What a slot returns that no program stands in: its bit is in the default mask. A chain whose member goes on from other
 * actions only, ends there when somebody takes that member's link away.
 */
#define DISPATCHER_RETURN 30
/* No action. */
#define UNSEEN 29
#define SLOTS 10
/* The first action is -1, the first bit of a mask 0. */
#define FIRST_ACTION (-1)
#define MASK_BITS 32

struct tc_dispatcher_config {
	__u8 num_progs_enabled;
	__u32 chain_call_actions[SLOTS];
	__u32 run_prios[SLOTS];
};

/*
 * Written by the loader before the map is frozen. The verifier reads a frozen map as constants and walks only the
 * branches that they leave; `volatile` keeps the compiler from doing so with the zeros here.
 */
const volatile struct tc_dispatcher_config conf = {};

/*
 * A function that an EXT program can stand in for: global, so that it is verified by itself, and with a result that
 * the compiler cannot know. It could change the packet, though it never does: since kernel 6.13 (and stable releases
 * before it) a program that calls helpers which do, may only replace a function that does, too.
 */
#define SLOT(name)                                                \
	__attribute__((noinline)) int name(struct __sk_buff *ctx) \
	{                                                         \
		volatile int ret = DISPATCHER_RETURN;             \
		if (!ctx)                                         \
			return TC_ACT_UNSPEC;                     \
		if (ret != DISPATCHER_RETURN)                     \
			bpf_skb_pull_data(ctx, 0);                \
		return ret;                                       \
	}

SLOT(prog0)
SLOT(prog1)
SLOT(prog2)
SLOT(prog3)
SLOT(prog4)
SLOT(prog5)
SLOT(prog6)
SLOT(prog7)
SLOT(prog8)
SLOT(prog9)

/* Members are verified against this one when they are loaded; nothing is ever attached to it. */
SLOT(compat_test)

/*
 * Whether the chain goes on from what member i returned. A code above the last bit is in no mask, though a shift would
 * take its lowest five bits. One branch does for both: the bit is above the rest of the code only when it is 1 and the
 * rest 0.
 */
#define RUN(i)                                                        \
	if (enabled <= i)                                             \
		goto out;                                             \
	ret = prog##i(ctx);                                           \
	code = (__u32)ret - FIRST_ACTION;                             \
	bit = (conf.chain_call_actions[i] >> (code % MASK_BITS)) & 1; \
	if (bit <= code / MASK_BITS)                                  \
		goto stop;

SECTION("classifier")
int tc_dispatcher(struct __sk_buff *ctx)
{
	__u8 enabled = conf.num_progs_enabled;
	__u32 code, bit;
	int ret;

	if (!enabled)
		compat_test(ctx);

	RUN(0)
	RUN(1)
	RUN(2)
	RUN(3)
	RUN(4)
	RUN(5)
	RUN(6)
	RUN(7)
	RUN(8)
	RUN(9)
out:
	return TC_ACT_OK;
stop:
	/*
	 * A global function that no walked path calls is removed (kernel 6.8, "validate global subprogs lazily"), and
	 * then nothing can be loaded against it. Of a slot's result the verifier knows nothing, so this path is walked;
	 * where there is no slot, the one above is. Packets that the whole chain lets pass do not come here.
	 */
	if (ret == UNSEEN)
		compat_test(ctx);
	return ret;
}

SECTION("license")
char _license[] = "Dual BSD/GPL";
