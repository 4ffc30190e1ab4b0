use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};

use bytecode_image::platform::Platform;
use bytecode_object::{ByteOrder, MAX_OBJECT_BYTES, ObjectError, ObjectInfo, map_type_name};

use crate::image::Labels;
use crate::inputs::{InputError, Inputs};
use crate::{Architecture, BuildError};

/// What is built: objects that were read and checked, and the labels that all of them share.
/// `build` and `generate-build-args` both go by it.
#[derive(Debug)]
pub(crate) struct BuildPlan {
    /// Which `Containerfile` arguments the files have.
    pub(crate) arguments: Arguments,
    /// One object an architecture; never empty.
    pub(crate) objects: BTreeMap<Architecture, Object>,
    /// The `io.ebpf.programs` label.
    pub(crate) programs: String,
    /// The `io.ebpf.maps` label.
    pub(crate) maps: String,
}

/// The two sets of build arguments that Containerfiles have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arguments {
    /// `BYTECODE_FILE`.
    OneFile,
    /// `BC_386_EL` … `BC_S390X_EB`.
    FilePerArchitecture,
}

/// An object file that has been read.
#[derive(Debug, Clone)]
pub(crate) struct Object {
    /// As it was named on the command line.
    pub(crate) path: PathBuf,
    pub(crate) bytes: Vec<u8>,
}

/// Why the files cannot become one image.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    /// Which files it would be is not known.
    #[error(transparent)]
    Input(#[from] InputError),
    /// A file cannot be read.
    #[error("cannot read the bytecode file {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// A file that is no object, or none that can be used.
    #[error("cannot use the bytecode file {}", path.display())]
    Object {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: ObjectError,
    },
    /// An object of the wrong byte order for its architecture.
    #[error("the bytecode file {} is {found}, but {architecture} is {expected}", path.display())]
    ByteOrder {
        /// The file.
        path: PathBuf,
        /// What it was given for.
        architecture: Architecture,
        /// The architecture's byte order.
        expected: ByteOrder,
        /// The file's.
        found: ByteOrder,
    },
    /// Objects that are not builds of the same source.
    #[error(
        "the bytecode files {} and {} differ, but one image has one set of labels: {}",
        first.display(), other.display(), list(differences)
    )]
    Differ {
        /// A file.
        first: PathBuf,
        /// A file that has other programs or maps.
        other: PathBuf,
        /// Every name that is not the same in both.
        differences: Vec<Difference>,
    },
    /// Build arguments are text.
    #[error("the path {} is not UTF-8, which a build argument must be", path.display())]
    NotUtf8 {
        /// The file.
        path: PathBuf,
    },
}

/// A program or map that two objects do not have alike.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// `program` or `map`.
    pub what: &'static str,
    /// Its name.
    pub name: String,
    /// Its type in the first file, if it is there.
    pub first: Option<String>,
    /// Its type in the other file, if it is there.
    pub other: Option<String>,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let missing = "missing";
        let first = self.first.as_deref().unwrap_or(missing);
        let other = self.other.as_deref().unwrap_or(missing);
        write!(
            f,
            "{} `{}` is {first} in the first and {other} in the other",
            self.what, self.name
        )
    }
}

/// The first few differences; more say nothing new.
fn list(differences: &[Difference]) -> String {
    const SHOWN: usize = 3;
    let mut text: Vec<String> = differences
        .iter()
        .take(SHOWN)
        .map(Difference::to_string)
        .collect();
    if differences.len() > SHOWN {
        text.push(format!("and {} more", differences.len() - SHOWN));
    }
    text.join("; ")
}

impl BuildPlan {
    /// Reads and checks every file of the inputs.
    pub(crate) fn read(inputs: &Inputs) -> Result<Self, PlanError> {
        let arguments = match inputs {
            Inputs::Bytecode(_) => Arguments::OneFile,
            Inputs::CiliumEbpfProject(_) | Inputs::Architectures(_) => {
                Arguments::FilePerArchitecture
            }
        };
        let mut files: BTreeMap<&Path, Vec<u8>> = BTreeMap::new();
        let slots = inputs.slots()?;
        for path in slots.values() {
            // bpf2go's untargeted pair stands for many architectures and is read once.
            if !files.contains_key(path.as_path()) {
                files.insert(path, read(path)?);
            }
        }
        let objects = slots.iter().filter_map(|(&architecture, path)| {
            let bytes = files.get(path.as_path())?.clone();
            let path = path.clone();
            Some((architecture, Object { path, bytes }))
        });
        Self::of(arguments, objects.collect())
    }

    /// Checks objects against their slots and each other.
    fn of(
        arguments: Arguments,
        objects: BTreeMap<Architecture, Object>,
    ) -> Result<Self, PlanError> {
        let mut first: Option<(&Path, ObjectInfo)> = None;
        for (&architecture, object) in &objects {
            let info = ObjectInfo::parse(&object.bytes).map_err(|source| PlanError::Object {
                path: object.path.clone(),
                source,
            })?;
            if info.byte_order != architecture.byte_order() {
                return Err(PlanError::ByteOrder {
                    path: object.path.clone(),
                    architecture,
                    expected: architecture.byte_order(),
                    found: info.byte_order,
                });
            }
            match &first {
                None => first = Some((&object.path, info)),
                Some((first_path, first_info)) => {
                    let differences = differences(first_info, &info);
                    if !differences.is_empty() {
                        return Err(PlanError::Differ {
                            first: (*first_path).to_owned(),
                            other: object.path.clone(),
                            differences,
                        });
                    }
                }
            }
        }
        let (_, info) = first.ok_or(InputError::None)?;
        Ok(Self {
            arguments,
            programs: info.programs_label(),
            maps: info.maps_label(),
            objects,
        })
    }

    /// The labels of every image of the plan.
    pub(crate) fn labels(&self) -> Labels<'_> {
        Labels {
            programs: &self.programs,
            maps: &self.maps,
        }
    }

    /// The one object and its architecture, where there is one.
    pub(crate) fn only_object(&self) -> Result<(Architecture, &Object), BuildError> {
        match self.objects.first_key_value() {
            Some((&architecture, object)) if self.objects.len() == 1 => Ok((architecture, object)),
            _ => Err(BuildError::NotBuiltYet(
                "an image for more than one architecture",
            )),
        }
    }
}

/// Reads a file up to one byte past the cap, so that a device or a huge file costs no more than that;
/// [`ObjectInfo::parse`] refuses it.
fn read(path: &Path) -> Result<Vec<u8>, PlanError> {
    let failed = |source| PlanError::Read {
        path: path.to_owned(),
        source,
    };
    let file = std::fs::File::open(path).map_err(failed)?;
    let mut bytes = Vec::new();
    file.take(MAX_OBJECT_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    Ok(bytes)
}

fn differences(first: &ObjectInfo, other: &ObjectInfo) -> Vec<Difference> {
    let mut found = compare("program", &programs(first), &programs(other));
    found.extend(compare("map", &maps(first), &maps(other)));
    found
}

type Types<'a> = BTreeMap<&'a str, String>;

fn programs(info: &ObjectInfo) -> Types<'_> {
    let programs = info.programs.iter();
    programs
        .map(|(name, program)| (name.as_str(), program.section.label().to_owned()))
        .collect()
}

fn maps(info: &ObjectInfo) -> Types<'_> {
    let named =
        |number: u32| map_type_name(number).map_or_else(|| number.to_string(), str::to_owned);
    let maps = info.maps.iter();
    maps.map(|(name, map)| (name.as_str(), named(map.map_type)))
        .collect()
}

fn compare(what: &'static str, first: &Types<'_>, other: &Types<'_>) -> Vec<Difference> {
    let names: BTreeSet<&str> = first.keys().chain(other.keys()).copied().collect();
    names
        .into_iter()
        .filter(|name| first.get(name) != other.get(name))
        .map(|name| Difference {
            what,
            name: name.to_owned(),
            first: first.get(name).cloned(),
            other: other.get(name).cloned(),
        })
        .collect()
}

/// The OCI platform of an architecture.
impl From<Architecture> for Platform {
    fn from(architecture: Architecture) -> Self {
        Self::linux(architecture.goarch())
    }
}
