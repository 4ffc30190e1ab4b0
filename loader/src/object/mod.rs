//! An object as aya reads it.
//!
//! aya-obj gives up on a whole object for one section name that it does not know (`tc`, `xdp/<name>`, `struct_ops`,
//! `usdt`…), for one relocation of a program that nobody asked for, and panics or asks for absurd amounts of memory
//! on a few damaged files. [`Object::normalise`] therefore writes a copy in which only the programs that are wanted,
//! what they call and the maps are left, under section names that aya knows. It is a function of bytes: no kernel,
//! no I/O.

mod btf;
mod elf;
mod reach;
mod rewrite;

use std::collections::BTreeMap;

use bytecode_object::ByteOrder;

pub use self::btf::function_id;
pub use self::elf::{Function, Object, Variable};

/// Functions that one program may call, itself included: `BPF_MAX_SUBPROGS` of `include/linux/bpf_verifier.h`. It also
/// bounds the depth to which aya follows calls.
pub const MAX_CALLED_FUNCTIONS: usize = 256;

/// Bytes of all `.bss` sections together: 256 MiB. They take no room in the file, so nothing else bounds them.
pub const MAX_BSS_BYTES: u64 = 256 << 20;

/// Why an object cannot be made ready for loading.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NormaliseError {
    /// A header or table that does not read as ELF.
    #[error("damaged ELF: {what}: {source}")]
    Elf {
        /// What was being read.
        what: &'static str,
        /// What the ELF library found.
        source: ::object::Error,
    },
    /// A table, an offset or a length that lies outside of the file or contradicts it.
    #[error("damaged ELF: {what}")]
    Damaged {
        /// Which one.
        what: &'static str,
    },
    /// Too much of something.
    #[error("{found} {what}, more than the {limit} that are taken")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How much there is.
        found: u64,
        /// How much there may be.
        limit: u64,
    },
    /// No program of that name.
    #[error("no program `{function}`")]
    NoSuchFunction {
        /// Name asked for.
        function: String,
    },
    /// A map with entries given in the object (`.values = { … }`): programs or maps that would have to be put in.
    #[error(
        "`{function}` uses map `{map}`, which has entries in the object (`values`); they cannot be filled in"
    )]
    Filled {
        /// Function that uses it.
        function: String,
        /// Its name.
        map: String,
    },
    /// Something that only the kernel can fill in (`__ksym`, `__kconfig`, a kfunc) and that is not looked up yet.
    #[error(
        "`{function}` uses `{symbol}`, an extern of the kernel (ksym, kfunc or kconfig), which cannot be resolved"
    )]
    Extern {
        /// Function that uses it.
        function: String,
        /// Its name.
        symbol: String,
    },
}

impl Object<'_> {
    /// Writes the copy: the programs `wanted` and what they need.
    ///
    /// Functions, variables and maps keep their names, places and section numbers.
    ///
    /// # Errors
    ///
    /// When a function is missing, when a program uses externs, or when the file is damaged where it is read.
    pub fn normalise(&self, wanted: &[&str]) -> Result<Vec<u8>, NormaliseError> {
        let reached = reach::reach(self, wanted)?;
        rewrite::rewrite(self, &reached)
    }

    /// Byte order of the file.
    pub fn byte_order(&self) -> ByteOrder {
        match self.endian {
            ::object::Endianness::Little => ByteOrder::Little,
            ::object::Endianness::Big => ByteOrder::Big,
        }
    }

    /// Programs by name.
    pub fn functions(&self) -> &BTreeMap<String, Function> {
        &self.functions
    }

    /// Global variables (of `.data`, `.rodata` and `.bss`) by name.
    pub fn variables(&self) -> &BTreeMap<String, Variable> {
        &self.variables
    }
}
