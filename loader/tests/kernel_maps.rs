//! Maps that programs share, on this machine's kernel: with the owner of a folder, and by name. What is shared is
//! proved by what the programs count.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod objects;
mod real;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use aya::maps::MapData;
use bpfman_tests::lanes;
use bytecode_object::ProgramType;
use loader::kernel::linux::LinuxKernel;
use loader::{Config, LoadRequest, Loader, LoaderError, Program, ProgramRequest, Source};

use objects::object;
use real::{number_in, run};

/// A loader with a runtime folder of its own, whose bpffs is unmounted at the end.
struct Place {
    folder: tempfile::TempDir,
    loader: Loader<LinuxKernel>,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = Config::new(folder.path().to_owned());
        Self {
            folder,
            loader: Loader::new(LinuxKernel::new(), config),
        }
    }

    fn fs(&self, path: &str) -> PathBuf {
        self.folder.path().join("fs").join(path)
    }

    fn load(
        &self,
        object: &[u8],
        owner: Option<u32>,
        weight: Option<u64>,
    ) -> Result<Program, LoaderError> {
        let request = LoadRequest {
            object: object.to_vec(),
            source: Source::File {
                path: "object.o".to_owned(),
            },
            programs: vec![ProgramRequest {
                program_type: ProgramType::Tcx,
                function: "count".to_owned(),
                attach_function: None,
            }],
            globals: weight
                .map(|weight| ("weight".to_owned(), weight.to_ne_bytes().to_vec()))
                .into_iter()
                .collect(),
            metadata: BTreeMap::new(),
            map_owner_id: owner,
        };
        let mut guard = self.loader.lock().unwrap();
        Ok(self.loader.load(&mut guard, request)?.remove(0))
    }

    fn unload(&self, program: &Program) {
        let mut guard = self.loader.lock().unwrap();
        self.loader.unload(&mut guard, program.kernel.id).unwrap();
    }

    /// Lets a program see one packet.
    fn run(&self, program: &Program) {
        assert_eq!(run(&self.fs(&format!("prog_{}", program.kernel.id))), 0);
    }

    /// What is counted in the map that is pinned there.
    fn count(&self, pin: &Path) -> u64 {
        number_in(MapData::from_pin(pin).unwrap().info().unwrap().id())
    }

    /// The same, in the folder of a program's maps.
    fn count_of(&self, program: &Program, map: &str) -> u64 {
        let folder = &program.managed.as_ref().unwrap().map_pin_path;
        self.count(&folder.join(map))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.fs("")).status();
    }
}

fn refusal(result: Result<Program, LoaderError>) -> String {
    let error = result.unwrap_err();
    let source = std::error::Error::source(&error).map(ToString::to_string);
    let hint = error.hint();
    [Some(error.to_string()), source, hint]
        .into_iter()
        .flatten()
        .collect::<Vec<_>>()
        .join(" | ")
}

#[test]
fn programs_count_in_the_maps_of_their_owner_until_the_last_is_gone() {
    let (Some(shared), Some(wide), Some(tracepoint)) =
        (object("by_name"), object("by_name_wide"), object("narrow"))
    else {
        return;
    };
    if !lanes::root() {
        return;
    }
    let place = Place::new();
    let owner = place.load(&shared, None, None).unwrap();
    // A global of the new program is its own: data sections are not shared.
    let guest = place
        .load(&shared, Some(owner.kernel.id), Some(10))
        .unwrap();
    let alone = place.load(&shared, None, Some(100)).unwrap();
    for program in [&owner, &guest, &alone] {
        place.run(program);
    }
    assert_eq!(place.count_of(&owner, "owners"), 11);
    assert_eq!(place.count_of(&guest, "owners"), 11);
    assert_eq!(place.count_of(&alone, "owners"), 100);
    let folder = place.fs(&format!("maps/{}", owner.kernel.id));
    assert_eq!(guest.managed.as_ref().unwrap().map_pin_path, folder);

    // The owner may go first.
    place.unload(&owner);
    place.run(&guest);
    assert_eq!(place.count_of(&guest, "owners"), 21);
    let heir = place.load(&shared, Some(guest.kernel.id), None).unwrap();
    place.run(&heir);
    assert_eq!(place.count(&folder.join("owners")), 22);
    place.unload(&guest);
    assert!(folder.is_dir());

    // Another size, another type, no name in common.
    let error = refusal(place.load(&wide, Some(heir.kernel.id), None));
    assert!(
        error.contains(
            "map `everybodys` cannot be shared: its number of entries is 1, the object has 2"
        ),
        "{error}"
    );
    let error = refusal(place.load(&tracepoint, Some(heir.kernel.id), None));
    let expected = format!(
        "loading object.o with the maps of program {0}: the object has other, program {0} has everybodys, owners; none \
         has the same name | leave --map-owner-id out",
        heir.kernel.id
    );
    assert!(error.starts_with(&expected), "{error}");
    let error = refusal(place.load(&shared, Some(owner.kernel.id), None));
    assert!(
        error.contains("bpfman has no program with that id"),
        "{error}"
    );

    place.unload(&heir);
    assert!(!folder.exists());
    place.unload(&alone);
}

#[test]
fn maps_pinned_by_name_are_every_loads_and_ours() {
    let (Some(object), Some(wide)) = (object("by_name"), object("by_name_wide")) else {
        return;
    };
    if !lanes::root() {
        return;
    }
    let place = Place::new();
    let pin = place.fs("maps/by-name/everybodys");
    let first = place.load(&object, None, None).unwrap();
    let second = place.load(&object, None, Some(10)).unwrap();
    for program in [&first, &second, &second] {
        place.run(program);
    }
    assert_eq!(place.count(&pin), 21);
    assert_eq!(place.count_of(&first, "everybodys"), 21);
    assert_eq!(place.count_of(&second, "everybodys"), 21);
    assert_eq!(place.count_of(&second, "owners"), 20);
    assert!(!Path::new("/sys/fs/bpf/everybodys").exists());

    let error = refusal(place.load(&wide, None, None));
    assert!(
        error.contains(
            "map `everybodys` cannot be shared: its number of entries is 1, the object has 2"
        ) && error.contains("give map `everybodys` another name"),
        "{error}"
    );

    // It lives as long as one of those who share it, whoever made it.
    place.unload(&first);
    assert_eq!(place.count(&pin), 21);
    let guest = place.load(&object, Some(second.kernel.id), None).unwrap();
    place.unload(&second);
    place.run(&guest);
    assert_eq!(place.count(&pin), 22);
    place.unload(&guest);
    assert!(!pin.exists());
    // And what comes after begins anew, of any size.
    let wide = place.load(&wide, None, None).unwrap();
    assert!(pin.exists());
    place.unload(&wide);
    assert!(!pin.exists());
}
