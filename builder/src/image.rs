use std::collections::{BTreeMap, HashMap};
use std::io::{Read, Write};
use std::path::Path;
use std::str::FromStr;

use bytecode_image::digest::{Digest, VerifiedBytes};
use bytecode_image::labels::{MAPS_LABEL, PROGRAMS_LABEL};
use bytecode_image::layer::{LayerError, read_object};
use bytecode_image::limits::{MAX_CONFIG_BYTES, MAX_MANIFEST_BYTES};
use bytecode_image::platform::Platform;
use bytecode_image::registry::push;
use flate2::{Compression, GzBuilder};
use oci_spec::OciSpecError;
use oci_spec::image::{
    Arch, ConfigBuilder, Descriptor, HistoryBuilder, ImageConfiguration, ImageConfigurationBuilder,
    ImageManifestBuilder, MediaType, Os, RootFsBuilder, SCHEMA_VERSION,
};

/// Media type of the one layer.
const LAYER_MEDIA_TYPE: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// What buildah (so podman) writes of itself into every image.
const BUILDAH_LABEL: &str = "io.buildah.version";

/// Why parts do not make a bytecode image.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImageError {
    /// The object's path ends in no file name.
    #[error("the bytecode file {path} has no file name for the image")]
    NoFileName {
        /// The path.
        path: String,
    },
    /// `SOURCE_DATE_EPOCH` is no number of seconds since 1970 that a date can have.
    #[error("SOURCE_DATE_EPOCH is `{found}`: expected seconds since 1970-01-01")]
    SourceDateEpoch {
        /// What it is.
        found: String,
    },
    /// The tar or its compression.
    #[error("cannot write the layer")]
    Layer(#[source] std::io::Error),
    /// The configuration or manifest.
    #[error("cannot write or read the image's configuration or manifest")]
    Spec(#[from] OciSpecError),
    /// No image, or several without an index.
    #[error("{found} images where one was expected")]
    Images {
        /// How many.
        found: usize,
    },
    /// Not exactly one layer.
    #[error(
        "the built image has {found} layers: a bytecode image has one (a FROM scratch and a COPY)"
    )]
    Layers {
        /// How many it has.
        found: usize,
    },
    /// The layer holds no object, or other things beside it.
    #[error("the built image's layer is not one of a bytecode image")]
    LayerContent(#[source] LayerError),
    /// The layer holds an object, but another one.
    #[error(
        "the built image holds {name}, which is not the bytecode file that was given ({found} and {expected})"
    )]
    OtherObject {
        /// Its name in the layer.
        name: String,
        /// Its digest.
        found: Digest,
        /// The digest of the file.
        expected: Digest,
    },
    /// More than the object, or the object in a folder.
    #[error(
        "the built image holds {}: a bytecode image has the object at its root and nothing else",
        found.join(", ")
    )]
    OtherFiles {
        /// What lies there, shortened.
        found: Vec<String>,
    },
    /// A document that no reader would take.
    #[error("the image's {document} has {found} bytes, more than the {limit} that are read")]
    TooLarge {
        /// `configuration`, `manifest` or `index`.
        document: &'static str,
        /// Bytes found.
        found: usize,
        /// Bytes allowed.
        limit: u64,
    },
    /// A label is missing or says something else.
    #[error(
        "label {label} of the built image is {}, expected {expected}",
        found.as_deref().unwrap_or("missing")
    )]
    Label {
        /// Its key.
        label: &'static str,
        /// What it is.
        found: Option<String>,
        /// What it should be.
        expected: String,
    },
}

impl ImageError {
    pub(crate) fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Layers { .. } | Self::LayerContent(_) | Self::OtherFiles { .. } => Some(
                "the Containerfile should be FROM scratch with one COPY: see Containerfile.bytecode",
            ),
            Self::SourceDateEpoch { .. } => Some(
                "leave it unset for 1970, or give the time of the source: git log -1 --format=%ct",
            ),
            Self::OtherObject { .. } | Self::Label { .. } => {
                Some("the Containerfile should use its build arguments: see Containerfile.bytecode")
            }
            _ => None,
        }
    }
}

/// The labels of a bytecode image.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Labels<'a> {
    pub(crate) programs: &'a str,
    pub(crate) maps: &'a str,
}

impl<'a> Labels<'a> {
    fn pairs(self) -> [(&'static str, &'a str); 2] {
        [(PROGRAMS_LABEL, self.programs), (MAPS_LABEL, self.maps)]
    }
}

/// An image before it is packed: as plain bytes that one can look into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unpacked {
    /// Image configuration, JSON.
    pub(crate) config: Vec<u8>,
    /// Each layer as a tar.
    pub(crate) layers: Vec<Vec<u8>>,
}

impl Unpacked {
    /// An image of one object: the same arguments always give the same bytes.
    ///
    /// `name` is that of the object in the layer; `created` is in seconds since 1970.
    pub(crate) fn new(
        name: &Path,
        object: &[u8],
        labels: Labels<'_>,
        platform: &Platform,
        created: &str,
    ) -> Result<Self, ImageError> {
        let layer = tar(name, object).map_err(ImageError::Layer)?;
        let created = timestamp(created)?;
        let labels = labels
            .pairs()
            .map(|(key, value)| (key.to_owned(), value.to_owned()));
        let config = ImageConfigurationBuilder::default()
            .created(&created)
            .architecture(Arch::from(platform.architecture.as_str()))
            .os(Os::from(platform.os.as_str()))
            .config(
                ConfigBuilder::default()
                    .labels(HashMap::from(labels))
                    .build()?,
            )
            .rootfs(
                RootFsBuilder::default()
                    .typ("layers")
                    .diff_ids(vec![Digest::of(&layer).to_string()])
                    .build()?,
            )
            .history(vec![
                HistoryBuilder::default()
                    .created(&created)
                    .created_by(format!("COPY {} /", name.display()))
                    .build()?,
            ])
            .build()?;
        Ok(Self {
            config: sorted(&config)?,
            layers: vec![layer],
        })
    }

    /// Refuses an image that does not hold exactly this object under exactly these labels.
    pub(crate) fn check(&self, object: &[u8], labels: Labels<'_>) -> Result<(), ImageError> {
        let [layer] = self.layers.as_slice() else {
            return Err(ImageError::Layers {
                found: self.layers.len(),
            });
        };
        let media_type = MediaType::ImageLayer.to_string();
        let bytes = VerifiedBytes::hash(layer.clone());
        let found = read_object(&bytes, &media_type, None).map_err(ImageError::LayerContent)?;
        if found.bytes != object {
            return Err(ImageError::OtherObject {
                name: found.name,
                found: Digest::of(&found.bytes),
                expected: Digest::of(object),
            });
        }
        let files = files(layer).map_err(ImageError::Layer)?;
        if files != [found.name] {
            return Err(ImageError::OtherFiles { found: files });
        }
        let config = ImageConfiguration::from_reader(self.config.as_slice())?;
        let present = config
            .config()
            .as_ref()
            .and_then(|config| config.labels().as_ref());
        for (label, expected) in labels.pairs() {
            let found = present.and_then(|present| present.get(label));
            if found.map(String::as_str) != Some(expected) {
                return Err(ImageError::Label {
                    label,
                    found: found.cloned(),
                    expected: expected.to_owned(),
                });
            }
        }
        Ok(())
    }

    /// The configuration as the OCI image-spec has it, for this platform: without docker's own fields (the build's
    /// container and host name) and without buildah's label of itself, so that every engine gives the same labels.
    pub(crate) fn into_oci(mut self, platform: &Platform) -> Result<Self, ImageError> {
        let mut image = ImageConfiguration::from_reader(self.config.as_slice())?;
        image.set_architecture(Arch::from(platform.architecture.as_str()));
        image.set_os(Os::from(platform.os.as_str()));
        image.set_variant(platform.variant.clone());
        if let Some(mut config) = image.config().clone() {
            if let Some(mut labels) = config.labels().clone() {
                labels.remove(BUILDAH_LABEL);
                config.set_labels(Some(labels));
            }
            image.set_config(Some(config));
        }
        self.config = sorted(&image)?;
        Ok(self)
    }

    /// Compresses the layers and writes the manifest.
    pub(crate) fn pack(
        self,
        annotations: &BTreeMap<String, String>,
        packed: &mut PackedLayers,
    ) -> Result<push::Image, ImageError> {
        let mut layers = Vec::with_capacity(self.layers.len());
        let mut descriptors = Vec::with_capacity(self.layers.len());
        for layer in &self.layers {
            let packed = packed.pack(layer).map_err(ImageError::Layer)?;
            descriptors.push(descriptor(MediaType::ImageLayerGzip, packed)?);
            layers.push((LAYER_MEDIA_TYPE.to_owned(), packed.to_vec()));
        }
        let mut manifest = ImageManifestBuilder::default()
            .schema_version(SCHEMA_VERSION)
            .media_type(MediaType::ImageManifest)
            .config(descriptor(MediaType::ImageConfig, &self.config)?)
            .layers(descriptors)
            .build()?;
        manifest.set_annotations(some(annotations));
        let manifest = sorted(&manifest)?;
        within("configuration", &self.config, MAX_CONFIG_BYTES)?;
        within("manifest", &manifest, MAX_MANIFEST_BYTES)?;
        Ok(push::Image {
            config: self.config,
            layers,
            manifest,
            manifest_media_type: MediaType::ImageManifest.to_string(),
        })
    }
}

/// Layers that were compressed already: several architectures may have the same object.
#[derive(Debug, Default)]
pub(crate) struct PackedLayers(BTreeMap<Digest, Vec<u8>>);

impl PackedLayers {
    fn pack(&mut self, layer: &[u8]) -> std::io::Result<&[u8]> {
        use std::collections::btree_map::Entry;
        Ok(match self.0.entry(Digest::of(layer)) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => new.insert(gzip(layer)?),
        })
    }
}

/// No annotations are left out of a document, not written as an empty object.
pub(crate) fn some(annotations: &BTreeMap<String, String>) -> Option<HashMap<String, String>> {
    let annotations: HashMap<_, _> = annotations.clone().into_iter().collect();
    Some(annotations).filter(|annotations| !annotations.is_empty())
}

pub(crate) fn descriptor(media_type: MediaType, bytes: &[u8]) -> Result<Descriptor, OciSpecError> {
    let digest = oci_spec::image::Digest::from_str(&Digest::of(bytes).to_string())?;
    Ok(Descriptor::new(media_type, bytes.len() as u64, digest))
}

/// JSON with sorted keys: `oci-spec` keeps labels in a map of random order.
pub(crate) fn sorted(document: &impl serde::Serialize) -> Result<Vec<u8>, OciSpecError> {
    let mut value = serde_json::to_value(document)?;
    value.sort_all_objects();
    Ok(value.to_string().into_bytes())
}

/// Refuses a document that our own reader, and others, would refuse.
pub(crate) fn within(document: &'static str, bytes: &[u8], limit: u64) -> Result<(), ImageError> {
    if bytes.len() as u64 <= limit {
        return Ok(());
    }
    Err(ImageError::TooLarge {
        document,
        found: bytes.len(),
        limit,
    })
}

/// How many files of a layer a message names.
const NAMED_FILES: usize = 4;

/// The first files and folders of a tar, without the root itself (podman writes it).
fn files(tar: &[u8]) -> std::io::Result<Vec<String>> {
    let mut files = Vec::new();
    for entry in tar::Archive::new(tar).entries()? {
        let entry = entry?;
        let path = entry.path()?;
        let path = path.strip_prefix(".").unwrap_or(&path);
        if !path.as_os_str().is_empty() && files.len() < NAMED_FILES {
            let folder = if entry.header().entry_type().is_dir() {
                "/"
            } else {
                ""
            };
            let path = path.to_string_lossy();
            files.push(format!("{}{folder}", path.trim_end_matches('/')));
        }
    }
    Ok(files)
}

/// A tar with one file at its root, mode 0644, of root, from 1970.
fn tar(name: &Path, object: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(tar::EntryType::Regular);
    header.set_size(object.len() as u64);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    let mut archive = tar::Builder::new(Vec::with_capacity(object.len() + 4096));
    archive.append_data(&mut header, name, object)?;
    archive.into_inner()
}

/// gzip without a time or a name in its header.
fn gzip(bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut encoder = GzBuilder::new()
        .mtime(0)
        .write(Vec::new(), Compression::best());
    encoder.write_all(bytes)?;
    encoder.finish()
}

/// Unpacks a layer that may be gzip, up to `limit` bytes. `None` when there are more.
pub(crate) fn plain(bytes: &[u8], limit: u64) -> std::io::Result<Option<Vec<u8>>> {
    let mut plain = Vec::new();
    if bytes.starts_with(&[0x1f, 0x8b]) {
        flate2::read::MultiGzDecoder::new(bytes)
            .take(limit + 1)
            .read_to_end(&mut plain)?;
    } else {
        plain.extend_from_slice(bytes);
    }
    Ok(Some(plain).filter(|plain| plain.len() as u64 <= limit))
}

/// Seconds since 1970 as RFC 3339.
fn timestamp(seconds: &str) -> Result<String, ImageError> {
    let parsed = seconds
        .parse()
        .ok()
        .and_then(|seconds| jiff::Timestamp::from_second(seconds).ok());
    match parsed {
        Some(time) => Ok(time.to_string()),
        None => Err(ImageError::SourceDateEpoch {
            found: seconds.to_owned(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: BTreeMap<String, String> = BTreeMap::new();

    const LABELS: Labels<'static> = Labels {
        programs: r#"{"pass":"xdp"}"#,
        maps: "{}",
    };

    fn image(created: &str) -> push::Image {
        let object = b"not looked into here";
        let platform = Platform::linux("s390x");
        Unpacked::new(Path::new("pass.o"), object, LABELS, &platform, created)
            .unwrap()
            .pack(&NONE, &mut PackedLayers::default())
            .unwrap()
    }

    #[test]
    fn the_same_bytes_every_time() {
        assert_eq!(image("0"), image("0"));
        assert_ne!(image("0").config, image("1").config);
        assert_eq!(image("0").layers, image("1").layers);
        // Over releases and machines, too: another compressor or another order of fields shows here.
        assert_eq!(
            Digest::of(&image("0").manifest).to_string(),
            "sha256:e591d507b2ffaa4551e03b4e39742743813ec8f50fe17706a340926297152f30"
        );
    }

    #[test]
    fn annotations_are_sorted_and_change_nothing_but_the_manifest() {
        let annotations = BTreeMap::from(["b", "a"].map(|key| (key.to_owned(), "x\"y".to_owned())));
        let platform = Platform::linux("s390x");
        let object = b"not looked into here";
        let unpacked = Unpacked::new(Path::new("pass.o"), object, LABELS, &platform, "0").unwrap();
        let annotated = unpacked
            .pack(&annotations, &mut PackedLayers::default())
            .unwrap();
        let plain = image("0");
        assert_eq!(
            (&annotated.config, &annotated.layers),
            (&plain.config, &plain.layers)
        );
        let manifest = String::from_utf8(annotated.manifest).unwrap();
        assert!(
            manifest.contains(r#""annotations":{"a":"x\"y","b":"x\"y"}"#),
            "{manifest}"
        );
        assert!(
            !String::from_utf8(plain.manifest)
                .unwrap()
                .contains("annotations")
        );
    }

    #[test]
    fn what_is_in_it() {
        let image = image("1700000000");
        let config = String::from_utf8(image.config.clone()).unwrap();
        for part in [
            r#""architecture":"s390x""#,
            r#""os":"linux""#,
            r#""created":"2023-11-14T22:13:20Z""#,
            r#""Labels":{"io.ebpf.maps":"{}","io.ebpf.programs":"{\"pass\":\"xdp\"}"}"#,
        ] {
            assert!(config.contains(part), "{part} in {config}");
        }
        let manifest: serde_json::Value = serde_json::from_slice(&image.manifest).unwrap();
        assert_eq!(
            manifest["config"]["digest"],
            Digest::of(&image.config).to_string()
        );
        let (media_type, layer) = &image.layers[0];
        assert_eq!(manifest["layers"][0]["mediaType"], media_type.as_str());
        assert_eq!(
            manifest["layers"][0]["digest"],
            Digest::of(layer).to_string()
        );
        assert_eq!(manifest["layers"][0]["size"], layer.len());
        assert_eq!(layer[4..8], [0; 4], "gzip time");

        let plain = plain(layer, 1 << 20).unwrap().unwrap();
        assert!(config.contains(&Digest::of(&plain).to_string()), "diff_id");
        let mut archive = tar::Archive::new(plain.as_slice());
        let mut entries = archive.entries().unwrap();
        let mut entry = entries.next().unwrap().unwrap();
        assert_eq!(entry.path().unwrap().to_str(), Some("pass.o"));
        let header = entry.header().clone();
        assert_eq!(header.mode().unwrap(), 0o644);
        assert_eq!(
            (
                header.uid().unwrap(),
                header.gid().unwrap(),
                header.mtime().unwrap()
            ),
            (0, 0, 0)
        );
        let mut object = Vec::new();
        entry.read_to_end(&mut object).unwrap();
        assert_eq!(object, b"not looked into here");
        assert!(entries.next().is_none());
    }

    #[test]
    fn an_engines_configuration_becomes_oci() {
        let config = br#"{"architecture":"amd64","os":"linux","container":"c0","docker_version":"20.10.24",
            "container_config":{"Hostname":"c0"},
            "config":{"Hostname":"","Cmd":null,"Labels":{"io.buildah.version":"1.28.2","io.ebpf.maps":"{}","own":"x"}},
            "rootfs":{"type":"layers","diff_ids":["sha256:00"]},"history":[{"created_by":"COPY","empty_layer":true}]}"#;
        let engines = Unpacked {
            config: config.to_vec(),
            layers: Vec::new(),
        };
        let oci = engines.into_oci(&Platform::linux("arm64")).unwrap();
        let expected = concat!(
            r#"{"architecture":"arm64","config":{"Labels":{"io.ebpf.maps":"{}","own":"x"}},"#,
            r#""history":[{"created_by":"COPY","empty_layer":true}],"os":"linux","#,
            r#""rootfs":{"diff_ids":["sha256:00"],"type":"layers"}}"#
        );
        assert_eq!(String::from_utf8(oci.config).unwrap(), expected);
    }

    #[test]
    fn files_of_a_layer() {
        type Entries = &'static [(&'static str, &'static [u8])];
        let table: &[(Entries, &[&str])] = &[
            (&[("x.o", b"x")], &["x.o"]),
            (&[("./", b""), ("./x.o", b"x")], &["x.o"]),
            (&[("d/", b""), ("d/x.o", b"x")], &["d/", "d/x.o"]),
            (&[("x.o", b"x"), ("LICENSE", b"")], &["x.o", "LICENSE"]),
        ];
        for (entries, expected) in table {
            let mut archive = tar::Builder::new(Vec::new());
            for (path, bytes) in *entries {
                let mut header = tar::Header::new_ustar();
                header.set_size(bytes.len() as u64);
                header.set_mode(0o644);
                if path.ends_with('/') {
                    header.set_entry_type(tar::EntryType::Directory);
                }
                header.as_mut_bytes()[..path.len()].copy_from_slice(path.as_bytes());
                header.set_cksum();
                archive.append(&header, *bytes).unwrap();
            }
            assert_eq!(files(&archive.into_inner().unwrap()).unwrap(), *expected);
        }
    }

    #[test]
    fn what_no_reader_takes_is_not_packed() {
        let big = Unpacked {
            config: vec![b' '; 1 << 20],
            layers: Vec::new(),
        };
        let pack = |image: Unpacked| image.pack(&NONE, &mut PackedLayers::default());
        assert!(pack(big.clone()).is_ok());
        let bigger = Unpacked {
            config: [big.config.as_slice(), b" "].concat(),
            ..big
        };
        let error = pack(bigger).unwrap_err().to_string();
        assert!(error.starts_with("the image's configuration has 1048577 bytes"));
    }

    #[test]
    fn a_bomb_is_not_unpacked() {
        let bomb = gzip(&vec![0; 1 << 20]).unwrap();
        assert!(plain(&bomb, 1 << 20).unwrap().is_some());
        assert!(plain(&bomb, (1 << 20) - 1).unwrap().is_none());
    }

    #[test]
    fn dates() {
        assert_eq!(timestamp("0").unwrap(), "1970-01-01T00:00:00Z");
        for bad in ["", "x", "1.5", "99999999999999999999", "999999999999999999"] {
            assert!(timestamp(bad).is_err(), "{bad}");
        }
    }
}
