//! XDP return codes as the words of `--proceed-on`.

use crate::{LoaderError, ProceedOn};

/// Word and bit of every action, in the kernel's order of their codes (`enum xdp_action`; 31 is libxdp's
/// `XDP_DISPATCHER_RETVAL`, what an empty slot returns).
const ACTIONS: [(&str, u32); 6] = [
    ("aborted", 1 << 0),
    ("drop", 1 << 1),
    ("pass", 1 << 2),
    ("tx", 1 << 3),
    ("redirect", 1 << 4),
    ("dispatcher_return", 1 << 31),
];

/// `pass, dispatcher_return`.
const DEFAULT: u32 = (1 << 2) | (1 << 31);

/// The mask of a request.
pub(crate) fn mask(proceed_on: Option<&ProceedOn>) -> Result<u32, LoaderError> {
    let Some(ProceedOn(words)) = proceed_on else {
        return Ok(DEFAULT);
    };
    words.iter().try_fold(0, |mask, word| {
        let action = ACTIONS.iter().find(|(name, _)| name == word);
        action
            .map(|(_, bit)| mask | bit)
            .ok_or_else(|| LoaderError::ProceedOn {
                word: word.clone(),
                expected: ACTIONS.map(|(name, _)| name).to_vec(),
            })
    })
}

/// The words of a mask.
pub(crate) fn words(mask: u32) -> Vec<String> {
    let set = ACTIONS.iter().filter(|(_, bit)| mask & bit != 0);
    set.map(|(name, _)| (*name).to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_are_those_of_the_kernels_codes() {
        let cases: [(&[&str], u32); 7] = [
            (&["aborted"], 0x1),
            (&["drop"], 0x2),
            (&["pass"], 0x4),
            (&["tx"], 0x8),
            (&["redirect"], 0x10),
            (&["dispatcher_return"], 0x8000_0000),
            (&["pass", "drop", "pass"], 0x6),
        ];
        for (asked, expected) in cases {
            let request = ProceedOn(asked.iter().map(|word| (*word).to_owned()).collect());
            assert_eq!(mask(Some(&request)).unwrap(), expected, "{asked:?}");
        }
        assert_eq!(mask(None).unwrap(), 0x8000_0004);
    }

    #[test]
    fn words_come_back_in_the_kernels_order() {
        let request = ProceedOn(vec!["dispatcher_return".into(), "tx".into(), "drop".into()]);
        assert_eq!(
            words(mask(Some(&request)).unwrap()),
            ["drop", "tx", "dispatcher_return"]
        );
    }

    #[test]
    fn an_unknown_word_is_named() {
        let error = mask(Some(&ProceedOn(vec!["pass".into(), "ok".into()]))).unwrap_err();
        assert_eq!(
            error.to_string(),
            "`ok` is no XDP action: expected aborted, drop, pass, tx, redirect, dispatcher_return"
        );
    }
}
