//! What a signature must be of.

use crate::digest::{Digest, VerifiedBytes};
use crate::limits::MAX_MANIFEST_BYTES;
use crate::manifest::{self, Document, ManifestError};

/// The image whose signatures are asked for, by digest: its manifest, and the index that it was chosen from, if there
/// is one. A signature of the index covers all its platforms, one of the manifest covers that platform.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subject {
    manifest: Digest,
    index: Option<Digest>,
}

/// Which of an image's documents a signature names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Covered {
    /// The index, and with it every platform.
    Index(Digest),
    /// The manifest of one platform.
    Manifest(Digest),
}

/// Why an index does not lead to a manifest.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SubjectError {
    /// Longer than [`MAX_MANIFEST_BYTES`].
    #[error("the index has {found} bytes: at most {MAX_MANIFEST_BYTES} are read")]
    TooLong {
        /// Bytes found.
        found: usize,
    },
    /// Not an index that can be read.
    #[error("the index of {manifest} cannot be read")]
    Unreadable {
        /// The manifest that was looked for.
        manifest: Digest,
        /// What is wrong with the index.
        #[source]
        source: Box<ManifestError>,
    },
    /// An image where an index was expected.
    #[error("{document} is no index, so it cannot lead to {manifest}")]
    NoIndex {
        /// What was given as the index.
        document: Digest,
        /// The manifest that was looked for.
        manifest: Digest,
    },
    /// The index does not name the manifest, so that its signature says nothing about it.
    #[error("the index {index} does not name {manifest}")]
    NotNamed {
        /// The index.
        index: Digest,
        /// The manifest that was looked for.
        manifest: Digest,
    },
}

impl Subject {
    /// An image that is named by its own manifest.
    pub fn of(manifest: Digest) -> Self {
        Self {
            manifest,
            index: None,
        }
    }

    /// An image that was chosen from an index, given as its bytes: that they name the manifest is checked here, so
    /// that a signature of the index holds for it.
    ///
    /// # Errors
    ///
    /// When the bytes are no index, or one that does not name the manifest.
    pub fn in_index(index: &VerifiedBytes, manifest: Digest) -> Result<Self, SubjectError> {
        if index.len() as u64 > MAX_MANIFEST_BYTES {
            return Err(SubjectError::TooLong { found: index.len() });
        }
        let digest = index.digest();
        let (document, _) =
            manifest::parse(index, None).map_err(|source| SubjectError::Unreadable {
                manifest,
                source: Box::new(source),
            })?;
        match document {
            Document::Image(_) => Err(SubjectError::NoIndex {
                document: digest,
                manifest,
            }),
            Document::Index(index)
                if index.manifests.iter().any(|named| named.digest == manifest) =>
            {
                Ok(Self {
                    manifest,
                    index: Some(digest),
                })
            }
            Document::Index(_) => Err(SubjectError::NotNamed {
                index: digest,
                manifest,
            }),
        }
    }

    /// The digest of the manifest.
    pub fn manifest(&self) -> Digest {
        self.manifest
    }

    /// The digest of the index.
    pub fn index(&self) -> Option<Digest> {
        self.index
    }

    /// The digests that signatures are looked for under, the index first.
    pub fn digests(&self) -> impl Iterator<Item = Digest> {
        self.index.into_iter().chain([self.manifest])
    }

    pub(super) fn covered_by(&self, digest: Digest) -> Option<Covered> {
        if self.index == Some(digest) {
            Some(Covered::Index(digest))
        } else if self.manifest == digest {
            Some(Covered::Manifest(digest))
        } else {
            None
        }
    }
}

impl Covered {
    /// Its digest.
    pub fn digest(&self) -> Digest {
        match self {
            Self::Index(digest) | Self::Manifest(digest) => *digest,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(digests: &[Digest]) -> VerifiedBytes {
        let manifests: Vec<String> = digests
            .iter()
            .map(|digest| {
                format!(
                    r#"{{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"{digest}","size":2,"platform":{{"os":"linux","architecture":"amd64"}}}}"#
                )
            })
            .collect();
        let text = format!(
            r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[{}]}}"#,
            manifests.join(",")
        );
        VerifiedBytes::hash(text)
    }

    #[test]
    fn an_index_covers_what_it_names() {
        let [one, two, three] = [b"1", b"2", b"3"].map(|content| Digest::of(content));
        let bytes = index(&[one, two]);
        let subject = Subject::in_index(&bytes, two).unwrap();
        let whole = Digest::of(&bytes);
        assert_eq!(subject.digests().collect::<Vec<_>>(), [whole, two]);
        assert_eq!(subject.covered_by(whole), Some(Covered::Index(whole)));
        assert_eq!(subject.covered_by(two), Some(Covered::Manifest(two)));
        assert_eq!(subject.covered_by(one), None);
        assert!(matches!(
            Subject::in_index(&bytes, three),
            Err(SubjectError::NotNamed { .. })
        ));
        assert!(matches!(
            Subject::in_index(&VerifiedBytes::hash("{}"), two),
            Err(SubjectError::Unreadable { .. })
        ));
        let long = VerifiedBytes::hash(vec![b' '; MAX_MANIFEST_BYTES as usize + 1]);
        assert!(matches!(
            Subject::in_index(&long, two),
            Err(SubjectError::TooLong { .. })
        ));
        let alone = Subject::of(one);
        assert_eq!(alone.digests().collect::<Vec<_>>(), [one]);
        assert_eq!(alone.covered_by(whole), None);
    }

    #[test]
    fn an_image_is_no_index() {
        let digest = Digest::of(b"1");
        let layer = "application/vnd.oci.image.layer.v1.tar";
        let image = format!(
            r#"{{"schemaVersion":2,"config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{digest}","size":1}},"layers":[{{"mediaType":"{layer}","digest":"{digest}","size":1}}]}}"#
        );
        assert!(matches!(
            Subject::in_index(&VerifiedBytes::hash(image), digest),
            Err(SubjectError::NoIndex { .. })
        ));
    }
}
