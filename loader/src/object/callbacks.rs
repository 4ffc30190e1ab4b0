//! Exception callbacks: functions that no instruction refers to. A program names its own by a tag of its function's
//! BTF (`__exception_cb(NAME)`, kernel 6.7, `bpf_find_exception_callback_insn_off` of kernel/bpf/verifier.c).

use std::collections::BTreeMap;

use super::NormaliseError;
use super::btf::{Btf, kind};
use super::elf::{Object, Role, Section};
use super::walk::Types;

/// What the tag begins with.
const TAG: &[u8] = b"exception_callback:";

/// `component_idx` of a tag of the function itself, not of an argument.
const WHOLE: u32 = u32::MAX;

/// Callbacks by the function that names them. One function has at most one: the kernel refuses more.
pub(super) fn named_by_tags(
    object: &Object<'_>,
) -> Result<BTreeMap<String, String>, NormaliseError> {
    let mut callbacks = BTreeMap::new();
    let section = object
        .sections
        .iter()
        .find(|section| section.name == ".BTF");
    let Some(section) = section.filter(|section| contains(section.data, TAG)) else {
        return Ok(callbacks);
    };
    let btf = Btf::parse(section.data, object.endian)?;
    let types = Types::of(&btf)?;
    for found in types.iter() {
        let (_, tag) = found?;
        if tag.kind != kind::DECL_TAG || types.word(&tag, 0)? != WHOLE {
            continue;
        }
        let Some(callback) = types.string(tag.name)?.strip_prefix(TAG) else {
            continue;
        };
        if let Some(function) = types.get(tag.last)?
            && function.kind == kind::FUNC
        {
            let callback = String::from_utf8_lossy(callback).into_owned();
            callbacks.insert(types.name(&function)?.to_owned(), callback);
        }
    }
    Ok(callbacks)
}

/// Number of the callback's symbol: a global function among those that programs call, as libbpf wants it.
pub(super) fn find(
    object: &Object<'_>,
    function: &str,
    callback: &str,
) -> Result<usize, NormaliseError> {
    let is_text =
        |section: usize| object.sections.get(section).map(Section::role) == Some(Role::Text);
    let mut symbols = object.symbols.iter();
    let found = symbols.position(|symbol| {
        symbol.is_function()
            && !symbol.local
            && symbol.name == callback
            && symbol.section.is_some_and(is_text)
    });
    found.ok_or_else(|| NormaliseError::Callback {
        function: function.to_owned(),
        callback: callback.to_owned(),
    })
}

fn contains(data: &[u8], text: &[u8]) -> bool {
    data.windows(text.len()).any(|window| window == text)
}
