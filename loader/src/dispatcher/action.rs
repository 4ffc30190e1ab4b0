//! Return codes of the programs of a chain, as the words of `--proceed-on`.

use crate::object::Results;
use crate::state::Hook;
use crate::{LoaderError, ProceedOn};

/// Word and bit of every action, in the kernel's order of their codes (`enum xdp_action`; 31 is libxdp's
/// `XDP_DISPATCHER_RETVAL`, what an empty slot returns). The bit is `1 << code`.
const XDP: Actions = Actions {
    family: "XDP",
    words: &[
        ("aborted", 1 << 0),
        ("drop", 1 << 1),
        ("pass", 1 << 2),
        ("tx", 1 << 3),
        ("redirect", 1 << 4),
        ("dispatcher_return", 1 << 31),
    ],
    default: (1 << 2) | (1 << 31),
    first: 0,
    end: 1 << 2,
};

/// `TC_ACT_*` of linux/pkt_cls.h; 30 is what an empty slot of our dispatcher returns. They begin with -1, so the bit is
/// `1 << (code + 1)`.
const TC: Actions = Actions {
    family: "TC",
    words: &[
        ("unspec", 1 << 0),
        ("ok", 1 << 1),
        ("reclassify", 1 << 2),
        ("shot", 1 << 3),
        ("pipe", 1 << 4),
        ("stolen", 1 << 5),
        ("queued", 1 << 6),
        ("repeat", 1 << 7),
        ("redirect", 1 << 8),
        ("trap", 1 << 9),
        ("dispatcher_return", 1 << 31),
    ],
    default: (1 << 1) | (1 << 4) | (1 << 31),
    first: -1,
    end: 1 << 1,
};

struct Actions {
    family: &'static str,
    words: &'static [(&'static str, u32)],
    default: u32,
    /// Code of the lowest bit.
    first: i32,
    /// What a dispatcher returns at the end of its chain (`pass`, `ok`).
    end: u32,
}

/// Those of a hook; TCX programs have them, but no mask.
const fn of(hook: Hook) -> &'static Actions {
    match hook {
        Hook::Xdp => &XDP,
        Hook::Tc(_) | Hook::Tcx(_) => &TC,
    }
}

/// The mask of a request.
pub(crate) fn mask(hook: Hook, proceed_on: Option<&ProceedOn>) -> Result<u32, LoaderError> {
    let actions = of(hook);
    let Some(ProceedOn(words)) = proceed_on else {
        return Ok(actions.default);
    };
    words.iter().try_fold(0, |mask, word| {
        let action = actions.words.iter().find(|(name, _)| name == word);
        action
            .map(|(_, bit)| mask | bit)
            .ok_or_else(|| LoaderError::ProceedOn {
                word: word.clone(),
                family: actions.family,
                expected: actions.words.iter().map(|(name, _)| *name).collect(),
            })
    })
}

/// Mask of the actions that a program cannot return.
pub(crate) fn never(hook: Hook, results: Results) -> u32 {
    let codes = (of(hook).first..).zip(0..u32::BITS);
    let never = codes.filter(|(code, _)| !results.may_be(*code));
    never.fold(0, |mask, (_, bit)| mask | (1 << bit))
}

/// Whether what a program returns is what comes out of a chain of it alone: after no action of the mask does the chain
/// go on to its end, except after the one that it ends with.
pub(crate) fn is_final(hook: Hook, proceed_on: u32, never: u32) -> bool {
    proceed_on & !never & !of(hook).end == 0
}

/// The words of a mask.
pub(crate) fn words(hook: Hook, mask: u32) -> Vec<String> {
    let set = of(hook).words.iter().filter(|(_, bit)| mask & bit != 0);
    set.map(|(name, _)| (*name).to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TcDirection;

    const TC: Hook = Hook::Tc(TcDirection::Egress);

    fn request(words: &[&str]) -> ProceedOn {
        ProceedOn(words.iter().map(|word| (*word).to_owned()).collect())
    }

    #[test]
    fn masks_are_those_of_the_kernels_codes() {
        let cases: [(Hook, &[&str], u32); 18] = [
            (Hook::Xdp, &["aborted"], 0x1),
            (Hook::Xdp, &["drop"], 0x2),
            (Hook::Xdp, &["pass"], 0x4),
            (Hook::Xdp, &["tx"], 0x8),
            (Hook::Xdp, &["redirect"], 0x10),
            (Hook::Xdp, &["dispatcher_return"], 0x8000_0000),
            (Hook::Xdp, &["pass", "drop", "pass"], 0x6),
            (TC, &["unspec"], 0x1),
            (TC, &["ok"], 0x2),
            (TC, &["reclassify"], 0x4),
            (TC, &["shot"], 0x8),
            (TC, &["pipe"], 0x10),
            (TC, &["stolen"], 0x20),
            (TC, &["queued"], 0x40),
            (TC, &["repeat"], 0x80),
            (TC, &["redirect"], 0x100),
            (TC, &["trap"], 0x200),
            (TC, &["dispatcher_return", "ok"], 0x8000_0002),
        ];
        for (hook, asked, expected) in cases {
            let found = mask(hook, Some(&request(asked))).unwrap();
            assert_eq!(found, expected, "{hook:?} {asked:?}");
        }
        assert_eq!(mask(Hook::Xdp, None).unwrap(), 0x8000_0004);
        assert_eq!(mask(TC, None).unwrap(), 0x8000_0012);
    }

    #[test]
    fn words_come_back_in_the_kernels_order() {
        let cases: [(Hook, &[&str], &[&str]); 2] = [
            (
                Hook::Xdp,
                &["dispatcher_return", "tx", "drop"],
                &["drop", "tx", "dispatcher_return"],
            ),
            (TC, &["trap", "ok", "unspec"], &["unspec", "ok", "trap"]),
        ];
        for (hook, asked, expected) in cases {
            assert_eq!(
                words(hook, mask(hook, Some(&request(asked))).unwrap()),
                expected
            );
        }
    }

    #[test]
    fn what_is_never_returned_has_the_same_bits() {
        for (hook, result, expected) in [
            (Hook::Xdp, 0, 0x1),
            (Hook::Xdp, 2, 0x4),
            (Hook::Xdp, 31, 0x8000_0000),
            (Hook::Xdp, -1, 0),
            (Hook::Xdp, 32, 0),
            (TC, -1, 0x1),
            (TC, 0, 0x2),
            (TC, 30, 0x8000_0000),
            (TC, 31, 0),
            (TC, -2, 0),
        ] {
            let found = never(hook, Results::one(result));
            assert_eq!(!found, expected, "{hook:?} {result}");
        }
        assert_eq!(never(TC, Results::ANY), 0);
    }

    #[test]
    fn an_unknown_word_is_named() {
        let error = mask(Hook::Xdp, Some(&request(&["pass", "ok"]))).unwrap_err();
        assert_eq!(
            error.to_string(),
            "`ok` is no XDP action: expected aborted, drop, pass, tx, redirect, dispatcher_return"
        );
        let error = mask(TC, Some(&request(&["pass"]))).unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("`pass` is no TC action: expected unspec, ok, "),
            "{error}"
        );
    }
}
