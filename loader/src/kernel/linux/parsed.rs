//! aya-obj's part of a load: reading an object, fitting its types to the kernel's, tying it to its maps.
//!
//! This is the one boundary to it. A panic in there (it indexes and unwraps on what it reads) becomes an error.

use std::collections::BTreeMap;
use std::os::fd::{AsRawFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};

use aya_obj::btf::{Btf, BtfFeatures};
use aya_obj::{Function, Map, Program};

use super::KernelError;
use crate::object::{Object, Variable};

/// An object that was read.
#[derive(Debug)]
pub(super) struct Parsed(aya_obj::Object);

impl Parsed {
    /// Reads an object that [`crate::object::Object::normalise`] wrote.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, KernelError> {
        guarded("reading it", || aya_obj::Object::parse(bytes)).map(Self)
    }

    /// Writes a global's value into the data of its section. Whether it fits was checked before.
    pub(super) fn set(&mut self, variable: &Variable, value: &[u8]) {
        let mut maps = self.0.maps.values_mut();
        let Some(map) = maps.find(|map| map.section_index() == variable.section) else {
            return;
        };
        let Ok(start) = usize::try_from(variable.offset) else {
            return;
        };
        let end = start.saturating_add(value.len());
        if let Some(place) = map.data_mut().get_mut(start..end) {
            place.copy_from_slice(value);
        }
    }

    /// The object's own BTF, as this kernel takes it.
    pub(super) fn btf(&mut self, features: &BtfFeatures) -> Result<Option<Vec<u8>>, KernelError> {
        guarded("fitting its BTF to this kernel", || {
            let btf = self.0.fixup_and_sanitize_btf(features)?;
            Ok::<_, aya_obj::btf::BtfError>(btf.map(Btf::to_bytes))
        })
    }

    /// Its maps by name, taken out of it.
    pub(super) fn take_maps(&mut self) -> BTreeMap<String, Map> {
        self.0.maps.drain().collect()
    }

    /// Puts the descriptors of maps and the addresses of functions into the instructions.
    ///
    /// `callbacks` are the exception callbacks of programs, which no instruction refers to: each is put behind its
    /// program, with what it calls.
    pub(super) fn relocate(
        &mut self,
        maps: &[(String, OwnedFd, Map)],
        callbacks: &BTreeMap<String, String>,
    ) -> Result<(), KernelError> {
        let text = self
            .0
            .functions
            .keys()
            .map(|(section, _)| *section)
            .collect();
        let maps = maps
            .iter()
            .map(|(name, fd, map)| (name.as_str(), fd.as_raw_fd(), map));
        guarded("tying it to its maps", || self.0.relocate_maps(maps, &text))?;
        let places = self.callbacks_as_programs(callbacks);
        guarded("joining its functions", || self.0.relocate_calls(&text))?;
        for (program, place) in places {
            self.0
                .programs
                .retain(|_, known| known.function_key() != place);
            let callback = self.0.functions.remove(&place);
            let key = self.0.programs.get(program).map(Program::function_key);
            let program = key.and_then(|key| self.0.functions.get_mut(&key));
            if let (Some(program), Some(callback)) = (program, callback) {
                append(program, &callback);
            }
        }
        Ok(())
    }

    /// Makes callbacks programs of their own, so that what they call is put behind them. Gives their places.
    fn callbacks_as_programs<'c>(
        &mut self,
        callbacks: &'c BTreeMap<String, String>,
    ) -> Vec<(&'c str, (usize, u64))> {
        let mut places = Vec::with_capacity(callbacks.len());
        // No object has that many sections.
        for ((program, callback), section) in callbacks.iter().zip(1_usize << 32..) {
            let is_program = |key: (usize, u64)| {
                let mut programs = self.0.programs.values();
                programs.any(|program| program.function_key() == key)
            };
            let mut functions = self.0.functions.iter();
            let found =
                functions.find(|(key, found)| found.name == *callback && !is_program(**key));
            let (Some((_, found)), Some(of)) = (found, self.0.programs.get(program)) else {
                continue;
            };
            let mut function = found.clone();
            for record in &mut function.func_info.func_info {
                record.insn_off = 0;
            }
            let start = function.line_info.line_info.first();
            let start = start.map(|line| line.insn_off).unwrap_or_default();
            for line in &mut function.line_info.line_info {
                line.insn_off = line.insn_off.saturating_sub(start);
            }
            let of = Program {
                section_index: section,
                address: function.address,
                ..of.clone()
            };
            let place = of.function_key();
            // Not a name that any symbol has.
            let name = format!("{callback} of {program}");
            self.0.programs.insert(name, of);
            self.0.functions.insert(place, function);
            places.push((program.as_str(), place));
        }
        places
    }

    /// A program and its instructions.
    pub(super) fn program(&self, name: &str) -> Option<(&Program, &Function)> {
        let program = self.0.programs.get(name)?;
        Some((program, self.0.functions.get(&program.function_key())?))
    }

    /// The functions that were joined into a program: the instruction at which each begins, and its name.
    pub(super) fn functions(&self, name: &str, object: &Object<'_>) -> Vec<(u64, String)> {
        let Some((_, function)) = self.program(name) else {
            return Vec::new();
        };
        // struct bpf_func_info { insn_off, type_id }
        let records = function.func_info.func_info.iter();
        records
            .filter_map(|record| {
                let function = object.type_name(record.type_id)?;
                Some((u64::from(record.insn_off), function))
            })
            .collect()
    }
}

/// Puts a linked function behind a linked program.
fn append(program: &mut Function, function: &Function) {
    let start = u32::try_from(program.instructions.len()).unwrap_or(u32::MAX);
    program.instructions.extend(&function.instructions);
    for record in &function.func_info.func_info {
        let mut record = *record;
        record.insn_off = record.insn_off.saturating_add(start);
        program.func_info.func_info.push(record);
    }
    program.func_info.num_info = u32::try_from(program.func_info.len()).unwrap_or(u32::MAX);
    for line in &function.line_info.line_info {
        let mut line = *line;
        line.insn_off = line.insn_off.saturating_add(start);
        program.line_info.line_info.push(line);
    }
    program.line_info.num_info = u32::try_from(program.line_info.len()).unwrap_or(u32::MAX);
}

fn guarded<T, E>(doing: &'static str, work: impl FnOnce() -> Result<T, E>) -> Result<T, KernelError>
where
    E: std::error::Error + Send + Sync + 'static,
{
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(KernelError::Aya {
            doing,
            source: Box::new(error),
        }),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
            Err(KernelError::Panicked {
                doing,
                message: text.unwrap_or("no message").to_owned(),
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_error() {
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(|_| {}));
        let result = guarded("testing", || -> Result<(), std::io::Error> {
            let empty: [u8; 0] = [];
            let index = std::hint::black_box(3);
            Err(std::io::Error::other(format!("{:?}", &empty[index..])))
        });
        std::panic::set_hook(hook);
        assert!(
            matches!(
                result,
                Err(KernelError::Panicked {
                    doing: "testing",
                    ..
                })
            ),
            "{result:?}"
        );
    }
}
