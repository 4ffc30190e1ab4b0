//! What a relocation is about and why it cannot be applied, in words.

use std::fmt;

use super::records::{Record, RelocationKind};
use super::spec::{Absent, Access, MAX_DEPTH, Spec};
use super::{CoreReason as Reason, Steps, essential};
use crate::ObjectError;
use crate::btf::{Btf, kind};

/// A relocation that makes no sense. libbpf refuses the object, too.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "CO-RE relocation of {subject} (instruction {instruction} of section `{section}`): {reason}"
)]
pub struct CoreError {
    /// Name of the section.
    pub section: String,
    /// Number of the instruction in the section.
    pub instruction: u32,
    /// What the relocation is about.
    pub subject: String,
    /// What is wrong with it.
    pub reason: CoreReason,
}

/// Why a relocation makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CoreReason {
    /// A BTF that contradicts itself.
    #[error(transparent)]
    Damaged(#[from] ObjectError),
    /// A kind that is newer than this code.
    #[error("unknown kind {kind} of relocation")]
    UnknownKind {
        /// `enum bpf_core_relo_kind`.
        kind: u32,
    },
    /// A type without a name cannot be looked for.
    #[error("the type has no name, so the kernel's cannot be found")]
    Anonymous,
    /// An access that the object's own type does not have.
    #[error("the program's own type does not have the field `{access}`")]
    Access {
        /// Numbers of members and elements.
        access: String,
    },
    /// Types in types, deeper than libbpf goes.
    #[error("the types are nested too deep")]
    TooDeep,
    /// Types that take too long to compare.
    #[error("the types are too large to be compared")]
    TooComplex,
    /// A type without a size.
    #[error("a type has no size")]
    NoSize,
    /// An offset that an instruction cannot have.
    #[error("the offset does not fit into the instruction")]
    OffsetTooLarge,
    /// Several types of the kernel fit.
    #[error("several types of the kernel fit and differ{}", values(*.first, *.other))]
    Ambiguous {
        /// Value by the first one.
        first: Option<u64>,
        /// Value by another one.
        other: Option<u64>,
    },
    /// Something that only a member has.
    #[error("an element of an array has neither shifts nor a sign")]
    Element,
    /// A bit field that no load of 64 bits covers.
    #[error("no load of 64 bits has all bits of the bit field")]
    BitField,
    /// No instruction where it should be.
    #[error("no instruction at its offset")]
    NoInstruction,
    /// An instruction that has no place for the value.
    #[error("an instruction {code:#04x} cannot be relocated")]
    Instruction {
        /// Its code.
        code: u8,
    },
    /// An instruction that the compiler did not make for this relocation.
    #[error("the instruction has the value {found}, expected {expected}")]
    Unexpected {
        /// Value that it has.
        found: i64,
        /// Value by the object's own types.
        expected: u64,
    },
    /// A load or store that cannot have the size of the kernel's field.
    #[error("the field has {before} bytes in the program and {after} in the kernel")]
    Size {
        /// Bytes in the object.
        before: u32,
        /// Bytes in the kernel.
        after: u32,
    },
}

fn values(first: Option<u64>, other: Option<u64>) -> String {
    match (first, other) {
        (Some(first), Some(other)) if first != other => format!(": {first} and {other}"),
        _ => String::new(),
    }
}

/// What a kernel does not have.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Missing {
    /// A type.
    Type {
        /// As in C: `struct task_struct`.
        name: String,
    },
    /// A field.
    Field {
        /// Type of the kernel.
        type_name: String,
        /// Path of the field in it.
        field: String,
    },
    /// A field of another type than the program's.
    FieldType {
        /// Type of the kernel.
        type_name: String,
        /// Path of the field in it.
        field: String,
    },
    /// A field of another size than the program reads or writes.
    FieldSize {
        /// Type of the kernel.
        type_name: String,
        /// Path of the field in it.
        field: String,
    },
    /// A value of an enum.
    Value {
        /// Enum of the kernel.
        type_name: String,
        /// Name of the value.
        value: String,
    },
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Type { name } => write!(f, "the kernel has no type `{name}`"),
            Self::Field { type_name, field } => {
                write!(f, "kernel type `{type_name}` has no field `{field}`")
            }
            Self::FieldType { type_name, field } => write!(
                f,
                "field `{field}` of kernel type `{type_name}` has another type than in the program"
            ),
            Self::FieldSize { type_name, field } => write!(
                f,
                "field `{field}` of kernel type `{type_name}` has another size or sign than in the program"
            ),
            Self::Value { type_name, value } => {
                write!(f, "kernel enum `{type_name}` has no value `{value}`")
            }
        }
    }
}

impl Missing {
    /// A type that a kernel does not have, or the part of it: `absent` says how far the first type of that name goes.
    pub(super) fn from_spec(
        btf: &Btf<'_>,
        spec: &Spec<'_>,
        relocation: RelocationKind,
        absent: Option<Absent>,
    ) -> Result<Self, Reason> {
        let root = btf.get(spec.root)?;
        let type_name = text(essential(btf.string(root.name)?));
        let Some(Absent { access, other_type }) = absent else {
            return Ok(Self::Type {
                name: format!("{}{type_name}", keyword(root.kind())),
            });
        };
        if relocation.is_enumval() {
            let value = spec.accesses.first().and_then(|access| access.name);
            let value = text(essential(value.unwrap_or_default()));
            return Ok(Self::Value { type_name, value });
        }
        let known = spec.accesses.get(..=access).unwrap_or(&spec.accesses);
        let field = path(known);
        Ok(if other_type {
            Self::FieldType { type_name, field }
        } else {
            Self::Field { type_name, field }
        })
    }

    /// A field of another size.
    pub(super) fn size(btf: &Btf<'_>, spec: &Spec<'_>) -> Result<Self, Reason> {
        let root = btf.get(spec.root)?;
        Ok(Self::FieldSize {
            type_name: text(essential(btf.string(root.name)?)),
            field: path(&spec.accesses),
        })
    }
}

fn keyword(kind: u32) -> &'static str {
    match kind {
        kind::STRUCT => "struct ",
        kind::UNION => "union ",
        kind::ENUM | kind::ENUM64 => "enum ",
        _ => "",
    }
}

/// Members and elements as in C.
fn path(accesses: &[Access<'_>]) -> String {
    let mut path = String::new();
    // The first is the element that the pointer leads to.
    for (at, access) in accesses.iter().enumerate() {
        match access.name {
            Some(name) if path.is_empty() => path = text(name),
            Some(name) => path.extend([".", &text(name)]),
            None if at == 0 => {}
            None => path.push_str(&format!("[{}]", access.index)),
        }
    }
    path
}

/// A relocation in words, as far as it can be read.
pub(super) fn describe(btf: &Btf<'_>, record: &Record) -> String {
    let name = btf
        .get(record.type_id)
        .and_then(|root| Ok((root.kind(), btf.string(root.name)?)));
    let root = match name {
        Ok((_, [])) => format!("type {}", record.type_id),
        Ok((kind, name)) => format!("`{}{}`", keyword(kind), text(name)),
        Err(_) => return format!("type {}", record.type_id),
    };
    let field = RelocationKind::from_number(record.kind)
        .and_then(|kind| Spec::parse(btf, record, kind, &Steps::new(MAX_DEPTH as u32 * 2)))
        .map(|spec| path(&spec.accesses));
    match field {
        Ok(field) if !field.is_empty() => format!("`{field}` of {root}"),
        _ => root,
    }
}

/// Longest name that is shown.
const MAX_SHOWN: usize = 128;

fn text(name: &[u8]) -> String {
    let name = name.get(..MAX_SHOWN).unwrap_or(name);
    String::from_utf8_lossy(name).into_owned()
}
