//! Finishing or undoing what processes that died have left.

use std::collections::VecDeque;

use log::warn;

use super::steps::{self, Committed};
use super::{unbuild, with_causes};
use crate::LoaderError;
use crate::kernel::Kernel;
use crate::state::{BuildStep, CommitStep, Direction, Guard, Line, StateError, Unfinished};

/// What of an interrupted command could be neither finished nor undone. It stays in the journal.
#[derive(Debug)]
pub(crate) struct Left {
    /// That command.
    pub(crate) what: String,
    pub(crate) error: LoaderError,
    /// Nothing may be changed before it is settled: its steps might hit what a later change makes.
    pub(crate) blocks: bool,
}

/// How far a commit got.
enum Finish {
    Done,
    /// Only things to take away are left.
    Rest(Vec<CommitStep>, LoaderError),
    /// It cannot be done, and all that was done of it was taken back.
    TakenBack(LoaderError),
    /// It can be neither done nor taken back.
    Stuck(LoaderError),
}

/// Undoes or finishes what processes that died have left, and returns what could not be.
pub(crate) fn recover<K: Kernel>(kernel: &K, guard: &mut Guard) -> Result<Vec<Left>, LoaderError> {
    let mut waiting = VecDeque::from(guard.journal.unfinished()?);
    if waiting.is_empty() {
        return Ok(Vec::new());
    }
    let mut kept: Vec<Unfinished> = Vec::new();
    let mut left = Vec::new();
    while let Some(mut change) = waiting.pop_front() {
        let what = change.what.clone();
        if let Some(steps) = change.commit.take() {
            warn!("finishing what an interrupted command left ({what})");
            match finish(kernel, guard, &steps) {
                Finish::Done => continue,
                Finish::Rest(rest, error) => {
                    let blocks = !rest
                        .iter()
                        .all(|step| matches!(step, CommitStep::RemoveDir { .. }));
                    left.push(Left {
                        what,
                        error,
                        blocks,
                    });
                    change.built = Vec::new();
                    change.commit = Some(rest);
                    kept.push(change);
                    continue;
                }
                Finish::Stuck(error) => {
                    left.push(Left {
                        what,
                        error,
                        blocks: true,
                    });
                    change.commit = Some(steps);
                    kept.push(change);
                    continue;
                }
                Finish::TakenBack(error) => {
                    warn!(
                        "it cannot be finished, so it is undone: {}",
                        with_causes(&error)
                    );
                    // Whoever comes next if this process dies now must not try to finish it again.
                    let all = kept.iter().chain([&change]).chain(&waiting);
                    guard.journal.keep(lines(all))?;
                }
            }
        } else {
            warn!("undoing what an interrupted command left ({what})");
        }
        let (built, errors) = unbuild(kernel, guard, change.built);
        if let Some(error) = errors.into_iter().next() {
            let blocks = !built
                .iter()
                .all(|step| matches!(step, BuildStep::CreateDir { .. }));
            left.push(Left {
                what,
                error,
                blocks,
            });
            change.built = built;
            kept.push(change);
        }
    }
    guard.journal.keep(lines(&kept))?;
    Ok(left)
}

/// Does a commit whose beginning may be done already.
fn finish<K: Kernel>(kernel: &K, guard: &Guard, steps: &[CommitStep]) -> Finish {
    let is_record = |step: &CommitStep| matches!(step, CommitStep::Records { .. });
    // What follows the records only takes away what is no longer used.
    let mut recorded = !steps.iter().any(is_record);
    let mut done = Vec::new();
    let mut rest = Vec::new();
    let mut errors = Vec::new();
    for step in steps {
        match perform(kernel, guard, step) {
            Ok(committed) => {
                done.push(committed);
                recorded |= is_record(step);
            }
            Err(error) if recorded => {
                rest.push(step.clone());
                errors.push(error);
            }
            Err(error) => return take_back(kernel, guard, steps, done, error),
        }
    }
    match errors.into_iter().next() {
        None => Finish::Done,
        Some(error) => Finish::Rest(rest, error),
    }
}

fn perform<K: Kernel>(
    kernel: &K,
    guard: &Guard,
    step: &CommitStep,
) -> Result<Committed<K::Handle>, LoaderError> {
    if matches!(step, CommitStep::Records { .. }) && guard.records()?.is_none() {
        // They were removed, with all that this one adds to.
        return Ok(Committed::Nothing);
    }
    steps::perform(kernel, guard, steps::tolerant(step.clone()))
}

/// Takes back what was done of a commit that cannot go on. Only where the records are still the old ones, so that
/// nothing was taken away yet.
fn take_back<K: Kernel>(
    kernel: &K,
    guard: &Guard,
    steps: &[CommitStep],
    done: Vec<Committed<K::Handle>>,
    error: LoaderError,
) -> Finish {
    match records_are_old(guard, steps) {
        Ok(true) => {}
        Ok(false) | Err(_) => return Finish::Stuck(error),
    }
    for committed in done.into_iter().rev() {
        if let Err(error) = steps::take_back(kernel, guard, committed) {
            return Finish::Stuck(error);
        }
    }
    Finish::TakenBack(error)
}

fn records_are_old(guard: &Guard, steps: &[CommitStep]) -> Result<bool, StateError> {
    let Some(records) = guard.records()? else {
        return Ok(false);
    };
    for step in steps {
        if let CommitStep::Records { puts } = step
            && !records.are(puts, Direction::Backward)?
        {
            return Ok(false);
        }
    }
    Ok(true)
}

fn lines<'a>(changes: impl IntoIterator<Item = &'a Unfinished>) -> Vec<Line> {
    let mut lines = Vec::new();
    for change in changes {
        lines.push(Line::Begin {
            what: change.what.clone(),
        });
        lines.extend(change.built.iter().cloned().map(Line::Build));
        lines.extend(change.commit.clone().map(Line::Commit));
    }
    lines
}
