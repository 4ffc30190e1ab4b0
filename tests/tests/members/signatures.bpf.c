/* Main functions that the kernel takes by themselves, whatever their signature: each counts in `runs` and lets the
 * packet pass. */
#include <stdbool.h>
long long runs;

#define COUNT() __sync_fetch_and_add(&runs, 1)

typedef const struct xdp_md *context;
typedef unsigned long long verdict;
enum verdicts { PASSES = 2, MORE = 0x7fffffff };

__attribute__((noinline)) int global_part(struct xdp_md *ctx) { return ctx->data_end > ctx->data ? 2 : 1; }
__attribute__((noinline)) static int static_part(void *data, void *end) { return (char *)data + 14 > (char *)end ? 1 : 2; }
/* Followed from its callers by libbpf's rule, because it is hidden. */
__hidden __attribute__((noinline)) int hidden_part(void *data, void *end) { return (char *)data + 14 > (char *)end ? 1 : 2; }
static long callback(unsigned int index, void *times) { *(int *)times += 1; return 0; }

SEC("xdp") int usual(struct xdp_md *ctx) { COUNT(); return XDP_PASS; }
SEC("xdp") int no_argument(void) { COUNT(); return XDP_PASS; }
SEC("xdp") int void_pointer(void *ctx) { COUNT(); return XDP_PASS; }
SEC("xdp") int other_struct(struct bpf_sock *ctx) { COUNT(); return XDP_PASS; }
SEC("xdp") int a_number(unsigned long long ctx) { COUNT(); return XDP_PASS; }
SEC("xdp") int const_typedef(context ctx) { COUNT(); return XDP_PASS; }
SEC("xdp") int more_arguments(struct xdp_md *ctx, int more, void *and_more) { COUNT(); return XDP_PASS; }
SEC("xdp") enum xdp_action action(struct xdp_md *ctx) { COUNT(); return XDP_PASS; }
SEC("xdp") enum verdicts own_enum(void *ctx) { COUNT(); return PASSES; }
SEC("xdp") __u32 u32_result(struct xdp_md *ctx) { COUNT(); return XDP_PASS; }
SEC("xdp") long long_result(struct xdp_md *ctx) { COUNT(); return XDP_PASS; }
SEC("xdp") verdict typedef_result(struct xdp_md *ctx) { COUNT(); return XDP_PASS; }
SEC("xdp") unsigned char byte_result(struct xdp_md *ctx) { COUNT(); return XDP_PASS; }
SEC("xdp") void *pointer_result(struct xdp_md *ctx) { COUNT(); return (void *)XDP_PASS; }
SEC("xdp.frags") enum xdp_action frags(void *ctx) { COUNT(); return XDP_PASS; }
SEC("xdp") enum xdp_action reads_packet(void *arg)
{
	struct xdp_md *ctx = arg;
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	int times = 0;

	bpf_loop(3, callback, &times, 0);
	if (times != 3 || data + 14 > end)
		return XDP_DROP;
	COUNT();
	return global_part(ctx) & static_part(data, end) & hidden_part(data, end);
}
/* Changes the packet, which a member may because the functions of a dispatcher may. */
SEC("xdp") enum xdp_action changes_packet(void *arg)
{
	struct xdp_md *ctx = arg;

	if (bpf_xdp_adjust_head(ctx, 1) || bpf_xdp_adjust_head(ctx, -1))
		return XDP_DROP;
	COUNT();
	return XDP_PASS;
}

__attribute__((noinline)) int global_tc_part(struct __sk_buff *skb) { return skb->len == 0; }

SEC("tc") int tc_usual(struct __sk_buff *skb) { COUNT(); return 0; }
SEC("tc") int tc_no_argument(void) { COUNT(); return 0; }
SEC("tc") int tc_void_pointer(void *ctx) { COUNT(); return 0; }
SEC("classifier") enum verdicts tc_enum(struct __sk_buff *skb) { COUNT(); return 0; }
SEC("tc") long tc_long(struct __sk_buff *skb) { COUNT(); return 0; }
SEC("tc") bool tc_bool(void *ctx) { COUNT(); return global_tc_part(ctx); }
SEC("tc") int tc_more_arguments(struct __sk_buff *skb, int more) { COUNT(); return 0; }
SEC("tc") unsigned int tc_reads_packet(void *ctx)
{
	struct __sk_buff *skb = ctx;
	unsigned char first;

	if (bpf_skb_load_bytes(skb, 0, &first, 1) || bpf_skb_store_bytes(skb, 0, &first, 1, 0))
		return 2;
	COUNT();
	return global_tc_part(skb);
}
