//! Links, FIFOs and devices in the runtime folder, and folders of other users.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};

use super::*;
use crate::StateError;

fn is_untrusted(error: &LoaderError) -> bool {
    matches!(error, LoaderError::State(StateError::Untrusted { .. }))
}

/// What is put in the place of a file or folder: a link to one that must not be touched, a FIFO, a socket.
fn intruders(place: &Path, victim: &Path) -> Vec<Box<dyn Fn()>> {
    let (link, fifo, socket) = (place.to_owned(), place.to_owned(), place.to_owned());
    let victim = victim.to_owned();
    vec![
        Box::new(move || symlink(&victim, &link).unwrap()),
        Box::new(move || {
            let mode = rustix::fs::Mode::from_raw_mode(0o600);
            rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, mode, 0)
                .unwrap();
        }),
        Box::new(move || drop(std::os::unix::net::UnixListener::bind(&socket).unwrap())),
    ]
}

fn remove(path: &Path) {
    if fs::symlink_metadata(path).unwrap().is_dir() {
        fs::remove_dir_all(path).unwrap();
    } else {
        fs::remove_file(path).unwrap();
    }
}

#[test]
fn nothing_in_it_is_opened_that_is_neither_file_nor_folder() {
    for (name, is_folder) in [
        ("lock", false),
        ("journal", false),
        ("reserve", false),
        ("new", false),
        ("boot_id", false),
        ("fs", true),
        ("records", true),
        ("records/programs", true),
        ("records/links", true),
        ("records/programs/ID.json", false),
    ] {
        for kind in 0..3 {
            let bench = Bench::new();
            let id = bench.load(&["xdp:pass"])[0];
            let place = bench.run_dir().join(name.replace("ID", &id.to_string()));
            let victim = bench.dir.path().join("victim");
            if is_folder {
                fs::create_dir(&victim).unwrap();
                fs::write(victim.join("kept"), "kept").unwrap();
            } else {
                fs::write(&victim, "kept").unwrap();
            }
            let context = format!("{name}, intruder {kind}");
            if fs::symlink_metadata(&place).is_ok() {
                remove(&place);
            }
            intruders(&place, &victim)[kind]();
            let added = bench
                .loader
                .lock()
                .and_then(|mut guard| bench.loader.load(&mut guard, request(&["xdp:xdp_stats"])));
            let attached = bench.loader.lock().and_then(|mut guard| {
                attach(&bench, &mut guard, id, xdp("eth0", 50))?;
                bench.loader.unload(&mut guard, id)
            });
            let refused = [added.err(), attached.err()];
            let mut refused = refused.iter().flatten();
            assert!(refused.any(is_untrusted), "{context}: {refused:?}");
            let _ = bench.loader.doctor();
            let _ = bench.loader.repair();
            let kept = if is_folder {
                victim.join("kept")
            } else {
                victim
            };
            assert_eq!(fs::read_to_string(kept).unwrap(), "kept", "{context}");
        }
    }
}

#[test]
fn folder_that_everybody_may_write_to_is_refused_by_name() {
    let bench = Bench::new();
    let id = bench.load(&["xdp:pass"])[0];
    for (folder, mode, is_refused) in [
        ("", 0o777, true),
        ("", 0o1777, false),
        ("", 0o755, false),
        ("records", 0o777, true),
        ("records/programs", 0o777, true),
        ("records/programs", 0o700, false),
    ] {
        let path = bench.run_dir().join(folder);
        let path: PathBuf = path.components().collect();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        let guard = bench.loader.lock();
        let found = guard.and_then(|guard| bench.loader.is_managed(&guard, id));
        let context = format!("{folder:?} {mode:o}: {found:?}");
        match found {
            Err(error) => {
                assert!(is_refused && is_untrusted(&error), "{context}");
                let name = path.display().to_string();
                assert!(error.to_string().contains(&name), "{context}");
                assert!(error.hint().is_some(), "{context}");
            }
            Ok(found) => assert!(found && !is_refused, "{context}"),
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
    }
}

#[test]
fn what_belongs_to_another_user_is_refused_by_name() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    for name in ["", "lock", "journal", "records", "records/programs", "fs"] {
        let bench = Bench::new();
        let id = bench.load(&["xdp:pass"])[0];
        let path: PathBuf = bench.run_dir().join(name).components().collect();
        if name == "fs" {
            fs::create_dir(&path).unwrap();
        }
        std::os::unix::fs::chown(&path, Some(65534), None).unwrap();
        let done = bench
            .loader
            .lock()
            .and_then(|mut guard| bench.loader.unload(&mut guard, id));
        let error = done.unwrap_err();
        let LoaderError::State(StateError::Owner { path: named, owner }) = &error else {
            unreachable!("{name}: {error:?}")
        };
        assert_eq!((named, *owner), (&path, 65534), "{name}");
    }
}

fn attach(
    bench: &Bench,
    guard: &mut Guard,
    id: u32,
    point: AttachPoint,
) -> Result<(), LoaderError> {
    super::faults::attach(bench, guard, id, point)
}
