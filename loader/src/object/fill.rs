//! Puts what the kernel says of externs into the copy of an object.

use std::collections::BTreeMap;

use object::elf;

use super::elf::SECTION_HEADER_BYTES;
use super::externs::Resolved;
use super::reach::Site;
use super::rewrite::{Copy, OUTSIDE};
use super::{CONFIG_SECTION, NormaliseError};

/// `BPF_LD | BPF_IMM | BPF_DW`, which takes two instructions.
const LOAD_64: u8 = 0x18;
/// Source registers (`include/uapi/linux/bpf.h`).
const PSEUDO_KFUNC_CALL: u8 = 2;
const PSEUDO_BTF_ID: u8 = 3;
/// A helper that no kernel has: the verifier refuses the call, where it can be reached. libbpf's number.
const POISON: u32 = 2_002_000_000;
/// Fields of the ELF header.
const E_SHOFF: usize = 0x28;
const E_SHNUM: usize = 0x3c;

impl Copy<'_, '_> {
    /// Fills in every extern that was reached.
    pub(super) fn externs(
        &mut self,
        sites: &[Site],
        resolved: &BTreeMap<String, Resolved>,
    ) -> Result<(), NormaliseError> {
        let mut values = BTreeMap::new();
        for site in sites {
            let symbol = self.object.symbols.get(site.symbol).ok_or(OUTSIDE)?;
            let missing = || NormaliseError::Extern {
                function: site.function.clone(),
                symbol: symbol.name.to_owned(),
            };
            match resolved.get(symbol.name) {
                None if symbol.weak && !site.calls => {}
                None => return Err(missing()),
                Some(Resolved::Value(_) | Resolved::Address(_)) if site.calls => {
                    return Err(missing());
                }
                Some(Resolved::Value(value)) => {
                    values.insert(site.symbol, value.as_slice());
                }
                Some(Resolved::Address(address)) => {
                    self.load(site, 0, (*address as u32, (*address >> 32) as u32))?;
                }
                Some(Resolved::KernelType(id)) if site.calls => {
                    self.call(site, PSEUDO_KFUNC_CALL, *id)?;
                }
                Some(Resolved::KernelType(id)) => self.load(site, PSEUDO_BTF_ID, (*id, 0))?,
                Some(Resolved::Missing) if site.calls => self.call(site, 0, POISON)?,
                Some(Resolved::Missing) => self.load(site, 0, (0, 0))?,
            }
        }
        if values.is_empty() {
            return Ok(());
        }
        self.config(&values)
    }

    /// Gives values of the configuration a section, so that they become a map like other constants.
    fn config(&mut self, values: &BTreeMap<usize, &[u8]>) -> Result<(), NormaliseError> {
        let mut data = Vec::new();
        let mut places = Vec::new();
        for (&symbol, value) in values {
            data.resize(data.len().next_multiple_of(8), 0);
            places.push((symbol, data.len(), value.len()));
            data.extend_from_slice(value);
        }
        let section = self.add_section(CONFIG_SECTION, &data)?;
        for (symbol, offset, size) in places {
            let at = self.object.symbols.get(symbol).ok_or(OUTSIDE)?.at;
            let info = self.out.get_mut(at.saturating_add(4)).ok_or(OUTSIDE)?;
            *info = (*info & 0xf0) | elf::STT_OBJECT.0;
            self.put(at.saturating_add(6), &self.u16(section))?;
            self.put(at.saturating_add(8), &self.u64(offset as u64))?;
            self.put(at.saturating_add(16), &self.u64(size as u64))?;
        }
        Ok(())
    }

    /// A section more, with constants in it. The table of sections moves to the file's end.
    fn add_section(&mut self, name: &str, data: &[u8]) -> Result<u16, NormaliseError> {
        let number = self.object.sections.len();
        let count = u16::try_from(number + 1)
            .ok()
            .filter(|count| *count < elf::SHN_LORESERVE)
            .ok_or(NormaliseError::TooMany {
                what: "sections",
                found: number as u64,
                limit: u64::from(elf::SHN_LORESERVE) - 2,
            })?;
        let length = number.checked_mul(SECTION_HEADER_BYTES).ok_or(OUTSIDE)?;
        let end = self.headers_at.checked_add(length).ok_or(OUTSIDE)?;
        let table = self.out.get(self.headers_at..end).ok_or(OUTSIDE)?.to_vec();
        let data_at = self.append(data);
        let at = self.append(&table);
        let name_at = u32::try_from(self.names.len()).map_err(|_| OUTSIDE)?;
        self.names.extend_from_slice(name.as_bytes());
        self.names.push(0);
        let mut header = Vec::with_capacity(SECTION_HEADER_BYTES);
        header.extend_from_slice(&self.u32(name_at));
        header.extend_from_slice(&self.u32(elf::SHT_PROGBITS.0));
        // Flags, address, offset, size; link and info; alignment, size of an entry.
        for field in [
            elf::SHF_ALLOC.0,
            0,
            data_at as u64,
            data.len() as u64,
            0,
            8,
            0,
        ] {
            header.extend_from_slice(&self.u64(field));
        }
        self.out.extend_from_slice(&header);
        self.headers_at = at;
        self.put(E_SHOFF, &self.u64(at as u64))?;
        self.put(E_SHNUM, &self.u16(count))?;
        u16::try_from(number).map_err(|_| OUTSIDE)
    }

    /// Makes a load of 64 bits one of a value of that kind.
    fn load(&mut self, site: &Site, source: u8, value: (u32, u32)) -> Result<(), NormaliseError> {
        let at = self.instruction(site)?;
        if self.out.get(at) != Some(&LOAD_64) {
            return Err(OUTSIDE);
        }
        self.source(at, source)?;
        self.put(at.saturating_add(4), &self.u32(value.0))?;
        self.put(at.saturating_add(12), &self.u32(value.1))
    }

    /// Makes a call one of another kind.
    fn call(&mut self, site: &Site, source: u8, target: u32) -> Result<(), NormaliseError> {
        let at = self.instruction(site)?;
        self.source(at, source)?;
        self.put(at.saturating_add(4), &self.u32(target))
    }

    /// Where the instruction stands in the file.
    fn instruction(&self, site: &Site) -> Result<usize, NormaliseError> {
        let section = self.object.sections.get(site.section).ok_or(OUTSIDE)?;
        let at = section.offset.checked_add(site.offset).ok_or(OUTSIDE)?;
        usize::try_from(at).map_err(|_| OUTSIDE)
    }

    fn source(&mut self, at: usize, source: u8) -> Result<(), NormaliseError> {
        let little = self.object.endian == object::Endianness::Little;
        let registers = self.out.get_mut(at.saturating_add(1)).ok_or(OUTSIDE)?;
        *registers = if little {
            (*registers & 0x0f) | (source << 4)
        } else {
            (*registers & 0xf0) | source
        };
        Ok(())
    }
}
