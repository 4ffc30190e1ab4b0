//! The running kernel's BTF: what it calls its functions and variables, and the few of its types that an object's
//! CO-RE relocations name.
//!
//! It has some 130 000 types in 6 MB. aya reads every one of them into a value of its own, which takes longer than all
//! the rest of a load. [`subset`] copies the types that relocations can look at; aya then reads those.

use std::collections::{BTreeSet, HashMap};

use object::Endianness;

use super::NormaliseError;
use super::btf::{DAMAGED, HEADER_BYTES, TYPE_BYTES, Words, kind, payload};

/// Types and strings of a BTF section.
#[derive(Clone, Copy)]
struct Parts<'a> {
    words: Words,
    types: &'a [u8],
    strings: &'a [u8],
}

/// The part of a type that every type has.
struct Head {
    name: u32,
    info: u32,
    /// `size` or `type`.
    last: u32,
}

impl Head {
    fn kind(&self) -> u32 {
        (self.info >> 24) & 0x1f
    }

    fn length(&self) -> u32 {
        self.info & 0xffff
    }
}

impl<'a> Parts<'a> {
    fn of(data: &'a [u8], words: Words) -> Result<Self, NormaliseError> {
        let header = words.get(data, 4)? as usize;
        let part = |offset: usize, length: usize| {
            let start = header
                .checked_add(words.get(data, offset)? as usize)
                .ok_or(DAMAGED)?;
            let end = start
                .checked_add(words.get(data, length)? as usize)
                .ok_or(DAMAGED)?;
            data.get(start..end).ok_or(DAMAGED)
        };
        Ok(Self {
            words,
            types: part(8, 12)?,
            strings: part(16, 20)?,
        })
    }

    fn head(&self, at: usize) -> Result<Head, NormaliseError> {
        let bytes = self.types.get(at..at + TYPE_BYTES).ok_or(DAMAGED)?;
        Ok(Head {
            name: self.words.get(bytes, 0)?,
            info: self.words.get(bytes, 4)?,
            last: self.words.get(bytes, 8)?,
        })
    }

    /// Where the type after the one at `at` begins.
    fn after(&self, at: usize, head: &Head) -> Result<usize, NormaliseError> {
        (at + TYPE_BYTES)
            .checked_add(payload(head.kind(), head.length())?)
            .ok_or(DAMAGED)
    }

    /// The string from `at` on, with what follows it.
    fn from(&self, at: u32) -> &'a [u8] {
        self.strings.get(at as usize..).unwrap_or_default()
    }

    fn string(&self, at: u32) -> Result<&'a [u8], NormaliseError> {
        let rest = self.from(at);
        let end = rest.iter().position(|&byte| byte == 0).ok_or(DAMAGED)?;
        rest.get(..end).ok_or(DAMAGED)
    }
}

/// The number of a function (`BTF_KIND_FUNC`) in BTF of this machine's byte order; `None` when it has none of that
/// name. It looks at every type once and copies nothing.
///
/// # Errors
///
/// When the BTF contradicts its own sizes or has types that are newer than this.
pub fn function_id(data: &[u8], name: &str) -> Result<Option<u32>, NormaliseError> {
    id_of(data, kind::FUNC, name)
}

/// The number of a variable (`BTF_KIND_VAR`), as [`function_id`] for a function. The kernel's BTF has those that lie in
/// memory of each CPU, since 6.14 all global ones where `CONFIG_DEBUG_INFO_BTF` was built so.
///
/// # Errors
///
/// As [`function_id`].
pub fn variable_id(data: &[u8], name: &str) -> Result<Option<u32>, NormaliseError> {
    id_of(data, kind::VAR, name)
}

fn id_of(data: &[u8], wanted: u32, name: &str) -> Result<Option<u32>, NormaliseError> {
    let parts = Parts::of(data, Words(Endianness::default()))?;
    let called = |at: u32| {
        let rest = parts.from(at).strip_prefix(name.as_bytes());
        rest.is_some_and(|rest| rest.first() == Some(&0))
    };
    let mut at = 0;
    let mut id: u32 = 0;
    while at < parts.types.len() {
        id = id.saturating_add(1);
        let head = parts.head(at)?;
        if head.kind() == wanted && called(head.name) {
            return Ok(Some(id));
        }
        at = parts.after(at, &head)?;
    }
    Ok(None)
}

/// `task_struct___v6` is called `task_struct`: what follows three underscores tells an object's own variants apart.
pub(super) fn flavorless(name: &[u8]) -> &[u8] {
    let end = name.windows(3).position(|window| window == b"___");
    end.and_then(|end| name.get(..end)).unwrap_or(name)
}

/// How much of a type is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Depth {
    Not,
    /// That it is there, and of which kind: it is only pointed at.
    Kind,
    /// Its members too.
    Whole,
}

/// Copies of kernel BTF (this machine's byte order) what CO-RE relocations for types of these names can look at: every
/// type that is called so, whatever its kind; types that lie in it, whole; types that it points at, without members.
/// Numbers of types are other ones in the copy.
///
/// # Errors
///
/// As [`function_id`].
pub fn subset(data: &[u8], names: &BTreeSet<Vec<u8>>) -> Result<Vec<u8>, NormaliseError> {
    let parts = Parts::of(data, Words(Endianness::default()))?;
    let (places, found) = index(&parts, names)?;
    let mut depths = vec![Depth::Not; places.len()];
    let mut todo = Vec::new();
    for id in found {
        need(&mut depths, &mut todo, id, Depth::Whole);
    }
    while let Some((id, depth)) = todo.pop() {
        let head = parts.head(place(&places, id)?)?;
        for (inner, depth) in inner(&parts, place(&places, id)?, &head, depth)? {
            need(&mut depths, &mut todo, inner, depth);
        }
    }
    let mut ids = vec![0_u32; places.len()];
    let kept = (1..).zip(
        depths
            .iter_mut()
            .zip(&mut ids)
            .skip(1)
            .filter(|(depth, _)| **depth > Depth::Not),
    );
    for (id, (_, entry)) in kept {
        *entry = id;
    }
    let mut copy = Copy {
        parts,
        ids,
        types: Vec::new(),
        strings: vec![0],
        known: HashMap::new(),
    };
    for (&at, &depth) in places.iter().zip(&depths).skip(1) {
        if depth > Depth::Not {
            copy.add(at as usize, depth)?;
        }
    }
    copy.finish(data)
}

/// Where each type begins, by number, and the numbers of those that are called by one of `names`.
fn index(
    parts: &Parts<'_>,
    names: &BTreeSet<Vec<u8>>,
) -> Result<(Vec<u32>, Vec<u32>), NormaliseError> {
    // Two letters rule most names out without a search for their end.
    let mut begins = BTreeSet::new();
    let mut first_letters = [false; 256];
    for name in names {
        let begin = [0, 1].map(|at| name.get(at).copied().unwrap_or_default());
        begins.insert(begin);
        if let Some(entry) = first_letters.get_mut(usize::from(begin[0])) {
            *entry = true;
        }
    }
    // `void`
    let mut places = vec![u32::MAX];
    let mut found = Vec::new();
    let mut at = 0;
    while at < parts.types.len() {
        let head = parts.head(at)?;
        let id = u32::try_from(places.len()).map_err(|_| DAMAGED)?;
        places.push(u32::try_from(at).map_err(|_| DAMAGED)?);
        let [first, second] = match parts.from(head.name) {
            [first, second, ..] => [*first, *second],
            _ => [0, 0],
        };
        let candidate = first != 0
            && first_letters.get(usize::from(first)) == Some(&true)
            && !matches!(
                head.kind(),
                kind::FUNC | kind::VAR | kind::DATASEC | kind::DECL_TAG
            )
            && (begins.contains(&[first, second]) || begins.contains(&[first, 0]));
        if candidate && names.contains(flavorless(parts.string(head.name)?)) {
            found.push(id);
        }
        at = parts.after(at, &head)?;
    }
    Ok((places, found))
}

fn place(places: &[u32], id: u32) -> Result<usize, NormaliseError> {
    let at = places.get(id as usize).filter(|&&at| at != u32::MAX);
    at.map(|&at| at as usize).ok_or(DAMAGED)
}

fn need(depths: &mut [Depth], todo: &mut Vec<(u32, Depth)>, id: u32, depth: Depth) {
    // 0 is `void`, which every BTF has.
    if id == 0 {
        return;
    }
    if let Some(known) = depths.get_mut(id as usize)
        && *known < depth
    {
        *known = depth;
        todo.push((id, depth));
    }
}

/// The types that one is made of, and how much of each is needed when so much of it is.
fn inner(
    parts: &Parts<'_>,
    at: usize,
    head: &Head,
    depth: Depth,
) -> Result<Vec<(u32, Depth)>, NormaliseError> {
    let word = |offset: usize| parts.words.get(parts.types, at + TYPE_BYTES + offset);
    let length = head.length() as usize;
    Ok(match head.kind() {
        kind::PTR => vec![(head.last, Depth::Kind)],
        kind::TYPEDEF | kind::VOLATILE | kind::CONST | kind::RESTRICT | kind::TYPE_TAG => {
            vec![(head.last, depth)]
        }
        kind::ARRAY => vec![(word(0)?, depth), (word(4)?, Depth::Kind)],
        kind::STRUCT | kind::UNION if depth == Depth::Whole => (0..length)
            .map(|member| Ok((word(member * 12 + 4)?, Depth::Whole)))
            .collect::<Result<_, NormaliseError>>()?,
        kind::FUNC_PROTO => std::iter::once(Ok((head.last, Depth::Kind)))
            .chain((0..length).map(|parameter| Ok((word(parameter * 8 + 4)?, Depth::Kind))))
            .collect::<Result<_, NormaliseError>>()?,
        _ => Vec::new(),
    })
}

struct Copy<'a> {
    parts: Parts<'a>,
    /// New numbers by old ones, 0 for what is left out.
    ids: Vec<u32>,
    types: Vec<u8>,
    strings: Vec<u8>,
    /// New places of strings by old ones.
    known: HashMap<u32, u32>,
}

impl Copy<'_> {
    fn name(&mut self, at: u32) -> Result<u32, NormaliseError> {
        if at == 0 {
            return Ok(0);
        }
        if let Some(&known) = self.known.get(&at) {
            return Ok(known);
        }
        let new = u32::try_from(self.strings.len()).map_err(|_| DAMAGED)?;
        self.strings.extend_from_slice(self.parts.string(at)?);
        self.strings.push(0);
        self.known.insert(at, new);
        Ok(new)
    }

    fn id(&self, old: u32) -> u32 {
        self.ids.get(old as usize).copied().unwrap_or_default()
    }

    fn push(&mut self, word: u32) {
        self.parts.words.push(&mut self.types, word);
    }

    fn add(&mut self, at: usize, depth: Depth) -> Result<(), NormaliseError> {
        let head = self.parts.head(at)?;
        let (kind, mut length) = (head.kind(), head.length() as usize);
        let has_names = matches!(kind, kind::STRUCT | kind::UNION | kind::ENUM | kind::ENUM64);
        if has_names && depth < Depth::Whole {
            length = 0;
        }
        let name = self.name(head.name)?;
        self.push(name);
        self.push((head.info & !0xffff) | u32::try_from(length).map_err(|_| DAMAGED)?);
        self.push(match kind {
            // Sizes; what `fwd` has is in `info`.
            kind::INT | kind::FLOAT | kind::FWD => head.last,
            _ if has_names => head.last,
            kind::ARRAY => 0,
            _ => self.id(head.last),
        });
        let word = |parts: &Parts<'_>, offset: usize| {
            parts.words.get(parts.types, at + TYPE_BYTES + offset)
        };
        // Words of what follows: which are names, which are types.
        let (record, names, types): (&[usize], usize, usize) = match kind {
            kind::INT => (&[0], usize::MAX, usize::MAX),
            kind::ARRAY => (&[0, 1, 2], usize::MAX, usize::MAX),
            kind::STRUCT | kind::UNION => (&[0, 1, 2], 0, 1),
            kind::ENUM64 => (&[0, 1, 2], 0, usize::MAX),
            kind::ENUM => (&[0, 1], 0, usize::MAX),
            kind::FUNC_PROTO => (&[0, 1], 0, 1),
            _ => (&[], usize::MAX, usize::MAX),
        };
        let count = match kind {
            kind::INT | kind::ARRAY => 1,
            _ => length,
        };
        for index in 0..count {
            for &field in record {
                let value = word(&self.parts, (index * record.len() + field) * 4)?;
                let value = if field == names {
                    self.name(value)?
                } else if field == types || (kind == kind::ARRAY && field < 2) {
                    self.id(value)
                } else {
                    value
                };
                self.push(value);
            }
        }
        Ok(())
    }

    fn finish(self, data: &[u8]) -> Result<Vec<u8>, NormaliseError> {
        let length = |bytes: &[u8]| u32::try_from(bytes.len()).map_err(|_| DAMAGED);
        let mut out = data.get(..4).ok_or(DAMAGED)?.to_vec();
        let types = length(&self.types)?;
        for field in [HEADER_BYTES as u32, 0, types, types, length(&self.strings)?] {
            self.parts.words.push(&mut out, field);
        }
        out.extend_from_slice(&self.types);
        out.extend_from_slice(&self.strings);
        Ok(out)
    }
}
