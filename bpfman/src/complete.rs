//! Dynamic completion: the shell's script calls this program, which offers the ids, names and files that exist now.
//! It prints no message and waits for no lock; a source that cannot be read offers nothing.

use std::ffi::{OsStr, OsString};
use std::io::Read;
use std::path::Path;
use std::process::ExitCode;

use bytecode_image::store::{State, StoredImage};
use bytecode_object::{MAX_OBJECT_BYTES, ObjectInfo, ProgramType};
use clap::builder::StyledStr;
use clap::{Arg, Command, Id};
use clap_complete::engine::{ArgValueCandidates, ArgValueCompleter, CompletionCandidate};
use clap_complete::env::{CompleteEnv, EnvCompleter, Fish, Zsh};
use loader::kernel::linux::LinuxKernel;
use loader::{Link, LinkFilter, Loader, ProgramFilter, ProgramSummary, ReadGuard};

use crate::args;
use crate::config::Config;
use crate::metadata::APPLICATION_KEY;

/// Set by the scripts: the shell that asks.
pub(crate) const VARIABLE: &str = "BPFMAN_COMPLETE";

/// Where interfaces are folders.
const INTERFACES: &str = "/sys/class/net";
/// Where tracepoints are folders of folders.
const TRACEPOINTS: [&str; 2] = [
    "/sys/kernel/tracing/events",
    "/sys/kernel/debug/tracing/events",
];

/// Answers a shell, if one asks.
pub(crate) fn answer() -> Option<ExitCode> {
    std::env::var_os(VARIABLE).filter(|shell| !shell.is_empty())?;
    let folder = std::env::current_dir().ok();
    let done = CompleteEnv::with_factory(command)
        .var(VARIABLE)
        .bin("bpfman")
        .completer("bpfman")
        .try_complete(std::env::args_os(), folder.as_deref());
    match done {
        Ok(true) => Some(ExitCode::SUCCESS),
        Ok(false) => None,
        Err(_) => Some(ExitCode::FAILURE),
    }
}

/// bash splits words at `:` and `=`, which `xdp:pass` and `quay.io/a:v1` have: the words are taken from the line, and
/// what stands before the last `:` of the current one is taken from the answers, as bash puts them behind it.
const BASH: &str = r#"_bpfman_things() {
    local IFS=$' \t\n' line=${COMP_LINE:0:COMP_POINT} words current
    read -r -a words <<<"$line"
    case $line in *[[:space:]]) words+=("") ;; esac
    current=${words[${#words[@]} - 1]}
    IFS=$'\013'
    COMPREPLY=($(_CLAP_IFS=$'\013' _CLAP_COMPLETE_INDEX=$((${#words[@]} - 1)) _CLAP_COMPLETE_COMP_TYPE=$COMP_TYPE \
        _CLAP_COMPLETE_SPACE=false BPFMAN_COMPLETE=bash bpfman -- "${words[@]}" 2>/dev/null)) || COMPREPLY=()
    [[ ${COMPREPLY-} =~ [=/:]$ ]] && compopt -o nospace 2>/dev/null
    if [[ $COMP_WORDBREAKS == *:* && $current == *:* ]]; then
        local before=${current%"${current##*:}"} at
        for at in "${!COMPREPLY[@]}"; do COMPREPLY[at]=${COMPREPLY[at]#"$before"}; done
    fi
    return 0
}
complete -o bashdefault -F _bpfman_things bpfman"#;

/// The script that makes a shell ask this program, for shells that have one; `words` is the script that knows the
/// commands and options by itself, for where the program is not in PATH.
pub(crate) fn script(shell: clap_complete::Shell, words: &str) -> Option<String> {
    let registration = |shell: &dyn EnvCompleter| {
        let mut script = Vec::new();
        shell
            .write_registration(VARIABLE, "bpfman", "bpfman", "bpfman", &mut script)
            .ok()?;
        String::from_utf8(script).ok()
    };
    Some(match shell {
        clap_complete::Shell::Bash => {
            format!("if command -v bpfman >/dev/null; then\n{BASH}\nelse\n{words}\nfi\n")
        }
        clap_complete::Shell::Zsh => {
            let things = registration(&Zsh)?;
            let [things, words] = [things.as_str(), words]
                .map(|script| script.trim_start_matches("#compdef bpfman\n"));
            // As a file in fpath the script is the body of a function, which is called for the first completion.
            format!(
                "#compdef bpfman\nif (( $+commands[bpfman] )); then\n{things}\n\
                 [[ $funcstack[1] = _bpfman ]] && _clap_dynamic_completer_bpfman \"$@\"\nelse\n{words}\nfi\n"
            )
        }
        clap_complete::Shell::Fish => format!(
            "if command -q bpfman\n{}\nelse\n{words}\nend\n",
            registration(&Fish)?
        ),
        _ => return None,
    })
}

/// The whole command, whose arguments know what may stand for them.
fn command() -> Command {
    with_things(args::command())
}

fn with_things(mut command: Command) -> Command {
    let ids: Vec<Id> = command
        .get_arguments()
        .map(|arg| arg.get_id().clone())
        .collect();
    for id in ids {
        // `mut_arg` moves an argument behind the others: done for each, positional ones keep their order.
        command = command.mut_arg(&id, thing(id.as_str()).unwrap_or(|arg| arg));
    }
    for below in command.get_subcommands_mut() {
        *below = with_things(std::mem::take(below));
    }
    command
}

fn thing(id: &str) -> Option<fn(Arg) -> Arg> {
    Some(match id {
        "program_id" | "program_ids" | "map_owner_id" => {
            |arg| arg.add(ArgValueCandidates::new(program_ids))
        }
        "link_id" | "link_ids" => |arg| arg.add(ArgValueCandidates::new(link_ids)),
        "iface" => |arg| arg.add(ArgValueCandidates::new(interfaces)),
        "application" => |arg| arg.add(ArgValueCandidates::new(applications)),
        "image" | "images" | "image_url" => |arg| arg.add(ArgValueCandidates::new(images)),
        "tracepoint" => |arg| arg.add(ArgValueCompleter::new(tracepoints)),
        "programs" => |arg| arg.add(ArgValueCandidates::new(functions)),
        _ => return None,
    })
}

fn candidate(value: impl Into<OsString>, help: &str) -> CompletionCandidate {
    let help = Some(help).filter(|help| !help.is_empty());
    CompletionCandidate::new(value).help(help.map(|help| StyledStr::from(help.to_owned())))
}

/// Completion does not wait for a command that holds the lock.
fn locked() -> Option<(Loader<LinuxKernel>, ReadGuard)> {
    let mut config = Config::read().unwrap_or_default().loader();
    config.lock_retries = 0;
    let loader = Loader::new(LinuxKernel::new(), config);
    let guard = loader.lock_to_read().ok()?;
    Some((loader, guard))
}

fn programs() -> Vec<ProgramSummary> {
    let programs = locked()
        .and_then(|(loader, guard)| loader.programs(&guard, &ProgramFilter::default()).ok());
    programs.unwrap_or_default()
}

fn links() -> Vec<Link> {
    let links =
        locked().and_then(|(loader, guard)| loader.links(&guard, &LinkFilter::default()).ok());
    links.unwrap_or_default()
}

fn program_ids() -> Vec<CompletionCandidate> {
    let programs = programs();
    let shown = programs.iter().map(|program| {
        let managed = program.managed.as_ref();
        let kind = managed.map_or("", |managed| managed.program_type.as_str());
        let name = managed.map_or(&program.name, |managed| &managed.function);
        candidate(program.id.to_string(), &format!("{kind} {name}"))
    });
    shown.collect()
}

fn link_ids() -> Vec<CompletionCandidate> {
    let links = links();
    let shown = links.iter().map(|link| {
        let help = format!("{} {}", link.program_type, link.function);
        candidate(link.id.to_string(), &help)
    });
    shown.collect()
}

fn applications() -> Vec<CompletionCandidate> {
    let mut names: Vec<String> = programs()
        .into_iter()
        .filter_map(|program| program.managed?.metadata.remove(APPLICATION_KEY))
        .collect();
    names.sort();
    names.dedup();
    names.into_iter().map(|name| candidate(name, "")).collect()
}

fn interfaces() -> Vec<CompletionCandidate> {
    let mut names = entries(Path::new(INTERFACES));
    names.sort();
    names.into_iter().map(|name| candidate(name, "")).collect()
}

fn tracepoints(current: &OsStr) -> Vec<CompletionCandidate> {
    let current = current.to_string_lossy();
    let Some(events) = TRACEPOINTS
        .iter()
        .map(Path::new)
        .find(|folder| folder.is_dir())
    else {
        return Vec::new();
    };
    let folders = |folder: &Path| {
        let mut names = entries(folder);
        names.retain(|name| folder.join(name).is_dir());
        names.sort();
        names
    };
    let names: Vec<String> = match current.split_once('/') {
        None => folders(events)
            .iter()
            .map(|category| format!("{}/", category.to_string_lossy()))
            .collect(),
        // A category is one folder, and no way out of it.
        Some((category, _)) if !matches!(category, "" | "." | "..") => {
            folders(&events.join(category))
                .iter()
                .map(|name| format!("{category}/{}", name.to_string_lossy()))
                .collect()
        }
        Some(_) => Vec::new(),
    };
    let fitting = names.iter().filter(|name| name.starts_with(&*current));
    fitting.map(|name| candidate(name, "")).collect()
}

fn entries(folder: &Path) -> Vec<OsString> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name()).collect()
}

fn stored() -> Vec<StoredImage> {
    crate::commands::store(&Config::read().unwrap_or_default())
        .images()
        .unwrap_or_default()
}

fn images() -> Vec<CompletionCandidate> {
    let images = stored();
    let names = images.iter().filter_map(|image| image.entry.name.as_ref());
    names.map(|name| candidate(name, "")).collect()
}

/// Functions of the object or image that the line names, as `--programs` takes them.
fn functions() -> Vec<CompletionCandidate> {
    let words: Vec<OsString> = std::env::args_os().collect();
    if let Some(path) = value_of(&words, "-p", "--path") {
        return functions_of_object(Path::new(&path)).unwrap_or_default();
    }
    let named = value_of(&words, "-i", "--image-url");
    let images = stored();
    let image = images.iter().find(|image| {
        let Some(name) = &image.entry.name else {
            return false;
        };
        match &named {
            Some(named) => *named == **name,
            None => words.iter().any(|word| **word == **name),
        }
    });
    let Some(image) = image else {
        return Vec::new();
    };
    let whole = image.platforms.iter().find_map(|found| match &found.state {
        State::Whole(held) => Some(held),
        _ => None,
    });
    let programs = whole.iter().flat_map(|held| &held.labels.programs);
    programs
        .map(|(name, kind)| candidate(format!("{kind}:{name}"), ""))
        .collect()
}

fn functions_of_object(path: &Path) -> Option<Vec<CompletionCandidate>> {
    // Opening a pipe would wait for its other end.
    if !path.metadata().ok()?.is_file() {
        return None;
    }
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).ok()?;
    file.take(MAX_OBJECT_BYTES).read_to_end(&mut bytes).ok()?;
    let object = ObjectInfo::parse(&bytes).ok()?;
    let mut found = Vec::new();
    for (name, program) in &object.programs {
        let fits = |kind: &&ProgramType| kind.fits(&program.section);
        for kind in ProgramType::ALL.iter().filter(fits) {
            // What a section traces is only a proposal; without one the shell waits for it behind the colon.
            let traced = match kind {
                ProgramType::Fentry | ProgramType::Fexit => {
                    let (_, function) = program.section_name.split_once('/').unwrap_or_default();
                    format!(":{function}")
                }
                _ => String::new(),
            };
            found.push(candidate(
                format!("{kind}:{name}{traced}"),
                &program.section_name,
            ));
        }
    }
    Some(found)
}

/// The value of an option on the line: `-p X`, `-pX`, `--path X`, `--path=X`.
fn value_of(words: &[OsString], short: &str, long: &str) -> Option<OsString> {
    let mut words = words.iter();
    while let Some(word) = words.next() {
        if *word == *short || *word == *long {
            return words.next().cloned();
        }
        let text = word.to_string_lossy();
        let joined = text
            .strip_prefix(long)
            .and_then(|rest| rest.strip_prefix('='))
            .or_else(|| text.strip_prefix(short).filter(|_| !text.starts_with("--")));
        if let Some(value) = joined {
            return Some(OsString::from(value));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_with_things_is_sound() {
        command().debug_assert();
    }

    #[test]
    fn values_of_options_are_found_in_every_form() {
        for (line, expected) in [
            ("load file -p x.o --programs", Some("x.o")),
            ("load file --path x.o --programs", Some("x.o")),
            ("load file --path=x.o", Some("x.o")),
            ("load file -px.o", Some("x.o")),
            ("load file --programs", None),
            ("load file -p", None),
        ] {
            let words: Vec<OsString> = line.split(' ').map(OsString::from).collect();
            let expected = expected.map(OsString::from);
            assert_eq!(value_of(&words, "-p", "--path"), expected, "{line}");
        }
    }
}
