//! Which functions the programs that are wanted call, from one to the next.

use std::collections::{BTreeMap, BTreeSet};

use super::elf::{Object, Role};
use super::entries::{self, Target};
use super::{MAX_CALLED_FUNCTIONS, NormaliseError, callbacks};

/// Size of an instruction.
const INSTRUCTION: u64 = 8;
/// `BPF_JMP | BPF_CALL`.
const CALL: u8 = 0x85;
/// Source register of a call to a function of the object.
const PSEUDO_CALL: u8 = 1;

/// Functions by section: where each begins and ends.
pub(super) type Ranges = BTreeMap<usize, BTreeSet<(u64, u64)>>;

/// A function: its section, where it begins and where it ends.
type Place = (usize, (u64, u64));

/// An instruction that refers to an extern.
#[derive(Debug)]
pub(super) struct Site {
    /// Section and place in it.
    pub(super) section: usize,
    pub(super) offset: u64,
    /// Number of the extern's symbol.
    pub(super) symbol: usize,
    /// It is called, not looked at.
    pub(super) calls: bool,
    /// Function that it is in.
    pub(super) function: String,
}

/// A program that another one may jump to (a tail call), by an entry of a map in the object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Jump {
    /// It.
    pub target: String,
    /// The program that was asked for.
    pub from: String,
}

/// What programs need of their object.
#[derive(Debug, Default)]
pub(super) struct Reached {
    pub(super) ranges: Ranges,
    pub(super) sites: Vec<Site>,
    /// Names of the maps that instructions refer to.
    pub(super) maps: BTreeSet<String>,
    pub(super) jumps: Vec<Jump>,
    /// Exception callbacks by program.
    pub(super) callbacks: BTreeMap<String, String>,
}

/// What `reach` reads of a section, once.
struct Code<'a> {
    data: &'a [u8],
    functions: BTreeMap<u64, usize>,
    relocations: BTreeMap<u64, usize>,
}

/// Follows the calls of the functions `wanted`, and their jumps by the entries of maps that are not `shared`: the
/// entries of those are there already.
pub(super) fn reach(
    object: &Object<'_>,
    wanted: &[&str],
    shared: &BTreeSet<&str>,
) -> Result<Reached, NormaliseError> {
    let mut codes = BTreeMap::new();
    let mut reached = Reached::default();
    let callbacks = callbacks::named_by_tags(object)?;
    let mut seen: BTreeSet<String> = wanted.iter().map(|name| (*name).to_owned()).collect();
    let mut todo: Vec<(String, String)> = wanted
        .iter()
        .rev()
        .map(|name| ((*name).to_owned(), (*name).to_owned()))
        .collect();
    while let Some((name, from)) = todo.pop() {
        let none = || NormaliseError::NoSuchFunction {
            function: name.clone(),
        };
        let section = object.functions.get(&name).ok_or_else(none)?.section;
        let symbols = object.symbols.iter().enumerate();
        let (symbol, _) = symbols
            .clone()
            .find(|(_, symbol)| symbol.section == Some(section) && symbol.name == name)
            .ok_or_else(none)?;
        let mut roots = vec![symbol];
        if let Some(callback) = callbacks.get(&name) {
            roots.push(callbacks::find(object, &name, callback)?);
            reached.callbacks.insert(name.clone(), callback.clone());
        }
        let mut maps = BTreeSet::new();
        for root in roots {
            for (section, range) in called(object, &mut codes, root, &mut reached, &mut maps)? {
                reached.ranges.entry(section).or_default().insert(range);
            }
        }
        for map in maps {
            let Some(map) = object.symbols.get(map) else {
                continue;
            };
            let known = !reached.maps.insert(map.name.to_owned());
            if known || shared.contains(map.name) {
                continue;
            }
            for (_, target) in entries::of_map(object, map)? {
                let Target::Program(target) = target else {
                    continue;
                };
                if seen.insert(target.clone()) {
                    reached.jumps.push(Jump {
                        target: target.clone(),
                        from: from.clone(),
                    });
                    todo.push((target, from.clone()));
                }
            }
        }
    }
    Ok(reached)
}

/// A function and all that it calls.
fn called<'a>(
    object: &Object<'a>,
    codes: &mut BTreeMap<usize, Code<'a>>,
    root: usize,
    reached: &mut Reached,
    maps: &mut BTreeSet<usize>,
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
        for callee in callees(object, code, index, symbol.value..end, reached, maps)? {
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
    reached: &mut Reached,
    maps: &mut BTreeSet<usize>,
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
        let Some(&number) = code.relocations.get(&at) else {
            if calls {
                callees.extend(relative(at).map(|address| (section, address)));
            }
            continue;
        };
        let symbol = object.symbols.get(number).ok_or(OUTSIDE)?;
        let named = || {
            object
                .symbols
                .get(caller)
                .map(|symbol| symbol.name.to_owned())
        };
        let Some(target) = symbol.section else {
            reached.sites.push(Site {
                section,
                offset: at,
                symbol: number,
                calls,
                function: named().unwrap_or_default(),
            });
            continue;
        };
        let home = object.sections.get(target);
        if home.is_some_and(|home| home.name.starts_with(".addr_space.")) {
            return Err(NormaliseError::ArenaVariable {
                function: named().unwrap_or_default(),
                variable: symbol.name.to_owned(),
            });
        }
        if object.is_maps(target) {
            maps.insert(number);
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
