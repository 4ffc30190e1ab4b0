//! Steps of a change in words, for the log.

use crate::kernel::Device;
use crate::state::{BuildStep, CommitStep};

/// A step that adds something.
pub(super) fn built(step: &BuildStep) -> String {
    match step {
        BuildStep::CreateDir { path } => format!("creating the folder {}", path.display()),
        BuildStep::Pin { path } => format!("pinning {}", path.display()),
        BuildStep::Records { .. } => "writing the records".to_owned(),
        BuildStep::Clsact { device } => format!("adding a clsact qdisc to {}", interface(device)),
        BuildStep::Filter {
            device,
            direction,
            program,
        } => format!(
            "adding a TC {direction} filter with program {program} to {}",
            interface(device)
        ),
    }
}

/// A step that replaces or removes something.
pub(super) fn committed(step: &CommitStep) -> String {
    match step {
        CommitStep::Swap { link, old, new, .. } => {
            format!("replacing program {old} by {new} under {}", link.display())
        }
        CommitStep::SwapFilter {
            device,
            direction,
            old,
            new,
            ..
        } => format!(
            "replacing program {old} by {new} in the TC {direction} filter of {}",
            interface(device)
        ),
        CommitStep::RemoveFilter {
            device,
            direction,
            program,
        } => format!(
            "removing the TC {direction} filter with program {program} from {}",
            interface(device)
        ),
        CommitStep::RemoveClsact { device } => {
            format!("removing the clsact qdisc from {}", interface(device))
        }
        CommitStep::Records { .. } => "writing the records".to_owned(),
        CommitStep::Unpin { path } => format!("unpinning {}", path.display()),
        CommitStep::RemoveDir { path } => format!("removing the folder {}", path.display()),
    }
}

fn interface(device: &Device) -> String {
    match &device.netns {
        Some(netns) => format!("interface {} of {}", device.ifindex, netns.display()),
        None => format!("interface {}", device.ifindex),
    }
}
