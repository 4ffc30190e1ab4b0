//! Images that the store has: no lock, no socket, no write.

use super::{BytecodeImage, Contents, Part, PullError, PullRequest};
use crate::limits::{MAX_CONFIG_BYTES, MAX_LAYER_BYTES, MAX_MANIFEST_BYTES};
use crate::manifest::{self, Document, ManifestError};
use crate::store::{Store, StoreError};

/// How many names a message suggests.
const NEAR_NAMES: usize = 3;

/// The image, when the store has all of it.
pub(super) fn find(
    store: &Store,
    request: &PullRequest,
) -> Result<Option<BytecodeImage>, PullError> {
    let refused = |error| PullError::Refused {
        reference: request.reference.clone(),
        part: Box::new(Part::Manifest(error)),
    };
    let Some(digest) = store.find(&request.reference)? else {
        return Ok(None);
    };
    let document = |digest, outside: Option<&str>| match store.read(digest, MAX_MANIFEST_BYTES)? {
        Some(bytes) => manifest::parse(&bytes, outside)
            .map(|(document, _)| Some(document))
            .map_err(refused),
        None => Ok(None),
    };
    let (manifest_digest, manifest) = match document(digest, None)? {
        None => return Ok(None),
        Some(Document::Image(image)) => (digest, image),
        Some(Document::Index(index)) => {
            let chosen = index.choose(&request.platform).map_err(refused)?;
            match document(chosen.digest, Some(&chosen.media_type))? {
                // Only the platforms that were pulled are kept of an index.
                None => return Ok(None),
                Some(Document::Image(image)) => (chosen.digest, image),
                Some(Document::Index(_)) => return Err(refused(ManifestError::Nested)),
            }
        }
    };
    let Some(config) = store.read(manifest.config.digest, MAX_CONFIG_BYTES)? else {
        return Ok(None);
    };
    let Some(layer) = store.blob(manifest.layer.digest, MAX_LAYER_BYTES)? else {
        return Ok(None);
    };
    let contents = Contents {
        digest,
        manifest_digest,
        manifest: &manifest,
        config: &config,
        layer: &layer,
        from_store: true,
    };
    contents.open(request).map(Some)
}

/// The error for an image that the store does not have, with the names that are like it.
pub(super) fn absent(store: &Store, request: &PullRequest) -> Result<PullError, StoreError> {
    let names: Vec<_> = store
        .entries()?
        .into_iter()
        .filter_map(|entry| entry.name)
        .collect();
    let near = near(&request.reference.to_string(), &names);
    Ok(PullError::Absent {
        reference: Box::new(request.reference.clone()),
        platform: Box::new(request.platform.clone()),
        store: store.dir().to_owned(),
        near,
    })
}

/// The names that are most like one: by a third of its length in single edits at most, the nearest first.
fn near(wanted: &str, names: &[String]) -> Vec<String> {
    let mut near: Vec<_> = names
        .iter()
        .map(|name| (edits(wanted, name), name))
        .filter(|(edits, _)| (1..=wanted.len() / 3).contains(edits))
        .collect();
    near.sort();
    near.into_iter()
        .take(NEAR_NAMES)
        .map(|(_, name)| name.clone())
        .collect()
}

/// How many bytes must be put in, taken out or changed to make one text of the other (Levenshtein).
fn edits(left: &str, right: &str) -> usize {
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (number, a) in left.bytes().enumerate() {
        let mut before = number + 1;
        let mut diagonal = number;
        for (b, pair) in right.bytes().zip(1..) {
            let Some(cell) = row.get_mut(pair) else { break };
            let here = (diagonal + usize::from(a != b))
                .min(before + 1)
                .min(*cell + 1);
            diagonal = std::mem::replace(cell, here);
            before = here;
        }
        if let Some(first) = row.first_mut() {
            *first = number + 1;
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_names() {
        for (left, right, expected) in [
            ("", "", 0),
            ("", "abc", 3),
            ("abc", "", 3),
            ("kitten", "sitting", 3),
            ("flaw", "lawn", 2),
            ("a", "a", 0),
        ] {
            assert_eq!(edits(left, right), expected, "{left} {right}");
        }
        let names: Vec<_> = [
            "quay.io/acme/xdp:v2",
            "quay.io/acme/xdp:v10",
            "quay.io/acme/probes:v1",
            "ghcr.io/else/where:x",
        ]
        .map(str::to_owned)
        .into();
        assert_eq!(
            near("quay.io/acme/xdp:v1", &names)[..2],
            ["quay.io/acme/xdp:v10", "quay.io/acme/xdp:v2"]
        );
        assert_eq!(
            near("example.org/nothing/like:it", &names),
            Vec::<String>::new()
        );
    }
}
