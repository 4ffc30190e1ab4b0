//! Attaching: one file a hook.

mod chain;
mod fentry;
mod fexit;
mod kprobe;
mod moved;
mod rebuild;
mod single;
mod tc;
mod tcx;
mod tracepoint;
mod uprobe;
mod xdp;

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};

use bytecode_object::ProgramType;

use crate::error::HookPlace;
use crate::kernel::{Kernel, KernelError};
use crate::state::{Guard, Hook, LinkRecord, ProgramRecord};
use crate::{AttachPoint, AttachRequest, Link, Loader, LoaderError, metadata};

/// A program that is to be attached, and what its link will be.
struct Attaching {
    program_id: u32,
    program: ProgramRecord,
    link_id: u32,
    sequence: u64,
    metadata: BTreeMap<String, String>,
    /// Every link there is.
    links: BTreeMap<u32, LinkRecord>,
}

impl<K: Kernel> Loader<K> {
    /// Attaches a program of ours.
    ///
    /// # Errors
    ///
    /// When the hook does not fit the program, is full or taken, or the kernel refuses.
    pub fn attach(
        &self,
        guard: &mut Guard,
        program_id: u32,
        request: AttachRequest,
    ) -> Result<Link, LoaderError> {
        metadata::check(&request.metadata)?;
        let program = self.managed(guard, program_id)?;
        let hook = match request.point {
            AttachPoint::Xdp { .. } => ProgramType::Xdp,
            AttachPoint::Tc { .. } => ProgramType::Tc,
            AttachPoint::Tcx { .. } => ProgramType::Tcx,
            AttachPoint::Tracepoint { .. } => ProgramType::Tracepoint,
            AttachPoint::Kprobe { .. } => ProgramType::Kprobe,
            AttachPoint::Uprobe(_) => ProgramType::Uprobe,
            AttachPoint::Fentry => ProgramType::Fentry,
            AttachPoint::Fexit => ProgramType::Fexit,
        };
        if program.program_type != hook {
            return Err(LoaderError::WrongHook {
                id: program_id,
                hook,
                program_type: program.program_type,
            });
        }
        guard.reserve()?;
        let links = guard.records_of_change()?.links()?;
        let last = links.values().map(|link| link.sequence).max().unwrap_or(0);
        let attaching = Attaching {
            program_id,
            program,
            link_id: unused_id(&links),
            sequence: last + 1,
            metadata: request.metadata,
            links,
        };
        match request.point {
            AttachPoint::Xdp {
                iface,
                priority,
                proceed_on,
                mode,
                netns,
            } => {
                let joining = chain::Joining {
                    hook: Hook::Xdp,
                    iface,
                    priority,
                    proceed_on,
                    mode,
                    netns,
                };
                self.attach_to_chain(guard, attaching, joining)
            }
            AttachPoint::Tc {
                iface,
                direction,
                priority,
                proceed_on,
                netns,
            } => {
                let joining = chain::Joining {
                    hook: Hook::Tc(direction),
                    iface,
                    priority,
                    proceed_on,
                    mode: None,
                    netns,
                };
                self.attach_to_chain(guard, attaching, joining)
            }
            AttachPoint::Tcx {
                iface,
                direction,
                priority,
                netns,
            } => {
                let asked = tcx::Asked {
                    iface,
                    direction,
                    priority,
                    netns,
                };
                self.attach_tcx(guard, attaching, asked)
            }
            AttachPoint::Tracepoint { tracepoint } => {
                self.attach_tracepoint(guard, attaching, tracepoint)
            }
            AttachPoint::Kprobe { function, offset } => {
                self.attach_kprobe(guard, attaching, function, offset)
            }
            AttachPoint::Uprobe(point) => self.attach_uprobe(guard, attaching, point),
            AttachPoint::Fentry => self.attach_fentry(guard, attaching),
            AttachPoint::Fexit => self.attach_fexit(guard, attaching),
        }
    }
}

/// Whether a priority is one that an order has.
fn check_priority(id: u32, place: &HookPlace, found: u32) -> Result<(), LoaderError> {
    if (1..=1000).contains(&found) {
        return Ok(());
    }
    Err(LoaderError::Priority {
        id,
        place: Box::new(place.clone()),
        found,
    })
}

/// Where the kernel takes a program once: TCX (`bpf_mprog_attach` in kernel/bpf/mprog.c) and tracepoints
/// (`bpf_prog_array_copy` in kernel/bpf/core.c).
fn is_there_already(error: &KernelError) -> bool {
    matches!(error, KernelError::Syscall { source, .. } if source.raw_os_error() == Some(libc::EEXIST))
}

/// A random id, so that scripts do not take it for a position, and an old id does not come back soon.
fn unused_id(links: &BTreeMap<u32, LinkRecord>) -> u32 {
    let random = RandomState::new();
    let mut attempt = 0_u64;
    loop {
        let [a, b, c, d, ..] = random.hash_one(attempt).to_ne_bytes();
        let id = u32::from_ne_bytes([a, b, c, d]);
        if id != 0 && !links.contains_key(&id) {
            return id;
        }
        attempt += 1;
    }
}
