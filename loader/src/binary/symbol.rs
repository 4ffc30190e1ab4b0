//! Functions of an ELF executable or shared library, by name.

use object::elf::{self, FileHeader32, FileHeader64};
use object::read::StringTable;
use object::read::elf::{FileHeader, SectionHeader, SectionTable, Sym, VersionTable};
use object::{Endianness, FileKind, ReadRef, SymbolIndex};

use super::budget::{Budget, Capped};
use super::segments::CodeSegments;
use crate::near::nearest;

/// Bytes of a symbol table, and of its strings, that are read: 128 MiB, more than a browser with all its symbols has.
pub const MAX_TABLE_BYTES: u64 = 128 << 20;
/// Bytes of a file that are read in all, headers and tables: 256 MiB.
pub const MAX_BYTES: u64 = 256 << 20;
/// Bytes of a symbol's name; longer ones, which a compiler may make of templates, are not looked at: 4 KiB. Names may
/// overlap, so a table of them can be much longer than it is.
const MAX_NAME_BYTES: usize = 4 << 10;
/// Symbols of one name that are told from each other.
const MAX_CANDIDATES: usize = 1 << 16;

/// Where a function is in its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Function {
    /// Bytes from the start of the file.
    pub offset: u64,
    /// Its size in bytes; 0 when the file does not tell.
    pub size: u64,
}

/// Why a function was not found.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SymbolError {
    /// Another kind of file.
    #[error("it is no ELF file")]
    NotElf,
    /// A header or table that does not read as ELF.
    #[error("it is damaged: {what}: {source}")]
    Damaged {
        /// What was being read.
        what: &'static str,
        /// What the ELF library found.
        source: object::Error,
    },
    /// Too much of something.
    #[error("{found} bytes of {what}, more than the {limit} that are read")]
    TooLarge {
        /// Of what.
        what: &'static str,
        /// Its size in bytes.
        found: u64,
        /// Bytes that are read.
        limit: u64,
    },
    /// No `.symtab`, or one without functions: only exported functions are known, if any.
    #[error("{}", stripped(.function, *.exported))]
    Stripped {
        /// Name asked for.
        function: String,
        /// Whether it has exported functions (`.dynsym`).
        exported: bool,
        /// The exported one that was most likely meant.
        near: Option<String>,
    },
    /// No function of that name.
    #[error("it has no function `{function}`")]
    NoSuchFunction {
        /// Name asked for.
        function: String,
        /// The one that was most likely meant.
        near: Option<String>,
    },
    /// Several of that name in different places.
    #[error("it has {found} functions `{function}`")]
    Several {
        /// Name asked for.
        function: String,
        /// How many places there are.
        found: usize,
    },
    /// `STT_GNU_IFUNC`: at its place is what chooses an implementation, once, when the program starts.
    #[error("`{function}` is an indirect function (IFUNC): calls of it do not come by its place")]
    Indirect {
        /// Name asked for.
        function: String,
    },
    /// Its address is in none of the parts of the file that are loaded as code.
    #[error("`{function}` lies in no executable part of it")]
    NotCode {
        /// Name asked for.
        function: String,
    },
    /// Symbols of a debug file whose segments are not those of the file it should describe.
    #[error("its segments differ from those of the file")]
    OtherSegments,
}

fn stripped(function: &str, exported: bool) -> String {
    match exported {
        true => format!("it is stripped: it has no exported function `{function}`"),
        false => "it is stripped: it has no symbols".to_owned(),
    }
}

/// A symbol that has the name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Candidate {
    /// Less is better: a function before a label, the default version before others, a global one before a local one.
    rank: (bool, bool, bool),
    address: u64,
    size: u64,
    indirect: bool,
}

/// Looks a function up among the exported ones (`.dynsym`), then among all (`.symtab`).
///
/// `name` may end in `@VERSION` or `@@VERSION`; without, the version that a program would be linked to is taken.
///
/// # Errors
///
/// When the file is no ELF file or a damaged one, or has no function, or not one, of that name.
pub fn find<'data, R: ReadRef<'data>>(data: R, name: &str) -> Result<Function, SymbolError> {
    let (segments, symbol) = lookup(data, name)?;
    place(&segments, symbol, name)
}

/// Looks up a function of `file` in a debug file: one that has the symbols and not the code.
///
/// The symbols' addresses are those that the file had when it was linked. The place comes from the segments of the file
/// itself: a debug file has none of their bytes, and prelink(8) may have moved the file since.
///
/// # Errors
///
/// As [`find`]; [`SymbolError::OtherSegments`] when the two are not of one build.
pub fn find_by_debug_file<'data, 'debug, R, D>(
    file: R,
    debug: D,
    name: &str,
) -> Result<Function, SymbolError>
where
    R: ReadRef<'data>,
    D: ReadRef<'debug>,
{
    let segments = CodeSegments::read(file)?;
    let (linked, symbol) = lookup(debug, name)?;
    let moved = segments.moved_from(&linked)?;
    let address = symbol.address.wrapping_add(moved);
    place(&segments, Candidate { address, ..symbol }, name)
}

/// Finds a symbol, in a file of either class.
fn lookup<'data, R: ReadRef<'data>>(
    data: R,
    name: &str,
) -> Result<(CodeSegments, Candidate), SymbolError> {
    with_budget(data, |data, kind| match kind {
        FileKind::Elf32 => lookup_in::<FileHeader32<Endianness>, _>(data, name),
        FileKind::Elf64 => lookup_in::<FileHeader64<Endianness>, _>(data, name),
        _ => Err(SymbolError::NotElf),
    })
}

/// Reads a file of which at most [`MAX_BYTES`] are read in all.
pub(super) fn with_budget<'data, R: ReadRef<'data>, T>(
    data: R,
    read: impl FnOnce(Capped<'_, R>, FileKind) -> Result<T, SymbolError>,
) -> Result<T, SymbolError> {
    let budget = Budget::new(MAX_BYTES);
    let data = Capped::new(data, &budget);
    let kind = FileKind::parse(data).map_err(|_| SymbolError::NotElf)?;
    match (read(data, kind), budget.refused()) {
        (Err(SymbolError::Damaged { what, .. }), Some(found)) => Err(SymbolError::TooLarge {
            what,
            found,
            limit: MAX_BYTES,
        }),
        (found, _) => found,
    }
}

fn lookup_in<'data, Elf, R>(data: R, name: &str) -> Result<(CodeSegments, Candidate), SymbolError>
where
    Elf: FileHeader<Endian = Endianness>,
    R: ReadRef<'data>,
{
    let header = Elf::parse(data).map_err(damaged("its header"))?;
    let endian = header.endian().map_err(damaged("its header"))?;
    let sections = header
        .section_headers(endian, data)
        .map_err(damaged("its sections"))?;
    // Sections are known by their types; nobody needs their names.
    let sections = SectionTable::<Elf, R>::new(sections, StringTable::default());
    let (base, version) = split_version(name);
    let mut tables: Vec<Table<'data, Elf>> = Vec::new();
    for kind in [elf::SHT_DYNSYM, elf::SHT_SYMTAB] {
        let mut of_kind = sections
            .iter()
            .filter(|section| section.sh_type(endian) == kind);
        let Some(section) = of_kind.next() else {
            continue;
        };
        check_size("symbols", section.sh_size(endian).into())?;
        let symbols: &[Elf::Sym] = section
            .data_as_array(endian, data)
            .map_err(damaged("its symbols"))?;
        let strings = sections
            .section(section.link(endian))
            .map_err(damaged("its symbols"))?;
        check_size("strings", strings.sh_size(endian).into())?;
        let strings = strings
            .data(endian, data)
            .map_err(damaged("the names of its symbols"))?;
        tables.push((kind, symbols, strings));
        // Only the exported ones have a table of versions.
        let versions = if kind == elf::SHT_DYNSYM {
            sections
                .versions(endian, data)
                .map_err(damaged("the versions of its symbols"))?
        } else {
            None
        };
        let versions = versions.unwrap_or_default();
        let mut candidates = Vec::new();
        for (index, symbol) in symbols.iter().enumerate() {
            let Some(text) = defined_function::<Elf>(endian, symbol, strings) else {
                continue;
            };
            let (symbol_base, own_version) = split_version(text);
            if symbol_base != base {
                continue;
            }
            let (other, hidden) = match own_version {
                Some(own) => (Some(own.as_bytes()), !text.contains("@@")),
                None => symbol_version(&versions, endian, index),
            };
            if version.is_some_and(|wanted| other != Some(wanted.as_bytes())) {
                continue;
            }
            if candidates.len() == MAX_CANDIDATES {
                return Err(SymbolError::Several {
                    function: name.to_owned(),
                    found: MAX_CANDIDATES,
                });
            }
            candidates.push(Candidate {
                rank: (
                    symbol.st_type() == elf::STT_NOTYPE,
                    hidden,
                    symbol.st_bind() == elf::STB_LOCAL,
                ),
                address: symbol.st_value(endian).into(),
                size: symbol.st_size(endian).into(),
                indirect: symbol.st_type() == elf::STT_GNU_IFUNC,
            });
        }
        if let Some(best) = choose(candidates, name)? {
            return Ok((CodeSegments::of(header, data)?, best));
        }
    }
    let has_functions = |kind| {
        let functions = |(_, symbols, strings): &Table<'data, Elf>| {
            let mut symbols = symbols.iter();
            symbols.any(|symbol| defined_function::<Elf>(endian, symbol, strings).is_some())
        };
        tables.iter().filter(|table| table.0 == kind).any(functions)
    };
    let stripped = !has_functions(elf::SHT_SYMTAB);
    let exported = stripped && has_functions(elf::SHT_DYNSYM);
    let names = tables.into_iter().flat_map(|(_, symbols, strings)| {
        // An indirect function is resolved by the dynamic linker and refused here; suffixed parts of
        // functions (`.cold`) are not what was meant.
        let functions = symbols
            .iter()
            .filter(|symbol| symbol.st_type() != elf::STT_GNU_IFUNC);
        functions.filter_map(move |symbol| defined_function::<Elf>(endian, symbol, strings))
    });
    let names = names.map(|text| split_version(text).0);
    let names = names.filter(|other| *other != base && !other.contains('.'));
    let near = nearest(base, names).map(str::to_owned);
    let function = name.to_owned();
    Err(match stripped {
        true => SymbolError::Stripped {
            function,
            exported,
            near,
        },
        false => SymbolError::NoSuchFunction { function, near },
    })
}

/// A table of symbols: its kind, its rows, the names.
type Table<'data, Elf> = (
    elf::SectionType,
    &'data [<Elf as FileHeader>::Sym],
    &'data [u8],
);

/// The name of a symbol that is defined here and can be a function.
fn defined_function<'data, Elf: FileHeader<Endian = Endianness>>(
    endian: Endianness,
    symbol: &Elf::Sym,
    strings: &'data [u8],
) -> Option<&'data str> {
    let kind = symbol.st_type();
    let function = [elf::STT_FUNC, elf::STT_GNU_IFUNC, elf::STT_NOTYPE].contains(&kind);
    if !function || symbol.is_undefined(endian) {
        return None;
    }
    let start = usize::try_from(symbol.st_name(endian)).ok()?;
    let end = strings.len().min(start.saturating_add(MAX_NAME_BYTES));
    let text = strings.get(start..end)?;
    let length = text.iter().position(|byte| *byte == 0)?;
    let name = text.get(..length)?;
    std::str::from_utf8(name)
        .ok()
        .filter(|name| !name.is_empty())
}

/// The version of an exported symbol, and whether programs that ask for none are linked to another one.
fn symbol_version<'data, Elf: FileHeader<Endian = Endianness>>(
    versions: &VersionTable<'data, Elf>,
    endian: Endianness,
    index: usize,
) -> (Option<&'data [u8]>, bool) {
    let own = versions.version_index(endian, SymbolIndex(index));
    let name = versions.version(own.index()).ok().flatten();
    (name.map(|version| version.name()), own.is_hidden())
}

/// `malloc@@GLIBC_2.2.5` → `malloc`, `GLIBC_2.2.5`.
fn split_version(name: &str) -> (&str, Option<&str>) {
    match name.split_once('@') {
        Some((base, version)) => (base, Some(version.strip_prefix('@').unwrap_or(version))),
        None => (name, None),
    }
}

/// The best candidate; several that are as good must be one place under several versions or tables.
fn choose(mut candidates: Vec<Candidate>, name: &str) -> Result<Option<Candidate>, SymbolError> {
    candidates.sort_unstable();
    let Some(best) = candidates.first().copied() else {
        return Ok(None);
    };
    let mut places: Vec<u64> = candidates
        .iter()
        .take_while(|candidate| candidate.rank == best.rank)
        .map(|candidate| candidate.address)
        .collect();
    places.dedup();
    if places.len() > 1 {
        return Err(SymbolError::Several {
            function: name.to_owned(),
            found: places.len(),
        });
    }
    if best.indirect {
        return Err(SymbolError::Indirect {
            function: name.to_owned(),
        });
    }
    Ok(Some(best))
}

/// From an address to the place in the file, by the segments that are loaded.
fn place(segments: &CodeSegments, symbol: Candidate, name: &str) -> Result<Function, SymbolError> {
    let offset = segments
        .offset(symbol.address)
        .ok_or_else(|| SymbolError::NotCode {
            function: name.to_owned(),
        })?;
    Ok(Function {
        offset,
        size: symbol.size,
    })
}

fn check_size(what: &'static str, found: u64) -> Result<(), SymbolError> {
    if found > MAX_TABLE_BYTES {
        return Err(SymbolError::TooLarge {
            what,
            found,
            limit: MAX_TABLE_BYTES,
        });
    }
    Ok(())
}

pub(super) fn damaged(what: &'static str) -> impl FnOnce(object::Error) -> SymbolError {
    move |source| SymbolError::Damaged { what, source }
}

#[cfg(test)]
mod tests;
