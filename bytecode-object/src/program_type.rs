use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{Section, word_family};

/// The TYPE words of `load --programs`: what a user asks a program to be.
///
/// A retprobe is asked for with the word of its probe; the object's section decides which one it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProgramType {
    /// Entry of a kernel function, by trampoline.
    Fentry,
    /// Return of a kernel function, by trampoline.
    Fexit,
    /// Entry or return of a kernel function, by kprobe.
    Kprobe,
    /// Classifier in our dispatcher on clsact.
    Tc,
    /// Classifier on TCX (kernel 6.6).
    Tcx,
    /// Kernel tracepoint.
    Tracepoint,
    /// Entry or return of a function of a user-space binary.
    Uprobe,
    /// Packets as the driver receives them.
    Xdp,
}

/// A word that is none of the eight TYPE words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{}: expected one of fentry, fexit, kprobe, tc, tcx, tracepoint, uprobe, xdp",
    unknown(.0)
)]
pub struct UnknownProgramType(pub String);

fn unknown(word: &str) -> String {
    match word_family(word) {
        Some(family) => format!("{family} programs (`{word}`) are not supported yet"),
        None => format!("unknown program type `{word}`"),
    }
}

impl ProgramType {
    /// Every TYPE word, in the order of the guide.
    pub const ALL: [Self; 8] = [
        Self::Fentry,
        Self::Fexit,
        Self::Kprobe,
        Self::Tc,
        Self::Tcx,
        Self::Tracepoint,
        Self::Uprobe,
        Self::Xdp,
    ];

    /// The word itself.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fentry => "fentry",
            Self::Fexit => "fexit",
            Self::Kprobe => "kprobe",
            Self::Tc => "tc",
            Self::Tcx => "tcx",
            Self::Tracepoint => "tracepoint",
            Self::Uprobe => "uprobe",
            Self::Xdp => "xdp",
        }
    }

    /// The kernel's name of the program type that this word stands for: what `list -p` filters by.
    pub fn kernel_type(self) -> &'static str {
        match self {
            Self::Fentry | Self::Fexit => "tracing",
            Self::Kprobe | Self::Uprobe => "probe",
            Self::Tc | Self::Tcx => "tc",
            Self::Tracepoint => "tracepoint",
            Self::Xdp => "xdp",
        }
    }

    /// Whether a program of this ELF section can be loaded as this type.
    pub fn fits(self, section: &Section) -> bool {
        match self {
            Self::Fentry => matches!(section, Section::Fentry { .. }),
            Self::Fexit => matches!(section, Section::Fexit { .. }),
            Self::Kprobe => matches!(section, Section::Kprobe | Section::Kretprobe),
            Self::Tc | Self::Tcx => matches!(section, Section::Tc | Section::Tcx),
            Self::Tracepoint => matches!(section, Section::Tracepoint),
            Self::Uprobe => matches!(section, Section::Uprobe { .. } | Section::Uretprobe { .. }),
            Self::Xdp => matches!(section, Section::Xdp { .. }),
        }
    }
}

impl fmt::Display for ProgramType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for ProgramType {
    type Err = UnknownProgramType;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.as_str() == word)
            .ok_or_else(|| UnknownProgramType(word.to_owned()))
    }
}
