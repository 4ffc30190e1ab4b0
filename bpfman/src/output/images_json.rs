//! Images of the store, as JSON.

use std::collections::BTreeMap;

use bytecode_image::store::{State, StoredImage, StoredPlatform};
use serde::Serialize;

#[derive(Debug, Serialize)]
pub(super) struct StoredImageJson<'a> {
    image: Option<&'a str>,
    digest: String,
    media_type: &'a str,
    platforms: Vec<StoredPlatformJson<'a>>,
    signatures: Vec<SignatureJson<'a>>,
    /// Signatures are not looked at yet.
    verified: Option<()>,
}

impl<'a> From<&'a StoredImage> for StoredImageJson<'a> {
    fn from(image: &'a StoredImage) -> Self {
        Self {
            image: image.entry.name.as_deref(),
            digest: image.entry.digest.to_string(),
            media_type: &image.entry.media_type,
            platforms: image
                .platforms
                .iter()
                .map(StoredPlatformJson::from)
                .collect(),
            signatures: image
                .about
                .iter()
                .map(|entry| SignatureJson {
                    image: entry.name.as_deref(),
                    digest: entry.digest.to_string(),
                })
                .collect(),
            verified: None,
        }
    }
}

#[derive(Debug, Serialize)]
struct SignatureJson<'a> {
    image: Option<&'a str>,
    digest: String,
}

#[derive(Debug, Serialize)]
struct StoredPlatformJson<'a> {
    platform: Option<String>,
    manifest_digest: String,
    state: &'static str,
    problem: Option<&'a str>,
    config_digest: Option<String>,
    layer_digest: Option<String>,
    layer_media_type: Option<&'a str>,
    size: Option<u64>,
    programs: Option<&'a BTreeMap<String, String>>,
    maps: Option<&'a BTreeMap<String, String>>,
    labels: Option<&'a BTreeMap<String, String>>,
}

impl<'a> From<&'a StoredPlatform> for StoredPlatformJson<'a> {
    fn from(found: &'a StoredPlatform) -> Self {
        let (state, problem) = match &found.state {
            State::Whole(_) => ("whole", None),
            State::Absent => ("absent", None),
            State::Unusable(why) => ("unusable", Some(why.as_str())),
        };
        let held = found.held();
        Self {
            platform: found.platform.as_ref().map(ToString::to_string),
            manifest_digest: found.manifest.to_string(),
            state,
            problem,
            config_digest: held.map(|held| held.config.digest.to_string()),
            layer_digest: held.map(|held| held.layer.digest.to_string()),
            layer_media_type: held.map(|held| held.layer.media_type.as_str()),
            size: found.size(),
            programs: held.map(|held| &held.labels.programs),
            maps: held.map(|held| &held.labels.maps),
            labels: held.map(|held| &held.config_labels),
        }
    }
}
