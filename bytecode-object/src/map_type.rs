/// Name of a map type (`enum bpf_map_type`) as it stands in the `io.ebpf.maps` label.
/// An unknown number gives `None`.
pub fn map_type_name(_map_type: u32) -> Option<&'static str> {
    None
}
