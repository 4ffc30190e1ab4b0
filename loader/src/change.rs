//! Plan, do, undo: one change of the kernel and the records, as steps with inverses.
//!
//! A change first builds: it adds folders, pins and records, each named in the journal before it is made. What must
//! take away or replace something follows as one list, the commit, journalled whole before its first step. So a
//! change that fails, or whose process dies, is undone before that line and finished after it. In the process that
//! does the change, even a failing commit is undone: handles still hold what was taken away. So is one that the next
//! process cannot finish, as long as it has taken nothing away.

mod recover;
mod steps;
mod steps_in_words;

use std::path::Path;

use log::{debug, error, info, warn};

use crate::error::Doing;
use crate::kernel::{Device, Kernel};
use crate::state::{BuildStep, CommitStep, Direction, Guard, Line, Put, StateError, Store};
use crate::{LoaderError, TcDirection};
pub(crate) use recover::{Left, recover};
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
    info!("{what}");
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
        debug!("{}", steps_in_words::built(&step));
        let made = make(self);
        // Records are made one after the other: if undoing some of them failed, it is tried again.
        if made.is_ok() || matches!(step, BuildStep::Records { .. }) {
            self.built.push(step);
        }
        made
    }

    /// Undoing takes away whatever is there: what was there before must not be named in the journal.
    fn must_be_free(&self, path: &Path) -> Result<(), LoaderError> {
        let there = self.kernel.exists(path);
        if there.doing(|| format!("looking at {}", path.display()))? {
            let path = path.to_owned();
            let what = self.what.to_owned();
            return Err(LoaderError::InTheWay { what, path });
        }
        Ok(())
    }

    /// Makes a folder that is not there yet.
    pub(crate) fn create_dir(&mut self, path: &Path) -> Result<(), LoaderError> {
        self.must_be_free(path)?;
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
        self.must_be_free(path)?;
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
            debug!("{}", steps_in_words::committed(&step));
            let puts = match &step {
                CommitStep::Records { puts } => Some(puts.clone()),
                _ => None,
            };
            let done = steps::perform(self.kernel, self.guard, step).inspect_err(|_| {
                // As for steps of building.
                let recorded = puts.map(|puts| Committed::Recorded { puts });
                self.committed.extend(recorded);
            })?;
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
        let (kept, errors) = unbuild(self.kernel, self.guard, built);
        for error in errors {
            warn!(
                "undoing: {}; the next command tries again",
                with_causes(&error)
            );
        }
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

/// Takes away what was built, last first, and returns what could not be, with the reasons.
fn unbuild<K: Kernel>(
    kernel: &K,
    guard: &Guard,
    built: Vec<BuildStep>,
) -> (Vec<BuildStep>, Vec<LoaderError>) {
    let mut errors = Vec::new();
    let mut kept: Vec<_> = built
        .into_iter()
        .rev()
        .filter(|step| match steps::unbuild(kernel, guard, step) {
            Ok(()) => false,
            Err(error) => {
                errors.push(error);
                true
            }
        })
        .collect();
    kept.reverse();
    (kept, errors)
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
    Ok(guard.journal.keep_too(lines.collect())?)
}

/// An error with its causes, in one line.
pub(crate) fn with_causes(error: &LoaderError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
