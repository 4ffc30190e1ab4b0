//! Chains whose interface was moved to another network namespace. The kernel leaves the XDP link of an interface on it;
//! the chain is recorded, and pinned, under the numbers of before.

use log::info;

use crate::change;
use crate::dispatcher::chain;
use crate::error::{Doing, HookPlace};
use crate::kernel::{Device, Kernel};
use crate::state::{ChainKey, ChainRecord, CommitStep, Guard, Hook, Key};
use crate::whereabouts::{self, Whereabouts};
use crate::{Loader, LoaderError};

/// What is recorded of a chain under its new key: name of the interface and where its namespace is, if that is known.
struct NewPlace<'a> {
    key: ChainKey,
    known: Option<(&'a str, &'a Device)>,
}

impl<K: Kernel> Loader<K> {
    /// Makes the records of a hook fit the interface that is there now: a chain that left with its interface gives its
    /// key up, and one that came with this interface gets it. Whether records were changed.
    pub(super) fn follow(
        &self,
        guard: &mut Guard,
        what: &str,
        key: ChainKey,
        (device, iface): (&Device, &str),
        name: &HookPlace,
    ) -> Result<bool, LoaderError> {
        if key.hook != Hook::Xdp {
            // Filters do not survive a move.
            return Ok(false);
        }
        let pins = self.pins();
        let mut changed = false;
        if let Some(chain) = guard.records_of_change()?.chain(key)? {
            match whereabouts::of_chain(&self.kernel, &pins, key, &chain)? {
                Whereabouts::On(place)
                    if (place.device.nsid, place.device.ifindex) == (key.nsid, key.ifindex) =>
                {
                    return Ok(false);
                }
                Whereabouts::On(_) | Whereabouts::Hidden { .. } => {
                    let aside = NewPlace {
                        key: self.unused_key(guard, key)?,
                        known: None,
                    };
                    self.rekey(guard, what, key, &aside)?;
                }
                // What was here before is in the way of what came.
                Whereabouts::Gone => {
                    let mut stale = guard.records_of_change()?.links()?;
                    stale.retain(|_, link| link.chain() == Some(key));
                    self.forget(guard, name, stale)?;
                }
                Whereabouts::Unpinned => return Ok(false),
            }
            changed = true;
        }
        let there = self.xdp_programs(device)?;
        if there.is_empty() {
            return Ok(changed);
        }
        let chains = guard.records_of_change()?.chains()?;
        let ours = chains.into_iter().find(|(other, chain)| {
            other.hook == Hook::Xdp && *other != key && there.contains(&chain.program_id)
        });
        let Some((from, chain)) = ours else {
            return Ok(changed);
        };
        // Somebody else may have put our program there: the link tells.
        match whereabouts::of_chain(&self.kernel, &pins, from, &chain)? {
            Whereabouts::On(place)
                if (place.device.nsid, place.device.ifindex) == (key.nsid, key.ifindex) => {}
            _ => return Ok(changed),
        }
        let to = NewPlace {
            key,
            known: Some((iface, device)),
        };
        self.rekey(guard, what, from, &to)?;
        Ok(true)
    }

    /// A key that no interface has, for a chain whose own one is needed: inodes of namespaces are large numbers
    /// (`PROC_DYNAMIC_FIRST` in fs/proc/generic.c, 0xF0000000).
    fn unused_key(&self, guard: &Guard, key: ChainKey) -> Result<ChainKey, LoaderError> {
        let chains = guard.records_of_change()?.chains()?;
        let mut aside = ChainKey { nsid: 1, ..key };
        while chains.contains_key(&aside) {
            aside.nsid += 1;
        }
        Ok(aside)
    }

    /// Records and pins a chain under another key. What runs goes on running.
    fn rekey(
        &self,
        guard: &mut Guard,
        what: &str,
        from: ChainKey,
        to: &NewPlace<'_>,
    ) -> Result<(), LoaderError> {
        let pins = self.pins();
        let records = guard.records_of_change()?;
        let Some(chain) = records.chain(from)? else {
            return Ok(());
        };
        let mut links = records.links()?;
        let members = chain::members(records, links.clone(), from)?;
        links.retain(|_, link| link.chain() == Some(from));
        info!(
            "the XDP chain of interface {} in network namespace {} is one of another interface now",
            from.ifindex, from.nsid
        );
        let path = pins.xdp_link(from);
        let opening = || format!("opening {}", path.display());
        let Some(link) = self.kernel.open_pin(&path).doing(opening)? else {
            return Ok(());
        };
        change::run(&self.kernel, guard, what, |change| {
            let mut next = ChainRecord {
                netns: match to.known {
                    Some((_, device)) => device.netns.clone(),
                    None => chain.netns.clone(),
                },
                ..chain.clone()
            };
            let mut steps = Vec::new();
            if !chain.direct {
                let revision = chain::next_revision(&self.kernel, &pins, to.key, chain.revision)?;
                let programs = chain::open_programs(&self.kernel, &pins, &members)?;
                let built = chain::build(change, &pins, to.key, revision, &members, &programs)?;
                next.revision = revision;
                next.program_id = built.id;
                steps.push(chain::swap(&pins, to.key, &chain, built.id, false));
            }
            change.pin(&link, &pins.xdp_link(to.key))?;
            let mut puts = vec![
                change.records()?.remove(Key::Chain(from))?,
                change.records()?.put(Key::Chain(to.key), Some(&next))?,
            ];
            for (id, mut record) in links {
                record.rekey(to.key, to.known);
                puts.push(change.records()?.put(Key::Link(id), Some(&record))?);
            }
            steps.push(CommitStep::Records { puts });
            steps.push(CommitStep::Unpin { path });
            if !chain.direct {
                steps.extend(chain::removal(&self.kernel, &pins, from, chain.revision)?);
            }
            change.commit(steps)
        })
    }
}
