/* Ring buffers within maps of maps, of sizes that are no pages. */
struct ring {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 5000);
} first SEC(".maps");
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 2);
	__type(key, __u32);
	__array(values, struct ring);
} per_cpu SEC(".maps") = { .values = { &first } };
struct {
	__uint(type, BPF_MAP_TYPE_HASH_OF_MAPS);
	__uint(max_entries, 2);
	__type(key, __u32);
	__array(values, struct ring);
} by_key SEC(".maps");
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 1);
	__type(key, __u32);
	__array(values, struct {
		__uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY);
		__type(key, __u32);
		__type(value, __u32);
	});
} events SEC(".maps");
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 1);
	__type(key, __u32);
	__array(values, struct {
		__uint(type, BPF_MAP_TYPE_HASH);
		__uint(max_entries, 0);
		__type(key, __u32);
		__type(value, __u32);
	});
} refused SEC(".maps");
SEC("tracepoint/syscalls/sys_enter_kill") int sends(void *ctx)
{
	__u32 key = 0;
	void *ring = bpf_map_lookup_elem(&per_cpu, &key);

	if (ring)
		bpf_ringbuf_output(ring, &key, sizeof(key), 0);
	ring = bpf_map_lookup_elem(&by_key, &key);
	return ring && bpf_map_lookup_elem(&events, &key);
}
SEC("tracepoint/syscalls/sys_enter_kill") int uses_refused(void *ctx)
{
	__u32 key = 0;

	return !bpf_map_lookup_elem(&refused, &key);
}
