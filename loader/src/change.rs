//! Plan, do, undo: one change of the kernel and the records, as steps with inverses.
//!
//! A change first builds: it adds folders, pins and records, each named in the journal before it is made. What must
//! take away or replace something follows as one list, the commit, journalled whole before its first step. So a
//! change that fails, or whose process dies, is undone before that line and finished after it. In the process that
//! does the change, even a failing commit is undone: handles still hold what was taken away.

use std::path::{Path, PathBuf};

use log::{error, warn};

use crate::error::Doing;
use crate::kernel::{Device, Kernel, KernelError};
use crate::state::{
    BuildStep, CommitStep, Direction, Guard, Line, Put, StateError, Store, Unfinished,
};
use crate::{LoaderError, TcDirection};

/// A step of the commit that was done, with what is needed to take it back.
enum Committed<H> {
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

/// A change under way.
pub(crate) struct Change<'a, K: Kernel> {
    pub(crate) kernel: &'a K,
    guard: &'a mut Guard,
    what: &'a str,
    begun: bool,
    built: Vec<BuildStep>,
    has_commit: bool,
    // Dropped in the order done: an XDP link goes before the members behind it.
    committed: Vec<Committed<K::Handle>>,
}

/// Does a change: `work` builds and commits through the [`Change`] that it is given. When it fails, all is undone.
pub(crate) fn run<K: Kernel, T>(
    kernel: &K,
    guard: &mut Guard,
    what: &str,
    work: impl FnOnce(&mut Change<'_, K>) -> Result<T, LoaderError>,
) -> Result<T, LoaderError> {
    let mut change = Change {
        kernel,
        guard,
        what,
        begun: false,
        built: Vec::new(),
        has_commit: false,
        committed: Vec::new(),
    };
    let done = work(&mut change).and_then(|value| {
        change.guard.journal.clear()?;
        Ok(value)
    });
    if done.is_err() {
        change.undo();
    }
    done
}

impl<K: Kernel> Change<'_, K> {
    /// The records as they are now.
    pub(crate) fn records(&self) -> Result<&Store, LoaderError> {
        Ok(self.guard.records_of_change()?)
    }

    fn journal(&mut self, line: &Line) -> Result<(), StateError> {
        if !self.begun {
            let what = self.what.to_owned();
            self.guard.journal.write(&Line::Begin { what })?;
            self.begun = true;
        }
        self.guard.journal.write(line)
    }

    fn build(
        &mut self,
        step: BuildStep,
        make: impl FnOnce(&Self) -> Result<(), LoaderError>,
    ) -> Result<(), LoaderError> {
        self.journal(&Line::Build(step.clone()))?;
        make(self)?;
        self.built.push(step);
        Ok(())
    }

    /// Makes a folder that is not there yet.
    pub(crate) fn create_dir(&mut self, path: &Path) -> Result<(), LoaderError> {
        let step = BuildStep::CreateDir {
            path: path.to_owned(),
        };
        self.build(step, |change| {
            let made = change.kernel.create_dir(path);
            made.doing(|| format!("making the folder {}", path.display()))
        })
    }

    /// Pins what `handle` is, where nothing is yet.
    pub(crate) fn pin(&mut self, handle: &K::Handle, path: &Path) -> Result<(), LoaderError> {
        let step = BuildStep::Pin {
            path: path.to_owned(),
        };
        self.build(step, |change| {
            let pinned = change.kernel.pin(handle, path);
            pinned.doing(|| format!("pinning {}", path.display()))
        })
    }

    /// Puts clsact on an interface that has none.
    pub(crate) fn add_clsact(&mut self, device: &Device) -> Result<(), LoaderError> {
        let step = BuildStep::Clsact {
            device: device.clone(),
        };
        self.build(step, |change| {
            let added = change.kernel.add_clsact(device);
            added.doing(|| "adding a clsact qdisc".to_owned())
        })
    }

    /// Lets a TC filter run a program, whose id is given for taking it away.
    pub(crate) fn add_filter(
        &mut self,
        device: &Device,
        direction: TcDirection,
        program: &K::Handle,
        id: u32,
    ) -> Result<(), LoaderError> {
        let step = BuildStep::Filter {
            device: device.clone(),
            direction,
            program: id,
        };
        self.build(step, |change| {
            let added = change.kernel.add_tc_filter(device, direction, program);
            added.doing(|| format!("adding a TC {direction} filter"))
        })
    }

    /// Records what was built.
    pub(crate) fn record(&mut self, puts: Vec<Put>) -> Result<(), LoaderError> {
        self.build(BuildStep::Records { puts: puts.clone() }, |change| {
            Ok(change.records()?.apply(&puts, Direction::Forward)?)
        })
    }

    /// Everything is built: replaces and takes away. The last call of a change.
    pub(crate) fn commit(&mut self, steps: Vec<CommitStep>) -> Result<(), LoaderError> {
        self.journal(&Line::Commit(steps.clone()))?;
        self.has_commit = true;
        for step in steps {
            let done = perform(self.kernel, self.guard, step)?;
            self.committed.push(done);
        }
        Ok(())
    }

    /// Undoes what was done, last step first. What cannot be undone is left to the next command.
    fn undo(&mut self) {
        if !self.begun {
            return;
        }
        if let Err(error) = self.take_back() {
            error!(
                "undoing a failed command ({}): {}; the next command finishes it",
                self.what,
                with_causes(&error)
            );
            return;
        }
        let built = std::mem::take(&mut self.built);
        let kept = unbuild(self.kernel, self.guard, built);
        if let Err(error) = settle(self.guard, self.what, kept) {
            error!(
                "undoing a failed command ({}): {}",
                self.what,
                with_causes(&error)
            );
        }
    }

    /// Takes the commit back, so that only what was built is left.
    fn take_back(&mut self) -> Result<(), LoaderError> {
        while let Some(done) = self.committed.pop() {
            match done {
                Committed::Swapped { link, old } => {
                    let swapped = self.kernel.update_link(&link, &old);
                    swapped.doing(|| "putting the former dispatcher back".to_owned())?;
                }
                Committed::SwappedFilter {
                    device,
                    direction,
                    new,
                    old,
                } => {
                    let swapped = self.kernel.replace_tc_filter(&device, direction, new, &old);
                    swapped.doing(|| "putting the former dispatcher back".to_owned())?;
                }
                Committed::RemovedFilter {
                    device,
                    direction,
                    program,
                } => {
                    let added = self.kernel.add_tc_filter(&device, direction, &program);
                    added.doing(|| format!("adding the TC {direction} filter again"))?;
                }
                Committed::RemovedClsact { device } => {
                    let added = self.kernel.add_clsact(&device);
                    added.doing(|| "adding the clsact qdisc again".to_owned())?;
                }
                Committed::Recorded { puts } => {
                    self.records()?.apply(&puts, Direction::Backward)?
                }
                Committed::Unpinned { path, held } => {
                    let pinned = self.kernel.pin(&held, &path);
                    pinned.doing(|| format!("pinning {} again", path.display()))?;
                }
                Committed::RemovedDir { path } => {
                    let made = self.kernel.create_dir(&path);
                    made.doing(|| format!("making the folder {} again", path.display()))?;
                }
                Committed::Nothing => {}
            }
        }
        if self.has_commit {
            self.guard.journal.write(&Line::Back)?;
        }
        Ok(())
    }
}

/// Does one step of a commit. Doing it once more does nothing.
fn perform<K: Kernel>(
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
            Ok(match held {
                Some(program) if removed => Committed::RemovedFilter {
                    device,
                    direction,
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

/// Takes away what was built, last first, and returns what could not be.
fn unbuild<K: Kernel>(kernel: &K, guard: &Guard, built: Vec<BuildStep>) -> Vec<BuildStep> {
    let mut kept: Vec<_> = built
        .into_iter()
        .rev()
        .filter(|step| {
            let undone = unbuild_one(kernel, guard, step);
            if let Err(error) = &undone {
                warn!(
                    "undoing: {}; the next command tries again",
                    with_causes(error)
                );
            }
            undone.is_err()
        })
        .collect();
    kept.reverse();
    kept
}

fn unbuild_one<K: Kernel>(kernel: &K, guard: &Guard, step: &BuildStep) -> Result<(), LoaderError> {
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

/// Closes the journal over a change that was undone, but for the steps `kept`.
fn settle(guard: &mut Guard, what: &str, kept: Vec<BuildStep>) -> Result<(), LoaderError> {
    if kept.is_empty() {
        return Ok(guard.journal.clear()?);
    }
    let begin = Line::Begin {
        what: what.to_owned(),
    };
    let lines = std::iter::once(begin).chain(kept.into_iter().map(Line::Build));
    Ok(guard.journal.keep(lines.collect())?)
}

/// Undoes or finishes what processes that died have left.
pub(crate) fn recover<K: Kernel>(kernel: &K, guard: &mut Guard) -> Result<(), LoaderError> {
    let unfinished = guard.journal.unfinished()?;
    if unfinished.is_empty() {
        return Ok(());
    }
    let mut lines = Vec::new();
    for change in unfinished {
        let Unfinished {
            what,
            built,
            commit,
        } = change;
        match commit {
            Some(steps) => {
                warn!("finishing what an interrupted command left ({what})");
                for step in steps {
                    let done = perform(kernel, guard, tolerant(step));
                    done.map_err(|source| LoaderError::Recovery {
                        what: what.clone(),
                        source: Box::new(source),
                    })?;
                }
            }
            None => {
                warn!("undoing what an interrupted command left ({what})");
                let kept = unbuild(kernel, guard, built);
                if !kept.is_empty() {
                    lines.push(Line::Begin { what });
                    lines.extend(kept.into_iter().map(Line::Build));
                }
            }
        }
    }
    Ok(guard.journal.keep(lines)?)
}

/// What a dead process was replacing may be gone by now.
fn tolerant(step: CommitStep) -> CommitStep {
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

fn with_causes(error: &LoaderError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
