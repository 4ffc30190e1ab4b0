use std::io::{Read, Write};
use std::net::TcpListener;

use bpfman_tests::tls::Tls;
use bytecode_image::digest::Digest;
use bytecode_image::host::environment::Environment;
use bytecode_image::host::proxy::Proxies;
use bytecode_image::pull::{PullPolicy, PullRequest, Trust};
use object::Endianness;

use crate::images::{
    INDEX, LAYER, MANIFEST, Parts, TestStore, blob_path, chain, descriptor, gzip, index, object,
    platform, reach, reference, serve, serve_document,
};
use crate::server::{Answer, Registry};

/// What a case does to a registry that serves the image `:v1` rightly.
type Harm = Box<dyn Fn(&Registry)>;

fn harmed(what: impl Fn(&Registry) + 'static) -> Harm {
    Box::new(what)
}

/// Serves these parts as `:v1`.
fn parts(change: impl Fn(&mut Parts) + 'static) -> Harm {
    harmed(move |registry| {
        let mut parts = Parts::new("pass");
        change(&mut parts);
        serve(registry, &parts.image(), &["v1"]);
    })
}

/// Serves this document as `:v1`.
fn document(media_type: &'static str, text: impl Into<Vec<u8>>) -> Harm {
    let text = text.into();
    harmed(move |registry| serve_document(registry, &text, media_type, &["v1"]))
}

/// A layer with an object and, beside it, what no layer may have.
fn entry(kind: tar::EntryType) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let object = object(Endianness::Little, "pass");
    let mut header = tar::Header::new_gnu();
    header.set_size(object.len() as u64);
    header.set_mode(0o644);
    builder
        .append_data(&mut header, "pass.o", object.as_slice())
        .unwrap();
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_size(0);
    header.set_mode(0o644);
    if kind == tar::EntryType::Char {
        header.set_device_major(1).unwrap();
        header.set_device_minor(5).unwrap();
    }
    if header.entry_type().is_symlink() || header.entry_type().is_hard_link() {
        builder
            .append_link(&mut header, "other.o", "pass.o")
            .unwrap();
    } else {
        builder
            .append_data(&mut header, "other.o", &[][..])
            .unwrap();
    }
    gzip(&builder.into_inner().unwrap())
}

/// What a layer unpacks to, as far as it can be unpacked.
fn unpacked(layer: &[u8]) -> Vec<u8> {
    let mut tar = Vec::new();
    let _ = flate2::read::GzDecoder::new(layer).read_to_end(&mut tar);
    tar
}

#[test]
fn refused_images_leave_nothing() {
    let image = Parts::new("pass").image();
    let layer = image.layers[0].1.clone();
    let (layer_path, config_path) = (blob_path(&layer), blob_path(&image.config));
    let manifest = String::from_utf8(image.manifest.clone()).unwrap();
    let blob = |path: &str, answer: Answer| {
        let path = path.to_owned();
        harmed(move |registry| registry.route("GET", &path, answer.clone()))
    };
    let named = |answer: Answer| {
        harmed(move |registry| registry.route("GET", "/v2/acme/xdp/manifests/v1", answer.clone()))
    };
    let mut changed = layer.clone();
    changed[20] ^= 1;
    let bomb = gzip(&vec![0; 40 << 20]);
    let right = Digest::of(&unpacked(&layer)).to_string();
    let with_config = |bytes: &[u8], diff_id: &str| {
        let text = String::from_utf8(image.config.clone()).unwrap();
        let text = text.replace(&right, diff_id).into_bytes();
        let config = descriptor("application/vnd.oci.image.config.v1+json", &text, "");
        let manifest = format!(
            r#"{{"schemaVersion":2,"config":{config},"layers":[{}]}}"#,
            descriptor(LAYER, bytes, "")
        );
        let bytes = bytes.to_vec();
        harmed(move |registry| {
            registry.route("GET", &blob_path(&text), Answer::ok(text.clone()));
            registry.route("GET", &blob_path(&bytes), Answer::ok(bytes.clone()));
            serve_document(registry, manifest.as_bytes(), MANIFEST, &["v1"]);
        })
    };
    // The configuration says what the layer unpacks to.
    let with_layer = |bytes: &[u8]| with_config(bytes, &Digest::of(&unpacked(bytes)).to_string());
    let s390x = index(&[("s390x", &image)]);
    let nested = format!(
        r#"{{"schemaVersion":2,"manifests":[{}]}}"#,
        descriptor(
            INDEX,
            &s390x,
            r#","platform":{"os":"linux","architecture":"amd64"}"#
        )
    );
    let hidden = format!(
        r#"{{"schemaVersion":2,"manifests":[{}]}}"#,
        descriptor(
            MANIFEST,
            &s390x,
            r#","platform":{"os":"linux","architecture":"amd64"}"#
        )
    );
    let big_endian = object(Endianness::Big, "pass");

    let cases: Vec<(&str, Harm, &str)> = vec![
        (
            "layer of another digest",
            blob(&layer_path, Answer::ok(changed)),
            "wrong digest: expected sha256:",
        ),
        (
            "config of another digest",
            blob(&config_path, Answer::ok(vec![b' '; image.config.len()])),
            "wrong digest",
        ),
        (
            "layer that breaks off",
            blob(
                &layer_path,
                Answer {
                    announced: Some(layer.len() as u64),
                    ..Answer::ok(&layer[..30])
                },
            ),
            "the transfer broke off",
        ),
        (
            "layer announced longer",
            blob(
                &layer_path,
                Answer {
                    announced: Some(1 << 40),
                    ..Answer::ok("x")
                },
            ),
            "wrong length",
        ),
        (
            "layer without end",
            blob(
                &layer_path,
                Answer {
                    repeated: Some(1 << 14),
                    ..Answer::ok(vec![7; 4096])
                },
            ),
            "wrong length",
        ),
        (
            "layer too short",
            blob(
                &layer_path,
                Answer {
                    repeated: Some(1),
                    ..Answer::ok("short")
                },
            ),
            "wrong length",
        ),
        (
            "no layer",
            blob(&layer_path, Answer::status(404)),
            "cannot fetch blob sha256:",
        ),
        (
            "no config",
            blob(&config_path, Answer::status(404)),
            "not found",
        ),
        (
            "500",
            blob(&layer_path, Answer::status(500)),
            "HTTP status 500",
        ),
        (
            "403",
            blob(&layer_path, Answer::status(403)),
            "access denied",
        ),
        ("no tag", named(Answer::status(404)), "not found"),
        ("429", named(Answer::status(429)), "HTTP status 429"),
        (
            "an answer that is no manifest",
            named(Answer::ok("<html>").header("Content-Type", "text/html")),
            "not a manifest",
        ),
        ("nothing", named(Answer::ok("")), "not a manifest"),
        (
            "a manifest announced with 300 MiB",
            named(Answer {
                announced: Some(300 << 20),
                ..Answer::ok("{}")
            }),
            "at most 4194304",
        ),
        (
            "a manifest of 300 MiB",
            named(Answer {
                repeated: Some(300),
                ..Answer::ok(vec![b' '; 1 << 20])
            }),
            "more than 4194304 bytes: at most",
        ),
        (
            "headers without end",
            named(Answer {
                endless: Some(("X-More".to_owned(), "x".repeat(1 << 10))),
                ..Answer::status(200)
            }),
            "message head is too large",
        ),
        (
            "one header without end",
            named(Answer {
                endless: Some(("X".to_owned(), "x".repeat(1 << 16))),
                ..Answer::status(200)
            }),
            "message head is too large",
        ),
        (
            "another digest than the header says",
            named(
                Answer::ok(manifest.as_bytes())
                    .header("Content-Type", MANIFEST)
                    .header("Docker-Content-Digest", Digest::of(b"").to_string()),
            ),
            "the registry says that the content is",
        ),
        (
            "Content-Type of an index",
            named(Answer::ok(manifest.as_bytes()).header("Content-Type", INDEX)),
            "was named",
        ),
        (
            "no Location",
            named(Answer::status(307)),
            "no usable Location header",
        ),
        (
            "both layers and manifests",
            document(MANIFEST, manifest.replacen('{', r#"{"manifests":[],"#, 1)),
            "both `layers` and `manifests`",
        ),
        (
            "schema 1",
            document(
                "application/vnd.docker.distribution.manifest.v1+json",
                r#"{"schemaVersion":1}"#,
            ),
            "schema 1",
        ),
        (
            "no platform",
            document(INDEX, s390x.clone()),
            "no image for linux/amd64; it has linux/s390x",
        ),
        (
            "an index in an index",
            document(INDEX, nested),
            "only one level",
        ),
        (
            "an index called a manifest",
            harmed(move |registry| {
                serve_document(registry, &s390x, INDEX, &[]);
                serve_document(registry, hidden.as_bytes(), INDEX, &["v1"]);
            }),
            "was named",
        ),
        (
            "a layer of 1 TiB",
            document(
                MANIFEST,
                manifest.replace(
                    &format!("\"size\":{}", layer.len()),
                    "\"size\":1099511627776",
                ),
            ),
            "its layer has 1099511627776 bytes",
        ),
        (
            "a gzip bomb",
            with_layer(&bomb),
            "its layer is not one of a bytecode image",
        ),
        ("no tar", with_layer(b"hello"), "cannot be unpacked"),
        (
            "a layer that is cut off",
            with_config(&layer[..layer.len() - 30], &right),
            "cannot be unpacked",
        ),
        (
            "a layer without its checksum",
            with_config(&layer[..layer.len() - 8], &right),
            "cannot be unpacked",
        ),
        (
            "garbage after the layer",
            with_config(&[&layer[..], b"garbage"].concat(), &right),
            "goes on after the end of its gzip stream, with 7 bytes",
        ),
        (
            "a second member",
            with_config(&[&layer[..], &gzip(b"")].concat(), &right),
            "goes on after the end of its gzip stream",
        ),
        (
            "another DiffID",
            with_config(&layer, &Digest::of(b"other").to_string()),
            "expected sha256:d9298a10d1b0735837dc4bd85dac641b0f3cef27a47e5d53a54f2f3f5b2fcffa, the DiffID in its configuration",
        ),
        (
            "the DiffID of the layer as it is sent",
            with_config(&layer, &Digest::of(&layer).to_string()),
            "the DiffID in its configuration",
        ),
        (
            "no DiffID",
            with_config(&layer, "sha512:00"),
            "the DiffID in its configuration cannot be used",
        ),
        (
            "../",
            parts(|parts| parts.files[0].0 = "../../etc/pass.o".to_owned()),
            "points out of the layer",
        ),
        (
            "/",
            parts(|parts| parts.files[0].0 = "/pass.o".to_owned()),
            "points out of the layer",
        ),
        (
            "a symbolic link",
            with_layer(&entry(tar::EntryType::Symlink)),
            "a symbolic link: only regular files",
        ),
        (
            "a hard link",
            with_layer(&entry(tar::EntryType::Link)),
            "a hard link: only regular files",
        ),
        (
            "a device",
            with_layer(&entry(tar::EntryType::Char)),
            "a device: only regular files",
        ),
        (
            "a pipe",
            with_layer(&entry(tar::EntryType::Fifo)),
            "only regular files",
        ),
        (
            "an object of another machine",
            parts(|parts| {
                // e_machine of the ELF header: EM_X86_64.
                parts.files[0].1[18..20].copy_from_slice(&62u16.to_le_bytes());
            }),
            "an ELF file for x86-64, not for eBPF",
        ),
        (
            "no object",
            parts(|parts| parts.files.clear()),
            "no eBPF object",
        ),
        (
            "two objects",
            parts(|parts| {
                parts
                    .files
                    .push(("b.o".to_owned(), object(Endianness::Little, "b")))
            }),
            "more than one",
        ),
        (
            "big-endian",
            parts(move |parts| parts.files[0].1 = big_endian.clone()),
            "is big-endian: linux/amd64 needs",
        ),
        (
            "another architecture",
            parts(|parts| parts.architecture = "arm64".to_owned()),
            "it is for linux/arm64: expected linux/amd64",
        ),
        (
            "labels of another object",
            parts(|parts| parts.files = Parts::new("other").files),
            "name program `pass`, which its object does not have; the object has other",
        ),
        (
            "labels of another type",
            parts(|parts| {
                parts
                    .labels
                    .insert("io.ebpf.programs".to_owned(), r#"{"pass":"tc"}"#.to_owned());
            }),
            "`pass` is `tc`",
        ),
        (
            "labels that are no JSON",
            parts(|parts| {
                parts
                    .labels
                    .insert("io.ebpf.maps".to_owned(), "x".to_owned());
            }),
            "label io.ebpf.maps is not",
        ),
    ];
    for (what, harm, message) in cases {
        let registry = Registry::start();
        serve(&registry, &image, &["v1", "good"]);
        let store = TestStore::new();
        // An image is there already: whatever comes, it stays as it is.
        let other = Registry::start();
        serve(&other, &Parts::new("earlier").image(), &["v1"]);
        let earlier = reference(&other, ":v1");
        store.pull(&earlier, PullPolicy::Always).unwrap();
        let before = (
            store.files(),
            std::fs::read(store.store.dir().join("index.json")).unwrap(),
        );

        harm(&registry);
        let error = store
            .pull(&reference(&registry, ":v1"), PullPolicy::Always)
            .unwrap_err();
        let text = chain(&error);
        assert!(text.contains(message), "{what}: {text}");
        assert!(
            text.contains(&registry.address.to_string()),
            "{what}: {text}"
        );
        let after = (
            store.files(),
            std::fs::read(store.store.dir().join("index.json")).unwrap(),
        );
        assert_eq!(before, after, "{what}");
        store.check();
        assert!(store.pull(&earlier, PullPolicy::Never).is_ok());
    }
}

#[test]
fn a_manifest_of_another_digest() {
    let registry = Registry::start();
    let (image, other) = (Parts::new("pass").image(), Parts::new("other").image());
    serve(&registry, &other, &[]);
    let digest = Digest::of(&image.manifest);
    let answer = Answer::ok(other.manifest.clone()).header("Content-Type", MANIFEST);
    registry.route("GET", &format!("/v2/acme/xdp/manifests/{digest}"), answer);
    let store = TestStore::new();
    let error = store
        .pull(
            &reference(&registry, &format!("@{digest}")),
            PullPolicy::Always,
        )
        .unwrap_err();
    assert!(chain(&error).contains(&format!(
        "wrong digest: expected {digest}, found {}",
        Digest::of(&other.manifest)
    )));
    assert!(!store.store.dir().exists());
}

#[test]
fn an_index_whose_manifest_is_exchanged() {
    let registry = Registry::start();
    let (image, other) = (Parts::new("pass").image(), Parts::new("evil").image());
    serve(&registry, &image, &[]);
    serve(&registry, &other, &[]);
    serve_document(&registry, &index(&[("amd64", &image)]), INDEX, &["v1"]);
    let answer = Answer::ok(other.manifest).header("Content-Type", MANIFEST);
    registry.route(
        "GET",
        &format!("/v2/acme/xdp/manifests/{}", Digest::of(&image.manifest)),
        answer,
    );
    let store = TestStore::new();
    let error = store
        .pull(&reference(&registry, ":v1"), PullPolicy::Always)
        .unwrap_err();
    assert!(chain(&error).contains("wrong digest"), "{}", chain(&error));
    assert_eq!(store.files(), Vec::<String>::new());
}

#[test]
fn nobody_listens_and_nobody_answers() {
    let registry = Registry::start();
    let name = reference(&registry, ":v1");
    drop(registry);
    let store = TestStore::new();
    let error = store.pull(&name, PullPolicy::IfNotPresent).unwrap_err();
    let text = chain(&error);
    assert!(
        text.starts_with(&format!("cannot fetch the manifest of {name} at registry ")),
        "{text}"
    );
    assert!(text.contains("no connection to the registry"), "{text}");
    assert!(error.hint().unwrap().contains("right host and port"));
    assert!(!store.store.dir().exists());

    // Something that is no registry.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let name = format!("{}/acme/xdp", listener.local_addr().unwrap())
        .parse()
        .unwrap();
    let thread = std::thread::spawn(move || {
        listener
            .accept()
            .unwrap()
            .0
            .write_all(b"SSH-2.0-x\r\n")
            .unwrap()
    });
    let error = chain(&store.pull(&name, PullPolicy::IfNotPresent).unwrap_err());
    thread.join().unwrap();
    // What a listener that goes away leaves depends on who is first: its text, or a reset, after which nobody is there.
    let expected = ["the transfer broke off", "no connection to the registry"];
    assert!(expected.iter().any(|text| error.contains(text)), "{error}");
}

/// https answers with a redirect to plain http: nobody on the way may say what an image is.
#[test]
fn a_redirect_from_https_to_http_is_not_followed() {
    let Some(tls) = Tls::make() else { return };
    let server = tls.server();
    let registry = Registry::start_secure(&server.certificate, &server.key);
    let plain = Registry::start();
    let image = Parts::new("pass").image();
    serve(&registry, &image, &["v1"]);
    serve(&plain, &image, &["v1"]);
    let root = tempfile::tempdir().unwrap();
    let certificates = format!("etc/containers/certs.d/{}", registry.address);
    let certificates = root.path().join(certificates);
    std::fs::create_dir_all(&certificates).unwrap();
    std::fs::copy(tls.ca(), certificates.join("ca.crt")).unwrap();
    let mut environment = Environment::default();
    environment.root = root.path().to_owned();
    let reach = reach()
        .with_environment(environment)
        .with_proxies(Proxies::default());
    let name = reference(&registry, ":v1");
    let pull = |store: &TestStore| {
        let request = PullRequest {
            reference: name.clone(),
            policy: PullPolicy::Always,
            short: None,
            reach: reach.clone(),
            platform: platform(),
            trust: Trust::unchecked().into(),
        };
        bytecode_image::pull::pull(&store.store, &request, &())
    };
    let store = TestStore::new();
    pull(&store).unwrap();
    store.check();

    let layer = blob_path(&image.layers[0].1);
    for path in [layer.as_str(), "/v2/acme/xdp/manifests/v1"] {
        let location = format!("http://{}{path}", plain.address);
        registry.route(
            "GET",
            path,
            Answer::status(307).header("Location", location),
        );
        let store = TestStore::new();
        let error = chain(&pull(&store).unwrap_err());
        let expected = format!("a redirect to http://{} is refused", plain.address);
        assert!(error.contains(&expected), "{path}: {error}");
        assert_eq!(store.files(), Vec::<String>::new());
    }
    assert_eq!(plain.asked(), []);
}

/// BuildKit's provenance: an entry of an index for `unknown/unknown`, which is no image.
#[test]
fn attestations_in_an_index_are_no_images() {
    let registry = Registry::start();
    let (image, attestation) = (Parts::new("pass").image(), Parts::new("other").image());
    serve(&registry, &image, &[]);
    let entries = |with: bool| {
        let rest = r#","platform":{"os":"linux","architecture":"amd64"}"#;
        let mut entries = vec![descriptor(MANIFEST, &image.manifest, rest)];
        if !with {
            entries.clear();
        }
        let rest = format!(
            r#","platform":{{"os":"unknown","architecture":"unknown"}},"annotations":{{"vnd.docker.reference.digest":"{}","vnd.docker.reference.type":"attestation-manifest"}}"#,
            Digest::of(&image.manifest)
        );
        entries.insert(0, descriptor(MANIFEST, &attestation.manifest, &rest));
        let entries = entries.join(",");
        format!(r#"{{"schemaVersion":2,"mediaType":"{INDEX}","manifests":[{entries}]}}"#)
    };
    serve_document(&registry, entries(true).as_bytes(), INDEX, &["v1"]);
    serve_document(&registry, entries(false).as_bytes(), INDEX, &["v2"]);
    let store = TestStore::new();
    let name = reference(&registry, ":v1");
    let pulled = store.pull(&name, PullPolicy::Always).unwrap();
    assert_eq!(pulled.manifest_digest, Digest::of(&image.manifest));
    // The attestation is not fetched: index, manifest, configuration, layer.
    assert_eq!(registry.asked().len(), 4);
    store.check();
    assert!(store.pull(&name, PullPolicy::Never).unwrap().from_store);

    let name = reference(&registry, ":v2");
    let error = chain(
        &TestStore::new()
            .pull(&name, PullPolicy::Always)
            .unwrap_err(),
    );
    assert!(
        error.contains("no image for linux/amd64; it has none with a platform"),
        "{error}"
    );
}
