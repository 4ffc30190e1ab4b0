//! The steps of a change: each done, taken back or taken away by itself.

use std::path::{Path, PathBuf};

use log::warn;

use crate::error::Doing;
use crate::kernel::{Device, Kernel, KernelError};
use crate::state::{BuildStep, CommitStep, Direction, Guard, Put};
use crate::{LoaderError, TcDirection};

/// A step of the commit that was done, with what is needed to take it back.
pub(super) enum Committed<H> {
    Swapped {
        link: H,
        old: H,
    },
    SwappedFilter {
        device: Device,
        direction: TcDirection,
        new: u32,
        old: H,
    },
    RemovedFilter {
        device: Device,
        direction: TcDirection,
        handle: u32,
        program: H,
    },
    RemovedClsact {
        device: Device,
    },
    Recorded {
        puts: Vec<Put>,
    },
    Unpinned {
        path: PathBuf,
        held: H,
    },
    RemovedDir {
        path: PathBuf,
    },
    Nothing,
}

/// Does one step of a commit. Doing it once more does nothing.
pub(super) fn perform<K: Kernel>(
    kernel: &K,
    guard: &Guard,
    step: CommitStep,
) -> Result<Committed<K::Handle>, LoaderError> {
    match step {
        CommitStep::Swap {
            link,
            old,
            new,
            may_be_gone,
        } => swap(kernel, &link, old, new, may_be_gone),
        CommitStep::SwapFilter {
            device,
            direction,
            old,
            new,
            may_be_gone,
        } => swap_filter(kernel, device, direction, (old, new), may_be_gone),
        CommitStep::RemoveFilter {
            device,
            direction,
            program,
        } => {
            let what = || format!("removing the TC {direction} filter");
            let held = kernel.program_by_id(program).doing(what)?;
            let removed = kernel.remove_tc_filter(&device, direction, program);
            let removed = removed.doing(what)?;
            Ok(match (held, removed) {
                (Some(program), Some(handle)) => Committed::RemovedFilter {
                    device,
                    direction,
                    handle,
                    program,
                },
                _ => Committed::Nothing,
            })
        }
        CommitStep::RemoveClsact { device } => {
            let removed = kernel.remove_unused_clsact(&device);
            let removed = removed.doing(|| "removing the clsact qdisc".to_owned())?;
            Ok(if removed {
                Committed::RemovedClsact { device }
            } else {
                Committed::Nothing
            })
        }
        CommitStep::Records { puts } => {
            guard
                .records_of_change()?
                .apply(&puts, Direction::Forward)?;
            Ok(Committed::Recorded { puts })
        }
        CommitStep::Unpin { path } => {
            let what = || format!("removing {}", path.display());
            let held = kernel.open_pin(&path).doing(what)?;
            kernel.unpin(&path).doing(what)?;
            Ok(held.map_or(Committed::Nothing, |held| Committed::Unpinned {
                path,
                held,
            }))
        }
        CommitStep::RemoveDir { path } => {
            let removed = kernel.remove_dir(&path);
            removed.doing(|| format!("removing the folder {}", path.display()))?;
            Ok(Committed::RemovedDir { path })
        }
    }
}

fn swap<K: Kernel>(
    kernel: &K,
    path: &Path,
    old: u32,
    new: u32,
    may_be_gone: bool,
) -> Result<Committed<K::Handle>, LoaderError> {
    let what = || format!("replacing the dispatcher at {}", path.display());
    let link = kernel.open_pin(path).doing(what)?;
    let old_program = kernel.program_by_id(old).doing(what)?;
    let new_program = kernel.program_by_id(new).doing(what)?;
    let (Some(link), Some(new_program)) = (link, new_program) else {
        if may_be_gone {
            return Ok(Committed::Nothing);
        }
        return Err(LoaderError::ProgramGone {
            id: new,
            path: path.to_owned(),
        });
    };
    match kernel.update_link(&link, &new_program) {
        Ok(()) => {
            Ok(old_program.map_or(Committed::Nothing, |old| Committed::Swapped { link, old }))
        }
        Err(error) if may_be_gone && is_interface_gone(&error) => {
            warn!("the interface of {} is gone", path.display());
            Ok(Committed::Nothing)
        }
        Err(source) if source.is_drivers() => Err(LoaderError::ChainRefused {
            path: path.to_owned(),
            source,
        }),
        Err(error) => Err(error).doing(what),
    }
}

fn swap_filter<K: Kernel>(
    kernel: &K,
    device: Device,
    direction: TcDirection,
    (old, new): (u32, u32),
    may_be_gone: bool,
) -> Result<Committed<K::Handle>, LoaderError> {
    let what = || format!("replacing the dispatcher of the TC {direction} filter");
    let old_program = kernel.program_by_id(old).doing(what)?;
    let new_program = kernel.program_by_id(new).doing(what)?;
    let swapped = match &new_program {
        Some(program) => kernel.replace_tc_filter(&device, direction, old, program),
        None => Ok(false),
    };
    if swapped.doing(what)? {
        return Ok(
            old_program.map_or(Committed::Nothing, |old| Committed::SwappedFilter {
                device,
                direction,
                new,
                old,
            }),
        );
    }
    if may_be_gone {
        return Ok(Committed::Nothing);
    }
    Err(LoaderError::FilterGone {
        ifindex: device.ifindex,
        direction,
        program: old,
    })
}

/// `bpf_xdp_link_update` gives ENOLINK once the device is unregistered (net/core/dev.c).
fn is_interface_gone(error: &KernelError) -> bool {
    matches!(error, KernelError::Syscall { source, .. } if source.raw_os_error() == Some(libc::ENOLINK))
}

/// Takes one step of a commit back.
pub(super) fn take_back<K: Kernel>(
    kernel: &K,
    guard: &Guard,
    done: Committed<K::Handle>,
) -> Result<(), LoaderError> {
    match done {
        Committed::Swapped { link, old } => {
            let swapped = kernel.update_link(&link, &old);
            swapped.doing(|| "putting the former dispatcher back".to_owned())?;
        }
        Committed::SwappedFilter {
            device,
            direction,
            new,
            old,
        } => {
            let swapped = kernel.replace_tc_filter(&device, direction, new, &old);
            swapped.doing(|| "putting the former dispatcher back".to_owned())?;
        }
        Committed::RemovedFilter {
            device,
            direction,
            handle,
            program,
        } => {
            // As it was, for those who know it by its handle.
            let added = kernel.add_tc_filter(&device, direction, &program, Some(handle));
            added.doing(|| format!("adding the TC {direction} filter again"))?;
        }
        Committed::RemovedClsact { device } => {
            let added = kernel.add_clsact(&device);
            added.doing(|| "adding the clsact qdisc again".to_owned())?;
        }
        Committed::Recorded { puts } => {
            guard
                .records_of_change()?
                .apply(&puts, Direction::Backward)?;
        }
        Committed::Unpinned { path, held } => {
            let pinned = kernel.pin(&held, &path);
            pinned.doing(|| format!("pinning {} again", path.display()))?;
        }
        Committed::RemovedDir { path } => {
            let made = kernel.create_dir(&path);
            made.doing(|| format!("making the folder {} again", path.display()))?;
        }
        Committed::Nothing => {}
    }
    Ok(())
}

/// Takes one thing away that was built.
pub(super) fn unbuild<K: Kernel>(
    kernel: &K,
    guard: &Guard,
    step: &BuildStep,
) -> Result<(), LoaderError> {
    match step {
        BuildStep::CreateDir { path } => {
            let removed = kernel.remove_dir(path);
            removed.doing(|| format!("removing the folder {}", path.display()))
        }
        BuildStep::Pin { path } => kernel
            .unpin(path)
            .doing(|| format!("removing {}", path.display())),
        BuildStep::Clsact { device } => {
            let removed = kernel.remove_unused_clsact(device);
            removed.doing(|| "removing the clsact qdisc".to_owned())?;
            Ok(())
        }
        BuildStep::Filter {
            device,
            direction,
            program,
        } => {
            let removed = kernel.remove_tc_filter(device, *direction, *program);
            removed.doing(|| format!("removing the TC {direction} filter"))?;
            Ok(())
        }
        BuildStep::Records { puts } => match guard.records()? {
            Some(records) => Ok(records.apply(puts, Direction::Backward)?),
            None => Ok(()),
        },
    }
}

/// What a dead process was replacing may be gone by now.
pub(super) fn tolerant(step: CommitStep) -> CommitStep {
    match step {
        CommitStep::Swap { link, old, new, .. } => CommitStep::Swap {
            link,
            old,
            new,
            may_be_gone: true,
        },
        CommitStep::SwapFilter {
            device,
            direction,
            old,
            new,
            ..
        } => CommitStep::SwapFilter {
            device,
            direction,
            old,
            new,
            may_be_gone: true,
        },
        step => step,
    }
}
