//! The journal of the change under way: JSON lines, each written in one piece before the step that it names is done.
//!
//! It need not outlive the machine, only the process: programs, pins and the runtime folder are gone after a reboot.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use log::debug;
use serde::{Deserialize, Serialize};

use super::dir::{Dir, reserve};
use super::fault::{Operation, check};
use super::moment::moment;
use super::reserve::{Room, replace};
use super::store::Put;
use super::{JOURNAL, StateError};
use crate::TcDirection;
use crate::kernel::Device;

/// Its name once it was set aside.
const DAMAGED: &str = "journal.damaged";
/// Room that it has even where the file system is full: a link that is taken away needs some 1,000 bytes.
const RESERVED: u64 = 64 << 10;

/// A step of building: it adds, and can be taken away by its name alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum BuildStep {
    CreateDir {
        path: PathBuf,
    },
    Pin {
        path: PathBuf,
    },
    Records {
        puts: Vec<Put>,
    },
    /// clsact, where no such qdisc is.
    Clsact {
        device: Device,
    },
    /// A TC filter that runs `program`.
    Filter {
        device: Device,
        direction: TcDirection,
        program: u32,
    },
}

/// A step after the point of no return: it can be done by its name alone, and once more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum CommitStep {
    /// Puts program `new` in the place of `old` under the link pinned at `link`.
    Swap {
        link: PathBuf,
        old: u32,
        new: u32,
        /// The interface may be gone: what is taken away need not be there.
        may_be_gone: bool,
    },
    /// Puts program `new` in the place of `old` in a TC filter.
    SwapFilter {
        device: Device,
        direction: TcDirection,
        old: u32,
        new: u32,
        /// As for `Swap`.
        may_be_gone: bool,
    },
    /// Removes the TC filter that runs `program`.
    RemoveFilter {
        device: Device,
        direction: TcDirection,
        program: u32,
    },
    /// Removes clsact unless there are filters on it.
    RemoveClsact {
        device: Device,
    },
    Records {
        puts: Vec<Put>,
    },
    Unpin {
        path: PathBuf,
    },
    RemoveDir {
        path: PathBuf,
    },
}

/// One line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Line {
    /// A change begins.
    Begin { what: String },
    /// A step of building is about to be done.
    Build(BuildStep),
    /// Everything is built. From here on the change is finished, not undone.
    Commit(Vec<CommitStep>),
    /// The commit failed and was taken back: the change is undone again.
    Back,
}

/// A change that is not done, as the journal tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unfinished {
    pub(crate) what: String,
    pub(crate) built: Vec<BuildStep>,
    /// `None`: to be undone.
    pub(crate) commit: Option<Vec<CommitStep>>,
}

/// The file. Opened at the first line written.
#[derive(Debug)]
pub(crate) struct Journal {
    /// `None` without a runtime folder: nothing is changed then.
    dir: Option<Arc<Dir>>,
    path: PathBuf,
    file: Option<Open>,
    /// Steps that could be neither done nor undone; they stay until a later command succeeds.
    kept: Vec<Line>,
}

/// The file, with the end of its last whole line.
#[derive(Debug)]
struct Open {
    file: File,
    end: u64,
}

impl Journal {
    pub(super) fn new(dir: Option<Arc<Dir>>, path: &Path) -> Self {
        Self {
            dir,
            path: path.join(JOURNAL),
            file: None,
            kept: Vec::new(),
        }
    }

    fn dir(&self) -> Result<&Arc<Dir>, StateError> {
        self.dir.as_ref().ok_or_else(|| StateError::NoRecords {
            path: self.path.clone(),
        })
    }

    /// Changes that were begun and neither finished nor undone.
    pub(crate) fn unfinished(&self) -> Result<Vec<Unfinished>, StateError> {
        let bytes = self.dir()?.read(JOURNAL)?;
        parse(&self.path, &bytes.unwrap_or_default())
    }

    /// Sets room aside for a change that takes something away, unless that is done.
    pub(super) fn reserve(&mut self) -> Result<(), StateError> {
        let reserved = {
            let Open { file, .. } = self.open()?;
            let found = rustix::fs::fstat(&*file).map_err(io::Error::from);
            found.and_then(|found| reserve(file, &found, RESERVED))
        };
        reserved.map_err(StateError::io("reserving room in", self.dir()?.path()))
    }

    fn open(&mut self) -> Result<&mut Open, StateError> {
        if self.file.is_none() {
            let dir = self.dir()?;
            let (file, found) = dir.make_file(JOURNAL, Operation::Create)?;
            let mut end = 0;
            if found.st_size != 0 {
                let bytes = dir.read(JOURNAL)?.unwrap_or_default();
                // A torn last line was being written when its process died.
                end = bytes
                    .iter()
                    .rposition(|byte| *byte == b'\n')
                    .map_or(0, |last| last as u64 + 1);
                if end < bytes.len() as u64 {
                    truncate(&file, end).map_err(StateError::io("clearing", &self.path))?;
                }
            }
            self.file = Some(Open { file, end });
        }
        let gone = || io::Error::from(io::ErrorKind::NotFound);
        let failed = StateError::io("opening", &self.path);
        self.file.as_mut().ok_or_else(|| failed(gone()))
    }

    /// Writes one line.
    pub(crate) fn write(&mut self, line: &Line) -> Result<(), StateError> {
        moment();
        let bytes = encode(std::slice::from_ref(line)).map_err(|source| StateError::Record {
            path: self.path.clone(),
            key: "journal".to_owned(),
            source,
        })?;
        let open = self.open()?;
        let written =
            check(Operation::Append).and_then(|()| open.file.write_all_at(&bytes, open.end));
        match written {
            Ok(()) => open.end += bytes.len() as u64,
            Err(source) => {
                // Half a line would spoil the next one.
                let _ = open.file.set_len(open.end);
                return Err(self.failed("writing", source));
            }
        }
        moment();
        Ok(())
    }

    /// Forgets the change: it is done, or undone.
    pub(crate) fn clear(&mut self) -> Result<(), StateError> {
        if self.kept.is_empty() {
            if self.file.is_none() {
                return Ok(());
            }
            self.empty()?;
            moment();
            return Ok(());
        }
        self.replace()
    }

    /// Forgets every change, except that these lines stay for the next command.
    pub(crate) fn keep(&mut self, lines: Vec<Line>) -> Result<(), StateError> {
        self.kept = lines;
        if self.kept.is_empty() {
            return self.empty();
        }
        self.replace()
    }

    /// Forgets the change under way, except that these lines stay, too.
    pub(crate) fn keep_too(&mut self, lines: Vec<Line>) -> Result<(), StateError> {
        self.kept.extend(lines);
        self.replace()
    }

    /// Gives the file another name, under which nobody looks for it.
    pub(crate) fn set_aside(&mut self) -> Result<(), StateError> {
        self.file = None;
        self.kept = Vec::new();
        let dir = self.dir()?;
        match dir.put(JOURNAL, dir, DAMAGED) {
            Err(StateError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                Ok(())
            }
            done => done,
        }
    }

    fn empty(&mut self) -> Result<(), StateError> {
        let open = self.open()?;
        let emptied = truncate(&open.file, 0);
        if emptied.is_ok() {
            open.end = 0;
        }
        emptied.map_err(|source| self.failed("clearing", source))?;
        // It gave its room back.
        if let Err(error) = self.reserve() {
            debug!("no room is set aside: {error}");
        }
        Ok(())
    }

    fn replace(&mut self) -> Result<(), StateError> {
        self.file = None;
        let bytes = encode(&self.kept).map_err(|source| StateError::Record {
            path: self.path.clone(),
            key: "journal".to_owned(),
            source,
        })?;
        let dir = self.dir()?;
        replace(dir, dir, JOURNAL, &bytes, Room::Reserved)
    }

    fn failed(&self, doing: &'static str, source: io::Error) -> StateError {
        StateError::io(doing, &self.path)(source)
    }
}

fn truncate(file: &File, length: u64) -> io::Result<()> {
    check(Operation::Truncate)?;
    file.set_len(length)
}

fn encode(lines: &[Line]) -> Result<Vec<u8>, serde_json::Error> {
    let mut bytes = Vec::new();
    for line in lines {
        serde_json::to_writer(&mut bytes, line)?;
        bytes.push(b'\n');
    }
    Ok(bytes)
}

/// Reads a journal. A last line without its end was being written when the process died, and its step not begun.
fn parse(path: &Path, bytes: &[u8]) -> Result<Vec<Unfinished>, StateError> {
    let mut changes: Vec<Unfinished> = Vec::new();
    let whole = bytes
        .iter()
        .rposition(|byte| *byte == b'\n')
        .map_or(0, |end| end);
    let (whole, _torn) = bytes.split_at(whole);
    for (number, line) in whole.split(|byte| *byte == b'\n').enumerate() {
        if line.is_empty() {
            continue;
        }
        let line = serde_json::from_slice(line).map_err(|source| StateError::Journal {
            path: path.to_owned(),
            line: number + 1,
            source,
        })?;
        match (line, changes.last_mut()) {
            (Line::Begin { what }, _) => changes.push(Unfinished {
                what,
                built: Vec::new(),
                commit: None,
            }),
            (Line::Build(step), Some(change)) => change.built.push(step),
            (Line::Commit(steps), Some(change)) => change.commit = Some(steps),
            (Line::Back, Some(change)) => change.commit = None,
            (_, None) => {}
        }
    }
    Ok(changes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pin(path: &str) -> BuildStep {
        BuildStep::Pin { path: path.into() }
    }

    #[test]
    fn journal_is_read_as_it_was_written() {
        let unpin = CommitStep::Unpin { path: "/x".into() };
        let begin = |what: &str| Line::Begin {
            what: what.to_owned(),
        };
        let cases: [(&str, Vec<Line>, usize, Vec<Unfinished>); 5] = [
            ("empty", vec![], 0, vec![]),
            (
                "building",
                vec![begin("a"), Line::Build(pin("/p"))],
                0,
                vec![Unfinished {
                    what: "a".into(),
                    built: vec![pin("/p")],
                    commit: None,
                }],
            ),
            (
                "a torn last line was not begun",
                vec![begin("a"), Line::Build(pin("/p")), Line::Build(pin("/q"))],
                3,
                vec![Unfinished {
                    what: "a".into(),
                    built: vec![pin("/p")],
                    commit: None,
                }],
            ),
            (
                "committed",
                vec![
                    begin("a"),
                    Line::Build(pin("/p")),
                    Line::Commit(vec![unpin.clone()]),
                ],
                0,
                vec![Unfinished {
                    what: "a".into(),
                    built: vec![pin("/p")],
                    commit: Some(vec![unpin.clone()]),
                }],
            ),
            (
                "taken back, with another before it",
                vec![
                    begin("a"),
                    begin("b"),
                    Line::Commit(vec![unpin]),
                    Line::Back,
                ],
                0,
                vec![
                    Unfinished {
                        what: "a".into(),
                        built: vec![],
                        commit: None,
                    },
                    Unfinished {
                        what: "b".into(),
                        built: vec![],
                        commit: None,
                    },
                ],
            ),
        ];
        for (name, lines, torn, expected) in cases {
            let mut bytes = encode(&lines).unwrap();
            bytes.truncate(bytes.len() - torn);
            assert_eq!(
                parse(Path::new("journal"), &bytes).unwrap(),
                expected,
                "{name}"
            );
        }
    }

    #[test]
    fn damage_is_named_by_its_line() {
        let error = parse(
            Path::new("/run/journal"),
            b"{\"begin\":{\"what\":\"a\"}}\nnonsense\n",
        )
        .unwrap_err();
        assert_eq!(
            error.to_string(),
            "/run/journal, line 2, is no journal entry"
        );
    }
}
