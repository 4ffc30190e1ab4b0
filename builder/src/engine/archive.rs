//! Archives of images, as engines give them out: `docker save` (v1.2, with `manifest.json`; plain or compressed
//! layers) and OCI image layouts. Pure: bytes to an [`Unpacked`] image.

use std::collections::BTreeMap;
use std::io::Read;

use bytecode_image::digest::Digest;
use bytecode_image::limits::{MAX_CONFIG_BYTES, MAX_UNPACKED_BYTES};
use oci_spec::OciSpecError;
use oci_spec::image::{ImageConfiguration, ImageIndex, ImageManifest, MediaType};
use serde::Deserialize;

use crate::image::{Unpacked, plain};

/// Most bytes of an archive: the layer of a bytecode image, and room for the documents and folders around it.
pub(crate) const MAX_ARCHIVE_BYTES: u64 = MAX_UNPACKED_BYTES + 4 * MAX_CONFIG_BYTES;

/// How many symbolic links (old docker: a layer that is there twice) and indexes stand in a row.
const MAX_STEPS: usize = 4;

/// Why an archive holds no image that can be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ArchiveError {
    /// More than a bytecode image can have.
    #[error(
        "it has more than {limit} bytes; a bytecode image holds one object (FROM scratch, COPY)"
    )]
    TooLarge {
        /// Bytes allowed.
        limit: u64,
    },
    /// The tar itself.
    #[error("its archive cannot be read")]
    Tar(#[source] std::io::Error),
    /// Neither of the two forms.
    #[error("its archive has neither a manifest.json (docker save) nor an index.json (OCI)")]
    Form,
    /// Not exactly one image.
    #[error("its archive has {found} images instead of one")]
    Images {
        /// How many.
        found: usize,
    },
    /// A part that another part names.
    #[error("its archive has no {name}")]
    Missing {
        /// Path in the archive.
        name: String,
    },
    /// JSON that is not what it should be.
    #[error("its {name} cannot be read")]
    Json {
        /// Path in the archive.
        name: String,
        /// Where it breaks.
        #[source]
        source: OciSpecError,
    },
    /// A layer that is not the one of the configuration.
    #[error("its layer {name} has the digest {found}, its configuration says {expected}")]
    Digest {
        /// Path in the archive.
        name: String,
        /// Digest of the plain tar.
        found: Digest,
        /// From `rootfs.diff_ids`.
        expected: String,
    },
    /// Configuration and manifest count differently.
    #[error("it has {layers} layers, its configuration says {expected}")]
    LayerCount {
        /// In the manifest.
        layers: usize,
        /// In the configuration.
        expected: usize,
    },
}

/// `manifest.json` of `docker save`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    config: String,
    layers: Vec<String>,
}

/// The files of an archive by their paths.
struct Files(BTreeMap<String, File>);

enum File {
    Bytes(Vec<u8>),
    /// Symbolic or hard link, to a path from the archive's root.
    Link(String),
}

/// Reads the one image of an archive. Layers come out plain and checked against the configuration.
pub(super) fn read(archive: &[u8]) -> Result<Unpacked, ArchiveError> {
    let files = Files::read(archive)?;
    let (config, layers) = if files.has("manifest.json") {
        let saved: Vec<Saved> = files.json("manifest.json")?;
        match <[Saved; 1]>::try_from(saved) {
            Ok([saved]) => (saved.config, saved.layers),
            Err(saved) => return Err(ArchiveError::Images { found: saved.len() }),
        }
    } else if files.has("index.json") {
        files.oci("index.json".to_owned())?
    } else {
        return Err(ArchiveError::Form);
    };
    let config = files.get(&config)?.to_vec();
    let layers = files.layers(&config, &layers)?;
    Ok(Unpacked { config, layers })
}

impl Files {
    fn read(archive: &[u8]) -> Result<Self, ArchiveError> {
        let mut files = BTreeMap::new();
        let mut archive = tar::Archive::new(archive);
        for entry in archive.entries().map_err(ArchiveError::Tar)? {
            let mut entry = entry.map_err(ArchiveError::Tar)?;
            let path = entry.path().map_err(ArchiveError::Tar)?;
            let path = normal(&path.to_string_lossy());
            let kind = entry.header().entry_type();
            if kind.is_file() {
                let mut bytes = Vec::new();
                entry.read_to_end(&mut bytes).map_err(ArchiveError::Tar)?;
                files.insert(path, File::Bytes(bytes));
            } else if let Some(target) = entry.link_name().map_err(ArchiveError::Tar)? {
                let target = target.to_string_lossy();
                // A symbolic link counts from its folder, a hard link from the root.
                let target = match path.rsplit_once('/') {
                    Some((folder, _)) if kind.is_symlink() => normal(&format!("{folder}/{target}")),
                    _ => normal(&target),
                };
                files.insert(path, File::Link(target));
            }
        }
        Ok(Self(files))
    }

    fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    fn get(&self, name: &str) -> Result<&[u8], ArchiveError> {
        let mut at = name;
        for _ in 0..MAX_STEPS {
            match self.0.get(at) {
                Some(File::Bytes(bytes)) => return Ok(bytes),
                Some(File::Link(target)) => at = target,
                None => break,
            }
        }
        Err(ArchiveError::Missing {
            name: name.to_owned(),
        })
    }

    fn json<T: for<'de> Deserialize<'de>>(&self, name: &str) -> Result<T, ArchiveError> {
        serde_json::from_slice(self.get(name)?).map_err(|source| ArchiveError::Json {
            name: name.to_owned(),
            source: source.into(),
        })
    }

    /// Config and layers of an OCI layout, from an index down to its one manifest.
    fn oci(&self, index: String) -> Result<(String, Vec<String>), ArchiveError> {
        let mut at = index;
        for _ in 0..MAX_STEPS {
            let index: ImageIndex = self.json(&at)?;
            let [descriptor] = index.manifests().as_slice() else {
                return Err(ArchiveError::Images {
                    found: index.manifests().len(),
                });
            };
            at = blob(descriptor.digest());
            if !matches!(descriptor.media_type(), MediaType::ImageIndex) {
                let manifest: ImageManifest = self.json(&at)?;
                let layers = manifest.layers().iter().map(|layer| blob(layer.digest()));
                return Ok((blob(manifest.config().digest()), layers.collect()));
            }
        }
        Err(ArchiveError::Missing { name: at })
    }

    /// The layers as plain tars.
    fn layers(&self, config: &[u8], names: &[String]) -> Result<Vec<Vec<u8>>, ArchiveError> {
        let config =
            ImageConfiguration::from_reader(config).map_err(|source| ArchiveError::Json {
                name: "configuration".to_owned(),
                source,
            })?;
        let expected = config.rootfs().diff_ids();
        if expected.len() != names.len() {
            return Err(ArchiveError::LayerCount {
                layers: names.len(),
                expected: expected.len(),
            });
        }
        let mut layers = Vec::with_capacity(names.len());
        for (name, expected) in names.iter().zip(expected) {
            let layer = plain(self.get(name)?, MAX_UNPACKED_BYTES)
                .map_err(ArchiveError::Tar)?
                .ok_or(ArchiveError::TooLarge {
                    limit: MAX_UNPACKED_BYTES,
                })?;
            let found = Digest::of(&layer);
            if found.to_string() != *expected {
                return Err(ArchiveError::Digest {
                    name: name.clone(),
                    found,
                    expected: expected.clone(),
                });
            }
            layers.push(layer);
        }
        Ok(layers)
    }
}

/// Where an OCI layout keeps a blob.
fn blob(digest: &oci_spec::image::Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm(), digest.digest())
}

/// A path without `.` and `..`, as it would be found from the archive's root.
fn normal(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What goes into an archive of a test.
    enum Entry<'a> {
        File(&'a str, &'a [u8]),
        Link(&'a str, &'a str),
    }
    use Entry::{File as F, Link as L};

    fn archive(entries: &[Entry<'_>]) -> Vec<u8> {
        let mut archive = tar::Builder::new(Vec::new());
        for entry in entries {
            let mut header = tar::Header::new_gnu();
            header.set_mode(0o644);
            match entry {
                F(path, bytes) => {
                    header.set_size(bytes.len() as u64);
                    archive.append_data(&mut header, path, *bytes).unwrap();
                }
                L(path, target) => {
                    header.set_entry_type(tar::EntryType::Symlink);
                    header.set_size(0);
                    archive.append_link(&mut header, path, target).unwrap();
                }
            }
        }
        archive.into_inner().unwrap()
    }

    fn config(layers: &[&[u8]]) -> Vec<u8> {
        let diff_ids: Vec<String> = layers
            .iter()
            .map(|layer| Digest::of(layer).to_string())
            .collect();
        serde_json::json!({
            "architecture": "amd64", "os": "linux", "rootfs": { "type": "layers", "diff_ids": diff_ids },
        })
        .to_string()
        .into_bytes()
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut packed = Vec::new();
        let mut encoder = flate2::read::GzEncoder::new(bytes, flate2::Compression::fast());
        encoder.read_to_end(&mut packed).unwrap();
        packed
    }

    const LAYER: &[u8] = b"a layer's tar";
    const SAVED: &[u8] = br#"[{"Config":"c.json","RepoTags":null,"Layers":["l/layer.tar"]}]"#;

    #[test]
    fn docker_save() {
        let config = config(&[LAYER]);
        let packed = gzip(LAYER);
        let table: [&[Entry<'_>]; 4] = [
            &[
                F("c.json", &config),
                F("manifest.json", SAVED),
                F("l/layer.tar", LAYER),
            ],
            // A layer that is there twice (docker), or under its digest (podman).
            &[
                L("l/layer.tar", "../d.tar"),
                F("d.tar", LAYER),
                F("c.json", &config),
                F("manifest.json", SAVED),
            ],
            &[
                F("./c.json", &config),
                F("./manifest.json", SAVED),
                F("./l/layer.tar", LAYER),
            ],
            &[
                F("c.json", &config),
                F("manifest.json", SAVED),
                F("l/layer.tar", &packed),
            ],
        ];
        for entries in table {
            let image = read(&archive(entries)).unwrap();
            assert_eq!(image.config, config);
            assert_eq!(image.layers, [LAYER]);
        }
    }

    /// The OCI layout of an image with a compressed layer, under as many indexes as `depth`.
    fn layout(depth: usize) -> Vec<u8> {
        let (config, layer) = (config(&[LAYER]), gzip(LAYER));
        let descriptor = |kind: &str, bytes: &[u8]| {
            serde_json::json!({
                "mediaType": format!("application/vnd.oci.image.{kind}"),
                "digest": Digest::of(bytes).to_string(), "size": bytes.len(),
            })
        };
        let manifest = serde_json::json!({
            "schemaVersion": 2, "config": descriptor("config.v1+json", &config),
            "layers": [descriptor("layer.v1.tar+gzip", &layer)],
        });
        let mut blobs = vec![config, layer];
        let mut top = (manifest.to_string().into_bytes(), "manifest.v1+json");
        for _ in 0..depth {
            let index =
                serde_json::json!({ "schemaVersion": 2, "manifests": [descriptor(top.1, &top.0)] });
            blobs.push(top.0);
            top = (index.to_string().into_bytes(), "index.v1+json");
        }
        let blobs: Vec<(String, Vec<u8>)> = blobs
            .into_iter()
            .map(|blob| (format!("blobs/sha256/{}", Digest::of(&blob).hex()), blob))
            .collect();
        let mut entries = vec![F("oci-layout", b"{}"), F("index.json", &top.0)];
        entries.extend(blobs.iter().map(|(name, blob)| F(name, blob)));
        archive(&entries)
    }

    #[test]
    fn oci_layouts() {
        for depth in 1..=4 {
            assert_eq!(
                read(&layout(depth)).unwrap().layers,
                [LAYER],
                "depth {depth}"
            );
        }
        assert!(matches!(
            read(&layout(5)),
            Err(ArchiveError::Missing { .. })
        ));
    }

    #[test]
    fn archives_that_are_refused() {
        let good = config(&[LAYER]);
        let two = config(&[LAYER, LAYER]);
        let saved = ("manifest.json", SAVED);
        let twice = br#"[{"Config":"c.json","Layers":[]},{"Config":"c.json","Layers":[]}]"#;
        let table: &[(&[Entry<'_>], &str)] = &[
            (&[F("x", b"")], "its archive has neither"),
            (&[F("manifest.json", b"[]")], "its archive has 0 images"),
            (&[F("manifest.json", twice)], "its archive has 2 images"),
            (
                &[F("manifest.json", b"{")],
                "its manifest.json cannot be read",
            ),
            (&[F(saved.0, saved.1)], "its archive has no c.json"),
            (
                &[F(saved.0, saved.1), F("c.json", b"[]")],
                "its configuration cannot be read",
            ),
            (
                &[F(saved.0, saved.1), F("c.json", &good)],
                "its archive has no l/layer.tar",
            ),
            (
                &[F(saved.0, saved.1), F("c.json", &two)],
                "it has 1 layers, its configuration says 2",
            ),
            (
                &[
                    F(saved.0, saved.1),
                    F("c.json", &good),
                    F("l/layer.tar", b"other"),
                ],
                "its layer l/layer.tar has the digest sha256:",
            ),
            (
                &[
                    F(saved.0, saved.1),
                    F("c.json", &good),
                    L("l/layer.tar", "layer.tar"),
                ],
                "its archive has no l/layer.tar",
            ),
        ];
        for (entries, expected) in table {
            let error = read(&archive(entries)).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{error}, not {expected}");
        }
        let whole = archive(&[
            F("c.json", &good),
            F(saved.0, saved.1),
            F("l/layer.tar", LAYER),
        ]);
        for length in 0..whole.len() {
            let _ = read(&whole[..length]);
        }
    }
}
