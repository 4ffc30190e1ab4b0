//! The checker of image stores: an OCI image layout, whoever wrote it.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::images::digest;

/// Walks from the index through every descriptor: each blob is there, has its length and its digest. Of an index one
/// platform has to be there, the others may be. No blob is there that is not what its name says, and nothing that is half
/// written.
///
/// Gives how many entries the index has.
///
/// # Panics
///
/// When something is not as it should be.
pub fn check(store: &Path) -> usize {
    let tmp = names(&store.join(".bpfman/tmp"));
    assert!(tmp.is_empty(), "left behind: {tmp:?}");
    for name in names(&store.join("blobs/sha256")) {
        let bytes = std::fs::read(store.join("blobs/sha256").join(&name)).expect("a blob");
        assert_eq!(digest(&bytes), format!("sha256:{name}"));
    }
    let mark = std::fs::read(store.join("oci-layout")).expect("the mark of a layout");
    let mark: Value = serde_json::from_slice(&mark).expect("the mark is JSON");
    assert_eq!(mark["imageLayoutVersion"], "1.0.0");
    let index = std::fs::read(store.join("index.json")).expect("an index");
    let index: Value = serde_json::from_slice(&index).expect("the index is JSON");
    let entries = index["manifests"].as_array().expect("a list of images");
    for entry in entries {
        assert!(whole(store, entry), "{entry} is not whole");
    }
    entries.len()
}

/// Whether everything that a descriptor leads to is there.
fn whole(store: &Path, descriptor: &Value) -> bool {
    let Some(bytes) = blob(store, descriptor) else {
        return false;
    };
    let document: Value = serde_json::from_slice(&bytes).expect("a manifest is JSON");
    match document["manifests"].as_array() {
        Some(manifests) => {
            // A platform that nobody asked for is not there at all; one that is there is there whole.
            let held: Vec<&Value> = manifests
                .iter()
                .filter(|manifest| blob(store, manifest).is_some())
                .collect();
            for manifest in &held {
                assert!(whole(store, manifest), "{manifest} is not whole");
            }
            !held.is_empty()
        }
        None => {
            let layers = document["layers"].as_array().expect("layers");
            layers
                .iter()
                .chain([&document["config"]])
                .all(|blob_of| blob(store, blob_of).is_some())
        }
    }
}

/// The blob of a descriptor, which is as long as it says.
fn blob(store: &Path, descriptor: &Value) -> Option<Vec<u8>> {
    let name = descriptor["digest"].as_str().expect("a digest");
    let bytes = std::fs::read(store.join("blobs").join(name.replace(':', "/"))).ok()?;
    assert_eq!(descriptor["size"], bytes.len(), "{name}");
    Some(bytes)
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten();
    entries
        .map(|entry| {
            let entry = entry.expect("a folder can be read");
            entry.file_name().to_string_lossy().into_owned()
        })
        .collect()
}

/// Every file and folder below one, with its mode and what a file has in it.
///
/// # Panics
///
/// When one cannot be read.
#[must_use]
pub fn snapshot(folder: &Path) -> BTreeMap<PathBuf, (u32, Vec<u8>)> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for name in names(&folder) {
            let path = folder.join(name);
            let status = std::fs::symlink_metadata(&path).expect("a file that is there");
            let mut bytes = Vec::new();
            if status.is_dir() {
                folders.push(path.clone());
            } else if status.is_file() {
                bytes = std::fs::read(&path).expect("a file can be read");
            }
            found.insert(path, (status.permissions().mode(), bytes));
        }
    }
    found
}

/// Checks that only the owner may read, write or enter anything below a folder, and the folder.
///
/// # Panics
///
/// When somebody else may, or a file may be run.
pub fn private(folder: &Path) {
    let top = std::fs::symlink_metadata(folder).expect("the folder is there");
    assert_eq!(
        top.permissions().mode() & 0o7777,
        0o700,
        "{}",
        folder.display()
    );
    for (path, (mode, _)) in snapshot(folder) {
        let expected = if path.is_dir() { 0o700 } else { 0o600 };
        assert_eq!(mode & 0o7777, expected, "{}", path.display());
    }
}
