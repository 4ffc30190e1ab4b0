//! Manual pages: one per command, and bpfman.toml(5).

use std::io;
use std::path::Path;

use clap::{Arg, ArgAction, Command};
use clap_mangen::Man;

use crate::error::Error;

/// Manual page of the configuration file.
const TOML_PAGE: &str = include_str!("../../man/bpfman.toml.5");

/// What commands are used for, by the names of their pages: what it does, and the command.
#[rustfmt::skip]
const EXAMPLES: [(&str, &[(&str, &str)]); 17] = [
    ("bpfman", &[
        ("Pull an image, load a program of it and attach it:", "bpfman image pull quay.io/acme/xdp:v1"),
        ("", "bpfman load image -i quay.io/acme/xdp:v1 --programs xdp:pass"),
        ("", "bpfman attach 184 xdp --iface eth0 --priority 50"),
        ("Undo it:", "bpfman unload 184"),
    ]),
    ("bpfman-load-file", &[
        ("Two programs of one object:", "bpfman load file -p bpf_x86_bpfel.o --programs xdp:xdp_stats kprobe:kprobe_counter"),
        ("A program that traces a function, with a global variable:", "bpfman load file -p opens.o --programs fentry:on_open:vfs_open -g limit=0A000000"),
        ("The id alone, for a script:", "bpfman load file -p bpf_x86_bpfel.o --programs xdp:xdp_stats -q"),
    ]),
    ("bpfman-load-image", &[
        ("From a registry, unless the store has it:", "bpfman load image -i quay.io/acme/xdp:v1 --programs xdp:pass --application web"),
        ("Without a network:", "bpfman load image -i quay.io/acme/xdp:v1 -p Never --programs xdp:pass"),
    ]),
    ("bpfman-unload", &[
        ("One program, and all of an application:", "bpfman unload 184"),
        ("", "bpfman unload --application web"),
    ]),
    ("bpfman-attach-xdp", &[
        ("First in the chain, which goes on after `pass` and `drop`:", "bpfman attach 184 xdp --iface eth0 --priority 10 --proceed-on pass drop"),
        ("In the generic hook of an interface of another namespace:", "bpfman attach 184 xdp --iface eth0 --priority 50 --mode skb --netns /run/netns/blue"),
    ]),
    ("bpfman-attach-tc", &[("Packets that come in:", "bpfman attach 185 tc --direction ingress --iface eth0 --priority 50")]),
    ("bpfman-attach-tcx", &[("Packets that go out:", "bpfman attach 186 tcx --direction egress --iface eth0 --priority 50")]),
    ("bpfman-attach-tracepoint", &[("Every openat(2):", "bpfman attach 187 tracepoint --tracepoint syscalls/sys_enter_openat")]),
    ("bpfman-attach-kprobe", &[("Every call of a function:", "bpfman attach 188 kprobe --fn-name try_to_wake_up")]),
    ("bpfman-attach-uprobe", &[("A function of the C library, in one process:", "bpfman attach 189 uprobe --target libc --fn-name malloc --pid 4711")]),
    ("bpfman-detach", &[("Two links:", "bpfman detach 713799068 713799069")]),
    ("bpfman-list-programs", &[
        ("Those of an application, as a line each:", "bpfman list programs --application web --format '{{.program_id}} {{.bpf_function}}'"),
        ("Every program of the kernel:", "bpfman list programs --all"),
    ]),
    ("bpfman-list-links", &[("Ids of all XDP links:", "bpfman list links --program-type xdp -q")]),
    ("bpfman-image-pull", &[("For another architecture:", "bpfman image pull quay.io/acme/xdp:v1 --platform linux/arm64")]),
    ("bpfman-image-verify", &[
        ("By a key:", "bpfman image verify quay.io/acme/xdp:v1 --key cosign.pub"),
        ("By an identity:", "bpfman image verify quay.io/acme/xdp:v1 --certificate-identity dev@acme.com --certificate-oidc-issuer https://accounts.google.com"),
    ]),
    ("bpfman-image-build", &[
        ("Without a daemon:", "bpfman image build -r builtin -t quay.io/acme/xdp:v1 -b bpf_x86_bpfel.o"),
        ("By docker, for every architecture of a project:", "bpfman image build -f Containerfile.bytecode.multi.arch -t quay.io/acme/xdp:v1 -c ./project"),
    ]),
    ("bpfman-doctor", &[("Repair what differs:", "bpfman doctor --repair")]),
];

/// Files that commands use, and what they are.
const FILES: [(&str, &str); 5] = [
    (
        "/etc/bpfman/bpfman.toml",
        "The configuration, see bpfman.toml(5).",
    ),
    (
        "/run/bpfman",
        "A BPF file system with the pins of programs, links and maps, the records, the lock and the journal.",
    ),
    (
        "/var/lib/bpfman/images",
        "The image store of root, an OCI image layout.",
    ),
    (
        "~/.local/share/bpfman/images",
        "The image store of any other user.",
    ),
    (
        "/var/lib/bpfman/admitted",
        "What signatures proved on this host.",
    ),
];

/// Variables that commands read, and what they mean.
const ENVIRONMENT: [(&str, &str); 6] = [
    (
        "BPFMAN_CONFIG",
        "The configuration, instead of /etc/bpfman/bpfman.toml.",
    ),
    ("BPFMAN_RUNTIME_DIR", "Instead of /run/bpfman."),
    ("BPFMAN_IMAGE_DIR", "The image store."),
    (
        "BPFMAN_ADMITTED_DIR",
        "What signatures proved on this host.",
    ),
    (
        "RUST_LOG",
        "Level of the log where there is no -v: off, error, warn (the default), info, debug or trace; levels of modules, too.",
    ),
    ("NO_COLOR", "If not empty: no colour."),
];

const EXIT_STATUS: [(&str, &str); 4] = [
    ("0", "Done."),
    (
        "1",
        "Failed. Of doctor: differences are left. Of detach and unload of several: some are left.",
    ),
    ("2", "Wrong usage: nothing was tried."),
    ("130, 143", "Ended by SIGINT or SIGTERM."),
];

/// Writes every page into a folder, which is made when it is not there.
pub(super) fn write(mut command: Command, folder: &Path) -> Result<(), Error> {
    command.build();
    let written = std::fs::create_dir_all(folder).and_then(|()| {
        std::fs::write(folder.join("bpfman.toml.5"), TOML_PAGE)?;
        write_below(&command, None, folder)
    });
    written.map_err(|source| Error::Man {
        dir: folder.to_owned(),
        source,
    })
}

fn write_below(command: &Command, above: Option<&str>, folder: &Path) -> io::Result<()> {
    let name = name(command);
    std::fs::write(folder.join(format!("{name}.1")), page(command, above)?)?;
    for below in commands(command) {
        write_below(below, Some(&name), folder)?;
    }
    Ok(())
}

/// `bpfman-load-file`.
fn name(command: &Command) -> String {
    let words = command.get_display_name().or(command.get_bin_name());
    words.unwrap_or(command.get_name()).replace(' ', "-")
}

fn commands(command: &Command) -> impl Iterator<Item = &Command> {
    let below = command.get_subcommands();
    below.filter(|below| below.get_name() != "help" && !below.is_hide_set())
}

fn page(command: &Command, above: Option<&str>) -> io::Result<Vec<u8>> {
    let page_name = name(command);
    let man = Man::new(command.clone()).manual("bpfman");
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    page.extend(synopsis(command).into_bytes());
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    let mut rest = String::new();
    if command.has_subcommands() {
        rest += ".SH SUBCOMMANDS\n";
    }
    for below in commands(command) {
        let about = below.get_about().map(ToString::to_string);
        rest += &format!(
            ".TP\n\\fB{}\\fR(1)\n{}\n",
            escaped(&name(below)),
            escaped(&about.unwrap_or_default())
        );
    }
    if let Some((_, examples)) = EXAMPLES.iter().find(|(of, _)| *of == page_name) {
        rest += ".SH EXAMPLES\n";
        for (what, line) in *examples {
            if !what.is_empty() {
                rest += &format!(".PP\n{}\n", escaped(what));
            }
            rest += &format!(".PP\n.RS 4\n.EX\n{}\n.EE\n.RE\n", escaped(line));
        }
    }
    rest += &list("FILES", &FILES);
    rest += &list("ENVIRONMENT", &ENVIRONMENT);
    rest += &list("EXIT STATUS", &EXIT_STATUS);
    let mut others: Vec<String> = above
        .iter()
        .map(|above| format!("{above}(1)"))
        .chain(commands(command).map(|below| format!("{}(1)", name(below))))
        .collect();
    others.push("bpfman.toml(5)".to_owned());
    rest += &format!(".SH SEE ALSO\n{}\n", escaped(&others.join(", ")));
    page.extend(rest.into_bytes());
    if command.get_version().is_some() {
        man.render_version_section(&mut page)?;
    }
    Ok(page)
}

/// Terms with what they mean.
fn list(title: &str, items: &[(&str, &str)]) -> String {
    let mut section = format!(".SH {title}\n");
    for (term, meaning) in items {
        section += &format!(".TP\n\\fB{}\\fR\n{}\n", escaped(term), escaped(meaning));
    }
    section
}

/// Every option with its value and every argument; where the guide gives a line of usage, that line.
fn synopsis(command: &Command) -> String {
    let mut section = ".SH SYNOPSIS\n".to_owned();
    if let Some(usage) = command.get_overridden_usage() {
        let usage = usage.to_string();
        let lines: Vec<String> = usage.lines().map(|line| escaped(line.trim())).collect();
        return section + &lines.join("\n.br\n") + "\n";
    }
    let words = command.get_bin_name().unwrap_or(command.get_name());
    section += &format!("\\fB{}\\fR", escaped(words));
    let shown =
        |arg: &&Arg| !arg.is_hide_set() && !matches!(arg.get_id().as_str(), "help" | "version");
    let (positional, options): (Vec<&Arg>, Vec<&Arg>) = command
        .get_arguments()
        .filter(shown)
        .partition(|arg| arg.is_positional());
    for arg in options.into_iter().chain(positional) {
        section += " ";
        section += &word(arg);
    }
    if command.has_subcommands() {
        section += if command.is_subcommand_required_set() {
            " \\fICOMMAND\\fR …"
        } else {
            " [\\fICOMMAND\\fR …]"
        };
    }
    section + "\n"
}

fn word(arg: &Arg) -> String {
    let mut word = String::new();
    let flag = match (arg.get_short(), arg.get_long()) {
        (Some(short), _) => format!("-{short}"),
        (None, Some(long)) => format!("--{long}"),
        (None, None) => String::new(),
    };
    if !flag.is_empty() {
        word += &format!("\\fB{}\\fR", escaped(&flag));
    }
    if arg.get_action().takes_values() {
        let names = arg.get_value_names().map_or_else(
            || vec![arg.get_id().as_str().to_uppercase()],
            |names| names.iter().map(ToString::to_string).collect(),
        );
        let several = arg
            .get_num_args()
            .is_some_and(|number| number.max_values() > 1);
        let space = if word.is_empty() { "" } else { " " };
        word += &format!("{space}\\fI{}\\fR", escaped(&names.join(" ")));
        if several || matches!(arg.get_action(), ArgAction::Append) {
            word += "…";
        }
    } else if matches!(arg.get_action(), ArgAction::Count) {
        word += "…";
    }
    if arg.is_required_set() {
        word
    } else {
        format!("[{word}]")
    }
}

/// Text as roff takes it: hyphens that can be copied, no line that looks like a request.
fn escaped(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-");
    let begins = text.starts_with(['.', '\'']);
    if begins { format!("\\&{text}") } else { text }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::args;

    fn pages() -> BTreeMap<String, String> {
        let folder = tempfile::tempdir().unwrap();
        write(args::command(), folder.path()).unwrap();
        let entries = std::fs::read_dir(folder.path()).unwrap();
        let pages = entries.map(|entry| {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            (name, std::fs::read_to_string(path).unwrap())
        });
        pages.collect()
    }

    #[test]
    fn every_page_has_every_section() {
        let pages = pages();
        assert!(pages.len() > 30, "{:?}", pages.keys());
        for (name, page) in &pages {
            for section in [
                "NAME",
                "SYNOPSIS",
                "DESCRIPTION",
                "FILES",
                "ENVIRONMENT",
                "EXIT STATUS",
                "SEE ALSO",
            ] {
                let quoted = page.contains(&format!("\n.SH {section}\n"))
                    || page.contains(&format!("\n.SH \"{section}\"\n"));
                assert!(quoted || name == "bpfman.toml.5", "{name}: {section}");
            }
            assert!(
                !page.contains("(1)") || !page.contains("-help(1)"),
                "{name}"
            );
        }
        for (page, _) in EXAMPLES {
            assert!(pages.contains_key(&format!("{page}.1")), "{page}");
        }
    }

    #[test]
    fn a_synopsis_has_values_and_arguments() {
        let pages = pages();
        for (name, expected) in [
            (
                "bpfman-load-file.1",
                "\\fBbpfman load file\\fR \\fB\\-\\-programs\\fR \\fIPROGRAMS\\fR… \\fB\\-p\\fR \\fIPATH\\fR [\\fB\\-g\\fR \\fIGLOBAL\\fR…]",
            ),
            ("bpfman-get-link.1", "\\fILINK_ID\\fR\n"),
            ("bpfman-load.1", "\\fBbpfman load\\fR \\fICOMMAND\\fR …\n"),
            (
                "bpfman-image-pull.1",
                "bpfman image pull [OPTIONS] <IMAGE>\n",
            ),
        ] {
            let page = &pages[name];
            assert!(page.contains(expected), "{name}: {page}");
        }
        assert!(pages["bpfman-load.1"].contains("bpfman\\-load\\-file(1), "));
    }

    #[test]
    fn every_example_is_understood() {
        for (page, examples) in EXAMPLES {
            for (_, line) in examples {
                let words = line.replace("'{{.program_id}} {{.bpf_function}}'", "{{.program_id}}");
                if let Err(error) = args::parse_from(words.split(' ')) {
                    panic!("{page}: {line}: {error}");
                }
            }
        }
    }
}
