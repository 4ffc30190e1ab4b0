/* Variables that the verifier knows by the BTF of their section, and functions that no instruction calls. */
#include <linux/version.h>

#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 2, 0)
struct bpf_list_head {
	__u64 opaque[2];
} __attribute__((aligned(8)));
struct bpf_list_node {
	__u64 opaque[3];
} __attribute__((aligned(8)));
#endif

#define PRIVATE(name) SEC(".data." #name) __hidden __attribute__((aligned(8)))
#define __kptr __attribute__((btf_type_tag("kptr")))
#define CONTAINS(type, member) __attribute__((btf_decl_tag("contains:" #type ":" #member)))
#define EXCEPTION_CALLBACK(name) __attribute__((btf_decl_tag("exception_callback:" #name)))

PRIVATE(A) struct bpf_spin_lock lock;
PRIVATE(A) long long guarded_count;
static struct bpf_spin_lock static_lock SEC(".bss.locked");
static volatile long long static_count SEC(".bss.locked");
struct bpf_timer timer SEC(".data.timer");
long long fired SEC(".bss.fired");
const volatile int wanted SEC(".rodata.settings") = 7;
long long initial = 5;
long long thrown;

SEC("tc") int locks(struct __sk_buff *skb)
{
	bpf_spin_lock(&lock);
	guarded_count++;
	bpf_spin_unlock(&lock);
	bpf_spin_lock(&static_lock);
	static_count += wanted;
	bpf_spin_unlock(&static_lock);
	initial++;
	return 0;
}

static int on_timer(void *map, int *key, struct bpf_timer *timer)
{
	fired++;
	return 0;
}

SEC("tc") int starts_timer(struct __sk_buff *skb)
{
	bpf_timer_set_callback(&timer, on_timer);
	bpf_timer_start(&timer, 0, 0);
	return 0;
}

/* The kernel looks for a struct of that name. */
struct task_struct {
	int any;
};
struct task_struct __kptr *kept SEC(".data.kptr");
void bpf_task_release(struct task_struct *task) __ksym;

SEC("tc") int exchanges_pointer(struct __sk_buff *skb)
{
	struct task_struct *old = bpf_kptr_xchg(&kept, NULL);

	if (old)
		bpf_task_release(old);
	return 0;
}

struct node {
	long long value;
	struct bpf_list_node link;
};
/* A tag alone brings no type into BTF. */
struct node *any_node;
PRIVATE(list) struct bpf_spin_lock list_lock;
PRIVATE(list) struct bpf_list_head list CONTAINS(node, link);
struct bpf_list_node *bpf_list_pop_front(struct bpf_list_head *head) __ksym;
void bpf_obj_drop_impl(void *kptr, void *meta) __ksym;

SEC("tc") int pops_list(struct __sk_buff *skb)
{
	struct bpf_list_node *found;

	bpf_spin_lock(&list_lock);
	found = bpf_list_pop_front(&list);
	bpf_spin_unlock(&list_lock);
	if (found)
		bpf_obj_drop_impl((void *)found - __builtin_offsetof(struct node, link), NULL);
	return 0;
}

void bpf_throw(__u64 cookie) __ksym;
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} cookies SEC(".maps");

static __attribute__((noinline)) int part_of_callback(__u64 cookie)
{
	__u32 key = 0;

	bpf_map_update_elem(&cookies, &key, &cookie, 0);
	return 2;
}

/* Nothing but the tag leads here, and nothing but this to its map and its part. */
__noinline int on_exception(__u64 cookie)
{
	__sync_fetch_and_add(&thrown, 1);
	return part_of_callback(cookie);
}

EXCEPTION_CALLBACK(on_exception)
SEC("xdp") int throws(struct xdp_md *ctx)
{
	bpf_throw(77);
	return 1;
}

/* Not what the functions of a dispatcher look like: the tag has to survive that, too. */
EXCEPTION_CALLBACK(on_exception)
SEC("xdp") enum xdp_action throws_too(void *ctx)
{
	bpf_throw(78);
	return 1;
}
