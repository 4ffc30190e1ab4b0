//! Manifests and indexes (OCI image-spec 1.1, Docker image manifest v2 schema 2): read tolerantly, refused precisely.

/// Why a document is not a manifest that is used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ManifestError {
    /// Not JSON, or without what a manifest must have.
    #[error("not a manifest")]
    Json(#[source] serde_json::Error),
}
