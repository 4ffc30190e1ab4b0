//! What is done to a store without a registry: listing, removing, archives.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::SystemTime;

use bytecode_image::archive::{self, ArchiveError, Platforms};
use bytecode_image::digest::Digest;
use bytecode_image::platform::Platform;
use bytecode_image::pull::PullPolicy;
use bytecode_image::reference::Reference;
use bytecode_image::store::{FOREIGN_GRACE, State, StoreError};

use crate::images::{
    INDEX, MANIFEST, Parts, TestStore, chain, descriptor, index, platform, reference, serve,
    serve_document,
};
use crate::server::Registry;

/// A store with `one:v1` and `one:v2` of one digest, and an index `:both` of which amd64 was pulled, which shares
/// nothing with them.
fn filled(registry: &Registry) -> TestStore {
    let store = TestStore::new();
    serve(registry, &Parts::new("one").image(), &["v1", "v2"]);
    let mut arm64 = Parts::new("two");
    arm64.architecture = "arm64".to_owned();
    let images = [Parts::new("two").image(), arm64.image()];
    let list = index(&[("amd64", &images[0]), ("arm64", &images[1])]);
    for image in &images {
        serve(registry, image, &[]);
    }
    serve_document(registry, &list, INDEX, &["both"]);
    for tag in ["v1", "v2", "both"] {
        let name = reference(registry, &format!(":{tag}"));
        store.pull(&name, PullPolicy::Always).unwrap();
    }
    store
}

fn blobs(store: &TestStore) -> usize {
    let files = store.files();
    files
        .iter()
        .filter(|file| file.starts_with("blobs/"))
        .count()
}

fn tags(store: &TestStore) -> Vec<String> {
    let entries = store.store.entries().unwrap();
    let tag = |entry: &bytecode_image::store::Entry| {
        let reference = entry.reference.as_ref().unwrap();
        reference.tag().unwrap().to_owned()
    };
    entries.iter().map(tag).collect()
}

#[test]
fn what_a_store_holds() {
    let registry = Registry::start();
    let store = filled(&registry);
    let images = store.store.images().unwrap();
    assert_eq!(tags(&store), ["v1", "v2", "both"]);
    let platforms: Vec<Vec<String>> = images
        .iter()
        .map(|image| {
            let shown = |found: &bytecode_image::store::StoredPlatform| {
                let state = match &found.state {
                    State::Whole(held) => {
                        format!(
                            "{:?} {}",
                            held.labels.programs.keys(),
                            found.size().unwrap() > 0
                        )
                    }
                    other => format!("{other:?}"),
                };
                format!("{} {state}", found.platform.as_ref().unwrap())
            };
            image.platforms.iter().map(shown).collect()
        })
        .collect();
    assert_eq!(platforms[0], [r#"linux/amd64 ["one"] true"#]);
    assert_eq!(platforms[0], platforms[1]);
    assert_eq!(
        platforms[2],
        [r#"linux/amd64 ["two"] true"#, "linux/arm64 Absent"]
    );
    assert_eq!(images[0].entry.platform, Some(platform()));
    assert_eq!(images[2].entry.platform, None);

    // A damaged image does not hide the others.
    let State::Whole(held) = &images[0].platforms[0].state else {
        panic!("{images:?}")
    };
    let path = store
        .store
        .dir()
        .join("blobs/sha256")
        .join(held.config.digest.hex());
    fs::write(path, "spoiled").unwrap();
    let images = store.store.images().unwrap();
    let State::Unusable(why) = &images[0].platforms[0].state else {
        panic!("{images:?}")
    };
    assert!(why.contains("is damaged"), "{why}");
    assert!(matches!(images[2].platforms[0].state, State::Whole(_)));
    let none = TestStore::new();
    assert_eq!(none.store.images().unwrap(), []);
    assert!(!none.store.dir().exists());
}

#[test]
fn removing_takes_what_nobody_else_needs() {
    let registry = Registry::start();
    let store = filled(&registry);
    let name = |tag: &str| reference(&registry, tag);
    // Manifest, config and layer of `one`; index, manifest, config and layer of `two`.
    assert_eq!(blobs(&store), 7);

    let freed = store.store.remove(&[name(":v1")]).unwrap();
    assert_eq!((freed.entries.len(), freed.files), (1, 0));
    assert_eq!(
        (tags(&store), blobs(&store)),
        (vec!["v2".to_owned(), "both".to_owned()], 7)
    );

    // One name that is not there, and nothing happens.
    let error = store
        .store
        .remove(&[name(":v2"), name(":bot")])
        .unwrap_err();
    assert!(
        matches!(&error, StoreError::Unknown { near, .. } if near[0].ends_with(":both")),
        "{error:?}"
    );
    assert_eq!(tags(&store).len(), 2);

    let digest = store.store.entries().unwrap()[0].digest;
    let freed = store.store.remove(&[name(&format!("@{digest}"))]).unwrap();
    assert_eq!((freed.entries.len(), freed.files), (1, 3));
    assert!(freed.bytes > 0);
    assert_eq!((tags(&store), blobs(&store)), (vec!["both".to_owned()], 4));
    store.check();
    assert!(store.pull(&name(":both"), PullPolicy::Never).is_ok());
    store.store.remove(&[name(":both")]).unwrap();
    assert_eq!(blobs(&store), 0);
    store.check();
}

/// Adds `:sha256-<hex>.sig` for an image, which only says something about it.
fn sign(store: &TestStore, registry: &Registry, subject: Digest) {
    let payload = b"signed";
    let document = format!(
        r#"{{"schemaVersion":2,"mediaType":"{MANIFEST}","config":{},"layers":[{}]}}"#,
        descriptor("application/x", b"{}", ""),
        descriptor("application/y", payload, "")
    );
    let dir = store.store.dir();
    for bytes in [&b"{}"[..], payload, document.as_bytes()] {
        let path = dir.join("blobs/sha256").join(Digest::of(bytes).hex());
        fs::write(path, bytes).unwrap();
    }
    let name = reference(registry, &format!(":sha256-{}.sig", subject.hex()));
    let path = dir.join("index.json");
    let mut index: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let rest = format!(r#","annotations":{{"org.opencontainers.image.ref.name":"{name}"}}"#);
    let entry = descriptor(MANIFEST, document.as_bytes(), &rest);
    let entry = serde_json::from_str(&entry).unwrap();
    index["manifests"].as_array_mut().unwrap().push(entry);
    fs::write(path, index.to_string()).unwrap();
}

#[test]
fn signatures_come_and_go_with_their_image() {
    let registry = Registry::start();
    let store = filled(&registry);
    let name = reference(&registry, ":both");
    let images = store.store.images_named(&name).unwrap();
    sign(&store, &registry, images[0].platforms[0].manifest);

    let images = store.store.images().unwrap();
    assert_eq!(images.len(), 3, "a signature is no image");
    assert_eq!(images[0].about.len(), 0);
    assert_eq!(images[2].about.len(), 1);

    let file = store.store.dir().with_file_name("signed.tar");
    let one = Platforms::One(platform());
    archive::export(&store.store, std::slice::from_ref(&name), &one, &file).unwrap();
    let other = TestStore::new();
    let imported = archive::import(&other.store, &file).unwrap();
    assert_eq!(imported.len(), 1);
    assert_eq!(other.store.images().unwrap()[0].about.len(), 1);
    assert_eq!(blobs(&other), 7);

    let freed = store.store.remove(&[name]).unwrap();
    assert_eq!((freed.entries.len(), freed.files), (2, 7));
    assert_eq!(tags(&store), ["v1", "v2"]);
}

#[test]
fn pruning() {
    let registry = Registry::start();
    let store = filled(&registry);
    assert_eq!(store.store.prune(false).unwrap().files, 0);
    assert_eq!(blobs(&store), 7);

    // The tag moves: what it named is nobody's, and it was ours.
    serve(&registry, &Parts::new("two").image(), &["v1", "v2"]);
    for tag in [":v1", ":v2"] {
        store
            .pull(&reference(&registry, tag), PullPolicy::Always)
            .unwrap();
    }
    let dir = store.store.dir().to_owned();
    let foreign = |text: &str| {
        let path = dir
            .join("blobs/sha256")
            .join(Digest::of(text.as_bytes()).hex());
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        path
    };
    // Another tool's image whose name is about to come, and one whose name never came.
    let (young, old) = (foreign("young"), foreign("old"));
    let long_ago = SystemTime::now() - FOREIGN_GRACE;
    File::open(&old).unwrap().set_modified(long_ago).unwrap();
    fs::write(dir.join(".bpfman/tmp/1-1"), "killed").unwrap();
    fs::create_dir(dir.join(".bpfman/damaged")).unwrap();
    fs::write(dir.join(".bpfman/damaged/x"), "damaged").unwrap();

    let freed = store.store.prune(false).unwrap();
    assert_eq!(
        freed.files, 5,
        "three blobs of `one`, the old one, the damaged one"
    );
    assert!(young.exists() && !old.exists());
    assert_eq!(blobs(&store), 4 + 1);
    fs::remove_file(young).unwrap();
    store.check();

    let freed = store.store.prune(true).unwrap();
    assert_eq!((freed.entries.len(), freed.files), (3, 4));
    assert_eq!(blobs(&store), 0);
    store.check();
    let none = TestStore::new();
    assert_eq!(none.store.prune(true).unwrap().files, 0);
    assert!(!none.store.dir().exists());
}

/// While somebody reads or writes, the lock that removing takes cannot be had.
#[test]
fn nothing_is_removed_under_a_reader_or_a_writer() {
    let registry = Registry::start();
    let store = filled(&registry);
    let free = || {
        let lock = File::open(store.store.dir().join(".bpfman/lock")).unwrap();
        lock.try_lock().is_ok()
    };
    assert!(free());
    let reader = store.store.reader().unwrap();
    assert!(!free());
    let writer = store.store.writer().unwrap();
    drop(reader);
    assert!(!free());

    // Who waits to remove waits until the writer has named what it found here.
    let name = reference(&registry, ":v1");
    let (about_to, begins) = std::sync::mpsc::channel();
    let (done, ended) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            about_to.send(()).unwrap();
            let freed = store.store.prune(true).unwrap();
            done.send(freed).unwrap();
        });
        begins.recv().unwrap();
        let kept = store.store.find(&name).unwrap().unwrap();
        assert!(ended.try_recv().is_err());
        assert!(store.store.read(kept, 1 << 20).unwrap().is_some());
        drop(writer);
        assert_eq!(ended.recv().unwrap().entries.len(), 3);
    });
    assert_eq!(blobs(&store), 0);
}

#[test]
fn an_archive_carries_images_to_another_store() {
    let registry = Registry::start();
    let store = filled(&registry);
    let names: Vec<Reference> = [":v1", ":both"].map(|tag| reference(&registry, tag)).into();
    let file = |name: &str| store.store.dir().with_file_name(name);
    let one = Platforms::One(platform());
    let (first, second) = (file("first.tar"), file("second.tar"));
    let exported = archive::export(&store.store, &names, &one, &first).unwrap();
    assert_eq!(exported[0].absent, [Platform::linux("arm64")]);
    let reversed = [names[1].clone(), names[0].clone(), names[0].clone()];
    archive::export(&store.store, &reversed, &Platforms::All, &second).unwrap();
    assert_eq!(fs::read(&first).unwrap(), fs::read(&second).unwrap());

    let other = TestStore::new();
    for _ in 0..2 {
        let imported = archive::import(&other.store, &first).unwrap();
        assert_eq!(imported.len(), 2);
        assert_eq!(blobs(&other), 7);
        other.check();
    }
    for name in &names {
        let (ours, theirs) = (
            store.pull(name, PullPolicy::Never).unwrap(),
            other.pull(name, PullPolicy::Never).unwrap(),
        );
        assert_eq!(ours, theirs);
    }
    let by_name = |store: &TestStore, name| store.store.images_named(name).unwrap();
    assert_eq!(by_name(&store, &names[0]), by_name(&other, &names[0]));
    assert_eq!(by_name(&store, &names[1]), by_name(&other, &names[1]));

    // The other platform comes in a second archive, into the same image.
    let arm64 = Platforms::One(Platform::linux("arm64"));
    let error = archive::export(&store.store, &names[1..], &arm64, &file("x")).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("not in the store for linux/arm64; it is there for linux/amd64"),
        "{error}"
    );
    assert!(error.hint().unwrap().contains("--platform linux/arm64"));
    assert!(!file("x").exists());
    let unfinished = fs::read_dir(file("")).unwrap();
    assert!(
        !unfinished
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .any(|name| name.ends_with(".unfinished"))
    );
}

/// Files of an archive: names and contents; a file without content becomes a link.
type Files = Vec<(String, Vec<u8>)>;

/// Writes an archive of these files.
fn tar(path: &Path, files: &[(&str, &[u8])]) {
    let mut builder = tar::Builder::new(File::create(path).unwrap());
    for (name, bytes) in files {
        let mut header = tar::Header::new_ustar();
        if bytes.is_empty() {
            header.set_entry_type(tar::EntryType::Symlink);
            header.set_link_name("/etc/passwd").unwrap();
        }
        header.set_path(name).unwrap();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        header.set_cksum();
        builder.append(&header, *bytes).unwrap();
    }
    builder.finish().unwrap();
}

#[test]
fn archives_that_are_refused_leave_nothing() {
    let image = Parts::new("pass").image();
    let blob = |bytes: &[u8]| format!("blobs/sha256/{}", Digest::of(bytes).hex());
    let layer = &image.layers[0].1;
    let names = [blob(&image.manifest), blob(&image.config), blob(layer)];
    let named = |rest: &str| {
        format!(
            r#"{{"schemaVersion":2,"manifests":[{}]}}"#,
            descriptor(MANIFEST, &image.manifest, rest)
        )
        .into_bytes()
    };
    let index = named(r#","annotations":{"org.opencontainers.image.ref.name":"quay.io/a/b:v1"}"#);
    let other = named(
        r#","platform":{"os":"linux","architecture":"s390x"},"annotations":{"org.opencontainers.image.ref.name":"quay.io/a/b:v1"}"#,
    );
    let unnamed = named("");
    let mark: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;
    let (manifest, config) = (
        (names[0].as_str(), image.manifest.as_slice()),
        (names[1].as_str(), image.config.as_slice()),
    );
    let layer = (names[2].as_str(), layer.as_slice());
    let whole = [
        ("oci-layout", mark),
        ("index.json", &index),
        manifest,
        config,
    ];
    let with = |rest: &[(&'static str, &[u8])]| -> Files {
        let all = whole.iter().chain(rest);
        all.map(|(name, bytes)| ((*name).to_owned(), bytes.to_vec()))
            .collect()
    };
    let owned = |files: &[(&str, &[u8])]| -> Files {
        files
            .iter()
            .map(|(name, bytes)| ((*name).to_owned(), bytes.to_vec()))
            .collect()
    };
    let mut spoiled = layer.1.to_vec();
    spoiled[20] ^= 1;
    let cases: Vec<(Files, &str)> = vec![
        (owned(&[]), "it has no oci-layout"),
        (owned(&[("oci-layout", mark)]), "it has no index.json"),
        (
            owned(&[
                ("oci-layout", br#"{"imageLayoutVersion":"2.0.0"}"#),
                ("index.json", &index),
            ]),
            "version `2.0.0`",
        ),
        (
            owned(&[("oci-layout", b"{}"), ("index.json", &index)]),
            "oci-layout in the archive",
        ),
        (
            owned(&[("oci-layout", mark), ("index.json", b"[]")]),
            "index.json in the archive",
        ),
        (
            owned(&[("oci-layout", mark), ("index.json", &unnamed)]),
            "it has 1 without a name",
        ),
        (with(&[]), "is incomplete"),
        (
            owned(&[whole[0], whole[1], manifest, config, (layer.0, &spoiled)]),
            "is damaged",
        ),
        (
            owned(&[whole[0], ("index.json", &other), manifest, config, layer]),
            "it is for linux/amd64: expected linux/s390x",
        ),
        (
            with(&[("blobs/sha256/x", b"")]),
            "neither a file nor a folder",
        ),
    ];
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("archive.tar");
    for (files, expected) in cases {
        let files: Vec<_> = files
            .iter()
            .map(|(name, bytes)| (name.as_str(), bytes.as_slice()))
            .collect();
        tar(&path, &files);
        let store = TestStore::new();
        let error = chain(&archive::import(&store.store, &path).unwrap_err());
        assert!(error.contains(expected), "{expected} in {error}");
        assert_eq!(store.files(), Vec::<String>::new(), "{expected}");
    }
    let store = TestStore::new();
    for (bytes, name) in [(&b"\xfd7zXZ\0"[..], "xz"), (b"BZh9", "bzip2")] {
        fs::write(&path, bytes).unwrap();
        let error = archive::import(&store.store, &path).unwrap_err();
        assert!(matches!(error, ArchiveError::Compressed { packing, .. } if packing == name));
    }
    let packed = crate::images::gzip(b"x");
    for bytes in [&b"x"[..], &[0xff; 2048], &[], &packed, &packed[..10]] {
        fs::write(&path, bytes).unwrap();
        archive::import(&store.store, &path).unwrap_err();
    }
    // And the same, whole.
    tar(&path, &[whole[0], whole[1], manifest, config, layer]);
    archive::import(&store.store, &path).unwrap();
    store.check();
}

/// A link that somebody put there is not followed, and what is no file is not replaced.
#[test]
fn an_archive_is_written_to_a_file_only() {
    let registry = Registry::start();
    let store = filled(&registry);
    let name = reference(&registry, ":v1");
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let elsewhere = path("elsewhere");
    fs::write(&elsewhere, "precious").unwrap();
    std::os::unix::fs::symlink(&elsewhere, path("link")).unwrap();
    fs::create_dir(path("folder")).unwrap();
    fs::write(path("file"), "old").unwrap();
    let planted = path(&format!("new.{}.unfinished", std::process::id()));
    std::os::unix::fs::symlink(&elsewhere, &planted).unwrap();
    let export = |file: &Path| {
        let names = std::slice::from_ref(&name);
        archive::export(&store.store, names, &Platforms::All, file)
    };
    for (file, expected) in [
        (path("link"), "found a symbolic link"),
        (path("folder"), "found a folder"),
        ("/dev/null".into(), "found a device or socket"),
    ] {
        let error = export(&file).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
        assert!(error.hint().is_some());
    }
    for file in ["file", "new"] {
        export(&path(file)).unwrap();
        archive::import(&TestStore::new().store, &path(file)).unwrap();
    }
    assert_eq!(fs::read(&elsewhere).unwrap(), b"precious");
    assert!(path("link").is_symlink() && planted.is_symlink());
}

/// What is said about an image comes whole or not at all.
#[test]
fn an_archive_with_too_much_about_an_image_is_refused() {
    let image = Parts::new("pass").image();
    let blob = |bytes: &[u8]| format!("blobs/sha256/{}", Digest::of(bytes).hex());
    let about: Vec<Vec<u8>> = (0..256)
        .map(|number| format!(r#"{{"schemaVersion":2,"x":{number}}}"#).into_bytes())
        .collect();
    let listed: Vec<_> = about
        .iter()
        .map(|bytes| descriptor(MANIFEST, bytes, ""))
        .collect();
    let list = format!(
        r#"{{"schemaVersion":2,"manifests":[{}]}}"#,
        listed.join(",")
    )
    .into_bytes();
    let name = |tag: &str| {
        format!(r#","annotations":{{"org.opencontainers.image.ref.name":"quay.io/a/b:{tag}"}}"#)
    };
    let tag = format!("sha256-{}.att", Digest::of(&image.manifest).hex());
    let index = format!(
        r#"{{"schemaVersion":2,"manifests":[{},{}]}}"#,
        descriptor(MANIFEST, &image.manifest, &name("v1")),
        descriptor(INDEX, &list, &name(&tag)),
    )
    .into_bytes();
    let mut files: Files = vec![
        (
            "oci-layout".to_owned(),
            br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec(),
        ),
        ("index.json".to_owned(), index),
    ];
    let layer = &image.layers[0].1;
    for bytes in [&image.manifest, &image.config, layer, &list]
        .into_iter()
        .chain(&about)
    {
        files.push((blob(bytes), bytes.clone()));
    }
    let files: Vec<_> = files
        .iter()
        .map(|(name, bytes)| (name.as_str(), bytes.as_slice()))
        .collect();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("archive.tar");
    tar(&path, &files);
    let store = TestStore::new();
    let error = archive::import(&store.store, &path).unwrap_err();
    assert!(
        matches!(error, ArchiveError::TooManyDocuments { limit: 256, .. }),
        "{error:?}"
    );
    assert_eq!(store.files(), Vec::<String>::new());
}
