//! What a program can return, as far as its instructions tell: they are followed, with the constants that registers
//! hold. What comes from memory, from arithmetic or from a call can be anything.
//!
//! Opcodes are those of RFC 9669; what the kernel has beside them is named where it is used.

use aya_obj::generated::{
    BPF_ALU, BPF_ALU64, BPF_ATOMIC, BPF_CALL, BPF_EXIT, BPF_JA, BPF_JMP, BPF_JMP32, BPF_LD,
    BPF_LDX, BPF_MOV, BPF_PSEUDO_KFUNC_CALL, BPF_STX, BPF_X, bpf_func_id, bpf_insn,
};

/// How often the way through a program is followed, at most, for each of its instructions. Loops end by themselves
/// after as many turns as values can grow, which no compiler's code comes near.
const MOST_STEPS: usize = 16;

/// A program that has more instructions can return anything: what is kept for each would take megabytes.
const MOST_INSTRUCTIONS: usize = 1 << 16;

/// Classes, and the fields of an opcode of a jump, of arithmetic, of a load.
const CLASS: u32 = 0x07;
const OPERATION: u32 = 0xf0;
const MODE: u32 = 0xe0;
/// `BPF_LD | BPF_IMM | BPF_DW`: 64 bits, in two instructions.
const LOAD_IMMEDIATE: u32 = 0x18;
/// `BPF_JMP | BPF_CALL`.
const CALL: u32 = BPF_JMP | BPF_CALL;
/// `BPF_JMP | BPF_EXIT`.
const EXIT: u32 = BPF_JMP | BPF_EXIT;

/// Registers that a program can write.
const REGISTERS: usize = 10;

/// The 32-bit results that something may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Results(u64);

/// Results that are told apart: -1 … 62.
const FIRST: i32 = -1;
/// The bit of all others.
const OTHERS: u32 = u64::BITS - 1;

impl Results {
    const NONE: Self = Self(0);
    /// Nothing is known.
    pub const ANY: Self = Self(u64::MAX);

    /// Only that.
    pub fn one(result: i32) -> Self {
        Self(1 << Self::bit(result))
    }

    /// Whether it may be that.
    pub fn may_be(self, result: i32) -> bool {
        self.0 & (1 << Self::bit(result)) != 0
    }

    fn bit(result: i32) -> u32 {
        let place = u32::try_from(result.wrapping_sub(FIRST));
        place.unwrap_or(OTHERS).min(OTHERS)
    }

    fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// What the registers hold.
type Registers = [Results; REGISTERS];

/// Where an instruction leads.
enum Next {
    /// To those, counted from the instruction itself.
    To([Option<i64>; 2]),
    Exit,
    /// It cannot be told, or what is returned is not register 0.
    Unknown,
}

/// What a program's instructions, as the kernel is given them, can return. Functions that it calls stand behind it.
pub fn results(instructions: &[bpf_insn]) -> Results {
    follow(instructions).unwrap_or(Results::ANY)
}

fn follow(instructions: &[bpf_insn]) -> Option<Results> {
    if instructions.len() > MOST_INSTRUCTIONS {
        return None;
    }
    if instructions.iter().any(leaves) {
        return None;
    }
    let mut before: Vec<Registers> = vec![[Results::NONE; REGISTERS]; instructions.len()];
    *before.first_mut()? = [Results::ANY; REGISTERS];
    let mut steps = instructions.len().checked_mul(MOST_STEPS)?;
    let mut result = Results::NONE;
    let mut todo = vec![0_usize];
    while let Some(at) = todo.pop() {
        steps = steps.checked_sub(1)?;
        let instruction = instructions.get(at)?;
        let mut registers = *before.get(at)?;
        match step(instruction, &mut registers) {
            Next::Unknown => return None,
            Next::Exit => result = result.or(registers[0]),
            Next::To(places) => {
                for place in places.into_iter().flatten() {
                    let place = usize::try_from(i64::try_from(at).ok()? + place).ok()?;
                    let there = before.get_mut(place)?;
                    // Nothing is `NONE` where the way has led, so the first time is one, too.
                    let mut grown = false;
                    for (there, here) in there.iter_mut().zip(registers) {
                        let both = there.or(here);
                        grown |= both != *there;
                        *there = both;
                    }
                    if grown {
                        todo.push(place);
                    }
                }
            }
        }
    }
    Some(result)
}

/// Whether a call may end the program with another result, be it in a function of it: a tail call, or a function of the
/// kernel (`bpf_throw`, kernel 6.7; which one it is stands in the kernel's BTF).
fn leaves(instruction: &bpf_insn) -> bool {
    u32::from(instruction.code) == CALL
        && match u32::from(instruction.src_reg()) {
            0 => instruction.imm.cast_unsigned() == bpf_func_id::BPF_FUNC_tail_call as u32,
            BPF_PSEUDO_KFUNC_CALL => true,
            _ => false,
        }
}

/// What an instruction does to the registers, and where it leads.
fn step(instruction: &bpf_insn, registers: &mut Registers) -> Next {
    let code = u32::from(instruction.code);
    // What a copy would copy.
    let source = registers.get(usize::from(instruction.src_reg()));
    let source = source.copied().unwrap_or(Results::ANY);
    let mut set = |register: u8, value| {
        // The frame pointer is none of them; the verifier refuses to write it.
        if let Some(register) = registers.get_mut(usize::from(register)) {
            *register = value;
        }
    };
    let on = Next::To([Some(1), None]);
    match code & CLASS {
        BPF_LD if code == LOAD_IMMEDIATE => {
            let plain = instruction.src_reg() == 0;
            let value = if plain {
                Results::one(instruction.imm)
            } else {
                Results::ANY
            };
            set(instruction.dst_reg(), value);
            Next::To([Some(2), None])
        }
        // `BPF_ABS`, `BPF_IND` end the program where the packet is too short.
        BPF_LD => Next::Unknown,
        BPF_LDX => {
            set(instruction.dst_reg(), Results::ANY);
            on
        }
        BPF_STX if code & MODE == BPF_ATOMIC => {
            // The value that was there before comes back in one of the three.
            for register in [0, instruction.src_reg(), instruction.dst_reg()] {
                set(register, Results::ANY);
            }
            on
        }
        BPF_ALU | BPF_ALU64 => {
            let value = if code & OPERATION != BPF_MOV || instruction.off != 0 {
                Results::ANY
            } else if code & BPF_X == 0 {
                Results::one(instruction.imm)
            } else {
                source
            };
            set(instruction.dst_reg(), value);
            on
        }
        BPF_JMP | BPF_JMP32 => match (code, code & OPERATION) {
            (EXIT, _) => Next::Exit,
            (CALL, _) => {
                for register in 0..=5 {
                    set(register, Results::ANY);
                }
                on
            }
            (_, BPF_CALL | BPF_EXIT) => Next::Unknown,
            (_, BPF_JA) if code & CLASS == BPF_JMP32 => {
                Next::To([Some(1 + i64::from(instruction.imm)), None])
            }
            (_, BPF_JA) => Next::To([Some(1 + i64::from(instruction.off)), None]),
            // `BPF_JCOND` (`may_goto`, kernel 6.9) among them.
            _ => Next::To([Some(1), Some(1 + i64::from(instruction.off))]),
        },
        _ => on,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn instruction(code: u8, dst: u8, src: u8, off: i16, imm: i32) -> bpf_insn {
        bpf_insn {
            code,
            _bitfield_align_1: [],
            _bitfield_1: bpf_insn::new_bitfield_1(dst, src),
            off,
            imm,
        }
    }

    fn mov(dst: u8, imm: i32) -> bpf_insn {
        instruction(0xb7, dst, 0, 0, imm)
    }

    fn copy(dst: u8, src: u8) -> bpf_insn {
        instruction(0xbf, dst, src, 0, 0)
    }

    fn exit() -> bpf_insn {
        instruction(0x95, 0, 0, 0, 0)
    }

    fn call(imm: i32) -> bpf_insn {
        instruction(0x85, 0, 0, 0, imm)
    }

    /// `if r1 == 0 goto`.
    fn branch(off: i16) -> bpf_insn {
        instruction(0x15, 1, 0, off, 0)
    }

    #[test]
    fn constants_are_followed() {
        let of = |code: &[bpf_insn]| {
            let found = results(code);
            if found == Results::ANY {
                return None;
            }
            Some((-3..70).filter(|&code| found.may_be(code)).collect())
        };
        let others: Vec<i32> = [-3, -2].into_iter().chain(62..70).collect();
        type Case<'a> = (&'a str, &'a [bpf_insn], Option<Vec<i32>>);
        let cases: [Case<'_>; 25] = [
            ("one", &[mov(0, 2), exit()], Some(vec![2])),
            (
                "32 bits of it",
                &[instruction(0xb4, 0, 0, 0, -1), exit()],
                Some(vec![-1]),
            ),
            (
                "either",
                &[mov(0, 1), branch(1), mov(0, 2), exit()],
                Some(vec![1, 2]),
            ),
            (
                "two ends",
                &[branch(2), mov(0, 1), exit(), mov(0, 31), exit()],
                Some(vec![1, 31]),
            ),
            (
                "held by another across a call",
                &[mov(6, 3), call(1), copy(0, 6), exit()],
                Some(vec![3]),
            ),
            ("of a call", &[mov(0, 3), call(1), exit()], None),
            (
                "lost in a call",
                &[mov(1, 3), call(1), copy(0, 1), exit()],
                None,
            ),
            ("no action", &[mov(0, 77), exit()], Some(others.clone())),
            ("no action below", &[mov(0, -9), exit()], Some(others)),
            (
                "by a jump",
                &[instruction(0x05, 0, 0, 1, 0), mov(0, 1), mov(0, 2), exit()],
                Some(vec![2]),
            ),
            (
                "by a jump over",
                &[mov(0, 2), instruction(0x05, 0, 0, 1, 0), mov(0, 1), exit()],
                Some(vec![2]),
            ),
            (
                "by a long jump over",
                &[mov(0, 2), instruction(0x06, 0, 0, 0, 1), mov(0, 1), exit()],
                Some(vec![2]),
            ),
            (
                "a loop",
                &[
                    mov(0, 1),
                    mov(6, 2),
                    copy(7, 0),
                    copy(0, 6),
                    copy(6, 7),
                    branch(-4),
                    exit(),
                ],
                Some(vec![1, 2]),
            ),
            (
                "may_goto",
                &[mov(0, 1), instruction(0xe5, 0, 0, 1, 0), mov(0, 2), exit()],
                Some(vec![1, 2]),
            ),
            (
                "64 bits",
                &[
                    instruction(0x18, 0, 0, 0, 4),
                    instruction(0, 0, 0, 0, 0),
                    exit(),
                ],
                Some(vec![4]),
            ),
            (
                "a map",
                &[
                    instruction(0x18, 0, 1, 0, 4),
                    instruction(0, 0, 0, 0, 0),
                    exit(),
                ],
                None,
            ),
            (
                "memory",
                &[mov(0, 1), instruction(0x61, 0, 1, 0, 0), exit()],
                None,
            ),
            (
                "arithmetic",
                &[mov(0, 1), instruction(0x07, 0, 0, 0, 1), exit()],
                None,
            ),
            (
                "a sign extended",
                &[mov(1, 255), instruction(0xbf, 0, 1, 8, 0), exit()],
                None,
            ),
            (
                "compare and exchange",
                &[
                    mov(0, 1),
                    mov(2, 1),
                    instruction(0xdb, 10, 2, -8, 0xf1),
                    exit(),
                ],
                None,
            ),
            (
                "a tail call, in a function that is called",
                &[
                    mov(6, 2),
                    instruction(0x85, 0, 1, 0, 2),
                    copy(0, 6),
                    exit(),
                    call(12),
                    exit(),
                ],
                None,
            ),
            (
                "a function of the kernel, in a function that is called",
                &[
                    mov(6, 2),
                    instruction(0x85, 0, 1, 0, 2),
                    copy(0, 6),
                    exit(),
                    instruction(0x85, 0, 2, 0, 9),
                    exit(),
                ],
                None,
            ),
            (
                "a function of the kernel",
                &[instruction(0x85, 0, 2, 0, 9), mov(0, 2), exit()],
                None,
            ),
            (
                "bytes of the packet",
                &[instruction(0x30, 0, 0, 0, 0), mov(0, 2), exit()],
                None,
            ),
            ("out of the program", &[mov(0, 2), branch(5), exit()], None),
        ];
        for (name, code, expected) in cases {
            assert_eq!(of(code), expected, "{name}");
        }
        assert_eq!(results(&[]), Results::ANY);
    }

    /// Runs a program whose branches are decided by `turns`; memory, arithmetic and calls give `noise`.
    fn run(code: &[bpf_insn], turns: &[bool], noise: i32) -> Option<i32> {
        let mut registers = [noise; 11];
        let mut turns = turns.iter().cycle();
        let mut at = 0_i64;
        for _ in 0..200 {
            let instruction = code.get(usize::try_from(at).ok()?)?;
            let (dst, src) = (
                usize::from(instruction.dst_reg()),
                usize::from(instruction.src_reg()),
            );
            at += 1;
            match instruction.code {
                0xb7 => registers[dst] = instruction.imm,
                0xbf => registers[dst] = registers[src],
                0x61 | 0x07 => registers[dst] = noise,
                0x85 => registers[..=5].fill(noise),
                0x05 => at += i64::from(instruction.off),
                0x15 if *turns.next()? => at += i64::from(instruction.off),
                0x95 => return Some(registers[0]),
                _ => {}
            }
        }
        None
    }

    fn any_instruction() -> impl Strategy<Value = bpf_insn> {
        let codes = prop::sample::select(vec![
            0xb7, 0xb7, 0xbf, 0xbf, 0x15, 0x05, 0x61, 0x07, 0x85, 0x95,
        ]);
        (codes, 0..10_u8, 0..10_u8, -6..6_i16, -3..40).prop_map(|(code, dst, src, off, imm)| {
            let calls = code == 0x85;
            instruction(
                code,
                dst,
                if calls { 0 } else { src },
                off,
                if calls { 1 } else { imm },
            )
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4096))]
        #[test]
        fn what_is_returned_was_expected(
            code in prop::collection::vec(any_instruction(), 1..24),
            turns in prop::collection::vec(any::<bool>(), 1..16),
            noise in any::<i32>(),
        ) {
            if let Some(returned) = run(&code, &turns, noise) {
                prop_assert!(results(&code).may_be(returned), "{returned}");
            }
        }

        #[test]
        fn nothing_stops_it(
            words in prop::collection::vec((any::<u8>(), any::<u8>(), any::<i16>(), any::<i32>()), 0..64),
        ) {
            let code: Vec<bpf_insn> = words
                .iter()
                .map(|(code, registers, off, imm)| instruction(*code, registers & 15, registers >> 4, *off, *imm))
                .collect();
            results(&code);
        }
    }
}
