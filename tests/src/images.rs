//! Images made by hand, right and wrong ones, pushed by `skopeo`.

use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::Command;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use crate::lanes;
use crate::registry::Registry;

/// `sha256:…` of bytes.
#[must_use]
pub fn digest(bytes: &[u8]) -> String {
    let hash = Sha256::digest(bytes);
    let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

/// The digest of what a gzip file unpacks to, as far as it can be unpacked, without ever holding it.
fn diff_id(layer: &[u8]) -> String {
    let mut tar = flate2::read::GzDecoder::new(layer);
    let (mut hash, mut piece) = (Sha256::new(), vec![0; 64 << 10]);
    while let Ok(count @ 1..) = tar.read(&mut piece) {
        hash.update(&piece[..count]);
    }
    let hex: String = hash
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("sha256:{hex}")
}

/// A tar file with these entries. A name is written as it is, `../` and all.
///
/// # Panics
///
/// When a name is longer than 100 bytes.
#[must_use]
pub fn tar(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, bytes) in entries {
        let mut header = tar::Header::new_gnu();
        let field = &mut header.as_old_mut().name;
        // Not set_path: it refuses the names that a test is about.
        field[..name.len()].copy_from_slice(name.as_bytes());
        header.set_mode(0o644);
        header.set_size(bytes.len() as u64);
        header.set_cksum();
        builder.append(&header, *bytes).expect("a tar in memory");
    }
    builder.into_inner().expect("a tar in memory")
}

/// The bytes, compressed.
///
/// # Panics
///
/// Never: the memory is what it is written to.
#[must_use]
pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).expect("gzip in memory");
    encoder.finish().expect("gzip in memory")
}

/// A gzip file of that many zero bytes, made without ever holding them.
///
/// # Panics
///
/// Never: the memory is what it is written to.
#[must_use]
pub fn gzip_of_zeros(mebibytes: usize, head: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(head).expect("gzip in memory");
    let block = vec![0; 1024 * 1024];
    for _ in 0..mebibytes {
        encoder.write_all(&block).expect("gzip in memory");
    }
    encoder.finish().expect("gzip in memory")
}

/// The head of a tar entry that claims to have that many bytes.
#[must_use]
pub fn tar_head(name: &str, size: u64) -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    header.set_path(name).expect("a plain name");
    header.set_mode(0o644);
    header.set_size(size);
    header.set_cksum();
    header.as_bytes().to_vec()
}

/// A bytecode image to be pushed: its labels and the bytes of its one layer.
#[derive(Debug)]
pub struct Image {
    /// The labels of its configuration.
    pub labels: Value,
    /// The layer, as it travels.
    pub layer: Vec<u8>,
    /// GOARCH of the configuration.
    pub architecture: String,
}

impl Image {
    /// An image for this machine with that layer and the labels of one program and no map.
    #[must_use]
    pub fn new(program: &str, kind: &str, layer: Vec<u8>) -> Self {
        Self {
            labels: json!({
                "io.ebpf.programs": json!({ program: kind }).to_string(),
                "io.ebpf.maps": "{}",
            }),
            layer,
            architecture: goarch().to_owned(),
        }
    }

    /// Pushes it to the registry under that name, and gives the digest of its layer; `None` after the test was skipped
    /// for want of skopeo.
    ///
    /// # Panics
    ///
    /// When skopeo cannot push it.
    #[must_use]
    pub fn push(&self, registry: &Registry, name: &str) -> Option<String> {
        let skopeo = lanes::tool("skopeo")?;
        let folder = TempDir::new().expect("a temporary folder can be made");
        let blobs = folder.path().join("blobs/sha256");
        std::fs::create_dir_all(&blobs).expect("a temporary folder can be filled");
        let layer = descriptor(
            "application/vnd.oci.image.layer.v1.tar+gzip",
            &self.layer,
            &blobs,
        );
        let config = json!({
            "architecture": self.architecture,
            "os": "linux",
            "config": { "Labels": self.labels },
            "rootfs": { "type": "layers", "diff_ids": [diff_id(&self.layer)] },
        });
        let config = descriptor(
            "application/vnd.oci.image.config.v1+json",
            config.to_string().as_bytes(),
            &blobs,
        );
        let kind = "application/vnd.oci.image.manifest.v1+json";
        let layer_digest = layer["digest"].as_str().unwrap_or_default().to_owned();
        let manifest =
            json!({ "schemaVersion": 2, "mediaType": kind, "config": config, "layers": [layer] });
        let manifest = descriptor(kind, manifest.to_string().as_bytes(), &blobs);
        let index = json!({ "schemaVersion": 2, "manifests": [manifest] });
        let write = |name: &str, text: &str| {
            std::fs::write(folder.path().join(name), text)
                .expect("a temporary folder can be filled");
        };
        write("index.json", &index.to_string());
        write("oci-layout", r#"{"imageLayoutVersion":"1.0.0"}"#);
        let output = Command::new(skopeo)
            .args(["copy", "--insecure-policy", "--dest-tls-verify=false"])
            .arg(format!("oci:{}", folder.path().display()))
            .arg(format!("docker://{}", registry.reference(name)))
            .output()
            .expect("skopeo can be run");
        assert!(
            output.status.success(),
            "skopeo: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        Some(layer_digest)
    }
}

/// GOARCH of this machine.
#[must_use]
pub fn goarch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// Writes a blob and describes it.
fn descriptor(media_type: &str, bytes: &[u8], blobs: &Path) -> Value {
    let digest = digest(bytes);
    let hex = digest.trim_start_matches("sha256:");
    std::fs::write(blobs.join(hex), bytes).expect("a temporary folder can be filled");
    json!({ "mediaType": media_type, "digest": digest, "size": bytes.len() })
}
