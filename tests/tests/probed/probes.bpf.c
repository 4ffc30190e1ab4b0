/* Each program counts its events in an entry of its own. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 6);
	__type(key, __u32);
	__type(value, __u64);
} hits SEC(".maps");

static __always_inline int hit(__u32 key)
{
	__u64 *count = bpf_map_lookup_elem(&hits, &key);

	if (count)
		__sync_fetch_and_add(count, 1);
	return 0;
}

SEC("kprobe/anything")
int on_entry(void *ctx)
{
	return hit(0);
}

SEC("kretprobe")
int on_return(void *ctx)
{
	return hit(1);
}

SEC("uprobe")
int at_entry(void *ctx)
{
	return hit(2);
}

SEC("uretprobe/anything")
int at_return(void *ctx)
{
	return hit(3);
}

SEC("fentry/vfs_unlink")
int traced_entry(void *ctx)
{
	return hit(4);
}

SEC("fexit")
int traced_return(void *ctx)
{
	return hit(5);
}
