//! The image of several architectures: one image each, and an index over them. Pure.

use std::collections::BTreeMap;

use bytecode_image::digest::Digest;
use bytecode_image::limits::MAX_MANIFEST_BYTES;
use bytecode_image::registry::push;
use oci_spec::image::{
    Arch, Descriptor, ImageIndexBuilder, MediaType, Os, PlatformBuilder, SCHEMA_VERSION,
};

use crate::Architecture;
use crate::image::{ImageError, PackedLayers, Unpacked, descriptor, some, sorted, within};

/// Everything that one name stands for: one image, or an index and its images.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Packed {
    /// One an architecture, ordered by it.
    pub(crate) images: Vec<push::Image>,
    /// Over the images, where there are several.
    pub(crate) index: Option<Vec<u8>>,
}

impl Packed {
    /// Packs images: one stays one, of several the index is written. Annotations stand on every manifest and on the
    /// index, so that they are found by whoever starts at either.
    pub(crate) fn of(
        images: Vec<(Architecture, Unpacked)>,
        annotations: &BTreeMap<String, String>,
    ) -> Result<Self, ImageError> {
        let mut layers = PackedLayers::default();
        let mut packed = Vec::with_capacity(images.len());
        let mut descriptors = Vec::with_capacity(images.len());
        for (architecture, image) in images {
            let image = image.pack(annotations, &mut layers)?;
            descriptors.push(of_platform(architecture, &image.manifest)?);
            packed.push(image);
        }
        let index = if packed.len() == 1 {
            None
        } else {
            let mut index = ImageIndexBuilder::default()
                .schema_version(SCHEMA_VERSION)
                .media_type(MediaType::ImageIndex)
                .manifests(descriptors)
                .build()?;
            index.set_annotations(some(annotations));
            let index = sorted(&index)?;
            within("index", &index, MAX_MANIFEST_BYTES)?;
            Some(index)
        };
        Ok(Self {
            images: packed,
            index,
        })
    }

    /// What the name stands for: the index, or the only manifest.
    pub(crate) fn top(&self) -> Result<(MediaType, &[u8]), ImageError> {
        match (&self.index, self.images.as_slice()) {
            (Some(index), _) => Ok((MediaType::ImageIndex, index)),
            (None, [image]) => Ok((MediaType::ImageManifest, &image.manifest)),
            (None, images) => Err(ImageError::Images {
                found: images.len(),
            }),
        }
    }

    /// Digest of what the name stands for.
    pub(crate) fn digest(&self) -> Result<Digest, ImageError> {
        Ok(Digest::of(self.top()?.1))
    }
}

fn of_platform(architecture: Architecture, manifest: &[u8]) -> Result<Descriptor, ImageError> {
    let mut descriptor = descriptor(MediaType::ImageManifest, manifest)?;
    let platform = PlatformBuilder::default()
        .os(Os::Linux)
        .architecture(Arch::from(architecture.goarch()))
        .build()?;
    descriptor.set_platform(Some(platform));
    Ok(descriptor)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use bytecode_image::platform::Platform;

    use super::*;
    use crate::image::Labels;

    fn packed(architectures: &[Architecture], annotations: &BTreeMap<String, String>) -> Packed {
        let labels = Labels {
            programs: r#"{"pass":"xdp"}"#,
            maps: "{}",
        };
        let images = architectures.iter().map(|&architecture| {
            let platform = Platform::from(architecture);
            let image = Unpacked::new(Path::new("pass.o"), b"object", labels, &platform, "0");
            (architecture, image.unwrap())
        });
        Packed::of(images.collect(), annotations).unwrap()
    }

    #[test]
    fn one_image_has_no_index() {
        let packed = packed(&[Architecture::S390x], &BTreeMap::new());
        assert_eq!(packed.index, None);
        assert_eq!(
            packed.digest().unwrap(),
            Digest::of(&packed.images[0].manifest)
        );
    }

    #[test]
    fn an_index_names_every_image() {
        let annotations = BTreeMap::from([("k".to_owned(), "v".to_owned())]);
        let packed = packed(&Architecture::ALL, &annotations);
        let index: serde_json::Value =
            serde_json::from_slice(packed.index.as_ref().unwrap()).unwrap();
        assert_eq!(index["annotations"]["k"], "v");
        assert_eq!(
            index["mediaType"],
            "application/vnd.oci.image.index.v1+json"
        );
        let manifests = index["manifests"].as_array().unwrap();
        assert_eq!(manifests.len(), 13);
        for ((architecture, image), found) in
            Architecture::ALL.iter().zip(&packed.images).zip(manifests)
        {
            let expected = serde_json::json!({
                "mediaType": "application/vnd.oci.image.manifest.v1+json",
                "digest": Digest::of(&image.manifest).to_string(),
                "size": image.manifest.len(),
                "platform": { "architecture": architecture.goarch(), "os": "linux" },
            });
            assert_eq!(*found, expected);
        }
    }
}
