//! Loading the programs of one object.

mod alone;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use bytecode_object::{ByteOrder, ObjectInfo, ProgramType, Section};
use log::{debug, info, warn};

use self::alone::{reason, refused_member, warn_alone};
use crate::change::{self, Change};
use crate::dispatcher::{action, plan};
use crate::error::Doing;
use crate::kernel::{Kernel, KernelError, LoadAs, LoadSpec, Loaded, LoadedProgram, ProgramSpec};
use crate::near::nearest;
use crate::paths::can_be_pinned;
use crate::state::{Guard, HexBytes, Hook, Key, MemberRecord, ProgramRecord};
use crate::{
    KernelState, LoadRequest, Loader, LoaderError, Program, ProgramRequest, Source, TcDirection,
    metadata,
};

/// Function of a dispatcher whose signature its members must have.
const COMPAT_TEST: &str = "compat_test";

/// What a load made, with how it was done.
struct Made<H> {
    loaded: Loaded<H>,
    /// XDP and TC programs are made for a dispatcher.
    extension: bool,
    /// Except these, which the kernel takes by themselves only.
    alone: BTreeSet<String>,
}

/// Maps of a program that is loaded already.
struct Shared {
    folder: u32,
    pins: BTreeMap<String, PathBuf>,
}

/// Maps that are shared by name.
#[derive(Default)]
struct ByName {
    /// Names of those that the new programs share.
    used: BTreeSet<String>,
    /// Pins of those that are there already.
    there: BTreeMap<String, PathBuf>,
}

impl<K: Kernel> Loader<K> {
    /// Loads the programs asked for, or none, and returns them in the order asked.
    ///
    /// # Errors
    ///
    /// When the request does not fit the object, the kernel refuses, or the store cannot be written.
    pub fn load(
        &self,
        guard: &mut Guard,
        request: LoadRequest,
    ) -> Result<Vec<Program>, LoaderError> {
        metadata::check(&request.metadata)?;
        let from = describe(&request.source);
        let object = ObjectInfo::parse(&request.object).map_err(|source| LoaderError::Object {
            from: from.clone(),
            source,
        })?;
        debug!(
            "{from}: {} bytes, {} programs, {} maps",
            request.object.len(),
            object.programs.len(),
            object.maps.len()
        );
        check(&object, &request.programs, &from)?;
        self.establish(guard)?;
        let shared = self.shared(guard, request.map_owner_id)?;
        if let (Some(shared), Some(id)) = (&shared, request.map_owner_id) {
            check_shared(&object, shared, id, &from)?;
        }
        // The records of all programs say who shares maps. Without an owner, only those of this load do.
        let mut folders = match request.map_owner_id {
            Some(_) => guard.records_of_change()?.maps_folders()?,
            None => BTreeMap::new(),
        };
        let what = format!("loading {from}");
        let loaded = change::run(&self.kernel, guard, &what, |change| {
            self.build(change, &what, &request, &object, shared)
        })
        .map_err(|error| without_kernel_types(error, &object, &request.programs))?;
        for (id, record, _) in &loaded {
            info!(
                "loaded {}:{} as program {id}",
                record.program_type, record.function
            );
        }
        let folder =
            |(id, record, _): &(u32, ProgramRecord, KernelState)| (*id, record.maps_folder);
        folders.extend(loaded.iter().map(folder));
        let view = |(id, record, kernel)| self.view(id, record, kernel, &folders, Vec::new());
        Ok(loaded.into_iter().map(view).collect())
    }

    /// The maps of the owner, by the names that they are pinned under.
    fn shared(&self, guard: &Guard, owner: Option<u32>) -> Result<Option<Shared>, LoaderError> {
        let Some(id) = owner else { return Ok(None) };
        let Some(owner) = guard.records_of_change()?.program(id)? else {
            return Err(LoaderError::NoSuchMapOwner { id });
        };
        let path = self.pins().maps(owner.maps_folder);
        let entries = self.kernel.list_dir(&path);
        let entries = entries.doing(|| format!("listing {}", path.display()))?;
        Ok(Some(Shared {
            folder: owner.maps_folder,
            pins: entries
                .into_iter()
                .filter(|entry| !entry.is_dir)
                .map(|pin| (pin.name.clone(), path.join(pin.name)))
                .collect(),
        }))
    }

    /// The maps of the object that are shared by name. One that the owner of the folder has comes from there.
    fn by_name(
        &self,
        change: &Change<'_, K>,
        object: &ObjectInfo,
        shared: Option<&Shared>,
    ) -> Result<ByName, LoaderError> {
        let mut by_name = ByName::default();
        let names = object
            .maps
            .iter()
            .filter(|(name, map)| map.pinned_by_name && can_be_pinned(name));
        for (name, _) in names {
            match shared.filter(|shared| shared.pins.contains_key(name)) {
                Some(shared) => {
                    // The owner's may be the one that everybody shares, or one of its own.
                    let programs = change.records()?.programs()?;
                    let mut users = programs
                        .values()
                        .filter(|program| program.maps_folder == shared.folder);
                    if users.any(|program| program.maps_by_name.contains(name)) {
                        by_name.used.insert(name.clone());
                    }
                }
                None => {
                    let path = self.pins().map_by_name(name);
                    let pin = self.kernel.open_pin(&path);
                    if pin
                        .doing(|| format!("opening {}", path.display()))?
                        .is_some()
                    {
                        by_name.there.insert(name.clone(), path);
                    }
                    by_name.used.insert(name.clone());
                }
            }
        }
        Ok(by_name)
    }

    fn build(
        &self,
        change: &mut Change<'_, K>,
        what: &str,
        request: &LoadRequest,
        object: &ObjectInfo,
        shared: Option<Shared>,
    ) -> Result<Vec<(u32, ProgramRecord, KernelState)>, LoaderError> {
        let shared_pins = shared
            .as_ref()
            .map(|shared| shared.pins.clone())
            .unwrap_or_default();
        let by_name = self.by_name(change, object, shared.as_ref())?;
        let mut known = by_name.there.clone();
        known.extend(shared_pins.clone());
        let Made {
            loaded,
            extension,
            alone,
        } = self.load_object(what, request, known)?;
        let pins = self.pins();
        let folder = match &shared {
            Some(shared) => shared.folder,
            None => loaded.programs.first().map_or(0, |program| program.id),
        };
        let maps = pins.maps(folder);
        if shared.is_none() {
            change.create_dir(&maps)?;
        }
        for map in &loaded.maps {
            if !can_be_pinned(&map.name) || shared_pins.contains_key(&map.name) {
                continue;
            }
            if by_name.used.contains(&map.name) && !by_name.there.contains_key(&map.name) {
                change.pin(&map.handle, &pins.map_by_name(&map.name))?;
            }
            change.pin(&map.handle, &maps.join(&map.name))?;
        }
        let mut made = Vec::new();
        let mut puts = Vec::new();
        for (program, asked) in loaded.programs.iter().zip(&request.programs) {
            let extension = extension && !alone.contains(&asked.function);
            change.pin(&program.handle, &pins.program(program.id))?;
            let state = self.kernel.program_state(&program.handle);
            let state = state.doing(|| format!("reading program {}", program.id))?;
            let record = ProgramRecord {
                retprobe: is_retprobe(object, asked),
                maps_by_name: by_name.used.clone(),
                ..record(request, asked, folder, extension, program)
            };
            puts.push(
                change
                    .records()?
                    .put(Key::Program(program.id), Some(&record))?,
            );
            made.push((program.id, record, state));
        }
        change.record(puts)?;
        Ok(made)
    }

    /// Loads with XDP and TC programs made for their dispatchers, or plainly where the kernel refuses that: all of them
    /// where it takes no EXT programs, single ones where the verifier refuses them as such.
    fn load_object(
        &self,
        what: &str,
        request: &LoadRequest,
        shared_maps: BTreeMap<String, PathBuf>,
    ) -> Result<Made<K::Handle>, LoaderError> {
        let mut dispatchers = match self.dispatchers(request) {
            Err(error @ KernelError::NoExtensions { .. }) => {
                warn_no_extensions(&error);
                BTreeMap::new()
            }
            dispatchers => dispatchers.doing(|| "loading the dispatcher".to_owned())?,
        };
        let mut alone = BTreeMap::new();
        loop {
            let spec = LoadSpec {
                object: &request.object,
                programs: specs(request, &dispatchers, &alone),
                globals: &request.globals,
                shared_maps: shared_maps.clone(),
            };
            match self.kernel.load(&spec) {
                Ok(loaded) => {
                    for (function, (program_type, reason)) in &alone {
                        warn_alone(function, *program_type, reason);
                    }
                    return Ok(Made {
                        loaded,
                        extension: !dispatchers.is_empty(),
                        alone: alone.into_keys().collect(),
                    });
                }
                Err(error @ KernelError::NoExtensions { .. }) if !dispatchers.is_empty() => {
                    warn_no_extensions(&error);
                    dispatchers.clear();
                    alone.clear();
                }
                Err(error) => match refused_member(&error, &spec.programs) {
                    // Whether the program is at fault is known once it is loaded by itself.
                    Some((function, program_type, log)) => {
                        alone.insert(function.to_owned(), (program_type, reason(log)));
                    }
                    None => return Err(self.refused(what, error)),
                },
            }
        }
    }

    fn refused(&self, what: &str, source: KernelError) -> LoaderError {
        match source {
            KernelError::NoKernelFunction { ref function } => {
                let function = function.clone();
                self.no_function(what, &function, true, source)
            }
            source => LoaderError::Kernel {
                what: what.to_owned(),
                source,
            },
        }
    }

    /// A dispatcher without members for each type that has one, to load programs against.
    fn dispatchers(
        &self,
        request: &LoadRequest,
    ) -> Result<BTreeMap<&'static str, K::Handle>, KernelError> {
        let mut dispatchers = BTreeMap::new();
        for asked in &request.programs {
            let kind = asked.program_type;
            if let Some(hook) = dispatched(kind)
                && !dispatchers.contains_key(kind.as_str())
            {
                let template = self.kernel.load_dispatcher(&plan::config(hook, &[]))?;
                dispatchers.insert(kind.as_str(), template);
            }
        }
        Ok(dispatchers)
    }
}

/// A hook of the type, where programs of it stand behind a dispatcher.
fn dispatched(kind: ProgramType) -> Option<Hook> {
    match kind {
        ProgramType::Xdp => Some(Hook::Xdp),
        ProgramType::Tc => Some(Hook::Tc(TcDirection::Ingress)),
        _ => None,
    }
}

/// Whether there is anything to share.
fn check_shared(
    object: &ObjectInfo,
    shared: &Shared,
    owner: u32,
    from: &str,
) -> Result<(), LoaderError> {
    let mut names = object.maps.keys();
    if object.maps.is_empty() || names.any(|name| shared.pins.contains_key(name)) {
        return Ok(());
    }
    Err(LoaderError::NothingShared {
        from: from.to_owned(),
        owner,
        expected: object.maps.keys().cloned().collect(),
        found: shared.pins.keys().cloned().collect(),
    })
}

fn warn_no_extensions(error: &KernelError) {
    warn!(
        "{error}: XDP and TC programs are loaded without a dispatcher, at most one can be attached to a hook of an interface"
    );
}

fn specs<'a, H>(
    request: &'a LoadRequest,
    dispatchers: &'a BTreeMap<&'static str, H>,
    alone: &BTreeMap<String, (ProgramType, String)>,
) -> Vec<ProgramSpec<'a, H>> {
    let spec = |asked: &'a ProgramRequest| ProgramSpec {
        function: &asked.function,
        program_type: asked.program_type,
        attach_function: asked.attach_function.as_deref(),
        load_as: match dispatchers.get(asked.program_type.as_str()) {
            Some(target) if !alone.contains_key(&asked.function) => LoadAs::Extension {
                target,
                function: COMPAT_TEST,
            },
            _ => LoadAs::Plain,
        },
    };
    request.programs.iter().map(spec).collect()
}

fn record<H>(
    request: &LoadRequest,
    asked: &ProgramRequest,
    maps_folder: u32,
    extension: bool,
    loaded: &LoadedProgram<H>,
) -> ProgramRecord {
    let globals = request
        .globals
        .iter()
        .map(|(name, value)| (name.clone(), HexBytes(value.clone())));
    ProgramRecord {
        function: asked.function.clone(),
        program_type: asked.program_type,
        attach_function: asked.attach_function.clone(),
        source: request.source.clone().into(),
        globals: globals.collect(),
        metadata: request.metadata.clone(),
        maps_folder,
        maps_by_name: BTreeSet::new(),
        member: dispatched(asked.program_type).map(|hook| MemberRecord {
            extension,
            frags: loaded.xdp_frags,
            never: action::never(hook, loaded.results),
        }),
        retprobe: false,
    }
}

/// A kernel without types of its own (`CONFIG_DEBUG_INFO_BTF`) is found out before anything is made: says which of the
/// programs want them and why, and which of the object's do not.
fn without_kernel_types(
    error: LoaderError,
    object: &ObjectInfo,
    programs: &[ProgramRequest],
) -> LoaderError {
    let (what, source) = match error {
        LoaderError::Kernel {
            what,
            source: source @ KernelError::NoKernelBtf { .. },
        } => (what, source),
        error => return error,
    };
    let asked = programs.iter().map(|asked| asked.function.as_str());
    let plain =
        |(_, found): &(&String, &bytecode_object::ProgramInfo)| found.kernel_btf(object).is_none();
    LoaderError::NoKernelTypes {
        what,
        wanting: object.needs(asked).kernel_btf,
        plain: object
            .programs
            .iter()
            .filter(plain)
            .map(|(name, _)| name.clone())
            .collect(),
        source: Box::new(source),
    }
}

/// The TYPE words say `kprobe` and `uprobe`; the section says which end of the function is meant.
fn is_retprobe(object: &ObjectInfo, asked: &ProgramRequest) -> bool {
    let program = object.programs.get(&asked.function);
    program.is_some_and(|program| {
        matches!(
            program.section,
            Section::Kretprobe | Section::Uretprobe { .. }
        )
    })
}

fn describe(source: &Source) -> String {
    match source {
        Source::File { path } => path.clone(),
        Source::Image { url, .. } => url.clone(),
    }
}

/// Whether the object has what is asked for. Asks no kernel.
fn check(object: &ObjectInfo, programs: &[ProgramRequest], from: &str) -> Result<(), LoaderError> {
    let host = if cfg!(target_endian = "big") {
        ByteOrder::Big
    } else {
        ByteOrder::Little
    };
    if object.byte_order != host {
        return Err(LoaderError::ByteOrder {
            from: from.to_owned(),
            found: object.byte_order,
            host,
        });
    }
    if programs.is_empty() {
        return Err(LoaderError::NothingAsked {
            from: from.to_owned(),
        });
    }
    let mut seen = BTreeSet::new();
    for asked in programs {
        let function = asked.function.clone();
        let Some(found) = object.programs.get(&function) else {
            // Only those that can be loaded as what is asked for.
            let fit = object.programs.iter();
            let fit = fit.filter(|(_, program)| asked.program_type.fits(&program.section));
            let near = nearest(&function, fit.map(|(name, _)| name.as_str()));
            return Err(LoaderError::FunctionNotFound {
                from: from.to_owned(),
                near: near.map(str::to_owned),
                available: object.programs.keys().cloned().collect(),
                function,
            });
        };
        if !asked.program_type.fits(&found.section) {
            return Err(LoaderError::TypeMismatch {
                from: from.to_owned(),
                function,
                asked: asked.program_type,
                section: found.section_name.clone(),
                fits: ProgramType::ALL
                    .into_iter()
                    .filter(|kind| kind.fits(&found.section))
                    .collect(),
            });
        }
        let traces = matches!(asked.program_type, ProgramType::Fentry | ProgramType::Fexit);
        if traces && asked.attach_function.is_none() {
            return Err(LoaderError::NoAttachFunction {
                function,
                program_type: asked.program_type,
            });
        }
        if !seen.insert(&asked.function) {
            return Err(LoaderError::AskedTwice {
                from: from.to_owned(),
                function,
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use bytecode_object::ProgramInfo;

    use super::*;

    #[test]
    fn a_kernel_without_types_is_told_from_other_failures() {
        let program = |section: &str| ProgramInfo {
            section_name: section.to_owned(),
            section: Section::parse(section),
            core_relocations: false,
        };
        let programs = [("entry", "fentry/vfs_read"), ("count", "xdp")];
        let programs = programs.map(|(name, section)| (name.to_owned(), program(section)));
        let object = ObjectInfo {
            byte_order: ByteOrder::Little,
            programs: BTreeMap::from(programs),
            maps: BTreeMap::new(),
            license: None,
            core_relocations_in_text: false,
            kernel_symbols: false,
        };
        let asked = [ProgramRequest {
            function: "entry".to_owned(),
            program_type: ProgramType::Fentry,
            attach_function: Some("vfs_read".to_owned()),
        }];
        let failed = |source| LoaderError::Kernel {
            what: "loading x.o".to_owned(),
            source,
        };
        let missing = || std::io::Error::from(std::io::ErrorKind::NotFound);
        let error = failed(KernelError::NoKernelBtf { source: missing() });
        let error = without_kernel_types(error, &object, &asked);
        assert_eq!(
            error.to_string(),
            "loading x.o: program `entry` attaches to a type of the kernel's"
        );
        let hint = error.hint().unwrap();
        assert!(
            hint.ends_with("programs of it that do without: count"),
            "{hint}"
        );
        let error = failed(KernelError::NoExtensions { source: missing() });
        let error = without_kernel_types(error, &object, &asked);
        assert!(matches!(error, LoaderError::Kernel { .. }));
    }
}
