//! CO-RE: fits the instructions of an object to the types of the kernel that it is loaded into.
//!
//! A function of values: the object's `.BTF` and `.BTF.ext`, its code, and the BTF of a kernel and its modules give the
//! instructions that differ. The rules are libbpf's (`src/relo_core.c`, and `bpf_object__relocate_core` of
//! `src/libbpf.c`), and a test compares every instruction with what libbpf makes of it:
//!
//! 1. A type of the object matches every type of the kernel that has its name, what follows `___` left out on both sides
//!    (flavours), and its kind. Modules are searched for the types that the kernel itself does not have.
//! 2. A relocation is resolved against each of these types. Those that do not fit are dropped, those that fit must agree.
//! 3. An instruction for which nothing fits becomes a call of a helper that no kernel has: the verifier refuses it
//!    unless the program does not reach it. What was missing is returned beside it.

mod calculate;
mod candidates;
mod compare;
mod error;
mod patch;
mod records;
mod spec;

use std::cell::Cell;

pub use self::candidates::Candidates;
pub use self::error::{CoreError, CoreReason, Missing};
pub(crate) use self::records::{Offsets, Records};

use self::calculate::Calculated;
use self::error::describe;
use self::records::{Record, RelocationKind};
use self::spec::{Match, Spec};
use crate::btf::Btf;
use crate::{ByteOrder, ObjectError};

/// Most members, enumerators and types that are looked at for all relocations of an object together: 10 million. The
/// largest known objects (some thousand relocations) need a few hundred thousand; types that contain each other's
/// anonymous members could otherwise be searched forever.
const MAX_STEPS: u32 = 10_000_000;

/// What the number of the helper says that replaces an instruction whose target is missing: libbpf's
/// `bpf_core_poison_insn`, "bad relo".
pub const POISON: i32 = 0x0bad_2310;

/// Relocations of an object.
#[derive(Debug, Clone)]
pub struct Relocations<'a> {
    btf: Btf<'a>,
    records: Records<'a>,
    order: ByteOrder,
}

/// An instruction that fits the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Patch<'a> {
    /// Name of its section.
    pub section: &'a str,
    /// Where it begins there, in bytes.
    pub offset: u32,
    /// Its bytes: 8, or 16 for the load of a 64-bit constant.
    pub bytes: Vec<u8>,
    /// What the kernel does not have, where the instruction was replaced by one that the verifier refuses.
    pub missing: Option<Missing>,
}

impl<'a> Relocations<'a> {
    /// Reads the relocations of an object from its `.BTF` and `.BTF.ext`.
    ///
    /// # Errors
    ///
    /// When one of them is damaged.
    pub fn parse(btf: &'a [u8], ext: &'a [u8], order: ByteOrder) -> Result<Self, ObjectError> {
        let btf = Btf::parse(btf, order)?;
        let records = Records::parse(ext, order, &btf)?;
        Ok(Self {
            btf,
            records,
            order,
        })
    }

    /// Keeps those whose instruction is wanted, by the name of its section and its offset there.
    pub fn retain(&mut self, mut wanted: impl FnMut(&str, u32) -> bool) {
        for (section, records) in &mut self.records.sections {
            records.retain(|record| wanted(section, record.offset));
        }
        self.records
            .sections
            .retain(|(_, records)| !records.is_empty());
    }

    /// Names of the sections that have some.
    pub fn sections(&self) -> impl Iterator<Item = &'a str> + '_ {
        self.records.sections.iter().map(|(section, _)| *section)
    }

    /// The section and the offset there of each instruction that has one, in their order.
    pub fn places(&self) -> impl Iterator<Item = (&'a str, u32)> + '_ {
        let sections = self.records.sections.iter();
        sections.flat_map(|(section, records)| {
            let offsets = records.iter().map(|record| record.offset);
            offsets.map(|offset| (*section, offset))
        })
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.records.sections.is_empty()
    }

    /// Looks for the types of a kernel that the relocations may be about.
    ///
    /// # Errors
    ///
    /// When either BTF is damaged.
    pub fn candidates<'k>(&self, kernel: &'k Btf<'k>) -> Result<Candidates<'k>, ObjectError>
    where
        'a: 'k,
    {
        Candidates::search(&self.btf, self.records.all(), kernel)
    }

    /// The instructions that have relocations, fitted to the candidates. `code` gives the contents of a section.
    ///
    /// # Errors
    ///
    /// When a relocation makes no sense: what libbpf refuses, too. A target that is missing is not an error.
    pub fn apply<'c>(
        &self,
        code: impl Fn(&str) -> Option<&'c [u8]>,
        candidates: &mut Candidates<'_>,
    ) -> Result<Vec<Patch<'a>>, CoreError> {
        let steps = Steps::new(MAX_STEPS);
        let mut patches = Vec::new();
        for (section, records) in &self.records.sections {
            // An instruction may have two relocations: the second one is for what the first one made of it.
            let mut code = code(section).unwrap_or_default().to_vec();
            for record in records {
                let patched = self
                    .resolve(record, candidates, &steps)
                    .and_then(|calculated| {
                        let place = patch::place(&mut code, record.offset)?;
                        let missing = patch::patch(place, &calculated, self.order)?;
                        Ok((place.to_vec(), missing.then_some(calculated.missing)))
                    });
                let (bytes, missing) = patched.map_err(|reason| CoreError {
                    section: (*section).to_owned(),
                    instruction: record.offset / 8,
                    subject: describe(&self.btf, record),
                    reason,
                })?;
                patches.push(Patch {
                    section,
                    offset: record.offset,
                    bytes,
                    missing: missing.flatten(),
                });
            }
        }
        Ok(patches)
    }

    /// What a relocation comes to (libbpf's `bpf_core_calc_relo_insn`).
    fn resolve(
        &self,
        record: &Record,
        candidates: &mut Candidates<'_>,
        steps: &Steps,
    ) -> Result<Calculated, CoreReason> {
        let kind = RelocationKind::from_number(record.kind)?;
        let local = Spec::parse(&self.btf, record, kind, steps)?;
        if kind == RelocationKind::TypeIdLocal {
            return Ok(Calculated::local_id(record.type_id));
        }
        let root = self.btf.get(record.type_id)?;
        if self.btf.string(root.name)?.is_empty() {
            return Err(CoreReason::Anonymous);
        }
        let mut chosen: Option<(Calculated, u32)> = None;
        let mut absent = None;
        let mut fitting = Vec::new();
        let found = candidates.of(record.type_id);
        for &(btf, id) in found.iter() {
            let pair = compare::Pair {
                local: &self.btf,
                target: btf,
                steps,
            };
            let target = match local.find(&pair, id, kind)? {
                Match::Found(target) => target,
                Match::Absent(reason) => {
                    absent.get_or_insert(reason);
                    continue;
                }
            };
            let calculated =
                Calculated::of(kind, (&self.btf, &local), Some((btf, &target)), self.order)?;
            match &chosen {
                None => chosen = Some((calculated, target.bit_offset)),
                Some((first, bit_offset)) => {
                    if *bit_offset != target.bit_offset || first.value != calculated.value {
                        return Err(CoreReason::Ambiguous {
                            first: first.value,
                            other: calculated.value,
                        });
                    }
                }
            }
            fitting.push((btf, id));
        }
        let Some((mut calculated, _)) = chosen else {
            let mut calculated = Calculated::of(kind, (&self.btf, &local), None, self.order)?;
            if calculated.value.is_none() {
                calculated.missing = Some(Missing::from_spec(&self.btf, &local, kind, absent)?);
            }
            return Ok(calculated);
        };
        // What did not fit once is not looked at again.
        *found = fitting;
        if calculated.sizes_conflict {
            calculated.missing = Some(Missing::size(&self.btf, &local)?);
        }
        Ok(calculated)
    }
}

/// How much may still be looked at.
struct Steps(Cell<u32>);

impl Steps {
    fn new(count: u32) -> Self {
        Self(Cell::new(count))
    }

    fn take(&self) -> Result<(), CoreReason> {
        let left = self.0.get().checked_sub(1);
        self.0.set(left.ok_or(CoreReason::TooComplex)?);
        Ok(())
    }
}

/// A name without its flavour (libbpf's `bpf_core_essential_name_len`): the last `___` between two other letters and what
/// follows it.
pub(crate) fn essential(name: &[u8]) -> &[u8] {
    let separates = |window: &[u8]| match window {
        [before, b'_', b'_', b'_', after] => *before != b'_' && *after != b'_',
        _ => false,
    };
    let end = name.windows(5).rposition(separates);
    end.and_then(|end| name.get(..=end)).unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn essential_name_ends_at_the_last_separator() {
        let cases = [
            ("task_struct", "task_struct"),
            ("task_struct___v6", "task_struct"),
            ("a___b___c", "a___b"),
            ("a____b", "a____b"),
            ("___b", "___b"),
            ("a___", "a___"),
            ("a___b", "a"),
            ("", ""),
        ];
        for (name, expected) in cases {
            assert_eq!(essential(name.as_bytes()), expected.as_bytes(), "{name}");
        }
    }
}
