//! What a test may look at.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::rc::Weak;

use super::{
    DispatcherConfig, FakeKernel, NSID, TcDirection, TcDispatcherConfig, XdpDispatcherConfig,
};

impl FakeKernel {
    /// Everything that lives, one line each, sorted.
    pub fn snapshot(&self) -> BTreeSet<String> {
        let world = self.world.borrow();
        let programs = world.programs.values().filter_map(Weak::upgrade);
        let programs = programs.map(|program| program.describe());
        let links = world.links.values().filter_map(Weak::upgrade);
        let links = links.map(|link| link.describe());
        let dirs = world
            .dirs
            .iter()
            .map(|path| format!("dir {}", path.display()));
        let pins = world.pins.iter();
        let pins =
            pins.map(|(path, object)| format!("pin {} = {}", path.display(), object.describe()));
        let traffic = world.describe_traffic();
        programs
            .chain(links)
            .chain(dirs)
            .chain(pins)
            .chain(traffic)
            .collect()
    }

    /// Index of an interface of our namespace; 0 for one that there is not.
    pub fn index(&self, interface: &str) -> u32 {
        let world = self.world.borrow();
        world.interface(interface).map_or(0, |(_, ifindex)| ifindex)
    }

    /// Ids of the programs that live, ascending, with their types.
    pub fn programs(&self) -> BTreeMap<u32, &'static str> {
        let world = self.world.borrow();
        let programs = world.programs.values().filter_map(Weak::upgrade);
        programs.map(|program| (program.id, program.kind)).collect()
    }

    /// Ids of the programs that others attached or loaded.
    pub fn foreign_programs(&self) -> BTreeSet<u32> {
        let world = self.world.borrow();
        world.foreign.iter().map(|link| link.program().id).collect()
    }

    /// Paths of all pins with the ids of the programs that they, or the links that they are, hold (0 for maps).
    pub fn pins(&self) -> BTreeMap<PathBuf, u32> {
        let world = self.world.borrow();
        world
            .pins
            .iter()
            .map(|(path, object)| (path.clone(), object.program_id()))
            .collect()
    }

    /// Paths of all folders.
    pub fn dirs(&self) -> BTreeSet<PathBuf> {
        self.world.borrow().dirs.clone()
    }

    /// Id of the program that the XDP link of an interface runs, and the ids behind its slots in order.
    pub fn xdp_chain(&self, interface: &str) -> Option<(u32, Vec<u32>)> {
        let (_, ifindex) = self.world.borrow().interface(interface)?;
        self.xdp_chain_at(ifindex)
    }

    /// As [`FakeKernel::xdp_chain`], by the interface's index: the first namespace's where several have it.
    pub fn xdp_chain_at(&self, ifindex: u32) -> Option<(u32, Vec<u32>)> {
        let world = self.world.borrow();
        let there = world.interfaces.iter();
        let ifaces = there.filter(|(_, found)| **found == ifindex);
        let mut links = ifaces.filter_map(|((nsid, _), _)| world.xdp_link((*nsid, ifindex)));
        let program = links.next()?.program();
        Some((program.id, program.slots()))
    }

    /// The functions of the dispatcher on an interface that members stand in for.
    pub fn xdp_functions(&self, interface: &str) -> Option<Vec<String>> {
        let world = self.world.borrow();
        let program = world.xdp_link(world.interface(interface)?)?.program();
        Some(program.replaced())
    }

    /// The functions of the dispatcher in our filter on a hook that members stand in for.
    pub fn tc_functions(&self, interface: &str, direction: TcDirection) -> Option<Vec<String>> {
        let world = self.world.borrow();
        let program = world.own_filter(NSID, world.interface(interface)?.1, direction)?;
        Some(program.replaced())
    }

    /// What the dispatcher on an interface was told.
    pub fn xdp_config(&self, interface: &str) -> Option<XdpDispatcherConfig> {
        let world = self.world.borrow();
        match &world
            .xdp_link(world.interface(interface)?)?
            .program()
            .config
        {
            Some(DispatcherConfig::Xdp(config)) => Some(config.clone()),
            _ => None,
        }
    }

    /// Id of the program in our filter on a hook, and the ids behind its slots in order.
    pub fn tc_chain(
        &self,
        nsid: u64,
        ifindex: u32,
        direction: TcDirection,
    ) -> Option<(u32, Vec<u32>)> {
        let world = self.world.borrow();
        let program = world.own_filter(nsid, ifindex, direction)?;
        Some((program.id, program.slots()))
    }

    /// What the dispatcher in our filter on a hook was told.
    pub fn tc_config(&self, interface: &str, direction: TcDirection) -> Option<TcDispatcherConfig> {
        let world = self.world.borrow();
        let program = world.own_filter(NSID, world.interface(interface)?.1, direction)?;
        match &program.config {
            Some(DispatcherConfig::Tc(config)) => Some(config.clone()),
            _ => None,
        }
    }

    /// Ids of the programs of the TCX links on a hook, in the order in which they run.
    pub fn tcx_chain(&self, interface: &str, direction: TcDirection) -> Vec<u32> {
        let world = self.world.borrow();
        let links = world
            .interface(interface)
            .map(|iface| world.tcx(iface, direction));
        let links = links.unwrap_or_default();
        links.iter().map(|link| link.program().id).collect()
    }
}
