//! What a relocation is about: a type, an enumerator, or a path of members and elements in a type.

use super::compare::{Member, Pair};
use super::records::{Record, RelocationKind};
use super::{CoreReason, Steps, essential};
use crate::btf::{Btf, kind};

/// Most members and elements of a path: libbpf's `BPF_CORE_SPEC_MAX_LEN`.
pub(super) const MAX_DEPTH: usize = 64;

/// One named member, or one element of an array.
#[derive(Debug, Clone, Copy)]
pub(super) struct Access<'a> {
    /// The type that has the member, or the type of the element.
    pub(super) type_id: u32,
    /// Number of the member, of the element or of the enumerator.
    pub(super) index: u32,
    /// Name of the member or the enumerator; an element has none.
    pub(super) name: Option<&'a [u8]>,
}

/// A path in a type of the object or of the kernel (libbpf's `struct bpf_core_spec`).
#[derive(Debug)]
pub(super) struct Spec<'a> {
    /// The type.
    pub(super) root: u32,
    /// Named members and elements; the first is the element that the pointer itself leads to.
    pub(super) accesses: Vec<Access<'a>>,
    /// Members and elements, anonymous ones included.
    pub(super) depth: usize,
    pub(super) bit_offset: u32,
}

/// What a type of the kernel has of a path.
#[derive(Debug)]
pub(super) enum Match<'a> {
    /// All of it.
    Found(Spec<'a>),
    /// Not all of it.
    Absent(Absent),
}

/// Why a type of the kernel does not have a path.
#[derive(Debug, Clone, Copy)]
pub(super) struct Absent {
    /// Number of the first member or element that it does not have.
    pub(super) access: usize,
    /// It has one of that name, of another type.
    pub(super) other_type: bool,
}

impl<'a> Spec<'a> {
    fn new(root: u32) -> Self {
        Self {
            root,
            accesses: Vec::new(),
            depth: 0,
            bit_offset: 0,
        }
    }

    /// Reads the path of a relocation in the object's own types (libbpf's `bpf_core_parse_spec`).
    pub(super) fn parse(
        btf: &Btf<'a>,
        record: &Record,
        relocation: RelocationKind,
        steps: &Steps,
    ) -> Result<Self, CoreReason> {
        let text = btf.text(record.access)?;
        let invalid = || CoreReason::Access {
            access: text.to_owned(),
        };
        let mut spec = Self::new(record.type_id);
        if relocation.is_type() {
            return if text == "0" {
                Ok(spec)
            } else {
                Err(invalid())
            };
        }
        let mut indexes = Vec::new();
        for index in text.split(':') {
            steps.take()?;
            if indexes.len() == MAX_DEPTH {
                return Err(CoreReason::TooDeep);
            }
            indexes.push(index.parse::<u32>().map_err(|_| invalid())?);
        }
        spec.depth = indexes.len();
        let mut indexes = indexes.into_iter();
        let first = indexes.next().ok_or_else(invalid)?;
        let (mut id, root) = btf.resolve(record.type_id)?;
        if relocation.is_enumval() {
            if !root.is_enum() || indexes.next().is_some() || first >= root.length() {
                return Err(invalid());
            }
            let (name, _) = root.enumerator(first)?;
            spec.push(id, first, Some(btf.string(name)?));
            return Ok(spec);
        }
        spec.push(id, first, None);
        spec.move_by_elements(btf, id, first)?;
        for index in indexes {
            let found;
            (id, found) = btf.resolve(id)?;
            if found.is_composite() {
                if index >= found.length() {
                    return Err(invalid());
                }
                let member = found.member(index)?;
                spec.move_by(member.bit_offset)?;
                let name = btf.string(member.name)?;
                if !name.is_empty() {
                    spec.push(id, index, Some(name));
                }
                id = member.type_id;
            } else if found.kind() == kind::ARRAY {
                let (element, length) = found.array()?;
                if index >= length && !spec.is_flexible_array(btf, length)? {
                    return Err(invalid());
                }
                (id, _) = btf.resolve(element)?;
                spec.push(id, index, None);
                spec.move_by_elements(btf, id, index)?;
            } else {
                return Err(invalid());
            }
        }
        Ok(spec)
    }

    /// Looks for the same path in a type of the kernel (libbpf's `bpf_core_spec_match`).
    pub(super) fn find<'k>(
        &self,
        pair: &Pair<'k>,
        target: u32,
        relocation: RelocationKind,
    ) -> Result<Match<'k>, CoreReason> {
        let mut found = Spec::new(target);
        let absent = |access, other_type| Ok(Match::Absent(Absent { access, other_type }));
        if relocation.is_type() {
            let matches = match relocation {
                RelocationKind::TypeMatches => pair.types_match(self.root, target)?,
                _ => pair.types_compatible(self.root, target)?,
            };
            return if matches {
                Ok(Match::Found(found))
            } else {
                absent(0, true)
            };
        }
        if relocation.is_enumval() {
            let (id, target) = pair.target.resolve(target)?;
            let wanted = self.accesses.first().and_then(|access| access.name);
            let wanted = essential(wanted.unwrap_or_default());
            for index in 0..if target.is_enum() { target.length() } else { 0 } {
                pair.steps.take()?;
                let name = pair.target.string(target.enumerator(index)?.0)?;
                if essential(name) == wanted {
                    found.push(id, index, Some(name));
                    return Ok(Match::Found(found));
                }
            }
            return absent(0, false);
        }
        let mut id = target;
        for (at, access) in self.accesses.iter().enumerate() {
            let target;
            (id, target) = pair.target.resolve(id)?;
            if access.name.is_some() {
                match pair.find_member(access, id, &mut found)? {
                    Member::Found(member) => id = member,
                    Member::OtherType => return absent(at, true),
                    Member::Absent => return absent(at, false),
                }
                continue;
            }
            // The first element is of the type itself.
            if at > 0 {
                if target.kind() != kind::ARRAY {
                    return absent(at, true);
                }
                let (element, length) = target.array()?;
                if access.index >= length && !found.is_flexible_array(pair.target, length)? {
                    return absent(at, false);
                }
                (id, _) = pair.target.resolve(element)?;
            }
            if found.depth == MAX_DEPTH {
                return Err(CoreReason::TooDeep);
            }
            found.depth += 1;
            found.push(id, access.index, None);
            found.move_by_elements(pair.target, id, access.index)?;
        }
        Ok(Match::Found(found))
    }

    pub(super) fn push(&mut self, type_id: u32, index: u32, name: Option<&'a [u8]>) {
        self.accesses.push(Access {
            type_id,
            index,
            name,
        });
    }

    pub(super) fn move_by(&mut self, bits: u32) -> Result<(), CoreReason> {
        let sum = self.bit_offset.checked_add(bits);
        self.bit_offset = sum.ok_or(CoreReason::OffsetTooLarge)?;
        Ok(())
    }

    /// Moves to an element of an array of a type.
    fn move_by_elements(&mut self, btf: &Btf<'_>, id: u32, index: u32) -> Result<(), CoreReason> {
        let size = btf.size(id)?.ok_or(CoreReason::NoSize)?;
        let bits = index
            .checked_mul(size)
            .and_then(|bytes| bytes.checked_mul(8));
        self.move_by(bits.ok_or(CoreReason::OffsetTooLarge)?)
    }

    /// Whether the array that the last access leads to has any number of elements: it has none by its type and is the
    /// last member of its struct (libbpf's `is_flex_arr`).
    fn is_flexible_array(&self, btf: &Btf<'_>, length: u32) -> Result<bool, CoreReason> {
        match self.accesses.last() {
            Some(access) if access.name.is_some() && length == 0 => {
                let outer = btf.get(access.type_id)?;
                Ok(access.index.checked_add(1) == Some(outer.length()))
            }
            _ => Ok(false),
        }
    }
}
