use std::sync::{Mutex, MutexGuard, PoisonError};

use bytecode_image::pull::Progress;
use indicatif::{ProgressBar, ProgressStyle};

/// Bytes of a transfer on stderr, where that is a terminal; nothing anywhere else. A process has one transfer at a time.
#[derive(Debug)]
pub(crate) struct Bar;

/// The bar that is on the terminal now.
static SHOWN: Mutex<Option<ProgressBar>> = Mutex::new(None);

fn shown() -> MutexGuard<'static, Option<ProgressBar>> {
    SHOWN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Writes to stderr while no bar is on it, so that a line does not begin in the middle of one.
pub(super) fn without_bar(write: impl FnOnce()) {
    let bar = shown().clone();
    match bar {
        Some(bar) => bar.suspend(write),
        None => write(),
    }
}

impl Progress for Bar {
    fn start(&self, total_bytes: u64) {
        if !std::io::IsTerminal::is_terminal(&std::io::stderr()) {
            return;
        }
        let new = ProgressBar::new(total_bytes);
        let style = ProgressStyle::with_template("{bar:30} {bytes}/{total_bytes} {bytes_per_sec}");
        if let Ok(style) = style {
            new.set_style(style);
        }
        *shown() = Some(new);
    }

    fn advance(&self, bytes: u64) {
        if let Some(bar) = &*shown() {
            bar.inc(bytes);
        }
    }

    fn finish(&self) {
        if let Some(bar) = shown().take() {
            bar.finish_and_clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_written_once() {
        let mut written = 0;
        without_bar(|| written += 1);
        *shown() = Some(ProgressBar::hidden());
        without_bar(|| written += 1);
        // Writing waits for nothing that it holds itself.
        Bar.advance(1);
        Bar.finish();
        assert!(shown().is_none());
        assert_eq!(written, 2);
    }
}
