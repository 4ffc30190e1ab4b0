//! What to do about an error.

use super::LoaderError;
use crate::TcDirection;
use crate::globals::GlobalError;
use crate::kernel::{KernelError, advice};
use crate::state::StateError;

impl LoaderError {
    /// What to do about it, where that is known: one sentence.
    pub fn hint(&self) -> Option<String> {
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
            Self::ByteOrder { .. } => {
                Some("load the object that was compiled for this host".to_owned())
            }
            Self::FunctionNotFound { near, .. } => {
                near.as_ref().map(|name| format!("did you mean `{name}`?"))
            }
            Self::TypeMismatch { function, fits, .. } => fits
                .first()
                .map(|kind| format!("ask for `{kind}:{function}`")),
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
            Self::ForeignXdp { place, foreign, .. } => Some(format!(
                "see `bpftool prog show id {foreign}` and detach it with the tool that attached it, \
                 or with `ip link set dev {} xdp off`",
                place.iface
            )),
            Self::ForeignQdisc { place, kind, .. } => Some(format!(
                "remove it with the tool that made it, or with `tc qdisc del dev {} {kind}`; TCX needs no qdisc",
                place.iface
            )),
            Self::ForeignFilter {
                place, preference, ..
            } => Some(format!(
                "move them to another preference: `tc filter show dev {} {} pref {preference}`",
                place.iface,
                place.direction.map_or("", TcDirection::as_str)
            )),
            Self::TcxTwice { .. } | Self::TracepointTwice { .. } => Some(
                "load it once more to run it twice: each load is a program of its own".to_owned(),
            ),
            Self::FilterGone { .. } => Some("attach again".to_owned()),
            Self::NoChain { holder, .. } => Some(format!(
                "detach program {holder} first; several programs on one interface need a kernel with EXT programs: \
                 not in lockdown, 5.10 or newer, with BPF trampolines and the JIT (net.core.bpf_jit_enable); reload both programs there"
            )),
            Self::ModeDiffers { .. } => {
                Some("leave --mode out, or detach the programs that are there first".to_owned())
            }
            Self::ModeRefused { .. } => Some("try --mode skb, or leave --mode out".to_owned()),
            Self::Recovery { .. } | Self::InTheWay { .. } => Some(DOCTOR.to_owned()),
            Self::State(error) => hint_of_state(error),
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
        StateError::Database { path, .. } => Some(format!(
            "a disk that is full? Where the database is damaged: move {} away, then `bpfman doctor --repair` removes what \
             was loaded and attached",
            path.display()
        )),
        StateError::Record { path, .. } | StateError::Key { path, .. } => Some(format!(
            "written by another version of bpfman? Use that one, or move {} away, then `bpfman doctor --repair` removes \
             what was loaded and attached",
            path.display()
        )),
        _ => None,
    }
}

/// What to do about a refusal that says so itself.
fn hint_of(error: &KernelError) -> Option<String> {
    match error {
        KernelError::MapRefused { need, .. } | KernelError::ProgramRefused { need, .. } => {
            need.as_ref().map(ToString::to_string)
        }
        KernelError::Rejected { log, .. } => advice(log).map(str::to_owned),
        KernelError::Global(GlobalError::Unknown {
            near: Some(near), ..
        }) => Some(format!("did you mean `{near}`?")),
        KernelError::MapMismatch { map, .. } => Some(format!(
            "give map `{map}` another name in one of the objects, or make the two alike"
        )),
        KernelError::NoTracefs => {
            Some("mount it: mount -t tracefs tracefs /sys/kernel/tracing".to_owned())
        }
        _ => None,
    }
}
