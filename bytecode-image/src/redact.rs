//! Secrets that this process knows, and their removal from texts that leave it.
//!
//! A server may echo what it was sent, in any form. A secret is found plain, in base64 (also as part of a longer text),
//! in hex, behind percent-encoding (also that of forms), escapes of JSON, Rust and HTML, with white space, control or invisible characters
//! in between, in another case, and cut off.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::{PoisonError, RwLock};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};

/// Stands for a secret.
pub const MARK: &str = "***";

/// Shortest secret that is redacted: below it, every message would lose letters.
const SHORTEST: usize = 3;

/// Secrets below this length are redacted only as whole words.
const WORD: usize = 4;

/// Shortest secret of which parts are redacted, too.
const DIVIDED: usize = 16;

/// Shortest part of a longer secret that is redacted.
const PART: usize = 12;

/// Layers of escapes that are looked through, such as JSON in a percent-encoded query.
const LAYERS: usize = 3;

/// The characters that escapes begin with.
const ESCAPES: [u8; 3] = [b'%', b'\\', b'&'];

static KNOWN: RwLock<Option<Known>> = RwLock::new(None);

/// Every form of every secret.
#[derive(Debug, Default)]
struct Known {
    secrets: HashSet<Vec<u8>>,
    /// Forms by their first bytes, as [`condensed`] gives them.
    forms: HashMap<[u8; WORD], Vec<Vec<u8>>>,
    words: Vec<Vec<u8>>,
    parts: HashSet<[u8; PART]>,
    /// Texts that the user typed, which may contain the letters of a secret.
    public: HashSet<String>,
}

/// Remembers a password or token for the life of the process.
pub fn add(secret: &str) {
    change(|known| known.add(secret.as_bytes()));
}

/// Remembers a user name and its password, also in the form of the Basic scheme.
pub(crate) fn add_login(username: &str, password: &str) {
    if password.is_empty() {
        return;
    }
    change(|known| {
        known.add(password.as_bytes());
        let pair = format!("{username}:{password}");
        known.add(STANDARD_NO_PAD.encode(&pair).as_bytes());
        known.add(URL_SAFE_NO_PAD.encode(&pair).as_bytes());
        known.add(pair.as_bytes());
    });
}

/// Lets a text that the user typed, such as an image's name, be shown whole.
pub fn allow(text: &str) {
    change(|known| {
        known.public.insert(text.to_owned());
    });
}

fn change(edit: impl FnOnce(&mut Known)) {
    let mut known = KNOWN.write().unwrap_or_else(PoisonError::into_inner);
    edit(known.get_or_insert_default());
}

/// The text without the secrets that this process knows, and without the user names and passwords of URLs.
pub fn redact(text: &str) -> Cow<'_, str> {
    let mut found = userinfo(text);
    {
        let known = KNOWN.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = known.as_ref() {
            found.extend(known.find(text));
        }
    }
    if found.is_empty() {
        return Cow::Borrowed(text);
    }
    Cow::Owned(cut(text, found))
}

fn cut(text: &str, mut found: Vec<Range<usize>>) -> String {
    found.sort_by_key(|range| (range.start, range.end));
    let mut out = String::with_capacity(text.len());
    let mut done = 0;
    for range in found {
        if range.start >= done && range.start < range.end {
            out.push_str(text.get(done..range.start).unwrap_or_default());
            out.push_str(MARK);
        }
        done = done.max(range.end);
    }
    out.push_str(text.get(done..).unwrap_or_default());
    out
}

/// User names and passwords of URLs: `https://USER:PASSWORD@host`. A user name alone stays, except for a scheme of the
/// web, where it is a token.
fn userinfo(text: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    for (at, _) in text.match_indices("://") {
        let start = at + 3;
        let rest = text.get(start..).unwrap_or_default();
        let end = rest.find(|c: char| c.is_whitespace() || "/?#\"'`<>".contains(c));
        let authority = rest.get(..end.unwrap_or(rest.len())).unwrap_or_default();
        let Some(length) = authority.rfind('@') else {
            continue;
        };
        let scheme = text.get(..at).unwrap_or_default();
        let web = ["http", "https", "HTTP", "HTTPS"];
        let web = web.iter().any(|web| scheme.ends_with(web));
        if length > 0
            && (web
                || authority
                    .get(..length)
                    .is_some_and(|user| user.contains(':')))
        {
            found.push(start..start + length);
        }
    }
    found
}

impl Known {
    fn add(&mut self, secret: &[u8]) {
        if secret.is_empty() || !self.secrets.insert(secret.to_vec()) {
            return;
        }
        self.form(secret, true);
        if secret.contains(&b' ') {
            // application/x-www-form-urlencoded writes a space as `+`.
            let plus = |byte: &u8| if *byte == b' ' { b'+' } else { *byte };
            self.form(&secret.iter().map(plus).collect::<Vec<_>>(), true);
        }
        let hex: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
        let long = secret.len() >= WORD;
        if long {
            self.form(hex.as_bytes(), false);
        }
        // Where it lies in a longer text, base64 has one of three forms; the characters at the ends depend on
        // its neighbours.
        for before in 0..3_usize {
            let mut padded = vec![0; before];
            padded.extend_from_slice(secret);
            let skipped = (before * 8).div_ceil(6);
            let whole = padded.len() * 8 / 6;
            for engine in [&STANDARD_NO_PAD, &URL_SAFE_NO_PAD] {
                let text = engine.encode(&padded);
                let inner = text.as_bytes().get(skipped..whole).unwrap_or_default();
                // Fewer characters than these are in many texts.
                if inner.len() >= 6 {
                    self.form(inner, false);
                }
            }
        }
    }

    fn form(&mut self, form: &[u8], divided: bool) {
        let form: Vec<u8> = condensed(&bytes_of(form))
            .into_iter()
            .map(|unit| unit.byte)
            .collect();
        if form.len() < SHORTEST {
            return;
        }
        if divided && form.len() >= DIVIDED {
            self.parts.extend(
                form.windows(PART)
                    .filter_map(|part| part.first_chunk::<PART>().copied()),
            );
        }
        match form.first_chunk::<WORD>() {
            None => self.words.push(form),
            Some(first) => self.forms.entry(*first).or_default().push(form),
        }
    }

    /// Where secrets are in a text.
    fn find(&self, text: &str) -> Vec<Range<usize>> {
        let mut found = Vec::new();
        self.find_under(&units_of(text), LAYERS, &mut found);
        if !found.is_empty() {
            let public: Vec<Range<usize>> = self
                .public
                .iter()
                .flat_map(|public| text.match_indices(public.as_str()))
                .map(|(at, public)| at..at + public.len())
                .collect();
            found.retain(|range| {
                !public
                    .iter()
                    .any(|public| public.start <= range.start && range.end <= public.end)
            });
        }
        found
    }

    /// A secret may itself look like an escape, so each kind is taken off alone.
    fn find_under(&self, units: &[Unit], layers: usize, found: &mut Vec<Range<usize>>) {
        self.find_in(&condensed(units), found);
        if layers > 0 {
            for kind in ESCAPES {
                if let Some(inner) = decoded(units, kind) {
                    self.find_under(&inner, layers - 1, found);
                }
            }
        }
    }

    fn find_in(&self, units: &[Unit], found: &mut Vec<Range<usize>>) {
        let bytes: Vec<u8> = units.iter().map(|unit| unit.byte).collect();
        let range = |from: usize, length: usize| {
            let start = units.get(from)?.start;
            let end = units.get((from + length).checked_sub(1)?)?.end;
            Some(start..end)
        };
        for at in 0..bytes.len() {
            let rest = bytes.get(at..).unwrap_or_default();
            if let Some(forms) = rest
                .first_chunk::<WORD>()
                .and_then(|key| self.forms.get(key))
            {
                let fitting = forms.iter().filter(|form| rest.starts_with(form));
                if let Some(longest) = fitting.map(Vec::len).max() {
                    found.extend(range(at, longest));
                }
            }
            if rest
                .first_chunk::<PART>()
                .is_some_and(|part| self.parts.contains(part))
            {
                found.extend(range(at, PART));
            }
            for word in &self.words {
                if rest.starts_with(word) && is_word(units, at, word.len()) {
                    found.extend(range(at, word.len()));
                }
            }
        }
    }
}

/// Whether no letter or digit touches these units.
fn is_word(units: &[Unit], at: usize, length: usize) -> bool {
    let touches = |one: Option<&Unit>, other: Option<&Unit>| match (one, other) {
        (Some(one), Some(other)) => {
            one.end == other.start
                && one.byte.is_ascii_alphanumeric()
                && other.byte.is_ascii_alphanumeric()
        }
        _ => false,
    };
    let before = at.checked_sub(1).and_then(|before| units.get(before));
    let last = units.get(at + length - 1);
    !touches(before, units.get(at)) && !touches(last, units.get(at + length))
}

/// A byte of a text, and the part of the text that it was read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Unit {
    byte: u8,
    start: usize,
    end: usize,
}

fn bytes_of(bytes: &[u8]) -> Vec<Unit> {
    let unit = |(start, byte): (usize, &u8)| Unit {
        byte: *byte,
        start,
        end: start + 1,
    };
    bytes.iter().enumerate().map(unit).collect()
}

/// Bytes that know the whole character that they are of, so that none is cut.
fn units_of(text: &str) -> Vec<Unit> {
    let mut units = Vec::with_capacity(text.len());
    for (start, c) in text.char_indices() {
        let end = start + c.len_utf8();
        let bytes = text.as_bytes().get(start..end).unwrap_or_default();
        units.extend(bytes.iter().map(|byte| Unit {
            byte: *byte,
            start,
            end,
        }));
    }
    units
}

/// In lower case, without white space, control and invisible characters.
fn condensed(units: &[Unit]) -> Vec<Unit> {
    let bytes: Vec<u8> = units.iter().map(|unit| unit.byte).collect();
    let mut out: Vec<Unit> = Vec::with_capacity(units.len());
    let mut taken = 0;
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            let next = taken + c.len_utf8();
            if !is_ignored(c) {
                out.extend(units.get(taken..next).unwrap_or_default());
            }
            taken = next;
        }
        let next = taken + chunk.invalid().len();
        out.extend(units.get(taken..next).unwrap_or_default());
        taken = next;
    }
    for unit in &mut out {
        unit.byte.make_ascii_lowercase();
    }
    out
}

/// Whether a character is not seen, or only seen as space.
fn is_ignored(c: char) -> bool {
    c.is_whitespace()
        || c.is_control()
        || matches!(u32::from(c),
            0xad | 0x34f | 0x61c | 0x180b..=0x180f | 0x200b..=0x200f | 0x202a..=0x202e
            | 0x2060..=0x206f | 0xfe00..=0xfe0f | 0xfeff | 0xe0000..=0xe0fff)
}

/// With one layer of escapes of a kind taken off; `None` where there is none.
fn decoded(units: &[Unit], kind: u8) -> Option<Vec<Unit>> {
    if !units.iter().any(|unit| unit.byte == kind) {
        return None;
    }
    let bytes: Vec<u8> = units.iter().map(|unit| unit.byte).collect();
    let mut out = Vec::with_capacity(units.len());
    let mut changed = false;
    let mut at = 0;
    while let Some(unit) = units.get(at) {
        let rest = bytes.get(at..).unwrap_or_default();
        match escape(rest).filter(|_| unit.byte == kind) {
            Some((value, length)) => {
                let end = units.get(at + length - 1).map_or(unit.end, |last| last.end);
                let start = unit.start;
                out.extend(value.into_iter().map(|byte| Unit { byte, start, end }));
                at += length;
                changed = true;
            }
            None => {
                out.push(*unit);
                at += 1;
            }
        }
    }
    changed.then_some(out)
}

/// What an escape at the beginning of these bytes stands for, and its length.
fn escape(bytes: &[u8]) -> Option<(Vec<u8>, usize)> {
    match bytes {
        [b'%', rest @ ..] => Some((vec![u8::try_from(hex(rest.get(..2)?)?).ok()?], 3)),
        [b'\\', b'x', rest @ ..] => Some((vec![u8::try_from(hex(rest.get(..2)?)?).ok()?], 4)),
        [b'\\', b'u', b'{', rest @ ..] => {
            let length = rest.iter().take(7).position(|byte| *byte == b'}')?;
            Some((character(hex(rest.get(..length)?)?)?, length + 4))
        }
        [b'\\', b'u', rest @ ..] => Some((character(hex(rest.get(..4)?)?)?, 6)),
        [b'\\', b'n' | b'r' | b't' | b'b' | b'f' | b'0', ..] => Some((Vec::new(), 2)),
        [b'\\', c @ (b'"' | b'\'' | b'\\' | b'/'), ..] => Some((vec![*c], 2)),
        [b'&', rest @ ..] => {
            let length = rest.iter().take(9).position(|byte| *byte == b';')?;
            let name = std::str::from_utf8(rest.get(..length)?).ok()?;
            let value = match name {
                "amp" => b"&".to_vec(),
                "lt" => b"<".to_vec(),
                "gt" => b">".to_vec(),
                "quot" => b"\"".to_vec(),
                "apos" => b"'".to_vec(),
                _ => {
                    let digits = name.strip_prefix('#')?;
                    character(match digits.strip_prefix(['x', 'X']) {
                        Some(digits) => hex(digits.as_bytes())?,
                        None => digits.parse().ok()?,
                    })?
                }
            };
            Some((value, length + 2))
        }
        _ => None,
    }
}

fn hex(digits: &[u8]) -> Option<u32> {
    let plain = !digits.is_empty() && digits.iter().all(u8::is_ascii_hexdigit);
    u32::from_str_radix(std::str::from_utf8(digits).ok().filter(|_| plain)?, 16).ok()
}

fn character(code: u32) -> Option<Vec<u8>> {
    char::from_u32(code).map(|c| c.to_string().into_bytes())
}

#[cfg(test)]
mod tests;
