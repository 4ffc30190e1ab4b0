//! Which types of a kernel a type of the object may be (libbpf's `bpf_core_find_cands`).

use std::collections::{BTreeMap, HashMap};

use super::essential;
use super::records::Record;
use crate::ObjectError;
use crate::btf::{Btf, kind};

/// A type of a kernel or module.
pub(super) type Candidate<'k> = (&'k Btf<'k>, u32);

/// The types of a kernel and its modules that relocations may be about.
#[derive(Debug)]
pub struct Candidates<'k> {
    /// By the types of the object.
    found: BTreeMap<u32, Vec<Candidate<'k>>>,
    /// Types of the object that the kernel itself does not have, with their kinds, by names without flavours.
    absent: Wanted<'k>,
}

/// Types of an object with their kinds, by names without flavours.
type Wanted<'k> = HashMap<&'k [u8], Vec<(u32, u32)>>;

/// Longest name of a type: `KSYM_NAME_LEN` of `include/linux/kallsyms.h`, which the kernel applies to BTF.
const MAX_NAME_BYTES: usize = 512;

impl<'k> Candidates<'k> {
    pub(super) fn search<'r>(
        local: &Btf<'k>,
        records: impl Iterator<Item = &'r Record>,
        kernel: &'k Btf<'k>,
    ) -> Result<Self, ObjectError> {
        let mut wanted = Wanted::new();
        let mut found = BTreeMap::new();
        for record in records {
            if found.contains_key(&record.type_id) {
                continue;
            }
            found.insert(record.type_id, Vec::new());
            let root = local.get(record.type_id)?;
            let name = essential(local.string(root.name)?);
            if !name.is_empty() && name.len() <= MAX_NAME_BYTES {
                let types = wanted.entry(name).or_default();
                types.push((record.type_id, root.kind()));
            }
        }
        let absent = Wanted::new();
        let mut candidates = Self { found, absent };
        candidates.scan(kernel, &wanted)?;
        for (name, mut types) in wanted {
            types.retain(|(id, _)| candidates.found.get(id).is_none_or(Vec::is_empty));
            if !types.is_empty() {
                candidates.absent.insert(name, types);
            }
        }
        Ok(candidates)
    }

    /// Whether the kernel itself lacks types that its modules may have.
    pub fn wants_modules(&self) -> bool {
        !self.absent.is_empty()
    }

    /// Looks in a module for the types that the kernel itself does not have.
    ///
    /// # Errors
    ///
    /// When its BTF is damaged.
    pub fn add_module(&mut self, module: &'k Btf<'k>) -> Result<(), ObjectError> {
        let wanted = std::mem::take(&mut self.absent);
        let result = self.scan(module, &wanted);
        self.absent = wanted;
        result
    }

    /// The candidates of a type of the object, which those that use them make fewer.
    pub(super) fn of(&mut self, type_id: u32) -> &mut Vec<Candidate<'k>> {
        self.found.entry(type_id).or_default()
    }

    fn scan(&mut self, target: &'k Btf<'k>, wanted: &Wanted<'_>) -> Result<(), ObjectError> {
        // A kernel has some 150 000 types: two letters rule most of them out.
        let mut begins = vec![false; 1 << 16];
        for name in wanted.keys() {
            let seconds = match name {
                // A flavour may follow.
                [_] => 0..=u8::MAX,
                [_, second, ..] => *second..=*second,
                [] => continue,
            };
            let first = name.first().copied().unwrap_or_default();
            for second in seconds {
                if let Some(begin) = begins.get_mut(index([first, second])) {
                    *begin = true;
                }
            }
        }
        for (id, name) in target.own_names() {
            if begins.get(index(target.begin(name))) != Some(&true) {
                continue;
            }
            let Some(types) = wanted.get(essential(target.string(name)?)) else {
                continue;
            };
            let candidate = target.get(id)?;
            for &(local, kind) in types {
                if same_kind(kind, candidate.kind()) {
                    self.found.entry(local).or_default().push((target, id));
                }
            }
        }
        Ok(())
    }
}

fn index(begin: [u8; 2]) -> usize {
    usize::from(u16::from_be_bytes(begin))
}

/// libbpf's `btf_kind_core_compat`.
pub(super) fn same_kind(one: u32, other: u32) -> bool {
    let is_enum = |kind| matches!(kind, kind::ENUM | kind::ENUM64);
    one == other || (is_enum(one) && is_enum(other))
}
