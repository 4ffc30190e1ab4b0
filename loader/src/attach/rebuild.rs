//! Putting a chain as it is recorded onto its hook again.

use crate::change::{self, Change};
use crate::dispatcher::chain;
use crate::dispatcher::plan::Member;
use crate::error::Doing;
use crate::kernel::{Description, Kernel, KernelError};
use crate::state::{ChainKey, ChainRecord, CommitStep, Guard, Hook, Key, Put};
use crate::whereabouts::{self, Whereabouts};
use crate::{Loader, LoaderError};

use super::chain::Place;

/// A chain that is to be on its hook, and its members in order.
struct Rebuilding<'a> {
    place: Place<'a>,
    chain: ChainRecord,
    members: Vec<Member>,
}

/// What is to be on the hook.
struct Next<H> {
    program: H,
    chain: ChainRecord,
}

impl<K: Kernel> Loader<K> {
    /// Builds a revision of a chain with all its members. It replaces what its link or filter runs; where that is gone,
    /// it is made anew.
    pub(crate) fn rebuild(&self, guard: &mut Guard, key: ChainKey) -> Result<(), LoaderError> {
        let records = guard.records_of_change()?;
        let links = records.links()?;
        let Some(chain) = records.chain(key)? else {
            return Ok(());
        };
        let members = chain::members(records, links.clone(), key)?;
        let first = members.first().and_then(|first| {
            let record = links.get(&first.link_id)?;
            Some((first, record, record.hook()?))
        });
        let Some((first, record, name)) = first else {
            return Ok(());
        };
        let names = chain::recorded_names(&links, key);
        let what = format!("building the chain on {name} anew");
        let found = whereabouts::of_chain(&self.kernel, &self.pins(), key, &chain)?;
        let (device, iface) = match &found {
            Whereabouts::On(place) => (place.device.clone(), place.name.clone()),
            // What runs is replaced by its link, wherever that is.
            Whereabouts::Hidden { .. } => (chain.device(key), name.iface.clone()),
            Whereabouts::Gone | Whereabouts::Unpinned => {
                let device = chain.device(key);
                let state = self
                    .kernel
                    .interface_state(&device)
                    .doing(|| what.clone())?;
                // Numbers are given out again: an interface of another name is taken for another one.
                if !names.contains(&state.name) {
                    let ChainKey { ifindex, nsid, .. } = key;
                    return Err(KernelError::InterfaceGone { ifindex, nsid }).doing(|| what);
                }
                (device, state.name)
            }
        };
        let runs = match key.hook {
            Hook::Xdp => matches!(found, Whereabouts::On(_) | Whereabouts::Hidden { .. }),
            Hook::Tc(direction) | Hook::Tcx(direction) => {
                chain::has_filter(&self.kernel, key, direction, &chain)?
            }
        };
        let rebuilding = Rebuilding {
            place: Place {
                name: Box::new(name),
                iface,
                key,
                device,
                program_id: first.program_id,
                link_id: first.link_id,
                record,
            },
            chain,
            members,
        };
        if runs {
            change::run(&self.kernel, guard, &what, |change| {
                self.replace(change, &rebuilding)
            })
        } else {
            self.unpin_dead_link(guard, &what, key)?;
            change::run(&self.kernel, guard, &what, |change| {
                self.found_again(change, &rebuilding)
            })
        }
    }

    fn replace(
        &self,
        change: &mut Change<'_, K>,
        rebuilding: &Rebuilding<'_>,
    ) -> Result<(), LoaderError> {
        let (key, pins) = (rebuilding.place.key, self.pins());
        let mut running = rebuilding.chain.clone();
        if key.hook == Hook::Xdp {
            let path = pins.xdp_link(key);
            let what = || format!("reading {}", path.display());
            if let Some(link) = self.kernel.open_pin(&path).doing(what)?
                && let Description::Link { program_id, .. } =
                    self.kernel.describe(&link).doing(what)?
            {
                running.program_id = program_id;
            }
        }
        let next = self.next(change, rebuilding)?;
        let swap = chain::swap(&pins, key, &running, next.chain.program_id, false);
        self.commit_next(change, rebuilding, vec![swap], &next.chain, Vec::new())
    }

    fn found_again(
        &self,
        change: &mut Change<'_, K>,
        rebuilding: &Rebuilding<'_>,
    ) -> Result<(), LoaderError> {
        self.refuse_foreign(&rebuilding.place)?;
        let Next { program, mut chain } = self.next(change, rebuilding)?;
        let mode = chain.mode.map(Into::into);
        let founded =
            self.put_on_hook(change, &rebuilding.place, &program, chain.program_id, mode)?;
        chain.mode = founded.mode.map(Into::into);
        self.commit_next(change, rebuilding, Vec::new(), &chain, founded.puts)
    }

    /// The next revision, built; for a chain without a dispatcher, the one program itself.
    fn next(
        &self,
        change: &mut Change<'_, K>,
        rebuilding: &Rebuilding<'_>,
    ) -> Result<Next<K::Handle>, LoaderError> {
        let (key, pins) = (rebuilding.place.key, self.pins());
        let chain = rebuilding.chain.clone();
        if chain.direct {
            let program_id = rebuilding.place.program_id;
            return Ok(Next {
                program: chain::open_program(&self.kernel, &pins, program_id)?,
                chain: ChainRecord {
                    program_id,
                    ..chain
                },
            });
        }
        let members = &rebuilding.members;
        let revision = chain::next_revision(&self.kernel, &pins, key, chain.revision)?;
        let programs = chain::open_programs(&self.kernel, &pins, members)?;
        let built = chain::build(change, &pins, key, revision, members, &programs)?;
        Ok(Next {
            program: built.dispatcher,
            chain: ChainRecord {
                revision,
                program_id: built.id,
                ..chain
            },
        })
    }

    fn commit_next(
        &self,
        change: &mut Change<'_, K>,
        rebuilding: &Rebuilding<'_>,
        mut steps: Vec<CommitStep>,
        next: &ChainRecord,
        mut puts: Vec<Put>,
    ) -> Result<(), LoaderError> {
        let (key, former) = (rebuilding.place.key, &rebuilding.chain);
        puts.push(change.records()?.put(Key::Chain(key), Some(next))?);
        steps.push(CommitStep::Records { puts });
        if !former.direct {
            let pins = self.pins();
            steps.extend(chain::removal(&self.kernel, &pins, key, former.revision)?);
        }
        change.commit(steps)
    }

    /// A link that was detached from its interface stays, and would be in the way of a new one.
    fn unpin_dead_link(
        &self,
        guard: &mut Guard,
        what: &str,
        key: ChainKey,
    ) -> Result<(), LoaderError> {
        let path = self.pins().xdp_link(key);
        if key.hook != Hook::Xdp {
            return Ok(());
        }
        change::run(&self.kernel, guard, what, |change| {
            change.commit(vec![CommitStep::Unpin { path }])
        })
    }
}
