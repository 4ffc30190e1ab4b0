use std::fmt::Display;
use std::path::Path;

use loader::{Attachment, Link};

use super::programs::{application, metadata_rows};
use super::table::{Section, Table};

/// `attach` and `get link`.
pub(super) fn details(link: &Link) -> String {
    let section = Section::new("Bpfman State")
        .row("BPF Function:", &link.function)
        .row("Program Type:", link.program_type)
        .row("Program ID:", link.program_id)
        .row("Link ID:", link.id);
    let section = match &link.attachment {
        Attachment::Xdp {
            iface,
            priority,
            position,
            proceed_on,
            netns,
        } => section
            .row("Interface:", iface)
            .row("Priority:", priority)
            .row("Position:", position)
            .row("Proceed On:", proceed_on.join(", "))
            .row(
                "XDP Mode:",
                or_none(link.interface.as_ref().and_then(|found| found.mode)),
            )
            .row("Network Namespace:", namespace(netns.as_deref())),
        Attachment::Tc {
            iface,
            direction,
            priority,
            position,
            proceed_on,
            netns,
        } => section
            .row("Interface:", iface)
            .row("Direction:", direction)
            .row("Priority:", priority)
            .row("Position:", position)
            .row("Proceed On:", proceed_on.join(", "))
            .row("Network Namespace:", namespace(netns.as_deref())),
        Attachment::Tcx {
            iface,
            direction,
            priority,
            position,
            netns,
        } => section
            .row("Interface:", iface)
            .row("Direction:", direction)
            .row("Priority:", priority)
            .row("Position:", position)
            .row("Network Namespace:", namespace(netns.as_deref())),
        Attachment::Tracepoint { tracepoint } => section.row("Tracepoint:", tracepoint),
        Attachment::Kprobe {
            function,
            offset,
            retprobe,
        } => section
            .row("Probe:", if *retprobe { "kretprobe" } else { "kprobe" })
            .row("Attach Function:", function)
            .row("Offset:", offset),
        Attachment::Uprobe {
            point,
            path,
            retprobe,
        } => section
            .row("Probe:", if *retprobe { "uretprobe" } else { "uprobe" })
            .row("Attach Function:", or_none(point.function.as_ref()))
            .row("Offset:", point.offset)
            .row("Target:", &point.target)
            .row("Target Path:", path.display())
            .row("PID:", or_none(point.pid))
            .row("Container PID:", or_none(point.container_pid)),
        Attachment::Fentry { function } | Attachment::Fexit { function } => {
            section.row("Attach Function:", function)
        }
    };
    let section = if link.gone {
        section.row("State:", "gone, with its interface or what ran there")
    } else if link
        .interface
        .as_ref()
        .is_some_and(|found| found.nsid.is_none())
    {
        section.row(
            "State:",
            "moved with its interface to a network namespace that cannot be found",
        )
    } else {
        section
    };
    section
        .rows("Metadata:", metadata_rows(&link.metadata))
        .render()
}

/// `list links`.
pub(super) fn list(links: &[Link]) -> String {
    let mut table = Table::new([
        "Program ID",
        "Link ID",
        "Application",
        "Type",
        "Function Name",
        "Attachment",
    ]);
    for link in links {
        table.push([
            link.program_id.to_string(),
            link.id.to_string(),
            application(&link.metadata).to_owned(),
            link.program_type.to_string(),
            kernel_name(&link.function).to_owned(),
            place(link),
        ]);
    }
    table.render()
}

/// Where a link is, in a few words: `eno4 pos-0`, `eno4 ingress pos-0`; of one that leads nowhere `eno4 pos-0, gone`.
pub(super) fn place(link: &Link) -> String {
    let place = hook(&link.attachment);
    if link.gone {
        format!("{place}, gone")
    } else {
        place
    }
}

fn hook(attachment: &Attachment) -> String {
    match attachment {
        Attachment::Xdp {
            iface, position, ..
        } => format!("{iface} pos-{position}"),
        Attachment::Tc {
            iface,
            direction,
            position,
            ..
        }
        | Attachment::Tcx {
            iface,
            direction,
            position,
            ..
        } => format!("{iface} {direction} pos-{position}"),
        Attachment::Tracepoint { tracepoint } => tracepoint.clone(),
        Attachment::Kprobe {
            function, offset, ..
        } => with_offset(function, *offset),
        Attachment::Uprobe { point, .. } => match &point.function {
            Some(function) => format!("{} {}", point.target, with_offset(function, point.offset)),
            None => format!("{} {:#x}", point.target, point.offset),
        },
        Attachment::Fentry { function } | Attachment::Fexit { function } => function.clone(),
    }
}

/// As kernel tools write places: `malloc+0x10`.
fn with_offset(function: &str, offset: u64) -> String {
    match offset {
        0 => function.to_owned(),
        offset => format!("{function}+{offset:#x}"),
    }
}

fn namespace(path: Option<&Path>) -> String {
    or_none(path.map(Path::display))
}

pub(super) fn or_none(value: Option<impl Display>) -> String {
    value.map_or_else(|| "None".to_owned(), |value| value.to_string())
}

/// What the kernel keeps of a function's name, and lists show: 15 bytes (`BPF_OBJ_NAME_LEN` less the NUL).
fn kernel_name(function: &str) -> &str {
    function.get(..15).unwrap_or(function)
}
