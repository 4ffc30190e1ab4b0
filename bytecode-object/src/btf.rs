//! BTF (`Documentation/bpf/btf.rst`, `include/uapi/linux/btf.h`) in either byte order: of objects, of the kernel, and of
//! its modules, whose types and strings continue those of the kernel (split BTF).

use crate::reader::Reader;
use crate::{ByteOrder, ObjectError};

const MAGIC: u16 = 0xeb9f;

/// Bytes of a `struct btf_type` without what follows it.
const TYPE_BYTES: usize = 12;

/// How many modifiers (typedef, const…) may precede a type, and how many arrays may be nested: `MAX_RESOLVE_DEPTH` of
/// libbpf's `btf.c` and of `kernel/bpf/btf.c`.
pub(crate) const MAX_RESOLVE_DEPTH: usize = 32;

/// Names that compilers give to `long` (libbpf's `determine_ptr_size`).
const LONG: [&str; 11] = [
    "long",
    "long int",
    "int long",
    "unsigned long",
    "long unsigned",
    "unsigned long int",
    "unsigned int long",
    "long unsigned int",
    "long int unsigned",
    "int unsigned long",
    "int long unsigned",
];

/// `BTF_KIND_*`.
pub mod kind {
    /// `void`, which has id 0 and no entry.
    pub const VOID: u32 = 0;
    /// Integer.
    pub const INT: u32 = 1;
    /// Pointer.
    pub const PTR: u32 = 2;
    /// Array.
    pub const ARRAY: u32 = 3;
    /// `struct`.
    pub const STRUCT: u32 = 4;
    /// `union`.
    pub const UNION: u32 = 5;
    /// `enum` of at most 32 bits.
    pub const ENUM: u32 = 6;
    /// Forward declaration of a `struct` or `union`.
    pub const FWD: u32 = 7;
    /// `typedef`.
    pub const TYPEDEF: u32 = 8;
    /// `volatile`.
    pub const VOLATILE: u32 = 9;
    /// `const`.
    pub const CONST: u32 = 10;
    /// `restrict`.
    pub const RESTRICT: u32 = 11;
    /// Function.
    pub const FUNC: u32 = 12;
    /// Signature of a function.
    pub const FUNC_PROTO: u32 = 13;
    /// Variable.
    pub const VAR: u32 = 14;
    /// Section of variables.
    pub const DATASEC: u32 = 15;
    /// Floating-point number.
    pub const FLOAT: u32 = 16;
    /// Tag of a declaration (`btf_decl_tag`).
    pub const DECL_TAG: u32 = 17;
    /// Tag of a type (`btf_type_tag`).
    pub const TYPE_TAG: u32 = 18;
    /// `enum` of 64 bits.
    pub const ENUM64: u32 = 19;
}

/// One type: a `struct btf_type` and the data that follows it.
#[derive(Debug, Clone, Copy)]
pub struct Type<'a> {
    /// Offset of its name in the strings.
    pub name: u32,
    info: u32,
    /// Its `size` or `type` field, by kind.
    pub target: u32,
    data: Reader<'a>,
}

/// One member of a struct or union.
#[derive(Debug, Clone, Copy)]
pub struct Member {
    /// Offset of its name in the strings; 0 or an empty string for an anonymous struct or union.
    pub name: u32,
    /// Its type.
    pub type_id: u32,
    /// Where it begins, in bits.
    pub bit_offset: u32,
    /// Bits of a bit field, 0 for any other member.
    pub bit_size: u32,
}

impl<'a> Type<'a> {
    /// `BTF_KIND_*`.
    pub fn kind(&self) -> u32 {
        (self.info >> 24) & 0x1f
    }

    /// Number of members, enumerators, parameters or variables.
    pub fn length(&self) -> u32 {
        self.info & 0xffff
    }

    /// `kind_flag`: bit fields of a struct, a signed enum, a forward declaration of a union.
    pub fn flag(&self) -> bool {
        self.info >> 31 == 1
    }

    /// Whether it is a struct or a union.
    pub fn is_composite(&self) -> bool {
        matches!(self.kind(), kind::STRUCT | kind::UNION)
    }

    /// Whether it is an enum of any size.
    pub fn is_enum(&self) -> bool {
        matches!(self.kind(), kind::ENUM | kind::ENUM64)
    }

    /// Whether it only renames or qualifies another type.
    fn is_modifier(&self) -> bool {
        matches!(
            self.kind(),
            kind::TYPEDEF | kind::VOLATILE | kind::CONST | kind::RESTRICT | kind::TYPE_TAG
        )
    }

    /// A word of the data that follows the type, by its index.
    pub(crate) fn word(&self, index: usize) -> Result<u32, ObjectError> {
        self.data.u32(index.saturating_mul(4))
    }

    /// A member of a struct or union.
    pub(crate) fn member(&self, index: u32) -> Result<Member, ObjectError> {
        // struct btf_member { name_off, type, offset }
        let at = index as usize * 3;
        let offset = self.word(at + 2)?;
        let (bit_offset, bit_size) = if self.flag() {
            (offset & 0xff_ffff, offset >> 24)
        } else {
            (offset, 0)
        };
        Ok(Member {
            name: self.word(at)?,
            type_id: self.word(at + 1)?,
            bit_offset,
            bit_size,
        })
    }

    /// Name and value of an enumerator, the value extended to 64 bits as libbpf does it.
    pub(crate) fn enumerator(&self, index: u32) -> Result<(u32, u64), ObjectError> {
        let index = index as usize;
        if self.kind() == kind::ENUM64 {
            // struct btf_enum64 { name_off, val_lo32, val_hi32 }
            let (low, high) = (self.word(index * 3 + 1)?, self.word(index * 3 + 2)?);
            return Ok((
                self.word(index * 3)?,
                u64::from(high) << 32 | u64::from(low),
            ));
        }
        // struct btf_enum { name_off, __s32 val }
        let value = i64::from(self.word(index * 2 + 1)?.cast_signed());
        Ok((self.word(index * 2)?, value.cast_unsigned()))
    }

    /// Element type and number of elements of an array.
    pub(crate) fn array(&self) -> Result<(u32, u32), ObjectError> {
        // struct btf_array { type, index_type, nelems }
        Ok((self.word(0)?, self.word(2)?))
    }

    /// Type of a parameter of a function's signature.
    pub(crate) fn parameter(&self, index: u32) -> Result<u32, ObjectError> {
        // struct btf_param { name_off, type }
        self.word(index as usize * 2 + 1)
    }
}

/// A `.BTF` section, or a file of `/sys/kernel/btf`.
#[derive(Debug, Clone)]
pub struct Btf<'a> {
    types: Reader<'a>,
    strings: Reader<'a>,
    /// Where its types begin in `types`, in the order of their ids.
    places: Vec<u32>,
    /// The kernel's, for a module's.
    base: Option<&'a Btf<'a>>,
    /// The first id and the first string offset of its own.
    first_id: u32,
    first_string: u32,
    /// Bytes of a pointer on the machine that it describes.
    pub(crate) pointer_size: u32,
}

impl<'a> Btf<'a> {
    /// Reads the BTF of an object.
    ///
    /// # Errors
    ///
    /// When it contradicts its own sizes, or has a kind of type that is newer than this code.
    pub fn parse(bytes: &'a [u8], order: ByteOrder) -> Result<Self, ObjectError> {
        Self::read(bytes, order, None)
    }

    /// Reads the BTF of a kernel. A pointer has as many bytes there as a `long` (libbpf's `determine_ptr_size`).
    ///
    /// # Errors
    ///
    /// As [`Btf::parse`].
    pub fn of_kernel(bytes: &'a [u8], order: ByteOrder) -> Result<Self, ObjectError> {
        let mut btf = Self::read(bytes, order, None)?;
        if let Some(size) = btf.size_of_long()? {
            btf.pointer_size = size;
        }
        Ok(btf)
    }

    fn size_of_long(&self) -> Result<Option<u32>, ObjectError> {
        for (_, found) in self.own_types() {
            let found = found?;
            if found.kind() == kind::INT && matches!(found.target, 4 | 8) {
                let name = self.string(found.name)?;
                if LONG.iter().any(|long| long.as_bytes() == name) {
                    return Ok(Some(found.target));
                }
            }
        }
        Ok(None)
    }

    /// Reads the BTF of a module of the kernel that `base` describes.
    ///
    /// # Errors
    ///
    /// As [`Btf::parse`].
    pub fn of_module(bytes: &'a [u8], base: &'a Btf<'a>) -> Result<Self, ObjectError> {
        let mut btf = Self::read(bytes, base.types.order(), Some(base))?;
        btf.pointer_size = base.pointer_size;
        Ok(btf)
    }

    fn read(
        bytes: &'a [u8],
        order: ByteOrder,
        base: Option<&'a Btf<'a>>,
    ) -> Result<Self, ObjectError> {
        let (types, strings) = parts(bytes, order)?;
        let mut places = Vec::new();
        let mut at = 0;
        while at < types.len() {
            places.push(u32::try_from(at).unwrap_or(u32::MAX));
            at = after(types, at)?;
        }
        let (first_id, first_string) = base.map_or((1, 0), |base| {
            (base.end_id(), base.first_string + base.strings.len() as u32)
        });
        if u64::from(first_id) + places.len() as u64 > u64::from(u32::MAX) {
            return Err(types.damaged("too many types"));
        }
        Ok(Self {
            types,
            strings,
            places,
            base,
            first_id,
            first_string,
            pointer_size: 8,
        })
    }

    /// The id after that of its last type.
    fn end_id(&self) -> u32 {
        self.first_id.saturating_add(self.places.len() as u32)
    }

    /// Its types with their ids, without those of its base.
    pub(crate) fn own_types(
        &self,
    ) -> impl Iterator<Item = (u32, Result<Type<'a>, ObjectError>)> + '_ {
        let types = (self.first_id..).zip(&self.places);
        types.map(|(id, &at)| (id, type_at(self.types, at as usize)))
    }

    /// Ids of its types with the offsets of their names, without those of its base.
    pub(crate) fn own_names(&self) -> impl Iterator<Item = (u32, u32)> + '_ {
        let types = (self.first_id..).zip(&self.places);
        types.map(|(id, &at)| (id, self.types.u32(at as usize).unwrap_or_default()))
    }

    /// The type of that id.
    ///
    /// # Errors
    ///
    /// When there is none.
    pub fn get(&self, id: u32) -> Result<Type<'a>, ObjectError> {
        if id == 0 {
            return Ok(Type {
                name: 0,
                info: kind::VOID,
                target: 0,
                data: self.types.empty(),
            });
        }
        match (self.base, id.checked_sub(self.first_id)) {
            (_, Some(index)) => match self.places.get(index as usize) {
                Some(&at) => type_at(self.types, at as usize),
                None => Err(self.damaged(&format!("type {id} of {}", self.end_id() - 1))),
            },
            (Some(base), None) => base.get(id),
            (None, None) => Err(self.damaged(&format!("type {id}"))),
        }
    }

    /// Id and type behind typedefs, qualifiers and tags.
    pub(crate) fn resolve(&self, id: u32) -> Result<(u32, Type<'a>), ObjectError> {
        let (mut at, mut found) = (id, self.get(id)?);
        for _ in 0..=MAX_RESOLVE_DEPTH {
            if !found.is_modifier() {
                return Ok((at, found));
            }
            at = found.target;
            found = self.get(at)?;
        }
        Err(self.damaged(&format!(
            "more than {MAX_RESOLVE_DEPTH} modifiers before type {id}"
        )))
    }

    /// Bytes of a type; `None` for one without a size, or of more than `u32::MAX` (libbpf's `btf__resolve_size`).
    pub(crate) fn size(&self, mut id: u32) -> Result<Option<u32>, ObjectError> {
        let mut count = 1_u32;
        for _ in 0..MAX_RESOLVE_DEPTH {
            let found = self.get(id)?;
            let size = match found.kind() {
                kind::INT
                | kind::STRUCT
                | kind::UNION
                | kind::ENUM
                | kind::ENUM64
                | kind::DATASEC
                | kind::FLOAT => found.target,
                kind::PTR => self.pointer_size,
                kind::VAR | kind::DECL_TAG => {
                    id = found.target;
                    continue;
                }
                kind::ARRAY => {
                    let (element, elements) = found.array()?;
                    let Some(product) = count.checked_mul(elements) else {
                        return Ok(None);
                    };
                    (id, count) = (element, product);
                    continue;
                }
                _ if found.is_modifier() => {
                    id = found.target;
                    continue;
                }
                _ => return Ok(None),
            };
            return Ok(count.checked_mul(size));
        }
        Ok(None)
    }

    /// The string at that offset, without its NUL.
    ///
    /// # Errors
    ///
    /// When there is none.
    pub fn string(&self, at: u32) -> Result<&'a [u8], ObjectError> {
        match (self.base, at.checked_sub(self.first_string)) {
            (_, Some(own)) => self.strings.bytes_until_nul(own as usize),
            (Some(base), None) => base.string(at),
            (None, None) => Err(self.damaged(&format!("string at {at}"))),
        }
    }

    /// The string at that offset, which must be UTF-8.
    pub(crate) fn text(&self, at: u32) -> Result<&'a str, ObjectError> {
        let text = std::str::from_utf8(self.string(at)?);
        text.map_err(|_| self.damaged(&format!("the string at {at} is not UTF-8")))
    }

    /// Whether that string is at that offset, without a search for the end of a hostile one.
    pub(crate) fn has_string(&self, at: u32, text: &str) -> Result<bool, ObjectError> {
        match (self.base, at.checked_sub(self.first_string)) {
            (_, Some(own)) => self.strings.has_string(own as usize, text),
            (Some(base), None) => base.has_string(at, text),
            (None, None) => Ok(false),
        }
    }

    /// The first two bytes of the string at that offset, zeros where it is shorter.
    pub(crate) fn begin(&self, at: u32) -> [u8; 2] {
        match (self.base, at.checked_sub(self.first_string)) {
            (_, Some(own)) => self.strings.pair(own as usize),
            (Some(base), None) => base.begin(at),
            (None, None) => [0, 0],
        }
    }

    pub(crate) fn damaged(&self, what: &str) -> ObjectError {
        self.types.damaged(what)
    }
}

/// The id of a type of that kind (`kind::FUNC`, `kind::VAR`) and name. It reads each type once and keeps none.
///
/// # Errors
///
/// As [`Btf::parse`].
pub fn find(
    bytes: &[u8],
    order: ByteOrder,
    kind: u32,
    name: &str,
) -> Result<Option<u32>, ObjectError> {
    let (types, strings) = parts(bytes, order)?;
    let (mut at, mut id) = (0, 0_u32);
    while at < types.len() {
        id = id.saturating_add(1);
        let found = (types.u32(at.saturating_add(4))? >> 24) & 0x1f;
        if found == kind && strings.has_string(types.size(at)?, name)? {
            return Ok(Some(id));
        }
        at = after(types, at)?;
    }
    Ok(None)
}

/// The type at a place.
fn type_at(types: Reader<'_>, at: usize) -> Result<Type<'_>, ObjectError> {
    let info = types.u32(at.saturating_add(4))?;
    Ok(Type {
        name: types.u32(at)?,
        info,
        target: types.u32(at.saturating_add(8))?,
        data: types.range(at.saturating_add(TYPE_BYTES), data_bytes(types, info)?)?,
    })
}

/// The place after the type at a place. A kernel has some 150 000 types: this reads no more than it needs.
fn after(types: Reader<'_>, at: usize) -> Result<usize, ObjectError> {
    let info = types.u32(at.saturating_add(4))?;
    let end = at.saturating_add(TYPE_BYTES + data_bytes(types, info)?);
    if end > types.len() {
        return Err(types.damaged("the last type goes past the end"));
    }
    Ok(end)
}

/// Bytes of the data that follows a type, by its `info` field.
fn data_bytes(types: Reader<'_>, info: u32) -> Result<usize, ObjectError> {
    let length = (info & 0xffff) as usize;
    Ok(match (info >> 24) & 0x1f {
        kind::INT | kind::VAR | kind::DECL_TAG => 4,
        kind::ARRAY => 12,
        kind::STRUCT | kind::UNION | kind::DATASEC | kind::ENUM64 => length * 12,
        kind::ENUM | kind::FUNC_PROTO => length * 8,
        1..=kind::ENUM64 => 0,
        other => return Err(types.damaged(&format!("type of unknown kind {other}"))),
    })
}

/// Types and strings of a BTF section.
fn parts(bytes: &[u8], order: ByteOrder) -> Result<(Reader<'_>, Reader<'_>), ObjectError> {
    let file = Reader::new(bytes, order, ".BTF");
    let header = Header::parse(&file)?;
    Ok((
        file.range(header.at(&file, 8)?, file.size(12)?)?,
        file.range(header.at(&file, 16)?, file.size(20)?)?,
    ))
}

/// The head of `.BTF` and `.BTF.ext`: magic, version, flags, length of the header; offsets count from its end.
pub(crate) struct Header {
    pub(crate) len: usize,
}

impl Header {
    pub(crate) fn parse(file: &Reader<'_>) -> Result<Self, ObjectError> {
        let magic = file.u16(0)?;
        if magic != MAGIC {
            return Err(file.damaged(&format!("magic {magic:#06x}, not {MAGIC:#06x}")));
        }
        Ok(Self { len: file.size(4)? })
    }

    /// The place in the file of the offset that stands at `field`.
    pub(crate) fn at(&self, file: &Reader<'_>, field: usize) -> Result<usize, ObjectError> {
        Ok(self.len.saturating_add(file.size(field)?))
    }
}
