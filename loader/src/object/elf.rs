use std::collections::BTreeMap;

use object::elf::{self, FileHeader64};
use object::read::elf::{FileHeader, Rel, SectionHeader, Sym};
use object::{Endianness, SectionIndex};

use super::NormaliseError;

/// Size of one section header in the file.
pub(super) const SECTION_HEADER_BYTES: usize = 64;

/// Size of one symbol in the file.
const SYMBOL_BYTES: usize = 24;

/// A program: a global or weak function of an executable section that is not `.text`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Function {
    /// Number of its section.
    pub section: usize,
    /// Name of its section, as it stands in the file.
    pub section_name: String,
}

/// A global variable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variable {
    /// Number of its section.
    pub section: usize,
    /// Where it begins in that section, in bytes.
    pub offset: u64,
    /// Its size, in bytes.
    pub size: u64,
}

/// An ELF file (64 bit, `ET_REL`) whose headers have been read and found to lie in the file.
#[derive(Debug)]
pub struct Object<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) endian: Endianness,
    /// Where the section headers begin in the file.
    pub(super) headers_at: usize,
    /// Number of the section that holds the section names.
    pub(super) names_section: usize,
    pub(super) sections: Vec<Section<'a>>,
    pub(super) symbols: Vec<Symbol<'a>>,
    pub(super) functions: BTreeMap<String, Function>,
    pub(super) variables: BTreeMap<String, Variable>,
}

#[derive(Debug)]
pub(super) struct Section<'a> {
    pub(super) name: &'a str,
    pub(super) kind: elf::SectionType,
    pub(super) executable: bool,
    pub(super) size: u64,
    /// Where its contents begin in the file.
    pub(super) offset: u64,
    /// Contents; none for `.bss`.
    pub(super) data: &'a [u8],
    pub(super) info: usize,
}

#[derive(Debug)]
pub(super) struct Symbol<'a> {
    pub(super) name: &'a str,
    pub(super) kind: elf::SymbolType,
    pub(super) weak: bool,
    pub(super) local: bool,
    /// Visible in its own object only (`STV_HIDDEN`, `STV_INTERNAL`): `__hidden` in C.
    pub(super) hidden: bool,
    /// Section that it is defined in.
    pub(super) section: Option<usize>,
    pub(super) value: u64,
    pub(super) size: u64,
    /// Where it stands in the file.
    pub(super) at: usize,
}

/// What becomes of a section.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// Programs.
    Programs,
    /// Functions that programs call.
    Text,
    /// `.data`, `.rodata`, `.bss`.
    Data,
    /// Maps, licence, BTF: what aya looks for by name.
    Named,
    /// Symbols and strings.
    Tables,
    /// Relocations of another section.
    Relocations,
    /// Anything else.
    Other,
}

impl Section<'_> {
    pub(super) fn role(&self) -> Role {
        let prefixed = |word: &str| {
            self.name
                .strip_prefix(word)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        match self.kind {
            elf::SHT_SYMTAB | elf::SHT_STRTAB => return Role::Tables,
            elf::SHT_REL | elf::SHT_RELA => return Role::Relocations,
            elf::SHT_PROGBITS | elf::SHT_NOBITS => {}
            _ => return Role::Other,
        }
        if self.kind == elf::SHT_NOBITS {
            return if prefixed(".bss") {
                Role::Data
            } else {
                Role::Other
            };
        }
        if self.executable {
            return if prefixed(".text") {
                Role::Text
            } else {
                Role::Programs
            };
        }
        if prefixed(".data") || prefixed(".rodata") || prefixed(".bss") {
            return Role::Data;
        }
        match self.name {
            "maps" | ".maps" | "license" | "version" | ".BTF" | ".BTF.ext" => Role::Named,
            name if name.starts_with("maps/") => Role::Named,
            _ => Role::Other,
        }
    }
}

impl Symbol<'_> {
    pub(super) fn is_function(&self) -> bool {
        self.kind == elf::STT_FUNC
    }
}

impl<'a> Object<'a> {
    /// Reads the headers.
    ///
    /// # Errors
    ///
    /// When they are damaged. Whether it is an eBPF object at all is for [`bytecode_object::ObjectInfo`] to say.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, NormaliseError> {
        let header = FileHeader64::<Endianness>::parse(bytes).map_err(damaged("file header"))?;
        let endian = header.endian().map_err(damaged("byte order"))?;
        let table = header
            .sections(endian, bytes)
            .map_err(damaged("section table"))?;
        let names_section = header
            .section_strings_index(endian, bytes)
            .map_err(damaged("names of the sections"))?;
        let mut sections = Vec::with_capacity(table.len());
        for section in table.iter() {
            sections.push(Section {
                name: text(
                    table
                        .section_name(endian, section)
                        .map_err(damaged("name of a section"))?,
                )?,
                kind: section.sh_type(endian),
                executable: section.sh_flags(endian).contains(elf::SHF_EXECINSTR),
                size: section.sh_size(endian),
                offset: section.sh_offset(endian),
                data: section
                    .data(endian, bytes)
                    .map_err(damaged("contents of a section"))?,
                info: section.sh_info(endian) as usize,
            });
        }
        let place = table
            .iter()
            .find(|section| section.sh_type(endian) == elf::SHT_SYMTAB);
        let place = place.map_or(0, |section| section.sh_offset(endian));
        let mut at = usize::try_from(place).map_err(|_| OUTSIDE)?;
        let table = table
            .symbols(endian, bytes, elf::SHT_SYMTAB)
            .map_err(damaged("symbol table"))?;
        let mut symbols = Vec::with_capacity(table.len());
        for (index, symbol) in table.enumerate() {
            let section = table
                .symbol_section(endian, symbol, index)
                .map_err(damaged("section of a symbol"))?;
            symbols.push(Symbol {
                name: text(
                    table
                        .symbol_name(endian, symbol)
                        .map_err(damaged("name of a symbol"))?,
                )?,
                kind: symbol.st_type(),
                weak: symbol.is_weak(),
                local: symbol.is_local(),
                hidden: matches!(symbol.st_visibility(), elf::STV_HIDDEN | elf::STV_INTERNAL),
                section: section.map(|SectionIndex(index)| index),
                value: symbol.st_value(endian),
                size: symbol.st_size(endian),
                at,
            });
            at = at.saturating_add(SYMBOL_BYTES);
        }
        let mut object = Self {
            bytes,
            endian,
            headers_at: usize::try_from(header.e_shoff(endian)).map_err(|_| OUTSIDE)?,
            names_section: names_section.0,
            sections,
            symbols,
            functions: BTreeMap::new(),
            variables: BTreeMap::new(),
        };
        object.index();
        Ok(object)
    }

    fn index(&mut self) {
        for symbol in &self.symbols {
            let Some((section, header)) = symbol
                .section
                .and_then(|index| Some((index, self.sections.get(index)?)))
            else {
                continue;
            };
            match header.role() {
                Role::Programs if symbol.is_function() && !symbol.local => {
                    let section_name = header.name.to_owned();
                    self.functions.insert(
                        symbol.name.to_owned(),
                        Function {
                            section,
                            section_name,
                        },
                    );
                }
                Role::Data if symbol.kind == elf::STT_OBJECT => {
                    let (offset, size) = (symbol.value, symbol.size);
                    let variable = Variable {
                        section,
                        offset,
                        size,
                    };
                    // Two static variables of one name cannot be told apart: the global one is meant.
                    if symbol.local {
                        self.variables
                            .entry(symbol.name.to_owned())
                            .or_insert(variable);
                    } else {
                        self.variables.insert(symbol.name.to_owned(), variable);
                    }
                }
                _ => {}
            }
        }
    }

    /// Whether a section holds map definitions.
    pub(super) fn is_maps(&self, section: usize) -> bool {
        self.sections
            .get(section)
            .is_some_and(|section| section.name == ".maps")
    }

    /// The functions of a section, static ones too: symbol number by where they begin.
    pub(super) fn functions_of(&self, section: usize) -> BTreeMap<u64, usize> {
        let functions = self.symbols.iter().enumerate();
        functions
            .filter(|(_, symbol)| symbol.is_function() && symbol.section == Some(section))
            .map(|(index, symbol)| (symbol.value, index))
            .collect()
    }

    /// The relocations of a section: symbol number by the offset that they are for.
    pub(super) fn relocations_of(
        &self,
        section: usize,
    ) -> Result<BTreeMap<u64, usize>, NormaliseError> {
        let mut relocations = BTreeMap::new();
        let tables = self.sections.iter();
        for table in tables.filter(|table| table.kind == elf::SHT_REL && table.info == section) {
            let entries = table.data.len() / size_of::<elf::Rel64<Endianness>>();
            let (entries, _) =
                object::pod::slice_from_bytes::<elf::Rel64<Endianness>>(table.data, entries)
                    .map_err(|()| NormaliseError::Damaged {
                        what: "relocations out of line",
                    })?;
            for entry in entries {
                let symbol = entry.r_sym(self.endian) as usize;
                relocations.insert(entry.r_offset(self.endian), symbol);
            }
        }
        Ok(relocations)
    }
}

const OUTSIDE: NormaliseError = NormaliseError::Damaged {
    what: "an offset outside of the file",
};

fn text(bytes: &[u8]) -> Result<&str, NormaliseError> {
    std::str::from_utf8(bytes).map_err(|_| NormaliseError::Damaged {
        what: "a name that is not UTF-8",
    })
}

fn damaged(what: &'static str) -> impl Fn(object::Error) -> NormaliseError {
    move |source| NormaliseError::Elf { what, source }
}
