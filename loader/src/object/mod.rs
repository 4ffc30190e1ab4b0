//! An object as aya reads it.
//!
//! aya-obj gives up on a whole object for one section name that it does not know (`tc`, `xdp/<name>`, `struct_ops`,
//! `usdt`…), for one relocation of a program that nobody asked for, and panics or asks for absurd amounts of memory
//! on a few damaged files. [`Object::normalise`] therefore writes a copy in which only the programs that are wanted,
//! what they call and the maps are left, under section names that aya knows. It is a function of bytes: no kernel,
//! no I/O.

mod btf;
mod callbacks;
mod core;
mod data_sections;
mod elf;
mod entries;
mod externs;
mod fill;
pub mod kconfig;
mod map_extra;
mod member;
mod reach;
mod results;
mod rewrite;
mod walk;

use std::collections::{BTreeMap, BTreeSet};

use bytecode_object::{ByteOrder, ObjectError};

pub use self::core::Unfit;
pub use self::data_sections::data_sections;
pub use self::elf::{Function, Object, Variable};
pub use self::entries::{Entry, Target};
pub use self::externs::{ConfigType, Extern, ExternKind, Resolved};
pub use self::member::{Member, MemberTypes, member_types};
pub use self::reach::Jump;
pub use self::results::{Results, results};

/// Functions that one program may call, itself included: `BPF_MAX_SUBPROGS` of `include/linux/bpf_verifier.h`. It also
/// bounds the depth to which aya follows calls.
pub const MAX_CALLED_FUNCTIONS: usize = 256;

/// Bytes of all `.bss` sections together: 256 MiB. They take no room in the file, so nothing else bounds them.
pub const MAX_BSS_BYTES: u64 = 256 << 20;

/// The section that values of the kernel's configuration get: a name that aya takes for constants.
pub const CONFIG_SECTION: &str = ".rodata.kconfig";

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
    /// BTF that contradicts itself.
    #[error(transparent)]
    Types {
        /// How.
        #[from]
        source: ObjectError,
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
    /// An entry that a map has in the object (`.values = { … }`) and that is neither a program nor a map.
    #[error(
        "map `{map}` has an entry in the object (`values`) that is no program and no map of it"
    )]
    Entry {
        /// Its name.
        map: String,
    },
    /// A variable that lies in an arena.
    #[error(
        "`{function}` uses `{variable}`, a variable in an arena (`__arena`): only memory that programs allocate there \
         themselves can be used"
    )]
    ArenaVariable {
        /// Function that uses it.
        function: String,
        /// Its name.
        variable: String,
    },
    /// An exception callback that the object does not have.
    #[error(
        "`{function}` names `{callback}` as its exception callback (`__exception_cb`), but the object has no global function of \
         that name in `.text`"
    )]
    Callback {
        /// Program.
        function: String,
        /// What its tag says.
        callback: String,
    },
    /// Something that only the kernel can fill in (`__ksym`, `__kconfig`, a kfunc), and that it was not asked for.
    #[error(
        "`{function}` uses `{symbol}`, an extern of the kernel (ksym, kfunc or kconfig), which was not resolved"
    )]
    Extern {
        /// Function that uses it.
        function: String,
        /// Its name.
        symbol: String,
    },
}

/// What programs need besides their own instructions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Needs {
    /// Programs that they may jump to.
    pub jumps: Vec<Jump>,
    /// What the kernel has to fill in.
    pub externs: Vec<Extern>,
    /// Maps that they use.
    pub maps: BTreeSet<String>,
    /// Exception callbacks of programs, by the program: functions that only a tag in BTF names.
    pub callbacks: BTreeMap<String, String>,
}

impl Object<'_> {
    /// Looks for what the programs `wanted` need. The entries of `shared` maps are left out: they are there already.
    ///
    /// # Errors
    ///
    /// When a function is missing, or the file is damaged where it is read.
    pub fn needs(&self, wanted: &[&str], shared: &BTreeSet<&str>) -> Result<Needs, NormaliseError> {
        let reached = reach::reach(self, wanted, shared)?;
        Ok(Needs {
            externs: externs::externs(self, &reached)?,
            jumps: reached.jumps,
            maps: reached.maps,
            callbacks: reached.callbacks,
        })
    }

    /// Writes the copy: the programs `wanted` and what they need, with `resolved` put in for externs, by name. A weak
    /// one that is only looked at and not resolved is nought.
    ///
    /// Functions, variables and maps keep their names, places and section numbers. Values of the configuration get a
    /// section of their own, [`CONFIG_SECTION`].
    ///
    /// # Errors
    ///
    /// When a function is missing, when an extern is not resolved, or when the file is damaged where it is read.
    pub fn normalise(
        &self,
        wanted: &[&str],
        resolved: &BTreeMap<String, Resolved>,
    ) -> Result<Vec<u8>, NormaliseError> {
        // Who jumps where was asked before, by `needs`.
        let shared = self.symbols.iter().map(|symbol| symbol.name).collect();
        let reached = reach::reach(self, wanted, &shared)?;
        rewrite::rewrite(self, &reached, resolved)
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
