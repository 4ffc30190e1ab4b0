//! Programs, their maps, and the links that stand by themselves.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::{Comparison, Cure, FindingKind, move_away, words};
use crate::doctor::found::{Entry, Living, OnHook};
use crate::doctor::repair::Repair;
use crate::kernel::{Description, LinkKind, kept_name};
use crate::paths::can_be_pinned;
use crate::state::{LinkRecord, PlaceRecord, ProgramRecord};

/// Bytes of a name that is kept whole, at most.
const WHOLE_NAME: usize = 14;

impl Comparison<'_> {
    pub(super) fn programs(&mut self) {
        for (id, record) in &self.recorded.programs {
            let path = self.pins.program(*id);
            let place = format!("program {id} ({})", record.function);
            let pin = self.claim(&path).cloned();
            let living = match (self.living(*id, record), self.found.programs.get(id)) {
                (Some(_), _) => None,
                (None, None) => Some("no program with that id".to_owned()),
                (None, Some(other)) => {
                    Some(format!("that id is another program's ({})", other.name))
                }
            };
            if let Some(found) = living {
                let repair = Repair::TakeOut { program: *id };
                let kind = FindingKind::ProgramGone;
                self.add(kind, place, "in the kernel", found, Cure::Repair(repair));
                continue;
            }
            let expected = format!("pinned at {}", path.display());
            match pin {
                Some(Entry::Pin(Description::Program { id: pinned })) if pinned == *id => {}
                None => {
                    let repair = Repair::Pin { program: *id };
                    let kind = FindingKind::ProgramUnpinned;
                    self.add(kind, place, expected, "no pin", Cure::Repair(repair));
                }
                Some(other) => {
                    let kind = FindingKind::PinDiffers;
                    self.add(kind, place, expected, words(&other), move_away(&path));
                }
            }
        }
    }

    /// A program of the records that lives: ids are given out again some day, so the name has to fit as well.
    fn living(&self, id: u32, record: &ProgramRecord) -> Option<&Living> {
        let living = self.found.programs.get(&id)?;
        (living.name == kept_name(&record.function)).then_some(living)
    }

    pub(super) fn maps(&mut self) {
        let mut folders: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        for (id, record) in &self.recorded.programs {
            folders.entry(record.maps_folder).or_default().push(*id);
        }
        for (folder, programs) in folders {
            self.maps_of(folder, &programs);
        }
    }

    /// The maps of programs that share a folder.
    fn maps_of(&mut self, folder: u32, programs: &[u32]) {
        let path = self.pins.maps(folder);
        let there = self.claim(&path).is_some();
        let mut living = BTreeMap::new();
        let mut by_name = BTreeSet::new();
        let mut any_lives = false;
        for (id, record) in &self.recorded.programs {
            if programs.contains(id) {
                by_name.extend(&record.maps_by_name);
                if let Some(found) = self.living(*id, record) {
                    living.extend(found.maps.clone());
                    any_lives = true;
                }
            }
        }
        if any_lives && !there && self.found.mounted {
            let repair = Repair::MakeFolder { path: path.clone() };
            let what = format!("the folder of the maps of {}", of_programs(programs));
            let kind = FindingKind::FolderMissing;
            self.add(kind, path.display(), what, "nothing", Cure::Repair(repair));
        }
        let mut pinned = self.maps_in(&path);
        for name in by_name {
            let shared = self.pins.map_by_name(name);
            let there = self.claim(&shared).cloned();
            let own = pinned.get(&path.join(name)).copied();
            match (there, own) {
                (Some(Entry::Pin(Description::Map { id, .. })), own)
                    if own.is_none_or(|own| own == id) =>
                {
                    pinned.insert(shared, id);
                }
                (None, Some(own)) => self.unpinned(own, name, programs, Some(shared)),
                // Nothing tells which map it was.
                (None, None) => {}
                (Some(other), _) => {
                    let place = format!("map {name} of {}", of_programs(programs));
                    let expected = format!("pinned at {}", shared.display());
                    let kind = FindingKind::PinDiffers;
                    self.add(kind, place, expected, words(&other), move_away(&shared));
                }
            }
        }
        let pinned: BTreeSet<u32> = pinned.into_values().collect();
        let names: Vec<&String> = living.values().collect();
        for (id, name) in &living {
            if pinned.contains(id) || !can_be_pinned(name) {
                continue;
            }
            let at = path.join(name);
            let certain = name.len() <= WHOLE_NAME
                && names.iter().filter(|other| **other == name).count() == 1
                && !self.found.entries.contains_key(&at);
            self.unpinned(*id, name, programs, certain.then_some(at));
        }
    }

    /// The maps pinned in a folder; whatever else is there stays unclaimed.
    fn maps_in(&mut self, folder: &Path) -> BTreeMap<PathBuf, u32> {
        let inside = self
            .found
            .entries
            .iter()
            .filter(|(path, _)| path.parent() == Some(folder));
        let maps: BTreeMap<PathBuf, u32> = inside
            .filter_map(|(path, entry)| match entry {
                Entry::Pin(Description::Map { id, .. }) => Some((path.clone(), *id)),
                _ => None,
            })
            .collect();
        self.claimed.extend(maps.keys().cloned());
        maps
    }

    fn unpinned(&mut self, id: u32, name: &str, programs: &[u32], path: Option<PathBuf>) {
        let place = format!("map {id} ({name}) of {}", of_programs(programs));
        let (expected, cure) = match path {
            Some(path) => (
                format!("pinned at {}", path.display()),
                Cure::Repair(Repair::PinMap { map: id, path }),
            ),
            None => (
                "pinned".to_owned(),
                Cure::ByHand(format!(
                    "pin it under its whole name, which the kernel does not tell: `bpftool map pin id {id} PATH`"
                )),
            ),
        };
        self.add(FindingKind::MapUnpinned, place, expected, "no pin", cure);
    }

    pub(super) fn single_links(&mut self) {
        for (id, link) in &self.recorded.links {
            let place = self.named(*id, link);
            if !self.recorded.programs.contains_key(&link.program_id) {
                let found = format!("no record of program {}", link.program_id);
                let kind = FindingKind::LinkWithoutProgram;
                self.add(kind, &place, "a link of a program", found, forget(*id));
            }
            self.unplaced(*id, link);
            if link.chain().is_some() {
                continue;
            }
            let path = self.pins.link(*id);
            let expected = format!("pinned at {}", path.display());
            match self.claim(&path).cloned() {
                None => {
                    let kind = FindingKind::LinkGone;
                    self.add(kind, place, expected, "no pin", forget(*id));
                }
                Some(Entry::Pin(Description::Link { program_id, kind }))
                    if program_id == link.program_id =>
                {
                    if kind == LinkKind::Tcx(None) {
                        let found = "its interface is gone, or it was detached";
                        let kind = FindingKind::LinkStopped;
                        self.add(kind, place, "on its interface", found, forget(*id));
                    }
                }
                Some(other) => {
                    let kind = FindingKind::PinDiffers;
                    self.add(kind, place, expected, words(&other), move_away(&path));
                }
            }
        }
    }
}

fn forget(link: u32) -> Cure {
    Cure::Repair(Repair::Forget {
        links: BTreeSet::from([link]),
    })
}

/// `program 7`, `programs 7, 8`.
fn of_programs(ids: &[u32]) -> String {
    let words: Vec<_> = ids.iter().map(u32::to_string).collect();
    let plural = if ids.len() == 1 { "" } else { "s" };
    format!("program{plural} {}", words.join(", "))
}

impl Comparison<'_> {
    /// A link of which nobody knows where it is. Where that is so for its chain, it is said of that.
    fn unplaced(&mut self, id: u32, link: &LinkRecord) {
        let chain = link.chain().and_then(|key| self.found.hooks.get(&key));
        if let Some(why) = self.found.unplaced.get(&id)
            && !matches!(chain, Some(OnHook::Unknown(_)))
        {
            let cure = Cure::ByHand("see why it cannot be looked at".to_owned());
            let place = self.named(id, link);
            let found = why.clone();
            self.add(
                FindingKind::LinkUnread,
                place,
                "to be looked at",
                found,
                cure,
            );
        }
    }

    /// `link 5 (eth0 ingress)`.
    pub(super) fn named(&self, id: u32, link: &LinkRecord) -> String {
        let place = match self.found.places.get(&id) {
            Some(place) => place.to_string(),
            None => recorded_place(link),
        };
        format!("link {id} ({place})")
    }
}

fn recorded_place(link: &LinkRecord) -> String {
    match &link.place {
        PlaceRecord::Tracepoint { tracepoint } => tracepoint.clone(),
        PlaceRecord::Kprobe { function, .. } => function.clone(),
        PlaceRecord::Uprobe { target, .. } => target.clone(),
        PlaceRecord::Fentry => format!("fentry of program {}", link.program_id),
        PlaceRecord::Fexit => format!("fexit of program {}", link.program_id),
        PlaceRecord::Xdp { .. } | PlaceRecord::Tc { .. } | PlaceRecord::Tcx { .. } => link
            .hook()
            .map_or_else(String::new, |hook| hook.to_string()),
    }
}
