//! The copy: headers changed in place, what grows put at the file's end.

use std::collections::{BTreeMap, BTreeSet};

use object::elf;

use super::btf::{Btf, Keep, filter_ext};
use super::elf::{Object, Role, SECTION_HEADER_BYTES, Section};
use super::externs::Resolved;
use super::reach::{Ranges, Reached};
use super::{MAX_BSS_BYTES, NormaliseError};

/// Writes the file with only the functions that are reached.
pub(super) fn rewrite(
    object: &Object<'_>,
    reached: &Reached,
    resolved: &BTreeMap<String, Resolved>,
) -> Result<Vec<u8>, NormaliseError> {
    let (sites, reached) = (&reached.sites, &reached.ranges);
    let kept: Vec<bool> = keep(object, reached);
    check_sizes(object, &kept)?;
    let mut copy = Copy {
        out: object.bytes.to_vec(),
        names: Vec::new(),
        headers_at: object.headers_at,
        object,
    };
    copy.names.extend_from_slice(
        object
            .sections
            .get(object.names_section)
            .map(|section| section.data)
            .unwrap_or_default(),
    );
    let names_before = copy.names.len();
    copy.externs(sites, resolved)?;

    let mut renamed = BTreeMap::new();
    for (index, section) in object.sections.iter().enumerate().skip(1) {
        if kept.get(index).copied().unwrap_or_default() {
            if section.role() == Role::Programs && !aya_reads(section.name) {
                // Any word that aya knows will do, it only has to be the only one of its name.
                let name = format!("tp/{index}/{}", section.name);
                copy.rename(index, &name)?;
                renamed.insert(section.name, name);
            }
        } else if section.role() != Role::Tables {
            copy.set_aside(index)?;
        }
    }
    copy.hide_functions(reached, &kept)?;
    copy.btf(reached, &kept, &renamed)?;
    if copy.names.len() > names_before {
        let names = std::mem::take(&mut copy.names);
        copy.replace(object.names_section, &names)?;
        // Where the symbols' names are in the same table, they stay where they were in it.
    }
    Ok(copy.out)
}

/// Whether a name is enough for aya to take a section for one of data, maps, text…, whatever is in it
/// (`EbpfSectionKind::from_name` of aya-obj 0.3).
fn aya_takes(name: &str) -> bool {
    let words = [
        "license", "version", "maps", ".maps", ".text", ".bss", ".data", ".rodata", ".BTF",
    ];
    words.iter().any(|word| name.starts_with(word))
}

/// Whether aya takes a section of that name for one of programs.
fn aya_reads(name: &str) -> bool {
    !aya_takes(name) && name.parse::<aya_obj::ProgramSection>().is_ok()
}

fn keep(object: &Object<'_>, reached: &Ranges) -> Vec<bool> {
    let keep = |index: usize, section: &Section<'_>| match section.role() {
        Role::Programs => reached.contains_key(&index),
        Role::Text | Role::Named => true,
        Role::Data => section.size > 0,
        Role::Tables | Role::Relocations | Role::Other => false,
    };
    let mut kept: Vec<bool> = object
        .sections
        .iter()
        .enumerate()
        .map(|(index, section)| keep(index, section))
        .collect();
    for (index, section) in object.sections.iter().enumerate() {
        let target = object.sections.get(section.info).map(Section::role);
        if section.role() == Role::Relocations
            && matches!(target, Some(Role::Programs | Role::Text))
        {
            let of_kept = kept.get(section.info).copied().unwrap_or_default();
            if let Some(entry) = kept.get_mut(index) {
                *entry = of_kept;
            }
        }
    }
    kept
}

/// aya copies every section that is kept, so together they may not be larger than the file that they come from.
fn check_sizes(object: &Object<'_>, kept: &[bool]) -> Result<(), NormaliseError> {
    let mut bytes: u64 = 0;
    let mut bss: u64 = 0;
    for (section, _) in object.sections.iter().zip(kept).filter(|(_, kept)| **kept) {
        bytes = bytes.saturating_add(section.data.len() as u64);
        if section.kind == elf::SHT_NOBITS {
            bss = bss.saturating_add(section.size);
        }
    }
    if bytes > object.bytes.len() as u64 {
        return Err(NormaliseError::Damaged {
            what: "sections that lie over each other",
        });
    }
    if bss > MAX_BSS_BYTES {
        return Err(NormaliseError::TooMany {
            what: "bytes of .bss",
            found: bss,
            limit: MAX_BSS_BYTES,
        });
    }
    Ok(())
}

pub(super) struct Copy<'o, 'a> {
    pub(super) object: &'o Object<'a>,
    pub(super) out: Vec<u8>,
    /// Names of the sections, new ones at the end.
    pub(super) names: Vec<u8>,
    /// Where the section headers begin.
    pub(super) headers_at: usize,
}

impl Copy<'_, '_> {
    /// Makes a section nothing to aya. Its size stays: BTF may describe it.
    fn set_aside(&mut self, section: usize) -> Result<(), NormaliseError> {
        self.set_u32(section, 4, elf::SHT_NOBITS.0)?;
        self.set_u64(section, 8, 0)?;
        let name = self
            .object
            .sections
            .get(section)
            .map(|section| section.name)
            .unwrap_or_default();
        if aya_takes(name) {
            self.rename(section, "")?;
        }
        Ok(())
    }

    fn rename(&mut self, section: usize, name: &str) -> Result<(), NormaliseError> {
        let at = u32::try_from(self.names.len()).map_err(|_| OUTSIDE)?;
        self.names.extend_from_slice(name.as_bytes());
        self.names.push(0);
        self.set_u32(section, 0, at)
    }

    /// Gives a section other contents, at the file's end.
    fn replace(&mut self, section: usize, data: &[u8]) -> Result<(), NormaliseError> {
        let at = self.append(data);
        self.set_u64(section, 24, at as u64)?;
        self.set_u64(section, 32, data.len() as u64)
    }

    /// Puts bytes at the file's end and says where.
    pub(super) fn append(&mut self, data: &[u8]) -> usize {
        let aligned = self.out.len().next_multiple_of(16);
        self.out.resize(aligned, 0);
        self.out.extend_from_slice(data);
        aligned
    }

    /// Programs that nobody asked for, in the section of one that somebody did: no functions any more.
    fn hide_functions(&mut self, reached: &Ranges, kept: &[bool]) -> Result<(), NormaliseError> {
        let object = self.object;
        for symbol in object
            .symbols
            .iter()
            .filter(|symbol| symbol.kind == elf::STT_FUNC)
        {
            let Some(index) = symbol.section else {
                continue;
            };
            let programs = object.sections.get(index).map(Section::role) == Some(Role::Programs);
            if !programs || !kept.get(index).copied().unwrap_or_default() {
                continue;
            }
            let wanted = |ranges: &BTreeSet<(u64, u64)>| {
                ranges.iter().any(|&(start, _)| start == symbol.value)
            };
            if !reached.get(&index).is_some_and(wanted) {
                let info = self
                    .out
                    .get_mut(symbol.at.saturating_add(4))
                    .ok_or(OUTSIDE)?;
                // The lower half is the type: STT_NOTYPE.
                *info &= 0xf0;
            }
        }
        Ok(())
    }

    fn btf(
        &mut self,
        reached: &Ranges,
        kept: &[bool],
        renamed: &BTreeMap<&str, String>,
    ) -> Result<(), NormaliseError> {
        let object = self.object;
        let named = |name: &str| {
            let mut sections = object.sections.iter().enumerate();
            sections.find(|(_, section)| section.name == name && section.role() == Role::Named)
        };
        let Some((btf_index, section)) = named(".BTF") else {
            return Ok(());
        };
        let mut btf = Btf::parse(section.data, object.endian)?;
        btf.defuse(|name| {
            let mut sections = object.sections.iter();
            sections.any(|section| section.name.as_bytes() == name && section.size > 0)
        })?;
        btf.complete_sections(object)?;
        btf.mark_hidden_functions(object)?;
        if let Some((ext_index, ext)) = named(".BTF.ext") {
            let mut keep = BTreeMap::new();
            for (index, section) in object.sections.iter().enumerate() {
                let programs = section.role() == Role::Programs;
                if !kept.get(index).copied().unwrap_or_default()
                    || !(programs || section.role() == Role::Text)
                {
                    continue;
                }
                let name = match renamed.get(section.name) {
                    Some(name) if programs => Some(btf.add(name)?),
                    _ => None,
                };
                let ranges = if programs { reached.get(&index) } else { None };
                keep.entry(section.name).or_insert(Keep { ranges, name });
            }
            let ext = filter_ext(ext.data, &btf, &keep)?;
            self.replace(ext_index, &ext)?;
        }
        if let Some(data) = btf.changed() {
            self.replace(btf_index, &data)?;
        }
        Ok(())
    }

    pub(super) fn u16(&self, value: u16) -> [u8; 2] {
        match self.object.endian {
            object::Endianness::Little => value.to_le_bytes(),
            object::Endianness::Big => value.to_be_bytes(),
        }
    }

    pub(super) fn u32(&self, value: u32) -> [u8; 4] {
        match self.object.endian {
            object::Endianness::Little => value.to_le_bytes(),
            object::Endianness::Big => value.to_be_bytes(),
        }
    }

    pub(super) fn u64(&self, value: u64) -> [u8; 8] {
        match self.object.endian {
            object::Endianness::Little => value.to_le_bytes(),
            object::Endianness::Big => value.to_be_bytes(),
        }
    }

    fn set_u32(&mut self, section: usize, field: usize, value: u32) -> Result<(), NormaliseError> {
        self.set(section, field, &self.u32(value))
    }

    fn set_u64(&mut self, section: usize, field: usize, value: u64) -> Result<(), NormaliseError> {
        self.set(section, field, &self.u64(value))
    }

    fn set(&mut self, section: usize, field: usize, value: &[u8]) -> Result<(), NormaliseError> {
        let at = section
            .checked_mul(SECTION_HEADER_BYTES)
            .and_then(|offset| offset.checked_add(self.headers_at)?.checked_add(field));
        self.put(at.ok_or(OUTSIDE)?, value)
    }

    /// Writes over what stands there.
    pub(super) fn put(&mut self, at: usize, value: &[u8]) -> Result<(), NormaliseError> {
        let end = at.checked_add(value.len()).ok_or(OUTSIDE)?;
        let place = self.out.get_mut(at..end).ok_or(OUTSIDE)?;
        place.copy_from_slice(value);
        Ok(())
    }
}

pub(super) const OUTSIDE: NormaliseError = NormaliseError::Damaged {
    what: "a header outside of the file",
};
