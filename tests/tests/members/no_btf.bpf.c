/* Compiled without -g: nothing says what the functions are. */
#define SEC(name) __attribute__((section(name), used))
typedef unsigned int u32;
struct xdp_md { u32 data, data_end; };
struct __sk_buff { u32 len; };
static __attribute__((noinline)) int static_part(char *data, char *end) { return data + 14 > end ? 1 : 2; }
__attribute__((noinline)) int global_part(void *data, void *end) { return static_part(data, end) == 2 ? 2 : 0; }
SEC("xdp") int xdp_bare(struct xdp_md *ctx) { return 2; }
SEC("xdp") int xdp_calls(struct xdp_md *ctx) { return global_part((void *)(long)ctx->data, (void *)(long)ctx->data_end); }
SEC("tc") int tc_bare(struct __sk_buff *skb) { return skb->len == 0; }
char _license[] SEC("license") = "GPL";
