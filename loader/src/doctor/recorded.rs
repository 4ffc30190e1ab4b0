//! What the records say.

use std::collections::BTreeMap;
use std::fmt;

use crate::dispatcher::plan::Member;
use crate::dispatcher::{chain, plan};
use crate::error::HookPlace;
use crate::state::{
    ChainKey, ChainRecord, ClsactRecord, Hook, LinkRecord, ProgramRecord, StateError, Store,
};

/// All records.
#[derive(Debug, Default)]
pub(super) struct Recorded {
    pub(super) programs: BTreeMap<u32, ProgramRecord>,
    pub(super) links: BTreeMap<u32, LinkRecord>,
    pub(super) chains: BTreeMap<ChainKey, ChainRecord>,
    /// By namespace and interface.
    pub(super) clsacts: BTreeMap<(u64, u32), ClsactRecord>,
}

impl Recorded {
    pub(super) fn read(records: Option<&Store>) -> Result<Self, StateError> {
        let Some(records) = records else {
            return Ok(Self::default());
        };
        Ok(Self {
            programs: records.programs()?,
            links: records.links()?,
            chains: records.chains()?,
            clsacts: records.clsacts()?,
        })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.programs.is_empty()
            && self.links.is_empty()
            && self.chains.is_empty()
            && self.clsacts.is_empty()
    }

    /// Links of a chain.
    pub(super) fn links_of(&self, key: ChainKey) -> BTreeMap<u32, LinkRecord> {
        let links = self.links.iter();
        let of_chain = links.filter(|(_, link)| link.chain() == Some(key));
        of_chain.map(|(id, link)| (*id, link.clone())).collect()
    }

    /// Members of a chain, in order.
    pub(super) fn members(&self, key: ChainKey) -> Vec<Member> {
        let mut members: Vec<_> = self
            .links_of(key)
            .into_iter()
            .filter_map(|(id, link)| chain::member(id, &link, self.programs.get(&link.program_id)))
            .collect();
        plan::sort(&mut members);
        members
    }

    /// A chain's hook, by the names that its links have for it today.
    pub(super) fn hook(&self, key: ChainKey, places: &BTreeMap<u32, HookPlace>) -> Place {
        let mut links = self
            .links
            .iter()
            .filter(|(_, link)| link.chain() == Some(key))
            .filter_map(|(id, link)| places.get(id).cloned().or_else(|| link.hook()));
        match links.next() {
            Some(place) => Place::Hook(key.hook, place),
            None => Place::Key(key),
        }
    }
}

/// A chain, as a message names it.
#[derive(Debug)]
pub(super) enum Place {
    Hook(Hook, HookPlace),
    /// No link tells the name of the interface.
    Key(ChainKey),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let family = |hook: &Hook| match hook {
            Hook::Xdp => "XDP",
            Hook::Tc(_) | Hook::Tcx(_) => "TC",
        };
        match self {
            Self::Hook(hook, place) => write!(f, "the {} chain on {place}", family(hook)),
            Self::Key(key) => {
                write!(
                    f,
                    "the {} chain on interface {}",
                    family(&key.hook),
                    key.ifindex
                )?;
                if let Hook::Tc(direction) | Hook::Tcx(direction) = key.hook {
                    write!(f, " {direction}")?;
                }
                write!(f, " of network namespace {}", key.nsid)
            }
        }
    }
}
