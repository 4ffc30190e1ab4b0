// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* CO-RE relocations of every kind that clang 14 knows, for types of this file's own: core_kernel.c has the kernel's. */
#define SEC(name) __attribute__((section(name), used))
#define CORE __attribute__((preserve_access_index))
#define FIELD_OFFSET 0
#define FIELD_SIZE 1
#define FIELD_EXISTS 2
#define FIELD_SIGNED 3
#define FIELD_LSHIFT 4
#define FIELD_RSHIFT 5
#define TYPE_EXISTS 0
#define TYPE_SIZE 1

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef long long s64;

struct inner {
	int first;
	int second;
} CORE;

struct event___here {
	u64 id;
	u32 narrow;
	int sign;
	u16 bits : 3;
	u16 more : 5;
	struct inner *pointer;
	struct inner array[4];
	int gone;
	struct {
		int hidden;
	};
	u32 last[];
} CORE;

struct absent {
	int member;
} CORE;

struct grown {
	u32 value;
	int minus;
} CORE;

enum color { RED = 1, GREEN = 2, BLUE = 3 };
typedef int number;
typedef int (*callback)(int, struct inner *);

u64 out[40];

SEC("tracepoint") int fields(struct event___here *e)
{
	out[0] = e->id;
	out[1] = e->narrow;
	out[2] = e->array[2].second;
	out[3] = e->last[5];
	out[4] = e->hidden;
	out[5] = (u64)e->pointer;
	out[6] = __builtin_preserve_field_info(e->bits, FIELD_OFFSET);
	out[7] = __builtin_preserve_field_info(e->bits, FIELD_SIZE);
	out[8] = __builtin_preserve_field_info(e->more, FIELD_LSHIFT);
	out[9] = __builtin_preserve_field_info(e->more, FIELD_RSHIFT);
	out[10] = __builtin_preserve_field_info(e->sign, FIELD_SIGNED);
	out[11] = __builtin_preserve_field_info(e->narrow, FIELD_SIGNED);
	out[12] = __builtin_preserve_field_info(e->gone, FIELD_EXISTS);
	out[13] = __builtin_preserve_field_info(e->last, FIELD_EXISTS);
	out[14] = __builtin_preserve_field_info(e->array, FIELD_SIZE);
	out[15] = __builtin_preserve_field_info(e->sign, FIELD_LSHIFT);
	out[16] = __builtin_preserve_field_info(e->sign, FIELD_RSHIFT);
	e->narrow = 7;
	return 0;
}

SEC("tracepoint") int types(void *ctx)
{
	out[20] = __builtin_preserve_type_info(*(struct event___here *)0, TYPE_EXISTS);
	out[21] = __builtin_preserve_type_info(*(struct event___here *)0, TYPE_SIZE);
	out[22] = __builtin_preserve_type_info(*(struct absent *)0, TYPE_EXISTS);
	out[23] = __builtin_preserve_type_info(*(struct absent *)0, TYPE_SIZE);
	out[24] = __builtin_preserve_type_info(*(number *)0, TYPE_EXISTS);
	out[25] = __builtin_preserve_type_info(*(callback *)0, TYPE_EXISTS);
	out[26] = __builtin_btf_type_id(*(struct event___here *)0, 0);
	out[27] = __builtin_btf_type_id(*(struct event___here *)0, 1);
	out[28] = __builtin_btf_type_id(*(struct absent *)0, 1);
	out[29] = __builtin_preserve_enum_value(*(typeof(enum color) *)GREEN, 1);
	out[30] = __builtin_preserve_enum_value(*(typeof(enum color) *)BLUE, 0);
	return 0;
}

/* Nothing of this is in the kernel, or not as it is here. */
SEC("tracepoint") int missing(struct event___here *e)
{
	struct absent *absent = (void *)e;
	struct grown *grown = (void *)e;

	out[31] = e->gone;
	out[32] = absent->member;
	out[33] = __builtin_preserve_enum_value(*(typeof(enum color) *)BLUE, 1);
	out[34] = grown->value;
	out[35] = grown->minus;
	return 0;
}

char _license[] SEC("license") = "GPL";
