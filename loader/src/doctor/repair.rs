//! What mends a difference: one change each, journalled and undone when it fails, as any other.

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;

use crate::state::ChainKey;

/// What mends a difference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Repair {
    /// Mounts bpffs and makes the folders that stay.
    Prepare,
    MakeFolder {
        path: PathBuf,
    },
    /// Pins a program that lives.
    Pin {
        program: u32,
    },
    PinMap {
        map: u32,
        path: PathBuf,
    },
    /// Takes a program that is gone out of the records, with its links.
    TakeOut {
        program: u32,
    },
    /// Takes links out of the records, with what is left of them.
    Forget {
        links: BTreeSet<u32>,
    },
    /// Takes away what is left of a chain without links.
    EndChain {
        key: ChainKey,
    },
    /// Puts a chain as it is recorded onto its hook.
    Rebuild {
        key: ChainKey,
    },
    /// Takes a clsact of ours away, unless there is a filter on it.
    DropClsact {
        nsid: u64,
        ifindex: u32,
    },
    /// Takes pins away, then the folder that they were in.
    Remove {
        pins: Vec<PathBuf>,
        folder: Option<PathBuf>,
    },
    /// Gives the journal another name, under which nobody looks for it.
    SetJournalAside,
}

impl fmt::Display for Repair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Prepare => "mount it and make its folders",
            Self::MakeFolder { .. } => "make it",
            Self::Pin { .. } | Self::PinMap { .. } => "pin it again",
            Self::TakeOut { .. } => "take it and its links out of the records",
            Self::Forget { links } if links.len() > 1 => {
                "take its links out of the records, with what is left of them"
            }
            Self::Forget { .. } => "take it out of the records, with what is left of it",
            Self::EndChain { .. } => "take away what is left of it",
            Self::Rebuild { .. } => "build the chain anew as it is recorded",
            Self::DropClsact { .. } => "remove it unless others have filters on it, and its record",
            Self::Remove { .. } => "remove it",
            Self::SetJournalAside => "set the journal aside as journal.damaged",
        })
    }
}
