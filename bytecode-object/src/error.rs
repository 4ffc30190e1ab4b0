/// Why bytes are not an eBPF object that can be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ObjectError {
    /// No bytes at all.
    #[error("the file is empty")]
    Empty,
    /// More bytes than any real object has.
    #[error("the file has {size} bytes, more than the {limit} that an eBPF object may have")]
    TooLarge {
        /// Bytes found.
        size: u64,
        /// Bytes allowed.
        limit: u64,
    },
    /// No ELF magic.
    #[error("not an ELF file")]
    NotElf,
    /// ELF for another machine.
    #[error("an ELF file for {found}, not for eBPF (EM_BPF)")]
    NotBpf {
        /// Name or number of the machine.
        found: String,
    },
    /// Linked or core file instead of a relocatable one.
    #[error("an ELF file of type {found}, not a relocatable object (ET_REL)")]
    NotRelocatable {
        /// Name or number of the ELF type.
        found: String,
    },
    /// Headers, tables or BTF that contradict the file's size or each other.
    #[error("damaged or truncated ELF: {what}")]
    Damaged {
        /// What was being read, and what was wrong with it.
        what: String,
    },
    /// A `.maps` section that nothing describes.
    #[error(
        "it has a .maps section but no .BTF section that describes its maps; compile it with -g"
    )]
    NoBtf,
    /// Nothing to load.
    #[error("no eBPF program in it")]
    NoProgram,
}
