// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
// The layout that aya's macros give an object: no BTF, a licence of its own bytes, map definitions with two fields more
// than the kernel's (id, pinning), several in one section and one in a section of its own.
#define SEC(name) __attribute__((section(name), used))

struct bpf_map_def {
	unsigned int type, key_size, value_size, max_entries, map_flags, id, pinning;
};

struct bpf_map_def SEC("maps") COUNTS = { .type = 6, .key_size = 4, .value_size = 8, .max_entries = 1 };
struct bpf_map_def SEC("maps") EVENTS = { .type = 27, .max_entries = 4096, .pinning = 1 };
struct bpf_map_def SEC("maps/JUMPS") JUMPS = { .type = 3, .key_size = 4, .value_size = 4, .max_entries = 4 };

SEC("xdp") int count(void *ctx) { return 2; }
SEC("uprobe.s/libc:malloc") int allocate(void *ctx) { return 0; }
SEC("classifier/pass") int pass(void *ctx) { return 0; }

char _license[4] SEC("license") = "GPL";
