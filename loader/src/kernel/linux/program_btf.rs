//! The BTF that programs and maps are made with: the object's own, and what members of a chain need beyond it.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use aya_obj::Function;
use aya_obj::generated::bpf_insn;

use super::parsed::Parsed;
use super::{KernelError, LinuxKernel, failed, sys};
use crate::object::{Member, MemberTypes, member_types};

/// `BPF_JMP | BPF_CALL` of a function of the program.
const CALL: u8 = 0x85;
const PSEUDO_CALL: u8 = 1;
/// `BPF_LD | BPF_IMM | BPF_DW` of the address of a function of the program.
const LOAD_64: u8 = 0x18;
const PSEUDO_FUNC: u8 = 4;

/// A program that is to be a member of a chain.
#[derive(Debug, Clone, Copy)]
pub(super) struct Joining<'a> {
    pub(super) function: &'a str,
    /// The struct that it gets a pointer to.
    pub(super) context: &'static str,
}

/// What the kernel has of an object's types.
#[derive(Debug, Default)]
pub(super) struct ProgramBtf {
    /// The object's own with what was added, where it has one and the kernel takes it.
    object: Option<(OwnedFd, Vec<u8>)>,
    /// BTF with nothing but signatures of members, where the object's own is missing or refused.
    minimal: Option<OwnedFd>,
    /// Numbers of the types of members, by function.
    members: BTreeMap<String, u32>,
    /// Number of a type for functions without one.
    subprogram: Option<u32>,
}

/// Types and lines of one program.
#[derive(Debug)]
pub(super) struct Records<'a> {
    btf: BorrowedFd<'a>,
    functions: Vec<u8>,
    lines: Vec<u8>,
    line_record: u32,
}

impl ProgramBtf {
    /// Loads the object's own BTF. Where it is refused and not `required`, programs run without names and lines, and
    /// members get types that say nothing but their signature.
    pub(super) fn load(
        kernel: &LinuxKernel,
        parsed: &mut Parsed,
        joining: &[Joining<'_>],
        required: bool,
    ) -> Result<Self, KernelError> {
        let own = parsed.btf(&kernel.version.btf_features())?;
        let members = |parsed: &Parsed, with_own: bool| {
            let member = |program: &Joining<'_>| (program.function.to_owned(), program.context);
            let members = joining.iter().map(member);
            members
                .map(|(function, context)| {
                    let own = parsed.program(&function).and_then(|(_, found)| {
                        let first = found.func_info.func_info.first();
                        first.map(|record| record.type_id)
                    });
                    (function, context, own.filter(|_| with_own))
                })
                .collect::<Vec<_>>()
        };
        let types = |own: Option<&[u8]>| -> Result<MemberTypes, KernelError> {
            let members = members(parsed, own.is_some());
            let members: Vec<Member<'_>> = members
                .iter()
                .map(|(function, context, type_id)| Member {
                    function,
                    context,
                    type_id: *type_id,
                })
                .collect();
            Ok(member_types(own, &members)?)
        };
        if let Some(bytes) = own {
            let (bytes, added) = if joining.is_empty() {
                (bytes, None)
            } else {
                let mut types = types(Some(&bytes))?;
                (std::mem::take(&mut types.btf), Some(types))
            };
            match sys::btf_load(&bytes) {
                Ok(btf) => {
                    let mut loaded = Self {
                        object: Some((btf, bytes)),
                        ..Self::default()
                    };
                    loaded.name(joining, added);
                    return Ok(loaded);
                }
                Err(error) if required => {
                    return Err(failed(|| "loading the object's BTF".to_owned())(error));
                }
                Err(error) => log::warn!("the kernel refuses the object's BTF: {error}"),
            }
        }
        let mut loaded = Self::default();
        if !joining.is_empty() {
            let types = types(None)?;
            // Without it, members are refused, and run alone.
            loaded.minimal = sys::btf_load(&types.btf).ok();
            loaded.name(joining, Some(types));
        }
        Ok(loaded)
    }

    fn name(&mut self, joining: &[Joining<'_>], types: Option<MemberTypes>) {
        let Some(types) = types else { return };
        let names = joining.iter().map(|program| program.function.to_owned());
        self.members = names.zip(types.functions).collect();
        self.subprogram = types.subprogram;
    }

    /// The object's own BTF, for maps, and its bytes.
    pub(super) fn of_maps(&self) -> Option<(BorrowedFd<'_>, &[u8])> {
        let object = self.object.as_ref();
        object.map(|(btf, bytes)| (btf.as_fd(), bytes.as_slice()))
    }

    /// The object's own BTF as the kernel has it.
    pub(super) fn into_bytes(self) -> Option<Vec<u8>> {
        self.object.map(|(_, bytes)| bytes)
    }

    /// What a linked program is loaded with; `None` without BTF.
    pub(super) fn records(&self, function: &Function) -> Option<Records<'_>> {
        let known = match (&self.object, &self.minimal) {
            (Some(_), _) => function.func_info.func_info.as_slice(),
            (None, _) => &[],
        };
        let known: BTreeMap<u32, u32> = known
            .iter()
            .map(|record| (record.insn_off, record.type_id))
            .collect();
        let member = self.members.get(&function.name).copied();
        let functions = match member {
            Some(main) => {
                let mut starts = starts(&function.instructions);
                // No instruction refers to an exception callback.
                starts.extend(known.keys());
                let records = starts.into_iter().filter_map(|start| {
                    let own = known.get(&start).copied().or(self.subprogram);
                    Some((start, if start == 0 { main } else { own? }))
                });
                bytes(records)
            }
            None => bytes(known),
        };
        let (btf, lines) = match (&self.object, &self.minimal) {
            (Some((btf, _)), _) => (btf, function.line_info.line_info_bytes()),
            (None, Some(btf)) if member.is_some() => (btf, Vec::new()),
            (None, _) => return None,
        };
        Some(Records {
            btf: btf.as_fd(),
            line_record: lines
                .len()
                .checked_div(function.line_info.len())
                .unwrap_or_default() as u32,
            functions,
            lines,
        })
    }
}

impl Records<'_> {
    pub(super) fn info(&self) -> sys::Info<'_> {
        sys::Info {
            btf: self.btf,
            functions_record: if self.functions.is_empty() { 0 } else { 8 },
            functions: &self.functions,
            lines_record: if self.lines.is_empty() {
                0
            } else {
                self.line_record
            },
            lines: &self.lines,
        }
    }
}

/// Records of `struct bpf_func_info`.
fn bytes(records: impl IntoIterator<Item = (u32, u32)>) -> Vec<u8> {
    let words = records.into_iter().flat_map(|(start, id)| [start, id]);
    words.flat_map(u32::to_ne_bytes).collect()
}

/// Where the functions of a linked program begin, as the kernel finds them (`add_subprog_and_kfunc` of
/// kernel/bpf/verifier.c).
fn starts(instructions: &[bpf_insn]) -> BTreeSet<u32> {
    let mut starts = BTreeSet::from([0]);
    let mut second = false;
    for (at, instruction) in (0_i64..).zip(instructions) {
        if std::mem::take(&mut second) {
            continue;
        }
        second = instruction.code == LOAD_64;
        let refers = match instruction.code {
            CALL => instruction.src_reg() == PSEUDO_CALL,
            LOAD_64 => instruction.src_reg() == PSEUDO_FUNC,
            _ => false,
        };
        if refers {
            starts.extend(u32::try_from(at + 1 + i64::from(instruction.imm)));
        }
    }
    starts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instruction(code: u8, source: u8, imm: i32) -> bpf_insn {
        let mut instruction = bpf_insn {
            code,
            _bitfield_align_1: [],
            _bitfield_1: bpf_insn::new_bitfield_1(0, source),
            off: 0,
            imm,
        };
        instruction.set_src_reg(source);
        instruction
    }

    #[test]
    fn functions_begin_where_instructions_refer_to() {
        let instructions = [
            instruction(CALL, PSEUDO_CALL, 4),
            instruction(CALL, 0, 1),
            instruction(LOAD_64, PSEUDO_FUNC, 5),
            // The second half looks like a call.
            instruction(CALL, PSEUDO_CALL, 9),
            instruction(0x95, 0, 0),
            instruction(0x95, 0, 0),
        ];
        assert_eq!(starts(&instructions), BTreeSet::from([0, 5, 8]));
        assert_eq!(starts(&[]), BTreeSet::from([0]));
    }
}
