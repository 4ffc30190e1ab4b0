use std::io::{self, ErrorKind, IsTerminal, Write};

use bytecode_image::archive::{Exported, Imported};
use bytecode_image::pull::BytecodeImage;
use bytecode_image::redact::redact;
use bytecode_image::store::Freed;
use loader::{Diagnosis, Link, Program, ProgramSummary};

use super::doctor::DiagnosisJson;
use super::images::Shown;
use super::images_json::StoredImageJson;
use super::json::{self, ImageJson, LinkJson, ProgramJson, ProgramSummaryJson};
use super::progress::without_bar;
use super::proof::{self, Proven, ProvenJson};
use super::table::printable;
use super::{doctor, images, links, programs};
use crate::args::OutputFormat;
use crate::error::Error;

/// The only writer to stdout. A reader that went away (`bpfman list programs | head -1`) is no error.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Printer {
    format: OutputFormat,
}

impl Printer {
    pub(crate) fn new(format: OutputFormat) -> Self {
        Self { format }
    }

    /// Text that is the same in every format.
    pub(crate) fn text(self, text: &str) -> Result<(), Error> {
        self.bytes(text.as_bytes())
    }

    /// Text that may hold a path, whose bytes are any.
    pub(crate) fn bytes(self, bytes: &[u8]) -> Result<(), Error> {
        let mut stdout = io::stdout().lock();
        match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
            Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(Error::Print(error)),
            _ => Ok(()),
        }
    }

    /// `load`: one program in full, several as a list. JSON has them all in full.
    pub(crate) fn loaded(self, programs: &[Program]) -> Result<(), Error> {
        match self.format {
            OutputFormat::Json => {
                self.json(&programs.iter().map(ProgramJson::from).collect::<Vec<_>>())
            }
            OutputFormat::Table => match programs {
                [program] => self.text(&programs::details(program)),
                programs => self.text(&programs::loaded(programs)),
            },
        }
    }

    /// `get program`.
    pub(crate) fn program(self, program: &Program) -> Result<(), Error> {
        match self.format {
            OutputFormat::Json => self.json(&ProgramJson::from(program)),
            OutputFormat::Table => self.text(&programs::details(program)),
        }
    }

    /// `list programs`.
    pub(crate) fn programs(self, programs: &[ProgramSummary]) -> Result<(), Error> {
        match self.format {
            OutputFormat::Json => self.json(
                &programs
                    .iter()
                    .map(ProgramSummaryJson::from)
                    .collect::<Vec<_>>(),
            ),
            OutputFormat::Table => self.text(&programs::list(programs)),
        }
    }

    /// `attach` and `get link`.
    pub(crate) fn link(self, link: &Link) -> Result<(), Error> {
        match self.format {
            OutputFormat::Json => self.json(&LinkJson::from(link)),
            OutputFormat::Table => self.text(&links::details(link)),
        }
    }

    /// `list links`.
    pub(crate) fn links(self, links: &[Link]) -> Result<(), Error> {
        match self.format {
            OutputFormat::Json => self.json(&links.iter().map(LinkJson::from).collect::<Vec<_>>()),
            OutputFormat::Table => self.text(&links::list(links)),
        }
    }

    /// `doctor`; `asked`: whether repair was.
    pub(crate) fn doctor(self, found: &[Diagnosis], asked: bool) -> Result<(), Error> {
        match self.format {
            OutputFormat::Json => {
                let found = found.iter().map(|found| DiagnosisJson::new(found, asked));
                self.json(&found.collect::<Vec<_>>())
            }
            OutputFormat::Table => self.text(&doctor::report(found)),
        }
    }

    /// `image pull`.
    pub(crate) fn pulled(self, image: &BytecodeImage) -> Result<(), Error> {
        match self.format {
            OutputFormat::Json => self.json(&ImageJson::from(image)),
            OutputFormat::Table => self.text("Successfully downloaded bytecode\n"),
        }
    }

    /// `image list`.
    pub(crate) fn images(self, images: &[Shown<'_>]) -> Result<(), Error> {
        match self.format {
            OutputFormat::Json => {
                self.json(&images.iter().map(StoredImageJson::from).collect::<Vec<_>>())
            }
            OutputFormat::Table => self.text(&images::list(images)),
        }
    }

    /// `image inspect`.
    pub(crate) fn image(self, image: &Shown<'_>) -> Result<(), Error> {
        match self.format {
            OutputFormat::Json => self.json(&StoredImageJson::from(image)),
            OutputFormat::Table => self.text(&images::details(image)),
        }
    }

    /// `image remove` and `image prune`.
    pub(crate) fn freed(self, freed: &Freed) -> Result<(), Error> {
        self.text(&images::freed(freed))
    }

    /// `image export`.
    pub(crate) fn exported(self, images: &[Exported]) -> Result<(), Error> {
        self.text(&images::exported(images))
    }

    /// `image import`.
    pub(crate) fn imported(self, images: &[Imported]) -> Result<(), Error> {
        self.text(&images::imported(images))
    }

    /// `image verify`.
    pub(crate) fn proven(self, proven: &Proven<'_>) -> Result<(), Error> {
        match self.format {
            OutputFormat::Json => self.json(&ProvenJson::from(proven)),
            OutputFormat::Table => self.text(&proof::details(proven)),
        }
    }

    fn json(self, value: &impl serde::Serialize) -> Result<(), Error> {
        self.text(&json::render(value).map_err(Error::Json)?)
    }
}

/// Everything that is not a result. Nobody can be told when writing here fails, so nobody is.
#[derive(Debug)]
pub(crate) struct Stderr;

impl Stderr {
    /// `label: text` on a line of its own.
    pub(crate) fn labelled(label: &str, text: &str) {
        let text = printable(text);
        let colour = match label {
            "error" => "\x1b[1;31m",
            "warning" => "\x1b[1;33m",
            _ => "\x1b[1m",
        };
        if coloured(&io::stderr()) {
            Self::write(&format!("{colour}{label}:\x1b[0m {text}\n"));
        } else {
            Self::write(&format!("{label}: {text}\n"));
        }
    }

    /// Why a command failed: what, the causes, the verifier's log (its end, or the `whole`), what to do.
    pub(crate) fn error(error: &Error, whole: bool) {
        let mut label = "error";
        for line in error.chain() {
            Self::labelled(label, &line);
            label = "cause";
        }
        if let Some((all, log)) = error.verifier_log(whole) {
            let shown = log.len();
            let which = if shown == all {
                format!("{all} lines")
            } else {
                format!("the last {shown} of {all} lines, -v shows all")
            };
            Self::labelled("verifier log", &which);
            for line in log {
                Self::write(&format!("  {}\n", printable(line)));
            }
        }
        for line in error.diff() {
            Self::write(&format!("  {}\n", printable(&line)));
        }
        if let Some(hint) = error.hint() {
            Self::labelled("hint", &hint);
        }
    }

    /// Everything that is written to stderr goes through here, and leaves the secrets that are known behind.
    fn write(text: &str) {
        let text = redact(text);
        without_bar(|| {
            let _ = io::stderr().lock().write_all(text.as_bytes());
        });
    }
}

/// What clap has to say: help and version on stdout, wrong usage on stderr.
pub(crate) fn clap_message(message: &clap::Error) -> Result<(), Error> {
    let text = message.render();
    if message.use_stderr() {
        let text = if coloured(&io::stderr()) {
            text.ansi().to_string()
        } else {
            text.to_string()
        };
        Stderr::write(&text);
        Ok(())
    } else {
        let text = if coloured(&io::stdout()) {
            text.ansi().to_string()
        } else {
            text.to_string()
        };
        Printer::default().text(&text)
    }
}

/// <https://no-color.org>: a value that is not empty turns colour off.
fn coloured(stream: &impl IsTerminal) -> bool {
    stream.is_terminal()
        && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
        && std::env::var_os("TERM").is_none_or(|value| value != "dumb")
}
