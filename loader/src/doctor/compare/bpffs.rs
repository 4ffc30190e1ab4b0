//! What is in bpffs and in no record.

use std::path::{Path, PathBuf};

use super::{Comparison, Cure, FindingKind, words};
use crate::doctor::found::Entry;
use crate::doctor::repair::Repair;
use crate::kernel::{Description, LinkKind};
use crate::paths::{Use, is_slot_pin};

impl Comparison<'_> {
    pub(super) fn left_over(&mut self) {
        let mut unclaimed: Vec<PathBuf> = self
            .found
            .entries
            .keys()
            .filter(|path| !self.claimed.contains(*path))
            .cloned()
            .collect();
        // What is in a folder is told with the folder.
        let all = unclaimed.clone();
        unclaimed.retain(|path| !all.iter().any(|folder| path.parent() == Some(folder)));
        // An XDP link goes before the members behind it.
        unclaimed.sort_by_key(|path| match self.pins.meaning(path) {
            Some(Use::XdpLink(_)) => 0,
            _ => 1,
        });
        for path in unclaimed {
            let Some(entry) = self.found.entries.get(&path) else {
                continue;
            };
            let found = match entry {
                Entry::Folder => format!("a folder with {}", self.contents(&path)),
                entry => words(entry),
            };
            let (kind, cure) = if self.is_ours(&path, entry) {
                let repair = match entry {
                    Entry::Folder => Repair::Remove {
                        pins: self.inside(&path).map(|(path, _)| path.clone()).collect(),
                        folder: Some(path.clone()),
                    },
                    _ => Repair::Remove {
                        pins: vec![path.clone()],
                        folder: None,
                    },
                };
                (FindingKind::LeftOver, Cure::Repair(repair))
            } else {
                let how = "bpfman did not make it: remove it, or leave it".to_owned();
                (FindingKind::Unknown, Cure::ByHand(how))
            };
            self.add(
                kind,
                path.display(),
                "nothing that is recorded",
                found,
                cure,
            );
        }
    }

    /// Whether it is what we would have put there.
    fn is_ours(&self, path: &Path, entry: &Entry) -> bool {
        match (self.pins.meaning(path), entry) {
            (Some(Use::Program(id)), Entry::Pin(Description::Program { id: pinned })) => {
                id == *pinned
            }
            (Some(Use::Link(_)), Entry::Pin(Description::Link { .. }))
            | (Some(Use::MapByName), Entry::Pin(Description::Map { .. })) => true,
            (
                Some(Use::XdpLink(key)),
                Entry::Pin(Description::Link {
                    kind: LinkKind::Xdp(on),
                    ..
                }),
            ) => on.is_none_or(|on| on == key.ifindex),
            (Some(Use::Maps(_)), Entry::Folder) => self
                .inside(path)
                .all(|(_, entry)| matches!(entry, Entry::Pin(Description::Map { .. }))),
            (Some(Use::Revision(_)), Entry::Folder) => self.inside(path).all(|(path, entry)| {
                let name = path.file_name().and_then(|name| name.to_str());
                name.is_some_and(is_slot_pin)
                    && matches!(entry, Entry::Pin(Description::Link { .. }))
            }),
            _ => false,
        }
    }

    fn inside<'s>(&'s self, folder: &'s Path) -> impl Iterator<Item = (&'s PathBuf, &'s Entry)> {
        let entries = self.found.entries.iter();
        entries.filter(move |(path, _)| path.parent() == Some(folder))
    }

    fn contents(&self, folder: &Path) -> String {
        let inside: Vec<_> = self.inside(folder).map(|(_, entry)| words(entry)).collect();
        if inside.is_empty() {
            "nothing in it".to_owned()
        } else {
            inside.join(", ")
        }
    }
}
