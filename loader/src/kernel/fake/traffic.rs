//! Qdiscs, filters and TCX links.

use std::collections::BTreeMap;
use std::rc::{Rc, Weak};

use super::object::{LinkObject, Object, Place, Program};
use super::world::World;
use super::{KernelError, errno};
use crate::TcDirection;
use crate::kernel::{Device, IngressQdisc, Side, TC_FILTER_NAME, TC_PREFERENCE, TcFilter};

/// Direction of an interface.
type Hook = (u32, TcDirection);

/// What hangs on interfaces, by their indices: they are never the same in two namespaces here, unless a test says so.
#[derive(Debug, Default)]
pub(super) struct Traffic {
    qdiscs: BTreeMap<u32, &'static str>,
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

impl World {
    pub(super) fn remove_interfaces(&mut self, gone: impl Fn(&(u64, String)) -> bool) {
        let gone: Vec<u32> = self
            .interfaces
            .extract_if(.., |key, _| gone(key))
            .map(|(_, ifindex)| ifindex)
            .collect();
        for ifindex in gone {
            for link in self.links.values().filter_map(Weak::upgrade) {
                link.interface_gone(ifindex);
            }
            self.traffic.qdiscs.remove(&ifindex);
            self.traffic.filters.retain(|(on, _), _| *on != ifindex);
            self.traffic.tcx.retain(|(on, _), _| *on != ifindex);
        }
    }

    fn reach(&self, device: &Device) -> Result<(), KernelError> {
        let found = self.finds(device.nsid, device.netns.as_deref());
        if found && self.is_there(device.nsid, device.ifindex) {
            return Ok(());
        }
        Err(KernelError::InterfaceGone {
            ifindex: device.ifindex,
            nsid: device.nsid,
        })
    }

    pub(super) fn set_qdisc(&mut self, ifindex: u32, kind: Option<&'static str>) {
        match kind {
            Some(kind) => {
                self.traffic.qdiscs.insert(ifindex, kind);
            }
            None => {
                self.traffic.qdiscs.remove(&ifindex);
                self.traffic.filters.retain(|(on, _), _| *on != ifindex);
            }
        }
    }

    pub(super) fn ingress_qdisc(&self, device: &Device) -> Result<IngressQdisc, KernelError> {
        self.reach(device)?;
        Ok(match self.traffic.qdiscs.get(&device.ifindex) {
            None => IngressQdisc::None,
            Some(&"clsact") => IngressQdisc::Clsact,
            Some(kind) => IngressQdisc::Other {
                kind: (*kind).to_owned(),
            },
        })
    }

    pub(super) fn add_clsact(&mut self, device: &Device) -> Result<(), KernelError> {
        self.reach(device)?;
        if self.traffic.qdiscs.contains_key(&device.ifindex) {
            return Err(errno("add clsact", libc::EEXIST));
        }
        self.traffic.qdiscs.insert(device.ifindex, "clsact");
        Ok(())
    }

    pub(super) fn remove_unused_clsact(&mut self, device: &Device) -> bool {
        let used = |((on, _), filters): (&Hook, &Vec<Filter>)| {
            *on == device.ifindex && !filters.is_empty()
        };
        let clsact = self.traffic.qdiscs.get(&device.ifindex) == Some(&"clsact");
        if self.reach(device).is_err() || !clsact || self.traffic.filters.iter().any(used) {
            return false;
        }
        self.traffic.qdiscs.remove(&device.ifindex);
        true
    }

    pub(super) fn tc_filters(
        &self,
        device: &Device,
        direction: TcDirection,
    ) -> Result<Vec<TcFilter>, KernelError> {
        self.reach(device)?;
        let filters = self.traffic.filters.get(&(device.ifindex, direction));
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
        ifindex: u32,
        direction: TcDirection,
        preference: u16,
        kind: &'static str,
    ) {
        let filters = self.traffic.filters.entry((ifindex, direction));
        filters.or_default().push(Filter {
            preference,
            kind,
            handle: 1,
            name: None,
            program: None,
        });
    }

    pub(super) fn remove_foreign_filters(&mut self, ifindex: u32, direction: TcDirection) {
        if let Some(filters) = self.traffic.filters.get_mut(&(ifindex, direction)) {
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
        self.reach(device)?;
        if self.traffic.qdiscs.get(&device.ifindex) != Some(&"clsact") {
            return Err(errno("add filter", libc::EINVAL));
        }
        let filters = self.traffic.filters.entry((device.ifindex, direction));
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
        self.reach(device).ok()?;
        let filters = self.traffic.filters.get_mut(&(device.ifindex, direction))?;
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
        let mut filters = self.traffic.filters.get(&(ifindex, direction))?.iter();
        let own = filters.find(|filter| filter.preference == TC_PREFERENCE)?;
        own.program.clone()
    }

    /// The TCX links of a hook, in the order in which they run.
    pub(super) fn tcx(&self, ifindex: u32, direction: TcDirection) -> Vec<Rc<LinkObject>> {
        let links = self.traffic.tcx.get(&(ifindex, direction));
        links
            .into_iter()
            .flatten()
            .filter_map(Weak::upgrade)
            .collect()
    }

    /// `bpf_mprog_attach` in kernel/bpf/mprog.c.
    pub(super) fn add_tcx(
        &mut self,
        ifindex: u32,
        direction: TcDirection,
        beside: Option<(Side, &Object)>,
        program: Rc<Program>,
    ) -> Result<Object, KernelError> {
        let mut there = self.tcx(ifindex, direction);
        if there.iter().any(|link| link.program().id == program.id) {
            return Err(errno("link", libc::EEXIST));
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
        let link = self.add_link(Place::Tcx(Some(ifindex), direction), program);
        there.insert(place, Rc::clone(&link));
        let order = there.iter().map(Rc::downgrade).collect();
        self.traffic.tcx.insert((ifindex, direction), order);
        Ok(Object::Link(link))
    }

    pub(super) fn describe_traffic(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for (ifindex, kind) in &self.traffic.qdiscs {
            lines.push(format!("qdisc {kind} on {ifindex}"));
        }
        for ((ifindex, direction), filters) in &self.traffic.filters {
            for (place, filter) in filters.iter().enumerate() {
                let program = filter.program.as_ref().map(|program| program.id);
                lines.push(format!(
                    "filter {place} of {ifindex} {direction}: {} {} handle {} program {program:?}",
                    filter.preference, filter.kind, filter.handle
                ));
            }
        }
        for (ifindex, direction) in self.traffic.tcx.keys() {
            for (place, link) in self.tcx(*ifindex, *direction).iter().enumerate() {
                lines.push(format!(
                    "tcx {place} of {ifindex} {direction}: program {}",
                    link.program().id
                ));
            }
        }
        lines
    }
}
