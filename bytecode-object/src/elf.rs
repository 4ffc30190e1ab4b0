use std::collections::BTreeMap;

use crate::{ObjectError, Section};

/// Largest object that is read, in bytes: 32 MiB. The largest known (full debug info of big agents) are below 8 MiB.
pub const MAX_OBJECT_BYTES: u64 = 32 << 20;

/// Byte order of an object; it must be the host's to be loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ByteOrder {
    /// Least significant byte first (`bpfel`).
    Little,
    /// Most significant byte first (`bpfeb`).
    Big,
}

/// One program of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProgramInfo {
    /// Name of the ELF section as it stands in the file.
    pub section_name: String,
    /// What that name means.
    pub section: Section,
}

/// One map of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MapInfo {
    /// `enum bpf_map_type`.
    pub map_type: u32,
}

/// Everything that is known of an object without a kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectInfo {
    /// Byte order of the file.
    pub byte_order: ByteOrder,
    /// Programs by function name.
    pub programs: BTreeMap<String, ProgramInfo>,
    /// Maps by name, the compiler's data sections left out.
    pub maps: BTreeMap<String, MapInfo>,
    /// The `license` section's string.
    pub license: Option<String>,
    /// Whether loading needs the running kernel's BTF (CO-RE relocations in `.BTF.ext`).
    pub needs_kernel_btf: bool,
}

impl ObjectInfo {
    /// Reads an object.
    ///
    /// # Errors
    ///
    /// When the bytes are not a relocatable eBPF ELF, are damaged, or hold no program.
    pub fn parse(_bytes: &[u8]) -> Result<Self, ObjectError> {
        Err(ObjectError::Empty)
    }

    /// The `io.ebpf.programs` label: JSON, sorted by name, no spaces.
    pub fn programs_label(&self) -> String {
        String::new()
    }

    /// The `io.ebpf.maps` label: JSON, sorted by name, no spaces.
    pub fn maps_label(&self) -> String {
        String::new()
    }
}
