//! The death of the process at a write to the journal.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use crate::kernel::fake::Crash;

thread_local! {
    static MOMENTS_LEFT: Cell<usize> = const { Cell::new(0) };
}

/// Dies at the `n`th moment from now: 1 is before the first write to the journal, 2 is after it, 3 is before the
/// second one. 0 is never.
pub(crate) fn at_moment(n: usize) {
    MOMENTS_LEFT.set(n);
}

/// Called by the journal before and after each write, and after it was cleared.
pub(crate) fn moment() {
    let left = MOMENTS_LEFT.get();
    MOMENTS_LEFT.set(left.saturating_sub(1));
    if left == 1 {
        resume_unwind(Box::new(Crash));
    }
}

/// Runs a command up to its end or its death; `None` when it died. Another panic goes on.
pub(crate) fn run<T>(command: impl FnOnce() -> T) -> Option<T> {
    match catch_unwind(AssertUnwindSafe(command)) {
        Ok(value) => Some(value),
        Err(panic) if panic.downcast_ref::<Crash>().is_some() => None,
        Err(panic) => resume_unwind(panic),
    }
}
