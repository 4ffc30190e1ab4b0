//! The value of a relocation, in the object's types and in the kernel's.

use super::compare::{SIGNED, int_encoding};
use super::error::Missing;
use super::records::RelocationKind;
use super::spec::Spec;
use super::{ByteOrder, CoreReason};
use crate::btf::{Btf, Type, kind};

/// What a relocation makes of its instruction (libbpf's `struct bpf_core_relo_res`).
#[derive(Debug, Clone, Default)]
pub(super) struct Calculated {
    /// What the compiler put there.
    pub(super) original: u64,
    /// What belongs there; `None` where the kernel does not have the target.
    pub(super) value: Option<u64>,
    /// Whether `original` must be there.
    pub(super) validate: bool,
    /// Bytes of the field in the object and in the kernel.
    pub(super) sizes: (u32, u32),
    /// These differ, and a load or store of the kernel's size would not do the same.
    pub(super) sizes_conflict: bool,
    /// What the kernel does not have.
    pub(super) missing: Option<Missing>,
}

/// A type, and the path in it.
pub(super) type Side<'s, 'a> = (&'s Btf<'a>, &'s Spec<'a>);

/// One side's part of a relocation for a field.
struct Field<'a> {
    value: u64,
    validate: bool,
    /// Of the field, in bytes, and what it is, where it can be loaded and stored as a whole.
    size: u32,
    whole: Option<Type<'a>>,
}

impl Calculated {
    /// The id of a type in the object's own BTF.
    pub(super) fn local_id(id: u32) -> Self {
        Self {
            original: u64::from(id),
            value: Some(u64::from(id)),
            ..Self::default()
        }
    }

    /// Compares both sides (libbpf's `bpf_core_calc_relo`); the kernel may have nothing.
    pub(super) fn of(
        relocation: RelocationKind,
        local: Side<'_, '_>,
        target: Option<Side<'_, '_>>,
        order: ByteOrder,
    ) -> Result<Self, CoreReason> {
        use RelocationKind::*;
        match relocation {
            FieldExists | EnumvalExists => Ok(Self::checked(1, Some(u64::from(target.is_some())))),
            EnumvalValue => {
                let value = target.map(enumerator).transpose()?;
                Ok(Self::checked(enumerator(local)?, value))
            }
            TypeIdLocal | TypeIdTarget | TypeExists | TypeSize | TypeMatches => {
                let of = |side| of_type(relocation, side);
                let value = target.map(of).transpose()?.unwrap_or_default();
                Ok(Self {
                    // Linking of objects changes ids.
                    validate: relocation != TypeIdTarget,
                    ..Self::checked(of(local)?, Some(value))
                })
            }
            _ => {
                let one = of_field(relocation, local, order)?;
                let Some(target) = target else {
                    return Ok(Self {
                        validate: one.validate,
                        ..Self::checked(one.value, None)
                    });
                };
                let other = of_field(relocation, target, order)?;
                Ok(Self {
                    validate: one.validate,
                    sizes: (one.size, other.size),
                    sizes_conflict: one.size != other.size
                        && !resizable(one.whole.as_ref(), other.whole.as_ref())?,
                    ..Self::checked(one.value, Some(other.value))
                })
            }
        }
    }

    fn checked(original: u64, value: Option<u64>) -> Self {
        Self {
            original,
            value,
            validate: true,
            ..Self::default()
        }
    }
}

/// Whether a load or store of another size still gives the same value: of pointers, which have 32 bits in some kernels,
/// and of unsigned integers, which are extended with zeros.
fn resizable(one: Option<&Type<'_>>, other: Option<&Type<'_>>) -> Result<bool, CoreReason> {
    let (Some(one), Some(other)) = (one, other) else {
        return Ok(false);
    };
    Ok(match (one.kind(), other.kind()) {
        (kind::PTR, kind::PTR) => true,
        (kind::INT, kind::INT) => int_encoding(one)? != SIGNED && int_encoding(other)? != SIGNED,
        _ => false,
    })
}

fn of_type(relocation: RelocationKind, (btf, spec): Side<'_, '_>) -> Result<u64, CoreReason> {
    Ok(match relocation {
        RelocationKind::TypeIdTarget | RelocationKind::TypeIdLocal => u64::from(spec.root),
        RelocationKind::TypeSize => u64::from(btf.size(spec.root)?.ok_or(CoreReason::NoSize)?),
        _ => 1,
    })
}

fn enumerator((btf, spec): Side<'_, '_>) -> Result<u64, CoreReason> {
    let access = spec.accesses.first().ok_or(CoreReason::NoSize)?;
    Ok(btf.get(access.type_id)?.enumerator(access.index)?.1)
}

/// libbpf's `bpf_core_calc_field_relo`.
fn of_field<'a>(
    relocation: RelocationKind,
    (btf, spec): Side<'_, 'a>,
    order: ByteOrder,
) -> Result<Field<'a>, CoreReason> {
    use RelocationKind::*;
    let access = spec.accesses.last().ok_or(CoreReason::NoSize)?;
    if access.name.is_none() {
        let size = btf.size(access.type_id)?.ok_or(CoreReason::NoSize)?;
        let (value, size) = match relocation {
            FieldByteOffset => (spec.bit_offset / 8, size),
            FieldByteSize => (size, 0),
            _ => return Err(CoreReason::Element),
        };
        return Ok(Field {
            value: u64::from(value),
            validate: true,
            size,
            whole: Some(btf.get(access.type_id)?),
        });
    }
    let member = btf.get(access.type_id)?.member(access.index)?;
    let (id, found) = btf.resolve(member.type_id)?;
    let bit_offset = spec.bit_offset;
    let is_bit_field = member.bit_size > 0;
    let (mut bytes, mut bits) = (found.target, member.bit_size);
    let mut offset;
    if is_bit_field {
        // The smallest aligned load that has all of its bits.
        loop {
            offset = (bit_offset / 8)
                .checked_div(bytes)
                .ok_or(CoreReason::NoSize)?
                * bytes;
            let end = u64::from(bit_offset) + u64::from(bits);
            if end <= (u64::from(offset) + u64::from(bytes)) * 8 {
                break;
            }
            if bytes >= 8 {
                return Err(CoreReason::BitField);
            }
            bytes *= 2;
        }
    } else {
        bytes = btf.size(id)?.ok_or(CoreReason::NoSize)?;
        offset = bit_offset / 8;
        bits = bytes.wrapping_mul(8);
    }
    // Shifts are for fields of at most 64 bits. For others they make no sense, and the compiler's value is compared with
    // what libbpf would put there, in 32 bits.
    let start = offset.wrapping_mul(8);
    let value = match relocation {
        FieldByteOffset => offset,
        FieldByteSize => bytes,
        FieldSigned => u32::from(
            (found.is_enum() && found.flag())
                || (found.kind() == kind::INT && int_encoding(&found)? & SIGNED != 0),
        ),
        FieldLshiftU64 => match order {
            ByteOrder::Little => {
                64_u32.wrapping_sub(bit_offset.wrapping_add(bits).wrapping_sub(start))
            }
            ByteOrder::Big => 8_u32
                .wrapping_sub(bytes)
                .wrapping_mul(8)
                .wrapping_add(bit_offset.wrapping_sub(start)),
        },
        _ => 64_u32.wrapping_sub(bits),
    };
    let has_size = relocation == FieldByteOffset && !is_bit_field;
    Ok(Field {
        value: u64::from(value),
        // Compilers may choose another load for a bit field than this does.
        validate: !is_bit_field || matches!(relocation, FieldSigned | FieldRshiftU64),
        size: if has_size { bytes } else { 0 },
        whole: has_size.then_some(found),
    })
}
