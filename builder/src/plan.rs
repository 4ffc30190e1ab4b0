use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use bytecode_image::host::open_regular;
use bytecode_image::labels::{self, LabelError, MAPS_LABEL, PROGRAMS_LABEL};
use bytecode_image::platform::Platform;
use bytecode_object::{
    ByteOrder, MAX_OBJECT_BYTES, MapInfo, ObjectError, ObjectInfo, ProgramInfo, Section,
    map_type_name,
};

use crate::Architecture;
use crate::image::Labels;
use crate::inputs::{InputError, Inputs};

/// What is built: objects that were read and checked, each with its labels.
/// `build` and `generate-build-args` both go by it.
#[derive(Debug)]
pub(crate) struct BuildPlan {
    /// Which `Containerfile` arguments the files have.
    pub(crate) arguments: Arguments,
    /// One object an architecture; never empty. bpf2go's untargeted pair stands for many architectures with one file.
    pub(crate) objects: BTreeMap<Architecture, Rc<Object>>,
}

/// Whether the objects of one image may offer different programs and maps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Differences {
    /// They are builds of one source: a difference is a mistake.
    Refused,
    /// Each architecture has labels of its own.
    Allowed,
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
#[derive(Debug)]
pub(crate) struct Object {
    /// As it was named on the command line.
    pub(crate) path: PathBuf,
    pub(crate) bytes: Vec<u8>,
    /// The `io.ebpf.programs` label.
    pub(crate) programs: String,
    /// The `io.ebpf.maps` label.
    pub(crate) maps: String,
}

impl Object {
    /// The labels of an image of this object.
    pub(crate) fn labels(&self) -> Labels<'_> {
        Labels {
            programs: &self.programs,
            maps: &self.maps,
        }
    }

    /// Refuses labels that are more than a reader takes.
    fn readable(&self) -> Result<(), LabelError> {
        let labels = [(PROGRAMS_LABEL, &self.programs), (MAPS_LABEL, &self.maps)];
        let labels = labels.map(|(key, value)| (key.to_owned(), value.clone()));
        labels::Labels::from_config_labels(&BTreeMap::from(labels)).map(|_| ())
    }
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
    /// Labels that nobody could read again.
    #[error("the bytecode file {} is too much for the labels of an image", path.display())]
    Labels {
        /// The file.
        path: PathBuf,
        /// What [`bytecode_image`] would say of the image.
        #[source]
        source: LabelError,
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
        "the bytecode files {} ({first_for}) and {} ({other_for}) do not have the same programs and maps",
        first.display(), other.display()
    )]
    Differ {
        /// A file.
        first: PathBuf,
        /// The first architecture that it is for.
        first_for: Architecture,
        /// A file that has other programs or maps.
        other: PathBuf,
        /// The first architecture that it is for.
        other_for: Architecture,
        /// Every name that is not the same in both.
        differences: Vec<Difference>,
    },
    /// A line `NAME=VALUE` of a path with a line break in it.
    #[error("the path {path:?} has a line break, which a line of text cannot hold")]
    LineBreak {
        /// The file.
        path: PathBuf,
    },
    /// JSON is text.
    #[error("the path {path:?} is not UTF-8, which JSON must be")]
    NotUtf8 {
        /// The file.
        path: PathBuf,
    },
}

impl PlanError {
    /// What is different, in the form of a diff without context: two lines that name the files, then a line a
    /// program or map. Empty for every other error.
    pub fn diff(&self) -> Vec<String> {
        let Self::Differ {
            first,
            first_for,
            other,
            other_for,
            differences,
        } = self
        else {
            return Vec::new();
        };
        let mut lines = vec![
            format!("--- {} ({first_for})", first.display()),
            format!("+++ {} ({other_for})", other.display()),
        ];
        for difference in differences {
            let Difference { what, name, .. } = difference;
            let sides = [('-', &difference.first), ('+', &difference.other)];
            for (sign, kind) in sides {
                if let Some(kind) = kind {
                    lines.push(format!("{sign} {what} {name}: {kind}"));
                }
            }
        }
        lines
    }

    pub(crate) fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Input(error) => error.hint(),
            Self::Differ { .. } => Some(
                "build all from one source; `image build --allow-differences` gives each architecture labels of its own",
            ),
            Self::Labels { .. } => {
                Some("divide it into several objects, each with an image of its own")
            }
            Self::LineBreak { .. } => Some("--format shell and --format github can hold it"),
            Self::NotUtf8 { .. } => Some("--format text and --format shell can hold it"),
            _ => None,
        }
    }
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

impl BuildPlan {
    /// Reads and checks every file of the inputs.
    pub(crate) fn read(inputs: &Inputs, differences: Differences) -> Result<Self, PlanError> {
        let arguments = match inputs {
            Inputs::Bytecode(_) => Arguments::OneFile,
            Inputs::CiliumEbpfProject(_) | Inputs::Architectures(_) => {
                Arguments::FilePerArchitecture
            }
        };
        let mut files = Vec::new();
        for (architecture, path) in inputs.slots()? {
            let bytes = match files.iter().position(|file: &File| file.path == path) {
                Some(known) => {
                    if let Some(file) = files.get_mut(known) {
                        file.slots.push(architecture);
                    }
                    continue;
                }
                None => read(&path)?,
            };
            files.push(File {
                path,
                slots: vec![architecture],
                bytes,
            });
        }
        Self::of(arguments, files, differences)
    }

    /// Checks objects against their slots and each other.
    fn of(
        arguments: Arguments,
        files: Vec<File>,
        differences: Differences,
    ) -> Result<Self, PlanError> {
        let mut objects = BTreeMap::new();
        let mut first: Option<(Architecture, PathBuf, ObjectInfo)> = None;
        for File { path, slots, bytes } in files {
            let info = ObjectInfo::parse(&bytes).map_err(|source| PlanError::Object {
                path: path.clone(),
                source,
            })?;
            let misfit = slots
                .iter()
                .find(|slot| slot.byte_order() != info.byte_order);
            if let Some(&architecture) = misfit {
                return Err(PlanError::ByteOrder {
                    path,
                    architecture,
                    expected: architecture.byte_order(),
                    found: info.byte_order,
                });
            }
            let object = Rc::new(Object {
                path: path.clone(),
                bytes,
                programs: info.programs_label(),
                maps: info.maps_label(),
            });
            object.readable().map_err(|source| PlanError::Labels {
                path: path.clone(),
                source,
            })?;
            warn_of_sections(&path, &info);
            let Some(&for_first) = slots.first() else {
                continue;
            };
            objects.extend(slots.into_iter().map(|slot| (slot, Rc::clone(&object))));
            match &first {
                Some((first_for, first, first_info)) if differences == Differences::Refused => {
                    let differences = compare_all(first_info, &info);
                    if !differences.is_empty() {
                        return Err(PlanError::Differ {
                            first: first.clone(),
                            first_for: *first_for,
                            other: path,
                            other_for: for_first,
                            differences,
                        });
                    }
                }
                Some(_) => {}
                None => first = Some((for_first, path, info)),
            }
        }
        if objects.is_empty() {
            return Err(InputError::None.into());
        }
        Ok(Self { arguments, objects })
    }
}

/// A file that was read and not looked into yet.
struct File {
    path: PathBuf,
    /// What it is for; never empty.
    slots: Vec<Architecture>,
    bytes: Vec<u8>,
}

/// Reads a file up to one byte past the cap, so that a device or a huge file costs no more than that;
/// [`ObjectInfo::parse`] refuses it.
fn read(path: &Path) -> Result<Vec<u8>, PlanError> {
    let failed = |source| PlanError::Read {
        path: path.to_owned(),
        source,
    };
    let file = open_regular(path).map_err(failed)?;
    let mut bytes = Vec::new();
    file.take(MAX_OBJECT_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    Ok(bytes)
}

/// Programs whose label does not tell whoever reads it how they are loaded.
fn warn_of_sections(path: &Path, info: &ObjectInfo) {
    for (name, program) in &info.programs {
        let ProgramInfo {
            section_name,
            section,
            ..
        } = program;
        let why = match section {
            Section::Unknown => "which is none that is known",
            // A kprobe by the kernel's type, but not one that `load --programs kprobe:…` takes.
            Section::Other("kprobe") => "whose programs bpfman does not load",
            _ => continue,
        };
        log::warn!(
            "program `{name}` of {} is in section `{section_name}`, {why}: its label says `{}`",
            path.display(),
            section.label()
        );
    }
}

fn compare_all(first: &ObjectInfo, other: &ObjectInfo) -> Vec<Difference> {
    let mut found = compare("program", &first.programs, &other.programs, same, |found| {
        let label = found.section.label().to_owned();
        (format!("{label}, section {}", found.section_name), label)
    });
    found.extend(compare(
        "map",
        &first.maps,
        &other.maps,
        |first, other| first == other,
        |found| {
            let kind = found.map_type;
            let kind = map_type_name(kind).map_or_else(|| kind.to_string(), str::to_owned);
            (format!("{kind}{}", shape(found)), kind)
        },
    ));
    found
}

/// Whether two programs are the same to whoever loads them. What they attach to, after the first `/`, is another
/// function on another architecture.
fn same(first: &ProgramInfo, other: &ProgramInfo) -> bool {
    let head = |found: &ProgramInfo| {
        let (head, _) = found.section_name.split_once('/').unzip();
        head.unwrap_or(&found.section_name).to_owned()
    };
    first.section == other.section
        && match first.section {
            Section::Other(_) | Section::Unknown => head(first) == head(other),
            _ => true,
        }
}

/// What a map is beside its type.
fn shape(map: &MapInfo) -> String {
    let MapInfo {
        key_size,
        value_size,
        max_entries,
        pinned_by_name,
        ..
    } = map;
    let sizes = [
        ("key", key_size),
        ("value", value_size),
        ("entries", max_entries),
    ];
    let mut text = String::new();
    for (name, size) in sizes {
        if let Some(size) = size {
            text.push_str(&format!(", {name} {size}"));
        }
    }
    if *pinned_by_name {
        text.push_str(", pinned by name");
    }
    text
}

/// Every name that is not the same in both. `words` gives all that is compared, and its type alone, which is shown
/// where that is the difference.
fn compare<T>(
    what: &'static str,
    first: &BTreeMap<String, T>,
    other: &BTreeMap<String, T>,
    same: impl Fn(&T, &T) -> bool,
    words: impl Fn(&T) -> (String, String),
) -> Vec<Difference> {
    let names: BTreeSet<&String> = first.keys().chain(other.keys()).collect();
    let mut found = Vec::new();
    for name in names {
        let sides = (first.get(name), other.get(name));
        if let (Some(first), Some(other)) = sides
            && same(first, other)
        {
            continue;
        }
        let [long, short] = [true, false].map(|long| {
            let word = |side: &T| {
                let (whole, kind) = words(side);
                if long { whole } else { kind }
            };
            (sides.0.map(word), sides.1.map(word))
        });
        let (first, other) = if short.0 == short.1 { long } else { short };
        found.push(Difference {
            what,
            name: name.clone(),
            first,
            other,
        });
    }
    found
}

/// The OCI platform of an architecture.
impl From<Architecture> for Platform {
    fn from(architecture: Architecture) -> Self {
        Self::linux(architecture.goarch())
    }
}
