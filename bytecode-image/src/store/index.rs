use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::time::Duration;

use serde::de::{DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::{RawValue, to_raw_value};

use crate::digest::Digest;
use crate::folder::Folder;
use crate::limits::MAX_STORE_INDEX_BYTES;
use crate::platform::Platform;
use crate::reference::Reference;
use crate::store::links::Descriptor;
use crate::store::{INDEX, Named, StoreAction, StoreError};

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

/// Most entries of an `index.json`, what [`MAX_STORE_INDEX_BYTES`] has room for, and most other fields. With them an index
/// takes some three times its length of memory.
const MAX_ENTRIES: usize = 40_000;
const MAX_OTHER_FIELDS: usize = 64;

/// `index.json`. What other tools wrote into it is kept as it is, known here or not: as text, so that what nobody
/// vouches for takes no more memory than it has bytes.
#[derive(Debug)]
pub(crate) struct Index {
    schema_version: u32,
    manifests: Vec<Box<RawValue>>,
    other: BTreeMap<String, Box<RawValue>>,
}

impl Default for Index {
    fn default() -> Self {
        let media_type = oci_client::manifest::OCI_IMAGE_INDEX_MEDIA_TYPE;
        let media_type = to_raw_value(media_type).map(|text| ("mediaType".to_owned(), text));
        Self {
            schema_version: 2,
            manifests: Vec::new(),
            other: media_type.into_iter().collect(),
        }
    }
}

impl Serialize for Index {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("schemaVersion", &self.schema_version)?;
        map.serialize_entry("manifests", &self.manifests)?;
        for (key, value) in &self.other {
            map.serialize_entry(key, value)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Index {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Fields)
    }
}

/// Reads an index field by field.
struct Fields;

impl<'de> Visitor<'de> for Fields {
    type Value = Index;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the index of an image layout")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Index, A::Error> {
        let (mut schema_version, mut manifests) = (None, None);
        let mut other = BTreeMap::new();
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "schemaVersion" if schema_version.is_some() => {
                    return Err(A::Error::duplicate_field("schemaVersion"));
                }
                "schemaVersion" => schema_version = Some(map.next_value()?),
                "manifests" if manifests.is_some() => {
                    return Err(A::Error::duplicate_field("manifests"));
                }
                "manifests" => manifests = Some(map.next_value_seed(Entries)?),
                _ if other.len() >= MAX_OTHER_FIELDS => {
                    return Err(A::Error::custom(format_args!(
                        "more than {MAX_OTHER_FIELDS} fields"
                    )));
                }
                _ => {
                    other.insert(key, map.next_value()?);
                }
            }
        }
        Ok(Index {
            schema_version: schema_version
                .ok_or_else(|| A::Error::missing_field("schemaVersion"))?,
            manifests: manifests.unwrap_or_default(),
            other,
        })
    }
}

/// Reads the entries of an index, each an object.
struct Entries;

impl<'de> DeserializeSeed<'de> for Entries {
    type Value = Vec<Box<RawValue>>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Entries {
    type Value = Vec<Box<RawValue>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of descriptors")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = list.next_element::<Box<RawValue>>()? {
            if !entry.get().starts_with('{') {
                return Err(A::Error::custom("an entry that is no descriptor"));
            }
            if entries.len() >= MAX_ENTRIES {
                return Err(A::Error::custom(format_args!(
                    "more than {MAX_ENTRIES} entries"
                )));
            }
            entries.push(entry);
        }
        Ok(entries)
    }
}

impl Index {
    /// The entries that are read: those of other digests than sha256 are not.
    pub(crate) fn entries(&self) -> Vec<Entry> {
        self.manifests
            .iter()
            .filter_map(|found| entry(found))
            .collect()
    }

    /// The digests of all entries, those without a usable media type or size too: what must stay in the store.
    pub(super) fn roots(&self) -> impl Iterator<Item = Digest> {
        self.manifests
            .iter()
            .filter_map(|found| Descriptor::digest(found))
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
            .filter_map(|found| entry(found))
            .filter(|entry| entry.reference.as_ref() == Some(reference));
        if let (Some(entry), None) = (found.next(), found.next())
            && (entry.digest, entry.size, entry.media_type.as_str()) == (digest, size, media_type)
        {
            return false;
        }
        self.manifests.retain(|found| {
            entry(found).is_none_or(|entry| entry.reference.as_ref() != Some(reference))
        });
        let written = to_raw_value(&WrittenEntry {
            media_type,
            digest,
            size,
            annotations: BTreeMap::from([(REFERENCE_ANNOTATION, reference.to_string())]),
            platform,
        });
        // Nothing of it cannot be written.
        self.manifests.extend(written);
        true
    }

    /// The entries in the order of their names: for a text that depends on nothing else.
    pub(crate) fn sort(&mut self) {
        self.manifests
            .sort_by_cached_key(|found| entry(found).map(|entry| (entry.name, entry.digest)));
    }
}

/// An entry as it is written.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct WrittenEntry<'a> {
    annotations: BTreeMap<&'static str, String>,
    digest: Digest,
    media_type: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    platform: Option<&'a Platform>,
    size: u64,
}

/// An entry as it is read.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawEntry<'a> {
    #[serde(borrow)]
    media_type: Cow<'a, str>,
    #[serde(borrow)]
    digest: Cow<'a, str>,
    size: u64,
    #[serde(borrow)]
    platform: Option<&'a RawValue>,
    #[serde(borrow)]
    annotations: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct RawAnnotations {
    #[serde(rename = "org.opencontainers.image.ref.name")]
    name: Option<String>,
    /// `docker save` since 25 and containerd: the whole name, beside the tag alone.
    #[serde(rename = "io.containerd.image.name")]
    whole_name: Option<String>,
}

fn entry(found: &RawValue) -> Option<Entry> {
    let raw: RawEntry<'_> = serde_json::from_str(found.get()).ok()?;
    // What says nothing about name or platform is an entry all the same.
    let name = raw
        .annotations
        .and_then(|annotations| serde_json::from_str(annotations.get()).ok())
        .and_then(|RawAnnotations { name, whole_name }| whole_name.or(name));
    Some(Entry {
        reference: name.as_ref().and_then(|name| name.parse().ok()),
        name,
        media_type: raw.media_type.into_owned(),
        digest: Digest::parse(&raw.digest).ok()?,
        size: raw.size,
        platform: raw
            .platform
            .and_then(|platform| serde_json::from_str(platform.get()).ok()),
    })
}

/// How long an index that is none is looked at again, because another tool may be just writing it in place: half a second
/// in all, with pauses that grow from this one.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
const MAX_LOOKS: u32 = 10;

/// Reads the index in the folder of a store; one that does not exist is empty.
pub(super) fn read(store: Option<&Folder>) -> Result<Index, StoreError> {
    read_bytes(store).map(|(index, _)| index)
}

/// Reads an index, and gives its bytes too, if it exists.
pub(super) fn read_bytes(store: Option<&Folder>) -> Result<(Index, Option<Vec<u8>>), StoreError> {
    let Some(folder) = store else {
        return Ok((Index::default(), None));
    };
    let mut look = 1;
    loop {
        let Some(bytes) = bytes(folder)? else {
            return Ok((Index::default(), None));
        };
        match parse(&bytes) {
            Ok(index) => return Ok((index, Some(bytes))),
            Err(source) if look == MAX_LOOKS => {
                return Err(StoreError::Index {
                    path: folder.join(INDEX),
                    source,
                });
            }
            Err(_) => std::thread::sleep(FIRST_PAUSE * (1 << (look - 1))),
        }
        look += 1;
    }
}

fn bytes(folder: &Folder) -> Result<Option<Vec<u8>>, StoreError> {
    folder
        .read(INDEX, MAX_STORE_INDEX_BYTES)
        .map_err(|source| match source.kind() {
            io::ErrorKind::FileTooLarge => StoreError::TooLarge {
                path: folder.join(INDEX),
                found: folder.length(INDEX).ok().flatten().unwrap_or(0),
                limit: MAX_STORE_INDEX_BYTES,
            },
            _ => StoreError::io(StoreAction::Read, &folder.join(INDEX), source),
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
        let folder = Folder::open(dir.path()).unwrap();
        let read = || read(Some(&folder));
        assert!(read().unwrap().entries().is_empty());
        for text in ["", "[]", "{}", r#"{"schemaVersion":2,"manifests":[1]}"#] {
            std::fs::write(&path, text).unwrap();
            assert!(matches!(read(), Err(StoreError::Index { .. })), "{text}");
        }
        std::fs::write(&path, vec![b' '; MAX_STORE_INDEX_BYTES as usize + 1]).unwrap();
        assert!(matches!(read(), Err(StoreError::TooLarge { .. })));
    }

    /// 16 MiB of small values would be hundreds of MiB as values.
    #[test]
    fn what_nobody_vouches_for_has_its_limits() {
        let read = |text: &str| parse(text.as_bytes()).map_err(|error| error.to_string());
        let many = |element: &str, count: usize| {
            format!(
                r#"{{"schemaVersion":2,"manifests":[{}]}}"#,
                vec![element; count].join(",")
            )
        };
        assert!(read(&many("{}", MAX_ENTRIES)).is_ok());
        let cases = [
            (many("{}", MAX_ENTRIES + 1), "more than 40000 entries"),
            (many("1", 8 << 20), "an entry that is no descriptor"),
            (
                r#"{"schemaVersion":2,"manifests":[],"manifests":[]}"#.to_owned(),
                "duplicate field",
            ),
            (
                format!(
                    r#"{{"schemaVersion":2{}}}"#,
                    (0..=MAX_OTHER_FIELDS)
                        .map(|n| format!(r#","{n}":0"#))
                        .collect::<String>()
                ),
                "more than 64 fields",
            ),
        ];
        for (text, expected) in cases {
            let error = read(&text).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }
}
