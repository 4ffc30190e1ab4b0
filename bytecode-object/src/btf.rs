//! As much of BTF as labels need (`Documentation/bpf/btf.rst`, `include/uapi/linux/btf.h`): the map definitions
//! of the `.maps` data section, the externs of `.ksyms`, and where `.BTF.ext` has CO-RE relocations. The file's own byte order is used.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::elf::{MAX_MAPS, MapInfo};
use crate::reader::Reader;
use crate::{ByteOrder, ObjectError};

const MAGIC: u16 = 0xeb9f;

/// How many modifiers (typedef, const…) may stand before a type; `MAX_RESOLVE_DEPTH` of `kernel/bpf/btf.c`.
const MAX_MODIFIERS: usize = 32;

/// How many members a map definition may have; libbpf knows twelve, and each map reads its definition anew.
const MAX_MEMBERS: u32 = 64;

/// How many arrays may stand in each other in a key or value.
const MAX_NESTED_ARRAYS: usize = 32;

/// `LIBBPF_PIN_BY_NAME` (`enum libbpf_pin_type`).
const PIN_BY_NAME: u32 = 1;

/// Bytes of a `struct btf_type` without what follows it.
const TYPE_BYTES: usize = 12;

mod kind {
    pub(super) const INT: u32 = 1;
    pub(super) const PTR: u32 = 2;
    pub(super) const ARRAY: u32 = 3;
    pub(super) const STRUCT: u32 = 4;
    pub(super) const UNION: u32 = 5;
    pub(super) const ENUM: u32 = 6;
    pub(super) const FWD: u32 = 7;
    pub(super) const TYPEDEF: u32 = 8;
    pub(super) const VOLATILE: u32 = 9;
    pub(super) const CONST: u32 = 10;
    pub(super) const RESTRICT: u32 = 11;
    pub(super) const FUNC: u32 = 12;
    pub(super) const FUNC_PROTO: u32 = 13;
    pub(super) const VAR: u32 = 14;
    pub(super) const DATASEC: u32 = 15;
    pub(super) const FLOAT: u32 = 16;
    pub(super) const DECL_TAG: u32 = 17;
    pub(super) const TYPE_TAG: u32 = 18;
    pub(super) const ENUM64: u32 = 19;
}

/// One `struct btf_type`; `at` is where its own data begins in the type section.
#[derive(Clone, Copy)]
struct Type {
    name: u32,
    kind: u32,
    vlen: u32,
    /// `size` or `type`, by kind.
    target: u32,
    at: usize,
}

/// A `.BTF` section.
pub(crate) struct Btf<'a> {
    types: Reader<'a>,
    strings: Reader<'a>,
    /// Where type id 1, 2, … begins in `types`.
    offsets: Vec<usize>,
}

impl<'a> Btf<'a> {
    /// Reads the header and finds every type.
    pub(crate) fn parse(bytes: &'a [u8], order: ByteOrder) -> Result<Self, ObjectError> {
        let file = Reader::new(bytes, order, ".BTF");
        let header = Header::parse(&file)?;
        let types = file.range(header.at(&file, 8)?, file.size(12)?)?;
        let strings = file.range(header.at(&file, 16)?, file.size(20)?)?;
        let mut btf = Self {
            types,
            strings,
            offsets: Vec::new(),
        };
        let mut at = 0;
        while at < btf.types.len() {
            btf.offsets.push(at);
            at = btf.after(&btf.type_at(at)?)?;
        }
        Ok(btf)
    }

    /// Name and definition of each variable of the `.maps` section.
    pub(crate) fn maps(&self) -> Result<Vec<(&'a str, MapInfo)>, ObjectError> {
        let mut maps = Vec::new();
        for &at in &self.offsets {
            let section = self.type_at(at)?;
            if section.kind != kind::DATASEC
                || !self.strings.has_string(section.name as usize, ".maps")?
            {
                continue;
            }
            for index in 0..section.vlen as usize {
                // struct btf_var_secinfo { type, offset, size }
                let variable = self.by_id(self.types.u32(section.at + index * 12)?)?;
                if variable.kind != kind::VAR {
                    return Err(self.damaged("something that is no variable in .maps"));
                }
                if maps.len() >= MAX_MAPS {
                    return Err(self.damaged(&format!("more than {MAX_MAPS} maps")));
                }
                let name = self.strings.string(variable.name as usize)?;
                maps.push((name, self.map(name, variable.target)?));
            }
        }
        Ok(maps)
    }

    /// Whether `.ksyms` has functions or typed variables, which are looked up in the kernel's own BTF. Those without a
    /// type (`extern void x __ksym`) are looked up by their addresses alone.
    pub(crate) fn kernel_symbols(&self) -> Result<bool, ObjectError> {
        for &at in &self.offsets {
            let section = self.type_at(at)?;
            if section.kind != kind::DATASEC
                || !self.strings.has_string(section.name as usize, ".ksyms")?
            {
                continue;
            }
            for index in 0..section.vlen as usize {
                let symbol = self.by_id(self.types.u32(section.at + index * 12)?)?;
                let typed = match symbol.kind {
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
        for _ in 0..MAX_MODIFIERS {
            if id == 0 {
                return Ok(true);
            }
            let found = self.by_id(id)?;
            match found.kind {
                kind::VOLATILE | kind::CONST | kind::RESTRICT => id = found.target,
                _ => return Ok(false),
            }
        }
        Ok(false)
    }

    /// What a map definition says in its members (libbpf's `parse_btf_map_def`).
    fn map(&self, map: &str, definition: u32) -> Result<MapInfo, ObjectError> {
        let definition = self.resolve(definition)?;
        if definition.kind != kind::STRUCT {
            return Err(self.damaged(&format!("map `{map}` is no struct")));
        }
        if definition.vlen > MAX_MEMBERS {
            return Err(self.damaged(&format!("map `{map}` has {} members", definition.vlen)));
        }
        let mut map_type = None;
        let mut pinning = None;
        let (mut key_size, mut value_size, mut max_entries) = (None, None, None);
        for index in 0..definition.vlen as usize {
            // struct btf_member { name_off, type, offset }
            let member = definition.at + index * 12;
            let name = self.types.size(member)?;
            let target = self.types.u32(member + 4)?;
            let is = |text| self.strings.has_string(name, text);
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
        let pointer = self.resolve(member)?;
        if pointer.kind != kind::PTR {
            return Ok(None);
        }
        let array = self.resolve(pointer.target)?;
        if array.kind != kind::ARRAY {
            return Ok(None);
        }
        // struct btf_array { type, index_type, nelems }
        Ok(Some(self.types.u32(array.at + 8)?))
    }

    /// The size of what a member of a map definition points to: `T *name`; `None` where it has none.
    fn pointed_size(&self, member: u32) -> Result<Option<u32>, ObjectError> {
        let pointer = self.resolve(member)?;
        if pointer.kind != kind::PTR {
            return Ok(None);
        }
        let (mut id, mut count) = (pointer.target, 1_u32);
        for _ in 0..MAX_NESTED_ARRAYS {
            // `void *`.
            if id == 0 {
                return Ok(None);
            }
            let found = self.resolve(id)?;
            let size = match found.kind {
                kind::ARRAY => {
                    let elements = self.types.u32(found.at + 8)?;
                    let Some(product) = count.checked_mul(elements) else {
                        return Ok(None);
                    };
                    (id, count) = (self.types.u32(found.at)?, product);
                    continue;
                }
                kind::INT
                | kind::STRUCT
                | kind::UNION
                | kind::ENUM
                | kind::ENUM64
                | kind::FLOAT => found.target,
                // BPF is a machine of 64 bits, whatever the host is.
                kind::PTR => 8,
                _ => return Ok(None),
            };
            return Ok(count.checked_mul(size));
        }
        Ok(None)
    }

    /// The type behind typedefs, qualifiers and tags.
    fn resolve(&self, id: u32) -> Result<Type, ObjectError> {
        let mut found = self.by_id(id)?;
        for _ in 0..MAX_MODIFIERS {
            match found.kind {
                kind::TYPEDEF | kind::VOLATILE | kind::CONST | kind::RESTRICT | kind::TYPE_TAG => {
                    found = self.by_id(found.target)?;
                }
                _ => return Ok(found),
            }
        }
        Err(self.damaged(&format!(
            "more than {MAX_MODIFIERS} modifiers before type {id}"
        )))
    }

    fn by_id(&self, id: u32) -> Result<Type, ObjectError> {
        let at = (id as usize)
            .checked_sub(1)
            .and_then(|index| self.offsets.get(index));
        match at {
            Some(&at) => self.type_at(at),
            None => Err(self.damaged(&format!("type {id} of {}", self.offsets.len()))),
        }
    }

    fn type_at(&self, at: usize) -> Result<Type, ObjectError> {
        let info = self.types.u32(at.saturating_add(4))?;
        Ok(Type {
            name: self.types.u32(at)?,
            kind: (info >> 24) & 0x1f,
            vlen: info & 0xffff,
            target: self.types.u32(at.saturating_add(8))?,
            at: at.saturating_add(TYPE_BYTES),
        })
    }

    /// Where the next type begins.
    fn after(&self, found: &Type) -> Result<usize, ObjectError> {
        let vlen = found.vlen as usize;
        let own = match found.kind {
            kind::INT | kind::VAR | kind::DECL_TAG => 4,
            kind::ARRAY => 12,
            kind::STRUCT | kind::UNION | kind::DATASEC | kind::ENUM64 => vlen * 12,
            kind::ENUM | kind::FUNC_PROTO => vlen * 8,
            kind::PTR
            | kind::FWD
            | kind::TYPEDEF
            | kind::VOLATILE
            | kind::CONST
            | kind::RESTRICT
            | kind::FUNC
            | kind::FLOAT
            | kind::TYPE_TAG => 0,
            other => return Err(self.damaged(&format!("type of unknown kind {other}"))),
        };
        let end = found.at.saturating_add(own);
        if end > self.types.len() {
            return Err(self.damaged("the last type goes past the end"));
        }
        Ok(end)
    }

    fn damaged(&self, what: &str) -> ObjectError {
        ObjectError::Damaged {
            what: format!(".BTF: {what}"),
        }
    }
}

/// Where CO-RE relocations are (`struct btf_ext_header`, `struct bpf_core_relo`; libbpf's `btf.c`).
#[derive(Debug, Default)]
pub(crate) struct CoreRelocations<'a> {
    /// Byte offsets of the instructions, by the names of their sections.
    by_section: BTreeMap<&'a str, Vec<u32>>,
}

impl<'a> CoreRelocations<'a> {
    /// Reads them from a `.BTF.ext` section.
    pub(crate) fn parse(
        bytes: &[u8],
        order: ByteOrder,
        btf: &Btf<'a>,
    ) -> Result<Self, ObjectError> {
        let mut found = Self::default();
        let file = Reader::new(bytes, order, ".BTF.ext");
        let header = Header::parse(&file)?;
        // Headers from before CO-RE end at 24.
        if header.len < 32 {
            return Ok(found);
        }
        let records = file.range(header.at(&file, 24)?, file.size(28)?)?;
        if records.len() == 0 {
            return Ok(found);
        }
        let size = records.size(0)?;
        if size < 4 {
            return Err(file.damaged(&format!("relocations of {size} bytes")));
        }
        let mut at = 4;
        // struct btf_ext_info_sec { sec_name_off, num_info, records }
        while at < records.len() {
            let section = btf.strings.string(records.size(at)?)?;
            let count = records.size(at.saturating_add(4))?;
            at = at.saturating_add(8);
            let end = count.saturating_mul(size).saturating_add(at);
            if end > records.len() {
                return Err(file.damaged(&format!("{count} relocations at {at}")));
            }
            let offsets = found.by_section.entry(section).or_default();
            while at < end {
                offsets.push(records.u32(at)?);
                at = at.saturating_add(size);
            }
        }
        for offsets in found.by_section.values_mut() {
            offsets.sort_unstable();
        }
        Ok(found)
    }

    /// Whether any is in that section, or in one of its parts (`.text.<function>`).
    pub(crate) fn any_in(&self, section: &str) -> bool {
        self.by_section.iter().any(|(name, offsets)| {
            let part = name.strip_prefix(section);
            part.is_some_and(|part| part.is_empty() || part.starts_with('.')) && !offsets.is_empty()
        })
    }

    /// Whether any is in that part of that section.
    pub(crate) fn any_at(&self, section: &str, range: Range<u64>) -> bool {
        self.by_section.get(section).is_some_and(|offsets| {
            let first = offsets.partition_point(|offset| u64::from(*offset) < range.start);
            offsets
                .get(first)
                .is_some_and(|offset| u64::from(*offset) < range.end)
        })
    }
}

/// What `.BTF` and `.BTF.ext` begin with: magic, version, flags, length of the header; offsets count from its end.
struct Header {
    len: usize,
}

impl Header {
    fn parse(file: &Reader<'_>) -> Result<Self, ObjectError> {
        let magic = file.u16(0)?;
        if magic != MAGIC {
            return Err(file.damaged(&format!("magic {magic:#06x}, not {MAGIC:#06x}")));
        }
        Ok(Self { len: file.size(4)? })
    }

    /// The place in the file of the offset that stands at `field`.
    fn at(&self, file: &Reader<'_>, field: usize) -> Result<usize, ObjectError> {
        Ok(self.len.saturating_add(file.size(field)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A `.BTF` without types whose strings are these.
    fn strings(text: &[u8], order: ByteOrder) -> Vec<u8> {
        let length = u32::try_from(text.len()).unwrap();
        [&header(&[24, 0, 0, 0, length], order), text].concat()
    }

    fn words(words: &[u32], order: ByteOrder) -> Vec<u8> {
        let word = |value: &u32| match order {
            ByteOrder::Little => value.to_le_bytes(),
            ByteOrder::Big => value.to_be_bytes(),
        };
        words.iter().flat_map(word).collect()
    }

    fn header(rest: &[u32], order: ByteOrder) -> Vec<u8> {
        let start: [u8; 4] = match order {
            ByteOrder::Little => [0x9f, 0xeb, 1, 0],
            ByteOrder::Big => [0xeb, 0x9f, 1, 0],
        };
        [start.as_slice(), &words(rest, order)].concat()
    }

    #[test]
    fn core_relocations() {
        let (xdp, text, part) = (1, 5, 11);
        let names = b"\0xdp\0.text\0.text.x\0";
        for order in [ByteOrder::Little, ByteOrder::Big] {
            let btf = strings(names, order);
            let btf = Btf::parse(&btf, order).unwrap();
            let parse = |length: u32, size: u32, records: &[u32]| {
                let head = header(&[length, 0, 0, 0, 0, 0, size], order);
                let bytes = [head, words(records, order)].concat();
                CoreRelocations::parse(&bytes, order, &btf)
            };
            let found = parse(32, 40, &[8, xdp, 2, 48, 0, 8, 0, text, 1, 0, 0]).unwrap_err();
            assert!(found.to_string().contains("relocations at"), "{found}");
            let found = parse(32, 44, &[8, xdp, 2, 48, 0, 8, 0, text, 1, 0, 0]).unwrap();
            let table = [
                ("xdp", 0..8, false),
                ("xdp", 8..16, true),
                ("xdp", 9..48, false),
                ("xdp", 48..49, true),
                ("xdp", 49..u64::MAX, false),
                ("tc", 0..u64::MAX, false),
            ];
            for (section, range, expected) in table {
                let what = format!("{section} {range:?}");
                assert_eq!(found.any_at(section, range), expected, "{what}");
            }
            assert!(found.any_in(".text") && !found.any_in(".tex") && !found.any_in("tc"));
            let found = parse(32, 20, &[8, part, 1, 0, 0]).unwrap();
            assert!(found.any_in(".text") && !found.any_in("xdp"));
            // None, by an old header, no bytes, and no sections.
            for (length, size) in [(24, 44), (32, 0), (32, 4)] {
                let found = parse(length, size, &[8]).unwrap();
                assert!(found.by_section.is_empty(), "{length} {size}");
            }
            // Records of no size, more records than there are, a name that is none, a part of a word.
            for (size, records) in [
                (12, vec![0, xdp, 1]),
                (20, vec![8, xdp, u32::MAX, 0, 0]),
                (20, vec![8, 99, 1, 0, 0]),
                (5, vec![8, xdp]),
                (u32::MAX, vec![8]),
            ] {
                assert!(parse(32, size, &records).is_err(), "{size} {records:?}");
            }
        }
        let swapped = header(&[32, 0, 0, 0, 0, 0, 0], ByteOrder::Little);
        let btf = strings(names, ByteOrder::Big);
        let btf = Btf::parse(&btf, ByteOrder::Big).unwrap();
        assert!(CoreRelocations::parse(&swapped, ByteOrder::Big, &btf).is_err());
    }
}
