//! Images for the tests: made in memory, right unless a test says otherwise.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytecode_image::digest::Digest;
use bytecode_image::platform::Platform;
use bytecode_image::pull::{BytecodeImage, PullError, PullPolicy, PullRequest, Trust, pull};
use bytecode_image::reference::Reference;
use bytecode_image::registry::push::Image;
use bytecode_image::registry::{Patience, Reach};
use bytecode_image::store::Store;
use object::Endianness;
use tempfile::TempDir;

use crate::elf;
use crate::server::{Answer, Registry};

pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(crate) const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// Every image of the tests is for this platform and no other, whatever the host is.
pub(crate) fn platform() -> Platform {
    Platform::linux("amd64")
}

/// Registries as their names say, without pauses.
pub(crate) fn reach() -> Reach {
    Reach::default().with_patience(Patience {
        pauses: Some(Arc::new(|_| Duration::ZERO)),
        ..Patience::default()
    })
}

/// The parts of an image, before they are put together.
#[derive(Debug, Clone)]
pub(crate) struct Parts {
    pub(crate) architecture: String,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) files: Vec<(String, Vec<u8>)>,
}

impl Parts {
    /// An XDP program of this name.
    pub(crate) fn new(function: &str) -> Self {
        let programs = format!(r#"{{"{function}":"xdp"}}"#);
        Self {
            architecture: "amd64".to_owned(),
            labels: BTreeMap::from([
                ("io.ebpf.programs".to_owned(), programs),
                ("io.ebpf.maps".to_owned(), "{}".to_owned()),
            ]),
            files: vec![(
                format!("{function}.o"),
                object(Endianness::Little, function),
            )],
        }
    }

    pub(crate) fn layer(&self) -> Vec<u8> {
        gzip(&self.tar())
    }

    pub(crate) fn tar(&self) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (path, bytes) in &self.files {
            let mut header = tar::Header::new_gnu();
            header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            header.set_cksum();
            builder.append(&header, bytes.as_slice()).unwrap();
        }
        builder.into_inner().unwrap()
    }

    pub(crate) fn image(&self) -> Image {
        let layer = self.layer();
        let labels = serde_json::to_string(&self.labels).unwrap();
        let config = format!(
            r#"{{"architecture":"{}","os":"linux","config":{{"Labels":{labels}}},"rootfs":{{"type":"layers","diff_ids":["{}"]}}}}"#,
            self.architecture,
            Digest::of(&self.tar())
        );
        let manifest = format!(
            r#"{{"schemaVersion":2,"mediaType":"{MANIFEST}","config":{},"layers":[{}]}}"#,
            descriptor(
                "application/vnd.oci.image.config.v1+json",
                config.as_bytes(),
                ""
            ),
            descriptor(LAYER, &layer, ""),
        );
        Image {
            config: config.into_bytes(),
            layers: vec![(LAYER.to_owned(), layer)],
            manifest: manifest.into_bytes(),
            manifest_media_type: MANIFEST.to_owned(),
        }
    }
}

pub(crate) fn object(order: Endianness, function: &str) -> Vec<u8> {
    elf::object_file(order, &[("xdp", function)])
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A descriptor of these bytes; `rest` is put in as it is.
pub(crate) fn descriptor(media_type: &str, bytes: &[u8], rest: &str) -> String {
    let (digest, size) = (Digest::of(bytes), bytes.len());
    format!(r#"{{"mediaType":"{media_type}","digest":"{digest}","size":{size}{rest}}}"#)
}

/// An index of images by architecture.
pub(crate) fn index(images: &[(&str, &Image)]) -> Vec<u8> {
    let entries: Vec<_> = images
        .iter()
        .map(|(architecture, image)| {
            let platform =
                format!(r#","platform":{{"os":"linux","architecture":"{architecture}"}}"#);
            descriptor(MANIFEST, &image.manifest, &platform)
        })
        .collect();
    format!(
        r#"{{"schemaVersion":2,"mediaType":"{INDEX}","manifests":[{}]}}"#,
        entries.join(",")
    )
    .into_bytes()
}

/// Puts an image into a registry as `acme/xdp`, its manifest under these names and its digest.
pub(crate) fn serve(registry: &Registry, image: &Image, names: &[&str]) {
    let contents = image
        .layers
        .iter()
        .map(|(_, layer)| layer)
        .chain([&image.config]);
    for bytes in contents {
        registry.route("GET", &blob_path(bytes), Answer::ok(bytes.clone()));
    }
    serve_document(registry, &image.manifest, MANIFEST, names);
}

pub(crate) fn serve_document(registry: &Registry, bytes: &[u8], media_type: &str, names: &[&str]) {
    let digest = Digest::of(bytes).to_string();
    for name in names.iter().copied().chain([digest.as_str()]) {
        let answer = Answer::ok(bytes)
            .header("Content-Type", media_type)
            .header("Docker-Content-Digest", digest.as_str());
        registry.route("GET", &format!("/v2/acme/xdp/manifests/{name}"), answer);
    }
}

pub(crate) fn blob_path(bytes: &[u8]) -> String {
    format!("/v2/acme/xdp/blobs/{}", Digest::of(bytes))
}

/// A reference to `acme/xdp` in this registry, with `:tag` or `@digest`.
pub(crate) fn reference(registry: &Registry, rest: &str) -> Reference {
    format!("{}/acme/xdp{rest}", registry.address)
        .parse()
        .unwrap()
}

/// A store in a folder that goes with it.
pub(crate) struct TestStore {
    /// Removes the folder when it goes.
    dir: TempDir,
    pub(crate) store: Store,
}

impl TestStore {
    pub(crate) fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let store = Store::open(dir.path().join("images"));
        let store = store.with_admissions(dir.path().join("admitted"));
        Self { dir, store }
    }

    /// Where it keeps what was admitted.
    pub(crate) fn admissions(&self) -> PathBuf {
        self.dir.path().join("admitted")
    }

    pub(crate) fn pull(
        &self,
        reference: &Reference,
        policy: PullPolicy,
    ) -> Result<BytecodeImage, PullError> {
        let request = self.request(reference, policy, Trust::unchecked());
        pull(&self.store, &request, &())
    }

    pub(crate) fn request(
        &self,
        reference: &Reference,
        policy: PullPolicy,
        trust: Trust,
    ) -> PullRequest {
        PullRequest {
            reference: reference.clone(),
            policy,
            short: None,
            reach: crate::images::reach(),
            platform: platform(),
            trust: trust.into(),
        }
    }

    /// Every file but locks, by its path in the store.
    pub(crate) fn files(&self) -> Vec<String> {
        let mut found = Vec::new();
        walk(self.store.dir(), &mut found);
        let relative = |path: PathBuf| {
            path.strip_prefix(self.store.dir())
                .unwrap()
                .display()
                .to_string()
        };
        let mut found: Vec<_> = found
            .into_iter()
            .map(relative)
            .filter(|path| !path.ends_with("lock"))
            .collect();
        found.sort();
        found
    }

    /// Checks that the store is an image layout: every blob is what its name says, everything that the index names is
    /// there (of an index at least one image), and nothing is half written.
    pub(crate) fn check(&self) {
        let files = self.files();
        assert!(
            !files.iter().any(|file| file.starts_with(".bpfman/tmp")),
            "{files:?}"
        );
        for file in files
            .iter()
            .filter_map(|file| file.strip_prefix("blobs/sha256/"))
        {
            assert_eq!(Digest::of(&self.blob(file)).hex(), file);
        }
        assert_eq!(
            fs::read(self.store.dir().join("oci-layout")).unwrap(),
            br#"{"imageLayoutVersion":"1.0.0"}"#
        );
        for entry in self.store.entries().unwrap() {
            let bytes = self.blob(&entry.digest.hex());
            assert_eq!(bytes.len() as u64, entry.size);
            assert!(
                self.complete(&bytes),
                "{:?} names what is not there",
                entry.name
            );
        }
    }

    fn complete(&self, document: &[u8]) -> bool {
        let document: serde_json::Value = serde_json::from_slice(document).unwrap();
        let has = |descriptor: &serde_json::Value| {
            let digest: Digest = descriptor["digest"].as_str().unwrap().parse().unwrap();
            self.store
                .dir()
                .join("blobs/sha256")
                .join(digest.hex())
                .exists()
                .then(|| self.blob(&digest.hex()))
        };
        match document["manifests"].as_array() {
            Some(manifests) => manifests
                .iter()
                .filter_map(has)
                .any(|bytes| self.complete(&bytes)),
            None => {
                has(&document["config"]).is_some()
                    && document["layers"]
                        .as_array()
                        .unwrap()
                        .iter()
                        .all(|layer| has(layer).is_some())
            }
        }
    }

    fn blob(&self, hex: &str) -> Vec<u8> {
        fs::read(self.store.dir().join("blobs/sha256").join(hex)).unwrap()
    }
}

pub(crate) fn walk(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            walk(&path, found)
        } else {
            found.push(path)
        }
    }
}

/// An error with its causes, in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text += &format!(": {error}");
        cause = error.source();
    }
    text
}
