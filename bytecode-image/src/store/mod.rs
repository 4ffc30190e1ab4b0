//! The store of pulled images: an OCI image layout (image-spec 1.1, image-layout.md) that `skopeo`, `oras` and `crane` read and write.

use std::path::{Path, PathBuf};

/// A store in a folder.
#[derive(Debug, Clone)]
pub struct Store {
    dir: PathBuf,
}

impl Store {
    /// The store in this folder. Nothing is read or made yet: the folder is made (0700) at the first write.
    pub fn open(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into() }
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }
}

/// A store that cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {}
