use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::rc::{Rc, Weak};

use super::{Description, DispatcherConfig, KernelError, TcDirection, XdpMode, errno};
use crate::kernel::{LinkKind, kept_name};

/// What the unwinding carries that stands for the death of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Crash;

/// A handle.
#[derive(Debug)]
pub enum Object {
    /// To a program.
    Program(Rc<Program>),
    /// To a map.
    Map(Rc<Map>),
    /// To a link.
    Link(Rc<LinkObject>),
    /// To a file of user space.
    Binary(PathBuf),
}

/// A program.
#[derive(Debug)]
pub struct Program {
    pub(super) id: u32,
    pub(super) name: String,
    pub(super) kind: &'static str,
    pub(super) maps: Vec<Rc<Map>>,
    pub(super) config: Option<DispatcherConfig>,
    /// Function → link of the EXT program in its place.
    pub(super) slots: RefCell<BTreeMap<String, Weak<LinkObject>>>,
}

/// A map.
#[derive(Debug)]
pub struct Map {
    pub(super) id: u32,
    pub(super) name: String,
}

/// A link.
#[derive(Debug)]
pub struct LinkObject {
    id: u32,
    place: RefCell<Place>,
    program: RefCell<Rc<Program>>,
}

/// An interface: inode of its namespace, and its index there.
pub(super) type Iface = (u64, u32);

#[derive(Debug)]
pub(super) enum Place {
    /// Interface and mode; `None` once the interface is gone.
    Xdp(Option<Iface>, XdpMode),
    /// Interface; `None` once it is gone.
    Tcx(Option<Iface>, TcDirection),
    Slot {
        target: Rc<Program>,
        function: String,
    },
    Tracepoint(String),
    /// A place in the kernel or in a file.
    Probe(String),
}

impl Object {
    /// Another handle to the same object.
    pub(super) fn again(&self) -> Self {
        match self {
            Self::Program(program) => Self::Program(Rc::clone(program)),
            Self::Map(map) => Self::Map(Rc::clone(map)),
            Self::Link(link) => Self::Link(Rc::clone(link)),
            Self::Binary(path) => Self::Binary(path.clone()),
        }
    }

    pub(super) fn program(&self) -> Option<Rc<Program>> {
        match self {
            Self::Program(program) => Some(Rc::clone(program)),
            Self::Map(_) | Self::Link(_) | Self::Binary(_) => None,
        }
    }

    /// The dispatcher that an EXT program can be linked to.
    pub(super) fn dispatcher(&self) -> Result<Rc<Program>, KernelError> {
        let program = self.program().filter(|program| program.config.is_some());
        program.ok_or_else(|| errno("link", libc::EINVAL))
    }

    pub(super) fn of_kind(&self, kind: &str) -> Result<Rc<Program>, KernelError> {
        let program = self.program().filter(|program| program.kind == kind);
        program.ok_or_else(|| errno("link", libc::EINVAL))
    }

    pub(super) fn program_id(&self) -> u32 {
        match self {
            Self::Program(program) => program.id,
            Self::Map(_) | Self::Binary(_) => 0,
            Self::Link(link) => link.program().id,
        }
    }

    pub(super) fn description(&self) -> Result<Description, KernelError> {
        Ok(match self {
            Self::Program(program) => Description::Program { id: program.id },
            Self::Map(map) => Description::Map {
                id: map.id,
                name: kept_name(&map.name),
            },
            Self::Link(link) => Description::Link {
                program_id: link.program().id,
                kind: link.kind(),
            },
            Self::Binary(_) => return Err(errno("describe", libc::EINVAL)),
        })
    }

    pub(super) fn describe(&self) -> String {
        match self {
            Self::Program(program) => program.describe(),
            Self::Map(map) => format!("map {} {}", map.id, map.name),
            Self::Link(link) => link.describe(),
            Self::Binary(path) => format!("binary {}", path.display()),
        }
    }
}

impl Program {
    pub(super) fn new(name: &str, kind: &'static str) -> Self {
        Self {
            id: 0,
            name: name.to_owned(),
            kind,
            maps: Vec::new(),
            config: None,
            slots: RefCell::default(),
        }
    }

    /// Id of the program in a slot.
    pub(super) fn slot(&self, function: &str) -> Option<u32> {
        let slots = self.slots.borrow();
        let link = slots.get(function)?.upgrade()?;
        Some(link.program().id)
    }

    /// Ids of the programs in the slots, in order, or of the one that stands for the whole dispatcher.
    pub(super) fn slots(&self) -> Vec<u32> {
        if let Some(whole) = self.slot(&self.name) {
            return vec![whole];
        }
        (0..10)
            .map_while(|slot| self.slot(&format!("prog{slot}")))
            .collect()
    }

    /// Functions that EXT programs stand in for.
    pub(super) fn replaced(&self) -> Vec<String> {
        let slots = self.slots.borrow();
        let held = slots.iter().filter(|(_, link)| link.strong_count() > 0);
        held.map(|(function, _)| function.clone()).collect()
    }

    pub(super) fn describe(&self) -> String {
        let slots = self.slots.borrow();
        let slots = slots
            .iter()
            .filter_map(|(slot, link)| Some((slot, link.upgrade()?)));
        let slots = slots.map(|(slot, link)| format!(" {slot}={}", link.program().id));
        format!(
            "program {} {} {}{}",
            self.id,
            self.kind,
            self.name,
            slots.collect::<String>()
        )
    }
}

impl LinkObject {
    pub(super) fn new(id: u32, place: Place, program: Rc<Program>) -> Self {
        Self {
            id,
            place: RefCell::new(place),
            program: RefCell::new(program),
        }
    }

    pub(super) fn program(&self) -> Rc<Program> {
        Rc::clone(&self.program.borrow())
    }

    /// Fills the slot that it is made for.
    pub(super) fn take_place(self: &Rc<Self>) {
        if let Place::Slot { target, function } = &*self.place.borrow() {
            target
                .slots
                .borrow_mut()
                .insert(function.clone(), Rc::downgrade(self));
        }
    }

    pub(super) fn is_on(&self, iface: Iface) -> bool {
        matches!(&*self.place.borrow(), Place::Xdp(Some(on), _) if *on == iface)
    }

    /// The interface is another one now, or gone.
    pub(super) fn interface_becomes(&self, iface: Iface, now: Option<Iface>) {
        let mut place = self.place.borrow_mut();
        match &mut *place {
            Place::Xdp(on, _) | Place::Tcx(on, _) if *on == Some(iface) => *on = now,
            _ => {}
        }
    }

    /// Interface of an XDP or TCX link, and the mode of XDP.
    pub(super) fn on(&self) -> Result<(Option<Iface>, Option<XdpMode>), KernelError> {
        match &*self.place.borrow() {
            Place::Xdp(iface, mode) => Ok((*iface, Some(*mode))),
            Place::Tcx(iface, _) => Ok((*iface, None)),
            Place::Slot { .. } | Place::Tracepoint(_) | Place::Probe(_) => {
                Err(errno("link interface", libc::EINVAL))
            }
        }
    }

    pub(super) fn kind(&self) -> LinkKind {
        match &*self.place.borrow() {
            Place::Xdp(iface, _) => LinkKind::Xdp(iface.map(|(_, ifindex)| ifindex)),
            Place::Tcx(iface, _) => LinkKind::Tcx(iface.map(|(_, ifindex)| ifindex)),
            Place::Slot { target, .. } => LinkKind::Function(target.id),
            Place::Tracepoint(_) | Place::Probe(_) => LinkKind::Other,
        }
    }

    /// Index of the interface of an XDP or TCX link.
    pub(super) fn interface(&self) -> Result<Option<u32>, KernelError> {
        Ok(self.on()?.0.map(|(_, ifindex)| ifindex))
    }

    pub(super) fn id(&self) -> u32 {
        self.id
    }

    /// `bpf_xdp_link_update` in net/core/dev.c.
    pub(super) fn replace(&self, program: Rc<Program>) -> Result<Rc<Program>, KernelError> {
        match &*self.place.borrow() {
            Place::Xdp(Some(_), _) => Ok(self.program.replace(program)),
            Place::Xdp(None, _) => Err(errno("update link", libc::ENOLINK)),
            Place::Tcx(..) | Place::Slot { .. } | Place::Tracepoint(_) | Place::Probe(_) => {
                Err(errno("update link", libc::EINVAL))
            }
        }
    }

    pub(super) fn describe(&self) -> String {
        let place = match &*self.place.borrow() {
            Place::Xdp(iface, _) => format!("xdp on {iface:?}"),
            Place::Tcx(iface, direction) => format!("tcx {direction} on {iface:?}"),
            Place::Slot { target, function } => format!("{function} of {}", target.id),
            Place::Tracepoint(name) => format!("tracepoint {name}"),
            Place::Probe(place) => format!("probe at {place}"),
        };
        format!("link {} {place}: program {}", self.id, self.program().id)
    }
}
