use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::Path;

use bytecode_image::host::open_regular;
use bytecode_image::labels::{Labels, type_means};
use bytecode_object::MAX_OBJECT_BYTES;
use loader::kernel::linux::LinuxKernel;
use loader::{LoadRequest, Loader, ProgramRequest, Source};

use super::capabilities::{check, loader, lock, to_load};
use super::image_pull::{pull, reach};
use crate::args::{GlobalValue, LoadCommand, LoadFileArgs, LoadImageArgs, LoadOptions};
use crate::config::Config;
use crate::error::Error;
use crate::metadata;
use crate::output::Printer;

/// `load file` and `load image`.
pub(super) fn run(command: LoadCommand) -> Result<(), Error> {
    match command {
        LoadCommand::File(args) => file(args),
        LoadCommand::Image(args) => image(args),
    }
}

fn file(args: LoadFileArgs) -> Result<(), Error> {
    let asked = Asked::new(args.programs.programs, args.options)?;
    let loader = loader(&Config::read()?);
    asked.check(&loader)?;
    let object = read_object(&args.path)?;
    let path = args.path.to_string_lossy().into_owned();
    let request = asked.of(object, Source::File { path });
    let programs = loader.load(&mut lock(&loader)?, request)?;
    Printer::new(args.output).loaded(&programs)
}

fn image(args: LoadImageArgs) -> Result<(), Error> {
    let asked = Asked::new(args.programs.programs, args.options)?;
    let reach = reach(args.registry.registry_auth.as_deref())?;
    let config = Config::read()?;
    let loader = loader(&config);
    asked.check(&loader)?;
    let image = pull("load", &config, &args.registry, reach, None)?;
    let url = args.registry.image_url.typed.clone();
    check_programs(&url, &image.labels, &asked.programs)?;
    let source = Source::Image {
        url,
        digest: image.manifest_digest.to_string(),
        pull_policy: args.registry.pull_policy.as_str().to_owned(),
    };
    let request = asked.of(image.object, source);
    let programs = loader
        .load(&mut lock(&loader)?, request)
        .map_err(Error::to("load", &args.registry.image_url.typed))?;
    Printer::new(args.output).loaded(&programs)
}

/// A load request without its object, so that wrong usage is found before anything is read.
struct Asked {
    programs: Vec<ProgramRequest>,
    globals: BTreeMap<String, Vec<u8>>,
    metadata: BTreeMap<String, String>,
    map_owner_id: Option<u32>,
}

impl Asked {
    fn new(programs: Vec<ProgramRequest>, options: LoadOptions) -> Result<Self, Error> {
        Ok(Self {
            programs: once_each(programs)?,
            globals: globals(options.global)?,
            metadata: metadata::collect(options.metadata, options.application)?,
            map_owner_id: options.map_owner_id,
        })
    }

    /// Before anything is read or fetched.
    fn check(&self, loader: &Loader<LinuxKernel>) -> Result<(), Error> {
        let types = self.programs.iter().map(|program| program.program_type);
        check(&to_load(types, || loader.is_mounted())?)
    }

    fn of(self, object: Vec<u8>, source: Source) -> LoadRequest {
        LoadRequest {
            object,
            source,
            programs: self.programs,
            globals: self.globals,
            metadata: self.metadata,
            map_owner_id: self.map_owner_id,
        }
    }
}

fn once_each(programs: Vec<ProgramRequest>) -> Result<Vec<ProgramRequest>, Error> {
    let mut seen = BTreeSet::new();
    match programs.iter().find(|asked| !seen.insert(&asked.function)) {
        Some(twice) => Err(Error::ProgramTwice {
            function: twice.function.clone(),
        }),
        None => Ok(programs),
    }
}

fn globals(values: Vec<GlobalValue>) -> Result<BTreeMap<String, Vec<u8>>, Error> {
    let mut globals = BTreeMap::new();
    for GlobalValue { name, bytes } in values {
        if globals.contains_key(&name) {
            return Err(Error::GlobalTwice { name });
        }
        globals.insert(name, bytes);
    }
    Ok(globals)
}

/// The file, up to the largest size that an object may have.
fn read_object(path: &Path) -> Result<Vec<u8>, Error> {
    let mut object = Vec::new();
    open_regular(path)
        .and_then(|file| file.take(MAX_OBJECT_BYTES + 1).read_to_end(&mut object))
        .map_err(|source| Error::ReadObject {
            path: path.to_owned(),
            source,
        })?;
    if object.len() as u64 > MAX_OBJECT_BYTES {
        return Err(Error::ObjectTooLarge {
            path: path.to_owned(),
            limit: MAX_OBJECT_BYTES,
        });
    }
    Ok(object)
}

/// Whether the image says that it has what is asked for. An image without labels says nothing; the loader looks at
/// the object itself in any case.
fn check_programs(image: &str, labels: &Labels, programs: &[ProgramRequest]) -> Result<(), Error> {
    for program in programs.iter().filter(|_| !labels.programs.is_empty()) {
        let Some(found) = labels.programs.get(&program.function) else {
            let offered: Vec<String> = labels
                .programs
                .iter()
                .map(|(name, kind)| format!("{kind}:{name}"))
                .collect();
            return Err(Error::NoSuchProgramInImage {
                image: image.to_owned(),
                function: program.function.clone(),
                offered: offered.join(" "),
            });
        };
        if !type_means(found, program.program_type) {
            return Err(Error::OtherTypeInImage {
                image: image.to_owned(),
                function: program.function.clone(),
                found: found.clone(),
                asked: program.program_type.to_string(),
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_against_labels() {
        let labels = |pairs: &[(&str, &str)]| Labels {
            programs: pairs
                .iter()
                .map(|(name, kind)| ((*name).to_owned(), (*kind).to_owned()))
                .collect(),
            maps: BTreeMap::new(),
        };
        let check = |labels: &Labels, word: &str| {
            let (kind, function) = word.split_once(':').unwrap();
            let program = ProgramRequest {
                program_type: kind.parse().unwrap(),
                function: function.to_owned(),
                attach_function: None,
            };
            check_programs("quay.io/a/b", labels, &[program])
                .map_err(|error| (error.to_string(), error.hint()))
        };
        let new = labels(&[("count", "kprobe"), ("pass", "xdp"), ("stats", "tcx")]);
        let old = labels(&[("count", "probe"), ("stats", "tc")]);
        let words = labels(&[
            ("count", "kretprobe"),
            ("drop", "XDP"),
            ("pass", "ext"),
            ("stats", "sched_cls"),
        ]);
        for (labels, word) in [
            (&new, "xdp:pass"),
            (&new, "kprobe:count"),
            (&new, "tc:stats"),
            (&old, "uprobe:count"),
            (&old, "tcx:stats"),
            (&words, "kprobe:count"),
            (&words, "xdp:drop"),
            (&words, "xdp:pass"),
            (&words, "tc:stats"),
            (&labels(&[]), "xdp:anything"),
        ] {
            assert_eq!(check(labels, word), Ok(()), "{word}");
        }
        let (text, hint) = check(&new, "xdp:drop").unwrap_err();
        assert_eq!(text, "image quay.io/a/b has no program `drop`");
        assert_eq!(hint.unwrap(), "it offers kprobe:count xdp:pass tcx:stats");
        let (text, _) = check(&new, "tc:pass").unwrap_err();
        assert_eq!(text, "image quay.io/a/b has `pass` as xdp, not as tc");
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let error = read_object(Path::new("/nonexistent/x.o")).unwrap_err();
        let chain = error.chain();
        assert_eq!(chain[0], "reading the object file /nonexistent/x.o");
        assert!(chain[1].starts_with("No such file"), "{chain:?}");
    }

    #[test]
    fn a_global_given_twice_is_refused() {
        let values = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
        assert_eq!(globals(values(&["a=01", "b=02"])).unwrap().len(), 2);
        assert!(
            matches!(globals(values(&["a=01", "a=01"])), Err(Error::GlobalTwice { name }) if name == "a")
        );
    }
}
