//! Chains and what they hang on.

use super::programs::named;
use super::{Comparison, Cure, FindingKind, move_away, words};
use crate::TcDirection;
use crate::dispatcher::plan::{MAX_MEMBERS, Member};
use crate::doctor::found::{Entry, OnHook};
use crate::doctor::repair::Repair;
use crate::kernel::{Description, LinkKind};
use crate::paths::slot_pin;
use crate::state::{ChainKey, ChainRecord, Hook};

/// How a chain is found.
enum Condition {
    Runs,
    /// Its link or filter is there, with another program.
    Differs(u32),
    /// Its interface is there, without it.
    Detached(String),
    Gone,
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
                    named(*id, link),
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
        let place = self.recorded.hook(key);
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
            Condition::Gone => {
                let links = members.iter().map(|member| member.link_id).collect();
                let cure = Cure::Repair(Repair::Forget { links });
                let found = "the interface is gone";
                self.add(FindingKind::ChainStopped, place, expected, found, cure);
            }
            Condition::Strange(found, cure) => {
                self.add(FindingKind::PinDiffers, place, expected, found, cure);
            }
        }
    }

    fn condition(&self, key: ChainKey, chain: &ChainRecord) -> Condition {
        let there = match self.found.hooks.get(&key) {
            None | Some(OnHook::Gone) => return Condition::Gone,
            Some(OnHook::Runs(programs)) => programs,
        };
        if key.hook != Hook::Xdp {
            return if there.contains(&chain.program_id) {
                Condition::Runs
            } else {
                Condition::Detached("no such filter".to_owned())
            };
        }
        let path = self.pins.xdp_link(key);
        match (self.found.entries.get(&path), there.first()) {
            (
                Some(Entry::Pin(Description::Link {
                    program_id,
                    kind: LinkKind::Xdp(on),
                })),
                there,
            ) => match (on, there) {
                (Some(on), _) if *on != key.ifindex => Condition::Strange(
                    format!("{} holds a link on interface {on}", path.display()),
                    move_away(&path),
                ),
                (Some(_), _) if *program_id == chain.program_id => Condition::Runs,
                (Some(_), _) => Condition::Differs(*program_id),
                (None, None) => Condition::Detached("its link was detached".to_owned()),
                (None, Some(foreign)) => taken(*foreign),
            },
            (Some(other), _) => Condition::Strange(words(other), move_away(&path)),
            (None, None) => Condition::Detached(format!("no pin at {}", path.display())),
            (None, Some(same)) if *same == chain.program_id => Condition::Strange(
                format!("it runs, but without the pin at {}", path.display()),
                Cure::ByHand(
                    "end the process that holds its link (`bpftool link` names it), then repair"
                        .to_owned(),
                ),
            ),
            (None, Some(foreign)) => taken(*foreign),
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
            let place = format!("{}, position {position}", self.recorded.hook(key));
            let expected = format!("program {}", member.program_id);
            let cure = Cure::Repair(Repair::Rebuild { key });
            self.add(FindingKind::SlotDiffers, place, expected, found, cure);
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
