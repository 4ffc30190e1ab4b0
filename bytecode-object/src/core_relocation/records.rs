//! Where CO-RE relocations are (`struct btf_ext_header`, `struct bpf_core_relo` of `include/uapi/linux/bpf.h`).

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

use super::CoreReason;
use crate::btf::{Btf, Header};
use crate::reader::Reader;
use crate::{ByteOrder, ObjectError};

/// `enum bpf_core_relo_kind`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RelocationKind {
    FieldByteOffset,
    FieldByteSize,
    FieldExists,
    FieldSigned,
    FieldLshiftU64,
    FieldRshiftU64,
    TypeIdLocal,
    TypeIdTarget,
    TypeExists,
    TypeSize,
    EnumvalExists,
    EnumvalValue,
    TypeMatches,
}

impl RelocationKind {
    pub(super) fn from_number(number: u32) -> Result<Self, CoreReason> {
        Ok(match number {
            0 => Self::FieldByteOffset,
            1 => Self::FieldByteSize,
            2 => Self::FieldExists,
            3 => Self::FieldSigned,
            4 => Self::FieldLshiftU64,
            5 => Self::FieldRshiftU64,
            6 => Self::TypeIdLocal,
            7 => Self::TypeIdTarget,
            8 => Self::TypeExists,
            9 => Self::TypeSize,
            10 => Self::EnumvalExists,
            11 => Self::EnumvalValue,
            12 => Self::TypeMatches,
            kind => return Err(CoreReason::UnknownKind { kind }),
        })
    }

    pub(super) fn is_type(self) -> bool {
        use RelocationKind::*;
        matches!(
            self,
            TypeIdLocal | TypeIdTarget | TypeExists | TypeSize | TypeMatches
        )
    }

    pub(super) fn is_enumval(self) -> bool {
        matches!(self, Self::EnumvalExists | Self::EnumvalValue)
    }
}

/// One `struct bpf_core_relo`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Record {
    /// Of its instruction in the section, in bytes.
    pub(super) offset: u32,
    /// Type of the object that it is about.
    pub(super) type_id: u32,
    /// Of the access string (`0:1:2`) in the strings of `.BTF`.
    pub(super) access: u32,
    /// `enum bpf_core_relo_kind`.
    pub(super) kind: u32,
}

/// Bytes of a record.
const RECORD_BYTES: usize = 16;

/// All of an object.
#[derive(Debug, Clone, Default)]
pub(crate) struct Records<'a> {
    /// By the names of their sections, in the order of the file.
    pub(super) sections: Vec<(&'a str, Vec<Record>)>,
}

impl<'a> Records<'a> {
    /// Reads a `.BTF.ext` section.
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
        let part = file.range(header.at(&file, 24)?, file.size(28)?)?;
        if part.len() == 0 {
            return Ok(found);
        }
        let size = part.size(0)?;
        if size < RECORD_BYTES {
            return Err(file.damaged(&format!("relocations of {size} bytes")));
        }
        let mut at = 4;
        let mut places = HashMap::new();
        // struct btf_ext_info_sec { sec_name_off, num_info, records }
        while at < part.len() {
            let section = btf.text(part.u32(at)?)?;
            let count = part.size(at.saturating_add(4))?;
            at = at.saturating_add(8);
            let end = count.saturating_mul(size).saturating_add(at);
            if end > part.len() {
                return Err(file.damaged(&format!("{count} relocations at {at}")));
            }
            let sections = &mut found.sections;
            let place = *places.entry(section).or_insert(sections.len());
            if place == sections.len() {
                sections.push((section, Vec::new()));
            }
            while at < end {
                let record = Record {
                    offset: part.u32(at)?,
                    type_id: part.u32(at.saturating_add(4))?,
                    access: part.u32(at.saturating_add(8))?,
                    kind: part.u32(at.saturating_add(12))?,
                };
                if let Some((_, records)) = sections.get_mut(place) {
                    records.push(record);
                }
                at = at.saturating_add(size);
            }
        }
        found.sections.retain(|(_, records)| !records.is_empty());
        Ok(found)
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Record> {
        self.sections.iter().flat_map(|(_, records)| records)
    }

    /// Where they are.
    pub(crate) fn offsets(&self) -> Offsets<'a> {
        let mut by_section = BTreeMap::new();
        for (section, records) in &self.sections {
            let mut offsets: Vec<u32> = records.iter().map(|record| record.offset).collect();
            offsets.sort_unstable();
            by_section.insert(*section, offsets);
        }
        Offsets { by_section }
    }
}

/// Byte offsets of the instructions that have relocations, by the names of their sections.
#[derive(Debug, Default)]
pub(crate) struct Offsets<'a> {
    by_section: BTreeMap<&'a str, Vec<u32>>,
}

impl Offsets<'_> {
    /// Whether any is in that section, or in one of its parts (`.text.<function>`).
    pub(crate) fn any_in(&self, section: &str) -> bool {
        self.by_section.keys().any(|name| {
            let part = name.strip_prefix(section);
            part.is_some_and(|part| part.is_empty() || part.starts_with('.'))
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
                Records::parse(&bytes, order, &btf)
            };
            let record = |offset| [offset, 0, 0, 0];
            let two = [
                &[16, xdp, 2][..],
                &record(48),
                &record(8),
                &[text, 1],
                &record(0),
            ]
            .concat();
            let found = parse(32, 64, &two).unwrap_err();
            assert!(found.to_string().contains("relocations at"), "{found}");
            let found = parse(32, 68, &two).unwrap();
            let offsets: Vec<u32> = found.all().map(|record| record.offset).collect();
            assert_eq!(offsets, [48, 8, 0], "the order of the file");
            let found = found.offsets();
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
            let one = [&[16, part, 1][..], &record(0)].concat();
            let found = parse(32, 28, &one).unwrap().offsets();
            assert!(found.any_in(".text") && !found.any_in("xdp"));
            // None, by an old header, no bytes, and no sections.
            for (length, size) in [(24, 44), (32, 0), (32, 4)] {
                let found = parse(length, size, &[16]).unwrap();
                assert!(found.sections.is_empty(), "{length} {size}");
            }
            // Records of no size, more records than there are, a name that is none, a part of a word.
            for (size, records) in [
                (12, vec![0, xdp, 1]),
                (20, vec![8, xdp, 1, 0, 0]),
                (28, vec![16, xdp, u32::MAX, 0, 0, 0, 0]),
                (28, vec![16, 99, 1, 0, 0, 0, 0]),
                (5, vec![16, xdp]),
                (u32::MAX, vec![16]),
            ] {
                assert!(parse(32, size, &records).is_err(), "{size} {records:?}");
            }
        }
        let swapped = header(&[32, 0, 0, 0, 0, 0, 0], ByteOrder::Little);
        let btf = strings(names, ByteOrder::Big);
        let btf = Btf::parse(&btf, ByteOrder::Big).unwrap();
        assert!(Records::parse(&swapped, ByteOrder::Big, &btf).is_err());
    }
}
