// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* The types of a kernel, for the relocations of core.c: other places, other sizes. */
#define SEC(name) __attribute__((section(name), used))

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

struct inner {
	int zero;
	int second;
	int first;
};

struct event {
	union {
		u64 other;
		struct {
			int hidden;
			/* The program reads 32 bits. */
			u8 narrow;
		};
	};
	u64 id;
	unsigned int sign;
	u32 bits : 4;
	u32 more : 20;
	struct inner array[8];
	struct inner *pointer;
	u32 last[];
};

struct grown {
	u64 value;
	/* A signed one of another size cannot be read as the program does it. */
	long long minus;
};

enum color { CYAN = 1, GREEN = 77 };
typedef int number;
typedef int (*callback)(int, struct inner *);

u64 out;
struct event event;
struct grown grown;
enum color color;
number plain;
callback function;

/* Types of variables that are used are described. */
SEC("tracepoint") int all(void *ctx)
{
	out = event.id + grown.value + color + plain + (u64)function;
	return 0;
}

char _license[] SEC("license") = "GPL";
