//! Whether a type of the object and one of the kernel go together.

use super::candidates::same_kind;
use super::spec::{Access, MAX_DEPTH, Spec};
use super::{CoreReason, Steps, essential};
use crate::btf::{Btf, Type, kind};

/// How deep pointers, arrays and signatures may be nested in each other: as libbpf has it.
const MAX_NESTED: u32 = 32;

/// `BTF_INT_SIGNED`.
pub(super) const SIGNED: u32 = 1;

/// The types of an object and of a kernel.
pub(super) struct Pair<'k> {
    pub(super) local: &'k Btf<'k>,
    pub(super) target: &'k Btf<'k>,
    pub(super) steps: &'k Steps,
}

/// A member of a type of the kernel that was looked for by its name.
pub(super) enum Member {
    /// It is there; its type.
    Found(u32),
    /// It is there, and its type is not compatible.
    OtherType,
    /// There is none of that name.
    Absent,
}

impl<'k> Pair<'k> {
    /// Looks for a member in a struct or union and in those that it contains without a name, and moves there
    /// (libbpf's `bpf_core_match_member`).
    pub(super) fn find_member(
        &self,
        access: &Access<'_>,
        target: u32,
        spec: &mut Spec<'k>,
    ) -> Result<Member, CoreReason> {
        let (id, target) = self.target.resolve(target)?;
        if !target.is_composite() {
            return Ok(Member::Absent);
        }
        let wanted = self.local.get(access.type_id)?.member(access.index)?;
        let mut found = Member::Absent;
        for index in 0..target.length() {
            self.steps.take()?;
            if spec.depth == MAX_DEPTH {
                return Err(CoreReason::TooDeep);
            }
            let member = target.member(index)?;
            let name = self.target.string(member.name)?;
            let before = (spec.bit_offset, spec.depth);
            spec.move_by(member.bit_offset)?;
            spec.depth += 1;
            if name.is_empty() {
                match self.find_member(access, member.type_id, spec)? {
                    Member::Found(type_id) => return Ok(Member::Found(type_id)),
                    Member::OtherType => found = Member::OtherType,
                    Member::Absent => {}
                }
            } else if Some(name) == access.name {
                if !self.fields_compatible(wanted.type_id, member.type_id)? {
                    return Ok(Member::OtherType);
                }
                spec.push(id, index, Some(name));
                return Ok(Member::Found(member.type_id));
            }
            (spec.bit_offset, spec.depth) = before;
        }
        Ok(found)
    }

    /// Whether a field of one type can be read as one of the other (libbpf's `bpf_core_fields_are_compat`): sizes and
    /// signedness of integers and what pointers point to make no difference.
    fn fields_compatible(&self, mut local: u32, mut target: u32) -> Result<bool, CoreReason> {
        for _ in 0..MAX_NESTED {
            self.steps.take()?;
            let ((_, one), (_, other)) = (self.local.resolve(local)?, self.target.resolve(target)?);
            if one.is_composite() && other.is_composite() {
                return Ok(true);
            }
            if !same_kind(one.kind(), other.kind()) {
                return Ok(false);
            }
            return Ok(match one.kind() {
                kind::PTR | kind::FLOAT => true,
                kind::FWD | kind::ENUM | kind::ENUM64 => {
                    let (one, other) = self.names(&one, &other)?;
                    one.is_empty() || other.is_empty() || one == other
                }
                kind::INT => is_plain_int(&one)? && is_plain_int(&other)?,
                kind::ARRAY => {
                    (local, target) = (one.array()?.0, other.array()?.0);
                    continue;
                }
                _ => false,
            });
        }
        Err(CoreReason::TooDeep)
    }

    /// Whether two types of the same name are of the same kind, and so on along pointers, arrays and signatures
    /// (libbpf's `bpf_core_types_are_compat`). Members make no difference.
    pub(super) fn types_compatible(&self, local: u32, target: u32) -> Result<bool, CoreReason> {
        self.compatible(local, target, MAX_NESTED)
    }

    fn compatible(&self, mut local: u32, mut target: u32, level: u32) -> Result<bool, CoreReason> {
        let (one, other) = (self.local.get(local)?, self.target.get(target)?);
        if !same_kind(one.kind(), other.kind()) {
            return Ok(false);
        }
        for _ in 0..MAX_NESTED {
            self.steps.take()?;
            let ((_, one), (_, other)) = (self.local.resolve(local)?, self.target.resolve(target)?);
            if !same_kind(one.kind(), other.kind()) {
                return Ok(false);
            }
            match one.kind() {
                kind::VOID | kind::STRUCT | kind::UNION | kind::ENUM | kind::ENUM64 | kind::FWD => {
                    return Ok(true);
                }
                kind::INT => return Ok(is_plain_int(&one)? && is_plain_int(&other)?),
                kind::PTR => (local, target) = (one.target, other.target),
                kind::ARRAY => (local, target) = (one.array()?.0, other.array()?.0),
                kind::FUNC_PROTO => {
                    if one.length() != other.length() {
                        return Ok(false);
                    }
                    for index in 0..one.length() {
                        let inner = level.checked_sub(1).ok_or(CoreReason::TooDeep)?;
                        let (one, _) = self.local.resolve(one.parameter(index)?)?;
                        let (other, _) = self.target.resolve(other.parameter(index)?)?;
                        if !self.compatible(one, other, inner)? {
                            return Ok(false);
                        }
                    }
                    (local, target) = (one.target, other.target);
                }
                _ => return Ok(false),
            }
        }
        Err(CoreReason::TooDeep)
    }

    /// Whether the kernel's type has all that the object's has (libbpf's `bpf_core_types_match`).
    pub(super) fn types_match(&self, local: u32, target: u32) -> Result<bool, CoreReason> {
        self.matches(local, target, false, MAX_NESTED)
    }

    fn matches(
        &self,
        mut local: u32,
        mut target: u32,
        mut behind_pointer: bool,
        level: u32,
    ) -> Result<bool, CoreReason> {
        let inner = level.checked_sub(1).ok_or(CoreReason::TooDeep)?;
        for _ in 0..MAX_NESTED {
            self.steps.take()?;
            let ((_, one), (_, other)) = (self.local.resolve(local)?, self.target.resolve(target)?);
            if !self.names_match(one.name, other.name)? {
                return Ok(false);
            }
            let (kinds, flags) = ((one.kind(), other.kind()), (one.flag(), other.flag()));
            let equal = kinds.0 == kinds.1;
            match kinds.0 {
                kind::VOID => return Ok(equal),
                // The flag of a declaration says that it is one of a union.
                kind::FWD if equal => return Ok(flags.0 == flags.1),
                kind::FWD => {
                    let declared = if flags.0 { kind::UNION } else { kind::STRUCT };
                    return Ok(behind_pointer && kinds.1 == declared);
                }
                kind::ENUM | kind::ENUM64 => {
                    return Ok(other.is_enum() && self.enums_match(&one, &other)?);
                }
                kind::STRUCT | kind::UNION if behind_pointer => {
                    let declared = kinds.1 == kind::FWD && (kinds.0 == kind::UNION) == flags.1;
                    return Ok(equal || declared);
                }
                kind::STRUCT | kind::UNION => {
                    return Ok(equal && self.composites_match(&one, &other, inner)?);
                }
                kind::INT => {
                    let same_sign =
                        |one, other| Ok((int_encoding(one)? ^ int_encoding(other)?) & SIGNED == 0);
                    return if equal && one.target == other.target {
                        same_sign(&one, &other)
                    } else {
                        Ok(false)
                    };
                }
                kind::PTR if equal => {
                    behind_pointer = true;
                    (local, target) = (one.target, other.target);
                }
                kind::ARRAY if equal => {
                    let (one, other) = (one.array()?, other.array()?);
                    if one.1 != other.1 {
                        return Ok(false);
                    }
                    (local, target) = (one.0, other.0);
                }
                kind::FUNC_PROTO if equal => {
                    if one.length() != other.length() {
                        return Ok(false);
                    }
                    for index in 0..one.length() {
                        let (one, other) = (one.parameter(index)?, other.parameter(index)?);
                        if !self.matches(one, other, behind_pointer, inner)? {
                            return Ok(false);
                        }
                    }
                    (local, target) = (one.target, other.target);
                }
                _ => return Ok(false),
            }
        }
        Err(CoreReason::TooDeep)
    }

    /// Whether every member has one of the same name that matches.
    fn composites_match(
        &self,
        local: &Type<'_>,
        target: &Type<'_>,
        level: u32,
    ) -> Result<bool, CoreReason> {
        if local.length() > target.length() {
            return Ok(false);
        }
        for index in 0..local.length() {
            let wanted = local.member(index)?;
            let mut matched = false;
            for index in 0..target.length() {
                self.steps.take()?;
                let member = target.member(index)?;
                if self.names_match(wanted.name, member.name)?
                    && self.matches(wanted.type_id, member.type_id, false, level)?
                {
                    matched = true;
                    break;
                }
            }
            if !matched {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether every enumerator has one of the same name.
    fn enums_match(&self, local: &Type<'_>, target: &Type<'_>) -> Result<bool, CoreReason> {
        if local.target != target.target || local.length() > target.length() {
            return Ok(false);
        }
        for index in 0..local.length() {
            let (wanted, _) = local.enumerator(index)?;
            let mut matched = false;
            for index in 0..target.length() {
                self.steps.take()?;
                if self.names_match(wanted, target.enumerator(index)?.0)? {
                    matched = true;
                    break;
                }
            }
            if !matched {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn names_match(&self, local: u32, target: u32) -> Result<bool, CoreReason> {
        let (one, other) = (self.local.string(local)?, self.target.string(target)?);
        Ok(essential(one) == essential(other))
    }

    fn names(
        &self,
        local: &Type<'_>,
        target: &Type<'_>,
    ) -> Result<(&'k [u8], &'k [u8]), CoreReason> {
        Ok((
            essential(self.local.string(local.name)?),
            essential(self.target.string(target.name)?),
        ))
    }
}

/// Encoding of an integer (`BTF_INT_ENCODING`).
pub(super) fn int_encoding(found: &Type<'_>) -> Result<u32, CoreReason> {
    Ok((found.word(0)? >> 24) & 0xf)
}

/// Whether an integer does not stand for bits of another one (`BTF_INT_OFFSET`), as compilers once described bit fields.
fn is_plain_int(found: &Type<'_>) -> Result<bool, CoreReason> {
    Ok((found.word(0)? >> 16) & 0xff == 0)
}
