use std::borrow::Cow;
use std::io::{self, ErrorKind, IsTerminal, Write};

use bytecode_image::archive::{Exported, Imported};
use bytecode_image::digest::Digest;
use bytecode_image::printable::{escaped, escaped_json, escaped_lines};
use bytecode_image::pull::BytecodeImage;
use bytecode_image::redact::redact;
use bytecode_image::reference::Reference;
use bytecode_image::store::Freed;
use loader::{Diagnosis, Link, Program, ProgramSummary};

use super::doctor::DiagnosisJson;
use super::images::Shown;
use super::images_json::StoredImageJson;
use super::json::{self, ImageJson, LinkJson, ProgramJson, ProgramSummaryJson};
use super::progress::without_bar;
use super::proof::{self, Proven, ProvenJson};
use super::removed::{Detached, DetachedJson, Unloaded, UnloadedJson};
use super::{doctor, images, links, programs};
use crate::args::{Shape, Template};
use crate::error::Error;

/// Fields that `{{.ID}}` of a template stands for.
const PROGRAM_ID: &str = "program_id";
const LINK_ID: &str = "link_id";

/// The only writer to stdout. A reader that went away (`bpfman list programs | head -1`) is no error.
#[derive(Debug, Clone, Default)]
pub(crate) struct Printer {
    shape: Shape,
}

impl Printer {
    pub(crate) fn new(shape: impl Into<Shape>) -> Self {
        Self {
            shape: shape.into(),
        }
    }

    /// Text that is the same in every format. What a terminal would obey in it is escaped.
    pub(crate) fn text(&self, text: &str) -> Result<(), Error> {
        self.raw(escaped_lines(text).as_bytes())
    }

    /// Text that may hold a path, whose bytes are any: as they are for a program, escaped for a terminal.
    pub(crate) fn bytes(&self, bytes: &[u8]) -> Result<(), Error> {
        if io::stdout().is_terminal() {
            return self.text(&String::from_utf8_lossy(bytes));
        }
        self.raw(bytes)
    }

    fn raw(&self, bytes: &[u8]) -> Result<(), Error> {
        let mut stdout = io::stdout().lock();
        match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
            Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(Error::Print(error)),
            _ => Ok(()),
        }
    }

    /// `load`: one program in full, several as a list. JSON has them all in full. Programs stay loaded when that cannot be
    /// printed, which the error says.
    pub(crate) fn loaded(self, programs: &[Program]) -> Result<(), Error> {
        self.print_loaded(programs).map_err(|source| {
            let ids: Vec<_> = programs.iter().map(|program| program.kernel.id).collect();
            Error::LoadedUnprinted {
                ids,
                source: Box::new(source),
            }
        })
    }

    fn print_loaded(&self, programs: &[Program]) -> Result<(), Error> {
        let json = || programs.iter().map(ProgramJson::from).collect::<Vec<_>>();
        match &self.shape {
            Shape::Json => self.json(&json()),
            Shape::Ids => self.ids(programs.iter().map(|program| program.kernel.id)),
            Shape::Template(template) => self.filled(template, &json(), PROGRAM_ID),
            Shape::Table => match programs {
                [program] => self.text(&programs::details(program)),
                programs => self.text(&programs::loaded(programs)),
            },
        }
    }

    /// `get program`.
    pub(crate) fn program(self, program: &Program) -> Result<(), Error> {
        match &self.shape {
            Shape::Json => self.json(&ProgramJson::from(program)),
            Shape::Ids => self.ids([program.kernel.id]),
            Shape::Template(template) => {
                self.filled(template, &[ProgramJson::from(program)], PROGRAM_ID)
            }
            Shape::Table => self.text(&programs::details(program)),
        }
    }

    /// `list programs`.
    pub(crate) fn programs(self, programs: &[ProgramSummary]) -> Result<(), Error> {
        let json = || {
            programs
                .iter()
                .map(ProgramSummaryJson::from)
                .collect::<Vec<_>>()
        };
        match &self.shape {
            Shape::Json => self.json(&json()),
            Shape::Ids => self.ids(programs.iter().map(|program| program.id)),
            Shape::Template(template) => self.filled(template, &json(), PROGRAM_ID),
            Shape::Table => self.text(&programs::list(programs)),
        }
    }

    /// `attach`. The link stays when it cannot be printed, which the error says.
    pub(crate) fn attached(self, link: &Link) -> Result<(), Error> {
        self.link(link).map_err(|source| Error::AttachedUnprinted {
            id: link.id,
            program: link.program_id,
            source: Box::new(source),
        })
    }

    /// `get link`.
    pub(crate) fn link(self, link: &Link) -> Result<(), Error> {
        match &self.shape {
            Shape::Json => self.json(&LinkJson::from(link)),
            Shape::Ids => self.ids([link.id]),
            Shape::Template(template) => self.filled(template, &[LinkJson::from(link)], LINK_ID),
            Shape::Table => self.text(&links::details(link)),
        }
    }

    /// `list links`.
    pub(crate) fn links(self, links: &[Link]) -> Result<(), Error> {
        let json = || links.iter().map(LinkJson::from).collect::<Vec<_>>();
        match &self.shape {
            Shape::Json => self.json(&json()),
            Shape::Ids => self.ids(links.iter().map(|link| link.id)),
            Shape::Template(template) => self.filled(template, &json(), LINK_ID),
            Shape::Table => self.text(&links::list(links)),
        }
    }

    /// `unload`: silent but for JSON.
    pub(crate) fn unloaded(self, programs: &[Unloaded]) -> Result<(), Error> {
        match self.shape {
            Shape::Json => self.json(&programs.iter().map(UnloadedJson::from).collect::<Vec<_>>()),
            _ => Ok(()),
        }
    }

    /// `detach`: silent but for JSON.
    pub(crate) fn detached(self, links: &[Detached]) -> Result<(), Error> {
        match self.shape {
            Shape::Json => self.json(&links.iter().map(DetachedJson::from).collect::<Vec<_>>()),
            _ => Ok(()),
        }
    }

    /// `doctor`; `asked`: whether repair was.
    pub(crate) fn doctor(self, found: &[Diagnosis], asked: bool) -> Result<(), Error> {
        match self.shape {
            Shape::Json => {
                let found = found.iter().map(|found| DiagnosisJson::new(found, asked));
                self.json(&found.collect::<Vec<_>>())
            }
            _ => self.text(&doctor::report(found)),
        }
    }

    /// `image pull`.
    pub(crate) fn pulled(self, image: &BytecodeImage) -> Result<(), Error> {
        match self.shape {
            Shape::Json => self.json(&ImageJson::from(image)),
            _ if image.from_store => {
                self.text("Bytecode is in the local store already, nothing was downloaded\n")
            }
            _ => self.text("Successfully downloaded bytecode\n"),
        }
    }

    /// `image list`.
    pub(crate) fn images(self, images: &[Shown<'_>]) -> Result<(), Error> {
        match self.shape {
            Shape::Json => self.json(&images.iter().map(StoredImageJson::from).collect::<Vec<_>>()),
            _ => self.text(&images::list(images)),
        }
    }

    /// `image inspect`.
    pub(crate) fn image(self, image: &Shown<'_>) -> Result<(), Error> {
        match self.shape {
            Shape::Json => self.json(&StoredImageJson::from(image)),
            _ => self.text(&images::details(image)),
        }
    }

    /// `image remove` and `image prune`.
    pub(crate) fn freed(self, freed: &Freed) -> Result<(), Error> {
        self.text(&images::freed(freed))
    }

    /// `image push`.
    pub(crate) fn pushed(self, reference: &Reference, digest: Digest) -> Result<(), Error> {
        self.text(&format!("{}@{digest}\n", reference.name()))
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
        match self.shape {
            Shape::Json => self.json(&ProvenJson::from(proven)),
            _ => self.text(&proof::details(proven)),
        }
    }

    fn ids(&self, ids: impl IntoIterator<Item = u32>) -> Result<(), Error> {
        let lines: String = ids.into_iter().map(|id| format!("{id}\n")).collect();
        self.text(&lines)
    }

    fn filled(
        &self,
        template: &Template,
        results: &[impl serde::Serialize],
        id: &str,
    ) -> Result<(), Error> {
        let mut lines = String::new();
        for result in results {
            let value = serde_json::to_value(result).map_err(Error::Json)?;
            lines.push_str(&template.fill(&value, id));
        }
        self.text(&lines)
    }

    fn json(&self, value: &impl serde::Serialize) -> Result<(), Error> {
        let text = json::render(value).map_err(Error::Json)?;
        self.raw(escaped_json(&text).as_bytes())
    }
}

/// Everything that is not a result. Nobody can be told when writing here fails, so nobody is.
#[derive(Debug)]
pub(crate) struct Stderr;

impl Stderr {
    /// `label: text` on a line of its own.
    pub(crate) fn labelled(label: &str, text: &str) {
        let text = escaped(text);
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

    /// A warning with what to do about it, and lines of a file that do it. The log decides whether it is shown.
    pub(crate) fn warning(text: &str, hint: &str, lines: &[&str]) {
        if !log::log_enabled!(log::Level::Warn) {
            return;
        }
        Self::labelled("warning", text);
        Self::labelled("hint", hint);
        for line in lines {
            Self::write(&format!("  {}\n", escaped(line)));
        }
    }

    /// Why a command failed: what, the causes, the verifier's log (its end, or the `whole`), what to do.
    pub(crate) fn error(error: &Error, whole: bool) {
        if let Error::Several(errors) = error {
            for error in errors {
                Self::error(error, whole);
            }
            return;
        }
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
                Self::write(&format!("  {}\n", escaped(line)));
            }
        }
        for line in error.diff() {
            Self::write(&format!("  {}\n", escaped(&line)));
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

/// What clap has to say: help and version on stdout, wrong usage on stderr, with the words of the user in it.
pub(crate) fn clap_message(message: &clap::Error) -> Result<(), Error> {
    let text = message.render();
    let plain = text.to_string();
    let safe = escaped_lines(&plain);
    let render = |colour: bool| match &safe {
        Cow::Borrowed(_) if colour => text.ansi().to_string(),
        // Colours cannot be told from what the user typed.
        safe => safe.clone().into_owned(),
    };
    if message.use_stderr() {
        Stderr::write(&render(coloured(&io::stderr())));
        Ok(())
    } else {
        Printer::default().raw(render(coloured(&io::stdout())).as_bytes())
    }
}

/// <https://no-color.org>: a value that is not empty turns colour off.
fn coloured(stream: &impl IsTerminal) -> bool {
    stream.is_terminal()
        && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
        && std::env::var_os("TERM").is_none_or(|value| value != "dumb")
}
