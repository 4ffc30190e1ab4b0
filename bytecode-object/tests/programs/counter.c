// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
// One program, one BTF-defined map, and data sections that are no maps of the label.
#define SEC(name) __attribute__((section(name), used))

static void *(*lookup)(void *map, const void *key) = (void *)1;

struct {
	int (*type)[6];
	unsigned int *key;
	unsigned long long *value;
	int (*max_entries)[1];
} counts SEC(".maps");

const volatile unsigned int step = 1;
unsigned int seen;

SEC("xdp/counter")
int count(void *ctx)
{
	unsigned int key = 0;
	unsigned long long *value = lookup(&counts, &key);

	if (value)
		*value += step;
	seen++;
	return 2;
}

char _license[] SEC("license") = "Dual BSD/GPL";
