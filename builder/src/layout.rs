//! A built image as files: an OCI image layout (image-spec 1.1, image-layout.md), as a folder or as one tar.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use bytecode_image::digest::Digest;
use bytecode_image::reference::Reference;
use bytecode_image::store::REFERENCE_ANNOTATION;
use oci_spec::image::{ImageIndex, ImageIndexBuilder, SCHEMA_VERSION};

use crate::image::{ImageError, descriptor, sorted};
use crate::index::Packed;

/// Where a built image is written to, beside or instead of a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// An OCI image layout in this folder. Other images in it stay.
    Layout(PathBuf),
    /// An OCI image layout in this tar file, which is replaced.
    Archive(PathBuf),
}

/// A word that is no output.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no output: expected oci:DIR or oci-archive:FILE")]
pub struct UnknownOutput(pub String);

/// Why an image was not written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OutputError {
    /// A file or folder.
    #[error("cannot write the image to {}", path.display())]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A folder that is used for something else.
    #[error("cannot write the image to {}: the folder is neither empty nor an OCI image layout", folder.display())]
    NotALayout {
        /// The folder.
        folder: PathBuf,
    },
    /// The index of a layout that is there.
    #[error("cannot add the image to {}: its index.json cannot be used", folder.display())]
    Index {
        /// The folder.
        folder: PathBuf,
        /// What is wrong with it.
        #[source]
        source: oci_spec::OciSpecError,
    },
}

impl TryFrom<&OsStr> for Output {
    type Error = UnknownOutput;

    /// Reads `oci:DIR` or `oci-archive:FILE`; paths are bytes.
    fn try_from(text: &OsStr) -> Result<Self, Self::Error> {
        let after = |prefix: &str| {
            let path = text.as_bytes().strip_prefix(prefix.as_bytes())?;
            (!path.is_empty()).then(|| PathBuf::from(OsStr::from_bytes(path)))
        };
        after("oci:")
            .map(Self::Layout)
            .or_else(|| after("oci-archive:").map(Self::Archive))
            .ok_or_else(|| UnknownOutput(text.to_string_lossy().into_owned()))
    }
}

/// Largest `index.json` that is added to, in bytes: 4 MiB, some ten thousand images.
const MAX_INDEX_BYTES: u64 = 4 << 20;

/// Files of a layout by their paths in it.
type Files = BTreeMap<String, Vec<u8>>;

/// Writes an image under the name of its reference. What is there stays whole until all of the new is there.
pub(crate) fn write(
    output: &Output,
    reference: &Reference,
    packed: &Packed,
) -> Result<(), crate::BuildError> {
    match output {
        Output::Layout(folder) => {
            // Whoever writes to the same folder waits: the index is read, then replaced.
            let lock = || {
                fs::create_dir_all(folder)?;
                let lock = File::open(folder)?;
                lock.lock()?;
                Ok(lock)
            };
            let lock = lock().map_err(written(folder))?;
            let index = others(folder, reference)?;
            let files = files(reference, packed, index)?;
            write_folder(folder, &files).map_err(written(folder))?;
            drop(lock);
            Ok(())
        }
        Output::Archive(file) => {
            let files = files(reference, packed, None)?;
            let replace = || replace(file, &tar(&files)?);
            Ok(replace().map_err(written(file))?)
        }
    }
}

fn written(path: &Path) -> impl FnOnce(io::Error) -> OutputError {
    let path = path.to_owned();
    |source| OutputError::Write { path, source }
}

/// Every file of a layout with this image, beside what the index names already.
fn files(
    reference: &Reference,
    packed: &Packed,
    others: Option<ImageIndex>,
) -> Result<Files, ImageError> {
    let mut files = Files::new();
    let mut add = |bytes: &[u8]| {
        let name = format!("blobs/sha256/{}", Digest::of(bytes).hex());
        files.insert(name, bytes.to_vec());
    };
    for image in &packed.images {
        add(&image.config);
        add(&image.manifest);
        for (_, layer) in &image.layers {
            add(layer);
        }
    }
    let (media_type, top) = packed.top()?;
    add(top);
    let mut named = descriptor(media_type, top)?;
    named.set_annotations(Some(
        [(REFERENCE_ANNOTATION.to_owned(), reference.to_string())].into(),
    ));
    let index = match others {
        Some(mut index) => {
            let mut manifests = index.manifests().clone();
            manifests.push(named);
            index.set_manifests(manifests);
            index
        }
        None => ImageIndexBuilder::default()
            .schema_version(SCHEMA_VERSION)
            .manifests(vec![named])
            .build()?,
    };
    files.insert("index.json".to_owned(), sorted(&index)?);
    files.insert(
        "oci-layout".to_owned(),
        br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec(),
    );
    Ok(files)
}

/// The index of a layout without what this reference named; `None` in an empty folder.
fn others(folder: &Path, reference: &Reference) -> Result<Option<ImageIndex>, OutputError> {
    let failed = written(folder);
    let index = folder.join("index.json");
    match fs::metadata(&index) {
        Ok(found) if found.len() <= MAX_INDEX_BYTES => {}
        Ok(_) => return Err(failed(io::ErrorKind::FileTooLarge.into())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return match fs::read_dir(folder) {
                Ok(mut entries) => match entries.next() {
                    None => Ok(None),
                    Some(_) => Err(OutputError::NotALayout {
                        folder: folder.to_owned(),
                    }),
                },
                Err(error) => Err(failed(error)),
            };
        }
        Err(error) => return Err(failed(error)),
    }
    let mut index = ImageIndex::from_file(&index).map_err(|source| OutputError::Index {
        folder: folder.to_owned(),
        source,
    })?;
    let name = reference.to_string();
    let mut others = index.manifests().clone();
    others.retain(|descriptor| {
        let annotations = descriptor.annotations().as_ref();
        annotations.and_then(|all| all.get(REFERENCE_ANNOTATION)) != Some(&name)
    });
    index.set_manifests(others);
    Ok(Some(index))
}

/// `index.json` is written last: it names nothing that is not there.
fn write_folder(folder: &Path, files: &Files) -> io::Result<()> {
    let blobs = folder.join("blobs/sha256");
    fs::create_dir_all(&blobs)?;
    let (last, first): (Vec<_>, Vec<_>) = files.iter().partition(|(name, _)| *name == "index.json");
    for (name, bytes) in first {
        replace(&folder.join(name), bytes)?;
    }
    // Also after the machine went down.
    File::open(&blobs)?.sync_all()?;
    for (name, bytes) in last {
        replace(&folder.join(name), bytes)?;
    }
    File::open(folder)?.sync_all()
}

/// Writes a file beside its place and moves it there. A device, a pipe or a symbolic link (`/dev/stdout`) is written to
/// as it is.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    if fs::symlink_metadata(path).is_ok_and(|found| !found.is_file()) {
        return fs::write(path, bytes);
    }
    let mut beside = path.as_os_str().to_owned();
    beside.push(format!(".{}.partial", std::process::id()));
    let write = || {
        let mut file = File::create(&beside)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&beside, path)
    };
    let done = write();
    if done.is_err() {
        // It is the error that matters.
        let _ = fs::remove_file(&beside);
    }
    done
}

/// The same bytes every time: sorted, of root, from 1970.
fn tar(files: &Files) -> io::Result<Vec<u8>> {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, bytes) in files {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(tar::EntryType::Regular);
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        archive.append_data(&mut header, name, bytes.as_slice())?;
    }
    archive.into_inner()
}

#[cfg(test)]
mod tests {
    use bytecode_image::platform::Platform;

    use super::*;
    use crate::Architecture;
    use crate::image::{Labels, Unpacked};

    fn image(object: &[u8], architectures: &[Architecture]) -> Packed {
        let labels = Labels {
            programs: "{}",
            maps: "{}",
        };
        let images = architectures.iter().map(|&architecture| {
            let platform = Platform::from(architecture);
            let image = Unpacked::new(Path::new("x.o"), object, labels, &platform, "0");
            (architecture, image.unwrap())
        });
        Packed::of(images.collect(), &BTreeMap::new()).unwrap()
    }

    fn write_to(output: &Output, name: &str, image: &Packed) -> Result<(), String> {
        write(output, &name.parse().unwrap(), image).map_err(|error| error.to_string())
    }

    /// Names and digests that the index of a layout has, and how many blobs lie there.
    fn named(folder: &Path) -> (Vec<(String, String)>, usize) {
        let index = ImageIndex::from_file(folder.join("index.json")).unwrap();
        let named = index.manifests().iter().map(|found| {
            let name = found.annotations().as_ref().unwrap()[REFERENCE_ANNOTATION].clone();
            (name, found.digest().to_string())
        });
        let blobs = fs::read_dir(folder.join("blobs/sha256")).unwrap().count();
        (named.collect(), blobs)
    }

    #[test]
    fn words() {
        let table = [
            ("oci:a:b", Some(Output::Layout("a:b".into()))),
            ("oci-archive:/x.tar", Some(Output::Archive("/x.tar".into()))),
            ("oci:", None),
            ("docker-archive:x", None),
            ("x", None),
        ];
        for (word, expected) in table {
            assert_eq!(Output::try_from(OsStr::new(word)).ok(), expected, "{word}");
        }
        let odd = OsStr::from_bytes(b"oci:\xff");
        let expected = Output::Layout(OsStr::from_bytes(b"\xff").into());
        assert_eq!(Output::try_from(odd), Ok(expected));
    }

    #[test]
    fn images_of_several_names_share_a_folder() {
        let place = tempfile::tempdir().unwrap();
        let folder = place.path().join("new/layout");
        let output = Output::Layout(folder.clone());
        let (first, second) = (
            image(b"1", &[Architecture::Amd64]),
            image(b"2", &[Architecture::Amd64, Architecture::S390x]),
        );
        let digest = |image: &Packed| image.digest().unwrap().to_string();
        let name = |name: &str| format!("127.0.0.1:5/{name}:1");
        write_to(&output, &name("x"), &first).unwrap();
        write_to(&output, &name("x"), &first).unwrap();
        assert_eq!(named(&folder), (vec![(name("x"), digest(&first))], 3));
        write_to(&output, &name("y"), &second).unwrap();
        let both = vec![(name("x"), digest(&first)), (name("y"), digest(&second))];
        // Layer, two configurations, two manifests and an index more.
        assert_eq!(named(&folder), (both, 9));
        write_to(&output, &name("x"), &second).unwrap();
        assert_eq!(named(&folder).0.last(), Some(&(name("x"), digest(&second))));
        assert_eq!(named(&folder).0.len(), 2);
    }

    #[test]
    fn what_an_index_says_of_itself_stays() {
        let place = tempfile::tempdir().unwrap();
        let file = place.path().join("index.json");
        let text = r#"{"schemaVersion":2,"manifests":[],"annotations":{"own":"x"},"mediaType":"application/vnd.oci.image.index.v1+json"}"#;
        fs::write(&file, text).unwrap();
        let output = Output::Layout(place.path().into());
        write_to(&output, "a.b/x:1", &image(b"1", &[Architecture::Amd64])).unwrap();
        let index = ImageIndex::from_file(&file).unwrap();
        assert_eq!(index.annotations().as_ref().unwrap()["own"], "x");
        assert!(index.media_type().is_some());
        assert_eq!(index.manifests().len(), 1);
    }

    #[test]
    fn builds_at_the_same_time_lose_no_name() {
        let place = tempfile::tempdir().unwrap();
        let output = Output::Layout(place.path().join("layout"));
        let images = 8;
        std::thread::scope(|scope| {
            for number in 0..images {
                let output = &output;
                scope.spawn(move || {
                    let image = image(&[number], &[Architecture::Amd64]);
                    write_to(output, &format!("a.b/x:{number}"), &image).unwrap();
                });
            }
        });
        let Output::Layout(folder) = output else {
            unreachable!()
        };
        assert_eq!(named(&folder).0.len(), usize::from(images));
    }

    #[test]
    fn archives_are_reproducible_and_replaced() {
        let place = tempfile::tempdir().unwrap();
        let file = place.path().join("image.tar");
        let output = Output::Archive(file.clone());
        let image = image(b"1", &[Architecture::Amd64]);
        fs::write(&file, "old").unwrap();
        write_to(&output, "127.0.0.1:5/x:1", &image).unwrap();
        let bytes = fs::read(&file).unwrap();
        write_to(&output, "127.0.0.1:5/x:1", &image).unwrap();
        assert_eq!(fs::read(&file).unwrap(), bytes);
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 1);
        let mut archive = tar::Archive::new(bytes.as_slice());
        let mut names: Vec<_> = archive
            .entries()
            .unwrap()
            .map(|entry| entry.unwrap().path().unwrap().into_owned())
            .collect();
        assert!(names.is_sorted());
        names.retain(|name| !name.starts_with("blobs"));
        assert_eq!(names, ["index.json", "oci-layout"].map(PathBuf::from));
    }

    #[test]
    fn what_is_something_else_stays() {
        let place = tempfile::tempdir().unwrap();
        let image = image(b"1", &[Architecture::Amd64]);
        fs::write(place.path().join("thesis.tex"), "").unwrap();
        let refused = write_to(&Output::Layout(place.path().into()), "a.b/x:1", &image);
        assert!(refused.unwrap_err().contains("neither empty nor"));
        fs::write(place.path().join("index.json"), "{").unwrap();
        let refused = write_to(&Output::Layout(place.path().into()), "a.b/x:1", &image);
        assert!(refused.unwrap_err().contains("its index.json cannot"));
        let missing = Output::Archive(place.path().join("no/such/file"));
        let refused = write_to(&missing, "a.b/x:1", &image);
        assert!(refused.unwrap_err().contains("no/such/file"));
    }
}
