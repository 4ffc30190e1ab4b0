//! What an engine is sent: a tar of the Containerfile and the objects, and the build arguments. Pure.

use std::collections::{BTreeMap, HashMap};
use std::path::{Component, Path};

use crate::Architecture;
use crate::plan::BuildPlan;

/// Name of the Containerfile in the context.
pub(super) const CONTAINER_FILE: &str = ".bpfman.Containerfile";

/// What every build of a plan is made from.
pub(super) struct Context<'a> {
    plan: &'a BuildPlan,
    /// Where the object of an architecture lies.
    places: BTreeMap<Architecture, String>,
}

impl<'a> Context<'a> {
    pub(super) fn of(plan: &'a BuildPlan) -> Self {
        let mut taken: BTreeMap<String, &Path> = BTreeMap::new();
        let mut places = BTreeMap::new();
        for (&architecture, object) in &plan.objects {
            let mut place = place(&object.path);
            // Another file's, with `..` or the root before it.
            if taken.get(&place).is_some_and(|&path| path != object.path) {
                place = format!("{architecture}/{place}");
            }
            taken.insert(place.clone(), &object.path);
            places.insert(architecture, place);
        }
        Self { plan, places }
    }

    /// The build arguments of an architecture, with paths in the context.
    ///
    /// `TARGETOS` and `TARGETARCH` choose the stage of a Containerfile for several architectures; engines set them
    /// only when they know of platforms. Docker's classic builder runs every stage before the last one, the ones that
    /// are not asked for too, and a `COPY` of an empty argument fails: so the arguments of architectures that there is
    /// no object for name this one's.
    pub(super) fn arguments(&self, architecture: Architecture) -> HashMap<String, String> {
        let place = |of| self.places.get(&of);
        let own = place(architecture).cloned().unwrap_or_default();
        let mut arguments = HashMap::from([
            ("TARGETOS".to_owned(), "linux".to_owned()),
            ("TARGETARCH".to_owned(), architecture.goarch().to_owned()),
        ]);
        if let Some(object) = self.plan.objects.get(&architecture) {
            arguments.insert("PROGRAMS".to_owned(), object.programs.clone());
            arguments.insert("MAPS".to_owned(), object.maps.clone());
        }
        // Each build is for one architecture, so both of our Containerfiles can make it.
        for every in Architecture::ALL {
            let file = place(every).unwrap_or(&own);
            arguments.insert(every.build_arg().to_owned(), file.clone());
        }
        arguments.insert("BYTECODE_FILE".to_owned(), own);
        arguments
    }

    /// The context: the Containerfile and the objects, nothing else of the working folder.
    pub(super) fn tar(&self, container_file: &[u8]) -> std::io::Result<Vec<u8>> {
        let mut files = BTreeMap::from([(CONTAINER_FILE, container_file)]);
        for (architecture, object) in &self.plan.objects {
            if let Some(place) = self.places.get(architecture) {
                files.insert(place, &object.bytes);
            }
        }
        let mut archive = tar::Builder::new(Vec::new());
        for (name, bytes) in files {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(tar::EntryType::Regular);
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            header.set_uid(0);
            header.set_gid(0);
            header.set_mtime(0);
            archive.append_data(&mut header, name, bytes)?;
        }
        archive.into_inner()
    }
}

/// Where a file lies in the context. Paths below the working folder keep their folders; an engine takes nothing from
/// outside the context, so an absolute path loses its root and `..` goes.
fn place(path: &Path) -> String {
    let mut parts = Vec::new();
    for component in path.components() {
        if let Component::Normal(part) = component {
            parts.push(plain(&part.to_string_lossy()));
        }
    }
    parts.join("/")
}

/// A name that stands for itself in a `COPY`: not a pattern, no escape, text.
fn plain(name: &str) -> String {
    let odd = |c: char| c.is_control() || c == char::REPLACEMENT_CHARACTER || "*?[]\\".contains(c);
    name.replace(odd, "_")
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;
    use std::io::Read;
    use std::os::unix::ffi::OsStringExt;
    use std::rc::Rc;

    use super::*;
    use crate::plan::{Arguments, Object};

    fn plan(arguments: Arguments, files: &[(Architecture, &str)]) -> BuildPlan {
        let objects = files.iter().map(|&(architecture, path)| {
            let object = Object {
                path: path.into(),
                bytes: path.as_bytes().to_vec(),
                programs: r#"{"p":"xdp"}"#.to_owned(),
                maps: "{}".to_owned(),
            };
            (architecture, Rc::new(object))
        });
        BuildPlan {
            arguments,
            objects: objects.collect(),
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
            ("a b/c=d,e.o", "a b/c=d,e.o"),
            ("[x]*\\.o\n", "_x___.o_"),
        ];
        for (path, expected) in table {
            assert_eq!(place(Path::new(path)), expected, "{path}");
        }
        let odd = OsString::from_vec(b"d/\xff.o".to_vec());
        assert_eq!(place(Path::new(&odd)), "d/_.o");
    }

    #[test]
    fn arguments_of_both_containerfiles() {
        use Architecture::{Amd64, Arm64, S390x};
        let one = plan(Arguments::OneFile, &[(Arm64, "/o/a.o")]);
        let found = Context::of(&one).arguments(Arm64);
        assert_eq!(found["BYTECODE_FILE"], "o/a.o");
        assert_eq!(found["PROGRAMS"], r#"{"p":"xdp"}"#);
        assert_eq!(found["MAPS"], "{}");
        assert_eq!(found["TARGETARCH"], "arm64");
        assert_eq!(found["BC_ARM64_EL"], "o/a.o");
        assert_eq!(found.len(), 18);

        let many = plan(
            Arguments::FilePerArchitecture,
            &[(Amd64, "a.o"), (S390x, "b.o")],
        );
        let found = Context::of(&many).arguments(S390x);
        assert_eq!(found.len(), 18);
        assert_eq!(found["BYTECODE_FILE"], "b.o");
        assert_eq!(found["TARGETARCH"], "s390x");
        assert_eq!(
            [
                &found["BC_AMD64_EL"],
                &found["BC_S390X_EB"],
                &found["BC_ARM_EL"]
            ],
            ["a.o", "b.o", "b.o"]
        );
    }

    #[test]
    fn only_the_files_are_sent() {
        use Architecture::{Amd64, Arm64, S390x};
        let files = [
            (Amd64, "../deep/a.o"),
            (Arm64, "/deep/a.o"),
            (S390x, "../deep/a.o"),
        ];
        let plan = plan(Arguments::FilePerArchitecture, &files);
        let context = Context::of(&plan).tar(b"FROM scratch").unwrap();
        let mut archive = tar::Archive::new(context.as_slice());
        let mut files = Vec::new();
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let mut content = String::new();
            entry.read_to_string(&mut content).unwrap();
            files.push((entry.path().unwrap().display().to_string(), content));
        }
        let expected = [
            (CONTAINER_FILE, "FROM scratch"),
            ("arm64/deep/a.o", "/deep/a.o"),
            ("deep/a.o", "../deep/a.o"),
        ];
        assert_eq!(
            files,
            expected.map(|(name, content)| (name.to_owned(), content.to_owned()))
        );
    }
}
