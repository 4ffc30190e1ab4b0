use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::Mutex;

use bytecode_image::digest::Digest;
use bytecode_image::platform::Platform;
use bytecode_image::pull::{Progress, PullPolicy, PullRequest, Trust, pull};

use crate::images::{
    INDEX, MANIFEST, Parts, TestStore, blob_path, chain, index, platform, reference, serve,
    serve_document,
};
use crate::server::{Answer, Registry};

#[test]
fn one_image_is_three_requests_and_then_none() {
    let registry = Registry::start();
    let parts = Parts::new("pass");
    let image = parts.image();
    serve(&registry, &image, &["v1"]);
    let store = TestStore::new();
    let name = reference(&registry, ":v1");

    let pulled = store.pull(&name, PullPolicy::IfNotPresent).unwrap();
    assert_eq!(pulled.object, parts.files[0].1);
    assert_eq!(pulled.object_name, "pass.o");
    assert_eq!(pulled.digest, Digest::of(&image.manifest));
    assert_eq!(pulled.manifest_digest, pulled.digest);
    assert_eq!(pulled.platform, platform());
    assert_eq!(pulled.labels.programs["pass"], "xdp");
    assert!(!pulled.from_store);
    let asked = registry.asked_lines();
    assert_eq!(asked[0], "GET /v2/acme/xdp/manifests/v1");
    let mut contents = asked[1..].to_vec();
    contents.sort();
    let mut expected = [
        format!("GET {}", blob_path(&image.config)),
        format!("GET {}", blob_path(&image.layers[0].1)),
    ];
    expected.sort();
    assert_eq!(contents, expected);
    store.check();
    let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(store.store.dir()), 0o700);
    assert_eq!(mode(&store.store.dir().join("index.json")), 0o600);

    for policy in [PullPolicy::IfNotPresent, PullPolicy::Never] {
        let kept = store.pull(&name, policy).unwrap();
        assert!(kept.from_store);
        assert_eq!(
            (kept.object, kept.labels, kept.digest),
            (pulled.object.clone(), pulled.labels.clone(), pulled.digest)
        );
    }
    assert_eq!(registry.asked_lines(), Vec::<String>::new());

    // What the store has is not fetched again, but the registry is asked what the tag is.
    store.pull(&name, PullPolicy::Always).unwrap();
    assert_eq!(registry.asked_lines(), ["GET /v2/acme/xdp/manifests/v1"]);

    // Without the registry, Always falls back to nothing.
    drop(registry);
    let error = store.pull(&name, PullPolicy::Always).unwrap_err();
    assert!(
        chain(&error).contains("no connection to the registry"),
        "{}",
        chain(&error)
    );
    assert!(error.hint().is_some());
    assert!(store.pull(&name, PullPolicy::Never).is_ok());
}

#[test]
fn by_digest() {
    let registry = Registry::start();
    let image = Parts::new("pass").image();
    serve(&registry, &image, &[]);
    let digest = Digest::of(&image.manifest);
    for rest in [format!("@{digest}"), format!(":moved@{digest}")] {
        let store = TestStore::new();
        let name = reference(&registry, &rest);
        assert_eq!(
            store.pull(&name, PullPolicy::IfNotPresent).unwrap().digest,
            digest
        );
        assert_eq!(
            registry.asked_lines()[0],
            format!("GET /v2/acme/xdp/manifests/{digest}")
        );
        assert_eq!(
            store.store.entries().unwrap()[0].name,
            Some(name.to_string())
        );
        // A digest is the same thing under any name.
        assert!(
            store
                .pull(
                    &reference(&registry, &format!("@{digest}")),
                    PullPolicy::Never
                )
                .is_ok()
        );
        store.check();
    }
}

#[test]
fn the_platform_of_an_index() {
    let registry = Registry::start();
    let amd64 = Parts::new("pass");
    let mut arm64 = Parts::new("pass");
    arm64.architecture = "arm64".to_owned();
    let images = [amd64.image(), arm64.image()];
    let list = index(&[("arm64", &images[1]), ("amd64", &images[0])]);
    for image in &images {
        serve(&registry, image, &[]);
    }
    serve_document(&registry, &list, INDEX, &["v1"]);
    let store = TestStore::new();
    let name = reference(&registry, ":v1");
    let pulled = store.pull(&name, PullPolicy::IfNotPresent).unwrap();
    assert_eq!(
        (pulled.digest, pulled.manifest_digest),
        (Digest::of(&list), Digest::of(&images[0].manifest))
    );
    // One request more than for a single image, however many platforms there are.
    assert_eq!(registry.asked_lines().len(), 4);
    store.check();
    assert!(store.pull(&name, PullPolicy::Never).unwrap().from_store);

    let other = |platform: &str, policy| {
        let platform: Platform = platform.parse().unwrap();
        let request = PullRequest {
            reference: name.clone(),
            policy,
            short: None,
            reach: crate::images::reach(),
            platform,
            trust: Trust::unchecked().into(),
        };
        pull(&store.store, &request, &())
    };
    let error = other("linux/arm64", PullPolicy::Never).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("for linux/arm64 is not in the store"),
        "{error}"
    );
    assert_eq!(
        other("linux/arm64", PullPolicy::IfNotPresent)
            .unwrap()
            .platform
            .architecture,
        "arm64"
    );
    assert_eq!(
        other("linux/arm64", PullPolicy::Never)
            .unwrap()
            .platform
            .architecture,
        "arm64"
    );
    assert!(store.pull(&name, PullPolicy::Never).is_ok());
    let error = chain(&other("linux/s390x", PullPolicy::Always).unwrap_err());
    assert!(
        error.contains("no image for linux/s390x; it has linux/amd64, linux/arm64"),
        "{error}"
    );
    store.check();
}

#[test]
fn tags_move() {
    let registry = Registry::start();
    let (first, second) = (Parts::new("one").image(), Parts::new("two").image());
    serve(&registry, &first, &["v1"]);
    let store = TestStore::new();
    let name = reference(&registry, ":v1");
    store.pull(&name, PullPolicy::Always).unwrap();
    serve(&registry, &second, &["v1"]);
    assert_eq!(
        store
            .pull(&name, PullPolicy::IfNotPresent)
            .unwrap()
            .object_name,
        "one.o"
    );
    assert_eq!(
        store.pull(&name, PullPolicy::Always).unwrap().object_name,
        "two.o"
    );
    assert_eq!(
        store.pull(&name, PullPolicy::Never).unwrap().object_name,
        "two.o"
    );
    assert_eq!(store.store.entries().unwrap().len(), 1);
    store.check();
}

#[test]
fn damaged_blobs_are_named_set_aside_and_fetched_again() {
    let registry = Registry::start();
    let image = Parts::new("pass").image();
    serve(&registry, &image, &["v1"]);
    let name = reference(&registry, ":v1");
    for blob in [&image.manifest, &image.config, &image.layers[0].1] {
        let store = TestStore::new();
        store.pull(&name, PullPolicy::Always).unwrap();
        let hex = Digest::of(blob).hex();
        let path = store.store.dir().join("blobs/sha256").join(&hex);
        let mut bytes = fs::read(&path).unwrap();
        bytes[3] ^= 1;
        let damage = || fs::write(&path, &bytes).unwrap();

        damage();
        let error = store.pull(&name, PullPolicy::Never).unwrap_err();
        assert!(
            error
                .to_string()
                .contains(&format!("blob sha256:{hex} in the image store is damaged")),
            "{error}"
        );
        assert!(error.hint().unwrap().contains("another pull policy"));
        assert_eq!(
            fs::read(store.store.dir().join(".bpfman/damaged").join(&hex)).unwrap(),
            bytes
        );
        assert!(!path.exists());
        for policy in [PullPolicy::IfNotPresent, PullPolicy::Always] {
            damage();
            registry.asked();
            assert!(!store.pull(&name, policy).unwrap().from_store);
            let blobs = registry
                .asked_lines()
                .iter()
                .filter(|line| line.contains("/blobs/"))
                .count();
            assert_eq!(
                blobs,
                usize::from(blob != &image.manifest),
                "only what is damaged is fetched"
            );
            store.check();
        }
    }
}

#[test]
fn absent_names_what_is_near() {
    let registry = Registry::start();
    serve(&registry, &Parts::new("pass").image(), &["v1"]);
    let store = TestStore::new();
    let error = store
        .pull(&reference(&registry, ":v1"), PullPolicy::Never)
        .unwrap_err();
    assert!(error.to_string().contains("is not in the store"), "{error}");
    assert!(!store.store.dir().exists(), "Never writes nothing");
    store
        .pull(&reference(&registry, ":v1"), PullPolicy::IfNotPresent)
        .unwrap();
    registry.asked();
    let error = store
        .pull(&reference(&registry, ":v2"), PullPolicy::Never)
        .unwrap_err();
    assert_eq!(
        error.hint().unwrap(),
        format!("did you mean {}?", reference(&registry, ":v1"))
    );
    assert_eq!(registry.asked().len(), 0);
}

#[test]
fn many_pulls_into_one_store() {
    let registry = Registry::start();
    let images = ["a", "b", "c"].map(|function| Parts::new(function).image());
    for (number, image) in images.iter().enumerate() {
        serve(&registry, image, &[&format!("v{number}")]);
    }
    let store = TestStore::new();
    std::thread::scope(|scope| {
        for number in 0..30 {
            let (store, name) = (&store, reference(&registry, &format!(":v{}", number % 3)));
            let policy = if number % 2 == 0 {
                PullPolicy::Always
            } else {
                PullPolicy::IfNotPresent
            };
            scope.spawn(move || store.pull(&name, policy).unwrap());
        }
    });
    store.check();
    assert_eq!(store.store.entries().unwrap().len(), 3);
    assert_eq!(store.files().len(), 2 + 9);
}

#[test]
fn what_killed_writers_left_is_removed() {
    let registry = Registry::start();
    serve(&registry, &Parts::new("pass").image(), &["v1"]);
    let store = TestStore::new();
    let tmp = store.store.dir().join(".bpfman/tmp");
    fs::create_dir_all(&tmp).unwrap();
    fs::write(tmp.join("1-1"), b"half").unwrap();
    // Not while another writer lives: it may be its file.
    let other = store.store.writer().unwrap();
    fs::write(tmp.join("1-2"), b"half").unwrap();
    store
        .pull(&reference(&registry, ":v1"), PullPolicy::Always)
        .unwrap();
    assert!(tmp.join("1-2").exists() && !tmp.join("1-1").exists());
    drop(other);
    store
        .pull(&reference(&registry, ":v1"), PullPolicy::Always)
        .unwrap();
    store.check();
}

#[test]
fn read_only_stores_serve_never() {
    let registry = Registry::start();
    serve(&registry, &Parts::new("pass").image(), &["v1"]);
    let store = TestStore::new();
    let name = reference(&registry, ":v1");
    store.pull(&name, PullPolicy::Always).unwrap();
    fs::remove_dir_all(store.store.dir().join(".bpfman")).unwrap();
    let before = store.files();
    assert!(store.pull(&name, PullPolicy::Never).unwrap().from_store);
    assert_eq!(store.files(), before);
    assert!(!store.store.dir().join(".bpfman").exists());
}

#[test]
fn urls_of_descriptors_are_not_followed() {
    let (registry, other) = (Registry::start(), Registry::start());
    let mut image = Parts::new("pass").image();
    let layer = image.layers[0].1.clone();
    let urls = format!(
        r#""urls":["http://{}/x"],"mediaType":"application/vnd.oci.image.layer"#,
        other.address
    );
    let manifest = String::from_utf8(image.manifest).unwrap();
    image.manifest = manifest
        .replace(r#""mediaType":"application/vnd.oci.image.layer"#, &urls)
        .into_bytes();
    serve(&registry, &image, &["v1"]);
    registry.route("GET", &blob_path(&layer), Answer::status(404));
    let error = TestStore::new()
        .pull(&reference(&registry, ":v1"), PullPolicy::Always)
        .unwrap_err();
    assert!(chain(&error).contains("not found"), "{}", chain(&error));
    assert_eq!(other.asked().len(), 0);
}

#[test]
fn docker_documents() {
    let registry = Registry::start();
    let mut image = Parts::new("pass").image();
    let docker = "application/vnd.docker.distribution.manifest.v2+json";
    image.manifest = String::from_utf8(image.manifest)
        .unwrap()
        .replace(MANIFEST, docker)
        .into_bytes();
    serve(&registry, &image, &[]);
    serve_document(&registry, &image.manifest, docker, &[]);
    let list = String::from_utf8(index(&[("amd64", &image)])).unwrap();
    let list_type = "application/vnd.docker.distribution.manifest.list.v2+json";
    let list = list.replace(INDEX, list_type).replace(MANIFEST, docker);
    serve_document(&registry, list.as_bytes(), list_type, &["v1"]);
    let store = TestStore::new();
    assert_eq!(
        store
            .pull(&reference(&registry, ":v1"), PullPolicy::Always)
            .unwrap()
            .object_name,
        "pass.o"
    );
    assert!(
        store
            .pull(&reference(&registry, ":v1"), PullPolicy::Never)
            .is_ok()
    );
    store.check();
}

#[test]
fn progress_is_told() {
    #[derive(Default)]
    struct Told(Mutex<Vec<String>>);
    impl Progress for Told {
        fn start(&self, total: u64) {
            self.0.lock().unwrap().push(format!("start {total}"));
        }
        fn advance(&self, bytes: u64) {
            let mut told = self.0.lock().unwrap();
            let last = told
                .last()
                .and_then(|line| line.strip_prefix("done ")?.parse::<u64>().ok());
            if last.is_some() {
                told.pop();
            }
            told.push(format!("done {}", last.unwrap_or(0) + bytes));
        }
        fn finish(&self) {
            self.0.lock().unwrap().push("finish".to_owned());
        }
    }
    let registry = Registry::start();
    let image = Parts::new("pass").image();
    serve(&registry, &image, &["v1"]);
    let store = TestStore::new();
    let told = Told::default();
    let request = PullRequest {
        reference: reference(&registry, ":v1"),
        policy: PullPolicy::IfNotPresent,
        short: None,
        reach: crate::images::reach(),
        platform: platform(),
        trust: Trust::unchecked().into(),
    };
    pull(&store.store, &request, &told).unwrap();
    let total = image.config.len() + image.layers[0].1.len();
    let expected = [
        format!("start {total}"),
        format!("done {total}"),
        "finish".to_owned(),
    ];
    assert_eq!(*told.0.lock().unwrap(), expected);
    pull(&store.store, &request, &told).unwrap();
    assert_eq!(
        told.0.lock().unwrap().len(),
        3,
        "nothing is told of what the store had"
    );
}
