use std::io::IsTerminal;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use bytecode_image::pull::Progress;
use indicatif::{ProgressBar, ProgressStyle};

use bytecode_image::printable::escaped;

/// Bytes of a transfer, or a step that takes a while, on stderr where that is a terminal; nothing anywhere else. A process
/// does one of them at a time.
#[derive(Debug)]
pub(crate) struct Bar;

/// How long a command waits before it says what for: most waits are shorter.
const QUIET: Duration = Duration::from_millis(300);
/// How often a spinner turns.
const TURN: Duration = Duration::from_millis(100);

/// What is on the terminal now.
static SHOWN: Mutex<Shown> = Mutex::new(Shown {
    bar: None,
    label: String::new(),
});

struct Shown {
    bar: Option<ProgressBar>,
    /// Of the next transfer.
    label: String,
}

fn shown() -> MutexGuard<'static, Shown> {
    SHOWN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Writes to stderr while no bar is on it, so that a line does not begin in the middle of one.
pub(super) fn without_bar(write: impl FnOnce()) {
    let bar = shown().bar.clone();
    match bar {
        Some(bar) => bar.suspend(write),
        None => write(),
    }
}

/// Does something that may have to wait for somebody else, and says what for on terminals once it takes long.
pub(crate) fn waiting<T>(what: &str, work: impl FnOnce() -> T) -> T {
    if !std::io::stderr().is_terminal() {
        return work();
    }
    let what = what.to_owned();
    let (done, wait) = mpsc::channel::<()>();
    let spinner = thread::Builder::new().spawn(move || {
        if wait.recv_timeout(QUIET) == Err(RecvTimeoutError::Timeout) {
            Bar.step(&what);
            let _ = wait.recv();
            Bar.finish();
        }
    });
    let result = work();
    drop(done);
    // A process without room for another thread waits in silence.
    if let Ok(spinner) = spinner {
        let _ = spinner.join();
    }
    result
}

impl Progress for Bar {
    fn label(&self, what: &str) {
        shown().label = escaped(what).into_owned();
    }

    fn start(&self, total_bytes: u64) {
        if !std::io::stderr().is_terminal() {
            return;
        }
        let new = ProgressBar::new(total_bytes);
        // The label last: a narrow terminal cuts the end.
        let style = ProgressStyle::with_template(
            "{bar:30} {bytes}/{total_bytes} {bytes_per_sec}  {prefix}",
        );
        if let Ok(style) = style {
            new.set_style(style);
        }
        let mut shown = shown();
        new.set_prefix(std::mem::take(&mut shown.label));
        replace(&mut shown, Some(new));
    }

    fn step(&self, what: &str) {
        if !std::io::stderr().is_terminal() {
            return;
        }
        let new = ProgressBar::new_spinner();
        if let Ok(style) = ProgressStyle::with_template("{spinner} {prefix} ({elapsed})") {
            new.set_style(style);
        }
        new.set_prefix(escaped(what).into_owned());
        new.enable_steady_tick(TURN);
        replace(&mut shown(), Some(new));
    }

    fn advance(&self, bytes: u64) {
        if let Some(bar) = &shown().bar {
            bar.inc(bytes);
        }
    }

    fn finish(&self) {
        replace(&mut shown(), None);
    }
}

/// Puts another bar, or none, in the place of the one that is shown.
fn replace(shown: &mut Shown, new: Option<ProgressBar>) {
    if let Some(old) = std::mem::replace(&mut shown.bar, new) {
        old.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_written_once() {
        let mut written = 0;
        without_bar(|| written += 1);
        shown().bar = Some(ProgressBar::hidden());
        without_bar(|| written += 1);
        // Writing waits for nothing that it holds itself.
        Bar.advance(1);
        Bar.finish();
        assert!(shown().bar.is_none());
        assert_eq!(written, 2);
    }

    #[test]
    fn waiting_gives_the_result() {
        assert_eq!(waiting("nothing", || 5), 5);
    }
}
