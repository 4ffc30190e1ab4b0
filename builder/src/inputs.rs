use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use bytecode_image::platform::Platform;

use crate::Architecture;
use crate::bpf2go::{Name, Target};

/// The files that were named on the command line, not read yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Inputs {
    /// `--bytecode FILE`: one object for the host's architecture.
    Bytecode(PathBuf),
    /// `--cilium-ebpf-project DIRECTORY`: the objects that bpf2go wrote there.
    CiliumEbpfProject(PathBuf),
    /// `--bc-386-el FILE` … `--bc-s390x-eb FILE`: an object an architecture.
    Architectures(BTreeMap<Architecture, PathBuf>),
}

/// Why the files of an image are not known.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InputError {
    /// The project's folder cannot be listed.
    #[error("cannot list the cilium/ebpf project {}", folder.display())]
    List {
        /// The folder.
        folder: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// No file of the project has a name of bpf2go.
    #[error("no object in the cilium/ebpf project {}: expected files like bpf_x86_bpfel.o or bpf_bpfel.o", folder.display())]
    NoObject {
        /// The folder.
        folder: PathBuf,
    },
    /// The tag of one byte order's architecture with the other byte order.
    #[error(
        "the file name {} says {architecture}, which is {}, and at its end the other byte order",
        path.display(), architecture.byte_order()
    )]
    OtherOrder {
        /// The file.
        path: PathBuf,
        /// The architecture of its tag.
        architecture: Architecture,
    },
    /// Two files say that they are for the same architecture.
    #[error("two objects for {architecture}: {} and {}", first.display(), second.display())]
    TwoForOne {
        /// The architecture.
        architecture: Architecture,
        /// One of the files.
        first: PathBuf,
        /// The other.
        second: PathBuf,
    },
    /// No architecture flag at all.
    #[error("no bytecode file given")]
    None,
    /// `--bytecode` on a host that bytecode images are not made for.
    #[error(
        "no bytecode image is made for this host's architecture, {host}; name the architecture with a --bc-… flag"
    )]
    UnknownHost {
        /// The host's platform.
        host: Platform,
    },
}

impl InputError {
    pub(crate) fn hint(&self) -> Option<&'static str> {
        match self {
            Self::OtherOrder { .. } | Self::TwoForOne { .. } | Self::NoObject { .. } => {
                Some("name each architecture's object with a --bc-… flag instead")
            }
            _ => None,
        }
    }
}

impl Inputs {
    /// One object for the host's architecture.
    pub fn bytecode(file: impl Into<PathBuf>) -> Self {
        Self::Bytecode(file.into())
    }

    /// The objects of a cilium/ebpf project.
    pub fn cilium_ebpf_project(folder: impl Into<PathBuf>) -> Self {
        Self::CiliumEbpfProject(folder.into())
    }

    /// An object an architecture. Of two for the same architecture the later counts; clap refuses the second.
    pub fn architectures(files: impl IntoIterator<Item = (Architecture, PathBuf)>) -> Self {
        Self::Architectures(files.into_iter().collect())
    }

    /// Which file is for which architecture. Reads the folder of a project, no file.
    pub(crate) fn slots(&self) -> Result<BTreeMap<Architecture, PathBuf>, InputError> {
        match self {
            Self::Bytecode(file) => {
                let host = Platform::host();
                match Architecture::from_goarch(&host.architecture) {
                    Some(architecture) => Ok(BTreeMap::from([(architecture, file.clone())])),
                    None => Err(InputError::UnknownHost { host }),
                }
            }
            Self::CiliumEbpfProject(folder) => {
                let project = project(folder, &list(folder)?)?;
                for path in project.unknown {
                    log::warn!(
                        "{} is left out: its name is not one of bpf2go's, such as bpf_x86_bpfel.o",
                        path.display()
                    );
                }
                Ok(project.slots)
            }
            Self::Architectures(files) if files.is_empty() => Err(InputError::None),
            Self::Architectures(files) => Ok(files.clone()),
        }
    }
}

/// Names of the files of a folder, sorted.
fn list(folder: &Path) -> Result<Vec<OsString>, InputError> {
    let failed = |source| InputError::List {
        folder: folder.to_owned(),
        source,
    };
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        names.push(entry.map_err(failed)?.file_name());
    }
    names.sort();
    Ok(names)
}

/// Which of these names are for which architecture, and the objects among them whose names say nothing that is known.
fn project(folder: &Path, names: &[OsString]) -> Result<Project, InputError> {
    // Tags are ASCII, so what is not UTF-8 can only stand before them.
    let texts: Vec<_> = names.iter().map(|name| name.to_string_lossy()).collect();
    let parsed: Vec<_> = texts.iter().map(|text| Name::parse(text)).collect();
    let targeted: Vec<_> = parsed
        .iter()
        .flatten()
        .filter(|name| matches!(name.target(), Target::One(_)))
        .collect();
    let mut project = Project::default();
    for ((file, text), name) in names.iter().zip(&texts).zip(&parsed) {
        let path = folder.join(file);
        let Some(name) = name else {
            if text.ends_with(".o") {
                project.unknown.push(path);
            }
            continue;
        };
        let architectures = match name.target() {
            Target::One(architecture) => vec![architecture],
            Target::OtherOrder(architecture) => {
                return Err(InputError::OtherOrder { path, architecture });
            }
            // Nobody's tag, by its word or by its place.
            Target::Every if !targeted.iter().any(|found| name.has_tag_beside(found)) => {
                name.of_order().collect()
            }
            Target::Every | Target::Foreign => {
                project.unknown.push(path);
                continue;
            }
        };
        for architecture in architectures {
            if let Some(first) = project.slots.insert(architecture, path.clone()) {
                return Err(InputError::TwoForOne {
                    architecture,
                    first,
                    second: path,
                });
            }
        }
    }
    if project.slots.is_empty() {
        return Err(InputError::NoObject {
            folder: folder.to_owned(),
        });
    }
    Ok(project)
}

/// What a cilium/ebpf project's folder holds.
#[derive(Debug, Default)]
struct Project {
    slots: BTreeMap<Architecture, PathBuf>,
    unknown: Vec<PathBuf>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(names: &[&str]) -> Result<Vec<String>, String> {
        let names: Vec<OsString> = names.iter().map(OsString::from).collect();
        match project(Path::new("./p/"), &names) {
            Ok(project) => Ok(project
                .slots
                .iter()
                .map(|(architecture, path)| format!("{architecture}={}", path.display()))
                .collect()),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn a_project() {
        assert_eq!(
            of(&[
                "bpf_x86_bpfel.o",
                "bpf_arm64_bpfel.o",
                "bpf_s390_bpfeb.o",
                "bpf_x86_bpfel.go",
                "README"
            ]),
            Ok(vec![
                "amd64=./p/bpf_x86_bpfel.o".to_owned(),
                "arm64=./p/bpf_arm64_bpfel.o".to_owned(),
                "s390x=./p/bpf_s390_bpfeb.o".to_owned()
            ])
        );
        assert_eq!(
            of(&["bpf_bpfel.o", "bpf_bpfeb.o"]).map(|slots| slots.len()),
            Ok(13)
        );
        assert_eq!(
            of(&["a_x86_bpfel.o", "b_amd64_bpfel.o"]),
            Err("two objects for amd64: ./p/a_x86_bpfel.o and ./p/b_amd64_bpfel.o".to_owned())
        );
        assert_eq!(
            of(&["bpf_x86_bpfeb.o"]),
            Err(
                "the file name ./p/bpf_x86_bpfeb.o says amd64, which is little-endian, and at its end the other byte order"
                    .to_owned()
            )
        );
        assert_eq!(
            of(&["bpf_bpfel.o", "bpf_x86_bpfel.o"]),
            Err("two objects for amd64: ./p/bpf_bpfel.o and ./p/bpf_x86_bpfel.o".to_owned())
        );
        // An architecture that nobody knows of is not every architecture.
        for unknown in ["bpf_riscv32_bpfel.o", "bpf_arm128_bpfel.o"] {
            assert_eq!(
                of(&[unknown, "bpf_x86_bpfel.o"]),
                Ok(vec!["amd64=./p/bpf_x86_bpfel.o".to_owned()])
            );
        }
        assert!(of(&["bpf_riscv32_bpfel.o"]).is_err());
        assert!(
            of(&["counter.o"])
                .unwrap_err()
                .starts_with("no object in the cilium/ebpf project ./p/")
        );
    }

    #[test]
    fn names_of_any_bytes_and_objects_of_other_names() {
        use std::os::unix::ffi::OsStringExt;
        let odd = OsString::from_vec(b"\xffa b,c=d_arm64_bpfel.o".to_vec());
        let names = ["counter.o", "README", "dispatcher.bpf.o"].map(OsString::from);
        let all = [names.as_slice(), std::slice::from_ref(&odd)].concat();
        let project = project(Path::new("p"), &all).unwrap();
        assert_eq!(
            project.slots,
            BTreeMap::from([(Architecture::Arm64, Path::new("p").join(odd))])
        );
        assert_eq!(
            project.unknown,
            ["p/counter.o", "p/dispatcher.bpf.o"].map(PathBuf::from)
        );
    }

    #[test]
    fn a_folder_that_is_not_there_is_named() {
        let error = Inputs::cilium_ebpf_project("/nonexistent/p")
            .slots()
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "cannot list the cilium/ebpf project /nonexistent/p"
        );
    }
}
