//! Signatures that lie in the store beside their images: read, not believed.

use super::{Entry, Store, StoreError};
use crate::digest::VerifiedBytes;
use crate::limits::{MAX_CONFIG_BYTES, MAX_MANIFEST_BYTES};
use crate::reference::Reference;
use crate::verify::{Candidate, SignatureManifest, Subject, referrers};

impl Store {
    /// The signatures in these entries of the index ([`StoredImage::about`](super::StoredImage::about)): manifests of
    /// signatures, and lists of them. What cannot be read is left out.
    ///
    /// # Errors
    ///
    /// [`StoreError::Io`] when a blob is there and cannot be read.
    pub fn signatures(&self, entries: &[Entry]) -> Result<Vec<Candidate>, StoreError> {
        let mut manifests: Vec<SignatureManifest> = Vec::new();
        let mut add = |bytes: &VerifiedBytes| {
            let known = bytes.digest();
            if let Ok(manifest) = SignatureManifest::parse(bytes)
                && !manifests.iter().any(|manifest| manifest.digest() == known)
            {
                manifests.push(manifest);
            }
        };
        for entry in entries {
            let Some(bytes) = readable(self.read(entry.digest, MAX_MANIFEST_BYTES))? else {
                continue;
            };
            add(&bytes);
            for (listed, _) in referrers(&bytes).unwrap_or_default() {
                if let Some(bytes) = readable(self.read(listed, MAX_MANIFEST_BYTES))? {
                    add(&bytes);
                }
            }
        }
        let content = |digest| readable(self.read(digest, MAX_CONFIG_BYTES)).ok().flatten();
        Ok(manifests
            .iter()
            .flat_map(|manifest| manifest.candidates(content))
            .collect())
    }

    /// The signatures of an image, whichever repository they came from: they name what they are of. Those of its own
    /// repository come first, so that what lies in others cannot push them over the cap.
    pub(crate) fn signatures_of(
        &self,
        image: &Reference,
        subject: &Subject,
    ) -> Result<Vec<Candidate>, StoreError> {
        let mut about = Vec::new();
        for entry in self.entries()? {
            let named = self.subject_of(&entry)?;
            if subject.digests().any(|digest| named == Some(digest)) {
                about.push(entry);
            }
        }
        let own = |entry: &Entry| {
            let found = entry.reference.as_ref();
            found.is_some_and(|found| {
                (found.registry(), found.repository()) == (image.registry(), image.repository())
            })
        };
        about.sort_by_key(|entry| !own(entry));
        self.signatures(&about)
    }
}

/// Takes a damaged or overlong blob for one that is not there.
fn readable(
    read: Result<Option<VerifiedBytes>, StoreError>,
) -> Result<Option<VerifiedBytes>, StoreError> {
    match read {
        Err(error) if error.is_unusable_blob() => Ok(None),
        read => read,
    }
}
