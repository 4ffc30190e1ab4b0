//! `.BTF` and `.BTF.ext` (`Documentation/bpf/btf.rst`), as far as leaving programs out and renaming sections changes
//! them.

use std::collections::BTreeMap;

pub(super) use bytecode_object::btf::kind;
use object::Endianness;

use super::{NormaliseError, map_extra};

/// `magic version flags hdr_len type_off type_len str_off str_len`.
pub(super) const HEADER_BYTES: usize = 24;
/// `magic version flags hdr_len` and offset and length of the function, line and CO-RE parts.
const EXT_HEADER_BYTES: usize = 32;
/// Bytes of a `struct btf_type` without what follows it.
pub(super) const TYPE_BYTES: usize = 12;

/// `BTF_VAR_GLOBAL_EXTERN` and `BTF_FUNC_EXTERN`.
const EXTERN: u32 = 2;

/// Numbers in the byte order of the file.
#[derive(Clone, Copy)]
pub(super) struct Words(pub(super) Endianness);

impl Words {
    pub(super) fn get(self, bytes: &[u8], at: usize) -> Result<u32, NormaliseError> {
        let bytes = at.checked_add(4).and_then(|end| bytes.get(at..end));
        let bytes: [u8; 4] = bytes
            .and_then(|bytes| bytes.try_into().ok())
            .ok_or(DAMAGED)?;
        Ok(match self.0 {
            Endianness::Little => u32::from_le_bytes(bytes),
            Endianness::Big => u32::from_be_bytes(bytes),
        })
    }

    fn bytes(self, value: u32) -> [u8; 4] {
        match self.0 {
            Endianness::Little => value.to_le_bytes(),
            Endianness::Big => value.to_be_bytes(),
        }
    }

    pub(super) fn set(self, bytes: &mut [u8], at: usize, value: u32) -> Result<(), NormaliseError> {
        let place = at
            .checked_add(4)
            .and_then(|end| bytes.get_mut(at..end))
            .ok_or(DAMAGED)?;
        place.copy_from_slice(&self.bytes(value));
        Ok(())
    }

    pub(super) fn push(self, bytes: &mut Vec<u8>, value: u32) {
        bytes.extend_from_slice(&self.bytes(value));
    }
}

/// A `.BTF` section that is being changed.
pub(super) struct Btf {
    pub(super) words: Words,
    /// `magic`, `version` and `flags`.
    start: Vec<u8>,
    pub(super) types: Vec<u8>,
    strings: Vec<u8>,
    /// Length of the strings in the file.
    strings_before: usize,
    /// Whether the types were changed.
    pub(super) types_changed: bool,
}

impl Btf {
    /// A section without types, in this machine's byte order.
    pub(super) fn empty() -> Self {
        let mut start = 0xeb9f_u16.to_ne_bytes().to_vec();
        start.extend([1, 0]);
        Self {
            words: Words(Endianness::default()),
            start,
            types: Vec::new(),
            strings: vec![0],
            strings_before: 1,
            types_changed: false,
        }
    }

    pub(super) fn parse(data: &[u8], endian: Endianness) -> Result<Self, NormaliseError> {
        let words = Words(endian);
        let header = words.get(data, 4)? as usize;
        let part = |offset: usize, length: usize| -> Result<Vec<u8>, NormaliseError> {
            let start = header
                .checked_add(words.get(data, offset)? as usize)
                .ok_or(DAMAGED)?;
            let end = start
                .checked_add(words.get(data, length)? as usize)
                .ok_or(DAMAGED)?;
            Ok(data.get(start..end).ok_or(DAMAGED)?.to_vec())
        };
        let strings = part(16, 20)?;
        if strings.last().is_some_and(|&last| last != 0) {
            return Err(DAMAGED);
        }
        Ok(Self {
            words,
            start: data.get(..4).ok_or(DAMAGED)?.to_vec(),
            types: part(8, 12)?,
            strings_before: strings.len(),
            strings,
            types_changed: false,
        })
    }

    /// Adds a string, gives its offset.
    pub(super) fn add(&mut self, string: &str) -> Result<u32, NormaliseError> {
        let at = u32::try_from(self.strings.len()).map_err(|_| DAMAGED)?;
        self.strings.extend_from_slice(string.as_bytes());
        self.strings.push(0);
        Ok(at)
    }

    /// Appends a type: its name, `info` and `size`/`type`, then the words of its kind.
    pub(super) fn push_type(&mut self, words: &[u32]) {
        for &word in words {
            self.words.push(&mut self.types, word);
        }
        self.types_changed = true;
    }

    pub(super) fn string(&self, at: u32) -> Result<&[u8], NormaliseError> {
        let rest = self.strings.get(at as usize..).ok_or(DAMAGED)?;
        let end = rest.iter().position(|&byte| byte == 0).ok_or(DAMAGED)?;
        rest.get(..end).ok_or(DAMAGED)
    }

    /// Makes the types of externs (`.ksyms`, `.kconfig`) such as the kernel takes: it has no word for an extern
    /// variable or function, and aya none for a data section that the ELF file does not have. Entries of program
    /// arrays and `map_extra` of 64 bits, which stop aya, lose their names. Each type keeps its number and length. What
    /// is wanted of all these was read before, so nothing reads them again.
    pub(super) fn defuse(
        &mut self,
        has_section: impl Fn(&[u8]) -> bool,
    ) -> Result<(), NormaliseError> {
        // By type number; 0 is `void`.
        let mut places = vec![None];
        let mut sections = Vec::new();
        let mut values = Vec::new();
        let mut extra_members = Vec::new();
        let mut at = 0;
        while at < self.types.len() {
            let name = self.words.get(&self.types, at)?;
            let info = self.words.get(&self.types, at + 4)?;
            let (kind, length) = ((info >> 24) & 0x1f, info & 0xffff);
            let extra = at + TYPE_BYTES;
            places.push(Some(at));
            match kind {
                kind::FUNC if length == EXTERN => {
                    self.words.set(&mut self.types, at + 4, kind::FUNC << 24)?;
                    self.types_changed = true;
                }
                kind::VAR if self.words.get(&self.types, extra)? == EXTERN => {
                    // An `int` of 32 bits: as long as a variable, and needs no other type.
                    self.words.set(&mut self.types, at + 4, kind::INT << 24)?;
                    self.words.set(&mut self.types, at + 8, 4)?;
                    self.words.set(&mut self.types, extra, 32)?;
                    self.types_changed = true;
                }
                kind::DATASEC if !has_section(self.string(name)?) => sections.push((at, length)),
                kind::STRUCT => {
                    for member in (extra..).step_by(12).take(length as usize) {
                        match self.string(self.words.get(&self.types, member)?)? {
                            b"values" => values.push(member),
                            name if name == map_extra::MEMBER => extra_members.push(member),
                            _ => {}
                        }
                    }
                }
                _ => {}
            }
            at = extra.checked_add(payload(kind, length)?).ok_or(DAMAGED)?;
        }
        for (at, length) in sections {
            // Names and values of an enum stand where types, offsets and sizes of variables stood.
            self.words.set(&mut self.types, at, 0)?;
            self.words
                .set(&mut self.types, at + 4, (kind::ENUM64 << 24) | length)?;
            self.words.set(&mut self.types, at + 8, 8)?;
            for entry in (at + TYPE_BYTES..).step_by(12).take(length as usize) {
                let id = self.words.get(&self.types, entry)? as usize;
                let named = places.get(id).copied().flatten().ok_or(DAMAGED)?;
                let name = self.words.get(&self.types, named)?;
                self.words.set(&mut self.types, entry, name)?;
                self.words.set(&mut self.types, entry + 4, 0)?;
                self.words.set(&mut self.types, entry + 8, 0)?;
            }
            self.types_changed = true;
        }
        for member in extra_members {
            let id = self.words.get(&self.types, member + 4)? as usize;
            let Some(at) = places.get(id).copied().flatten() else {
                continue;
            };
            let kind = (self.words.get(&self.types, at + 4)? >> 24) & 0x1f;
            if matches!(kind, kind::ENUM | kind::ENUM64) {
                self.words.set(&mut self.types, member, 0)?;
                self.types_changed = true;
            }
        }
        for member in values {
            if self.leads_to_functions(&places, member)? {
                self.words.set(&mut self.types, member, 0)?;
                self.types_changed = true;
            }
        }
        Ok(())
    }

    /// Whether a member is an array of pointers to functions: entries of a program array. aya knows `values` for maps
    /// of maps only.
    fn leads_to_functions(
        &self,
        places: &[Option<usize>],
        member: usize,
    ) -> Result<bool, NormaliseError> {
        let mut id = self.words.get(&self.types, member + 4)?;
        // Member → array → pointer → function.
        for (kind, next) in [
            (kind::ARRAY, TYPE_BYTES),
            (kind::PTR, 8),
            (kind::FUNC_PROTO, 8),
        ] {
            let Some(at) = places.get(id as usize).copied().flatten() else {
                return Ok(false);
            };
            if (self.words.get(&self.types, at + 4)? >> 24) & 0x1f != kind {
                return Ok(false);
            }
            id = self.words.get(&self.types, at + next)?;
        }
        Ok(true)
    }

    /// The section, when it differs from the one in the file.
    pub(super) fn changed(&self) -> Option<Vec<u8>> {
        if !self.types_changed && self.strings.len() == self.strings_before {
            return None;
        }
        let length = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let mut out = self.start.clone();
        for field in [
            HEADER_BYTES as u32,
            0,
            length(&self.types),
            length(&self.types),
            length(&self.strings),
        ] {
            self.words.push(&mut out, field);
        }
        out.extend_from_slice(&self.types);
        out.extend_from_slice(&self.strings);
        Some(out)
    }
}

/// What follows a `struct btf_type`, in bytes.
pub(super) fn payload(kind: u32, length: u32) -> Result<usize, NormaliseError> {
    let length = length as usize;
    Ok(match kind {
        kind::INT | kind::VAR | kind::DECL_TAG => 4,
        kind::ARRAY => 12,
        kind::STRUCT | kind::UNION | kind::DATASEC | kind::ENUM64 => 12 * length,
        kind::ENUM | kind::FUNC_PROTO => 8 * length,
        1..=19 => 0,
        _ => return Err(DAMAGED),
    })
}

/// What is to be left of a section in `.BTF.ext`.
pub(super) struct Keep<'a> {
    /// Functions, as byte ranges; `None` for all.
    pub(super) ranges: Option<&'a std::collections::BTreeSet<(u64, u64)>>,
    /// Offset of the section's new name in the strings, where it gets one.
    pub(super) name: Option<u32>,
}

/// Leaves in `.BTF.ext` only the records of the sections and functions to keep.
pub(super) fn filter_ext(
    data: &[u8],
    btf: &Btf,
    keep: &BTreeMap<&str, Keep<'_>>,
) -> Result<Vec<u8>, NormaliseError> {
    let words = btf.words;
    let header = words.get(data, 4)? as usize;
    let mut out = data.get(..4).ok_or(DAMAGED)?.to_vec();
    words.push(&mut out, EXT_HEADER_BYTES as u32);
    out.resize(EXT_HEADER_BYTES, 0);
    // Function and line records; each begins with the instruction that it is for. CO-RE relocations are applied without
    // aya, and left out.
    for (field, shortest) in [(8, 8), (16, 16)] {
        if header < field + 8 {
            break;
        }
        let start = header
            .checked_add(words.get(data, field)? as usize)
            .ok_or(DAMAGED)?;
        let length = words.get(data, field + 4)? as usize;
        let part = start
            .checked_add(length)
            .and_then(|end| data.get(start..end))
            .ok_or(DAMAGED)?;
        let at = out.len();
        if length > 0 {
            filter_part(part, shortest, btf, keep, &mut out)?;
        }
        // Offsets count from the header's end.
        let offset = u32::try_from(at - EXT_HEADER_BYTES).map_err(|_| DAMAGED)?;
        let length = u32::try_from(out.len() - at).map_err(|_| DAMAGED)?;
        words.set(&mut out, field, offset)?;
        words.set(&mut out, field + 4, length)?;
    }
    Ok(out)
}

fn filter_part(
    part: &[u8],
    shortest: usize,
    btf: &Btf,
    keep: &BTreeMap<&str, Keep<'_>>,
    out: &mut Vec<u8>,
) -> Result<(), NormaliseError> {
    let words = btf.words;
    let size = words.get(part, 0)? as usize;
    if size < shortest || !size.is_multiple_of(4) {
        return Err(DAMAGED);
    }
    let before = out.len();
    words.push(out, size as u32);
    let mut rest = part.get(4..).ok_or(DAMAGED)?;
    while !rest.is_empty() {
        let name = words.get(rest, 0)?;
        let records = size
            .checked_mul(words.get(rest, 4)? as usize)
            .ok_or(DAMAGED)?;
        rest = rest.get(8..).ok_or(DAMAGED)?;
        let (records, after) = rest.split_at_checked(records).ok_or(DAMAGED)?;
        rest = after;
        let section = std::str::from_utf8(btf.string(name)?).map_err(|_| DAMAGED)?;
        let Some(keep) = keep.get(section) else {
            continue;
        };
        let at = out.len();
        words.push(out, keep.name.unwrap_or(name));
        words.push(out, 0);
        let mut count = 0;
        for record in records.chunks_exact(size) {
            let offset = u64::from(words.get(record, 0)?);
            let kept = |ranges: &std::collections::BTreeSet<(u64, u64)>| {
                let before = ranges.range(..=(offset, u64::MAX)).next_back();
                before.is_some_and(|&(_, end)| offset < end)
            };
            if keep.ranges.is_none_or(kept) {
                out.extend_from_slice(record);
                count += 1;
            }
        }
        if count == 0 {
            // The kernel and aya want no empty section here.
            out.truncate(at);
        } else {
            words.set(out, at + 4, count)?;
        }
    }
    if out.len() == before + 4 {
        out.truncate(before);
    }
    Ok(())
}

pub(super) const DAMAGED: NormaliseError = NormaliseError::Damaged {
    what: "BTF that contradicts its own sizes",
};
