//! What the CO-RE relocations of an object are about (`struct bpf_core_relo` of `include/uapi/linux/bpf.h`).

use std::collections::BTreeSet;

use super::NormaliseError;
use super::btf::{Btf, DAMAGED};
use super::elf::Object;
use super::kernel_types::flavorless;
use super::walk::Types;

/// `BPF_CORE_TYPE_ID_TARGET`: the number that a type has in the kernel's BTF.
const TYPE_ID_TARGET: u32 = 7;

/// Types of the kernel that relocations look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KernelTypes {
    /// Those of these names, for [`subset`](super::subset).
    Named(BTreeSet<Vec<u8>>),
    /// Any: a type without a name is looked for, or the number of one asked for.
    All,
}

impl Object<'_> {
    /// The kernel's types that the CO-RE relocations look at: of all programs that are in the file.
    ///
    /// # Errors
    ///
    /// When BTF is damaged.
    pub fn kernel_types(&self) -> Result<KernelTypes, NormaliseError> {
        let named = |name: &str| {
            let mut sections = self.sections.iter();
            sections.find(|section| section.name == name && !section.data.is_empty())
        };
        let mut names = BTreeSet::new();
        let (Some(btf), Some(ext)) = (named(".BTF"), named(".BTF.ext")) else {
            return Ok(KernelTypes::Named(names));
        };
        let btf = Btf::parse(btf.data, self.endian)?;
        let types = Types::of(&btf)?;
        for relocation in relocations(ext.data, &btf)? {
            let Some(root) = types.get(relocation.type_id)? else {
                return Ok(KernelTypes::All);
            };
            let name = flavorless(types.string(root.name)?);
            if name.is_empty() || relocation.kind == TYPE_ID_TARGET {
                return Ok(KernelTypes::All);
            }
            if !names.contains(name) {
                names.insert(name.to_vec());
            }
        }
        Ok(KernelTypes::Named(names))
    }
}

struct Relocation {
    type_id: u32,
    kind: u32,
}

fn relocations(data: &[u8], btf: &Btf) -> Result<Vec<Relocation>, NormaliseError> {
    let words = btf.words;
    let header = words.get(data, 4)? as usize;
    let mut found = Vec::new();
    // Headers from before CO-RE end before its fields.
    if header < 32 {
        return Ok(found);
    }
    let start = header
        .checked_add(words.get(data, 24)? as usize)
        .ok_or(DAMAGED)?;
    let end = start
        .checked_add(words.get(data, 28)? as usize)
        .ok_or(DAMAGED)?;
    let part = data.get(start..end).ok_or(DAMAGED)?;
    if part.is_empty() {
        return Ok(found);
    }
    let size = words.get(part, 0)? as usize;
    if size < 16 {
        return Err(DAMAGED);
    }
    let mut rest = part.get(4..).ok_or(DAMAGED)?;
    while !rest.is_empty() {
        let records = size
            .checked_mul(words.get(rest, 4)? as usize)
            .ok_or(DAMAGED)?;
        let (records, after) = rest
            .get(8..)
            .and_then(|rest| rest.split_at_checked(records))
            .ok_or(DAMAGED)?;
        rest = after;
        for record in records.chunks_exact(size) {
            found.push(Relocation {
                type_id: words.get(record, 4)?,
                kind: words.get(record, 12)?,
            });
        }
    }
    Ok(found)
}
