//! What an engine is sent: a tar of the Containerfile and the object, and the build arguments. Pure.

use std::collections::HashMap;
use std::path::{Component, Path};

use crate::plan::{Arguments, BuildPlan, Object, PlanError};
use crate::{Architecture, build_args};

/// Name of the Containerfile in the context.
pub(super) const CONTAINER_FILE: &str = ".bpfman.Containerfile";

/// Where a file lies in the context. Paths below the working folder keep their folders; an engine takes nothing from
/// outside the context, so an absolute path loses its root and `..` goes.
fn place(path: &Path) -> Result<String, PlanError> {
    let mut parts = Vec::new();
    for component in path.components() {
        if let Component::Normal(part) = component {
            parts.push(build_args::text(part.as_ref())?);
        }
    }
    Ok(parts.join("/"))
}

/// The build arguments, with paths in the context.
///
/// `TARGETOS` and `TARGETARCH` choose the stage of a Containerfile for several architectures; engines set them only
/// when they know of platforms. Docker's classic builder runs every stage before the last one, the ones that are not
/// asked for too, and a `COPY` of an empty argument fails: so the other architectures' arguments name this file.
pub(super) fn arguments(
    plan: &BuildPlan,
    architecture: Architecture,
    object: &Object,
) -> Result<HashMap<String, String>, PlanError> {
    let place = place(&object.path)?;
    let mut arguments = HashMap::from(build_args::labels(plan));
    arguments.insert("TARGETOS".to_owned(), "linux".to_owned());
    arguments.insert("TARGETARCH".to_owned(), architecture.goarch().to_owned());
    match plan.arguments {
        Arguments::OneFile => {
            arguments.insert("BYTECODE_FILE".to_owned(), place);
        }
        Arguments::FilePerArchitecture => {
            for every in Architecture::ALL {
                arguments.insert(every.build_arg().to_owned(), place.clone());
            }
        }
    }
    Ok(arguments)
}

/// The context: the Containerfile and the object, nothing else of the working folder.
pub(super) fn tar(container_file: &[u8], object: &Object) -> Result<Vec<u8>, ContextError> {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, bytes) in [
        (CONTAINER_FILE, container_file),
        (place(&object.path)?.as_str(), object.bytes.as_slice()),
    ] {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Regular);
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        archive.append_data(&mut header, name, bytes)?;
    }
    Ok(archive.into_inner()?)
}

/// Why there is no context.
#[derive(Debug, thiserror::Error)]
pub(super) enum ContextError {
    #[error(transparent)]
    Path(#[from] PlanError),
    #[error(transparent)]
    Tar(#[from] std::io::Error),
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::io::Read;

    use super::*;

    fn plan(arguments: Arguments, path: &str) -> BuildPlan {
        let object = Object {
            path: path.into(),
            bytes: b"object".to_vec(),
        };
        BuildPlan {
            arguments,
            objects: BTreeMap::from([(Architecture::Arm64, object)]),
            programs: r#"{"p":"xdp"}"#.to_owned(),
            maps: "{}".to_owned(),
        }
    }

    #[test]
    fn places() {
        let table = [
            ("counter.o", "counter.o"),
            ("./examples/x/bpf.o", "examples/x/bpf.o"),
            ("examples//x/./bpf.o", "examples/x/bpf.o"),
            ("/tmp/out/bpf.o", "tmp/out/bpf.o"),
            ("../build/bpf.o", "build/bpf.o"),
        ];
        for (path, expected) in table {
            assert_eq!(place(Path::new(path)).unwrap(), expected, "{path}");
        }
    }

    #[test]
    fn arguments_of_both_containerfiles() {
        let one = plan(Arguments::OneFile, "/o/a.o");
        let object = &one.objects[&Architecture::Arm64];
        let found = arguments(&one, Architecture::Arm64, object).unwrap();
        assert_eq!(found["BYTECODE_FILE"], "o/a.o");
        assert_eq!(found["PROGRAMS"], r#"{"p":"xdp"}"#);
        assert_eq!(found["MAPS"], "{}");
        assert_eq!(found["TARGETARCH"], "arm64");
        assert_eq!(found.len(), 5);

        let many = plan(Arguments::FilePerArchitecture, "a.o");
        let found = arguments(&many, Architecture::Arm64, object).unwrap();
        assert_eq!(found.len(), 17);
        assert!(!found.contains_key("BYTECODE_FILE"));
    }

    #[test]
    fn only_two_files_are_sent() {
        let plan = plan(Arguments::OneFile, "../deep/a.o");
        let context = tar(b"FROM scratch", &plan.objects[&Architecture::Arm64]).unwrap();
        let mut archive = tar::Archive::new(context.as_slice());
        let mut files = Vec::new();
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let mut content = String::new();
            entry.read_to_string(&mut content).unwrap();
            files.push((entry.path().unwrap().display().to_string(), content));
        }
        let expected = [(CONTAINER_FILE, "FROM scratch"), ("deep/a.o", "object")];
        assert_eq!(
            files,
            expected.map(|(name, content)| (name.to_owned(), content.to_owned()))
        );
    }
}
