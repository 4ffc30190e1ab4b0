/* The contexts are only declared: BTF has forward declarations of them. */
#define SEC(name) __attribute__((section(name), used))
struct xdp_md;
struct __sk_buff;
SEC("xdp") int xdp_declared(struct xdp_md *ctx) { return 2; }
SEC("tc") int tc_declared(struct __sk_buff *skb) { return 0; }
/* A struct of the program's own, without members that it uses. */
struct packet { int any; };
SEC("xdp") int xdp_own(struct packet *packet) { return 2; }
char _license[] SEC("license") = "GPL";
