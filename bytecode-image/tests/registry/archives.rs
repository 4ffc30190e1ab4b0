//! Archives of every form: `docker save` of both generations, podman's and skopeo's; as files, streams and folders.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use bytecode_image::archive::{self, ArchiveError, Imported, Input};
use bytecode_image::digest::Digest;
use bytecode_image::pull::PullPolicy;
use bytecode_image::reference::Reference;
use tempfile::TempDir;

use crate::images::{MANIFEST, Parts, TestStore, chain, descriptor, gzip};

const NAME: &str = "quay.io/acme/pass:v1";
const MARK: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;

/// A file of an archive: content, or a link's target.
#[derive(Clone)]
enum Part {
    File(Vec<u8>),
    Link(&'static str),
}

type Files = Vec<(String, Part)>;

fn file(name: &str, bytes: &[u8]) -> (String, Part) {
    (name.to_owned(), Part::File(bytes.to_vec()))
}

/// An image with its layer as `docker save` has it: not compressed, named in the configuration.
struct Saved {
    config: Vec<u8>,
    layer: Vec<u8>,
}

impl Saved {
    fn new() -> Self {
        let parts = Parts::new("pass");
        let mut layer = Vec::new();
        let packed = parts.layer();
        std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(&*packed), &mut layer)
            .unwrap();
        let id = Digest::of(&layer);
        let config = String::from_utf8(parts.image().config).unwrap();
        let config = config.replace("\"diff_ids\":[]", &format!("\"diff_ids\":[\"{id}\"]"));
        Self {
            config: config.into_bytes(),
            layer,
        }
    }

    fn list(&self, tags: &str, layer: &str) -> Vec<u8> {
        let hex = Digest::of(&self.config).hex();
        format!(r#"[{{"Config":"{hex}.json","RepoTags":{tags},"Layers":["{layer}"]}}]"#)
            .into_bytes()
    }

    /// docker before 25: the layer in a folder.
    fn old(&self, tags: &str) -> Files {
        let hex = Digest::of(&self.config).hex();
        vec![
            file("0ff/VERSION", b"1.0"),
            file("0ff/json", b"{}"),
            file("0ff/layer.tar", &self.layer),
            file(&format!("{hex}.json"), &self.config),
            file("manifest.json", &self.list(tags, "0ff/layer.tar")),
            file("repositories", b"{}"),
        ]
    }

    /// podman's: the layer by its digest, and links to it.
    fn podman(&self, tags: &str) -> Files {
        let mut files = self.old(tags);
        let id = Digest::of(&self.layer).hex();
        files.retain(|(name, _)| !name.ends_with("layer.tar") && name != "manifest.json");
        files.push(file("1ab.tar", &self.layer));
        files.push(("0ff/layer.tar".to_owned(), Part::Link("../1ab.tar")));
        files.push(file("manifest.json", &self.list(tags, "0ff/layer.tar")));
        assert!(!id.is_empty());
        files
    }
}

/// An image layout with the annotations of an index entry.
fn layout(annotations: &str) -> (Files, Digest) {
    let image = Parts::new("pass").image();
    let entry = descriptor(
        MANIFEST,
        &image.manifest,
        &format!(r#","annotations":{{{annotations}}}"#),
    );
    let index = format!(r#"{{"schemaVersion":2,"manifests":[{entry}]}}"#);
    let mut files = vec![
        file("oci-layout", MARK),
        file("index.json", index.as_bytes()),
    ];
    for bytes in [&image.manifest, &image.config, &image.layers[0].1] {
        files.push(file(
            &format!("blobs/sha256/{}", Digest::of(bytes).hex()),
            bytes,
        ));
    }
    (files, Digest::of(&image.manifest))
}

/// A folder of the `dir:` transport.
fn transport() -> (Files, Digest) {
    let image = Parts::new("pass").image();
    let mut files = vec![
        file("version", b"Directory Transport Version: 1.1\n"),
        file("manifest.json", &image.manifest),
    ];
    for bytes in [&image.config, &image.layers[0].1] {
        files.push(file(&Digest::of(bytes).hex(), bytes));
    }
    (files, Digest::of(&image.manifest))
}

/// The same with a layer that is not what its media type says, as skopeo copies it from a docker-archive.
fn mislabelled(saved: &Saved) -> Files {
    let layer_type = "application/vnd.docker.image.rootfs.diff.tar.gzip";
    let manifest_type = "application/vnd.docker.distribution.manifest.v2+json";
    let config_type = "application/vnd.docker.container.image.v1+json";
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"{manifest_type}","config":{},"layers":[{}]}}"#,
        descriptor(config_type, &saved.config, ""),
        descriptor(layer_type, &saved.layer, ""),
    );
    let mut files = vec![file("manifest.json", manifest.as_bytes())];
    for bytes in [&saved.config, &saved.layer] {
        files.push(file(&Digest::of(bytes).hex(), bytes));
    }
    files
}

fn tar(files: &Files) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, part) in files {
        let mut header = tar::Header::new_ustar();
        header.set_path(name).unwrap();
        header.set_mode(0o644);
        match part {
            Part::File(bytes) => {
                header.set_size(bytes.len() as u64);
                header.set_cksum();
                builder.append(&header, bytes.as_slice()).unwrap();
            }
            Part::Link(target) => {
                header.set_entry_type(tar::EntryType::Symlink);
                header.set_link_name(target).unwrap();
                header.set_size(0);
                header.set_cksum();
                builder.append(&header, &b""[..]).unwrap();
            }
        }
    }
    builder.into_inner().unwrap()
}

fn folder(files: &Files) -> TempDir {
    let folder = TempDir::new().unwrap();
    for (name, part) in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        match part {
            Part::File(bytes) => fs::write(path, bytes).unwrap(),
            Part::Link(target) => symlink(target, path).unwrap(),
        }
    }
    folder
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    let level = ruzstd::encoding::CompressionLevel::Uncompressed;
    ruzstd::encoding::compress_to_vec(bytes, level)
}

/// Imports files in every way: a tar, plain and compressed, a stream, a folder. Gives the digest, the same for all.
fn imported(files: &Files, tag: Option<&str>, case: &str) -> Digest {
    let tag: Option<Reference> = tag.map(|tag| tag.parse().unwrap());
    let at = TempDir::new().unwrap();
    let write = |name: &str, bytes: &[u8]| {
        let path = at.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    };
    let plain = tar(files);
    let (packed, packed_other) = (gzip(&plain), zstd(&plain));
    let unpacked = folder(files);
    let paths: [PathBuf; 4] = [
        write("a.tar", &plain),
        write("a.tar.gz", &packed),
        write("a.tar.zst", &packed_other),
        unpacked.path().to_owned(),
    ];
    let mut digests = Vec::new();
    let mut check = |store: &TestStore, found: Result<Vec<Imported>, ArchiveError>, how: &str| {
        let found = found.unwrap_or_else(|error| panic!("{case}, {how}: {}", chain(&error)));
        let name: Reference = NAME.parse().unwrap();
        let found = found.iter().find(|found| found.reference == name);
        let digest = found.unwrap_or_else(|| panic!("{case}, {how}")).digest;
        let image = store.pull(&name, PullPolicy::Never).unwrap();
        assert_eq!(image.digest, digest, "{case}, {how}");
        assert_eq!(image.object_name, "pass.o");
        store.check();
        digests.push(digest);
    };
    for path in &paths {
        let store = TestStore::new();
        let found = archive::import_from(&store.store, Input::Path(path), tag.as_ref());
        check(&store, found, &path.display().to_string());
    }
    for bytes in [&plain, &packed, &packed_other] {
        let store = TestStore::new();
        let mut stream = std::io::Cursor::new(bytes);
        let input = Input::Stream(&mut stream, "standard input");
        let found = archive::import_from(&store.store, input, tag.as_ref());
        check(&store, found, "a stream");
    }
    assert!(digests.iter().all(|digest| *digest == digests[0]), "{case}");
    digests[0]
}

#[test]
fn every_form_is_imported_in_every_way() {
    let saved = Saved::new();
    let tags = format!(r#"["other.example/x:1","{NAME}"]"#);
    let old = imported(&saved.old(&tags), None, "docker save before 25");
    let podman = imported(&saved.podman(&tags), None, "podman's docker-archive");
    assert_eq!(old, podman);
    // Layers may be compressed in it.
    let mut packed = Saved::new();
    packed.layer = gzip(&packed.layer);
    let packed = imported(&packed.old(&tags), None, "with a compressed layer");
    assert_ne!(packed, old);

    let whole = format!(r#""org.opencontainers.image.ref.name":"{NAME}""#);
    let (files, digest) = layout(&whole);
    assert_eq!(imported(&files, None, "an image layout"), digest);
    // docker since 25: the tag alone, the name beside it, and a list for older ones.
    let docker =
        format!(r#""io.containerd.image.name":"{NAME}","org.opencontainers.image.ref.name":"v1""#);
    let (mut files, digest) = layout(&docker);
    files.push(file("manifest.json", b"[]"));
    assert_eq!(imported(&files, None, "docker save since 25"), digest);

    // Without a name of its own.
    let (files, digest) = transport();
    assert_eq!(imported(&files, Some(NAME), "the dir transport"), digest);
    let plain = mislabelled(&saved);
    let _ = imported(&plain, Some(NAME), "a plain layer called compressed");
    assert_eq!(
        imported(&saved.old("null"), Some(NAME), "docker save of an id"),
        old
    );
    let (files, digest) = layout("");
    assert_eq!(
        imported(&files, Some(NAME), "a layout without a name"),
        digest
    );
    // With other names: the given one is the only one.
    assert_eq!(imported(&saved.old(&tags), Some(NAME), "another name"), old);
}

/// The error of an import, from a tar or a folder.
fn refused(files: &Files, tag: Option<&str>, unpacked: bool) -> String {
    let tag: Option<Reference> = tag.map(|tag| tag.parse().unwrap());
    let store = TestStore::new();
    let at = folder(files);
    let archive = TempDir::new().unwrap();
    let path: PathBuf = match unpacked {
        true => at.path().to_owned(),
        false => archive.path().join("a.tar"),
    };
    if !unpacked {
        fs::write(&path, tar(files)).unwrap();
    }
    let error = archive::import_from(&store.store, Input::Path(&path), tag.as_ref()).unwrap_err();
    assert!(store.store.entries().unwrap().is_empty());
    chain(&error)
}

#[test]
fn archives_that_lie_or_lead_elsewhere_are_refused() {
    let saved = Saved::new();
    let tags = format!(r#"["{NAME}"]"#);
    let hex = Digest::of(&saved.config).hex();
    let replaced = |name: &str, part: Option<Part>| -> Files {
        let mut files = saved.old(&tags);
        files.retain(|(found, _)| found != name);
        files.extend(part.map(|part| (name.to_owned(), part)));
        files
    };
    let mut other_layer = saved.layer.clone();
    other_layer.extend([0; 512]);
    let two = String::from_utf8(saved.list(&tags, "0ff/layer.tar")).unwrap();
    let two = two.replace("\"0ff/layer.tar\"", "\"0ff/layer.tar\",\"0ff/layer.tar\"");
    let up = saved.list(&tags, "../../etc/passwd");
    let absolute = saved.list(&tags, "/etc/passwd");
    let cases: Vec<(Files, &str)> = vec![
        (
            replaced("0ff/layer.tar", None),
            "0ff/layer.tar is not there",
        ),
        (replaced(&format!("{hex}.json"), None), ".json is not there"),
        (
            replaced("0ff/layer.tar", Some(Part::File(other_layer))),
            "is damaged",
        ),
        (
            replaced(&format!("{hex}.json"), Some(Part::File(b"{}".to_vec()))),
            "is damaged",
        ),
        (
            replaced("0ff/layer.tar", Some(Part::Link("/etc/passwd"))),
            "neither a file nor a folder",
        ),
        (
            replaced("0ff/layer.tar", Some(Part::Link("../../../etc/passwd"))),
            "neither a file nor a folder",
        ),
        (
            replaced("0ff/layer.tar", Some(Part::Link("layer.tar"))),
            "neither a file nor a folder",
        ),
        (
            replaced("0ff/layer.tar", Some(Part::Link("nowhere.tar"))),
            "0ff/layer.tar is not there",
        ),
        (
            replaced("manifest.json", Some(Part::File(up))),
            "/etc/passwd is not there",
        ),
        (
            replaced("manifest.json", Some(Part::File(absolute))),
            "/etc/passwd is not there",
        ),
        (
            replaced("manifest.json", Some(Part::File(two.into_bytes()))),
            "it has 2 layers",
        ),
        (
            replaced("manifest.json", Some(Part::File(b"[{}]".to_vec()))),
            "manifest.json in the archive",
        ),
        (
            replaced("manifest.json", None),
            "it has no oci-layout and no manifest.json",
        ),
        (saved.old("null"), "names no image"),
    ];
    for (files, expected) in cases {
        for unpacked in [false, true] {
            let error = refused(&files, None, unpacked);
            assert!(error.contains(expected), "{expected} in {error}");
        }
    }
    // One name for two images.
    let (mut files, _) = layout(r#""org.opencontainers.image.ref.name":"quay.io/a/b:1""#);
    let mut other = Parts::new("pass");
    other.labels.insert("more".to_owned(), "x".to_owned());
    let other = other.image();
    let (one, two) = (
        Parts::new("pass").image(),
        descriptor(MANIFEST, &other.manifest, ""),
    );
    let one = descriptor(MANIFEST, &one.manifest, "");
    let index = format!(r#"{{"schemaVersion":2,"manifests":[{one},{two}]}}"#);
    files[1] = file("index.json", index.as_bytes());
    let error = refused(&files, Some(NAME), false);
    assert!(error.contains("has 2 images"), "{error}");
}

/// Whoever owns a folder may put anything there: nothing is waited for or followed.
#[test]
fn a_folder_is_read_without_following_links() {
    let (files, _) = layout(&format!(r#""org.opencontainers.image.ref.name":"{NAME}""#));
    let import = |path: &Path| {
        let store = TestStore::new();
        archive::import(&store.store, path).map_err(|error| chain(&error))
    };
    let (blob, aside) = (files[2].0.clone(), TempDir::new().unwrap());
    for name in ["index.json", "oci-layout", &blob, "blobs", "blobs/sha256"] {
        let at = folder(&files);
        assert!(import(at.path()).is_ok());
        let path = at.path().join(name);
        let moved = aside.path().join(name.replace('/', "-"));
        fs::rename(&path, &moved).unwrap();
        symlink(&moved, &path).unwrap();
        let error = import(at.path()).unwrap_err();
        assert!(
            error.contains("neither a file nor a folder"),
            "{name}: {error}"
        );
        fs::remove_file(&path).unwrap();
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &path,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::from_raw_mode(0o600),
            0,
        )
        .unwrap();
        let error = import(at.path()).unwrap_err();
        let missing = name.starts_with("blobs") && error.contains("is not there");
        assert!(
            missing || error.contains("neither a file nor a folder"),
            "{name}: {error}"
        );
    }
    // The archive itself.
    let pipe = aside.path().join("pipe");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &pipe,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o600),
        0,
    )
    .unwrap();
    for (path, expected) in [
        (pipe.as_path(), "is a pipe"),
        (Path::new("/dev/zero"), "is a device"),
    ] {
        let error = import(path).unwrap_err();
        assert!(error.contains(expected), "{error}");
    }
    let empty = TempDir::new().unwrap();
    assert!(
        import(empty.path())
            .unwrap_err()
            .contains("it has no oci-layout")
    );
    // A link that the user names is followed.
    let at = folder(&files);
    let named = aside.path().join("named");
    symlink(at.path(), &named).unwrap();
    assert!(import(&named).is_ok());
}

#[test]
fn archives_that_are_cut_are_refused() {
    let files = Saved::new().old(&format!(r#"["{NAME}"]"#));
    let plain = tar(&files);
    for whole in [gzip(&plain), zstd(&plain)] {
        for end in [10, whole.len() / 2, whole.len() - 9] {
            let store = TestStore::new();
            let mut stream = std::io::Cursor::new(&whole[..end]);
            let input = Input::Stream(&mut stream, "standard input");
            let error = archive::import_from(&store.store, input, None).unwrap_err();
            assert!(chain(&error).contains("standard input"), "{error}");
        }
    }
}
