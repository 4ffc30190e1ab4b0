//! Looking types of an object's BTF up: by number, through typedefs and qualifiers, variables by section.

use super::NormaliseError;
use super::btf::{Btf, DAMAGED, TYPE_BYTES, kind, payload};

/// How many modifiers may stand before a type: `MAX_RESOLVE_DEPTH` of `kernel/bpf/btf.c`.
const MAX_MODIFIERS: usize = 32;

/// The types of a section, by number.
pub(super) struct Types<'b> {
    btf: &'b Btf,
    /// Where each begins; the first is `void`, which stands nowhere.
    pub(super) places: Vec<usize>,
}

/// One type.
#[derive(Debug, Clone, Copy)]
pub(super) struct Type {
    pub(super) kind: u32,
    pub(super) length: u32,
    pub(super) name: u32,
    /// `size` or `type`.
    pub(super) last: u32,
    /// Where what follows begins.
    extra: usize,
}

impl<'b> Types<'b> {
    pub(super) fn of(btf: &'b Btf) -> Result<Self, NormaliseError> {
        let mut places = vec![usize::MAX];
        let mut at = 0;
        while at < btf.types.len() {
            places.push(at);
            let found = read(btf, at)?;
            at = found
                .extra
                .checked_add(payload(found.kind, found.length)?)
                .ok_or(DAMAGED)?;
        }
        Ok(Self { btf, places })
    }

    /// Every type with its number.
    pub(super) fn iter(&self) -> impl Iterator<Item = Result<(u32, Type), NormaliseError>> + '_ {
        let types = (0..).zip(&self.places).skip(1);
        types.map(|(id, &at)| Ok((id, read(self.btf, at)?)))
    }

    /// The type of that number, `None` for `void`.
    pub(super) fn get(&self, id: u32) -> Result<Option<Type>, NormaliseError> {
        match self.places.get(id as usize) {
            Some(&usize::MAX) => Ok(None),
            Some(&at) => read(self.btf, at).map(Some),
            None => Err(DAMAGED),
        }
    }

    /// The type behind typedefs, qualifiers and tags.
    pub(super) fn resolve(&self, mut id: u32) -> Result<Option<Type>, NormaliseError> {
        for _ in 0..MAX_MODIFIERS {
            match self.get(id)? {
                Some(found)
                    if matches!(
                        found.kind,
                        kind::TYPEDEF
                            | kind::VOLATILE
                            | kind::CONST
                            | kind::RESTRICT
                            | kind::TYPE_TAG
                    ) =>
                {
                    id = found.last;
                }
                found => return Ok(found),
            }
        }
        Err(DAMAGED)
    }

    pub(super) fn name(&self, found: &Type) -> Result<&'b str, NormaliseError> {
        std::str::from_utf8(self.btf.string(found.name)?).map_err(|_| DAMAGED)
    }

    pub(super) fn string(&self, at: u32) -> Result<&'b [u8], NormaliseError> {
        self.btf.string(at)
    }

    /// A word of what follows a type, by its number.
    pub(super) fn word(&self, found: &Type, index: usize) -> Result<u32, NormaliseError> {
        self.btf
            .words
            .get(&self.btf.types, found.extra.saturating_add(index * 4))
    }

    /// Variables and functions of a data section (`.maps`, `.ksyms`, `.kconfig`).
    pub(super) fn section(&self, name: &str) -> Result<Vec<Type>, NormaliseError> {
        let mut members = Vec::new();
        for &at in self.places.iter().skip(1) {
            let found = read(self.btf, at)?;
            if found.kind != kind::DATASEC || self.string(found.name)? != name.as_bytes() {
                continue;
            }
            for index in 0..found.length as usize {
                members.extend(self.get(self.word(&found, index * 3)?)?);
            }
        }
        Ok(members)
    }
}

fn read(btf: &Btf, at: usize) -> Result<Type, NormaliseError> {
    let info = btf.words.get(&btf.types, at + 4)?;
    Ok(Type {
        kind: (info >> 24) & 0x1f,
        length: info & 0xffff,
        name: btf.words.get(&btf.types, at)?,
        last: btf.words.get(&btf.types, at + 8)?,
        extra: at + TYPE_BYTES,
    })
}
