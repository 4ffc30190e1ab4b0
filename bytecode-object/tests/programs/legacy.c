// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
// Maps as they were defined before BTF.
#define SEC(name) __attribute__((section(name), used))

struct bpf_map_def {
	unsigned int type, key_size, value_size, max_entries, map_flags;
};

struct bpf_map_def SEC("maps") table = { .type = 1, .key_size = 4, .value_size = 8, .max_entries = 10 };
struct bpf_map_def SEC("maps") jump = { .type = 3, .key_size = 4, .value_size = 4, .max_entries = 4 };

SEC("classifier") int filter(void *ctx) { return 0; }

char _license[] SEC("license") = "GPL";
