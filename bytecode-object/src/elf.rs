use std::collections::BTreeMap;

use object::elf::{self, FileHeader64, SectionHeader64};
use object::read::elf::{FileHeader, SectionHeader, SectionTable, Sym};
use object::{Endianness, SectionIndex};

use crate::btf::Btf;
use crate::core_relocation::{Offsets, Records};
use crate::reader::Reader;
use crate::{ObjectError, Section, map_type_name};

/// Largest object that is read, in bytes: 32 MiB. The largest known (full debug info of big agents) are below 8 MiB.
pub const MAX_OBJECT_BYTES: u64 = 32 << 20;

/// Most programs that one object may have. The largest known have a few hundred; each costs a name and a label entry.
pub const MAX_PROGRAMS: usize = 4096;

/// Most maps that one object may have, for the same reason as [`MAX_PROGRAMS`].
pub const MAX_MAPS: usize = 4096;

/// How much of a licence is read: the size of `bpf_object.license` in libbpf, without its NUL.
const MAX_LICENSE_BYTES: usize = 63;

/// Most sections that are looked at: what fits the 16-bit field of the ELF header. Each name is read once.
const MAX_SECTIONS: usize = 0xffff;

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
    /// Whether its instructions are fitted to the running kernel's types (CO-RE relocations in `.BTF.ext`).
    pub core_relocations: bool,
}

/// One map of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MapInfo {
    /// `enum bpf_map_type`.
    pub map_type: u32,
    /// Bytes of a key; `None` where the definition does not say (a ring buffer has none).
    pub key_size: Option<u32>,
    /// Bytes of a value; `None` where the definition does not say.
    pub value_size: Option<u32>,
    /// Most entries; `None` where the definition does not say: the loader sets it.
    pub max_entries: Option<u32>,
    /// Objects with a map of that name share it (`__uint(pinning, LIBBPF_PIN_BY_NAME)`).
    pub pinned_by_name: bool,
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
    /// Whether functions that programs may call (`.text`) have CO-RE relocations.
    pub core_relocations_in_text: bool,
    /// Whether it has externs that are looked up in the running kernel's types: kfuncs and typed variables (`__ksym`).
    pub kernel_symbols: bool,
}

impl std::fmt::Display for ByteOrder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Little => "little-endian",
            Self::Big => "big-endian",
        })
    }
}

impl ObjectInfo {
    /// Reads an object.
    ///
    /// Programs are the global and weak functions of the executable sections other than `.text`; maps are the variables
    /// of `.maps` (described by BTF) and the symbols of a legacy `maps` section (`struct bpf_map_def`).
    ///
    /// # Errors
    ///
    /// When the bytes are not a relocatable eBPF ELF, are damaged, hold no program, or exceed
    /// [`MAX_OBJECT_BYTES`], [`MAX_PROGRAMS`] or [`MAX_MAPS`].
    pub fn parse(bytes: &[u8]) -> Result<Self, ObjectError> {
        let file = File::open(bytes)?;
        let btf = match file.section(".BTF") {
            Some(section) => match Btf::parse(file.data(section)?, file.order) {
                Ok(btf) => Some(btf),
                // A kind of type that is newer than this is no reason to refuse what needs none.
                Err(_) if file.section(".maps").is_none() => None,
                Err(error) => return Err(error),
            },
            None => None,
        };
        let relocations = match (&btf, file.section(".BTF.ext")) {
            (Some(btf), Some(section)) => {
                Records::parse(file.data(section)?, file.order, btf)?.offsets()
            }
            _ => Offsets::default(),
        };
        let programs = file.programs(&relocations)?;
        if programs.is_empty() {
            return Err(ObjectError::NoProgram);
        }
        Ok(Self {
            byte_order: file.order,
            programs,
            maps: file.maps(btf.as_ref())?,
            license: file.license()?,
            core_relocations_in_text: relocations.any_in(".text"),
            kernel_symbols: match &btf {
                Some(btf) => btf.kernel_symbols()?,
                None => false,
            },
        })
    }

    /// The `io.ebpf.programs` label: JSON, sorted by name, no spaces.
    pub fn programs_label(&self) -> String {
        let entries = self.programs.iter();
        json(entries.map(|(name, program)| (name, program.section.label().to_owned())))
    }

    /// The `io.ebpf.maps` label: JSON, sorted by name, no spaces. A type newer than [`map_type_name`] knows is
    /// written as its number.
    pub fn maps_label(&self) -> String {
        let entries = self.maps.iter();
        json(entries.map(|(name, map)| {
            let number = map.map_type;
            (
                name,
                map_type_name(number).map_or_else(|| number.to_string(), str::to_owned),
            )
        }))
    }
}

fn json<'a>(entries: impl Iterator<Item = (&'a String, String)>) -> String {
    let entries = entries.map(|(name, value)| (name.clone(), serde_json::Value::String(value)));
    serde_json::Value::Object(entries.collect()).to_string()
}

/// An ELF file whose headers have been read.
struct File<'a> {
    bytes: &'a [u8],
    endian: Endianness,
    order: ByteOrder,
    table: SectionTable<'a, FileHeader64<Endianness>>,
    /// Names of the sections, by index.
    names: Vec<&'a str>,
}

type SectionRef<'a> = &'a SectionHeader64<Endianness>;

impl<'a> File<'a> {
    fn open(bytes: &'a [u8]) -> Result<Self, ObjectError> {
        if bytes.is_empty() {
            return Err(ObjectError::Empty);
        }
        if bytes.len() as u64 > MAX_OBJECT_BYTES {
            return Err(ObjectError::TooLarge {
                size: bytes.len() as u64,
                limit: MAX_OBJECT_BYTES,
            });
        }
        if !bytes.starts_with(&elf::ELFMAG) {
            return Err(ObjectError::NotElf);
        }
        let order = byte_order(bytes)?;
        check_kind(bytes, order)?;
        let header = FileHeader64::<Endianness>::parse(bytes).map_err(damaged("file header"))?;
        let endian = header.endian().map_err(damaged("byte order"))?;
        let table = header
            .sections(endian, bytes)
            .map_err(damaged("section table"))?;
        if table.len() > MAX_SECTIONS {
            return Err(too_many("sections", MAX_SECTIONS));
        }
        let strings = header
            .section_strings_index(endian, bytes)
            .and_then(|index| table.section(index))
            .and_then(|section| section.data(endian, bytes))
            .map_err(damaged("names of the sections"))?;
        let strings = Reader::new(strings, order, "names of the sections");
        let names = table
            .iter()
            .map(|section| strings.string(section.sh_name(endian) as usize));
        Ok(Self {
            bytes,
            endian,
            order,
            table,
            names: names.collect::<Result<_, _>>()?,
        })
    }

    fn section(&self, name: &str) -> Option<SectionRef<'a>> {
        let index = self.names.iter().position(|&candidate| candidate == name)?;
        self.table.section(SectionIndex(index)).ok()
    }

    fn data(&self, section: SectionRef<'a>) -> Result<&'a [u8], ObjectError> {
        section
            .data(self.endian, self.bytes)
            .map_err(damaged("section data"))
    }

    fn license(&self) -> Result<Option<String>, ObjectError> {
        let Some(section) = self.section("license") else {
            return Ok(None);
        };
        // As libbpf reads it (`bpf_object__init_license`): up to a NUL or to the end, cut off where it cuts it off.
        let bytes = self.data(section)?;
        let bytes = bytes.get(..MAX_LICENSE_BYTES).unwrap_or(bytes);
        let license = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
        Ok(Some(String::from_utf8_lossy(license).into_owned()))
    }

    fn programs(
        &self,
        relocations: &Offsets<'_>,
    ) -> Result<BTreeMap<String, ProgramInfo>, ObjectError> {
        let mut programs = BTreeMap::new();
        self.each_symbol(|symbol| {
            if symbol.kind != elf::STT_FUNC || symbol.local || !self.holds_programs(&symbol) {
                return Ok(());
            }
            if programs.len() >= MAX_PROGRAMS {
                return Err(too_many("programs", MAX_PROGRAMS));
            }
            let name = symbol.name()?;
            let program = ProgramInfo {
                section_name: symbol.section_name.to_owned(),
                section: Section::parse(symbol.section_name),
                core_relocations: relocations.any_at(
                    symbol.section_name,
                    symbol.value..symbol.value.saturating_add(symbol.size),
                ),
            };
            match programs.insert(name.to_owned(), program) {
                Some(_) => Err(twice("program", name)),
                None => Ok(()),
            }
        })?;
        Ok(programs)
    }

    fn holds_programs(&self, symbol: &Symbol<'a, '_>) -> bool {
        let executable = symbol
            .section
            .sh_flags(self.endian)
            .contains(elf::SHF_EXECINSTR);
        // What programs call lies in `.text`, or in `.text.*` with -ffunction-sections.
        let called = symbol.section_name == ".text" || symbol.section_name.starts_with(".text.");
        symbol.section.sh_type(self.endian) == elf::SHT_PROGBITS && executable && !called
    }

    fn maps(&self, btf: Option<&Btf<'a>>) -> Result<BTreeMap<String, MapInfo>, ObjectError> {
        let mut maps = BTreeMap::new();
        let mut insert = |name: &str, map| {
            if maps.len() >= MAX_MAPS {
                return Err(too_many("maps", MAX_MAPS));
            }
            match maps.insert(name.to_owned(), map) {
                Some(_) => Err(twice("map", name)),
                None => Ok(()),
            }
        };
        if self.section(".maps").is_some() {
            for (name, map) in btf.ok_or(ObjectError::NoBtf)?.maps()? {
                insert(name, map)?;
            }
        }
        if self.names.iter().any(|name| is_legacy_maps(name)) {
            self.each_symbol(|symbol| {
                let variable = symbol.kind == elf::STT_OBJECT || symbol.kind == elf::STT_NOTYPE;
                // Assemblers may leave nameless symbols.
                if !variable || symbol.name == 0 || !is_legacy_maps(symbol.section_name) {
                    return Ok(());
                }
                // struct bpf_map_def { type, key_size, value_size, max_entries, map_flags, … }
                let definitions =
                    Reader::new(self.data(symbol.section)?, self.order, symbol.section_name);
                let at = usize::try_from(symbol.value).unwrap_or(usize::MAX);
                let member = |index: usize| definitions.u32(at.saturating_add(4 * index)).ok();
                let map = MapInfo {
                    map_type: definitions.u32(at)?,
                    key_size: member(1),
                    value_size: member(2),
                    max_entries: member(3),
                    pinned_by_name: false,
                };
                insert(symbol.name()?, map)
            })?;
        }
        Ok(maps)
    }

    /// Shows every symbol that is defined in a section.
    fn each_symbol(
        &self,
        mut visit: impl FnMut(Symbol<'a, '_>) -> Result<(), ObjectError>,
    ) -> Result<(), ObjectError> {
        let table = self
            .table
            .symbols(self.endian, self.bytes, elf::SHT_SYMTAB)
            .map_err(damaged("symbol table"))?;
        if table.is_empty() {
            return Ok(());
        }
        let strings = self.table.section(table.string_section());
        let strings = self.data(strings.map_err(damaged("names of the symbols"))?)?;
        let strings = Reader::new(strings, self.order, "names of the symbols");
        for (index, symbol) in table.enumerate() {
            let section = table
                .symbol_section(self.endian, symbol, index)
                .map_err(damaged("section of a symbol"))?;
            let Some(index) = section else { continue };
            let section = self
                .table
                .section(index)
                .map_err(damaged("section of a symbol"))?;
            visit(Symbol {
                name: symbol.st_name(self.endian) as usize,
                strings: &strings,
                kind: symbol.st_type(),
                local: symbol.is_local(),
                value: symbol.st_value(self.endian),
                size: symbol.st_size(self.endian),
                section,
                section_name: self.names.get(index.0).copied().unwrap_or_default(),
            })?;
        }
        Ok(())
    }
}

fn is_legacy_maps(section_name: &str) -> bool {
    section_name == "maps" || section_name.starts_with("maps/")
}

struct Symbol<'a, 'f> {
    /// Offset in `strings`: most symbols are passed over without reading it.
    name: usize,
    strings: &'f Reader<'a>,
    kind: elf::SymbolType,
    local: bool,
    /// Offset in the section.
    value: u64,
    /// Bytes.
    size: u64,
    section: SectionRef<'a>,
    section_name: &'a str,
}

impl<'a> Symbol<'a, '_> {
    fn name(&self) -> Result<&'a str, ObjectError> {
        self.strings.string(self.name)
    }
}

fn byte_order(bytes: &[u8]) -> Result<ByteOrder, ObjectError> {
    match bytes.get(5) {
        Some(&value) if value == elf::ELFDATA2LSB.0 => Ok(ByteOrder::Little),
        Some(&value) if value == elf::ELFDATA2MSB.0 => Ok(ByteOrder::Big),
        found => Err(ObjectError::Damaged {
            what: format!("byte order {found:?} in the file header"),
        }),
    }
}

/// Type and machine stand at the same place in 32 and 64-bit files, so that any ELF can be named in the error.
fn check_kind(bytes: &[u8], order: ByteOrder) -> Result<(), ObjectError> {
    let header = Reader::new(bytes, order, "file header");
    let machine = header.u16(18)?;
    if machine != elf::EM_BPF.0 {
        let known = MACHINES.iter().find(|(number, _)| number.0 == machine);
        return Err(ObjectError::NotBpf {
            found: match known {
                Some((_, name)) => (*name).to_owned(),
                None => format!("machine {machine}"),
            },
        });
    }
    let kind = header.u16(16)?;
    if kind != elf::ET_REL.0 {
        return Err(ObjectError::NotRelocatable {
            found: match elf::FileType(kind) {
                elf::ET_EXEC => "ET_EXEC (a linked program)".to_owned(),
                elf::ET_DYN => "ET_DYN (a shared library)".to_owned(),
                elf::ET_CORE => "ET_CORE (a core dump)".to_owned(),
                _ => kind.to_string(),
            },
        });
    }
    Ok(())
}

/// The machines whose files are most often given by mistake.
const MACHINES: [(elf::Machine, &str); 10] = [
    (elf::EM_386, "x86"),
    (elf::EM_X86_64, "x86-64"),
    (elf::EM_ARM, "arm"),
    (elf::EM_AARCH64, "arm64"),
    (elf::EM_LOONGARCH, "loongarch"),
    (elf::EM_MIPS, "mips"),
    (elf::EM_PPC, "powerpc"),
    (elf::EM_PPC64, "powerpc64"),
    (elf::EM_RISCV, "riscv"),
    (elf::EM_S390, "s390"),
];

fn damaged(reading: &'static str) -> impl Fn(object::Error) -> ObjectError {
    move |error| ObjectError::Damaged {
        what: format!("{reading}: {error}"),
    }
}

fn too_many(what: &str, limit: usize) -> ObjectError {
    ObjectError::Damaged {
        what: format!("more than {limit} {what}"),
    }
}

fn twice(what: &str, name: &str) -> ObjectError {
    ObjectError::Damaged {
        what: format!("{what} `{}` is defined twice", name.escape_debug()),
    }
}
