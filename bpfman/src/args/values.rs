//! Values that need more than clap knows to be checked while the command line is parsed.

use std::str::FromStr;

use bytecode_image::pull::PullPolicy;
use bytecode_image::redact;
use bytecode_image::reference::{Reference, short_name};
use bytecode_object::{ProgramType, UnknownProgramType};
use clap::{Args, ValueEnum};
use loader::ProgramRequest;

use super::suggest::nearest;

/// `-o/--output` of the commands that have a result.
#[derive(Debug, Args)]
pub(crate) struct OutputArgs {
    /// Optional: How the result is printed.
    ///
    /// [possible values: table, json]
    ///
    /// [default: table]
    #[arg(
        short,
        long,
        value_enum,
        default_value_t,
        hide_default_value = true,
        hide_possible_values = true,
        verbatim_doc_comment
    )]
    pub(crate) output: OutputFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum OutputFormat {
    #[default]
    Table,
    Json,
}

/// The guide spells pull policies in camel case, and only so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum PullPolicyWord {
    #[value(name = "Always")]
    Always,
    #[default]
    #[value(name = "IfNotPresent")]
    IfNotPresent,
    #[value(name = "Never")]
    Never,
}

impl PullPolicyWord {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Always => "Always",
            Self::IfNotPresent => "IfNotPresent",
            Self::Never => "Never",
        }
    }
}

impl From<PullPolicyWord> for PullPolicy {
    fn from(word: PullPolicyWord) -> Self {
        match word {
            PullPolicyWord::Always => Self::Always,
            PullPolicyWord::IfNotPresent => Self::IfNotPresent,
            PullPolicyWord::Never => Self::Never,
        }
    }
}

/// An image's name, as typed (it is shown again) and as understood.
#[derive(Debug, Clone)]
pub(crate) struct ImageUrl {
    pub(crate) typed: String,
    pub(crate) reference: Reference,
}

impl ImageUrl {
    /// What was typed, when it names no registry.
    pub(crate) fn short(&self) -> Option<String> {
        short_name(&self.typed).map(str::to_owned)
    }
}

impl FromStr for ImageUrl {
    type Err = <Reference as FromStr>::Err;

    fn from_str(typed: &str) -> Result<Self, Self::Err> {
        let reference: Reference = typed.parse()?;
        // Whoever named an image told its name, whatever password it looks like.
        redact::allow(typed);
        redact::allow(&reference.to_string());
        redact::allow(&reference.name());
        Ok(Self {
            typed: typed.to_owned(),
            reference,
        })
    }
}

/// `KEY=VALUE`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KeyValue {
    pub(crate) key: String,
    pub(crate) value: String,
}

impl FromStr for KeyValue {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once('=') {
            Some((key, value)) if !key.is_empty() => Ok(Self {
                key: key.to_owned(),
                value: value.to_owned(),
            }),
            _ => Err(ValueError::KeyValue),
        }
    }
}

/// `NAME=HEX`: a global variable and its bytes in memory order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GlobalValue {
    pub(crate) name: String,
    pub(crate) bytes: Vec<u8>,
}

impl FromStr for GlobalValue {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, hex) = text
            .split_once('=')
            .filter(|(name, _)| !name.is_empty())
            .ok_or(ValueError::Global)?;
        if hex.is_empty() {
            return Err(ValueError::NoHex {
                name: name.to_owned(),
            });
        }
        if let Some(found) = hex.chars().find(|digit| !digit.is_ascii_hexdigit()) {
            return Err(ValueError::NotHex {
                name: name.to_owned(),
                found,
            });
        }
        let digits: Vec<u8> = hex
            .chars()
            .filter_map(|digit| digit.to_digit(16))
            .map(|digit| digit as u8)
            .collect();
        let (pairs, rest) = digits.as_chunks::<2>();
        if !rest.is_empty() {
            return Err(ValueError::OddHex {
                name: name.to_owned(),
                digits: digits.len(),
            });
        }
        Ok(Self {
            name: name.to_owned(),
            bytes: pairs.iter().map(|[high, low]| high << 4 | low).collect(),
        })
    }
}

/// Reads one `--programs` word: `TYPE:FUNC_NAME`, for fentry and fexit `TYPE:FUNC_NAME:ATTACH_FUNC`.
pub(crate) fn program(text: &str) -> Result<ProgramRequest, ValueError> {
    let mut parts = text.split(':');
    let word = parts.next().unwrap_or_default();
    let program_type: ProgramType = word.parse().map_err(|error| not_a_type(text, error))?;
    let function = parts
        .next()
        .filter(|name| !name.is_empty())
        .ok_or(ValueError::NoFunction)?;
    let attach_function = parts.next().filter(|name| !name.is_empty());
    if parts.next().is_some() {
        return Err(ValueError::TooManyParts);
    }
    let traced = matches!(program_type, ProgramType::Fentry | ProgramType::Fexit);
    match attach_function {
        None if traced => Err(ValueError::NoAttachFunction { program_type }),
        Some(_) if !traced => Err(ValueError::AttachFunction { program_type }),
        _ => Ok(ProgramRequest {
            program_type,
            function: function.to_owned(),
            attach_function: attach_function.map(str::to_owned),
        }),
    }
}

/// Why a word of `--programs` does not begin with a TYPE.
fn not_a_type(text: &str, source: UnknownProgramType) -> ValueError {
    let types = || ProgramType::ALL.iter().map(|kind| kind.as_str());
    if text.ends_with(".o") {
        return ValueError::ObjectFile;
    }
    let (first, rest) = text.split_once(['/', '.']).unwrap_or((text, ""));
    if let Some(kind) = types().find(|kind| *kind == first) {
        return ValueError::Separator {
            example: format!("{kind}:{rest}"),
        };
    }
    if text.contains('/') {
        return ValueError::Image;
    }
    if !text.is_empty() && !text.contains(':') {
        return ValueError::NoType {
            example: format!("xdp:{text}"),
        };
    }
    match nearest(&source.0, types()) {
        Some(near) => ValueError::Type { source, near },
        None => ValueError::UnknownType(source),
    }
}

/// A program's id.
pub(super) fn program_id(text: &str) -> Result<u32, ValueError> {
    text.parse().map_err(|_| ValueError::ProgramId)
}

/// A link's id.
pub(super) fn link_id(text: &str) -> Result<u32, ValueError> {
    text.parse().map_err(|_| ValueError::LinkId)
}

/// A process's id.
pub(super) fn process_id(text: &str) -> Result<u32, ValueError> {
    text.parse().map_err(|_| ValueError::ProcessId)
}

/// Bytes: `16`, `0x10`.
pub(super) fn offset(text: &str) -> Result<u64, ValueError> {
    let parsed = match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16),
        None => text.parse(),
    };
    parsed.map_err(|_| match text {
        "json" | "table" => ValueError::FormatAsOffset {
            format: text.to_owned(),
        },
        _ => ValueError::Offset,
    })
}

/// Reads `CATEGORY/NAME`.
pub(crate) fn tracepoint(text: &str) -> Result<String, ValueError> {
    match text.split_once('/') {
        Some((category, name))
            if !category.is_empty() && !name.is_empty() && !name.contains('/') =>
        {
            Ok(text.to_owned())
        }
        _ => Err(ValueError::Tracepoint),
    }
}

/// What is wrong with a value; clap puts the value and its option in front.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ValueError {
    #[error("expected KEY=VALUE with a key that is not empty")]
    KeyValue,
    #[error("expected NAME=HEX, as in GLOBAL_u32=0A0B0C0D")]
    Global,
    #[error("`{name}` has no bytes: expected two hex digits a byte after the `=`")]
    NoHex { name: String },
    #[error("`{found}` in the value of `{name}` is no hex digit")]
    NotHex { name: String, found: char },
    #[error("the value of `{name}` has {digits} hex digits: expected an even number, two a byte")]
    OddHex { name: String, digits: usize },
    #[error(transparent)]
    UnknownType(UnknownProgramType),
    #[error("{source}; did you mean `{near}`?")]
    Type {
        source: UnknownProgramType,
        near: &'static str,
    },
    #[error("TYPE is missing, as in `{example}`; the types are {}", type_words())]
    NoType { example: String },
    #[error("expected `:` after the type, as in `{example}`")]
    Separator { example: String },
    #[error("expected TYPE:FUNC_NAME; an image is named before --programs, or by --image-url")]
    Image,
    #[error("expected TYPE:FUNC_NAME; the object file is named by --path")]
    ObjectFile,
    #[error("not a program id: expected a number, as `bpfman list programs` shows it")]
    ProgramId,
    #[error("not a link id: expected a number, as `bpfman list links` shows it")]
    LinkId,
    #[error("not a process id: expected a number, as `ps` shows it")]
    ProcessId,
    #[error("expected a number of bytes, as in 16 or 0x10")]
    Offset,
    #[error("`-o` is the offset here, expected a number of bytes: write `--output {format}`")]
    FormatAsOffset { format: String },
    #[error("no function name: expected TYPE:FUNC_NAME")]
    NoFunction,
    #[error("more than three parts: expected TYPE:FUNC_NAME or TYPE:FUNC_NAME:ATTACH_FUNC")]
    TooManyParts,
    #[error(
        "{program_type} needs the kernel function that it traces: {program_type}:FUNC_NAME:ATTACH_FUNC"
    )]
    NoAttachFunction { program_type: ProgramType },
    #[error(
        "{program_type} takes no function to attach to at load: expected {program_type}:FUNC_NAME"
    )]
    AttachFunction { program_type: ProgramType },
    #[error("expected CATEGORY/NAME, as in syscalls/sys_enter_openat")]
    Tracepoint,
}

fn type_words() -> String {
    ProgramType::ALL.map(ProgramType::as_str).join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets() {
        for (text, expected) in [
            ("0", Some(0)),
            ("16", Some(16)),
            ("0x10", Some(16)),
            ("0xFFFFFFFFFFFFFFFF", Some(u64::MAX)),
            ("0x", None),
            ("10h", None),
            ("-1", None),
            ("", None),
        ] {
            assert_eq!(offset(text).ok(), expected, "{text}");
        }
    }

    #[test]
    fn numbers_that_are_none_say_what_they_should_be() {
        for text in ["abc", "", "-1", "4294967296", "5x", "0x5"] {
            let said = |result: Result<u32, ValueError>| result.unwrap_err().to_string();
            assert!(
                said(program_id(text)).starts_with("not a program id"),
                "{text}"
            );
            assert!(said(link_id(text)).starts_with("not a link id"), "{text}");
            assert!(
                said(process_id(text)).starts_with("not a process id"),
                "{text}"
            );
        }
        assert_eq!(program_id("4294967295").unwrap(), u32::MAX);
        let said = |text| offset(text).unwrap_err().to_string();
        assert_eq!(said("5x"), "expected a number of bytes, as in 16 or 0x10");
        assert!(said("json").ends_with("write `--output json`"));
    }

    #[test]
    fn programs() {
        type Parsed = Result<(&'static str, Option<&'static str>), &'static str>;
        let cases: [(&str, Parsed); 20] = [
            ("xdp:pass", Ok(("pass", None))),
            (
                "fentry:test_fentry:do_unlinkat",
                Ok(("test_fentry", Some("do_unlinkat"))),
            ),
            ("fexit:f:g", Ok(("f", Some("g")))),
            ("fentry:f", Err("fentry needs the kernel function")),
            ("fexit:f:", Err("fexit needs the kernel function")),
            ("xdp:f:g", Err("xdp takes no function")),
            ("xdp", Err("no function name")),
            ("xdp:", Err("no function name")),
            ("fentry:f:g:h", Err("more than three parts")),
            ("XDP:f", Err("unknown program type `XDP`")),
            ("", Err("unknown program type ``")),
            (
                "xdp_stats",
                Err("TYPE is missing, as in `xdp:xdp_stats`; the types are fentry, "),
            ),
            (
                "xpd:f",
                Err(
                    "unknown program type `xpd`: expected one of fentry, fexit, kprobe, tc, tcx, tracepoint, uprobe, xdp; did you mean `xdp`?",
                ),
            ),
            ("zzzzzz:f", Err("unknown program type `zzzzzz`: expected")),
            (":f", Err("unknown program type ``")),
            ("xdp/f", Err("expected `:` after the type, as in `xdp:f`")),
            ("x.o", Err("expected TYPE:FUNC_NAME; the object file")),
            ("./dir/x.o", Err("expected TYPE:FUNC_NAME; the object file")),
            ("quay.io/a/b:v1", Err("expected TYPE:FUNC_NAME; an image")),
            ("localhost:5000/a", Err("expected TYPE:FUNC_NAME; an image")),
        ];
        for (text, expected) in cases {
            match (program(text), expected) {
                (Ok(found), Ok((function, attach))) => {
                    assert_eq!(
                        (found.function.as_str(), found.attach_function.as_deref()),
                        (function, attach),
                        "{text}"
                    );
                }
                (Err(found), Err(start)) => {
                    assert!(found.to_string().starts_with(start), "{text}: {found}")
                }
                (found, _) => panic!("{text}: {found:?}"),
            }
        }
    }

    #[test]
    fn globals() {
        let cases: [(&str, Result<&[u8], &str>); 8] = [
            ("A=01", Ok(&[1])),
            ("GLOBAL_u32=0A0b0C0d", Ok(&[10, 11, 12, 13])),
            ("A=", Err("`A` has no bytes")),
            ("A", Err("expected NAME=HEX")),
            ("=01", Err("expected NAME=HEX")),
            ("A=1", Err("the value of `A` has 1 hex digits")),
            ("A=0x01", Err("`x` in the value of `A`")),
            ("A=é1", Err("`é` in the value of `A`")),
        ];
        for (text, expected) in cases {
            match (text.parse::<GlobalValue>(), expected) {
                (Ok(found), Ok(bytes)) => assert_eq!(found.bytes, bytes, "{text}"),
                (Err(found), Err(start)) => {
                    assert!(found.to_string().starts_with(start), "{text}: {found}")
                }
                (found, _) => panic!("{text}: {found:?}"),
            }
        }
    }

    #[test]
    fn keys_values_and_tracepoints() {
        let pair = |text: &str| {
            text.parse::<KeyValue>()
                .ok()
                .map(|pair| (pair.key, pair.value))
        };
        assert_eq!(pair("owner=acme"), Some(("owner".into(), "acme".into())));
        assert_eq!(pair("a=b=c"), Some(("a".into(), "b=c".into())));
        assert_eq!(pair("a="), Some(("a".into(), String::new())));
        assert_eq!(pair("=b"), None);
        assert_eq!(pair("owner"), None);
        assert!(tracepoint("syscalls/sys_enter_openat").is_ok());
        for bad in ["", "a", "a/", "/b", "a/b/c"] {
            assert!(tracepoint(bad).is_err(), "{bad}");
        }
    }
}
