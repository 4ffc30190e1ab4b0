//! The JSON of every result. `docs/json.md` is its schema: fields are added, never renamed or taken away.

use std::collections::BTreeMap;
use std::path::Path;

use bytecode_image::pull::BytecodeImage;
use loader::{
    Attachment, KernelState, Link, LinkInterface, ManagedState, Program, ProgramSummary, Source,
    XdpMode,
};
use serde::Serialize;

use super::programs::{hex_lower, hex_upper};
use super::time;
use crate::metadata::APPLICATION_KEY;

/// A value as indented JSON with a line end.
pub(super) fn render(value: &impl Serialize) -> Result<String, serde_json::Error> {
    let mut text = serde_json::to_string_pretty(value)?;
    text.push('\n');
    Ok(text)
}

#[derive(Debug, Serialize)]
pub(super) struct ProgramJson<'a> {
    program_id: u32,
    bpfman_state: Option<BpfmanStateJson<'a>>,
    kernel_state: KernelStateJson<'a>,
}

impl<'a> From<&'a Program> for ProgramJson<'a> {
    fn from(program: &'a Program) -> Self {
        Self {
            program_id: program.kernel.id,
            bpfman_state: program.managed.as_ref().map(BpfmanStateJson::from),
            kernel_state: KernelStateJson::from(&program.kernel),
        }
    }
}

#[derive(Debug, Serialize)]
struct BpfmanStateJson<'a> {
    bpf_function: &'a str,
    program_type: &'static str,
    attach_function: Option<&'a str>,
    application: Option<&'a str>,
    path: Option<&'a str>,
    image_url: Option<&'a str>,
    image_digest: Option<&'a str>,
    pull_policy: Option<&'a str>,
    global: BTreeMap<&'a str, String>,
    metadata: &'a BTreeMap<String, String>,
    map_pin_path: &'a Path,
    map_owner_id: Option<u32>,
    maps_used_by: &'a [u32],
    links: Vec<LinkJson<'a>>,
}

impl<'a> From<&'a ManagedState> for BpfmanStateJson<'a> {
    fn from(managed: &'a ManagedState) -> Self {
        let (path, image) = match &managed.source {
            Source::File { path } => (Some(path.as_str()), None),
            Source::Image {
                url,
                digest,
                pull_policy,
            } => (None, Some((url, digest, pull_policy))),
        };
        Self {
            bpf_function: &managed.function,
            program_type: managed.program_type.as_str(),
            attach_function: managed.attach_function.as_deref(),
            application: application(&managed.metadata),
            path,
            image_url: image.map(|(url, ..)| url.as_str()),
            image_digest: image.map(|(_, digest, _)| digest.as_str()),
            pull_policy: image.map(|(.., policy)| policy.as_str()),
            global: managed
                .globals
                .iter()
                .map(|(name, bytes)| (name.as_str(), hex_upper(bytes)))
                .collect(),
            metadata: &managed.metadata,
            map_pin_path: &managed.map_pin_path,
            map_owner_id: managed.map_owner_id,
            maps_used_by: &managed.maps_used_by,
            links: managed.links.iter().map(LinkJson::from).collect(),
        }
    }
}

#[derive(Debug, Serialize)]
struct KernelStateJson<'a> {
    program_id: u32,
    bpf_function: &'a str,
    kernel_type: &'a str,
    loaded_at: Option<String>,
    tag: String,
    gpl_compatible: bool,
    map_ids: &'a [u32],
    btf_id: Option<u32>,
    size_translated: u32,
    jitted: bool,
    size_jitted: u32,
    kernel_allocated_memory: u64,
    verified_instruction_count: Option<u32>,
}

impl<'a> From<&'a KernelState> for KernelStateJson<'a> {
    fn from(kernel: &'a KernelState) -> Self {
        Self {
            program_id: kernel.id,
            bpf_function: &kernel.name,
            kernel_type: &kernel.program_type,
            loaded_at: kernel.loaded_at.and_then(time::rfc3339),
            tag: hex_lower(&kernel.tag),
            gpl_compatible: kernel.gpl_compatible,
            map_ids: &kernel.map_ids,
            btf_id: Some(kernel.btf_id).filter(|id| *id != 0),
            size_translated: kernel.size_translated,
            jitted: kernel.size_jitted > 0,
            size_jitted: kernel.size_jitted,
            kernel_allocated_memory: kernel.memory,
            verified_instruction_count: Some(kernel.verified_instructions)
                .filter(|count| *count != 0),
        }
    }
}

#[derive(Debug, Serialize)]
pub(super) struct ProgramSummaryJson<'a> {
    program_id: u32,
    managed: bool,
    application: Option<&'a str>,
    program_type: Option<&'static str>,
    kernel_type: &'a str,
    bpf_function: &'a str,
    metadata: Option<&'a BTreeMap<String, String>>,
    links: &'a [u32],
}

impl<'a> From<&'a ProgramSummary> for ProgramSummaryJson<'a> {
    fn from(program: &'a ProgramSummary) -> Self {
        let managed = program.managed.as_ref();
        Self {
            program_id: program.id,
            managed: managed.is_some(),
            application: managed.and_then(|managed| application(&managed.metadata)),
            program_type: managed.map(|managed| managed.program_type.as_str()),
            kernel_type: &program.kernel_type,
            bpf_function: managed.map_or(&program.name, |managed| &managed.function),
            metadata: managed.map(|managed| &managed.metadata),
            links: managed.map_or(&[], |managed| &managed.links),
        }
    }
}

#[derive(Debug, Serialize)]
pub(super) struct LinkJson<'a> {
    link_id: u32,
    program_id: u32,
    bpf_function: &'a str,
    program_type: &'static str,
    application: Option<&'a str>,
    attachment: AttachmentJson<'a>,
    metadata: &'a BTreeMap<String, String>,
    gone: bool,
}

impl<'a> From<&'a Link> for LinkJson<'a> {
    fn from(link: &'a Link) -> Self {
        Self {
            link_id: link.id,
            program_id: link.program_id,
            bpf_function: &link.function,
            program_type: link.program_type.as_str(),
            application: application(&link.metadata),
            attachment: AttachmentJson::from(link),
            metadata: &link.metadata,
            gone: link.gone,
        }
    }
}

#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum AttachmentJson<'a> {
    Xdp {
        interface: &'a str,
        #[serde(flatten)]
        recorded: Option<InterfaceJson<'a>>,
        mode: Option<&'static str>,
        priority: u32,
        position: u32,
        proceed_on: &'a [String],
        network_namespace: Option<&'a Path>,
    },
    Tc {
        interface: &'a str,
        #[serde(flatten)]
        recorded: Option<InterfaceJson<'a>>,
        direction: &'static str,
        priority: u32,
        position: u32,
        proceed_on: &'a [String],
        network_namespace: Option<&'a Path>,
    },
    Tcx {
        interface: &'a str,
        #[serde(flatten)]
        recorded: Option<InterfaceJson<'a>>,
        direction: &'static str,
        priority: u32,
        position: u32,
        network_namespace: Option<&'a Path>,
    },
    Tracepoint {
        tracepoint: &'a str,
    },
    Kprobe {
        function: &'a str,
        offset: u64,
        retprobe: bool,
    },
    Uprobe {
        target: &'a str,
        path: &'a Path,
        function: Option<&'a str>,
        offset: u64,
        pid: Option<u32>,
        container_pid: Option<u32>,
        retprobe: bool,
    },
    Fentry {
        function: &'a str,
    },
    Fexit {
        function: &'a str,
    },
}

/// Numbers of an interface, and its name of before.
#[derive(Debug, Serialize)]
struct InterfaceJson<'a> {
    ifindex: u32,
    interface_at_attach: &'a str,
    network_namespace_inode: Option<u64>,
}

impl<'a> From<&'a LinkInterface> for InterfaceJson<'a> {
    fn from(interface: &'a LinkInterface) -> Self {
        Self {
            ifindex: interface.ifindex,
            interface_at_attach: &interface.recorded_name,
            network_namespace_inode: interface.nsid,
        }
    }
}

impl<'a> From<&'a Link> for AttachmentJson<'a> {
    fn from(link: &'a Link) -> Self {
        let interface = link.interface.as_ref();
        let recorded = interface.map(InterfaceJson::from);
        match &link.attachment {
            Attachment::Xdp {
                iface,
                priority,
                position,
                proceed_on,
                netns,
            } => Self::Xdp {
                interface: iface,
                recorded,
                mode: interface
                    .and_then(|interface| interface.mode)
                    .map(XdpMode::as_str),
                priority: *priority,
                position: *position,
                proceed_on,
                network_namespace: netns.as_deref(),
            },
            Attachment::Tc {
                iface,
                direction,
                priority,
                position,
                proceed_on,
                netns,
            } => Self::Tc {
                interface: iface,
                recorded,
                direction: direction.as_str(),
                priority: *priority,
                position: *position,
                proceed_on,
                network_namespace: netns.as_deref(),
            },
            Attachment::Tcx {
                iface,
                direction,
                priority,
                position,
                netns,
            } => Self::Tcx {
                interface: iface,
                recorded,
                direction: direction.as_str(),
                priority: *priority,
                position: *position,
                network_namespace: netns.as_deref(),
            },
            Attachment::Tracepoint { tracepoint } => Self::Tracepoint { tracepoint },
            Attachment::Kprobe {
                function,
                offset,
                retprobe,
            } => Self::Kprobe {
                function,
                offset: *offset,
                retprobe: *retprobe,
            },
            Attachment::Uprobe {
                point,
                path,
                retprobe,
            } => Self::Uprobe {
                target: &point.target,
                path,
                function: point.function.as_deref(),
                offset: point.offset,
                pid: point.pid,
                container_pid: point.container_pid,
                retprobe: *retprobe,
            },
            Attachment::Fentry { function } => Self::Fentry { function },
            Attachment::Fexit { function } => Self::Fexit { function },
        }
    }
}

#[derive(Debug, Serialize)]
pub(super) struct ImageJson<'a> {
    image: String,
    digest: String,
    manifest_digest: String,
    platform: String,
    programs: &'a BTreeMap<String, String>,
    maps: &'a BTreeMap<String, String>,
    object: &'a str,
    object_bytes: usize,
    from_store: bool,
}

impl<'a> From<&'a BytecodeImage> for ImageJson<'a> {
    fn from(image: &'a BytecodeImage) -> Self {
        Self {
            image: image.reference.to_string(),
            digest: image.digest.to_string(),
            manifest_digest: image.manifest_digest.to_string(),
            platform: image.platform.to_string(),
            programs: &image.labels.programs,
            maps: &image.labels.maps,
            object: &image.object_name,
            object_bytes: image.object.len(),
            from_store: image.from_store,
        }
    }
}

fn application(metadata: &BTreeMap<String, String>) -> Option<&str> {
    metadata.get(APPLICATION_KEY).map(String::as_str)
}
