//! Blobs that are not what they should be: what is done to them, and to what stands beside them.

use std::fs::{self, File, OpenOptions};
use std::path::PathBuf;

use bytecode_image::digest::Digest;
use bytecode_image::platform::Platform;
use bytecode_image::pull::{PullError, PullPolicy, PullRequest, Trust, pull};
use bytecode_image::store::StoreError;

use crate::images::{
    INDEX, MANIFEST, Parts, TestStore, chain, descriptor, index, reach, reference, serve,
    serve_document,
};
use crate::server::Registry;

fn path(store: &TestStore, digest: Digest) -> PathBuf {
    store.store.dir().join("blobs/sha256").join(digest.hex())
}

fn blobs(store: &TestStore) -> usize {
    fs::read_dir(store.store.dir().join("blobs/sha256"))
        .unwrap()
        .count()
}

#[test]
fn nobody_sets_a_blob_aside_while_another_one_commits() {
    let registry = Registry::start();
    let image = Parts::new("pass").image();
    serve(&registry, &image, &["v1"]);
    let store = TestStore::new();
    let name = reference(&registry, ":v1");
    store.pull(&name, PullPolicy::Always).unwrap();
    let digest = Digest::of(&image.config);
    let path = path(&store, digest);
    let good = fs::read(&path).unwrap();
    let lock = OpenOptions::new()
        .write(true)
        .open(store.store.dir().join(".bpfman/index.lock"))
        .unwrap();

    fs::write(&path, "spoiled").unwrap();
    lock.lock().unwrap();
    let error = store.store.read(digest, 1 << 20).unwrap_err();
    assert!(
        matches!(&error, StoreError::Damaged { aside: None, .. }),
        "{error:?}"
    );
    // What the other one commits now is what the name says.
    fs::write(&path, good).unwrap();
    lock.unlock().unwrap();
    assert!(store.store.read(digest, 1 << 20).unwrap().is_some());

    fs::write(&path, "spoiled").unwrap();
    let error = store.store.read(digest, 1 << 20).unwrap_err();
    assert!(
        matches!(&error, StoreError::Damaged { aside: Some(_), .. }),
        "{error:?}"
    );
    assert!(!path.exists());
}

/// What a manifest needs that cannot be read is not known, so nothing goes that it may need.
#[test]
fn nothing_is_removed_for_a_manifest_that_cannot_be_read() {
    let registry = Registry::start();
    let (one, two) = (Parts::new("one").image(), Parts::new("two").image());
    serve(&registry, &one, &["one"]);
    serve(&registry, &two, &["two"]);
    let (first, second) = (reference(&registry, ":one"), reference(&registry, ":two"));
    type Spoil = fn(&PathBuf);
    let cases: [(&str, Spoil); 3] = [
        ("damaged", |path| fs::write(path, "spoiled").unwrap()),
        ("set aside", |path| {
            let aside = path.ancestors().nth(3).unwrap().join(".bpfman/damaged");
            fs::create_dir(&aside).unwrap();
            fs::rename(path, aside.join(path.file_name().unwrap())).unwrap();
        }),
        ("too large", |path| {
            let file = OpenOptions::new().append(true).open(path).unwrap();
            file.set_len((4 << 20) + 1).unwrap();
        }),
    ];
    for (what, spoil) in cases {
        let store = TestStore::new();
        store.pull(&first, PullPolicy::Always).unwrap();
        store.pull(&second, PullPolicy::Always).unwrap();
        spoil(&path(&store, Digest::of(&one.manifest)));
        for _ in 0..2 {
            assert_eq!(store.store.prune(false).unwrap().files, 0, "{what}");
        }
        let freed = store.store.remove(std::slice::from_ref(&second)).unwrap();
        assert_eq!((freed.entries.len(), freed.files), (1, 0), "{what}");
        for needed in [&one.config, &one.layers[0].1] {
            assert!(path(&store, Digest::of(needed)).exists(), "{what}");
        }

        // Pulled again, it is known again.
        if what != "too large" {
            registry.asked();
            store.pull(&first, PullPolicy::IfNotPresent).unwrap();
            assert_eq!(registry.asked().len(), 1, "{what}: the contents were there");
            store.store.prune(false).unwrap();
            assert_eq!(blobs(&store), 3, "{what}");
            store.check();
        }
        // And so it is when it is not wanted any more.
        store.store.remove(std::slice::from_ref(&first)).unwrap();
        store.store.prune(false).unwrap();
        assert_eq!(blobs(&store), 0, "{what}");
    }
}

/// A length that is wrong is refused whether or not the store has the content already.
#[test]
fn lengths_are_compared_with_what_the_store_has_too() {
    let right = Parts::new("pass").image();
    let manifest = String::from_utf8(right.manifest.clone()).unwrap();
    let size = |bytes: &[u8]| format!(r#""size":{}"#, bytes.len());
    let mut wrong = Vec::new();
    for bytes in [&right.config, &right.layers[0].1] {
        let longer = format!(r#""size":{}"#, bytes.len() + 1);
        let mut image = Parts::new("pass").image();
        image.manifest = manifest.replace(&size(bytes), &longer).into_bytes();
        assert_ne!(image.manifest, right.manifest);
        wrong.push(image);
    }
    for image in &wrong {
        let registry = Registry::start();
        serve(&registry, &right, &["right"]);
        serve(&registry, image, &["wrong"]);
        let name = reference(&registry, ":wrong");
        let cold = TestStore::new();
        let error = chain(&cold.pull(&name, PullPolicy::Always).unwrap_err());
        assert!(error.contains("wrong length"), "{error}");
        let warm = TestStore::new();
        let right = reference(&registry, ":right");
        warm.pull(&right, PullPolicy::Always).unwrap();
        let error = chain(&warm.pull(&name, PullPolicy::Always).unwrap_err());
        assert!(error.contains("bytes by its manifest, but"), "{error}");
        assert_eq!(warm.store.entries().unwrap().len(), 1);

        // As another tool may have copied it here.
        fs::write(path(&warm, Digest::of(&image.manifest)), &image.manifest).unwrap();
        let named = format!(r#","annotations":{{"org.opencontainers.image.ref.name":"{name}"}}"#);
        fs::write(
            warm.store.dir().join("index.json"),
            format!(
                r#"{{"schemaVersion":2,"manifests":[{}]}}"#,
                descriptor(MANIFEST, &image.manifest, &named)
            ),
        )
        .unwrap();
        let error = warm.pull(&name, PullPolicy::Never).unwrap_err();
        assert!(matches!(error, PullError::Refused { .. }), "{error:?}");
    }

    // And the length of the platform's manifest, in an index.
    let registry = Registry::start();
    serve(&registry, &right, &["right"]);
    let list = String::from_utf8(index(&[("amd64", &right)])).unwrap();
    let longer = format!(r#""size":{}"#, right.manifest.len() + 1);
    let list = list.replace(&size(&right.manifest), &longer);
    serve_document(&registry, list.as_bytes(), INDEX, &["wrong"]);
    let store = TestStore::new();
    let name = reference(&registry, ":right");
    store.pull(&name, PullPolicy::Always).unwrap();
    let name = reference(&registry, ":wrong");
    let error = chain(&store.pull(&name, PullPolicy::Always).unwrap_err());
    assert!(error.contains("wrong length"), "{error}");
    let file = File::create(path(&store, Digest::of(list.as_bytes()))).unwrap();
    std::io::Write::write_all(&mut &file, list.as_bytes()).unwrap();
    let by_digest = reference(&registry, &format!("@{}", Digest::of(list.as_bytes())));
    let error = store.pull(&by_digest, PullPolicy::Never).unwrap_err();
    assert!(matches!(error, PullError::Refused { .. }), "{error:?}");
}

/// What the store has under a tag may be for another machine only: the registry may have one for this machine.
#[test]
fn an_image_for_another_platform_is_asked_for_again() {
    let registry = Registry::start();
    let mut arm64 = Parts::new("pass");
    arm64.architecture = "arm64".to_owned();
    let (ours, theirs) = (Parts::new("pass").image(), arm64.image());
    let list = index(&[("amd64", &ours), ("arm64", &theirs)]);
    let only = index(&[("arm64", &theirs)]);
    for image in [&ours, &theirs] {
        serve(&registry, image, &[]);
    }
    let name = reference(&registry, ":v1");
    let by_digest = reference(&registry, &format!("@{}", Digest::of(&theirs.manifest)));
    for (document, media_type) in [(&theirs.manifest, MANIFEST), (&only, INDEX)] {
        let store = TestStore::new();
        serve_document(&registry, document, media_type, &["v1"]);
        let request = PullRequest {
            reference: name.clone(),
            short: None,
            policy: PullPolicy::Always,
            reach: reach(),
            platform: Platform::linux("arm64"),
            trust: Trust::unchecked().into(),
        };
        pull(&store.store, &request, &()).unwrap();

        serve_document(&registry, &list, INDEX, &["v1"]);
        let error = store.pull(&name, PullPolicy::Never).unwrap_err();
        assert!(matches!(error, PullError::Refused { .. }), "{error:?}");
        // A digest stands for the same wherever it is asked for.
        registry.asked();
        let error = store
            .pull(&by_digest, PullPolicy::IfNotPresent)
            .unwrap_err();
        assert!(matches!(error, PullError::Refused { .. }), "{error:?}");
        assert_eq!(registry.asked().len(), 0);
        let pulled = store.pull(&name, PullPolicy::IfNotPresent).unwrap();
        assert!(!pulled.from_store);
        assert_eq!(pulled.platform, Platform::linux("amd64"));
        store.check();
    }
}
