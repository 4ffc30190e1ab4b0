//! Plan, do, undo: one change of the kernel and the records, as steps with inverses.
//!
//! A change first builds: it adds folders, pins and records, each named in the journal before it is made. What must
//! take away or replace something follows as one list, the commit, journalled whole before its first step. So a
//! change that fails, or whose process dies, is undone before that line and finished after it. In the process that
//! does the change, even a failing commit is undone: handles still hold what was taken away.

mod steps;

use std::path::Path;

use log::{error, warn};

use crate::error::Doing;
use crate::kernel::{Device, Kernel};
use crate::state::{
    BuildStep, CommitStep, Direction, Guard, Line, Put, StateError, Store, Unfinished,
};
use crate::{LoaderError, TcDirection};
use steps::Committed;

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
            let added = change
                .kernel
                .add_tc_filter(device, direction, program, None);
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
            let done = steps::perform(self.kernel, self.guard, step)?;
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
            steps::take_back(self.kernel, self.guard, done)?;
        }
        if self.has_commit {
            self.guard.journal.write(&Line::Back)?;
        }
        Ok(())
    }
}

/// Takes away what was built, last first, and returns what could not be.
fn unbuild<K: Kernel>(kernel: &K, guard: &Guard, built: Vec<BuildStep>) -> Vec<BuildStep> {
    let mut kept: Vec<_> = built
        .into_iter()
        .rev()
        .filter(|step| {
            let undone = steps::unbuild(kernel, guard, step);
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
                    let done = steps::perform(kernel, guard, steps::tolerant(step));
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
