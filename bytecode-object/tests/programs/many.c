// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
// Every way in which a function is a program or is none, and maps behind qualifiers and inside maps.
#define SEC(name) __attribute__((section(name), used))
#define PROGRAM(section, name) SEC(section) int name(void *ctx) { return 0; }

typedef int hash_t[1];
typedef const hash_t *hash_pointer_t;

typedef struct {
	hash_pointer_t type;
	int (*key_size)[4];
	int (*value_size)[4];
	int (*max_entries)[16];
} hash_map_t;

volatile hash_map_t qualified SEC(".maps");

struct inner_map {
	int (*type)[2];
	int (*key_size)[4];
	int (*value_size)[8];
	int (*max_entries)[1];
} first SEC(".maps");

struct {
	int (*type)[12];
	int (*key_size)[4];
	int (*max_entries)[2];
	struct inner_map *values[];
} outer SEC(".maps") = {
	.values = { &first },
};

struct {
	int (*type)[27];
	int (*max_entries)[4096];
} events SEC(".maps");

static struct {
	int (*type)[250];
	int (*max_entries)[1];
} from_the_future SEC(".maps");

PROGRAM("tc", one)
PROGRAM("tc", two)
PROGRAM("kprobe/do_unlinkat", enter)
PROGRAM("kretprobe/do_unlinkat", leave)
PROGRAM("?tracepoint/syscalls/sys_enter_openat", opened)
PROGRAM("uprobe.s//usr/lib/libc.so.6:malloc", allocate)
PROGRAM("fentry/vfs_read", reading)
PROGRAM("cgroup_skb/egress", leaving)
PROGRAM("mystery", strange)

SEC("xdp.frags") __attribute__((weak)) int weak_one(void *ctx) { return 2; }

// Not programs: static in a program's section, global in .text.
static SEC("xdp.frags") __attribute__((noinline)) int hidden(int value) { return value + 1; }
__attribute__((noinline)) int called(int value) { return value + 2; }
SEC("xdp.frags") int caller(void *ctx) { return called(hidden((long)ctx)); }
