//! Which functions the programs that are wanted call, from one to the next.

use std::collections::{BTreeMap, BTreeSet};

use super::elf::{Object, Role};
use super::{MAX_CALLED_FUNCTIONS, NormaliseError};

/// Size of an instruction.
const INSTRUCTION: u64 = 8;
/// `BPF_JMP | BPF_CALL`.
const CALL: u8 = 0x85;
/// Source register of a call to a function of the object.
const PSEUDO_CALL: u8 = 1;

/// Functions by section: where each begins and ends.
pub(super) type Reached = BTreeMap<usize, BTreeSet<(u64, u64)>>;

/// A function: its section, where it begins and where it ends.
type Place = (usize, (u64, u64));

/// What `reach` reads of a section, once.
struct Code<'a> {
    data: &'a [u8],
    functions: BTreeMap<u64, usize>,
    relocations: BTreeMap<u64, usize>,
}

/// Follows the calls of the functions `wanted`.
pub(super) fn reach(object: &Object<'_>, wanted: &[&str]) -> Result<Reached, NormaliseError> {
    let mut codes = BTreeMap::new();
    let mut reached = Reached::new();
    for name in wanted {
        let none = || NormaliseError::NoSuchFunction {
            function: (*name).to_owned(),
        };
        let section = object.functions.get(*name).ok_or_else(none)?.section;
        let symbols = object.symbols.iter().enumerate();
        let (symbol, _) = symbols
            .clone()
            .find(|(_, symbol)| symbol.section == Some(section) && symbol.name == *name)
            .ok_or_else(none)?;
        for (section, range) in called(object, &mut codes, symbol)? {
            reached.entry(section).or_default().insert(range);
        }
    }
    Ok(reached)
}

/// A function and all that it calls.
fn called<'a>(
    object: &Object<'a>,
    codes: &mut BTreeMap<usize, Code<'a>>,
    root: usize,
) -> Result<BTreeSet<Place>, NormaliseError> {
    let mut seen = BTreeSet::from([root]);
    let mut todo = vec![root];
    let mut ranges = BTreeSet::new();
    while let Some(index) = todo.pop() {
        if seen.len() > MAX_CALLED_FUNCTIONS {
            return Err(NormaliseError::TooMany {
                what: "functions called by one program",
                found: seen.len() as u64,
                limit: MAX_CALLED_FUNCTIONS as u64,
            });
        }
        let Some(symbol) = object.symbols.get(index) else {
            continue;
        };
        let Some(section) = symbol.section else {
            continue;
        };
        let code = code(object, codes, section)?;
        let end = symbol.value.checked_add(symbol.size).ok_or(OUTSIDE)?;
        if end > code.data.len() as u64
            || symbol.size == 0
            || symbol.value % INSTRUCTION != 0
            || end % INSTRUCTION != 0
        {
            return Err(OUTSIDE);
        }
        ranges.insert((section, (symbol.value, end)));
        for callee in callees(object, code, index, symbol.value..end)? {
            let (section, address) = callee;
            // A reference to data, or to nothing: for aya and the verifier to judge.
            let Some(callee) = self::code(object, codes, section)?
                .functions
                .get(&address)
                .copied()
            else {
                continue;
            };
            if seen.insert(callee) {
                todo.push(callee);
            }
        }
    }
    Ok(ranges)
}

/// Where a function's calls and function pointers lead: section and address.
fn callees(
    object: &Object<'_>,
    code: &Code<'_>,
    caller: usize,
    range: std::ops::Range<u64>,
) -> Result<Vec<(usize, u64)>, NormaliseError> {
    let section = object
        .symbols
        .get(caller)
        .and_then(|symbol| symbol.section)
        .unwrap_or_default();
    let mut callees = Vec::new();
    let start = usize::try_from(range.start).map_err(|_| OUTSIDE)?;
    let end = usize::try_from(range.end).map_err(|_| OUTSIDE)?;
    let instructions = code.data.get(start..end).ok_or(OUTSIDE)?.chunks_exact(8);
    for (at, instruction) in (range.start..).step_by(8).zip(instructions) {
        let [opcode, registers, _, _, immediate @ ..] = instruction else {
            continue;
        };
        let immediate = immediate.try_into().map(|bytes| match object.endian {
            object::Endianness::Little => i32::from_le_bytes(bytes),
            object::Endianness::Big => i32::from_be_bytes(bytes),
        });
        let immediate = i64::from(immediate.unwrap_or_default());
        let source = match object.endian {
            object::Endianness::Little => registers >> 4,
            object::Endianness::Big => registers & 0xf,
        };
        let calls = *opcode == CALL && source == PSEUDO_CALL;
        let relative = |from: u64| {
            let distance = immediate.checked_add(1)?.checked_mul(8)?;
            from.checked_add_signed(distance)
        };
        let Some(&symbol) = code.relocations.get(&at) else {
            if calls {
                callees.extend(relative(at).map(|address| (section, address)));
            }
            continue;
        };
        let symbol = object.symbols.get(symbol).ok_or(OUTSIDE)?;
        let Some(target) = symbol.section else {
            // A weak extern that is only looked at is nought when the kernel has none; one that is called is not.
            if symbol.weak && !calls {
                continue;
            }
            return Err(NormaliseError::Extern {
                function: object
                    .symbols
                    .get(caller)
                    .map(|symbol| symbol.name.to_owned())
                    .unwrap_or_default(),
                symbol: symbol.name.to_owned(),
            });
        };
        let range = symbol.value..symbol.value.saturating_add(symbol.size);
        if object.is_maps(target) && object.relocations_of(target)?.range(range).next().is_some() {
            return Err(NormaliseError::Filled {
                function: object
                    .symbols
                    .get(caller)
                    .map(|symbol| symbol.name.to_owned())
                    .unwrap_or_default(),
                map: symbol.name.to_owned(),
            });
        }
        let address = match symbol.kind {
            object::elf::STT_SECTION if calls => relative(symbol.value),
            object::elf::STT_SECTION => symbol.value.checked_add_signed(immediate),
            _ => Some(symbol.value),
        };
        callees.extend(address.map(|address| (target, address)));
    }
    Ok(callees)
}

fn code<'c, 'a>(
    object: &Object<'a>,
    codes: &'c mut BTreeMap<usize, Code<'a>>,
    section: usize,
) -> Result<&'c Code<'a>, NormaliseError> {
    match codes.entry(section) {
        std::collections::btree_map::Entry::Occupied(entry) => Ok(entry.into_mut()),
        std::collections::btree_map::Entry::Vacant(entry) => {
            let header = object.sections.get(section).ok_or(OUTSIDE)?;
            let holds_code = matches!(header.role(), Role::Programs | Role::Text);
            Ok(entry.insert(Code {
                data: header.data,
                functions: if holds_code {
                    object.functions_of(section)
                } else {
                    BTreeMap::new()
                },
                relocations: if holds_code {
                    object.relocations_of(section)?
                } else {
                    BTreeMap::new()
                },
            }))
        }
    }
}

const OUTSIDE: NormaliseError = NormaliseError::Damaged {
    what: "a function or relocation outside of its section",
};
