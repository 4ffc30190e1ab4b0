//! CO-RE: the relocations of the programs that are wanted, and their instructions in the copy.

use std::collections::BTreeMap;

use bytecode_object::btf::Btf;
use bytecode_object::core_relocation::{Missing, Patch, Relocations};

use super::elf::{Object, Role};
use super::{NormaliseError, reach};

/// An instruction that does not fit the kernel, and that the verifier refuses if the program reaches it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unfit {
    /// Function that it is in.
    pub function: String,
    /// Its number in the function.
    pub instruction: u64,
    /// What the kernel does not have.
    pub missing: Missing,
}

impl Object<'_> {
    /// CO-RE relocations of the programs `wanted` and of the functions that they call; `None` where there are none.
    ///
    /// # Errors
    ///
    /// When a function is missing, or BTF is damaged.
    pub fn core_relocations(
        &self,
        wanted: &[&str],
    ) -> Result<Option<Relocations<'_>>, NormaliseError> {
        let named = |name: &str| {
            let mut sections = self.sections.iter();
            sections.find(|section| section.name == name && !section.data.is_empty())
        };
        let (Some(btf), Some(ext)) = (named(".BTF"), named(".BTF.ext")) else {
            return Ok(None);
        };
        let mut relocations = Relocations::parse(btf.data, ext.data, self.byte_order())?;
        if relocations.is_empty() {
            return Ok(None);
        }
        // Which programs jump where was answered by `needs`.
        let shared = self.symbols.iter().map(|symbol| symbol.name).collect();
        let reached = reach::reach(self, wanted, &shared)?.ranges;
        let mut ranges = BTreeMap::new();
        for name in relocations.sections() {
            let index = self.code_section(name);
            ranges.insert(name.to_owned(), index.and_then(|index| reached.get(&index)));
        }
        relocations.retain(|section, offset| {
            let offset = u64::from(offset);
            let ranges = ranges.get(section).copied().flatten();
            let before = ranges.and_then(|ranges| ranges.range(..=(offset, u64::MAX)).next_back());
            before.is_some_and(|&(_, end)| offset < end)
        });
        Ok(Some(relocations).filter(|relocations| !relocations.is_empty()))
    }

    /// Name of a type of its BTF.
    pub fn type_name(&self, id: u32) -> Option<String> {
        let btf = self
            .sections
            .iter()
            .find(|section| section.name == ".BTF")?;
        let btf = Btf::parse(btf.data, self.byte_order()).ok()?;
        let name = btf.string(btf.get(id).ok()?.name).ok()?;
        Some(String::from_utf8_lossy(name).into_owned())
    }

    /// Instructions of the section of that name.
    pub fn code(&self, section: &str) -> Option<&[u8]> {
        let section = self.sections.get(self.code_section(section)?)?;
        Some(section.data)
    }

    fn code_section(&self, name: &str) -> Option<usize> {
        let code = |role| matches!(role, Role::Programs | Role::Text);
        let mut sections = self.sections.iter();
        sections.position(|section| section.name == name && code(section.role()))
    }

    /// Writes the instructions into a copy that [`Object::normalise`] made, where code has kept its place, and names those
    /// that do not fit.
    ///
    /// # Errors
    ///
    /// When the copy is of another object.
    pub fn patch(
        &self,
        copy: &mut [u8],
        patches: &[Patch<'_>],
    ) -> Result<Vec<Unfit>, NormaliseError> {
        let mut unfit = Vec::new();
        for patch in patches {
            let index = self.code_section(patch.section).ok_or(OUTSIDE)?;
            let section = self.sections.get(index).ok_or(OUTSIDE)?;
            let start = section.offset.saturating_add(u64::from(patch.offset));
            let start = usize::try_from(start).map_err(|_| OUTSIDE)?;
            let end = start.saturating_add(patch.bytes.len());
            let place = copy.get_mut(start..end).ok_or(OUTSIDE)?;
            place.copy_from_slice(&patch.bytes);
            if let Some(missing) = &patch.missing {
                let functions = self.functions_of(index);
                let function = functions.range(..=u64::from(patch.offset)).next_back();
                let symbol =
                    function.and_then(|(start, symbol)| Some((start, self.symbols.get(*symbol)?)));
                let (start, symbol) = symbol.ok_or(OUTSIDE)?;
                unfit.push(Unfit {
                    function: symbol.name.to_owned(),
                    instruction: (u64::from(patch.offset) - start) / 8,
                    missing: missing.clone(),
                });
            }
        }
        Ok(unfit)
    }
}

const OUTSIDE: NormaliseError = NormaliseError::Damaged {
    what: "a CO-RE relocation outside of its section",
};
