//! Commands whose options are described when they are called: what the others take need not be known to run one.

use std::cell::Cell;

use clap::{ArgMatches, Args, Command, Error, FromArgMatches};

use super::hide_verbose;

/// The options of a command, described only when it is the one that is called.
#[derive(Debug)]
pub(crate) struct Later<T>(pub(crate) T);

thread_local! {
    /// Whether they are described at once. clap hands nothing through a derived definition that could say so.
    static AT_ONCE: Cell<bool> = const { Cell::new(false) };
}

/// Makes a definition with the options of every command in it: what shows them all (completions, manual pages) looks
/// at them before any is called.
pub(super) fn at_once(define: impl FnOnce() -> Command) -> Command {
    AT_ONCE.set(true);
    let command = define();
    AT_ONCE.set(false);
    command
}

impl<T: Args> Args for Later<T> {
    fn augment_args(command: Command) -> Command {
        if AT_ONCE.get() {
            return T::augment_args(command);
        }
        command.defer(|command| {
            // A flattened struct's own description would take the place of the command's.
            let about = command.get_about().cloned();
            let long_about = command.get_long_about().cloned();
            let mut command = T::augment_args(command);
            if let Some(about) = about {
                command = command.about(about);
            }
            if let Some(about) = long_about {
                command = command.long_about(about);
            }
            hide_verbose(command)
        })
    }

    fn augment_args_for_update(command: Command) -> Command {
        T::augment_args_for_update(command)
    }
}

impl<T: FromArgMatches> FromArgMatches for Later<T> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        T::from_arg_matches(matches).map(Self)
    }

    fn from_arg_matches_mut(matches: &mut ArgMatches) -> Result<Self, Error> {
        T::from_arg_matches_mut(matches).map(Self)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        self.0.update_from_arg_matches(matches)
    }
}
