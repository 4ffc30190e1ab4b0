//! Why a kernel cannot give what an object asks for.

use std::fmt;
use std::io;

use crate::object::kconfig::ConfigValueError;

/// What a kernel needs for something that it refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// A newer version.
    Kernel {
        /// Major and minor number of the first that has it.
        needed: (u32, u32),
        /// Of the one that runs.
        running: (u32, u32),
    },
    /// An option of its configuration.
    Option {
        /// Its name, `CONFIG_…`.
        option: &'static str,
    },
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kernel { needed, running } => write!(
                f,
                "it needs kernel {}.{} or newer, this one is {}.{}",
                needed.0, needed.1, running.0, running.1
            ),
            Self::Option { option } => write!(
                f,
                "it needs a kernel built with {option}: see /boot/config-$(uname -r) or /proc/config.gz"
            ),
        }
    }
}

/// Why an extern of an object (`__kconfig`, `__ksym`) cannot be filled in.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExternError {
    /// Without BTF nothing says what it is.
    #[error("the object's BTF does not say what it is: compile with -g")]
    NoType,
    /// The configuration cannot be read.
    #[error(
        "reading the kernel's configuration (/boot/config-<release>, /proc/config.gz): {source}"
    )]
    NoConfiguration {
        /// Why not.
        source: io::Error,
    },
    /// An option that is not set.
    #[error("the kernel's configuration does not set it")]
    NotConfigured,
    /// A name that is no option, and none of those that loaders make up.
    #[error(
        "it is neither CONFIG_… nor LINUX_KERNEL_VERSION, LINUX_HAS_BPF_COOKIE or LINUX_HAS_SYSCALL_WRAPPER"
    )]
    NoSuchConfiguration,
    /// An option with a value of another kind than the program declares.
    #[error("{source}")]
    Value {
        /// How they differ.
        source: ConfigValueError,
    },
    /// No such symbol.
    #[error("/proc/kallsyms has no symbol of that name")]
    NoSymbol,
    /// Addresses are not shown.
    #[error("/proc/kallsyms hides addresses (kernel.kptr_restrict)")]
    HiddenAddress,
    /// No such variable in BTF.
    #[error("the kernel's BTF has no variable of that name (those of modules are not looked up)")]
    NoVariable,
    /// No such kfunc.
    #[error(
        "this kernel has no function of that name for programs (kfunc); those of modules are not looked up"
    )]
    NoFunction,
}

/// What to do about a verifier's log, for the refusals that are not about the program's own logic.
pub(crate) fn advice(log: &str) -> Option<&'static str> {
    let table = [
        (
            "GPL-restricted function from non-GPL",
            "give the object a licence that the kernel takes for GPL: char _license[] SEC(\"license\") = \"GPL\"",
        ),
        (
            "cannot call GPL",
            "give the object a licence that the kernel takes for GPL: char _license[] SEC(\"license\") = \"GPL\"",
        ),
        (
            // A weak kfunc that was not found (libbpf's number, too).
            "#20020000",
            "it calls a weak function of the kernel that this kernel does not have: guard it with bpf_ksym_exists()",
        ),
        (
            // A CO-RE relocation that found nothing.
            "#195896080",
            "it uses a type or member that this kernel does not have: guard it with bpf_core_field_exists() or bpf_core_type_exists()",
        ),
        (
            "failed to find the address for kernel symbol",
            "the program reads a variable of the kernel, whose address is known only to a kernel built with CONFIG_KALLSYMS_ALL",
        ),
        (
            "unknown func",
            "this kernel does not have that helper, or not for programs of this type: a newer kernel may",
        ),
        (
            "invalid func",
            "this kernel does not have that helper, or not for programs of this type: a newer kernel may",
        ),
        (
            "BPF program is too large",
            "the verifier looks at a million instructions at most: bound its loops, or split it by tail calls or global functions",
        ),
        (
            // map_value_or_null and its like (kernel/bpf/verifier.c, reg_type_str).
            "_or_null'",
            "a pointer that may be NULL is used: compare it with NULL first",
        ),
        (
            "is not supported for prog type",
            "programs of this type may not do that on this kernel",
        ),
    ];
    let found = table.iter().find(|(text, _)| log.contains(text));
    found.map(|(_, advice)| *advice)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_logs_have_advice() {
        let cases = [
            (
                "0: (85) call unknown#195896080\ninvalid func unknown#195896080\n",
                Some("bpf_core_field_exists"),
            ),
            ("invalid func unknown#2002000000\n", Some("bpf_ksym_exists")),
            (
                "program of this type cannot use helper bpf_x#7: unknown func bpf_x#7\n",
                Some("newer kernel"),
            ),
            (
                "cannot call GPL-restricted function from non-GPL compatible program\n",
                Some("licence"),
            ),
            (
                "R0 invalid mem access 'map_value_or_null'\n",
                Some("compare it with NULL"),
            ),
            ("R0 invalid mem access 'scalar'\n", None),
        ];
        for (log, expected) in cases {
            let found = advice(log);
            assert_eq!(found.is_some(), expected.is_some(), "{log}");
            if let (Some(found), Some(expected)) = (found, expected) {
                assert!(found.contains(expected), "{log}: {found}");
            }
        }
        let need = Need::Kernel {
            needed: (6, 9),
            running: (6, 1),
        };
        assert_eq!(
            need.to_string(),
            "it needs kernel 6.9 or newer, this one is 6.1"
        );
    }
}
