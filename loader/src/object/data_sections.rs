//! Data sections in an object's BTF. clang leaves their sizes and the offsets of global variables 0 for the loader to
//! fill in; libbpf's `btf_fixup_datasec` does the same as this.

use std::collections::BTreeMap;

use object::Endianness;

use super::NormaliseError;
use super::btf::{Btf, DAMAGED, TYPE_BYTES, kind};
use super::elf::{Object, Role, Section, Symbol};
use super::walk::Types;

/// `BTF_VAR_STATIC`, `BTF_VAR_GLOBAL_ALLOCATED`.
const STATIC: u32 = 0;
const GLOBAL: u32 = 1;
/// `BTF_FUNC_STATIC`, `BTF_FUNC_GLOBAL`.
const STATIC_FUNCTION: u32 = 0;
const GLOBAL_FUNCTION: u32 = 1;

/// Bytes of a `struct btf_var_secinfo`: type, offset and size.
const ENTRY_BYTES: usize = 12;

impl Btf {
    /// Fills in sizes and offsets, sorts variables by offset (the kernel refuses others), and marks hidden variables as
    /// static.
    pub(super) fn complete_sections(&mut self, object: &Object<'_>) -> Result<(), NormaliseError> {
        let mut globals: BTreeMap<(usize, &str), &Symbol<'_>> = BTreeMap::new();
        for symbol in object.symbols.iter().filter(|symbol| !symbol.local) {
            if let Some(section) = symbol.section {
                globals.insert((section, symbol.name), symbol);
            }
        }
        let places = Types::of(self)?.places;
        for &at in places.iter().skip(1) {
            let info = self.words.get(&self.types, at + 4)?;
            let (kind, length) = ((info >> 24) & 0x1f, (info & 0xffff) as usize);
            if kind != kind::DATASEC || length == 0 {
                continue;
            }
            let name = self.words.get(&self.types, at)?;
            let name = self.string(name)?;
            let mut sections = object.sections.iter().enumerate();
            let found = sections.find(|(_, section)| section.name.as_bytes() == name);
            let Some((index, section)) = found else {
                continue;
            };
            let unset = self.words.get(&self.types, at + 8)? == 0;
            if unset {
                let size = u32::try_from(section.size).map_err(|_| DAMAGED)?;
                self.words.set(&mut self.types, at + 8, size)?;
            }
            let mut entries = Vec::with_capacity(length);
            for entry in (at + TYPE_BYTES..).step_by(ENTRY_BYTES).take(length) {
                let word = |offset| self.words.get(&self.types, entry + offset);
                let (id, mut offset, size) = (word(0)?, word(4)?, word(8)?);
                let place = places.get(id as usize).copied();
                let variable = place.filter(|&place| place != usize::MAX).ok_or(DAMAGED)?;
                if let Some(symbol) = self.global(variable, index, &globals)? {
                    if unset {
                        offset = u32::try_from(symbol.value).map_err(|_| DAMAGED)?;
                    }
                    if symbol.hidden {
                        self.words
                            .set(&mut self.types, variable + TYPE_BYTES, STATIC)?;
                    }
                }
                entries.push((offset, id, size));
            }
            entries.sort_by_key(|(offset, ..)| *offset);
            let places = (at + TYPE_BYTES..).step_by(ENTRY_BYTES);
            for (entry, (offset, id, size)) in places.zip(entries) {
                for (field, value) in [(0, id), (4, offset), (8, size)] {
                    self.words.set(&mut self.types, entry + field, value)?;
                }
            }
            self.types_changed = true;
        }
        Ok(())
    }

    /// The symbol of a variable that has its place from the linker.
    fn global<'s, 'a>(
        &self,
        variable: usize,
        section: usize,
        globals: &BTreeMap<(usize, &str), &'s Symbol<'a>>,
    ) -> Result<Option<&'s Symbol<'a>>, NormaliseError> {
        let info = self.words.get(&self.types, variable + 4)?;
        if (info >> 24) & 0x1f != kind::VAR
            || self.words.get(&self.types, variable + TYPE_BYTES)? != GLOBAL
        {
            return Ok(None);
        }
        let name = self.string(self.words.get(&self.types, variable)?)?;
        let name = std::str::from_utf8(name).map_err(|_| DAMAGED)?;
        Ok(globals.get(&(section, name)).copied())
    }

    /// Marks hidden functions that programs call as static: the verifier then follows them from their callers instead of
    /// by themselves, as it does after libbpf (`mark_btf_static`).
    pub(super) fn mark_hidden_functions(
        &mut self,
        object: &Object<'_>,
    ) -> Result<(), NormaliseError> {
        let is_text =
            |section: usize| object.sections.get(section).map(Section::role) == Some(Role::Text);
        let hidden: Vec<&[u8]> = object
            .symbols
            .iter()
            .filter(|symbol| symbol.hidden && !symbol.local && symbol.is_function())
            .filter(|symbol| symbol.section.is_some_and(is_text))
            .map(|symbol| symbol.name.as_bytes())
            .collect();
        if hidden.is_empty() {
            return Ok(());
        }
        let places = Types::of(self)?.places;
        for &at in places.iter().skip(1) {
            let info = self.words.get(&self.types, at + 4)?;
            let name = self.words.get(&self.types, at)?;
            if info == (kind::FUNC << 24) | GLOBAL_FUNCTION && hidden.contains(&self.string(name)?)
            {
                let info = (kind::FUNC << 24) | STATIC_FUNCTION;
                self.words.set(&mut self.types, at + 4, info)?;
                self.types_changed = true;
            }
        }
        Ok(())
    }
}

/// Numbers of the data sections of BTF in this machine's byte order, by name.
///
/// # Errors
///
/// When the BTF contradicts its own sizes.
pub fn data_sections(btf: &[u8]) -> Result<BTreeMap<String, u32>, NormaliseError> {
    let btf = Btf::parse(btf, Endianness::default())?;
    let types = Types::of(&btf)?;
    let mut sections = BTreeMap::new();
    for found in types.iter() {
        let (id, found) = found?;
        if found.kind == kind::DATASEC {
            sections.insert(types.name(&found)?.to_owned(), id);
        }
    }
    Ok(sections)
}
