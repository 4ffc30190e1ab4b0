//! Mistyped commands: the error says which commands there are, and which one was probably meant.

use std::ffi::OsString;

use clap::builder::StyledStr;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Command, Error};

/// Adds to clap's error what it leaves out: clap compares words by another measure, which does not see that `xpd` is
/// `xdp` with two letters exchanged, and it takes such a word for a superfluous argument where a command has arguments
/// of its own (`attach 5 xpd`).
pub(super) fn explain(error: Error, words: &[OsString]) -> Error {
    let kind = match error.kind() {
        ErrorKind::InvalidSubcommand => ContextKind::InvalidSubcommand,
        ErrorKind::UnknownArgument => ContextKind::InvalidArg,
        _ => return error,
    };
    let Some(ContextValue::String(found)) = error.get(kind) else {
        return error;
    };
    let mut root = super::command();
    root.build();
    let Some(parent) = parent(&root, words, found).filter(|parent| parent.has_subcommands()) else {
        return error;
    };
    if found.starts_with('-') {
        return error;
    }
    let mut explained = Error::new(ErrorKind::InvalidSubcommand).with_cmd(parent);
    explained.insert(
        ContextKind::InvalidSubcommand,
        ContextValue::String(found.clone()),
    );
    let mut tips = Vec::new();
    if let Some(name) = nearest(found, names(parent)) {
        tips.push(format!("did you mean '{name}'?"));
    } else if let Some(path) = below(parent, found) {
        tips.push(format!("there is '{path}'"));
    }
    let offered: Vec<_> = commands(parent).map(Command::get_name).collect();
    tips.push(format!("the commands here are {}", offered.join(", ")));
    let tips = tips.into_iter().map(StyledStr::from).collect();
    explained.insert(ContextKind::Suggested, ContextValue::StyledStrs(tips));
    explained.insert(
        ContextKind::Usage,
        ContextValue::StyledStr(parent.clone().render_usage()),
    );
    explained
}

/// The command below which `found` was looked for.
fn parent<'a>(root: &'a Command, words: &[OsString], found: &str) -> Option<&'a Command> {
    let mut command = root;
    for word in words.iter().skip(1) {
        if let Some(below) = command.find_subcommand(word) {
            command = below;
        } else if *word == *found {
            return Some(command);
        }
    }
    None
}

fn commands(parent: &Command) -> impl Iterator<Item = &Command> {
    parent
        .get_subcommands()
        .filter(|command| command.get_name() != "help")
}

fn names(parent: &Command) -> impl Iterator<Item = &str> {
    commands(parent)
        .flat_map(|command| std::iter::once(command.get_name()).chain(command.get_all_aliases()))
}

/// A command of that very name one level deeper: `bpfman pull` for `bpfman image pull`.
fn below(parent: &Command, found: &str) -> Option<String> {
    let above = commands(parent).find(|command| names(command).any(|name| name == found))?;
    Some(format!("{} {found}", above.get_bin_name()?))
}

/// The candidate of which `word` was most likely a slip: at most a third of its letters differ, exchanged neighbours
/// count once.
pub(super) fn nearest<'a>(
    word: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let word = word.to_lowercase();
    let limit = (word.chars().count() / 3).max(1);
    candidates
        .into_iter()
        .map(|candidate| (strsim::osa_distance(&word, candidate), candidate))
        .filter(|(distance, candidate)| {
            // One letter of two is another word: `ps` and `ls`.
            *distance <= limit && *distance < candidate.chars().count().max(2) - 1
        })
        .min()
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(line: &str) -> String {
        let error = super::super::parse_from(line.split(' ')).unwrap_err();
        assert_eq!(error.exit_code(), 2, "{line}");
        error.to_string()
    }

    #[test]
    fn nearest_finds_slips_and_nothing_else() {
        let types = ["fentry", "kprobe", "tc", "tcx", "tracepoint", "xdp"];
        for (word, expected) in [
            ("xpd", Some("xdp")),
            ("XDP", Some("xdp")),
            ("xd", Some("xdp")),
            ("tracepoit", Some("tracepoint")),
            ("kretprobe", Some("kprobe")),
            ("fentrie", Some("fentry")),
            ("pass", None),
            ("", None),
            ("a", None),
        ] {
            assert_eq!(nearest(word, types), expected, "{word}");
        }
    }

    #[test]
    fn mistyped_commands_are_explained_at_every_level() {
        for (line, expected) in [
            (
                "bpfman attach 5 xpd",
                "error: unrecognized subcommand 'xpd'\n\n  tip: did you mean 'xdp'?\n  tip: the commands here are xdp, tc, tcx, tracepoint, kprobe, uprobe, fentry, fexit\n\nUsage: bpfman attach <PROGRAM_ID> <COMMAND>",
            ),
            ("bpfman attach 5 -v xpd --iface lo", "did you mean 'xdp'?"),
            ("bpfman laod file -p x.o", "did you mean 'load'?"),
            (
                "bpfman load fiel -p x.o",
                "did you mean 'file'?\n  tip: the commands here are file, image\n",
            ),
            ("bpfman list porgrams", "did you mean 'programs'?"),
            ("bpfman image bulid", "did you mean 'build'?"),
            ("bpfman pull", "tip: there is 'bpfman image pull'"),
            ("bpfman frobnicate", "the commands here are load, unload"),
        ] {
            let said = said(line);
            assert!(said.contains(expected), "{line}\n{said}");
        }
    }

    #[test]
    fn other_errors_stay_as_they_are() {
        for (line, expected) in [
            ("bpfman unload --frob 5", "unexpected argument '--frob'"),
            (
                "bpfman attach 5 xdp eth0",
                "unexpected argument 'eth0' found",
            ),
            ("bpfman attach 5 xdp", "--iface <IFACE>"),
        ] {
            let said = said(line);
            assert!(said.contains(expected), "{line}\n{said}");
        }
    }
}
