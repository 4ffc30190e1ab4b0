//! Everything that can end a command: what was being done to what, why it failed, what to do; and the exit status.

use std::error::Error as StdError;
use std::fmt;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use bytecode_image::archive::ArchiveError;
use bytecode_image::manifest::ManifestError;
use bytecode_image::pull::{Part, PullError};
use bytecode_image::registry::auth::CredentialsError;
use bytecode_image::registry::push_stored::PushError;
use bytecode_image::store::StoreError;
use bytecode_image::verify::{IdentityError, PolicyError};
use bytecode_object::ProgramType;
use loader::LoaderError;
use loader::kernel::KernelError;

use crate::config::{ConfigError, FileError};

/// Lines of a verifier's log that are shown without `-v`: its verdict stands at the end.
const LOG_LINES: usize = 20;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// What the user wanted, as typed, around why it failed.
    #[error("cannot {verb} {object}")]
    Command {
        verb: &'static str,
        object: String,
        source: Box<Error>,
    },
    #[error("{left} of these differences {} left", if *left == 1 { "is" } else { "are" })]
    Differences {
        left: usize,
        /// How many of them repairing is known to end.
        repairable: usize,
    },
    #[error("nothing is proven about {image}: {why}")]
    NothingProven { image: String, why: Unproven },
    #[error("cannot use {option} {}", file.display())]
    OptionFile {
        option: &'static str,
        file: PathBuf,
        source: FileError,
    },
    #[error("--certificate-identity, --certificate-identity-regexp and --certificate-oidc-issuer")]
    Identity(#[source] IdentityError),
    #[error("the options are no policy")]
    Policy(#[source] PolicyError),
    #[error("key `{key}` is given two values, `{first}` and `{second}`")]
    TwoValues {
        key: String,
        first: String,
        second: String,
    },
    /// Of commands that go on after a failure: each is shown by itself.
    #[error("{} failures", .0.len())]
    Several(Vec<Self>),
    #[error("no {what} of the application `{application}`")]
    NoSuchApplication {
        what: &'static str,
        application: String,
    },
    #[error("global variable `{name}` is given twice")]
    GlobalTwice { name: String },
    #[error("program `{function}` is asked for twice")]
    ProgramTwice { function: String },
    #[error("--registry-auth: {0}")]
    RegistryAuth(CredentialsError),
    #[error("--tag: `{tag}` carries a digest, which only the finished image has")]
    TagWithDigest { tag: String },
    #[error("--tag is missing")]
    NoTag,
    #[error("--container-file is missing: docker and podman build by it")]
    NoContainerFile,
    #[error("this command needs {missing}, which this process does not have")]
    Capabilities { missing: String },
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("reading the object file {}", path.display())]
    ReadObject {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("reading the object file {}: more than the {limit} bytes that an eBPF object may have", path.display())]
    ObjectTooLarge { path: PathBuf, limit: u64 },
    #[error("image {image} has no program `{function}`")]
    NoSuchProgramInImage {
        image: String,
        function: String,
        offered: String,
    },
    #[error("image {image} has `{function}` as {found}, not as {asked}")]
    OtherTypeInImage {
        image: String,
        function: String,
        found: String,
        asked: String,
    },
    #[error(transparent)]
    Pull(Box<PullError>),
    #[error(transparent)]
    Store(Box<StoreError>),
    #[error(transparent)]
    Archive(Box<ArchiveError>),
    #[error("cannot {what}: it is a terminal")]
    Terminal {
        /// `import standard input` or `export to standard output`.
        what: &'static str,
    },
    #[error(transparent)]
    Push(Box<PushError>),
    #[error("`{typed}` is the beginning of {} digests in the store: {}", found.len(), found.join(", "))]
    SeveralDigests { typed: String, found: Vec<String> },
    #[error("cannot remove {typed}: that image has {} names, {}", names.len(), names.join(", "))]
    SeveralNames { typed: String, names: Vec<String> },
    #[error(transparent)]
    Loader(#[from] LoaderError),
    #[error(transparent)]
    Build(Box<builder::BuildError>),
    #[error("writing the manual pages to {}", dir.display())]
    Man {
        dir: PathBuf,
        source: std::io::Error,
    },
    #[error("writing the digest to {}", path.display())]
    DigestFile {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("making JSON of the result")]
    Json(#[source] serde_json::Error),
    #[error("writing to standard output")]
    Print(#[source] std::io::Error),
    #[error("cannot print the result: {} loaded and stay{} loaded", programs(.ids), if ids.len() == 1 { "s" } else { "" })]
    LoadedUnprinted { ids: Vec<u32>, source: Box<Self> },
    #[error(
        "cannot print the result: link {id} of program {program} is attached and stays attached"
    )]
    AttachedUnprinted {
        id: u32,
        program: u32,
        source: Box<Self>,
    },
}

/// `program 7 is`, `programs 7, 8 are`.
fn programs(ids: &[u32]) -> String {
    let words: Vec<_> = ids.iter().map(u32::to_string).collect();
    match words.as_slice() {
        [id] => format!("program {id} is"),
        words => format!("programs {} are", words.join(", ")),
    }
}

/// Why nothing is proven about an image that may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unproven {
    /// No policy covers it.
    NotCovered,
    /// `verify_enabled = false`.
    NotLookedAt,
}

impl fmt::Display for Unproven {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotCovered => "no policy of the configuration covers it",
            Self::NotLookedAt => "the configuration says `verify_enabled = false`",
        })
    }
}

// Boxed because they are several times larger than the rest.
impl From<PullError> for Error {
    fn from(error: PullError) -> Self {
        Self::Pull(Box::new(error))
    }
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        Self::Store(Box::new(error))
    }
}

impl From<ArchiveError> for Error {
    fn from(error: ArchiveError) -> Self {
        Self::Archive(Box::new(error))
    }
}

impl From<PushError> for Error {
    fn from(error: PushError) -> Self {
        Self::Push(Box::new(error))
    }
}

impl From<builder::BuildError> for Error {
    fn from(error: builder::BuildError) -> Self {
        Self::Build(Box::new(error))
    }
}

impl Error {
    /// The end of a command that went on after failures. What was done is printed in any case, and nothing where
    /// nothing was.
    pub(crate) fn of_several<T>(
        mut failed: Vec<Self>,
        done: &[T],
        print: impl FnOnce(&[T]) -> Result<(), Self>,
    ) -> Result<(), Self> {
        if failed.is_empty() {
            return print(done);
        }
        if !done.is_empty()
            && let Err(error) = print(done)
        {
            failed.push(error);
        }
        match failed.pop() {
            Some(only) if failed.is_empty() => Err(only),
            last => {
                failed.extend(last);
                Err(Self::Several(failed))
            }
        }
    }

    /// Puts what the user wanted in front, for [`Result::map_err`].
    pub(crate) fn to<E: Into<Self>>(verb: &'static str, object: &str) -> impl FnOnce(E) -> Self {
        move |error| Self::Command {
            verb,
            object: object.to_owned(),
            source: Box::new(error.into()),
        }
    }

    /// 2 for wrong usage, what shells give for a signal, else 1.
    pub(crate) fn exit_status(&self) -> u8 {
        match self {
            Self::Command { source, .. } => source.exit_status(),
            Self::Build(error) => match &**error {
                builder::BuildError::Stopped { signal, .. } => 128 + signal.number(),
                _ => 1,
            },
            Self::TwoValues { .. }
            | Self::GlobalTwice { .. }
            | Self::ProgramTwice { .. }
            | Self::RegistryAuth(_)
            | Self::TagWithDigest { .. }
            | Self::Identity(_)
            | Self::Terminal { .. }
            | Self::NoTag
            | Self::NoContainerFile => 2,
            _ => 1,
        }
    }

    /// What happened, then each cause that says something new.
    pub(crate) fn chain(&self) -> Vec<String> {
        chain(self)
    }

    /// The verifier's log, where the verifier is why: how many lines it has, and its last ones, or the whole of it.
    pub(crate) fn verifier_log(&self, whole: bool) -> Option<(usize, Vec<&str>)> {
        let mut cause: Option<&(dyn StdError + 'static)> = Some(self);
        while let Some(error) = cause {
            if let Some(KernelError::Rejected { log, .. } | KernelError::MissingType { log, .. }) =
                error.downcast_ref()
            {
                return Some(end_of(log, whole));
            }
            cause = error.source();
        }
        None
    }

    /// Where objects of one image differ, as the lines of a diff.
    pub(crate) fn diff(&self) -> Vec<String> {
        match self {
            Self::Command { source, .. } => source.diff(),
            Self::Build(error) => error.diff(),
            _ => Vec::new(),
        }
    }

    /// Whether an image is for other platforms than the one that was asked for.
    fn is_of_platform(&self) -> bool {
        let Self::Pull(error) = self else {
            return false;
        };
        matches!(&**error, PullError::Refused { part, .. } if matches!(
            **part,
            Part::Platform { .. } | Part::Manifest(ManifestError::Platform { .. })
        ))
    }

    /// What to do, where that is known.
    pub(crate) fn hint(&self) -> Option<String> {
        match self {
            // `load` takes no platform: it loads for this host.
            Self::Command { verb: "load", source, .. } if source.is_of_platform() => {
                Some("build the image for the platform of this host, too".to_owned())
            }
            Self::Command { source, .. } => source.hint(),
            Self::Pull(error) => error.hint(),
            Self::Store(error) => error.hint(),
            Self::Archive(error) => error.hint(),
            Self::Push(error) => error.hint(),
            Self::Terminal { .. } => {
                Some("name a file, or use a pipe: `… | bpfman image import -`, `bpfman image export … -o - | …`".to_owned())
            }
            Self::SeveralDigests { .. } => Some("type more of it".to_owned()),
            Self::SeveralNames { .. } => Some("remove it by its names".to_owned()),
            Self::OptionFile {
                source: FileError::Read { file, source },
                ..
            } => of_file(file, source),
            Self::Loader(error) => error.hint().or_else(|| denied(error)),
            Self::Build(error) => error.hint(),
            Self::Differences {
                repairable: 0, ..
            } => None,
            Self::Differences { repairable, .. } => {
                Some(format!("`bpfman doctor --repair` repairs {repairable} of them"))
            }
            Self::Capabilities { .. } => {
                Some("run it as root (sudo), or give the process these capabilities".to_owned())
            }
            Self::NoSuchProgramInImage { offered, .. } => Some(format!("it offers {offered}")),
            Self::OtherTypeInImage {
                function, found, ..
            } => {
                // Older images have words here that `--programs` does not take.
                let kind: ProgramType = found.parse().ok()?;
                Some(format!("ask for `--programs {kind}:{function}`"))
            }
            Self::NothingProven { .. } => {
                Some("name a signer with --key, or with --certificate-identity and --certificate-oidc-issuer".to_owned())
            }
            Self::NoSuchApplication { .. } => Some(
                "`bpfman list programs` shows the applications there are; --ignore-missing takes none for no error"
                    .to_owned(),
            ),
            Self::NoContainerFile => Some("--runtime builtin builds without one".to_owned()),
            Self::Config(error) => Some(error.hint()),
            Self::OptionFile { source, .. } => source.hint(),
            Self::ReadObject { path, source } => of_file(path, source),
            Self::ObjectTooLarge { .. } => Some(
                "is it an eBPF object? its debug sections go with `llvm-strip --strip-debug`".to_owned(),
            ),
            Self::ProgramTwice { .. } => Some(
                "name it once: a program can be attached many times".to_owned(),
            ),
            Self::DigestFile { .. } => Some(
                "name a file in a folder that exists and can be written; the image itself is built, and pushed unless \
                 --no-push was given"
                    .to_owned(),
            ),
            Self::Man { .. } => Some("name a folder that can be written".to_owned()),
            Self::LoadedUnprinted { ids, .. } => match ids.as_slice() {
                [id] => Some(format!(
                    "`bpfman get program {id}` shows it, `bpfman unload {id}` removes it"
                )),
                _ => Some(
                    "`bpfman list programs` shows them, `bpfman unload` removes each".to_owned(),
                ),
            },
            Self::AttachedUnprinted { id, .. } => Some(format!(
                "`bpfman get link {id}` shows it, `bpfman detach {id}` removes it"
            )),
            Self::RegistryAuth(_) => Some("printf %s USERNAME:PASSWORD | base64".to_owned()),
            _ => None,
        }
    }
}

/// An error with its causes, in one line.
pub(crate) fn with_causes(error: &dyn StdError) -> String {
    chain(error).join(": ")
}

fn chain(error: &dyn StdError) -> Vec<String> {
    let mut lines = vec![error.to_string()];
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        // Some errors repeat their cause in their own text.
        if !lines.iter().any(|line| line.contains(&text)) {
            lines.push(text);
        }
        cause = error.source();
    }
    lines
}

/// What to do where the files that bpfman keeps belong to root.
fn denied(error: &(dyn StdError + 'static)) -> Option<String> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        let denied = error
            .downcast_ref::<std::io::Error>()
            .is_some_and(|error| error.kind() == ErrorKind::PermissionDenied);
        if denied && !rustix::process::geteuid().is_root() {
            return Some("run it as root (sudo)".to_owned());
        }
        cause = error.source();
    }
    None
}

/// What to do about an object file that cannot be read.
fn of_file(path: &Path, source: &std::io::Error) -> Option<String> {
    match source.kind() {
        ErrorKind::NotFound if path.is_relative() => {
            Some("is the path right? it begins in the folder that the command runs in".to_owned())
        }
        ErrorKind::NotFound => Some("is the path right?".to_owned()),
        ErrorKind::IsADirectory => Some("name one file of that folder".to_owned()),
        ErrorKind::PermissionDenied => {
            Some("let the user who runs the command read the file and its folders".to_owned())
        }
        _ => None,
    }
}

fn end_of(log: &str, whole: bool) -> (usize, Vec<&str>) {
    let lines: Vec<&str> = log.trim_end().lines().collect();
    let all = lines.len();
    let skipped = if whole {
        0
    } else {
        all.saturating_sub(LOG_LINES)
    };
    (all, lines.into_iter().skip(skipped).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_that_is_told_already_is_not_told_again() {
        let source = std::io::Error::from(std::io::ErrorKind::NotFound);
        let error = Error::ReadObject {
            path: "x.o".into(),
            source,
        };
        assert_eq!(
            error.chain(),
            ["reading the object file x.o", "entity not found"]
        );
        assert_eq!(
            Error::NoContainerFile.chain(),
            ["--container-file is missing: docker and podman build by it"]
        );
    }

    #[test]
    fn files_that_cannot_be_read_say_what_to_do() {
        let hint = |path: &str, kind: ErrorKind| {
            let (path, source) = (path.into(), kind.into());
            Error::ReadObject { path, source }.hint()
        };
        let cases = [
            ("x.o", ErrorKind::NotFound, Some("it begins in the folder")),
            ("/x.o", ErrorKind::NotFound, Some("is the path right?")),
            (
                "/tmp",
                ErrorKind::IsADirectory,
                Some("one file of that folder"),
            ),
            ("x.o", ErrorKind::PermissionDenied, Some("read the file")),
            ("x.o", ErrorKind::TimedOut, None),
        ];
        for (path, kind, expected) in cases {
            let found = hint(path, kind);
            assert_eq!(found.is_some(), expected.is_some(), "{path} {kind}");
            assert!(
                found
                    .unwrap_or_default()
                    .contains(expected.unwrap_or_default()),
                "{path} {kind}"
            );
        }
    }

    #[test]
    fn the_end_of_a_log_is_its_last_twenty_lines() {
        let log: String = (1..=30).map(|line| format!("{line}\n")).collect();
        let (all, lines) = end_of(&log, false);
        assert_eq!(
            (all, lines.len(), lines[0], lines[19]),
            (30, 20, "11", "30")
        );
        assert_eq!(end_of(&log, true).1.len(), 30);
        assert_eq!(end_of("only\n\n", false), (1, vec!["only"]));
        assert_eq!(end_of("", false), (0, vec![]));
    }

    #[test]
    fn the_log_is_found_under_the_errors_around_it() {
        let source = std::io::Error::from(std::io::ErrorKind::PermissionDenied);
        let source = KernelError::Rejected {
            function: "f".into(),
            log: "a\nb\n".into(),
            source,
        };
        let error = Error::Loader(LoaderError::Kernel {
            what: "loading x.o".into(),
            source,
        });
        assert_eq!(error.verifier_log(false), Some((2, vec!["a", "b"])));
        assert_eq!(Error::NoContainerFile.verifier_log(false), None);
    }

    #[test]
    fn what_the_user_typed_comes_first() {
        let source = KernelError::Rejected {
            function: "f".into(),
            log: "a\n".into(),
            source: std::io::Error::from(std::io::ErrorKind::PermissionDenied),
        };
        let source = LoaderError::Kernel {
            what: "loading x.o".into(),
            source,
        };
        let error = Error::to("load", "quay.io/acme/xdp:v1")(source);
        assert_eq!(
            error.chain()[..2],
            ["cannot load quay.io/acme/xdp:v1", "loading x.o"]
        );
        assert_eq!(error.verifier_log(false), Some((1, vec!["a"])));
        let usage = Error::to("build", "a:1")(Error::NoContainerFile);
        assert_eq!(usage.exit_status(), 2);
        assert!(usage.hint().is_some());
    }

    #[test]
    fn wrong_usage_is_2_and_failure_1() {
        assert_eq!(Error::NoContainerFile.exit_status(), 2);
        let error = Error::Differences {
            left: 1,
            repairable: 0,
        };
        assert_eq!(error.exit_status(), 1);
    }
}
