use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::digest::Digest;
use crate::limits::MAX_STORE_INDEX_BYTES;
use crate::reference::Reference;
use crate::store::{StoreAction, StoreError};

/// The annotation by which an image layout names an entry (image-spec, annotations.md).
pub const REFERENCE_ANNOTATION: &str = "org.opencontainers.image.ref.name";

/// One entry of the store's index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its name as it is written; other tools write names of their own.
    pub name: Option<String>,
    /// What the name means as a reference, defaults filled in.
    pub reference: Option<Reference>,
    /// Media type of what it names.
    pub media_type: String,
    /// Digest of what it names: an index or a manifest.
    pub digest: Digest,
    /// Its length in bytes.
    pub size: u64,
}

/// `index.json`. What other tools wrote into it is kept as it is, known here or not.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Index {
    schema_version: u32,
    #[serde(default)]
    manifests: Vec<Map<String, Value>>,
    #[serde(flatten)]
    other: Map<String, Value>,
}

impl Default for Index {
    fn default() -> Self {
        let media_type = oci_client::manifest::OCI_IMAGE_INDEX_MEDIA_TYPE;
        let other = Map::from_iter([("mediaType".to_owned(), Value::from(media_type))]);
        Self {
            schema_version: 2,
            manifests: Vec::new(),
            other,
        }
    }
}

impl Index {
    /// The entries that are read: those of other digests than sha256 are not.
    pub(super) fn entries(&self) -> Vec<Entry> {
        self.manifests.iter().filter_map(entry).collect()
    }

    /// Lets a reference name something. `false` when it named just that already.
    pub(super) fn name(
        &mut self,
        reference: &Reference,
        media_type: &str,
        digest: Digest,
        size: u64,
    ) -> bool {
        let mut named = self
            .manifests
            .iter()
            .filter_map(entry)
            .filter(|entry| entry.reference.as_ref() == Some(reference));
        if let (Some(entry), None) = (named.next(), named.next())
            && (entry.digest, entry.size, entry.media_type.as_str()) == (digest, size, media_type)
        {
            return false;
        }
        self.manifests.retain(|found| {
            entry(found).is_none_or(|entry| entry.reference.as_ref() != Some(reference))
        });
        let annotations = Map::from_iter([(
            REFERENCE_ANNOTATION.to_owned(),
            Value::from(reference.to_string()),
        )]);
        self.manifests.push(Map::from_iter([
            ("mediaType".to_owned(), Value::from(media_type)),
            ("digest".to_owned(), Value::from(digest.to_string())),
            ("size".to_owned(), Value::from(size)),
            ("annotations".to_owned(), Value::from(annotations)),
        ]));
        true
    }
}

fn entry(found: &Map<String, Value>) -> Option<Entry> {
    let name = found
        .get("annotations")
        .and_then(|annotations| annotations.get(REFERENCE_ANNOTATION))
        .and_then(Value::as_str)
        .map(str::to_owned);
    Some(Entry {
        reference: name.as_ref().and_then(|name| name.parse().ok()),
        name,
        media_type: found.get("mediaType")?.as_str()?.to_owned(),
        digest: Digest::parse(found.get("digest")?.as_str()?).ok()?,
        size: found.get("size")?.as_u64()?,
    })
}

/// Reads an index; one that does not exist is empty.
pub(super) fn read(path: &Path) -> Result<Index, StoreError> {
    let failed = |source| StoreError::io(StoreAction::Read, path, source);
    let mut file = match File::open(path) {
        Ok(file) => file.take(MAX_STORE_INDEX_BYTES + 1),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Index::default()),
        Err(error) => return Err(failed(error)),
    };
    let mut bytes = Vec::new();
    let found = file.read_to_end(&mut bytes).map_err(failed)? as u64;
    if found > MAX_STORE_INDEX_BYTES {
        return Err(StoreError::TooLarge {
            path: path.to_owned(),
            found,
            limit: MAX_STORE_INDEX_BYTES,
        });
    }
    serde_json::from_slice(&bytes).map_err(|source| StoreError::Index {
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const FOREIGN: &str = r#"{"schemaVersion":2,"x":[1],"manifests":[
        {"mediaType":"m","digest":"sha512:00","size":1,"annotations":{"org.opencontainers.image.ref.name":"quay.io/a:1"}},
        {"mediaType":"m","digest":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","size":2,
         "platform":{"os":"linux","architecture":"s390x","os.version":"1"},"annotations":{"k":"v"}},
        {"mediaType":"m","digest":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","size":3,
         "annotations":{"org.opencontainers.image.ref.name":"busybox"}}]}"#;

    #[test]
    fn names_move_and_the_rest_stays() {
        let mut index: Index = serde_json::from_str(FOREIGN).unwrap();
        let busybox: Reference = "docker.io/library/busybox:latest".parse().unwrap();
        assert_eq!(index.entries().len(), 2);
        assert!(index.name(&busybox, "m", Digest::of(b"new"), 9));
        assert!(!index.name(&busybox, "m", Digest::of(b"new"), 9));
        let text = serde_json::to_string(&index).unwrap();
        for kept in [
            r#""x":[1]"#,
            "sha512:00",
            "os.version",
            r#""k":"v""#,
            "docker.io/library/busybox:latest",
        ] {
            assert!(text.contains(kept), "{kept} in {text}");
        }
        let named: Vec<_> = index
            .entries()
            .into_iter()
            .filter(|entry| entry.reference.is_some())
            .collect();
        assert_eq!(named.len(), 1);
        assert_eq!((named[0].digest, named[0].size), (Digest::of(b"new"), 9));
        assert_eq!(
            serde_json::to_string(&serde_json::from_str::<Index>(&text).unwrap()).unwrap(),
            text
        );
    }

    #[test]
    fn damaged() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("index.json");
        assert!(read(&path).unwrap().entries().is_empty());
        for text in ["", "[]", "{}", r#"{"schemaVersion":2,"manifests":[1]}"#] {
            std::fs::write(&path, text).unwrap();
            assert!(
                matches!(read(&path), Err(StoreError::Index { .. })),
                "{text}"
            );
        }
        std::fs::write(&path, vec![b' '; MAX_STORE_INDEX_BYTES as usize + 1]).unwrap();
        assert!(matches!(read(&path), Err(StoreError::TooLarge { .. })));
    }
}
