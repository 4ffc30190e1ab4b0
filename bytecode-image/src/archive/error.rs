use std::io;
use std::path::PathBuf;

use crate::digest::Digest;
use crate::manifest::ManifestError;
use crate::platform::Platform;
use crate::pull::PullError;
use crate::reference::Reference;
use crate::store::StoreError;

/// Why an archive cannot be made or used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ArchiveError {
    /// The file cannot be read.
    #[error("cannot read the archive {}", .file.display())]
    Read {
        /// The archive.
        file: PathBuf,
        /// What the system, or the reader of tar, said.
        #[source]
        source: io::Error,
    },
    /// The file cannot be written. What was there under its name is as it was.
    #[error("cannot write the archive {}", .file.display())]
    Write {
        /// The archive.
        file: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Something else than a file is there.
    #[error("cannot write the archive {}: expected a file or nothing there, found {found}", .file.display())]
    NotAFile {
        /// The archive.
        file: PathBuf,
        /// What is there.
        found: &'static str,
    },
    /// In the store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The store does not have the platform, or not all of it.
    #[error("image {reference} is not in the store for {wanted}; it is there for {}", listed(.held))]
    NotHeld {
        /// What was asked for.
        reference: Box<Reference>,
        /// The platform asked for, or `any platform`.
        wanted: String,
        /// Platforms that the store has.
        held: Vec<Platform>,
    },
    /// An archive compressed by something else than gzip or zstd.
    #[error("{} is compressed by {packing}: expected a tar, plain or compressed by gzip or zstd", .file.display())]
    Compressed {
        /// The archive.
        file: PathBuf,
        /// Name of the format.
        packing: &'static str,
    },
    /// Neither a file nor a folder.
    #[error("{} is {found}: expected a file or a folder", .file.display())]
    NotAnArchive {
        /// What was named.
        file: PathBuf,
        /// What it is.
        found: &'static str,
    },
    /// A stream or a compressed file that does not end.
    #[error("{} has more than the {limit} bytes that are read of a stream or a compressed archive", .file.display())]
    Endless {
        /// The archive.
        file: PathBuf,
        /// The cap.
        limit: u64,
    },
    /// No image layout.
    #[error("{} is not an OCI archive: it has no {missing}", .file.display())]
    NotALayout {
        /// The archive.
        file: PathBuf,
        /// `oci-layout` or `index.json`.
        missing: &'static str,
    },
    /// A document or layer over its cap.
    #[error("{part} in the archive has more than the {limit} bytes that are read")]
    PartTooLarge {
        /// Its path in the archive.
        part: String,
        /// The cap.
        limit: u64,
    },
    /// A file that `manifest.json` names is not there.
    #[error("image {name} in the archive is incomplete: {path} is not there")]
    MissingFile {
        /// The image.
        name: String,
        /// Path in the archive.
        path: String,
    },
    /// Several images where one is to get a name.
    #[error("the archive {} has {found} images: one name fits only one", .file.display())]
    SeveralImages {
        /// The archive.
        file: PathBuf,
        /// How many.
        found: usize,
    },
    /// A file of the layout that says something else than it should.
    #[error("{} in the archive {} cannot be read", .part, .file.display())]
    Part {
        /// The archive.
        file: PathBuf,
        /// `oci-layout` or `index.json`.
        part: &'static str,
        /// Where and why.
        #[source]
        source: serde_json::Error,
    },
    /// A layout of another generation.
    #[error("the archive {} is an image layout of version `{found}`: expected 1.0.0", .file.display())]
    Version {
        /// The archive.
        file: PathBuf,
        /// What it says.
        found: String,
    },
    /// Too many files.
    #[error("the archive {} has more than {limit} files", .file.display())]
    TooMany {
        /// The archive.
        file: PathBuf,
        /// The cap.
        limit: usize,
    },
    /// Something said about an image, such as its signatures, that leads to too many documents.
    #[error("{name} in the archive, which is about an image, leads to more than {limit} documents")]
    TooManyDocuments {
        /// Its name.
        name: String,
        /// The cap.
        limit: usize,
    },
    /// A link, device or sparse file.
    #[error("the archive {} has `{path}`, which is neither a file nor a folder", .file.display())]
    Kind {
        /// The archive.
        file: PathBuf,
        /// Path in the archive.
        path: String,
    },
    /// No entry that has a name.
    #[error("the archive {} names no image; it has {unnamed} without a name", .file.display())]
    NoName {
        /// The archive.
        file: PathBuf,
        /// Images without a name.
        unnamed: usize,
    },
    /// A blob that an image needs is not there.
    #[error("image {name} in the archive is incomplete: blob {digest} is not there")]
    Missing {
        /// The image.
        name: String,
        /// The blob.
        digest: Digest,
    },
    /// A blob over the cap of its kind.
    #[error(
        "image {name} in the archive: blob {digest} has {found} bytes: at most {limit} are read"
    )]
    TooLarge {
        /// The image.
        name: String,
        /// The blob.
        digest: Digest,
        /// Bytes found.
        found: u64,
        /// The cap.
        limit: u64,
    },
    /// A blob with other content than its name says.
    #[error(
        "image {name} in the archive is damaged: the content of blob {digest} has digest {found}"
    )]
    Damaged {
        /// The image.
        name: String,
        /// The blob's name.
        digest: Digest,
        /// The digest of its content.
        found: Digest,
    },
    /// A manifest or index that is refused.
    #[error("image {name} in the archive is refused")]
    Manifest {
        /// The image.
        name: String,
        /// What is wrong with it.
        #[source]
        source: ManifestError,
    },
    /// An image that is refused as one from a registry would be.
    #[error("in the archive {}", .file.display())]
    Refused {
        /// The archive.
        file: PathBuf,
        /// Which image, and why.
        #[source]
        source: Box<PullError>,
    },
}

fn listed(platforms: &[Platform]) -> String {
    if platforms.is_empty() {
        return "none".to_owned();
    }
    let names: Vec<_> = platforms.iter().map(ToString::to_string).collect();
    names.join(", ")
}

impl ArchiveError {
    /// What to do, where that is known.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Store(error) => return error.hint(),
            Self::Refused { source, .. } => return source.hint(),
            Self::NotHeld { held, .. } if held.is_empty() => {
                "pull it first".to_owned()
            }
            Self::NotHeld { wanted, .. } => format!(
                "pull it with --platform {wanted} first, or export every platform that the store has with --all-platforms"
            ),
            Self::NotAFile { found, .. } => match *found {
                "a folder" => "name a file in it".to_owned(),
                _ => "an archive is written beside its name and renamed when it is whole: name a file, and copy it on from there"
                    .to_owned(),
            },
            Self::Compressed { packing, .. } => {
                format!("pipe it through the decompressor: `{packing} -dc FILE | bpfman image import -`")
            }
            Self::NotAnArchive { .. } => "`-` reads standard input: `… | bpfman image import -`".to_owned(),
            Self::NotALayout { .. } => {
                "expected what `bpfman image export`, `docker save`, `podman save` or `skopeo copy … oci-archive:FILE:NAME` writes".to_owned()
            }
            Self::NoName { .. } => {
                "give it one with --tag, or when the archive is made: `skopeo copy … oci-archive:FILE:NAME`".to_owned()
            }
            Self::SeveralImages { .. } => "import it without --tag: each image keeps its own name".to_owned(),
            Self::Missing { .. } | Self::MissingFile { .. } | Self::Damaged { .. } => {
                "make the archive again; the store is as it was".to_owned()
            }
            Self::Write { source, .. } if source.kind() == io::ErrorKind::StorageFull => {
                "make room on the disk".to_owned()
            }
            _ => return None,
        })
    }
}
