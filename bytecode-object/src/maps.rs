//! What an object's BTF says of its maps (`.maps`) and of the kernel's symbols that it uses (`.ksyms`).

use crate::ObjectError;
use crate::btf::{Btf, MAX_RESOLVE_DEPTH, kind};
use crate::elf::{MAX_MAPS, MapInfo};

/// How many members a map definition may have; libbpf knows twelve, and each map reads its definition anew.
const MAX_MEMBERS: u32 = 64;

/// `LIBBPF_PIN_BY_NAME` (`enum libbpf_pin_type`).
const PIN_BY_NAME: u32 = 1;

impl<'a> Btf<'a> {
    /// Name and definition of each variable of the `.maps` section.
    pub(crate) fn maps(&self) -> Result<Vec<(&'a str, MapInfo)>, ObjectError> {
        let mut maps = Vec::new();
        for (_, section) in self.own_types() {
            let section = section?;
            if section.kind() != kind::DATASEC || !self.has_string(section.name, ".maps")? {
                continue;
            }
            for index in 0..section.length() as usize {
                // struct btf_var_secinfo { type, offset, size }
                let variable = self.get(section.word(index * 3)?)?;
                if variable.kind() != kind::VAR {
                    return Err(self.damaged("something that is no variable in .maps"));
                }
                if maps.len() >= MAX_MAPS {
                    return Err(self.damaged(&format!("more than {MAX_MAPS} maps")));
                }
                let name = self.text(variable.name)?;
                maps.push((name, self.map(name, variable.target)?));
            }
        }
        Ok(maps)
    }

    /// Whether `.ksyms` has functions or typed variables, which are looked up in the kernel's own BTF. Those without a
    /// type (`extern void x __ksym`) are looked up by their addresses alone.
    pub(crate) fn kernel_symbols(&self) -> Result<bool, ObjectError> {
        for (_, section) in self.own_types() {
            let section = section?;
            if section.kind() != kind::DATASEC || !self.has_string(section.name, ".ksyms")? {
                continue;
            }
            for index in 0..section.length() as usize {
                let symbol = self.get(section.word(index * 3)?)?;
                let typed = match symbol.kind() {
                    kind::FUNC => true,
                    kind::VAR => !self.is_void(symbol.target)?,
                    _ => false,
                };
                if typed {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// Whether a type is `void`, with or without qualifiers.
    fn is_void(&self, mut id: u32) -> Result<bool, ObjectError> {
        for _ in 0..MAX_RESOLVE_DEPTH {
            if id == 0 {
                return Ok(true);
            }
            let found = self.get(id)?;
            match found.kind() {
                kind::VOLATILE | kind::CONST | kind::RESTRICT => id = found.target,
                _ => return Ok(false),
            }
        }
        Ok(false)
    }

    /// What a map definition says in its members (libbpf's `parse_btf_map_def`).
    fn map(&self, map: &str, definition: u32) -> Result<MapInfo, ObjectError> {
        let (_, definition) = self.resolve(definition)?;
        if definition.kind() != kind::STRUCT {
            return Err(self.damaged(&format!("map `{map}` is no struct")));
        }
        if definition.length() > MAX_MEMBERS {
            return Err(self.damaged(&format!("map `{map}` has {} members", definition.length())));
        }
        let mut map_type = None;
        let mut pinning = None;
        let (mut key_size, mut value_size, mut max_entries) = (None, None, None);
        for index in 0..definition.length() {
            let member = definition.member(index)?;
            let target = member.type_id;
            let is = |text| self.has_string(member.name, text);
            if map_type.is_none() && is("type")? {
                map_type = self.number(target)?;
            } else if is("pinning")? {
                pinning = self.number(target)?;
            } else if is("max_entries")? {
                max_entries = self.number(target)?;
            } else if is("key_size")? {
                key_size = self.number(target)?;
            } else if is("value_size")? {
                value_size = self.number(target)?;
            } else if is("key")? {
                key_size = self.pointed_size(target)?;
            } else if is("value")? {
                value_size = self.pointed_size(target)?;
            }
        }
        match map_type {
            Some(map_type) => Ok(MapInfo {
                map_type,
                key_size,
                value_size,
                max_entries,
                pinned_by_name: pinning == Some(PIN_BY_NAME),
            }),
            None => Err(self.damaged(&format!(
                "map `{map}` has no member `type` that is a pointer to an array"
            ))),
        }
    }

    /// The number that a member of a map definition holds: `int (*name)[N]`; `None` where it is anything else.
    fn number(&self, member: u32) -> Result<Option<u32>, ObjectError> {
        let (_, pointer) = self.resolve(member)?;
        if pointer.kind() != kind::PTR {
            return Ok(None);
        }
        let (_, array) = self.resolve(pointer.target)?;
        if array.kind() != kind::ARRAY {
            return Ok(None);
        }
        Ok(Some(array.array()?.1))
    }

    /// The size of what a member of a map definition points to: `T *name`; `None` where it has none.
    fn pointed_size(&self, member: u32) -> Result<Option<u32>, ObjectError> {
        let (_, pointer) = self.resolve(member)?;
        if pointer.kind() != kind::PTR {
            return Ok(None);
        }
        self.size(pointer.target)
    }
}
