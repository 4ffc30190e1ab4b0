//! What is shown: records, joined with what the kernel says.

use std::collections::BTreeMap;

use log::warn;

use crate::dispatcher::action;
use crate::error::Doing;
use crate::kernel::{Kernel, ProgramBrief, kept_name};
use crate::state::{
    ChainKey, Guard, Hook, LinkRecord, PlaceRecord, ProgramRecord, Records, SourceRecord,
};
use crate::{
    Attachment, KernelState, Link, LinkFilter, LinkInterface, Loader, LoaderError, ManagedState,
    ManagedSummary, Program, ProgramFilter, ProgramSummary, Source, UprobePoint,
};

impl<K: Kernel> Loader<K> {
    /// Programs, by ascending id. One of ours that the kernel no longer has is left out, with a warning.
    ///
    /// # Errors
    ///
    /// When the store or the kernel cannot be read.
    pub fn programs(
        &self,
        guard: &Guard,
        filter: &ProgramFilter,
    ) -> Result<Vec<ProgramSummary>, LoaderError> {
        let mut managed = match guard.records()? {
            Some(records) => summaries(records)?,
            None => BTreeMap::new(),
        };
        let mut programs = Vec::new();
        if filter.all {
            let mut last = 0;
            while let Some(id) = self.kernel.next_program_id(last).doing(listing)? {
                last = id;
                // A program may go between two questions.
                if let Some(brief) = self.brief(id)? {
                    programs.push(summary(brief, managed.remove(&id)));
                }
            }
        } else {
            managed.retain(|_, managed| {
                let kernel_type = managed.program_type.kernel_type();
                filter
                    .metadata
                    .iter()
                    .all(|(key, value)| managed.metadata.get(key) == Some(value))
                    && filter
                        .kernel_type
                        .as_deref()
                        .is_none_or(|wanted| wanted == kernel_type)
            });
            let (living, gone) = self.split_by_kernel(managed)?;
            programs.extend(living);
            managed = gone;
        }
        for id in managed.keys() {
            warn!(
                "program {id} is recorded but the kernel no longer has it: `bpfman unload {id}` removes the record"
            );
        }
        programs.retain(|program| matches(program, filter));
        Ok(programs)
    }

    /// Ids of the programs that are recorded with all of this metadata, ascending. The kernel is not asked: it may
    /// no longer have them.
    ///
    /// # Errors
    ///
    /// When the store cannot be read.
    pub fn recorded_programs(
        &self,
        guard: &Guard,
        metadata: &BTreeMap<String, String>,
    ) -> Result<Vec<u32>, LoaderError> {
        let Some(records) = guard.records()? else {
            return Ok(Vec::new());
        };
        let mut programs = records.programs()?;
        programs.retain(|_, program| {
            let mut wanted = metadata.iter();
            wanted.all(|(key, value)| program.metadata.get(key) == Some(value))
        });
        Ok(programs.into_keys().collect())
    }

    /// Links of ours, by program and then in the order they were made.
    ///
    /// # Errors
    ///
    /// When the store cannot be read.
    pub fn links(&self, guard: &Guard, filter: &LinkFilter) -> Result<Vec<Link>, LoaderError> {
        let Some(records) = guard.records()? else {
            return Ok(Vec::new());
        };
        let recorded = records.links()?;
        let mut links = links(&recorded, &records.programs()?);
        links.retain(|link| {
            let kernel_type = link.program_type.kernel_type();
            filter
                .kernel_type
                .as_deref()
                .is_none_or(|wanted| wanted == kernel_type)
                && filter
                    .metadata
                    .iter()
                    .all(|(key, value)| link.metadata.get(key) == Some(value))
        });
        self.locate(records, &recorded, &mut links);
        Ok(links)
    }

    /// One program, ours or not.
    ///
    /// # Errors
    ///
    /// [`LoaderError::NoSuchProgram`], or store or kernel cannot be read.
    pub fn program(&self, guard: &Guard, id: u32) -> Result<Program, LoaderError> {
        let doing = || format!("reading program {id}");
        let handle = self.kernel.program_by_id(id).doing(doing)?;
        let state = handle.map(|handle| self.kernel.program_state(&handle).doing(doing));
        let state = state.transpose()?;
        let records = guard.records()?;
        let record = records
            .map(|records| records.program(id))
            .transpose()?
            .flatten();
        match (state, records, record) {
            (Some(kernel), Some(records), Some(record)) => {
                let recorded = records.links()?;
                let only = BTreeMap::from([(id, record.clone())]);
                let mut links = links(&recorded, &only);
                self.locate(records, &recorded, &mut links);
                Ok(self.view(id, record, kernel, &records.maps_folders()?, links))
            }
            (Some(kernel), _, _) => Ok(Program {
                managed: None,
                kernel,
            }),
            (None, _, Some(_)) => Err(LoaderError::ProgramGone {
                id,
                path: self.pins().program(id),
            }),
            (None, _, None) => Err(LoaderError::NoSuchProgram { id }),
        }
    }

    /// One link of ours.
    ///
    /// # Errors
    ///
    /// [`LoaderError::NoSuchLink`], or the store cannot be read.
    pub fn link(&self, guard: &Guard, id: u32) -> Result<Link, LoaderError> {
        let links = self.links(guard, &LinkFilter::default())?;
        let link = links.into_iter().find(|link| link.id == id);
        link.ok_or(LoaderError::NoSuchLink { id })
    }

    /// A program of ours as it is shown, with those of `links` that are its own. `folders` are the maps' of every program.
    pub(crate) fn view(
        &self,
        id: u32,
        record: ProgramRecord,
        kernel: KernelState,
        folders: &BTreeMap<u32, u32>,
        links: Vec<Link>,
    ) -> Program {
        let folder = record.maps_folder;
        let users = folders.iter().filter(|(_, of)| **of == folder);
        Program {
            managed: Some(ManagedState {
                function: record.function,
                program_type: record.program_type,
                attach_function: record.attach_function,
                source: record.source.into(),
                globals: record
                    .globals
                    .into_iter()
                    .map(|(name, value)| (name, value.0))
                    .collect(),
                metadata: record.metadata,
                map_pin_path: self.pins().maps(folder),
                map_owner_id: (folder != id).then_some(folder),
                maps_used_by: users.map(|(id, _)| *id).collect(),
                links: links
                    .into_iter()
                    .filter(|link| link.program_id == id)
                    .collect(),
            }),
            kernel: KernelState {
                program_type: record.program_type.kernel_type().to_owned(),
                ..kernel
            },
        }
    }

    /// Programs that the kernel has, and those that it no longer has. Asks only whether it has the id, which is one
    /// system call per program instead of three: name and type follow from the record.
    fn split_by_kernel(
        &self,
        managed: BTreeMap<u32, ManagedSummary>,
    ) -> Result<(Vec<ProgramSummary>, BTreeMap<u32, ManagedSummary>), LoaderError> {
        let (mut living, mut gone) = (Vec::new(), BTreeMap::new());
        // The kernel has no id from the last one that was asked about up to this one.
        let mut next = Some(0);
        for (id, managed) in managed {
            if next.is_some_and(|next| next < id) {
                let before = id.saturating_sub(1);
                next = self.kernel.next_program_id(before).doing(listing)?;
            }
            if next == Some(id) {
                living.push(ProgramSummary {
                    id,
                    name: kept_name(&managed.function),
                    kernel_type: managed.program_type.kernel_type().to_owned(),
                    managed: Some(managed),
                });
            } else {
                gone.insert(id, managed);
            }
        }
        Ok((living, gone))
    }

    fn brief(&self, id: u32) -> Result<Option<ProgramBrief>, LoaderError> {
        self.kernel
            .program_brief(id)
            .doing(|| format!("reading program {id}"))
    }
}

fn listing() -> String {
    "listing the kernel's programs".to_owned()
}

fn summaries(records: &Records) -> Result<BTreeMap<u32, ManagedSummary>, LoaderError> {
    let mut links: BTreeMap<u32, Vec<(u64, u32)>> = BTreeMap::new();
    for (id, link) in records.links()? {
        links
            .entry(link.program_id)
            .or_default()
            .push((link.sequence, id));
    }
    let summary = |(id, record): (u32, ProgramRecord)| {
        let mut links = links.remove(&id).unwrap_or_default();
        links.sort_unstable();
        let managed = ManagedSummary {
            function: record.function,
            program_type: record.program_type,
            metadata: record.metadata,
            links: links.into_iter().map(|(_, id)| id).collect(),
        };
        (id, managed)
    };
    Ok(records.programs()?.into_iter().map(summary).collect())
}

fn summary(brief: ProgramBrief, managed: Option<ManagedSummary>) -> ProgramSummary {
    let kernel_type = match &managed {
        // The kernel calls a member of a dispatcher `ext`.
        Some(managed) => managed.program_type.kernel_type().to_owned(),
        None => brief.program_type,
    };
    ProgramSummary {
        id: brief.id,
        name: brief.name,
        kernel_type,
        managed,
    }
}

fn matches(program: &ProgramSummary, filter: &ProgramFilter) -> bool {
    let has = |key: &String| {
        program
            .managed
            .as_ref()
            .and_then(|managed| managed.metadata.get(key))
    };
    filter
        .kernel_type
        .as_ref()
        .is_none_or(|wanted| *wanted == program.kernel_type)
        && filter
            .metadata
            .iter()
            .all(|(key, value)| has(key) == Some(value))
}

/// Every link of these programs as it is shown, by program and then in the order they were made.
fn links(
    records: &BTreeMap<u32, LinkRecord>,
    programs: &BTreeMap<u32, ProgramRecord>,
) -> Vec<Link> {
    let mut chains: BTreeMap<ChainKey, Vec<(u32, u64, u32)>> = BTreeMap::new();
    for (id, link) in records {
        if let Some((key, priority)) = link.order() {
            chains
                .entry(key)
                .or_default()
                .push((priority, link.sequence, *id));
        }
    }
    let mut positions = BTreeMap::new();
    for mut chain in chains.into_values() {
        chain.sort_unstable();
        positions.extend(
            chain
                .into_iter()
                .enumerate()
                .map(|(position, (_, _, id))| (id, position)),
        );
    }
    let mut ordered: Vec<_> = records.iter().collect();
    ordered.sort_by_key(|(_, link)| (link.program_id, link.sequence));
    let view = |(id, record): (&u32, &LinkRecord)| {
        let program = programs.get(&record.program_id)?;
        Some(link(
            *id,
            record.clone(),
            program,
            positions.get(id).copied().unwrap_or(0),
        ))
    };
    ordered.into_iter().filter_map(view).collect()
}

/// A link as it is shown.
pub(crate) fn link(id: u32, record: LinkRecord, program: &ProgramRecord, position: usize) -> Link {
    let mut metadata = program.metadata.clone();
    let interface = record.order().zip(record.hook());
    let interface = interface.map(|((key, _), hook)| LinkInterface {
        ifindex: key.ifindex,
        nsid: Some(key.nsid),
        recorded_name: hook.iface,
        mode: None,
    });
    metadata.extend(record.metadata);
    // Ten places in a chain; TCX has room for 64 programs (`BPF_MPROG_MAX`).
    let position = u32::try_from(position).unwrap_or(u32::MAX);
    Link {
        id,
        program_id: record.program_id,
        function: program.function.clone(),
        program_type: program.program_type,
        attachment: match record.place {
            PlaceRecord::Xdp {
                iface,
                priority,
                proceed_on,
                netns,
                ..
            } => Attachment::Xdp {
                iface,
                priority,
                position,
                proceed_on: action::words(Hook::Xdp, proceed_on),
                netns,
            },
            PlaceRecord::Tc {
                iface,
                direction,
                priority,
                proceed_on,
                netns,
                ..
            } => Attachment::Tc {
                iface,
                direction,
                priority,
                position,
                proceed_on: action::words(Hook::Tc(direction), proceed_on),
                netns,
            },
            PlaceRecord::Tcx {
                iface,
                direction,
                priority,
                netns,
                ..
            } => Attachment::Tcx {
                iface,
                direction,
                priority,
                position,
                netns,
            },
            PlaceRecord::Tracepoint { tracepoint } => Attachment::Tracepoint { tracepoint },
            PlaceRecord::Kprobe { function, offset } => Attachment::Kprobe {
                function,
                offset,
                retprobe: program.retprobe,
            },
            PlaceRecord::Uprobe {
                target,
                function,
                offset,
                pid,
                container_pid,
                path,
            } => Attachment::Uprobe {
                point: UprobePoint {
                    target,
                    function,
                    offset,
                    pid,
                    container_pid,
                },
                path,
                retprobe: program.retprobe,
            },
            PlaceRecord::Fentry => Attachment::Fentry {
                function: traced(program),
            },
            PlaceRecord::Fexit => Attachment::Fexit {
                function: traced(program),
            },
        },
        metadata,
        gone: false,
        interface,
    }
}

/// What an fentry or fexit program was loaded for; no such program is loaded without.
fn traced(program: &ProgramRecord) -> String {
    program.attach_function.clone().unwrap_or_default()
}

impl From<SourceRecord> for Source {
    fn from(record: SourceRecord) -> Self {
        match record {
            SourceRecord::File { path } => Self::File { path },
            SourceRecord::Image {
                url,
                digest,
                pull_policy,
            } => Self::Image {
                url,
                digest,
                pull_policy,
            },
        }
    }
}

impl From<Source> for SourceRecord {
    fn from(source: Source) -> Self {
        match source {
            Source::File { path } => Self::File { path },
            Source::Image {
                url,
                digest,
                pull_policy,
            } => Self::Image {
                url,
                digest,
                pull_policy,
            },
        }
    }
}
