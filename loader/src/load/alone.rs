//! Programs that the kernel takes by themselves and not as members of a chain.

use bytecode_object::ProgramType;
use log::warn;

use super::COMPAT_TEST;
use crate::kernel::{KernelError, LoadAs, ProgramSpec};

/// The program that the verifier refused as a member of a chain, with its log.
pub(super) fn refused_member<'e, H>(
    error: &'e KernelError,
    programs: &[ProgramSpec<'_, H>],
) -> Option<(&'e str, ProgramType, &'e str)> {
    let KernelError::Rejected { function, log, .. } = error else {
        return None;
    };
    let mut programs = programs.iter();
    let program = programs.find(|program| program.function == function)?;
    matches!(program.load_as, LoadAs::Extension { .. }).then_some((
        function,
        program.program_type,
        log,
    ))
}

pub(super) fn warn_alone(function: &str, program_type: ProgramType, reason: &str) {
    let hook = match program_type {
        ProgramType::Xdp => "an interface",
        _ => "one direction of an interface",
    };
    warn!(
        "program `{function}` cannot be a member of a chain: {reason}; it is loaded without a dispatcher and can only be \
         attached alone to {hook}"
    );
}

/// Why the verifier refuses a program as a member, without the names of our dispatcher's functions.
pub(super) fn reason(log: &str) -> String {
    let ours = |line: &str| line.contains(COMPAT_TEST);
    // The last line of a log is a summary, and the reason stands before it.
    let mut lines = log.lines().rev().map(str::trim);
    let found = lines.find(|line| !line.is_empty() && !line.starts_with("processed "));
    match found {
        Some(line) if !ours(line) => format!("the verifier refuses it as one ({line})"),
        _ => "the verifier does not accept its signature".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reason_never_has_the_words_about_our_dispatcher() {
        let cases = [
            (
                "arg0 f() has 0 args while compat_test() has 1 args\nprocessed 0 insns (limit 1000000)\n",
                "the verifier does not accept its signature",
            ),
            ("", "the verifier does not accept its signature"),
            (
                "0: R1=ctx()\nExtension program changes packet data, while original does not\nprocessed 3 insns\n",
                "the verifier refuses it as one (Extension program changes packet data, while original does not)",
            ),
        ];
        for (log, expected) in cases {
            assert_eq!(reason(log), expected);
        }
    }
}
