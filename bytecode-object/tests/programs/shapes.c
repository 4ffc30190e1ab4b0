// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
// One program and one map, whose section, sizes and licence are the compiler's command line's.
#define SEC(name) __attribute__((section(name), used))

#ifndef SECTION
#define SECTION "xdp"
#endif
#ifndef VALUE
#define VALUE unsigned int
#endif
#ifndef ENTRIES
#define ENTRIES 1
#endif
#ifndef LICENSE
#define LICENSE char _license[] SEC("license") = "GPL";
#endif

typedef struct {
	const unsigned short words[2][3];
	void *next;
} pair;

struct {
	int (*type)[1];
	unsigned int *key;
	VALUE *value;
	int (*max_entries)[ENTRIES];
} table SEC(".maps");

SEC(SECTION) int run(void *ctx) { return 0; }

LICENSE
