use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::SystemTime;

use bytecode_object::ProgramType;

use crate::{Link, Source};

/// A program as it is shown.
#[derive(Debug, Clone)]
pub struct Program {
    /// What we keep of it; `None` for a program that somebody else loaded.
    pub managed: Option<ManagedState>,
    /// What the kernel says of it.
    pub kernel: KernelState,
}

/// "Bpfman State" of a program.
#[derive(Debug, Clone)]
pub struct ManagedState {
    /// Function name, whole.
    pub function: String,
    /// What it was loaded as.
    pub program_type: ProgramType,
    /// Target of fentry and fexit.
    pub attach_function: Option<String>,
    /// Where its object came from.
    pub source: Source,
    /// Globals set at load.
    pub globals: BTreeMap<String, Vec<u8>>,
    /// Metadata.
    pub metadata: BTreeMap<String, String>,
    /// Folder of the map pins.
    pub map_pin_path: PathBuf,
    /// Owner of those maps, where it is another program.
    pub map_owner_id: Option<u32>,
    /// Programs that use them, ascending.
    pub maps_used_by: Vec<u32>,
    /// Links, in the order they were made.
    pub links: Vec<Link>,
}

/// "Kernel State" of a program (`struct bpf_prog_info`).
#[derive(Debug, Clone)]
pub struct KernelState {
    /// Program id.
    pub id: u32,
    /// Name, at most 15 bytes.
    pub name: String,
    /// Type in the guide's words (`xdp`, `tc`, `probe`, `tracing`, `cgroup_skb`, `type_<n>` when unknown). A member
    /// of a dispatcher shows the type of its hook.
    pub program_type: String,
    /// Time of loading.
    pub loaded_at: Option<SystemTime>,
    /// Hash of the instructions, 8 bytes.
    pub tag: [u8; 8],
    /// Licence of the object lets it call GPL-only helpers.
    pub gpl_compatible: bool,
    /// Maps, ascending.
    pub map_ids: Vec<u32>,
    /// BTF object, 0 for none.
    pub btf_id: u32,
    /// Bytes of translated instructions.
    pub size_translated: u32,
    /// Bytes of machine code, 0 when interpreted.
    pub size_jitted: u32,
    /// Bytes charged for it (`memlock` of its fdinfo).
    pub memory: u64,
    /// Instructions that the verifier walked (kernel 5.16), 0 when unknown.
    pub verified_instructions: u32,
}

/// A program as it stands in a list: cheap to make, see [`Program`] for the whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProgramSummary {
    /// Program id.
    pub id: u32,
    /// The kernel's name, at most 15 bytes.
    pub name: String,
    /// Type in the guide's words, see [`KernelState::program_type`].
    pub kernel_type: String,
    /// What we keep of it; `None` for a program that somebody else loaded.
    pub managed: Option<ManagedSummary>,
}

/// Our part of a [`ProgramSummary`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManagedSummary {
    /// Function name, whole.
    pub function: String,
    /// What it was loaded as.
    pub program_type: ProgramType,
    /// Metadata; the application is `bpfman_application`.
    pub metadata: BTreeMap<String, String>,
    /// Link ids, in the order they were made.
    pub links: Vec<u32>,
}
