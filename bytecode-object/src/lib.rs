//! What an eBPF object file offers and needs, as a pure function of its bytes.
//!
//! Nothing here does I/O or knows the host: the same bytes give the same answer on every machine, whatever
//! byte order the object has. Builder (labels), images (the checks of a pulled layer) and loader (the checks
//! before the kernel is asked) read objects through this crate and no other.

pub mod btf;
pub mod core_relocation;
mod elf;
mod error;
mod family;
mod map_type;
mod maps;
mod needs;
mod program_type;
mod reader;
mod section;

pub use elf::{
    ByteOrder, MAX_MAPS, MAX_OBJECT_BYTES, MAX_PROGRAMS, MapInfo, ObjectInfo, ProgramInfo,
};
pub use error::ObjectError;
pub use family::{section_family, word_family};
pub use map_type::map_type_name;
pub use needs::{
    KernelBtfUse, KernelVersion, Needs, SLEEPABLE_SINCE, SLEEPABLE_UPROBE_SINCE, TCX_SINCE,
    XDP_FRAGS_SINCE, map_type_since,
};
pub use program_type::{ProgramType, UnknownProgramType};
pub use section::Section;
