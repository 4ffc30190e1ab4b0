//! Tracepoints, which tracefs numbers.

use std::fs;
use std::io::ErrorKind;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use super::{KernelError, failed, links, sys};
use crate::near::nearest;

/// Where tracefs is mounted (since 4.1), and where debugfs shows it.
const TRACEFS: [&str; 2] = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"];

pub(super) fn tracepoint(
    program: &OwnedFd,
    category: &str,
    name: &str,
) -> Result<OwnedFd, KernelError> {
    let id = tracepoint_id(category, name)?;
    let event = sys::tracepoint_event(id).map_err(failed(|| {
        format!("opening an event of tracepoint {category}/{name}")
    }))?;
    links::perf_event(program, &event, || {
        format!("linking a program to tracepoint {category}/{name}")
    })
}

fn tracepoint_id(category: &str, name: &str) -> Result<u64, KernelError> {
    let tracefs = tracefs().ok_or(KernelError::NoTracefs)?;
    let path = id_file(tracefs, category, name);
    let none = |path| KernelError::NoTracepoint {
        category: category.to_owned(),
        name: name.to_owned(),
        path,
    };
    let Some(path) = path else {
        return Err(none(tracefs.join("events")));
    };
    let call = || format!("reading {}", path.display());
    let text = match fs::read_to_string(&path) {
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Err(none(path));
        }
        text => text.map_err(failed(call))?,
    };
    text.trim()
        .parse()
        .map_err(|error| failed(call)(std::io::Error::new(ErrorKind::InvalidData, error)))
}

fn tracefs() -> Option<&'static Path> {
    let mut mounts = TRACEFS.iter().map(Path::new);
    mounts.find(|path| path.join("events").is_dir())
}

/// The tracepoint whose category and name are nearest. Lists some two thousand folders: only for a message.
pub(super) fn near_tracepoint(tracepoint: &str) -> Option<String> {
    let tracefs = tracefs()?;
    let events = tracefs.join("events");
    let dynamic = fs::read_to_string(tracefs.join("dynamic_events")).unwrap_or_default();
    let mut names = Vec::new();
    for category in folders(&events) {
        let events = folders(&events.join(&category));
        names.extend(events.map(|name| format!("{category}/{name}")));
    }
    names.retain(|name| takes_programs(name, &dynamic));
    nearest(tracepoint, names.iter().map(String::as_str)).map(str::to_owned)
}

/// Whether an event is a tracepoint: those of ftrace itself, and those that somebody made of probes, are listed with them,
/// and take no programs for tracepoints (`perf_event_set_bpf_prog` in kernel/events/core.c). `dynamic` has one of these in a
/// line, as in `p:group/name function`.
fn takes_programs(event: &str, dynamic: &str) -> bool {
    let made = |line: &str| {
        let named = line.split_ascii_whitespace().next();
        named
            .and_then(|word| word.split_once(':'))
            .map(|(_, name)| name == event)
    };
    !event.starts_with("ftrace/") && !dynamic.lines().any(|line| made(line) == Some(true))
}

/// Names of the folders in a folder; none when it cannot be read.
fn folders(path: &Path) -> impl Iterator<Item = String> + use<> {
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    let folders = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    folders.map(|entry| entry.file_name().to_string_lossy().into_owned())
}

/// `events/<category>/<name>/id`; `None` for a name that is no name but a way out of there.
fn id_file(tracefs: &Path, category: &str, name: &str) -> Option<PathBuf> {
    let plain =
        |word: &str| !word.is_empty() && word != "." && word != ".." && !word.contains(['/', '\0']);
    (plain(category) && plain(name))
        .then(|| tracefs.join("events").join(category).join(name).join("id"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_lead_out_of_tracefs() {
        let cases = [
            (
                "sched",
                "sched_switch",
                Some("/t/events/sched/sched_switch/id"),
            ),
            ("..", "x", None),
            ("sched", "..", None),
            ("sched", "a/b", None),
            ("", "x", None),
            ("sched", "", None),
            ("sched", "a\0b", None),
        ];
        for (category, name, expected) in cases {
            assert_eq!(
                id_file(Path::new("/t"), category, name),
                expected.map(PathBuf::from),
                "{category}/{name}"
            );
        }
    }

    #[test]
    fn events_of_probes_are_not_offered() {
        let dynamic =
            "p:kprobes/my_probe do_unlinkat\nr16:mine/back vfs_read\ns:synthetic/late u64 t\n";
        for (event, expected) in [
            ("sched/sched_switch", true),
            ("kprobes/my_probe", false),
            ("mine/back", false),
            ("synthetic/late", false),
            ("ftrace/function", false),
            ("mine/other", true),
        ] {
            assert_eq!(takes_programs(event, dynamic), expected, "{event}");
        }
    }
}
