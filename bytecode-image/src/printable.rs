//! Texts that nobody vouches for, made fit for a message: a terminal obeys control characters.

use crate::redact::redact;

/// At most this many characters of a text, without control characters and secrets. A secret is removed first: its
/// beginning would be no secret that is known.
pub(crate) fn printable(text: &str, limit: usize) -> String {
    redact(text)
        .chars()
        .filter(|c| !c.is_control())
        .take(limit)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shortened_and_without_control_characters() {
        assert_eq!(printable("a\u{1b}[2J\nb\u{9b}c", 80), "a[2Jbc");
        assert_eq!(printable("äöü", 2), "äö");
    }
}
