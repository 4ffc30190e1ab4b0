use std::fmt;

use crate::LoaderError;

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Which difference it is.
    pub kind: FindingKind,
    /// What differs: `program 7 (pass)`, a path, `link 5 (eth0)`.
    pub place: String,
    /// What should be there.
    pub expected: String,
    /// What is there.
    pub found: String,
    /// What is done about it.
    pub remedy: Remedy,
}

/// What is done about a difference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Remedy {
    /// What repairing does, as in "pin it again".
    Repair(String),
    /// What a user has to do.
    ByHand(String),
}

/// A difference, and what became of it.
#[derive(Debug)]
pub struct Diagnosis {
    /// What was found.
    pub finding: Finding,
    /// What became of it.
    pub outcome: Outcome,
}

/// What became of a difference.
#[derive(Debug)]
pub enum Outcome {
    /// It is still there: nobody asked for repair, or there is none.
    Left,
    /// It was repaired.
    Repaired,
    /// Repairing it failed, and was undone.
    Failed(Box<LoaderError>),
}

/// The differences there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum FindingKind {
    /// What an interrupted command left could be neither finished nor undone.
    ChangeUnfinished,
    /// The journal cannot be read.
    JournalUnreadable,
    /// The records cannot be read, so nothing can be compared with them.
    RecordsUnreadable,
    /// The database that earlier versions had their records in.
    OldDatabase,
    /// There are records, but no bpffs.
    NotMounted,
    /// A folder that stays is missing.
    FolderMissing,
    /// The kernel no longer has a program of the records.
    ProgramGone,
    /// A program has lost its pin.
    ProgramUnpinned,
    /// A pin is of something else than is recorded.
    PinDiffers,
    /// A map of a program has lost its pin.
    MapUnpinned,
    /// A link is of a program without record.
    LinkWithoutProgram,
    /// A link has lost its pin, and so is gone.
    LinkGone,
    /// A link leads nowhere: its interface is gone, or somebody detached it.
    LinkStopped,
    /// It cannot be told where a link is.
    LinkUnread,
    /// Links in a chain that has no record.
    LinkWithoutChain,
    /// A chain that has no links.
    ChainWithoutLinks,
    /// A chain whose interface is gone.
    ChainStopped,
    /// A chain that is not on its hook any more.
    ChainDetached,
    /// The hook of a chain runs another program than the chain's.
    ChainDiffers,
    /// A slot of a chain is empty, or has another program in it.
    SlotDiffers,
    /// A clsact is recorded as ours, with no chain on it.
    ClsactUnused,
    /// A pin or folder of ours that no record has.
    LeftOver,
    /// A file or folder under our bpffs that is none of ours.
    Unknown,
    /// A TC filter with our name that no record has.
    FilterLeftOver,
    /// The TC filters of a place cannot be read: one with our name may be there.
    FiltersUnread,
}

impl FindingKind {
    /// Its word in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ChangeUnfinished => "change_unfinished",
            Self::JournalUnreadable => "journal_unreadable",
            Self::RecordsUnreadable => "records_unreadable",
            Self::OldDatabase => "old_database",
            Self::NotMounted => "bpffs_not_mounted",
            Self::FolderMissing => "folder_missing",
            Self::ProgramGone => "program_gone",
            Self::ProgramUnpinned => "program_unpinned",
            Self::PinDiffers => "pin_differs",
            Self::MapUnpinned => "map_unpinned",
            Self::LinkWithoutProgram => "link_without_program",
            Self::LinkGone => "link_gone",
            Self::LinkStopped => "link_stopped",
            Self::LinkUnread => "link_unread",
            Self::LinkWithoutChain => "link_without_chain",
            Self::ChainWithoutLinks => "chain_without_links",
            Self::ChainStopped => "chain_stopped",
            Self::ChainDetached => "chain_detached",
            Self::ChainDiffers => "chain_differs",
            Self::SlotDiffers => "slot_differs",
            Self::ClsactUnused => "clsact_unused",
            Self::LeftOver => "left_over",
            Self::Unknown => "unknown",
            Self::FilterLeftOver => "filter_left_over",
            Self::FiltersUnread => "filters_unread",
        }
    }
}

impl fmt::Display for FindingKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
