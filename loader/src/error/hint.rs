//! What to do about an error.

use std::borrow::Cow;
use std::error::Error;
use std::io;

use bytecode_object::{ObjectError, ProgramType};

use super::{HookPlace, LoaderError};
use crate::globals::GlobalError;
use crate::kernel::{KernelError, advice};
use crate::state::StateError;
use crate::{TcDirection, XdpMode};

impl LoaderError {
    /// What to do about it, where that is known: one sentence.
    pub fn hint(&self) -> Option<String> {
        if let Some(hint) = hint_of_resources(self) {
            return Some(hint.to_owned());
        }
        match self {
            Self::NoSuchProgram { .. } | Self::NotOurs { .. } | Self::NoSuchMapOwner { .. } => {
                Some("`bpfman list programs` shows the programs that bpfman loaded".to_owned())
            }
            Self::NothingShared { owner, .. } => Some(format!(
                "leave --map-owner-id out, or name the program that has these maps: `bpfman get program {owner}`"
            )),
            Self::NoSuchLink { .. } => {
                Some("`bpfman list links` shows the links there are".to_owned())
            }
            Self::ProgramGone { id, .. } => Some(format!(
                "was bpffs unmounted? `bpfman unload {id}` removes the record"
            )),
            Self::ChainHeld { .. } => Some(
                "end the process that holds its link: `bpftool link` names it".to_owned(),
            ),
            Self::Object { source, .. } => hint_of_object(source),
            Self::ByteOrder { .. } => {
                Some("load the object that was compiled for this host".to_owned())
            }
            Self::FunctionNotFound { near, .. } => {
                near.as_ref().map(|name| format!("did you mean `{name}`?"))
            }
            Self::TypeMismatch { function, fits, .. } => fits.first().map(|kind| match kind {
                // Their function is part of the word.
                ProgramType::Fentry | ProgramType::Fexit => {
                    format!("ask for `{kind}:{function}:<kernel function>`")
                }
                _ => format!("ask for `{kind}:{function}`"),
            }),
            Self::NoAttachFunction {
                function,
                program_type,
            } => Some(format!(
                "name it: `{program_type}:{function}:<kernel function>`"
            )),
            Self::WrongHook {
                id, program_type, ..
            } => Some(format!("`bpfman attach {id} {program_type} …`")),
            Self::ChainFull { .. } => {
                Some("detach one of them first: `bpfman list links`".to_owned())
            }
            Self::ForeignXdp {
                place,
                foreign,
                mode,
                ..
            } => Some(format!(
                "see `bpftool prog show id {foreign}` and detach it with the tool that attached it, \
                 or with `{}ip link set dev {} {} off` (`bpftool link detach id …` where `bpftool link` shows a link of it)",
                within(place),
                quoted(&place.iface),
                // Without a mode, only what the driver runs is taken off where it has a hook.
                match mode {
                    XdpMode::Driver => "xdpdrv",
                    XdpMode::Skb => "xdpgeneric",
                    XdpMode::Hardware => "xdpoffload",
                }
            )),
            Self::ForeignQdisc { place, kind, .. } => Some(format!(
                "remove it with the tool that made it, or with `{}tc qdisc del dev {} {kind}`; TCX needs no qdisc",
                within(place),
                quoted(&place.iface)
            )),
            Self::ForeignFilter {
                place, preference, ..
            } => Some(format!(
                "move them to another preference: `{}tc filter show dev {} {} pref {preference}`",
                within(place),
                quoted(&place.iface),
                place.direction.map_or("", TcDirection::as_str)
            )),
            Self::TcxTwice { .. } | Self::TracepointTwice { .. } => Some(
                "load it once more to run it twice: each load is a program of its own".to_owned(),
            ),
            Self::FilterGone { .. } => Some("attach again".to_owned()),
            Self::NoChain { holder, alone, .. } => Some(format!(
                "detach the link of program {holder} first; programs share an interface where the kernel takes EXT programs: not in \
                 lockdown, 5.10 or newer, with BPF trampolines and the JIT (net.core.bpf_jit_enable); a warning gave the \
                 reason when program {alone} was loaded"
            )),
            Self::ModeDiffers { .. } => {
                Some("leave --mode out, or detach the programs that are there first".to_owned())
            }
            Self::ChainRefused { .. } => Some(
                "packets longer than a page need every program of the chain from SEC(\"xdp.frags\"): compile it so, or lower the interface's MTU"
                    .to_owned(),
            ),
            // The generic hook is the last resort: where that is refused, none is left.
            Self::ModeRefused { mode, .. } if *mode == "skb" => None,
            Self::ModeRefused { .. } => Some("try --mode skb, or leave --mode out".to_owned()),
            Self::Metadata(_) => Some(
                "keep what is long in a file, and its name or digest in the metadata".to_owned(),
            ),
            Self::Recovery { .. } | Self::InTheWay { .. } => Some(DOCTOR.to_owned()),
            Self::State(error) => hint_of_state(error),
            Self::NoKernelTypes { plain, .. } => {
                let mut hint = "load it on a kernel built with CONFIG_DEBUG_INFO_BTF".to_owned();
                if !plain.is_empty() {
                    hint.push_str(&format!("; programs of it that do without: {}", plain.join(", ")));
                }
                Some(hint)
            }
            Self::Kernel { source, .. } if hint_of(source).is_some() => hint_of(source),
            Self::Kernel {
                source: KernelError::NotANamespace { .. } | KernelError::NoNamespace { .. },
                ..
            } => Some(
                "a namespace is named by a file such as /run/netns/<name> or /proc/<pid>/ns/net"
                    .to_owned(),
            ),
            Self::Kernel {
                source: KernelError::TooOld { what: "TCX", .. },
                ..
            } => Some(
                "load the program as `tc` instead: `attach … tc` works on this kernel".to_owned(),
            ),
            Self::Kernel {
                source: KernelError::NoExtensions { .. },
                ..
            } => Some(
                "EXT programs need kernel 5.10 or newer with BPF trampolines, the JIT (net.core.bpf_jit_enable) and no lockdown"
                    .to_owned(),
            ),
            Self::KretprobeOffset { .. } => {
                Some("leave --offset out: it runs when the function returns".to_owned())
            }
            Self::NoUprobePlace { .. } => {
                Some("name the function with --fn-name, or the place in the file with --offset".to_owned())
            }
            Self::TracesAlready { link, .. } => Some(format!(
                "`bpfman detach {link}` first, or load the program once more"
            )),
            Self::NotInKernel { near, source, .. } => Some(match (near, &**source) {
                (Some(near), _) => format!("did you mean `{near}`?"),
                (None, KernelError::NoTracepoint { .. }) => {
                    "`ls /sys/kernel/tracing/events/*` lists the tracepoints there are".to_owned()
                }
                (None, _) => "/proc/kallsyms lists the functions there are; some are inlined wherever they are called".to_owned(),
            }),
            Self::Kernel {
                source: KernelError::NoTracing { .. },
                ..
            } => Some(
                "fentry and fexit programs need kernel 5.5 or newer with BPF trampolines, and no lockdown; a kprobe \
                 (or, in lockdown, a tracepoint) may do instead"
                    .to_owned(),
            ),
            Self::Kernel {
                source: KernelError::Probe(error),
                ..
            } => error.hint(),
            _ => None,
        }
    }
}

/// What names every difference and mends most.
const DOCTOR: &str = "`bpfman doctor` names what is wrong, `bpfman doctor --repair` mends it";

/// What to do about lock, journal and records.
fn hint_of_state(error: &StateError) -> Option<String> {
    match error {
        StateError::Locked { .. } => Some(
            "raise max_retries or millisec_delay under [database] in the configuration".to_owned(),
        ),
        StateError::Journal { path, .. } => Some(format!(
            "`bpfman doctor --repair` sets {} aside and mends what the command left",
            path.display()
        )),
        StateError::Record { path, .. } => Some(format!(
            "written by another version of bpfman? Use that one, or move {} away, then `bpfman doctor --repair` removes \
             what it was of",
            path.display()
        )),
        StateError::Owner { .. } | StateError::Untrusted { .. } => Some(
            "use a runtime folder that belongs to root and that nobody else may write to"
                .to_owned(),
        ),
        StateError::Io { source, path, .. }
            if matches!(
                source.kind(),
                std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded
            ) =>
        {
            Some(format!(
                "make room on the file system of {}: what is loaded can still be detached and unloaded",
                path.display()
            ))
        }
        _ => None,
    }
}

/// What commands for an interface begin with.
pub(crate) fn within(place: &HookPlace) -> String {
    place.netns.as_ref().map_or_else(String::new, |path| {
        format!("nsenter --net={} ", quoted(&path.display().to_string()))
    })
}

/// A word as a shell takes it.
pub(crate) fn quoted(word: &str) -> Cow<'_, str> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-+:@%,=".contains(&byte);
    if !word.is_empty() && word.bytes().all(plain) {
        return Cow::Borrowed(word);
    }
    Cow::Owned(format!("'{}'", word.replace('\'', "'\\''")))
}

/// What to do where the kernel refuses for want of a resource, whatever was being done.
fn hint_of_resources(error: &LoaderError) -> Option<&'static str> {
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(code) = error
            .downcast_ref::<io::Error>()
            .and_then(io::Error::raw_os_error)
        {
            return match code {
                libc::EMFILE => Some(
                    "this process may open too few files: raise its limit (`ulimit -n`, LimitNOFILE=)",
                ),
                libc::ENFILE => Some(
                    "the host has too many open files: raise fs.file-max, or end what holds them",
                ),
                libc::ENOMEM => Some(
                    "the host, the cgroup (memory.max) or a limit of the process (`ulimit -v`, `ulimit -l`) leaves too little memory",
                ),
                _ => None,
            };
        }
        cause = error.source();
    }
    None
}

/// What to do about a file that is no object to be loaded.
fn hint_of_object(error: &ObjectError) -> Option<String> {
    let hint = match error {
        ObjectError::NotElf | ObjectError::NotBpf { .. } => {
            "name an object file that was compiled for eBPF: `clang -target bpf -O2 -g -c prog.c -o prog.o`"
        }
        ObjectError::NotRelocatable { .. } => {
            "name the object as the compiler wrote it (`clang -target bpf -c`), before any linking"
        }
        ObjectError::Empty | ObjectError::Damaged { .. } => {
            "compile it again, or fetch it again: the file is not whole"
        }
        ObjectError::NoProgram => {
            "put each program into a section that says its type, as in SEC(\"xdp\")"
        }
        _ => return None,
    };
    Some(hint.to_owned())
}

/// What to do about a refusal that says so itself.
fn hint_of(error: &KernelError) -> Option<String> {
    match error {
        KernelError::ProgramRefused {
            need: None, source, ..
        } if source.raw_os_error() == Some(libc::EPERM) => Some(
            "a capability is missing, or lockdown or a security module refuses it: the kernel's log (`dmesg`) may say which"
                .to_owned(),
        ),
        KernelError::MapRefused { need, .. } | KernelError::ProgramRefused { need, .. } => {
            need.as_ref().map(ToString::to_string)
        }
        KernelError::Rejected { log, .. } => Some(
            advice(log)
                .unwrap_or("the verifier's last lines say where")
                .to_owned(),
        ),
        KernelError::MissingType { .. } => Some(
            "guard it with bpf_core_field_exists(), bpf_core_type_exists() or bpf_core_enum_value_exists(), or use a kernel that has it"
                .to_owned(),
        ),
        KernelError::Object { source } => hint_of_object(source),
        KernelError::NoInterface {
            near: Some(near), ..
        } => Some(format!("did you mean `{near}`?")),
        KernelError::NoInterface { near: None, .. } => Some(
            "`ip link` lists the interfaces there are; --netns names another network namespace"
                .to_owned(),
        ),
        KernelError::NoTrafficControl { option, module, .. } => Some(format!(
            "load its module, `modprobe {module}`, or use a kernel built with {option}; TCX (kernel 6.6) needs neither"
        )),
        KernelError::Global(GlobalError::Unknown {
            near: Some(near), ..
        }) => Some(format!("did you mean `{near}`?")),
        KernelError::MapMismatch { map, .. } => Some(format!(
            "give map `{map}` another name in one of the objects, or make the two alike"
        )),
        KernelError::PrivateMounts { .. } => Some(
            "run it without `ip netns exec` (attach has --netns) or PrivateMounts, or load something outside of it first, which mounts it for all"
                .to_owned(),
        ),
        KernelError::ModuleFunction { .. } => Some(
            "write it as a kprobe, which reaches functions of modules: SEC(\"kprobe\")".to_owned(),
        ),
        KernelError::Full { .. } => Some(
            "detach one of them first: `bpfman list links`, `bpftool net show` and `bpftool link` show them"
                .to_owned(),
        ),
        KernelError::TooManyInstructions { .. } => Some(
            "split the program: tail calls and global functions are verified one by one".to_owned(),
        ),
        KernelError::NoTracefs => {
            Some("mount it: mount -t tracefs tracefs /sys/kernel/tracing".to_owned())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_that_cannot_be_loaded_have_a_hint() {
        let object = |source| LoaderError::Object {
            from: "prog.o".to_owned(),
            source,
        };
        let x86 = || ObjectError::NotBpf {
            found: "x86-64".to_owned(),
        };
        let cases = [
            (ObjectError::NotElf, "clang -target bpf"),
            (x86(), "clang -target bpf"),
            (
                ObjectError::NotRelocatable {
                    found: "ET_EXEC".to_owned(),
                },
                "before any linking",
            ),
            (ObjectError::Empty, "again"),
            (ObjectError::NoProgram, "SEC(\"xdp\")"),
        ];
        for (source, expected) in cases {
            let hint = object(source).hint().unwrap();
            assert!(hint.contains(expected), "{hint}");
        }
        let source = KernelError::Object { source: x86() };
        let what = "loading prog.o".to_owned();
        let hint = LoaderError::Kernel { what, source }.hint();
        assert_eq!(hint, object(x86()).hint());
    }

    #[test]
    fn commands_are_for_the_namespace_of_the_interface() {
        let foreign = |netns: Option<&str>| LoaderError::ForeignXdp {
            id: 7,
            place: Box::new(HookPlace {
                iface: "eth0".to_owned(),
                direction: None,
                netns: netns.map(Into::into),
            }),
            foreign: 8,
            mode: XdpMode::Skb,
        };
        let hint = foreign(None).hint().unwrap();
        assert!(
            hint.contains("`ip link set dev eth0 xdpgeneric off`"),
            "{hint}"
        );
        let hint = foreign(Some("/run/netns/blue")).hint().unwrap();
        let command = "`nsenter --net=/run/netns/blue ip link set dev eth0 xdpgeneric off`";
        assert!(hint.contains(command), "{hint}");
    }

    #[test]
    fn want_of_a_resource_has_a_hint_of_its_own() {
        let source = |code| io::Error::from_raw_os_error(code);
        let refused = |source| KernelError::ProgramRefused {
            function: "pass".to_owned(),
            need: None,
            source,
        };
        let namespace = |source| KernelError::NoNamespace {
            path: "/run/netns/blue".into(),
            source,
        };
        for (error, expected) in [
            (refused(source(libc::EMFILE)), "ulimit -n"),
            (refused(source(libc::ENFILE)), "fs.file-max"),
            (refused(source(libc::ENOMEM)), "memory"),
            (namespace(source(libc::EMFILE)), "ulimit -n"),
            (namespace(source(libc::ENOENT)), "/run/netns/<name>"),
        ] {
            let error = LoaderError::Kernel {
                what: "loading prog.o".to_owned(),
                source: error,
            };
            let hint = error.hint().unwrap();
            assert!(hint.contains(expected), "{hint}");
        }
    }

    #[test]
    fn no_hint_leads_to_the_same_refusal() {
        let refused = |mode| LoaderError::ModeRefused {
            id: 7,
            place: Box::new(HookPlace {
                iface: "eth0".to_owned(),
                direction: None,
                netns: None,
            }),
            mode,
            source: KernelError::NoTracefs,
        };
        assert_eq!(refused("skb").hint(), None);
        assert!(refused("drv").hint().unwrap().contains("--mode skb"));
        let mismatch = |fits| LoaderError::TypeMismatch {
            from: "prog.o".to_owned(),
            function: "f".to_owned(),
            asked: ProgramType::Xdp,
            section: "s".to_owned(),
            fits,
        };
        let hint = mismatch(vec![ProgramType::Fentry]).hint().unwrap();
        assert!(hint.contains("`fentry:f:<kernel function>`"), "{hint}");
        assert_eq!(mismatch(Vec::new()).hint(), None);
    }

    #[test]
    fn words_are_quoted_for_a_shell_where_they_have_to_be() {
        for (word, expected) in [
            ("eth0", "eth0"),
            ("/run/netns/blue", "/run/netns/blue"),
            ("a b", "'a b'"),
            ("a;reboot", "'a;reboot'"),
            ("it's", "'it'\\''s'"),
            ("", "''"),
        ] {
            assert_eq!(quoted(word), expected);
        }
    }
}
