//! Any bytes as what a reference names, as the index that is chosen from, and as an image's configuration.
#![no_main]

use bytecode_image::digest::VerifiedBytes;
use bytecode_image::labels::Labels;
use bytecode_image::limits::{MAX_CONFIG_BYTES, MAX_LAYER_BYTES, MAX_MANIFEST_BYTES};
use bytecode_image::manifest::{Document, ImageConfig, MEDIA_TYPES, parse};
use bytecode_image::platform::Platform;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let bytes = &VerifiedBytes::hash(bytes.to_vec());
    for outside in [None].into_iter().chain(MEDIA_TYPES.map(Some)) {
        let Ok((document, media_type)) = parse(bytes, outside) else {
            continue;
        };
        assert!(MEDIA_TYPES.contains(&media_type.as_str()));
        assert!(outside.is_none_or(|outside| outside == media_type));
        match document {
            Document::Image(image) => {
                assert!(image.config.size <= MAX_CONFIG_BYTES);
                assert!(image.layer.size <= MAX_LAYER_BYTES);
            }
            Document::Index(index) => {
                assert!(index.images().count() <= index.manifests.len());
                for wanted in ["linux/amd64", "linux/arm/v7", "linux/s390x"] {
                    let wanted: Platform = wanted.parse().expect("a platform");
                    let Ok(chosen) = index.choose(&wanted) else {
                        continue;
                    };
                    assert!(index.manifests.contains(chosen));
                    assert!(chosen.size <= MAX_MANIFEST_BYTES);
                    let offered = chosen.platform();
                    assert!(offered.is_none_or(|offered| wanted.distance(&offered).is_some()));
                }
            }
        }
    }
    if let Ok(config) = ImageConfig::parse(bytes) {
        let _ = Labels::from_config_labels(&config.labels);
    }
});
