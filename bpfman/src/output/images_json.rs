//! Images of the store, as JSON.

use std::collections::BTreeMap;
use std::time::SystemTime;

use bytecode_image::store::{Admission, State, StoredPlatform};
use serde::Serialize;

use super::images::Shown;
use super::proof::{ClaimJson, ProofJson};
use super::time;

#[derive(Debug, Serialize)]
pub(super) struct StoredImageJson<'a> {
    image: Option<&'a str>,
    digest: String,
    media_type: &'a str,
    platforms: Vec<StoredPlatformJson<'a>>,
    signatures: Vec<ClaimJson>,
}

impl<'a> From<&'a Shown<'a>> for StoredImageJson<'a> {
    fn from(shown: &'a Shown<'a>) -> Self {
        let image = shown.image;
        Self {
            image: image.entry.name.as_deref(),
            digest: image.entry.digest.to_string(),
            media_type: &image.entry.media_type,
            platforms: shown.platforms().map(StoredPlatformJson::from).collect(),
            signatures: shown.signatures.iter().map(ClaimJson::from).collect(),
        }
    }
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
    verified: Option<VerifiedJson<'a>>,
}

/// What was proven when the platform was admitted.
#[derive(Debug, Serialize)]
struct VerifiedJson<'a> {
    admitted_at: Option<String>,
    #[serde(flatten)]
    proof: ProofJson<'a>,
}

impl<'a> From<(&'a StoredPlatform, Option<&'a Admission>)> for StoredPlatformJson<'a> {
    fn from((found, admission): (&'a StoredPlatform, Option<&'a Admission>)) -> Self {
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
            verified: admission.map(|admission| VerifiedJson {
                admitted_at: time::rfc3339(SystemTime::from(admission.at)),
                proof: ProofJson::from(&admission.proof),
            }),
        }
    }
}
