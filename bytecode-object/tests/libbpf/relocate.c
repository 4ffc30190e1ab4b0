// SPDX-License-Identifier: Apache-2.0
/*
 * Prints what libbpf makes of every CO-RE relocation of some objects, on a kernel of which only the BTF is there:
 *
 *     relocate KERNEL_BTF OBJECT...
 *
 * It is linked with libbpf.a, so that the linker can put functions of this file in place of some of libbpf's
 * (ld's --wrap): the one that patches an instruction prints what it did, the one that resolves a relocation goes on
 * after an error, and bpf(2) always succeeds. libbpf itself is unchanged.
 *
 * One line per relocation, "=" with the bytes of the instruction, or "!" where libbpf refuses it:
 *
 *     object FILE
 *     = FUNCTION INSTRUCTION BYTES
 *     ! FUNCTION INSTRUCTION
 *     end RESULT
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <bpf/libbpf.h>

struct bpf_core_relo;

static bool refused;

int __real_bpf_core_calc_relo_insn(const char *prog_name, const struct bpf_core_relo *relo, int relo_idx,
				   const void *local_btf, void *cands, void *specs_scratch, void *targ_res);

int __wrap_bpf_core_calc_relo_insn(const char *prog_name, const struct bpf_core_relo *relo, int relo_idx,
				   const void *local_btf, void *cands, void *specs_scratch, void *targ_res)
{
	refused = __real_bpf_core_calc_relo_insn(prog_name, relo, relo_idx, local_btf, cands, specs_scratch,
						 targ_res) != 0;
	return 0;
}

int __real_bpf_core_patch_insn(const char *prog_name, struct bpf_insn *insn, int insn_idx,
			       const struct bpf_core_relo *relo, int relo_idx, const void *res);

int __wrap_bpf_core_patch_insn(const char *prog_name, struct bpf_insn *insn, int insn_idx,
			       const struct bpf_core_relo *relo, int relo_idx, const void *res)
{
	/* A load of a 64-bit constant takes two. */
	size_t length = insn->code == (BPF_LD | BPF_IMM | BPF_DW) ? 16 : 8;

	if (!refused)
		refused = __real_bpf_core_patch_insn(prog_name, insn, insn_idx, relo, relo_idx, res) != 0;
	printf("%c %s %d ", refused ? '!' : '=', prog_name, insn_idx);
	for (size_t at = 0; !refused && at < length; at++)
		printf("%02x", ((unsigned char *)insn)[at]);
	printf("\n");
	return 0;
}

long __real_syscall(long number, ...);

long __wrap_syscall(long number, ...)
{
	long arguments[6];
	va_list list;

	va_start(list, number);
	for (int at = 0; at < 6; at++)
		arguments[at] = va_arg(list, long);
	va_end(list);
	if (number != __NR_bpf)
		return __real_syscall(number, arguments[0], arguments[1], arguments[2], arguments[3], arguments[4],
				      arguments[5]);
	switch (arguments[0]) {
	case BPF_MAP_CREATE:
	case BPF_PROG_LOAD:
	case BPF_BTF_LOAD:
		return open("/dev/null", O_RDONLY | O_CLOEXEC);
	default:
		return 0;
	}
}

/* Debian's libbpf.a wants a C library from 2.38 on. */
__attribute__((weak)) int __isoc23_sscanf(const char *text, const char *format, ...)
{
	va_list list;

	va_start(list, format);
	int count = vsscanf(text, format, list);
	va_end(list);
	return count;
}

__attribute__((weak)) int __isoc23_fscanf(FILE *file, const char *format, ...)
{
	va_list list;

	va_start(list, format);
	int count = vfscanf(file, format, list);
	va_end(list);
	return count;
}

__attribute__((weak)) unsigned long long __isoc23_strtoull(const char *text, char **end, int base)
{
	return strtoull(text, end, base);
}

static int quiet(enum libbpf_print_level level, const char *format, va_list list)
{
	if (getenv("VERBOSE"))
		vfprintf(stderr, format, list);
	return 0;
}

int main(int count, char **arguments)
{
	libbpf_set_print(quiet);
	for (int at = 2; at < count; at++) {
		LIBBPF_OPTS(bpf_object_open_opts, options, .btf_custom_path = arguments[1]);
		struct bpf_object *object = bpf_object__open_file(arguments[at], &options);
		struct bpf_program *program;

		printf("object %s\n", arguments[at]);
		if (!object) {
			printf("end %d\n", -errno);
			continue;
		}
		bpf_object__for_each_program(program, object)
			bpf_program__set_autoload(program, true);
		printf("end %d\n", bpf_object__prepare(object));
		bpf_object__close(object);
	}
	return 0;
}
