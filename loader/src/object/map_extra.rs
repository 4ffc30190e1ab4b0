//! `__ulong(map_extra, …)`: the one number of a map's definition that has 64 bits. libbpf writes it as an enum, which aya
//! does not read.

use std::collections::BTreeMap;

use super::NormaliseError;
use super::btf::{Btf, kind};
use super::elf::Object;
use super::walk::Types;

/// The member.
pub(super) const MEMBER: &[u8] = b"map_extra";

impl Object<'_> {
    /// Values of `map_extra` that are written as enums, by map.
    ///
    /// # Errors
    ///
    /// When BTF is damaged.
    pub fn map_extra(&self) -> Result<BTreeMap<String, u64>, NormaliseError> {
        let mut extra = BTreeMap::new();
        let section = self.sections.iter().find(|section| section.name == ".BTF");
        let Some(section) = section.filter(|section| !section.data.is_empty()) else {
            return Ok(extra);
        };
        let btf = Btf::parse(section.data, self.endian)?;
        let types = Types::of(&btf)?;
        for map in types.section(".maps")? {
            let Some(definition) = types.resolve(map.last)? else {
                continue;
            };
            if definition.kind != kind::STRUCT {
                continue;
            }
            for member in 0..definition.length as usize {
                if types.string(types.word(&definition, member * 3)?)? != MEMBER {
                    continue;
                }
                let value = types.resolve(types.word(&definition, member * 3 + 1)?)?;
                // Name and value, of 32 bits or of twice 32.
                let value = match value {
                    Some(value) if value.length == 1 && value.kind == kind::ENUM => {
                        u64::from(types.word(&value, 1)?)
                    }
                    Some(value) if value.length == 1 && value.kind == kind::ENUM64 => {
                        u64::from(types.word(&value, 1)?) | u64::from(types.word(&value, 2)?) << 32
                    }
                    _ => continue,
                };
                extra.insert(types.name(&map)?.to_owned(), value);
            }
        }
        Ok(extra)
    }
}
