//! The segments of an ELF file that are loaded as code.

use object::elf::{self, FileHeader32, FileHeader64};
use object::read::elf::{FileHeader, ProgramHeader};
use object::{Endianness, FileKind, ReadRef};

use super::symbol::{SymbolError, damaged, with_budget};

/// Code segments that are kept: 1024; linkers make one or two.
const MAX_SEGMENTS: usize = 1 << 10;

/// Where the code of a file is, in memory and in the file, and for what machine it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CodeSegments {
    machine: Machine,
    segments: Vec<Segment>,
}

/// Class, byte order and `e_machine`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Machine {
    is_64: bool,
    is_big_endian: bool,
    number: u16,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Segment {
    /// `p_vaddr`.
    address: u64,
    /// `p_offset`.
    offset: u64,
    /// `p_filesz`; 0 in a debug file.
    size: u64,
}

impl CodeSegments {
    /// Reads them from a file of either class.
    pub(super) fn read<'data, R: ReadRef<'data>>(data: R) -> Result<Self, SymbolError> {
        with_budget(data, |data, kind| match kind {
            FileKind::Elf32 => {
                let header = FileHeader32::<Endianness>::parse(data);
                Self::of(header.map_err(damaged("its header"))?, data)
            }
            FileKind::Elf64 => {
                let header = FileHeader64::<Endianness>::parse(data);
                Self::of(header.map_err(damaged("its header"))?, data)
            }
            _ => Err(SymbolError::NotElf),
        })
    }

    pub(super) fn of<'data, Elf, R>(header: &Elf, data: R) -> Result<Self, SymbolError>
    where
        Elf: FileHeader<Endian = Endianness>,
        R: ReadRef<'data>,
    {
        let endian = header.endian().map_err(damaged("its header"))?;
        let segments = header
            .program_headers(endian, data)
            .map_err(damaged("its program headers"))?;
        let code = segments.iter().filter(|segment| {
            segment.p_type(endian) == elf::PT_LOAD && segment.p_flags(endian).contains(elf::PF_X)
        });
        Ok(Self {
            machine: Machine {
                is_64: header.is_type_64(),
                is_big_endian: header.is_big_endian(),
                number: header.e_machine(endian).0,
            },
            segments: code
                .take(MAX_SEGMENTS)
                .map(|segment| Segment {
                    address: segment.p_vaddr(endian).into(),
                    offset: segment.p_offset(endian).into(),
                    size: segment.p_filesz(endian).into(),
                })
                .collect(),
        })
    }

    /// Bytes from the start of the file to an address.
    pub(super) fn offset(&self, address: u64) -> Option<u64> {
        self.segments.iter().find_map(|segment| {
            let into = address.checked_sub(segment.address)?;
            if into >= segment.size {
                return None;
            }
            into.checked_add(segment.offset)
        })
    }

    /// How far (modulo 2^64) the file was moved after its debug file was made. A debug file without program headers
    /// says nothing of that: not at all.
    pub(super) fn moved_from(&self, debug: &Self) -> Result<u64, SymbolError> {
        if self.machine != debug.machine {
            return Err(SymbolError::OtherSegments);
        }
        if debug.segments.is_empty() {
            return Ok(0);
        }
        if self.segments.len() != debug.segments.len() {
            return Err(SymbolError::OtherSegments);
        }
        let pairs = self.segments.iter().zip(&debug.segments);
        let mut moves = pairs.map(|(own, other)| own.address.wrapping_sub(other.address));
        let first = moves.next().unwrap_or_default();
        match moves.all(|other| other == first) {
            true => Ok(first),
            false => Err(SymbolError::OtherSegments),
        }
    }
}
