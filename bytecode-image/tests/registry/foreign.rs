//! Stores whose content another user chose: links, FIFOs and sockets in every place, folders that belong to somebody
//! else, locks that are never given back.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{chown, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use bytecode_image::archive::{self, Platforms};
use bytecode_image::digest::Digest;
use bytecode_image::pull::{PullPolicy, Trust, pull};
use bytecode_image::reference::Reference;
use bytecode_image::store::{Store, StoreError};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::process::geteuid;

use crate::images::{Parts, TestStore, reference, serve};
use crate::server::Registry;

/// Everything that is done to a store; each says what went wrong, and its causes.
fn everything(store: &TestStore, name: &Reference, archive: &Path) -> Vec<(&'static str, String)> {
    fn told<T, E: std::error::Error>(result: Result<T, E>) -> String {
        let Err(error) = result else {
            return String::new();
        };
        let mut text = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            text = format!("{text}: {error}");
            cause = error.source();
        }
        text
    }
    let out = archive.with_file_name("out.tar");
    let all = &Platforms::All;
    let names = std::slice::from_ref(name);
    vec![
        ("list", told(store.store.images())),
        ("pull -p Never", told(store.pull(name, PullPolicy::Never))),
        (
            "export",
            told(archive::export(&store.store, names, all, &out)),
        ),
        ("pull -p Always", told(store.pull(name, PullPolicy::Always))),
        ("import", told(archive::import(&store.store, archive))),
        ("prune", told(store.store.prune(false))),
        ("remove", told(store.store.remove(names))),
        ("prune --all", told(store.store.prune(true))),
    ]
}

/// Files below a folder, with their content.
fn content(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = Vec::new();
    crate::images::walk(folder, &mut found);
    found
        .into_iter()
        .map(|path| (path.clone(), fs::read(path).unwrap_or_default()))
        .collect()
}

#[test]
fn links_fifos_and_sockets_in_a_store_lead_nowhere() {
    let registry = Registry::start();
    let image = Parts::new("pass").image();
    serve(&registry, &image, &["v1"]);
    let name = reference(&registry, ":v1");
    let [manifest, config, layer] = [&image.manifest, &image.config, &image.layers[0].1]
        .map(|bytes| format!("blobs/sha256/{}", Digest::of(bytes).hex()));
    let places = [
        (".bpfman", true),
        (".bpfman/tmp", true),
        (".bpfman/damaged", true),
        (".bpfman/lock", false),
        (".bpfman/index.lock", false),
        ("blobs", true),
        ("blobs/sha256", true),
        ("index.json", false),
        ("oci-layout", false),
        (&manifest, false),
        (&config, false),
        (&layer, false),
    ];
    for (place, is_folder) in places {
        for kind in ["a symbolic link", "a FIFO", "a socket"] {
            let store = TestStore::new();
            store.pull(&name, PullPolicy::Always).unwrap();
            let outside = tempfile::tempdir().unwrap();
            let archive = outside.path().join("archive.tar");
            archive::export(
                &store.store,
                std::slice::from_ref(&name),
                &Platforms::All,
                &archive,
            )
            .unwrap();
            // The victim has what the store had there: what is led to it finds what it looks for.
            let path = store.store.dir().join(place);
            let victim = outside.path().join("victim");
            fs::create_dir(&victim).unwrap();
            let target = victim.join("it");
            match fs::rename(&path, &target) {
                Ok(()) => {}
                Err(_) if is_folder => fs::create_dir(&target).unwrap(),
                Err(error) => panic!("{place}: {error}"),
            }
            if is_folder {
                fs::write(target.join("precious"), "precious").unwrap();
                fs::write(target.join(Digest::of(b"other").hex()), "precious").unwrap();
            }
            let before = content(&victim);
            match kind {
                "a symbolic link" => symlink(&target, &path).unwrap(),
                "a FIFO" => mknodat(CWD, &path, FileType::Fifo, Mode::RWXU, 0).unwrap(),
                _ => drop(UnixListener::bind(&path).unwrap()),
            }
            let told = everything(&store, &name, &archive);
            assert_eq!(content(&victim), before, "{place}: {kind}: {told:#?}");
            assert!(fs::symlink_metadata(&path).is_ok(), "{place}: {kind}");
            let named = |told: &str| told.contains(path.to_str().unwrap()) && told.contains(kind);
            let refused: Vec<_> = told.iter().filter(|(_, told)| named(told)).collect();
            assert!(!refused.is_empty(), "{place}: {kind}: {told:#?}");
            for (what, told) in &told {
                // A blob that cannot be used makes its platform unusable.
                let unusable = *what == "export" && told.contains("is not in the store for");
                assert!(
                    told.is_empty() || named(told) || unusable,
                    "{place}: {kind}: {what}: {told}"
                );
            }
        }
    }
}

#[test]
fn stores_of_other_users_are_read_and_not_changed() {
    // Only root can give a folder away.
    if !geteuid().is_root() {
        return;
    }
    let registry = Registry::start();
    let image = Parts::new("pass").image();
    serve(&registry, &image, &["v1"]);
    let name = reference(&registry, ":v1");
    for given in ["", ".bpfman", ".bpfman/tmp", "blobs", "blobs/sha256"] {
        let store = TestStore::new();
        store.pull(&name, PullPolicy::Always).unwrap();
        let archive = store.store.dir().with_file_name("archive.tar");
        archive::export(
            &store.store,
            std::slice::from_ref(&name),
            &Platforms::All,
            &archive,
        )
        .unwrap();
        let path = store.store.dir().join(given);
        chown(&path, Some(65_534), None).unwrap();
        let before = content(store.store.dir());
        for (what, told) in everything(&store, &name, &archive) {
            let reads = ["list", "pull -p Never", "export"].contains(&what);
            let path = path.display().to_string();
            let path = path.trim_end_matches('/');
            let refused = told.starts_with(&format!("cannot change {path}"))
                && told.contains("it belongs to user 65534: expected root");
            assert!(
                told.is_empty() == reads && (reads || refused),
                "{given}: {what}: {told}"
            );
        }
        assert_eq!(content(store.store.dir()), before, "{given}");
        // Damage is named, and stays where it is.
        let blob = store.store.dir().join("blobs/sha256");
        let blob = blob.join(Digest::of(&image.config).hex());
        fs::write(&blob, "spoiled").unwrap();
        let error = store.pull(&name, PullPolicy::Never).unwrap_err();
        assert!(error.to_string().contains("is damaged"), "{error}");
        assert!(blob.exists(), "{given}");
    }
}

/// A process that holds a lock until its input ends.
struct Holder(Child);

impl Holder {
    fn new(path: &Path, kind: &str) -> Self {
        let mut child = Command::new("flock")
            .arg(kind)
            .arg(path)
            .args(["-c", "echo held; read -r line"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        out.read_line(&mut String::new()).unwrap();
        Self(child)
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

#[test]
fn a_lock_that_is_never_given_back_is_an_error_that_names_its_holder() {
    let registry = Registry::start();
    let (one, two) = (Parts::new("one").image(), Parts::new("two").image());
    serve(&registry, &one, &["one"]);
    serve(&registry, &two, &["two"]);
    let (first, second) = (reference(&registry, ":one"), reference(&registry, ":two"));
    let test = TestStore::new();
    test.pull(&first, PullPolicy::Always).unwrap();
    let store = test
        .store
        .clone()
        .with_lock_timeout(Duration::from_millis(20));
    let own = store.dir().join(".bpfman");
    let names = std::slice::from_ref(&first);
    let locked = |error: &(dyn std::error::Error + 'static), holder: &Holder, file: &str| {
        let mut error = error;
        while let Some(source) = error.source() {
            error = source;
        }
        let text = error.to_string();
        let start = format!(
            "cannot lock {}: held by process {} (`flock ",
            own.join(file).display(),
            holder.0.id()
        );
        assert!(
            text.starts_with(&start) && text.contains(" since "),
            "{text}"
        );
    };
    let fetch = |name: &Reference, policy| {
        let request = test.request(name, policy, Trust::unchecked());
        pull(&store, &request, &())
    };

    // Somebody reads or writes: nothing is removed, everything else goes on.
    let holder = Holder::new(&own.join("lock"), "-s");
    store.images().unwrap();
    fetch(&first, PullPolicy::Never).unwrap();
    locked(&store.remove(names).unwrap_err(), &holder, "lock");
    locked(&store.prune(true).unwrap_err(), &holder, "lock");
    drop(holder);

    // Somebody removes: nobody reads or writes.
    let holder = Holder::new(&own.join("lock"), "-x");
    locked(&store.images().unwrap_err(), &holder, "lock");
    locked(&store.reader().unwrap_err(), &holder, "lock");
    locked(&store.writer().unwrap_err(), &holder, "lock");
    locked(
        &fetch(&first, PullPolicy::Never).unwrap_err(),
        &holder,
        "lock",
    );
    locked(
        &fetch(&second, PullPolicy::Always).unwrap_err(),
        &holder,
        "lock",
    );
    drop(holder);

    // Somebody names an image.
    let holder = Holder::new(&own.join("index.lock"), "-x");
    fetch(&first, PullPolicy::Never).unwrap();
    locked(
        &fetch(&second, PullPolicy::Always).unwrap_err(),
        &holder,
        "index.lock",
    );
    locked(&store.remove(names).unwrap_err(), &holder, "index.lock");
    assert!(matches!(store.prune(false), Err(StoreError::Locked { .. })));
    drop(holder);
    fetch(&second, PullPolicy::Always).unwrap();
    test.check();
    Store::remove(&store, &[first, second]).unwrap();
}
