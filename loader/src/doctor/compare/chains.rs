//! Chains and what they hang on.

use super::{Comparison, Cure, FindingKind, move_away, words};
use crate::TcDirection;
use crate::dispatcher::chain::recorded_names;
use crate::dispatcher::plan::{MAX_MEMBERS, Member};
use crate::doctor::found::{Entry, OnHook};
use crate::doctor::repair::Repair;
use crate::error::{HookPlace, quoted, within};
use crate::kernel::{Description, LinkKind, TC_FILTER_NAME, TC_PREFERENCE};
use crate::paths::slot_pin;
use crate::state::{ChainKey, ChainRecord, Hook};

/// How a chain is found.
enum Condition {
    Runs,
    /// Its link or filter is there, with another program.
    Differs(u32),
    /// Its interface is there, without it.
    Detached(String),
    /// Its interface is gone, in these words.
    Gone(String),
    /// Something that nobody may touch.
    Strange(String, Cure),
}

impl Comparison<'_> {
    pub(super) fn chains(&mut self) {
        for (id, link) in &self.recorded.links {
            if link
                .chain()
                .is_some_and(|key| !self.recorded.chains.contains_key(&key))
            {
                let links = [*id].into();
                self.add(
                    FindingKind::LinkWithoutChain,
                    self.named(*id, link),
                    "a link in a chain",
                    "no record of the chain",
                    Cure::Repair(Repair::Forget { links }),
                );
            }
        }
        for (key, chain) in &self.recorded.chains {
            self.chain(*key, chain);
        }
    }

    fn chain(&mut self, key: ChainKey, chain: &ChainRecord) {
        if key.hook == Hook::Xdp {
            self.claim(&self.pins.xdp_link(key));
        }
        let members = self.recorded.members(key);
        let place = self.recorded.hook(key, &self.found.places);
        if !chain.direct {
            let folder = self.pins.revision(key, chain.revision);
            self.claim(&folder);
            // Without members, the folder goes with the chain.
            let slots = if members.is_empty() {
                MAX_MEMBERS
            } else {
                members.len()
            };
            for position in 0..slots {
                self.claim(&folder.join(slot_pin(position)));
            }
        }
        if members.is_empty() {
            let repair = Repair::EndChain { key };
            let kind = FindingKind::ChainWithoutLinks;
            return self.add(kind, place, "a link", "none", Cure::Repair(repair));
        }
        let expected = format!("program {} on the hook", chain.program_id);
        let rebuild = || Cure::Repair(Repair::Rebuild { key });
        match self.condition(key, chain) {
            Condition::Runs if chain.direct => {}
            Condition::Runs => self.slots(key, chain, &members),
            Condition::Differs(other) => {
                let found = format!("program {other}");
                self.add(FindingKind::ChainDiffers, place, expected, found, rebuild());
            }
            Condition::Detached(found) => {
                self.add(
                    FindingKind::ChainDetached,
                    place,
                    expected,
                    found,
                    rebuild(),
                );
            }
            Condition::Gone(found) => {
                let links = members.iter().map(|member| member.link_id).collect();
                let cure = Cure::Repair(Repair::Forget { links });
                self.add(FindingKind::ChainStopped, place, expected, found, cure);
            }
            Condition::Strange(found, cure) => {
                self.add(FindingKind::PinDiffers, place, expected, found, cure);
            }
        }
    }

    fn condition(&self, key: ChainKey, chain: &ChainRecord) -> Condition {
        let path = self.pins.xdp_link(key);
        let pinned = match key.hook {
            Hook::Xdp => self.found.entries.get(&path),
            Hook::Tc(_) | Hook::Tcx(_) => None,
        };
        // A link says itself where it is.
        let link = match pinned {
            Some(Entry::Pin(Description::Link {
                program_id,
                kind: LinkKind::Xdp(on),
            })) => Some((*program_id, *on)),
            _ => None,
        };
        if let Some((program, Some(on))) = link {
            // The chain goes where its interface goes.
            return if program == chain.program_id {
                Condition::Runs
            } else if on != key.ifindex {
                let found = format!("{} holds a link on interface {on}", path.display());
                Condition::Strange(found, move_away(&path))
            } else {
                Condition::Differs(program)
            };
        }
        let (name, there) = match self.found.hooks.get(&key) {
            None | Some(OnHook::Gone) => {
                return Condition::Gone("the interface is gone".to_owned());
            }
            Some(OnHook::Unknown(why)) => {
                let cure = Cure::ByHand("see why it cannot be looked at".to_owned());
                return Condition::Strange(why.clone(), cure);
            }
            Some(OnHook::There { name, programs }) => (name, programs),
        };
        if key.hook != Hook::Xdp && there.contains(&chain.program_id) {
            return Condition::Runs;
        }
        // Numbers are given out again. Nothing of ours is there: an interface of another name is another one.
        let runs = pinned.is_none() && there.contains(&chain.program_id);
        let names = recorded_names(&self.recorded.links, key);
        if !names.contains(name) && !runs && (pinned.is_none() || link.is_some()) {
            return Condition::Gone(format!(
                "the interface is gone, and its number {} is that of {name} now",
                key.ifindex
            ));
        }
        if key.hook != Hook::Xdp {
            return Condition::Detached("no such filter".to_owned());
        }
        match (pinned, there.first()) {
            (Some(other), _) if link.is_none() => {
                Condition::Strange(words(other), move_away(&path))
            }
            (None, Some(same)) if *same == chain.program_id => Condition::Strange(
                format!("it runs, but without the pin at {}", path.display()),
                Cure::ByHand(
                    "end the process that holds its link (`bpftool link` names it), then repair"
                        .to_owned(),
                ),
            ),
            (_, Some(foreign)) => taken(*foreign),
            (Some(_), None) => Condition::Detached("its link was detached".to_owned()),
            (None, None) => Condition::Detached(format!("no pin at {}", path.display())),
        }
    }

    fn slots(&mut self, key: ChainKey, chain: &ChainRecord, members: &[Member]) {
        let folder = self.pins.revision(key, chain.revision);
        for (position, member) in members.iter().enumerate() {
            let path = folder.join(slot_pin(position));
            let found = match self.found.entries.get(&path) {
                None => format!("no pin at {}", path.display()),
                Some(Entry::Pin(Description::Link {
                    program_id,
                    kind: LinkKind::Function(of),
                })) if *program_id == member.program_id => {
                    // Kernels before 5.14 do not tell.
                    if *of == chain.program_id || *of == 0 {
                        continue;
                    }
                    format!("it is in a slot of program {of}")
                }
                Some(other) => words(other),
            };
            let place = format!(
                "{}, position {position}",
                self.recorded.hook(key, &self.found.places)
            );
            let expected = format!("program {}", member.program_id);
            let cure = Cure::Repair(Repair::Rebuild { key });
            self.add(FindingKind::SlotDiffers, place, expected, found, cure);
        }
    }

    /// Filters of ours that no chain has: records were removed, and filters need no pin to live.
    pub(super) fn filters(&mut self) {
        for filter in &self.found.filters {
            let chain = self.recorded.chains.get(&filter.key);
            if chain.is_some_and(|chain| chain.program_id == filter.program_id) {
                continue;
            }
            let HookPlace {
                iface, direction, ..
            } = &filter.place;
            let inside = within(&filter.place);
            let iface = quoted(iface);
            let direction = direction.map_or("", TcDirection::as_str);
            let handle = filter.handle;
            self.add(
                FindingKind::FilterLeftOver,
                format!("TC filter {TC_PREFERENCE} of {}", filter.place),
                "nothing that is recorded",
                format!("program {}, under the name {TC_FILTER_NAME}", filter.program_id),
                Cure::ByHand(format!(
                    "unless another bpfman's: `{inside}tc filter del dev {iface} {direction} protocol all \
                     pref {TC_PREFERENCE} handle {handle:#x} bpf`"
                )),
            );
        }
    }

    /// Where a filter of ours may be that nobody sees.
    pub(super) fn unread(&mut self) {
        for (place, why) in &self.found.unread {
            self.add(
                FindingKind::FiltersUnread,
                format!("the TC filters of {place}"),
                "to be read",
                why,
                Cure::ByHand("see why it cannot be looked at".to_owned()),
            );
        }
    }

    /// A clsact that is recorded as ours has a chain of ours on it.
    pub(super) fn clsacts(&mut self) {
        for ((nsid, ifindex), clsact) in &self.recorded.clsacts {
            let (nsid, ifindex) = (*nsid, *ifindex);
            let used = [TcDirection::Ingress, TcDirection::Egress].map(|direction| {
                let hook = Hook::Tc(direction);
                let key = ChainKey {
                    hook,
                    nsid,
                    ifindex,
                };
                self.recorded.chains.contains_key(&key)
            });
            if used == [false, false] {
                self.add(
                    FindingKind::ClsactUnused,
                    format!("the clsact qdisc of {}", clsact.iface),
                    "a TC chain",
                    "none",
                    Cure::Repair(Repair::DropClsact {
                        nsid,
                        ifindex,
                        iface: clsact.iface.clone(),
                    }),
                );
            }
        }
    }
}

/// Somebody else's program is where ours was.
fn taken(foreign: u32) -> Condition {
    Condition::Strange(
        format!("program {foreign}, which is not bpfman's"),
        Cure::ByHand("detach it with the tool that attached it, then repair".to_owned()),
    )
}
