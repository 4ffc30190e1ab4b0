//! The two small files of an image layout (image-spec, image-layout.md).

use serde::Deserialize;

/// Name of the file that says that it is one.
pub(super) const MARK: &str = "oci-layout";

/// Name of the file that names the images.
pub(super) const INDEX: &str = "index.json";

/// Folder of the blobs.
pub(super) const BLOBS: &str = "blobs/sha256/";

/// Longest mark that is read, in bytes: 4 KiB; it has 30.
pub(super) const MAX_MARK_BYTES: u64 = 4 << 10;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Mark {
    image_layout_version: String,
}

/// The version that a mark says.
pub(super) fn version(mark: &[u8]) -> Result<String, serde_json::Error> {
    serde_json::from_slice::<Mark>(mark).map(|mark| mark.image_layout_version)
}
