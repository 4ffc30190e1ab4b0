//! Records against kernel and bpffs: from values to values.

mod bpffs;
mod chains;
mod programs;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::finding::{Finding, FindingKind, Remedy};
use super::found::{Entry, Found};
use super::recorded::Recorded;
use super::repair::Repair;
use crate::kernel::{Description, LinkKind};
use crate::paths::Pins;

/// A difference, with what repairs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Difference {
    pub(super) finding: Finding,
    pub(super) repair: Option<Repair>,
}

/// What is to be done about a difference.
enum Cure {
    Repair(Repair),
    ByHand(String),
}

/// Names every difference, in the order in which they are to be repaired: what others stand on comes first.
pub(super) fn compare(recorded: &Recorded, found: &Found, pins: &Pins) -> Vec<Difference> {
    let mut comparison = Comparison {
        recorded,
        found,
        pins,
        claimed: BTreeSet::new(),
        differences: Vec::new(),
    };
    comparison.standing();
    comparison.programs();
    comparison.maps();
    comparison.single_links();
    comparison.chains();
    comparison.clsacts();
    comparison.left_over();
    comparison.filters();
    comparison.unread();
    comparison.differences
}

struct Comparison<'a> {
    recorded: &'a Recorded,
    found: &'a Found,
    pins: &'a Pins,
    /// Paths that a record has a use for.
    claimed: BTreeSet<PathBuf>,
    differences: Vec<Difference>,
}

impl Comparison<'_> {
    fn add(
        &mut self,
        kind: FindingKind,
        place: impl ToString,
        expected: impl ToString,
        found: impl ToString,
        cure: Cure,
    ) {
        let (remedy, repair) = match cure {
            Cure::Repair(repair) => (Remedy::Repair(repair.to_string()), Some(repair)),
            Cure::ByHand(what) => (Remedy::ByHand(what), None),
        };
        self.differences.push(Difference {
            finding: Finding {
                kind,
                place: place.to_string(),
                expected: expected.to_string(),
                found: found.to_string(),
                remedy,
            },
            repair,
        });
    }

    fn claim(&mut self, path: &Path) -> Option<&Entry> {
        self.claimed.insert(path.to_owned());
        self.found.entries.get(path)
    }

    /// The mount and the folders that stay. Before the first record, nobody needs them.
    fn standing(&mut self) {
        let needed = !self.recorded.is_empty();
        let fs = self.pins.fs();
        if needed && !self.found.mounted {
            self.add(
                FindingKind::NotMounted,
                fs.display(),
                "a BPF file system",
                "none is mounted there",
                Cure::Repair(Repair::Prepare),
            );
        }
        for folder in self.pins.standing() {
            let there = self.claim(&folder).is_some();
            if needed && self.found.mounted && !there {
                self.add(
                    FindingKind::FolderMissing,
                    folder.display(),
                    "a folder",
                    "nothing",
                    Cure::Repair(Repair::Prepare),
                );
            }
        }
    }
}

/// A pin that is of something else: whose it is nobody knows.
fn move_away(path: &Path) -> Cure {
    Cure::ByHand(format!(
        "see what it is, and remove it: `rm {}`",
        path.display()
    ))
}

/// What is at a path, in words.
fn words(entry: &Entry) -> String {
    match entry {
        Entry::Folder => "a folder".to_owned(),
        Entry::Unreadable(why) => format!("a file that cannot be opened as a pin ({why})"),
        Entry::Pin(Description::Program { id }) => format!("program {id}"),
        Entry::Pin(Description::Map { id, name }) => format!("map {id} ({name})"),
        Entry::Pin(Description::Link { program_id, kind }) => match kind {
            LinkKind::Xdp(Some(ifindex)) => {
                format!("an XDP link of program {program_id} on interface {ifindex}")
            }
            LinkKind::Tcx(Some(ifindex)) => {
                format!("a TCX link of program {program_id} on interface {ifindex}")
            }
            LinkKind::Xdp(None) => format!("an XDP link of program {program_id} on no interface"),
            LinkKind::Tcx(None) => format!("a TCX link of program {program_id} on no interface"),
            LinkKind::Function(_) | LinkKind::Other => format!("a link of program {program_id}"),
        },
    }
}
