//! Putting a value into an instruction (libbpf's `bpf_core_patch_insn`).

use super::calculate::Calculated;
use super::{ByteOrder, CoreReason, POISON};

/// Bytes of an instruction.
const INSTRUCTION: usize = 8;

/// Classes of instructions (`BPF_CLASS` of `include/uapi/linux/bpf_common.h`).
mod class {
    pub(super) const LD: u8 = 0;
    pub(super) const LDX: u8 = 1;
    pub(super) const ST: u8 = 2;
    pub(super) const STX: u8 = 3;
    pub(super) const ALU: u8 = 4;
    pub(super) const ALU64: u8 = 7;
}

/// `BPF_X`: the second operand is a register.
const REGISTER: u8 = 0x08;
/// `BPF_LD | BPF_IMM | BPF_DW`.
const LOAD_CONSTANT: u8 = 0x18;
/// `BPF_JMP | BPF_CALL`.
const CALL: u8 = 0x85;
/// `BPF_SIZE` of an instruction, and its bytes.
const SIZES: [(u8, u32); 4] = [(0x18, 8), (0x00, 4), (0x08, 2), (0x10, 1)];

/// The instruction at an offset of a section: two of them for the load of a 64-bit constant.
pub(super) fn place(code: &mut [u8], offset: u32) -> Result<&mut [u8], CoreReason> {
    let start = offset as usize;
    if !start.is_multiple_of(INSTRUCTION) {
        return Err(CoreReason::NoInstruction);
    }
    let length = match code.get(start) {
        Some(&LOAD_CONSTANT) => 2 * INSTRUCTION,
        _ => INSTRUCTION,
    };
    let place = start
        .checked_add(length)
        .and_then(|end| code.get_mut(start..end));
    place.ok_or(CoreReason::NoInstruction)
}

/// Changes an instruction. Whether it was replaced by one that the verifier refuses.
pub(super) fn patch(
    place: &mut [u8],
    calculated: &Calculated,
    order: ByteOrder,
) -> Result<bool, CoreReason> {
    let Some(value) = calculated.value else {
        poison(place, order);
        return Ok(true);
    };
    let [code, registers, offset_0, offset_1, immediate @ ..] = &mut *place else {
        return Err(CoreReason::NoInstruction);
    };
    let source = match order {
        ByteOrder::Little => *registers >> 4,
        ByteOrder::Big => *registers & 0xf,
    };
    let offset = [*offset_0, *offset_1];
    let offset = match order {
        ByteOrder::Little => i16::from_le_bytes(offset),
        ByteOrder::Big => i16::from_be_bytes(offset),
    };
    let expect = |found: i64| {
        if calculated.validate && found.cast_unsigned() != calculated.original {
            return Err(CoreReason::Unexpected {
                found,
                expected: calculated.original,
            });
        }
        Ok(())
    };
    match *code & 7 {
        class::ALU | class::ALU64 if *code & REGISTER == 0 => {
            expect(i64::from(word(immediate, 0, order)?.cast_signed()))?;
            // As wide as the field of the instruction.
            set_word(immediate, 0, value as u32, order);
        }
        class::LDX | class::ST | class::STX => {
            expect(i64::from(offset))?;
            let Ok(value) = i16::try_from(value) else {
                return Err(CoreReason::OffsetTooLarge);
            };
            if calculated.sizes_conflict {
                poison(place, order);
                return Ok(true);
            }
            [*offset_0, *offset_1] = match order {
                ByteOrder::Little => value.to_le_bytes(),
                ByteOrder::Big => value.to_be_bytes(),
            };
            let (before, after) = calculated.sizes;
            if before != after {
                let found = SIZES.iter().find(|(bits, _)| *code & 0x18 == *bits);
                let wanted = SIZES.iter().find(|(_, bytes)| *bytes == after);
                match (found, wanted) {
                    (Some((_, bytes)), Some((bits, _))) if *bytes == before => {
                        *code = *code & !0x18 | bits;
                    }
                    _ => return Err(CoreReason::Size { before, after }),
                }
            }
        }
        class::LD if *code == LOAD_CONSTANT && source == 0 && offset == 0 => {
            // What follows the first 32 bits: code, registers and offset of the second half, all zero.
            if word(immediate, 4, order)? != 0 {
                return Err(CoreReason::Instruction { code: *code });
            }
            let low = u64::from(word(immediate, 0, order)?);
            let high = u64::from(word(immediate, 8, order)?);
            expect((high << 32 | low).cast_signed())?;
            set_word(immediate, 0, value as u32, order);
            set_word(immediate, 8, (value >> 32) as u32, order);
        }
        _ => return Err(CoreReason::Instruction { code: *code }),
    }
    Ok(false)
}

/// Makes calls of a helper that no kernel has.
fn poison(place: &mut [u8], order: ByteOrder) {
    for instruction in place.chunks_exact_mut(INSTRUCTION) {
        instruction.fill(0);
        if let Some(code) = instruction.first_mut() {
            *code = CALL;
        }
        set_word(instruction, 4, POISON.cast_unsigned(), order);
    }
}

fn word(bytes: &[u8], at: usize, order: ByteOrder) -> Result<u32, CoreReason> {
    let bytes = bytes.get(at..).and_then(|rest| rest.first_chunk());
    let bytes = bytes.ok_or(CoreReason::NoInstruction)?;
    Ok(match order {
        ByteOrder::Little => u32::from_le_bytes(*bytes),
        ByteOrder::Big => u32::from_be_bytes(*bytes),
    })
}

fn set_word(bytes: &mut [u8], at: usize, value: u32, order: ByteOrder) {
    let place = bytes.get_mut(at..).and_then(|rest| rest.first_chunk_mut());
    if let Some(place) = place {
        *place = match order {
            ByteOrder::Little => value.to_le_bytes(),
            ByteOrder::Big => value.to_be_bytes(),
        };
    }
}
