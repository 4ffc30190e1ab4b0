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
            place(&link.attachment),
        ]);
    }
    table.render()
}

/// Where a link is, in a few words: `eno4 pos-0`, `eno4 ingress pos-0`.
pub(super) fn place(attachment: &Attachment) -> String {
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
