//! Entries that maps have in the object: `.values = { … }` of program arrays and maps of maps.

use super::NormaliseError;
use super::btf::{Btf, kind};
use super::elf::{Object, Role, Symbol};
use super::walk::Types;

/// Bytes of a pointer in an eBPF object.
const POINTER: u64 = 8;

/// One entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The map that it stands in.
    pub map: String,
    /// Where in that map.
    pub index: u32,
    /// What stands there.
    pub target: Target,
}

/// What an entry leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// A program, by its function's name: for tail calls.
    Program(String),
    /// Another map of the object.
    Map(String),
}

/// What the entries of one map lead to, in the order of their places in the object.
pub(super) fn of_map(
    object: &Object<'_>,
    map: &Symbol<'_>,
) -> Result<Vec<(u64, Target)>, NormaliseError> {
    let Some(section) = map.section.filter(|section| object.is_maps(*section)) else {
        return Ok(Vec::new());
    };
    let unreadable = || NormaliseError::Entry {
        map: map.name.to_owned(),
    };
    let range = map.value..map.value.saturating_add(map.size);
    let mut entries = Vec::new();
    for (&at, &symbol) in object.relocations_of(section)?.range(range) {
        let target = object.symbols.get(symbol).ok_or_else(unreadable)?;
        let home = target.section.ok_or_else(unreadable)?;
        let role = object.sections.get(home).map(super::elf::Section::role);
        let target = match role {
            Some(Role::Programs) if object.functions.contains_key(target.name) => {
                Target::Program(target.name.to_owned())
            }
            _ if object.is_maps(home) && !target.name.is_empty() => {
                Target::Map(target.name.to_owned())
            }
            _ => return Err(unreadable()),
        };
        entries.push((at, target));
    }
    Ok(entries)
}

impl Object<'_> {
    /// Entries of all maps.
    ///
    /// # Errors
    ///
    /// When one leads to something that is neither a program nor a map, or the BTF that tells its place is damaged.
    pub fn entries(&self) -> Result<Vec<Entry>, NormaliseError> {
        let mut entries = Vec::new();
        let mut maps = self.symbols.iter().filter(|symbol| {
            symbol.kind == object::elf::STT_OBJECT
                && symbol.section.is_some_and(|section| self.is_maps(section))
        });
        // Most objects have none.
        let filled = |map: &Symbol<'_>| Ok::<_, NormaliseError>(!of_map(self, map)?.is_empty());
        let mut found = Vec::new();
        for map in maps.by_ref() {
            if filled(map)? {
                found.push(map);
            }
        }
        if found.is_empty() {
            return Ok(entries);
        }
        let section = self.sections.iter().find(|section| section.name == ".BTF");
        let data = section.map(|section| section.data).unwrap_or_default();
        let btf = Btf::parse(data, self.endian)?;
        let types = Types::of(&btf)?;
        for map in found {
            let unreadable = || NormaliseError::Entry {
                map: map.name.to_owned(),
            };
            let start = values_offset(&types, map.name)?.ok_or_else(unreadable)?;
            for (at, target) in of_map(self, map)? {
                let index = at
                    .checked_sub(map.value.saturating_add(start))
                    .and_then(|at| u32::try_from(at / POINTER).ok())
                    .ok_or_else(unreadable)?;
                entries.push(Entry {
                    map: map.name.to_owned(),
                    index,
                    target,
                });
            }
        }
        Ok(entries)
    }
}

/// Where `values` begins in a map's definition, in bytes.
fn values_offset(types: &Types<'_>, map: &str) -> Result<Option<u64>, NormaliseError> {
    for member in types.section(".maps")? {
        if types.name(&member)? != map {
            continue;
        }
        let Some(definition) = types.resolve(member.last)? else {
            continue;
        };
        if definition.kind != kind::STRUCT {
            continue;
        }
        for index in 0..definition.length as usize {
            // Name, type, offset in bits.
            if types.string(types.word(&definition, index * 3)?)? == b"values" {
                let bits = types.word(&definition, index * 3 + 2)?;
                return Ok(Some(u64::from(bits & 0x00ff_ffff) / 8));
            }
        }
    }
    Ok(None)
}
