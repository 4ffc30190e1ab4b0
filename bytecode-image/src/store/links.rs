//! What manifests and indexes lead to.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::digest::Digest;

/// What a document leads to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Links {
    /// Other documents: `manifests`.
    pub(crate) documents: Vec<Digest>,
    /// Contents: `config`, `layers` and `blobs`.
    pub(crate) contents: Vec<Digest>,
    /// What it is about. Nobody needs an image because something is said about it.
    pub(crate) subject: Option<Digest>,
}

impl Links {
    /// Of any manifest or index (image-spec, manifest.md, image-index.md; artifacts too). What is no document leads
    /// nowhere.
    ///
    /// Nobody vouches for the bytes: what is of no use here is passed over as text and costs no memory.
    pub(crate) fn of(bytes: &[u8]) -> Self {
        let mut links = Self::default();
        // What a document that breaks off led to until then is not less needed.
        let _ = serde_json::Deserializer::from_slice(bytes).deserialize_map(Document(&mut links));
        links
    }
}

/// A descriptor, of which nothing else is read.
#[derive(Deserialize)]
pub(super) struct Descriptor<'a> {
    #[serde(borrow)]
    digest: Cow<'a, str>,
}

impl Descriptor<'_> {
    /// The sha256 of what may be a descriptor.
    pub(super) fn digest(raw: &RawValue) -> Option<Digest> {
        let descriptor: Descriptor<'_> = serde_json::from_str(raw.get()).ok()?;
        Digest::parse(&descriptor.digest).ok()
    }
}

/// Reads a document's links out of it.
struct Document<'a>(&'a mut Links);

impl<'de> Visitor<'de> for Document<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a manifest or an index")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<Cow<'_, str>>()? {
            let value: &RawValue = map.next_value()?;
            let many = |digests: &mut Vec<Digest>| {
                let mut reader = serde_json::Deserializer::from_str(value.get());
                let _ = reader.deserialize_seq(Descriptors(digests));
            };
            match key.as_ref() {
                "manifests" => many(&mut self.0.documents),
                "layers" | "blobs" => many(&mut self.0.contents),
                "config" => self.0.contents.extend(Descriptor::digest(value)),
                "subject" => self.0.subject = Descriptor::digest(value),
                _ => {}
            }
        }
        Ok(())
    }
}

/// Reads the digests out of a list, whatever else is in it.
struct Descriptors<'a>(&'a mut Vec<Digest>);

impl<'de> Visitor<'de> for Descriptors<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of descriptors")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while let Some(element) = list.next_element()? {
            self.0.extend(Descriptor::digest(element));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_documents_lead() {
        let digest = |text: &str| Digest::of(text.as_bytes());
        let descriptor = |text: &str| format!(r#"{{"digest":"{}"}}"#, digest(text));
        let image = format!(
            r#"{{"config":{},"layers":[{},{{"digest":"sha512:0"}},1],"subject":{}}}"#,
            descriptor("c"),
            descriptor("l"),
            descriptor("s")
        );
        let index = format!(r#"{{"manifests":[{},{{}}]}}"#, descriptor("m"));
        let artifact = format!(r#"{{"blobs":[{}],"subject":null}}"#, descriptor("b"));
        let links = |text: &str| Links::of(text.as_bytes());
        assert_eq!(links(&image).documents, []);
        assert_eq!(links(&image).subject, Some(digest("s")));
        assert_eq!(links(&image).contents, [digest("c"), digest("l")]);
        assert_eq!(links(&index).documents, [digest("m")]);
        assert_eq!(links(&artifact).contents, [digest("b")]);
        for text in ["", "[]", "1", r#"{"layers":{}}"#] {
            assert_eq!(links(text), Links::default(), "{text}");
        }
        // What is not understood hides nothing of the rest.
        let odd = format!(
            r#"{{"manifests":[1,[[]],{},{{"digest":7}}],"config":3,"layers":"x","blobs":[{}],"#,
            descriptor("m"),
            descriptor("b")
        );
        assert_eq!(links(&odd).documents, [digest("m")]);
        assert_eq!(links(&odd).contents, [digest("b")]);
    }
}
