use std::collections::BTreeMap;
use std::fmt::Write;

use loader::{KernelState, ManagedState, Program, ProgramSummary, Source};

use super::links::{or_none, place};
use super::table::{Section, Table};
use super::time;
use crate::metadata::APPLICATION_KEY;

/// `get program`, and `load` of one program.
pub(super) fn details(program: &Program) -> String {
    let kernel = kernel_state(&program.kernel).render();
    match &program.managed {
        Some(managed) => format!("{}\n{kernel}", bpfman_state(managed).render()),
        None => kernel,
    }
}

fn bpfman_state(managed: &ManagedState) -> Section {
    let section = Section::new("Bpfman State")
        .row("BPF Function:", &managed.function)
        .row("Program Type:", managed.program_type);
    let section = match &managed.source {
        Source::File { path } => section.row("Path:", path),
        Source::Image {
            url, pull_policy, ..
        } => section
            .row("Image URL:", url)
            .row("Pull Policy:", pull_policy),
    };
    section
        .rows(
            "Global:",
            managed
                .globals
                .iter()
                .map(|(name, bytes)| format!("{name}={}", hex_upper(bytes))),
        )
        .rows("Metadata:", metadata_rows(&managed.metadata))
        .row("Map Pin Path:", managed.map_pin_path.display())
        .row("Map Owner ID:", or_none(managed.map_owner_id))
        .rows(
            "Maps Used By:",
            managed.maps_used_by.iter().map(u32::to_string),
        )
        .rows(
            "Links:",
            managed
                .links
                .iter()
                .map(|link| format!("{} ({})", link.id, place(link))),
        )
}

fn kernel_state(kernel: &KernelState) -> Section {
    Section::new("Kernel State")
        .row("Program ID:", kernel.id)
        .row("BPF Function:", &kernel.name)
        .row("Kernel Type:", &kernel.program_type)
        .row(
            "Loaded At:",
            or_none(kernel.loaded_at.and_then(time::local)),
        )
        .row("Tag:", hex_lower(&kernel.tag))
        .row("GPL Compatible:", kernel.gpl_compatible)
        .row("Map IDs:", format!("{:?}", kernel.map_ids))
        .row("BTF ID:", kernel.btf_id)
        .row("Size Translated (bytes):", kernel.size_translated)
        .row("JITted:", kernel.size_jitted > 0)
        .row("Size JITted:", kernel.size_jitted)
        .row("Kernel Allocated Memory (bytes):", kernel.memory)
        .row("Verified Instruction Count:", kernel.verified_instructions)
}

/// `load` of several programs: the table of `list programs`.
pub(super) fn loaded(programs: &[Program]) -> String {
    let mut list = List::new();
    for program in programs {
        let managed = program.managed.as_ref();
        list.push(
            program.kernel.id,
            managed.map_or("", |managed| application(&managed.metadata)),
            managed.map_or(program.kernel.program_type.as_str(), |managed| {
                managed.program_type.as_str()
            }),
            &program.kernel.name,
            &managed.map_or_else(Vec::new, |managed| {
                managed.links.iter().map(|link| link.id).collect()
            }),
        );
    }
    list.0.render()
}

/// `list programs`.
pub(super) fn list(programs: &[ProgramSummary]) -> String {
    let mut list = List::new();
    for program in programs {
        let managed = program.managed.as_ref();
        list.push(
            program.id,
            managed.map_or("", |managed| application(&managed.metadata)),
            managed.map_or(program.kernel_type.as_str(), |managed| {
                managed.program_type.as_str()
            }),
            &program.name,
            managed.map_or(&[], |managed| managed.links.as_slice()),
        );
    }
    list.0.render()
}

struct List(Table<5>);

impl List {
    fn new() -> Self {
        Self(Table::new([
            "Program ID",
            "Application",
            "Type",
            "Function Name",
            "Links",
        ]))
    }

    fn push(&mut self, id: u32, application: &str, program_type: &str, name: &str, links: &[u32]) {
        let links = if links.is_empty() {
            String::new()
        } else {
            let ids: Vec<String> = links.iter().map(u32::to_string).collect();
            format!("({}) {}", ids.len(), ids.join(", "))
        };
        self.0.push([
            id.to_string(),
            application.to_owned(),
            program_type.to_owned(),
            name.to_owned(),
            links,
        ]);
    }
}

pub(super) fn application(metadata: &BTreeMap<String, String>) -> &str {
    metadata.get(APPLICATION_KEY).map_or("", String::as_str)
}

pub(super) fn metadata_rows(metadata: &BTreeMap<String, String>) -> impl Iterator<Item = String> {
    metadata.iter().map(|(key, value)| format!("{key}={value}"))
}

/// As globals are typed: `0A0B0C0D`.
pub(super) fn hex_upper(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02X}");
        text
    })
}

/// As kernel tools print tags: `d796b57bdaf88123`.
pub(super) fn hex_lower(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
