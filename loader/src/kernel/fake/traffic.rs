//! Qdiscs, filters and TCX links.

use std::collections::BTreeMap;
use std::rc::{Rc, Weak};

use super::object::{Iface, LinkObject, Object, Place, Program};
use super::world::World;
use super::{KernelError, errno};
use crate::TcDirection;
use crate::kernel::{
    Device, IngressQdisc, Side, TC_FILTER_NAME, TC_PREFERENCE, TCX_LIMIT, TCX_PROGRAMS, TcFilter,
};

/// Direction of an interface.
type Hook = (Iface, TcDirection);

/// What hangs on interfaces.
#[derive(Debug, Default)]
pub(super) struct Traffic {
    qdiscs: BTreeMap<Iface, &'static str>,
    filters: BTreeMap<Hook, Vec<Filter>>,
    tcx: BTreeMap<Hook, Vec<Weak<LinkObject>>>,
}

#[derive(Debug)]
struct Filter {
    preference: u16,
    kind: &'static str,
    handle: u32,
    name: Option<&'static str>,
    program: Option<Rc<Program>>,
}

fn gone(device: &Device) -> KernelError {
    KernelError::InterfaceGone {
        ifindex: device.ifindex,
        nsid: device.nsid,
    }
}

impl World {
    pub(super) fn remove_interfaces(&mut self, gone: impl Fn(&(u64, String)) -> bool) {
        let gone: Vec<Iface> = self
            .interfaces
            .extract_if(.., |key, _| gone(key))
            .map(|((nsid, _), ifindex)| (nsid, ifindex))
            .collect();
        for iface in gone {
            for link in self.links.values().filter_map(Weak::upgrade) {
                link.interface_becomes(iface, None);
            }
            self.drop_qdisc(iface);
            self.traffic.tcx.retain(|(on, _), _| *on != iface);
        }
    }

    /// An interface goes to another namespace: its qdisc and filters are lost, its XDP and TCX links are not
    /// (`__dev_change_net_namespace` in net/core/dev.c).
    pub(super) fn move_interface(&mut self, from: Iface, to: Iface) {
        for link in self.links.values().filter_map(Weak::upgrade) {
            link.interface_becomes(from, Some(to));
        }
        self.drop_qdisc(from);
        for direction in [TcDirection::Ingress, TcDirection::Egress] {
            if let Some(links) = self.traffic.tcx.remove(&(from, direction)) {
                self.traffic.tcx.insert((to, direction), links);
            }
        }
    }

    fn drop_qdisc(&mut self, iface: Iface) {
        self.traffic.qdiscs.remove(&iface);
        self.traffic.filters.retain(|(on, _), _| *on != iface);
    }

    /// What changes an interface: it has to be there.
    pub(super) fn reach(&self, device: &Device) -> Result<Iface, KernelError> {
        let iface = self.enter(device)?;
        if self.is_there(device.nsid, device.ifindex) {
            return Ok(iface);
        }
        Err(gone(device))
    }

    /// What lists: the namespace has to be there. What is listed of an interface that is gone is nothing.
    fn enter(&self, device: &Device) -> Result<Iface, KernelError> {
        if self.finds(device.nsid, device.netns.as_deref()) {
            return Ok((device.nsid, device.ifindex));
        }
        Err(gone(device))
    }

    pub(super) fn set_qdisc(&mut self, iface: Iface, kind: Option<&'static str>) {
        match kind {
            Some(kind) => {
                self.traffic.qdiscs.insert(iface, kind);
            }
            None => self.drop_qdisc(iface),
        }
    }

    pub(super) fn ingress_qdisc(&self, device: &Device) -> Result<IngressQdisc, KernelError> {
        let iface = self.enter(device)?;
        Ok(match self.traffic.qdiscs.get(&iface) {
            None => IngressQdisc::None,
            Some(&"clsact") => IngressQdisc::Clsact,
            Some(kind) => IngressQdisc::Other {
                kind: (*kind).to_owned(),
            },
        })
    }

    pub(super) fn add_clsact(&mut self, device: &Device) -> Result<(), KernelError> {
        let iface = self.reach(device)?;
        if self.traffic.qdiscs.contains_key(&iface) {
            return Err(errno("add clsact", libc::EEXIST));
        }
        self.traffic.qdiscs.insert(iface, "clsact");
        Ok(())
    }

    pub(super) fn remove_unused_clsact(&mut self, device: &Device) -> bool {
        let Ok(iface) = self.reach(device) else {
            return false;
        };
        let used = |((on, _), filters): (&Hook, &Vec<Filter>)| *on == iface && !filters.is_empty();
        let clsact = self.traffic.qdiscs.get(&iface) == Some(&"clsact");
        if !clsact || self.traffic.filters.iter().any(used) {
            return false;
        }
        self.traffic.qdiscs.remove(&iface);
        true
    }

    pub(super) fn tc_filters(
        &self,
        device: &Device,
        direction: TcDirection,
    ) -> Result<Vec<TcFilter>, KernelError> {
        let iface = self.enter(device)?;
        let filters = self.traffic.filters.get(&(iface, direction));
        let shown = |filter: &Filter| TcFilter {
            preference: filter.preference,
            protocol: 3,
            chain: 0,
            kind: filter.kind.to_owned(),
            handle: filter.handle,
            program_id: filter.program.as_ref().map(|program| program.id),
            name: filter.name.map(str::to_owned),
        };
        Ok(filters.into_iter().flatten().map(shown).collect())
    }

    pub(super) fn add_foreign_filter(
        &mut self,
        iface: Iface,
        direction: TcDirection,
        preference: u16,
        kind: &'static str,
    ) {
        let filters = self.traffic.filters.entry((iface, direction));
        filters.or_default().push(Filter {
            preference,
            kind,
            handle: 1,
            name: None,
            program: None,
        });
    }

    pub(super) fn remove_foreign_filters(&mut self, iface: Iface, direction: TcDirection) {
        if let Some(filters) = self.traffic.filters.get_mut(&(iface, direction)) {
            filters.retain(|filter| filter.program.is_some());
        }
    }

    pub(super) fn add_tc_filter(
        &mut self,
        device: &Device,
        direction: TcDirection,
        program: Rc<Program>,
        handle: Option<u32>,
    ) -> Result<(), KernelError> {
        let iface = self.reach(device)?;
        if self.traffic.qdiscs.get(&iface) != Some(&"clsact") {
            return Err(errno("add filter", libc::EINVAL));
        }
        let filters = self.traffic.filters.entry((iface, direction));
        let filters = filters.or_default();
        let same = || filters.iter().filter(|it| it.preference == TC_PREFERENCE);
        if same().any(|filter| filter.kind != "bpf") {
            return Err(errno("add filter", libc::EINVAL));
        }
        let is_free = |handle: &u32| same().all(|filter| filter.handle != *handle);
        let handle = match handle {
            Some(handle) if !is_free(&handle) => return Err(errno("add filter", libc::EEXIST)),
            Some(handle) => handle,
            None => (1..).find(is_free).unwrap_or(0),
        };
        // The newest of a preference comes first.
        let filter = Filter {
            preference: TC_PREFERENCE,
            kind: "bpf",
            handle,
            name: Some(TC_FILTER_NAME),
            program: Some(program),
        };
        filters.insert(0, filter);
        Ok(())
    }

    fn own(
        &mut self,
        device: &Device,
        direction: TcDirection,
        program: u32,
    ) -> Option<(&mut Vec<Filter>, usize)> {
        let iface = self.reach(device).ok()?;
        let filters = self.traffic.filters.get_mut(&(iface, direction))?;
        let place = filters.iter().position(|filter| {
            filter.preference == TC_PREFERENCE
                && filter.program.as_ref().is_some_and(|it| it.id == program)
        })?;
        Some((filters, place))
    }

    pub(super) fn replace_tc_filter(
        &mut self,
        device: &Device,
        direction: TcDirection,
        old: u32,
        program: Rc<Program>,
    ) -> Option<()> {
        let (filters, place) = self.own(device, direction, old)?;
        filters.get_mut(place)?.program = Some(program);
        Some(())
    }

    pub(super) fn remove_tc_filter(
        &mut self,
        device: &Device,
        direction: TcDirection,
        program: u32,
    ) -> Option<u32> {
        let (filters, place) = self.own(device, direction, program)?;
        Some(filters.remove(place).handle)
    }

    /// The program of a filter at our preference.
    pub(super) fn own_filter(
        &self,
        nsid: u64,
        ifindex: u32,
        direction: TcDirection,
    ) -> Option<Rc<Program>> {
        if !self.is_there(nsid, ifindex) {
            return None;
        }
        let mut filters = self
            .traffic
            .filters
            .get(&((nsid, ifindex), direction))?
            .iter();
        let own = filters.find(|filter| filter.preference == TC_PREFERENCE)?;
        own.program.clone()
    }

    /// The TCX links of a hook, in the order in which they run.
    pub(super) fn tcx(&self, iface: Iface, direction: TcDirection) -> Vec<Rc<LinkObject>> {
        let links = self.traffic.tcx.get(&(iface, direction));
        links
            .into_iter()
            .flatten()
            .filter_map(Weak::upgrade)
            .collect()
    }

    /// `bpf_mprog_attach` in kernel/bpf/mprog.c.
    pub(super) fn add_tcx(
        &mut self,
        iface: Iface,
        direction: TcDirection,
        beside: Option<(Side, &Object)>,
        program: Rc<Program>,
    ) -> Result<Object, KernelError> {
        let mut there = self.tcx(iface, direction);
        if there.iter().any(|link| link.program().id == program.id) {
            return Err(errno("link", libc::EEXIST));
        }
        if there.len() >= TCX_PROGRAMS as usize {
            return Err(KernelError::Full {
                what: format!("the TCX {direction} hook of interface {}", iface.1),
                limit: TCX_PROGRAMS,
                constant: TCX_LIMIT,
                source: std::io::Error::from_raw_os_error(libc::ERANGE),
            });
        }
        let place = match beside {
            None => there.len(),
            Some((side, Object::Link(other))) => {
                let found = there.iter().position(|link| link.id() == other.id());
                let found = found.ok_or_else(|| errno("link", libc::ENOENT))?;
                match side {
                    Side::Before => found,
                    Side::After => found + 1,
                }
            }
            Some(_) => return Err(errno("link", libc::EINVAL)),
        };
        let link = self.add_link(Place::Tcx(Some(iface), direction), program);
        there.insert(place, Rc::clone(&link));
        let order = there.iter().map(Rc::downgrade).collect();
        self.traffic.tcx.insert((iface, direction), order);
        Ok(Object::Link(link))
    }

    pub(super) fn describe_traffic(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for ((_, ifindex), kind) in &self.traffic.qdiscs {
            lines.push(format!("qdisc {kind} on {ifindex}"));
        }
        for (((_, ifindex), direction), filters) in &self.traffic.filters {
            for (place, filter) in filters.iter().enumerate() {
                let program = filter.program.as_ref().map(|program| program.id);
                lines.push(format!(
                    "filter {place} of {ifindex} {direction}: {} {} handle {} program {program:?}",
                    filter.preference, filter.kind, filter.handle
                ));
            }
        }
        for (iface, direction) in self.traffic.tcx.keys() {
            for (place, link) in self.tcx(*iface, *direction).iter().enumerate() {
                lines.push(format!(
                    "tcx {place} of {} {direction}: program {}",
                    iface.1,
                    link.program().id
                ));
            }
        }
        lines
    }
}
