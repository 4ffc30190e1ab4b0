//! Text of others (labels, answers of registries, names of programs, files and interfaces) made fit for a terminal.
//!
//! A terminal obeys control characters, and shows text with characters for the direction of writing, or of no width, as
//! something else than it is. The one list of them is here.

use std::borrow::Cow;

use crate::redact::redact;

/// Characters that are not shown as themselves: general categories Cc, Cf, Zl and Zp, and the rest of
/// `Default_Ignorable_Code_Point` (Unicode 16, DerivedCoreProperties.txt). Sorted.
const HIDDEN: [(char, char); 31] = [
    // Controls: C0, DEL and C1.
    ('\u{0}', '\u{1f}'),
    ('\u{7f}', '\u{9f}'),
    ('\u{ad}', '\u{ad}'),
    ('\u{34f}', '\u{34f}'),
    ('\u{600}', '\u{605}'),
    ('\u{61c}', '\u{61c}'),
    ('\u{6dd}', '\u{6dd}'),
    ('\u{70f}', '\u{70f}'),
    ('\u{890}', '\u{891}'),
    ('\u{8e2}', '\u{8e2}'),
    ('\u{115f}', '\u{1160}'),
    ('\u{17b4}', '\u{17b5}'),
    ('\u{180b}', '\u{180f}'),
    // Zero-width, and marks of direction.
    ('\u{200b}', '\u{200f}'),
    // Separators of lines and paragraphs; embeddings and overrides of direction.
    ('\u{2028}', '\u{202e}'),
    // Word joiner, invisible operators, isolates of direction.
    ('\u{2060}', '\u{206f}'),
    ('\u{3164}', '\u{3164}'),
    ('\u{fe00}', '\u{fe0f}'),
    ('\u{feff}', '\u{feff}'),
    ('\u{ffa0}', '\u{ffa0}'),
    ('\u{fff0}', '\u{fffb}'),
    ('\u{110bd}', '\u{110bd}'),
    ('\u{110cd}', '\u{110cd}'),
    ('\u{13430}', '\u{1343f}'),
    ('\u{1bca0}', '\u{1bca3}'),
    ('\u{1d173}', '\u{1d17a}'),
    ('\u{e0000}', '\u{e0fff}'),
    // Not characters, which some terminals end at.
    ('\u{fdd0}', '\u{fdef}'),
    ('\u{fffe}', '\u{ffff}'),
    ('\u{1fffe}', '\u{1ffff}'),
    ('\u{10fffe}', '\u{10ffff}'),
];

/// Whether a terminal would obey a character or not show it as itself.
pub fn is_hidden(c: char) -> bool {
    // Most text is of these.
    if matches!(c, ' '..='~') {
        return false;
    }
    HIDDEN
        .iter()
        .any(|(first, last)| (*first..=*last).contains(&c))
}

/// A text with such characters written as `\n`, `\t` or `\u{202e}`.
pub fn escaped(text: &str) -> Cow<'_, str> {
    escaped_but(text, &[])
}

/// As [`escaped`], for text of several lines, whose ends and tabs stay.
pub fn escaped_lines(text: &str) -> Cow<'_, str> {
    escaped_but(text, &['\n', '\t'])
}

fn escaped_but<'a>(text: &'a str, kept: &[char]) -> Cow<'a, str> {
    let escape = |c: char| is_hidden(c) && !kept.contains(&c);
    if !text.chars().any(escape) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if escape(c) {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    Cow::Owned(out)
}

/// JSON of the same value in which such characters are `\u009b`: outside of strings it has none but the ends of lines.
pub fn escaped_json(text: &str) -> Cow<'_, str> {
    let escape = |c: char| is_hidden(c) && c != '\n';
    if !text.chars().any(escape) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    let mut units = [0_u16; 2];
    for c in text.chars() {
        if escape(c) {
            for unit in c.encode_utf16(&mut units) {
                out.push_str(&format!("\\u{unit:04x}"));
            }
        } else {
            out.push(c);
        }
    }
    Cow::Owned(out)
}

/// At most this many characters of a text, without such characters and without secrets. A secret is removed first: its
/// beginning would be no secret that is known.
pub(crate) fn printable(text: &str, limit: usize) -> String {
    redact(text)
        .chars()
        .filter(|c| !is_hidden(*c))
        .take(limit)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One of each kind that a terminal may obey, or not show.
    const BAD: [char; 16] = [
        '\u{0}',
        '\u{1b}',
        '\u{7f}',
        '\u{85}',
        '\u{9b}',
        '\u{ad}',
        '\u{61c}',
        '\u{200b}',
        '\u{200e}',
        '\u{2028}',
        '\u{202e}',
        '\u{2066}',
        '\u{feff}',
        '\u{fff9}',
        '\u{e0041}',
        '\u{e01ef}',
    ];

    #[test]
    fn what_is_not_shown_as_itself_is_escaped() {
        for c in BAD {
            let text = format!("a{c}b");
            let shown = escaped(&text);
            assert_eq!(shown, format!("a{}b", c.escape_default()), "{c:?}");
            assert!(!shown.chars().any(is_hidden), "{c:?}");
        }
        assert_eq!(escaped("a\u{1b}[31mb\nc\té"), "a\\u{1b}[31mb\\nc\\té");
        assert_eq!(escaped_lines("a\n\tb\r\u{9b}\n"), "a\n\tb\\r\\u{9b}\n");
    }

    #[test]
    fn what_is_shown_stays() {
        for text in ["eth0", "äöü é", "日本語", "Ω ≤ …", "עברית", "🦀"] {
            assert!(matches!(escaped(text), Cow::Borrowed(_)), "{text}");
            assert!(matches!(escaped_json(text), Cow::Borrowed(_)), "{text}");
        }
    }

    #[test]
    fn json_keeps_its_value() {
        let value: String = BAD.iter().chain(&['"', '\\', '\n', 'é']).collect();
        let value = serde_json::json!({ "name": value, "list": [value] });
        let text = serde_json::to_string_pretty(&value).unwrap();
        let shown = escaped_json(&text);
        assert!(!shown.chars().any(|c| is_hidden(c) && c != '\n'), "{shown}");
        let parsed: serde_json::Value = serde_json::from_str(&shown).unwrap();
        assert_eq!(parsed, value);
    }

    #[test]
    fn shortened_and_without_hidden_characters() {
        assert_eq!(printable("a\u{1b}[2J\nb\u{9b}\u{202e}c", 80), "a[2Jbc");
        assert_eq!(printable("äöü", 2), "äö");
    }
}
