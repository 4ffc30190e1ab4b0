//! Everything that this process writes: results to stdout, all else to stderr. Nothing else in the workspace prints.
//!
//! Tables follow the guide's newest samples: no rules, one leading space, cells padded to their column.

mod doctor;
#[cfg(test)]
mod golden;
mod images;
mod images_json;
mod json;
mod links;
mod logger;
mod panics;
mod printer;
mod programs;
mod progress;
mod proof;
mod removed;
mod table;
mod time;

pub(crate) use images::Shown;
pub(crate) use logger::init as init_logger;
pub(crate) use panics::{hold as hold_panics, message as panic_message};
pub(crate) use printer::{Printer, Stderr, clap_message};
pub(crate) use progress::{Bar, waiting};
pub(crate) use proof::Proven;
pub(crate) use removed::{Detached, Unloaded};
