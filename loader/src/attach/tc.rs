use crate::TcDirection;
use crate::change::Change;
use crate::error::Doing;
use crate::kernel::{IngressQdisc, Kernel, TC_PREFERENCE};
use crate::state::{ClsactRecord, Key};
use crate::{Loader, LoaderError};

use super::chain::{Founded, Place};

/// `ETH_P_ALL`.
const EVERY_PROTOCOL: u16 = 3;

impl<K: Kernel> Loader<K> {
    /// Filters of one preference are of one kind and protocol, and our place there may be taken by others.
    pub(super) fn refuse_foreign_filters(
        &self,
        place: &Place<'_>,
        direction: TcDirection,
    ) -> Result<(), LoaderError> {
        let filters = self.kernel.tc_filters(&place.device, direction);
        let filters = filters.doing(|| format!("looking for TC filters on {}", place.name))?;
        let in_the_way = filters.into_iter().find(|filter| {
            filter.preference == TC_PREFERENCE
                && filter.chain == 0
                && (filter.kind != "bpf" || filter.protocol != EVERY_PROTOCOL)
        });
        match in_the_way {
            None => Ok(()),
            Some(filter) => Err(LoaderError::ForeignFilter {
                id: place.program_id,
                place: place.name.clone(),
                preference: TC_PREFERENCE,
                kind: filter.kind,
                protocol: filter.protocol,
            }),
        }
    }

    /// Puts the first program of a chain onto its hook, and clsact below it where there is none.
    pub(super) fn found_tc(
        &self,
        change: &mut Change<'_, K>,
        place: &Place<'_>,
        direction: TcDirection,
        program: &K::Handle,
        program_id: u32,
    ) -> Result<Founded, LoaderError> {
        let qdisc = self.kernel.ingress_qdisc(&place.device);
        let qdisc = qdisc.doing(|| format!("looking for the qdisc of {}", place.name))?;
        let mut puts = Vec::new();
        match qdisc {
            IngressQdisc::Clsact => {}
            IngressQdisc::None => {
                change.add_clsact(&place.device)?;
                let made = ClsactRecord {
                    iface: place.iface.clone(),
                    netns: place.device.netns.clone(),
                };
                let key = Key::Clsact {
                    nsid: place.key.nsid,
                    ifindex: place.key.ifindex,
                };
                puts.push(change.records()?.put(key, Some(&made))?);
            }
            IngressQdisc::Other { kind } => {
                return Err(LoaderError::ForeignQdisc {
                    id: place.program_id,
                    place: place.name.clone(),
                    kind,
                });
            }
        }
        change.add_filter(&place.device, direction, program, program_id)?;
        Ok(Founded { mode: None, puts })
    }
}
