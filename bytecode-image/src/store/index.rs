use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::digest::Digest;
use crate::limits::MAX_STORE_INDEX_BYTES;
use crate::platform::Platform;
use crate::reference::Reference;
use crate::store::{Named, StoreAction, StoreError};

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
    /// What it is for, where the index says so: of one image, never of an index.
    pub platform: Option<Platform>,
}

impl Entry {
    /// The manifest or index that this one only says something about, by the tags of signing tools: `sha256-<hex>` with
    /// or without `.sig`, `.att`, `.sbom`. Such an entry is kept, exported and removed with what it is about.
    pub fn about(&self) -> Option<Digest> {
        let tag = self.reference.as_ref()?.tag()?.strip_prefix("sha256-")?;
        let hex = [".sig", ".att", ".sbom"]
            .into_iter()
            .find_map(|end| tag.strip_suffix(end))
            .unwrap_or(tag);
        Digest::parse(&format!("sha256:{hex}")).ok()
    }
}

/// `index.json`. What other tools wrote into it is kept as it is, known here or not.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Index {
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
    pub(crate) fn entries(&self) -> Vec<Entry> {
        self.manifests.iter().filter_map(entry).collect()
    }

    /// The digests of all entries, those without a usable media type or size too: what must stay in the store.
    pub(super) fn roots(&self) -> impl Iterator<Item = Digest> {
        self.manifests
            .iter()
            .filter_map(|found| Digest::parse(found.get("digest")?.as_str()?).ok())
    }

    /// Takes away the entries that are to go. Entries that cannot be read stay.
    pub(super) fn remove(&mut self, goes: impl Fn(&Entry) -> bool) -> Vec<Entry> {
        let mut removed = Vec::new();
        self.manifests.retain(|found| match entry(found) {
            Some(entry) if goes(&entry) => {
                removed.push(entry);
                false
            }
            _ => true,
        });
        removed
    }

    /// Lets a reference name something. `false` when it named just that already.
    pub(crate) fn name(&mut self, named: &Named<'_>) -> bool {
        let Named {
            reference,
            media_type,
            digest,
            size,
            platform,
        } = *named;
        let mut found = self
            .manifests
            .iter()
            .filter_map(entry)
            .filter(|entry| entry.reference.as_ref() == Some(reference));
        if let (Some(entry), None) = (found.next(), found.next())
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
        let mut entry = Map::from_iter([
            ("mediaType".to_owned(), Value::from(media_type)),
            ("digest".to_owned(), Value::from(digest.to_string())),
            ("size".to_owned(), Value::from(size)),
            ("annotations".to_owned(), Value::from(annotations)),
        ]);
        if let Some(platform) = platform.and_then(|platform| serde_json::to_value(platform).ok()) {
            entry.insert("platform".to_owned(), platform);
        }
        self.manifests.push(entry);
        true
    }

    /// The entries in the order of their names: for a text that depends on nothing else.
    pub(crate) fn sort(&mut self) {
        self.manifests
            .sort_by_cached_key(|found| entry(found).map(|entry| (entry.name, entry.digest)));
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
        platform: found
            .get("platform")
            .and_then(|platform| Platform::deserialize(platform).ok()),
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
    parse(&bytes).map_err(|source| StoreError::Index {
        path: path.to_owned(),
        source,
    })
}

/// Reads the bytes of an index.
pub(crate) fn parse(bytes: &[u8]) -> Result<Index, serde_json::Error> {
    serde_json::from_slice(bytes)
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
        let platform = Platform::linux("s390x");
        let named = Named {
            reference: &busybox,
            media_type: "m",
            digest: Digest::of(b"new"),
            size: 9,
            platform: Some(&platform),
        };
        assert!(index.name(&named));
        assert!(!index.name(&named));
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
        assert_eq!(named[0].platform, Some(platform));
        assert_eq!(
            serde_json::to_string(&serde_json::from_str::<Index>(&text).unwrap()).unwrap(),
            text
        );
    }

    #[test]
    fn entries_go_and_what_cannot_be_read_stays() {
        let mut index: Index = serde_json::from_str(FOREIGN).unwrap();
        assert_eq!(index.roots().count(), 2);
        let removed = index.remove(|entry| entry.name.is_some());
        assert_eq!(removed.len(), 1);
        assert_eq!(removed[0].name.as_deref(), Some("busybox"));
        assert_eq!(index.remove(|_| true).len(), 1);
        assert!(serde_json::to_string(&index).unwrap().contains("sha512:00"));
    }

    #[test]
    fn what_an_entry_is_about() {
        let about = |name: &str| {
            Entry {
                name: None,
                reference: name.parse().ok(),
                media_type: "m".to_owned(),
                digest: Digest::of(b"x"),
                size: 1,
                platform: None,
            }
            .about()
        };
        let subject = Digest::of(b"image");
        let hex = subject.hex();
        for end in ["", ".sig", ".att", ".sbom"] {
            assert_eq!(
                about(&format!("quay.io/a:sha256-{hex}{end}")),
                Some(subject)
            );
        }
        for name in [
            "quay.io/a:v1".to_owned(),
            "quay.io/a:sha256-abc.sig".to_owned(),
            format!("quay.io/a:sha256-{hex}.x"),
            format!("quay.io/a@sha256:{hex}"),
        ] {
            assert_eq!(about(&name), None, "{name}");
        }
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
