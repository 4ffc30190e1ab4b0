//! The labels of a bytecode image: which programs and maps its object has, readable without the object.
//!
//! Two generations exist. The newer one: `io.ebpf.programs` and `io.ebpf.maps`, each a JSON object as a string,
//! `{"<name>":"<type>"}`. The older one names a single program: `io.ebpf.program_name`, `io.ebpf.bpf_function_name`,
//! `io.ebpf.program_type`, `io.ebpf.filename`.

use std::collections::BTreeMap;

use bytecode_object::{ObjectInfo, ProgramType, Section, map_type_name};

use crate::limits::{MAX_LABEL_BYTES, MAX_LABEL_NAMES};

/// Programs and their types, JSON.
pub const PROGRAMS_LABEL: &str = "io.ebpf.programs";
/// Maps and their types, JSON.
pub const MAPS_LABEL: &str = "io.ebpf.maps";
/// Older generation: a name for people.
pub const OLD_PROGRAM_NAME_LABEL: &str = "io.ebpf.program_name";
/// Older generation: the function.
pub const OLD_FUNCTION_LABEL: &str = "io.ebpf.bpf_function_name";
/// Older generation: the type of that one program.
pub const OLD_TYPE_LABEL: &str = "io.ebpf.program_type";
/// Older generation: the object's file name in the layer.
pub const OLD_FILENAME_LABEL: &str = "io.ebpf.filename";

/// Longest name or type in a label, in bytes; the kernel's own limit of a symbol's name (`KSYM_NAME_LEN`, 6.1) is 512.
const MAX_NAME_BYTES: usize = 512;

/// What the labels of an image say; empty maps where it has none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Labels {
    /// Type by function name, in the label's words (older images use the kernel's: `probe`, `tracing`, `ext`).
    pub programs: BTreeMap<String, String>,
    /// Map type by map name.
    pub maps: BTreeMap<String, String>,
}

/// Labels that cannot be read, or that say something else than the object.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LabelError {
    /// Longer than [`MAX_LABEL_BYTES`].
    #[error("label {label} has {found} bytes: at most {MAX_LABEL_BYTES} are read")]
    TooLong {
        /// Key of the label.
        label: &'static str,
        /// Bytes found.
        found: usize,
    },
    /// More names than [`MAX_LABEL_NAMES`].
    #[error("label {label} has {found} names: at most {MAX_LABEL_NAMES} are read")]
    TooMany {
        /// Key of the label.
        label: &'static str,
        /// Names found.
        found: usize,
    },
    /// Not a JSON object of strings.
    #[error("label {label} is not a JSON object of names and types")]
    Json {
        /// Key of the label.
        label: &'static str,
        /// Where and why.
        #[source]
        source: serde_json::Error,
    },
    /// An empty name, one longer than 512 bytes, or one with control characters.
    #[error(
        "label {label} has a name or type that is empty, longer than {MAX_NAME_BYTES} bytes or not printable: {name:?}"
    )]
    Name {
        /// Key of the label.
        label: &'static str,
        /// The name or type, shortened.
        name: String,
    },
    /// The label names something that the object does not have.
    #[error("the image's labels name {kind} `{name}`, which its object does not have; the object has {}", listed(.found))]
    Missing {
        /// `program` or `map`.
        kind: &'static str,
        /// The name in the label.
        name: String,
        /// Names in the object.
        found: Vec<String>,
    },
    /// The label says another type than the object's section.
    #[error(
        "the image's labels say that program `{name}` is `{labelled}`, but it is in section `{section}` of its object"
    )]
    ProgramType {
        /// Function name.
        name: String,
        /// Word in the label.
        labelled: String,
        /// Section in the object.
        section: String,
    },
    /// The label says another map type than the object.
    #[error(
        "the image's labels say that map `{name}` is `{labelled}`, but it is `{found}` in its object"
    )]
    MapType {
        /// Map name.
        name: String,
        /// Word in the label.
        labelled: String,
        /// Type in the object.
        found: String,
    },
}

fn listed(names: &[String]) -> String {
    if names.is_empty() {
        "none".to_owned()
    } else {
        names.join(", ")
    }
}

impl Labels {
    /// Reads the labels of an image configuration (`config.Labels`). Labels of others are passed over; none of ours
    /// gives empty maps.
    ///
    /// # Errors
    ///
    /// When one of ours is over its cap or not what it should be.
    pub fn from_config_labels(labels: &BTreeMap<String, String>) -> Result<Self, LabelError> {
        let new = |label| labels.get(label).map(|text| names(label, text)).transpose();
        let (programs, maps) = (new(PROGRAMS_LABEL)?, new(MAPS_LABEL)?);
        let whole = programs.is_some() && maps.is_some();
        let mut read = Self {
            programs: programs.unwrap_or_default(),
            maps: maps.unwrap_or_default(),
        };
        if !whole && read.programs.is_empty() {
            read.programs = old_program(labels)?;
        }
        Ok(read)
    }

    /// Compares the labels with the object that came with them. Types are compared as loosely as the words of several
    /// generations need. Programs and maps of the object that no label names are no contradiction.
    ///
    /// # Errors
    ///
    /// The first name (in order of names) that the object lacks, or has with another type.
    pub fn check(&self, object: &ObjectInfo) -> Result<(), LabelError> {
        for (name, labelled) in &self.programs {
            let Some(program) = object.programs.get(name) else {
                return Err(LabelError::Missing {
                    kind: "program",
                    name: name.clone(),
                    found: object.programs.keys().cloned().collect(),
                });
            };
            if !type_fits(labelled, &program.section) {
                return Err(LabelError::ProgramType {
                    name: name.clone(),
                    labelled: labelled.clone(),
                    section: program.section_name.clone(),
                });
            }
        }
        for (name, labelled) in &self.maps {
            // Older tools listed the compiler's data sections too; `ObjectInfo` leaves them out.
            if name.starts_with('.') {
                continue;
            }
            let Some(map) = object.maps.get(name) else {
                return Err(LabelError::Missing {
                    kind: "map",
                    name: name.clone(),
                    found: object.maps.keys().cloned().collect(),
                });
            };
            if let Some(found) = map_type_name(map.map_type)
                && bare(found) != bare(labelled)
            {
                return Err(LabelError::MapType {
                    name: name.clone(),
                    labelled: labelled.clone(),
                    found: found.to_owned(),
                });
            }
        }
        Ok(())
    }
}

fn names(label: &'static str, text: &str) -> Result<BTreeMap<String, String>, LabelError> {
    if text.len() > MAX_LABEL_BYTES {
        return Err(LabelError::TooLong {
            label,
            found: text.len(),
        });
    }
    let names: BTreeMap<String, String> =
        serde_json::from_str(text).map_err(|source| LabelError::Json { label, source })?;
    if names.len() > MAX_LABEL_NAMES {
        return Err(LabelError::TooMany {
            label,
            found: names.len(),
        });
    }
    for text in names.iter().flat_map(|(name, kind)| [name, kind]) {
        printable(label, text)?;
    }
    Ok(names)
}

fn printable(label: &'static str, text: &str) -> Result<(), LabelError> {
    if text.is_empty() || text.len() > MAX_NAME_BYTES || text.chars().any(char::is_control) {
        return Err(LabelError::Name {
            label,
            name: text.chars().take(64).collect(),
        });
    }
    Ok(())
}

/// The one program of the older generation: the function, or the name for people where there is no function.
fn old_program(labels: &BTreeMap<String, String>) -> Result<BTreeMap<String, String>, LabelError> {
    let get = |label| match labels.get(label) {
        Some(text) if !text.is_empty() => printable(label, text).map(|()| Some(text.clone())),
        _ => Ok(None),
    };
    let name = match get(OLD_FUNCTION_LABEL)? {
        Some(function) => Some(function),
        None => get(OLD_PROGRAM_NAME_LABEL)?,
    };
    Ok(match (name, get(OLD_TYPE_LABEL)?) {
        (Some(name), Some(kind)) => BTreeMap::from([(name, kind)]),
        _ => BTreeMap::new(),
    })
}

/// Without case and separators: `per_cpu_hash` and `PerCPUHash` are one word, and so are `percpu_array` and `per_cpu_array`.
fn bare(word: &str) -> String {
    word.chars()
        .filter(char::is_ascii_alphanumeric)
        .map(|c| c.to_ascii_lowercase())
        .collect()
}

/// Whether a word of any generation can mean a program that is loaded as this type: what a program that an image names
/// so can be asked for as, before its object is looked at.
pub fn type_means(word: &str, kind: ProgramType) -> bool {
    sections(kind)
        .iter()
        .any(|section| type_fits(word, section))
}

/// The sections whose programs are loaded as a type ([`ProgramType::fits`]), one of each form.
fn sections(kind: ProgramType) -> &'static [Section] {
    match kind {
        ProgramType::Fentry => &[Section::Fentry { sleepable: false }],
        ProgramType::Fexit => &[Section::Fexit { sleepable: false }],
        ProgramType::Kprobe => &[Section::Kprobe, Section::Kretprobe],
        ProgramType::Tc | ProgramType::Tcx => &[Section::Tc, Section::Tcx],
        ProgramType::Tracepoint => &[Section::Tracepoint],
        ProgramType::Uprobe => &[
            Section::Uprobe { sleepable: false },
            Section::Uretprobe { sleepable: false },
        ],
        ProgramType::Xdp => &[Section::Xdp { frags: false }],
    }
}

/// Whether a word of any generation can mean a program of this section.
fn type_fits(word: &str, section: &Section) -> bool {
    let word = bare(word);
    if word
        .parse::<ProgramType>()
        .is_ok_and(|kind| kind.fits(section))
    {
        return true;
    }
    match section {
        // XDP and TC programs are `ext` while they are members of a dispatcher, and older tools wrote that word down.
        Section::Xdp { .. } => word == "ext",
        Section::Tc | Section::Tcx => matches!(word.as_str(), "classifier" | "schedcls" | "ext"),
        Section::Kprobe | Section::Kretprobe => matches!(word.as_str(), "probe" | "kretprobe"),
        // To the kernel every probe is BPF_PROG_TYPE_KPROBE.
        Section::Uprobe { .. } | Section::Uretprobe { .. } => {
            matches!(
                word.as_str(),
                "probe" | "kprobe" | "kretprobe" | "uretprobe"
            )
        }
        Section::Tracepoint => word == "tp",
        Section::Fentry { .. } | Section::Fexit { .. } => word == "tracing",
        Section::Other(name) => word == bare(name),
        // Nothing is known of the section, so nothing contradicts the label.
        Section::Unknown => true,
    }
}

#[cfg(test)]
mod tests {
    use bytecode_object::{ByteOrder, MapInfo, ProgramInfo};

    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<Labels, LabelError> {
        Labels::from_config_labels(
            &pairs
                .iter()
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
                .collect(),
        )
    }

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect()
    }

    #[test]
    fn both_generations() {
        let new = [
            (PROGRAMS_LABEL, r#"{"pass":"xdp"}"#),
            (MAPS_LABEL, r#"{"stats":"per_cpu_array"}"#),
        ];
        let old = [
            (OLD_PROGRAM_NAME_LABEL, "nice name"),
            (OLD_FUNCTION_LABEL, "fn"),
            (OLD_TYPE_LABEL, "probe"),
            (OLD_FILENAME_LABEL, "/x.o"),
        ];
        type Pairs<'a> = &'a [(&'a str, &'a str)];
        let cases: &[(Pairs<'_>, Pairs<'_>, Pairs<'_>)] = &[
            (&[], &[], &[]),
            (&[("maintainer", "x")], &[], &[]),
            (&new, &[("pass", "xdp")], &[("stats", "per_cpu_array")]),
            (&new[..1], &[("pass", "xdp")], &[]),
            (&old, &[("fn", "probe")], &[]),
            (&[old[0], old[2]], &[("nice name", "probe")], &[]),
            (&old[..2], &[], &[]),
            (
                &[new[0], new[1], old[1], old[2]],
                &[("pass", "xdp")],
                &[("stats", "per_cpu_array")],
            ),
            (
                &[new[1], old[1], old[2]],
                &[("fn", "probe")],
                &[("stats", "per_cpu_array")],
            ),
            (&[(PROGRAMS_LABEL, "{}"), (MAPS_LABEL, "{}")], &[], &[]),
        ];
        for (labels, programs, maps) in cases {
            let expected = Labels {
                programs: map(programs),
                maps: map(maps),
            };
            assert_eq!(read(labels).unwrap(), expected, "{labels:?}");
        }
    }

    #[test]
    fn refused() {
        let long = format!(r#"{{"a":"{}"}}"#, "x".repeat(MAX_LABEL_BYTES));
        let many: BTreeMap<_, _> = (0..=MAX_LABEL_NAMES)
            .map(|n| (format!("p{n}"), "xdp"))
            .collect();
        let many = serde_json::to_string(&many).unwrap();
        let long_name = format!(r#"{{"{}":"xdp"}}"#, "n".repeat(600));
        let cases = [
            ("", "not a JSON object"),
            ("[]", "not a JSON object"),
            ("xdp", "not a JSON object"),
            (r#"{"a":1}"#, "not a JSON object"),
            (r#"{"a":"xdp"} x"#, "not a JSON object"),
            (r#"{"a":null}"#, "not a JSON object"),
            (r#"{"":"xdp"}"#, "not printable"),
            (r#"{"a\u001b[2J":"xdp"}"#, "not printable"),
            (r#"{"a":"x\ndp"}"#, "not printable"),
            (&long, "at most"),
            (&many, "at most"),
            (&long_name, "not printable"),
        ];
        for (text, message) in cases {
            let error = read(&[(PROGRAMS_LABEL, text)]).unwrap_err().to_string();
            assert!(error.contains(message), "{error}");
            assert!(error.len() < 300, "{error}");
        }
    }

    #[test]
    fn words_and_sections() {
        let other = Section::Other("cgroup_skb");
        let xdp = Section::Xdp { frags: false };
        let uretprobe = Section::Uretprobe { sleepable: true };
        let fentry = Section::Fentry { sleepable: false };
        let cases = [
            ("xdp", &xdp, true),
            ("ext", &xdp, true),
            ("tc", &xdp, false),
            ("tc", &Section::Tc, true),
            ("tc", &Section::Tcx, true),
            ("tcx", &Section::Tc, true),
            ("sched_cls", &Section::Tc, true),
            ("xdp", &Section::Tc, false),
            ("probe", &Section::Kretprobe, true),
            ("kprobe", &Section::Kretprobe, true),
            ("uprobe", &Section::Kprobe, false),
            ("probe", &uretprobe, true),
            ("uprobe", &uretprobe, true),
            ("tracepoint", &uretprobe, false),
            ("tracepoint", &Section::Tracepoint, true),
            ("tracing", &fentry, true),
            ("fentry", &fentry, true),
            ("fexit", &fentry, false),
            ("cgroup_skb", &other, true),
            ("cgroup-skb", &other, true),
            ("xdp", &other, false),
            ("anything", &Section::Unknown, true),
        ];
        for (word, section, expected) in cases {
            assert_eq!(type_fits(word, section), expected, "{word} {section:?}");
        }
    }

    #[test]
    fn words_and_types() {
        for kind in ProgramType::ALL {
            assert!(type_means(kind.as_str(), kind), "{kind}");
            for section in sections(kind) {
                assert!(kind.fits(section), "{kind} {section:?}");
            }
        }
        let cases = [
            ("XDP", "xdp", true),
            ("ext", "xdp", true),
            ("ext", "tcx", true),
            ("ext", "kprobe", false),
            ("sched_cls", "tc", true),
            ("classifier", "tcx", true),
            ("sched_cls", "xdp", false),
            ("tcx", "tc", true),
            ("kretprobe", "kprobe", true),
            ("probe", "uprobe", true),
            ("uretprobe", "uprobe", true),
            ("uprobe", "kprobe", false),
            ("tp", "tracepoint", true),
            ("tracing", "fentry", true),
            ("fentry", "fexit", false),
            ("lsm", "xdp", false),
            ("anything", "xdp", false),
        ];
        for (word, kind, expected) in cases {
            assert_eq!(
                type_means(word, kind.parse().unwrap()),
                expected,
                "{word} {kind}"
            );
        }
    }

    #[test]
    fn against_the_object() {
        let hash = (0..40).find(|n| map_type_name(*n) == Some("hash")).unwrap();
        let section = Section::Xdp { frags: false };
        let program = ProgramInfo {
            section_name: "xdp".to_owned(),
            section,
            core_relocations: false,
        };
        let object = ObjectInfo {
            byte_order: ByteOrder::Little,
            programs: BTreeMap::from([("pass".to_owned(), program)]),
            maps: BTreeMap::from([(
                "stats".to_owned(),
                MapInfo {
                    key_size: None,
                    value_size: None,
                    max_entries: None,
                    map_type: hash,
                    pinned_by_name: false,
                },
            )]),
            license: None,
            core_relocations_in_text: false,
            kernel_symbols: false,
        };
        let check = |programs: &[(&str, &str)], maps: &[(&str, &str)]| {
            Labels {
                programs: map(programs),
                maps: map(maps),
            }
            .check(&object)
            .map_err(|error| error.to_string())
        };
        assert_eq!(check(&[], &[]), Ok(()));
        assert_eq!(
            check(
                &[("pass", "xdp")],
                &[("stats", "Hash"), (".rodata", "array")]
            ),
            Ok(())
        );
        assert!(
            check(&[("drop", "xdp")], &[])
                .unwrap_err()
                .contains("program `drop`, which its object does not have; the object has pass")
        );
        assert!(
            check(&[("pass", "tc")], &[])
                .unwrap_err()
                .contains("`tc`, but it is in section `xdp`")
        );
        assert!(
            check(&[], &[("other", "hash")])
                .unwrap_err()
                .contains("map `other`")
        );
        assert!(
            check(&[], &[("stats", "array")])
                .unwrap_err()
                .contains("`array`, but it is `hash`")
        );
    }
}
