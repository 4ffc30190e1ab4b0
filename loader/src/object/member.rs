//! Types of the programs that are to replace functions of a dispatcher.
//!
//! The kernel compares what BTF says of an EXT program and of the function that it replaces (`btf_check_func_type_match`
//! of kernel/bpf/btf.c): both global, `int`, one pointer to the context. It does not look at the signature of a program
//! that is attached by itself: that one gets the context in its first register whatever its source says, and what it
//! returns is 32 bits. So the instructions are the same, and a program that says something else gets another type.

use object::Endianness;

use super::NormaliseError;
use super::btf::{Btf, DAMAGED, kind};
use super::walk::{Type, Types};

/// `BTF_FUNC_GLOBAL`.
const GLOBAL: u32 = 1;
/// `BTF_INT_SIGNED`, and the bits of an `int`.
const SIGNED_32: u32 = (1 << 24) | 32;
/// `component_idx` of a tag of the function itself.
const WHOLE: u32 = u32::MAX;

/// Longest name of a type that every kernel takes: `KSYM_NAME_LEN` before 6.1, less the NUL.
const MAX_NAME_BYTES: usize = 127;

/// A program that is to be a member of a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Member<'a> {
    /// Its function.
    pub function: &'a str,
    /// The struct that it gets a pointer to: `xdp_md`, `__sk_buff`.
    pub context: &'a str,
    /// Number of its function's type, where the object says.
    pub type_id: Option<u32>,
}

/// BTF in which members have the signature of what they replace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberTypes {
    /// The section.
    pub btf: Vec<u8>,
    /// Numbers of the members' types, in the order of the members.
    pub functions: Vec<u32>,
    /// Number of a type for functions that the object says nothing of: static, so that the verifier follows them from
    /// their callers, as it does without BTF. There where a member has no type of its own.
    pub subprogram: Option<u32>,
}

/// Adds to `btf` (this machine's byte order; a new section without it) what members lack.
///
/// # Errors
///
/// When the BTF contradicts its own sizes.
pub fn member_types(
    btf: Option<&[u8]>,
    members: &[Member<'_>],
) -> Result<MemberTypes, NormaliseError> {
    let btf = match btf {
        Some(data) => Btf::parse(data, Endianness::default())?,
        None => Btf::empty(),
    };
    let count = Types::of(&btf)?.places.len();
    let mut building = Building {
        btf,
        next: u32::try_from(count).map_err(|_| DAMAGED)?,
    };
    let mut functions = Vec::with_capacity(members.len());
    for member in members {
        functions.push(match member.type_id {
            Some(id) if building.fits(id, member.context)? => id,
            _ => building.function(member)?,
        });
    }
    let subprogram = match members.iter().any(|member| member.type_id.is_none()) {
        true => Some(building.subprogram()?),
        false => None,
    };
    let Building { mut btf, .. } = building;
    // A section of its own is written out even when nothing was added to it.
    btf.types_changed = true;
    Ok(MemberTypes {
        btf: btf.changed().ok_or(DAMAGED)?,
        functions,
        subprogram,
    })
}

struct Building {
    btf: Btf,
    /// Number of the type that is added next.
    next: u32,
}

impl Building {
    /// Whether the kernel takes the function for one that is like a dispatcher's.
    fn fits(&self, id: u32, context: &str) -> Result<bool, NormaliseError> {
        let types = Types::of(&self.btf)?;
        let is = |found: &Option<Type>, kind: u32| found.is_some_and(|found| found.kind == kind);
        let function = types.get(id)?;
        let Some(function) = function.filter(|found| found.kind == kind::FUNC) else {
            return Ok(false);
        };
        let Some(signature) = types.get(function.last)? else {
            return Ok(false);
        };
        if function.length != GLOBAL
            || signature.kind != kind::FUNC_PROTO
            || signature.length != 1
            || !is(&types.resolve(signature.last)?, kind::INT)
        {
            return Ok(false);
        }
        let Some(pointer) = types.resolve(types.word(&signature, 1)?)? else {
            return Ok(false);
        };
        if pointer.kind != kind::PTR {
            return Ok(false);
        }
        Ok(match types.resolve(pointer.last)? {
            Some(found) if found.kind == kind::STRUCT => types.name(&found)? == context,
            _ => false,
        })
    }

    /// `int function(struct context *ctx)`, with the tags that the program's own type has.
    fn function(&mut self, member: &Member<'_>) -> Result<u32, NormaliseError> {
        let context = self.context(member.context)?;
        let int = self.int()?;
        let pointer = self.push(&[0, kind::PTR << 24, context])?;
        let argument = self.btf.add("ctx")?;
        let signature = self.push(&[0, (kind::FUNC_PROTO << 24) | 1, int, argument, pointer])?;
        let name = self.btf.add(&identifier(member.function))?;
        let function = self.push(&[name, (kind::FUNC << 24) | GLOBAL, signature])?;
        if let Some(own) = member.type_id {
            for tag in self.tags(own)? {
                self.push(&[tag, kind::DECL_TAG << 24, function, WHOLE])?;
            }
        }
        Ok(function)
    }

    /// `static int subprogram(void)`.
    fn subprogram(&mut self) -> Result<u32, NormaliseError> {
        let int = self.int()?;
        let signature = self.push(&[0, kind::FUNC_PROTO << 24, int])?;
        let name = self.btf.add("subprogram")?;
        self.push(&[name, kind::FUNC << 24, signature])
    }

    fn int(&mut self) -> Result<u32, NormaliseError> {
        let name = self.btf.add("int")?;
        self.push(&[name, kind::INT << 24, 4, SIGNED_32])
    }

    /// The object's own struct, or an empty one: the kernel compares names.
    fn context(&mut self, name: &str) -> Result<u32, NormaliseError> {
        let types = Types::of(&self.btf)?;
        for found in types.iter() {
            let (id, found) = found?;
            if found.kind == kind::STRUCT && types.string(found.name)? == name.as_bytes() {
                return Ok(id);
            }
        }
        let name = self.btf.add(name)?;
        self.push(&[name, kind::STRUCT << 24, 0])
    }

    /// Names of the tags of a function itself.
    fn tags(&self, function: u32) -> Result<Vec<u32>, NormaliseError> {
        let types = Types::of(&self.btf)?;
        let mut tags = Vec::new();
        for found in types.iter() {
            let (_, found) = found?;
            if found.kind == kind::DECL_TAG
                && found.last == function
                && types.word(&found, 0)? == WHOLE
            {
                tags.push(found.name);
            }
        }
        Ok(tags)
    }

    fn push(&mut self, words: &[u32]) -> Result<u32, NormaliseError> {
        let id = self.next;
        self.btf.push_type(words);
        self.next = id.checked_add(1).ok_or(DAMAGED)?;
        Ok(id)
    }
}

/// A name that the kernel takes for one of a function (`__btf_name_valid`): Rust's have other characters, too.
fn identifier(name: &str) -> String {
    let taken = |byte: u8| match byte {
        byte if byte.is_ascii_alphanumeric() => char::from(byte),
        _ => '_',
    };
    let mut out: String = name.bytes().take(MAX_NAME_BYTES).map(taken).collect();
    if out.is_empty() || out.starts_with(|first: char| first.is_ascii_digit()) {
        out.insert(0, '_');
        out.truncate(MAX_NAME_BYTES);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// BTF with `int`, a context, a pointer to it, and a function of each signature; gives their numbers.
    fn functions() -> (Vec<u8>, Vec<(&'static str, u32, bool)>) {
        let mut making = Building {
            btf: Btf::empty(),
            next: 1,
        };
        let int = making.int().unwrap();
        let context = making.context("xdp_md").unwrap();
        let name = making.btf.add("other").unwrap();
        let forward = making.push(&[name, kind::FWD << 24, 0]).unwrap();
        let choice = making
            .push(&[name, (kind::ENUM << 24) | 1, 4, name, 1])
            .unwrap();
        let constant = making.push(&[0, kind::CONST << 24, context]).unwrap();
        let pointer = |making: &mut Building, to| making.push(&[0, kind::PTR << 24, to]).unwrap();
        let to_context = pointer(&mut making, context);
        let to_constant = pointer(&mut making, constant);
        let to_forward = pointer(&mut making, forward);
        let to_void = pointer(&mut making, 0);
        let alias = making.push(&[name, kind::TYPEDEF << 24, int]).unwrap();
        let cases: [(&str, u32, &[u32], u32, bool); 9] = [
            ("usual", int, &[to_context], 1, true),
            ("const_pointer", alias, &[to_constant], 1, true),
            ("no_argument", int, &[], 1, false),
            ("void_pointer", int, &[to_void], 1, false),
            ("declared", int, &[to_forward], 1, false),
            ("number", int, &[int], 1, false),
            ("two", int, &[to_context, int], 1, false),
            ("chosen", choice, &[to_context], 1, false),
            ("hidden", int, &[to_context], 0, false),
        ];
        let mut made = Vec::new();
        for (function, result, arguments, linkage, fits) in cases {
            let length = u32::try_from(arguments.len()).unwrap();
            let mut words = vec![0, (kind::FUNC_PROTO << 24) | length, result];
            for argument in arguments {
                words.extend([name, *argument]);
            }
            let signature = making.push(&words).unwrap();
            let called = making.btf.add(function).unwrap();
            let id = making.push(&[called, (kind::FUNC << 24) | linkage, signature]);
            made.push((function, id.unwrap(), fits));
        }
        let tag = making.btf.add("exception_callback:cb").unwrap();
        let (_, first, _) = made[2];
        making
            .push(&[tag, kind::DECL_TAG << 24, first, WHOLE])
            .unwrap();
        (making.btf.changed().unwrap(), made)
    }

    #[test]
    fn only_other_signatures_get_another_type() {
        let (btf, functions) = functions();
        for (function, id, fits) in functions {
            let member = Member {
                function,
                context: "xdp_md",
                type_id: Some(id),
            };
            let types = member_types(Some(&btf), &[member]).unwrap();
            assert_eq!(types.functions == [id], fits, "{function}");
            assert_eq!(types.subprogram, None);
            let parsed = Building {
                btf: Btf::parse(&types.btf, Endianness::default()).unwrap(),
                next: 0,
            };
            assert!(parsed.fits(types.functions[0], "xdp_md").unwrap());
            assert!(!parsed.fits(types.functions[0], "__sk_buff").unwrap());
            // Tags come along.
            let tags = parsed.tags(types.functions[0]).unwrap();
            assert_eq!(
                tags.len(),
                usize::from(function == "no_argument"),
                "{function}"
            );
            // The object's own types keep their numbers and places.
            let before = Btf::parse(&btf, Endianness::default()).unwrap();
            assert!(parsed.btf.types.starts_with(&before.types), "{function}");
        }
    }

    #[test]
    fn without_btf_all_is_made() {
        let members = ["a", "_ZN1$x"].map(|function| Member {
            function,
            context: "__sk_buff",
            type_id: None,
        });
        let types = member_types(None, &members).unwrap();
        let parsed = Building {
            btf: Btf::parse(&types.btf, Endianness::default()).unwrap(),
            next: 0,
        };
        for id in &types.functions {
            assert!(parsed.fits(*id, "__sk_buff").unwrap());
        }
        let read = Types::of(&parsed.btf).unwrap();
        let name = |id| read.name(&read.get(id).unwrap().unwrap()).unwrap();
        assert_eq!(name(types.functions[1]), "_ZN1_x");
        assert_eq!(name(types.subprogram.unwrap()), "subprogram");
        assert_eq!(identifier("1x"), "_1x");
        assert_eq!(identifier(&"x".repeat(200)).len(), MAX_NAME_BYTES);
    }
}
