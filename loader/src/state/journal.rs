//! The journal of the change under way: JSON lines, each written in one piece before the step that it names is done.
//!
//! It need not outlive the machine, only the process: programs, pins and the runtime folder are gone after a reboot.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::StateError;
use super::moment::moment;
use super::store::Put;
use crate::TcDirection;
use crate::kernel::Device;

/// Of the file.
const MODE: u32 = 0o600;

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
    path: PathBuf,
    file: Option<File>,
    /// Steps that could be neither done nor undone; they stay until a later command succeeds.
    kept: Vec<Line>,
}

impl Journal {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self {
            path,
            file: None,
            kept: Vec::new(),
        }
    }

    /// Changes that were begun and neither finished nor undone.
    pub(crate) fn unfinished(&self) -> Result<Vec<Unfinished>, StateError> {
        match fs::read(&self.path) {
            Ok(bytes) => parse(&self.path, &bytes),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(source) => Err(self.failed("reading", source)),
        }
    }

    /// Writes one line.
    pub(crate) fn write(&mut self, line: &Line) -> Result<(), StateError> {
        moment();
        let bytes = encode(std::slice::from_ref(line)).map_err(|source| StateError::Record {
            path: self.path.clone(),
            key: "journal".to_owned(),
            source,
        })?;
        let file = match &mut self.file {
            Some(file) => file,
            none => {
                let opened = File::options()
                    .append(true)
                    .create(true)
                    .mode(MODE)
                    .open(&self.path);
                none.insert(opened.map_err(|source| StateError::Io {
                    doing: "opening",
                    path: self.path.clone(),
                    source,
                })?)
            }
        };
        file.write_all(&bytes)
            .map_err(|source| self.failed("writing", source))?;
        moment();
        Ok(())
    }

    /// Forgets the change: it is done, or undone.
    pub(crate) fn clear(&mut self) -> Result<(), StateError> {
        if self.kept.is_empty() {
            let Some(file) = &self.file else {
                return Ok(());
            };
            file.set_len(0)
                .map_err(|source| self.failed("clearing", source))?;
            moment();
            return Ok(());
        }
        self.replace()
    }

    /// Forgets every change, except that these lines stay for the next command.
    pub(crate) fn keep(&mut self, lines: Vec<Line>) -> Result<(), StateError> {
        self.kept = lines;
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
        match fs::rename(&self.path, self.path.with_extension("damaged")) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(self.failed("renaming", error))
            }
            _ => Ok(()),
        }
    }

    fn replace(&mut self) -> Result<(), StateError> {
        self.file = None;
        let bytes = encode(&self.kept).map_err(|source| StateError::Record {
            path: self.path.clone(),
            key: "journal".to_owned(),
            source,
        })?;
        let fresh = self.path.with_extension("new");
        File::options()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(MODE)
            .open(&fresh)
            .and_then(|mut file| file.write_all(&bytes))
            .and_then(|()| fs::rename(&fresh, &self.path))
            .map_err(|source| self.failed("rewriting", source))
    }

    fn failed(&self, doing: &'static str, source: io::Error) -> StateError {
        StateError::Io {
            doing,
            path: self.path.clone(),
            source,
        }
    }
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
