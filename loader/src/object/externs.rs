//! What an object leaves to the running kernel to fill in: `__kconfig` and `__ksym` (libbpf's `bpf_helpers.h`).

use super::NormaliseError;
use super::btf::{Btf, kind};
use super::elf::Object;
use super::reach::Reached;
use super::walk::Types;

/// Encodings of `BTF_KIND_INT`.
const SIGNED: u32 = 1;
const CHAR: u32 = 2;
const BOOL: u32 = 4;

/// One extern that a program uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extern {
    /// Its name.
    pub name: String,
    /// The first function that uses it.
    pub function: String,
    /// It may be missing (`__weak`).
    pub weak: bool,
    /// What it is; `None` where BTF does not say.
    pub kind: Option<ExternKind>,
}

/// What an extern is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExternKind {
    /// A value of the kernel's configuration.
    Config(ConfigType),
    /// A variable of the kernel.
    Variable {
        /// It has a type (not `void`): the verifier lets programs read it. Else only its address is wanted.
        typed: bool,
    },
    /// A function that programs may call (kfunc).
    Function,
}

/// C type of a value of the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConfigType {
    /// `bool`.
    Bool,
    /// `enum libbpf_tristate`.
    Tristate,
    /// An integer.
    Int {
        /// 1, 2, 4 or 8 bytes.
        size: u32,
        /// Whether it can be negative.
        signed: bool,
        /// A `char`: takes y, n and m as letters.
        letter: bool,
    },
    /// `char[]`.
    Text {
        /// Bytes, the final NUL included.
        size: u32,
    },
    /// Anything else: nothing fits it.
    Other,
}

/// What an extern turned out to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resolved {
    /// A value of the configuration, as it lies in memory.
    Value(Vec<u8>),
    /// An address; nought for a weak variable that the kernel does not have.
    Address(u64),
    /// Number of a variable or a function in the kernel's BTF.
    KernelType(u32),
    /// A weak function that the kernel does not have.
    Missing,
}

/// The externs that were reached, each once, in the order of their names.
pub(super) fn externs(
    object: &Object<'_>,
    reached: &Reached,
) -> Result<Vec<Extern>, NormaliseError> {
    if reached.sites.is_empty() {
        return Ok(Vec::new());
    }
    let section = object
        .sections
        .iter()
        .find(|section| section.name == ".BTF");
    let btf = section.map(|section| Btf::parse(section.data, object.endian));
    let btf = btf.transpose()?;
    let types = btf.as_ref().map(Types::of).transpose()?;
    let mut externs: Vec<Extern> = Vec::new();
    for site in &reached.sites {
        let Some(symbol) = object.symbols.get(site.symbol) else {
            continue;
        };
        if externs.iter().any(|known| known.name == symbol.name) {
            continue;
        }
        externs.push(Extern {
            name: symbol.name.to_owned(),
            function: site.function.clone(),
            weak: symbol.weak,
            kind: match &types {
                Some(types) => kind_of(types, symbol.name)?,
                None => None,
            },
        });
    }
    externs.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(externs)
}

fn kind_of(types: &Types<'_>, name: &str) -> Result<Option<ExternKind>, NormaliseError> {
    for member in types.section(".kconfig")? {
        if types.name(&member)? == name {
            let found = config_type(types, member.last)?;
            return Ok(Some(ExternKind::Config(found)));
        }
    }
    for member in types.section(".ksyms")? {
        if types.name(&member)? != name {
            continue;
        }
        return Ok(Some(match member.kind {
            kind::FUNC => ExternKind::Function,
            _ => ExternKind::Variable {
                typed: types.resolve(member.last)?.is_some(),
            },
        }));
    }
    Ok(None)
}

/// As `find_kcfg_type` of libbpf.
fn config_type(types: &Types<'_>, id: u32) -> Result<ConfigType, NormaliseError> {
    let Some(found) = types.resolve(id)? else {
        return Ok(ConfigType::Other);
    };
    Ok(match found.kind {
        kind::INT => {
            // Encoding, offset in bits, bits.
            let encoding = types.word(&found, 0)? >> 24;
            match found.last {
                1 if encoding & BOOL != 0 => ConfigType::Bool,
                _ if encoding & BOOL != 0 => ConfigType::Other,
                size @ (1 | 2 | 4 | 8) => ConfigType::Int {
                    size,
                    signed: encoding & SIGNED != 0,
                    letter: size == 1,
                },
                _ => ConfigType::Other,
            }
        }
        kind::ENUM if found.last == 4 && types.name(&found)? == "libbpf_tristate" => {
            ConfigType::Tristate
        }
        kind::ARRAY => {
            let (element, length) = (types.word(&found, 0)?, types.word(&found, 2)?);
            match types.resolve(element)? {
                Some(letter)
                    if letter.kind == kind::INT
                        && letter.last == 1
                        && (types.word(&letter, 0)? >> 24) & (BOOL | CHAR | SIGNED) != BOOL
                        && length > 0 =>
                {
                    ConfigType::Text { size: length }
                }
                _ => ConfigType::Other,
            }
        }
        _ => ConfigType::Other,
    })
}
