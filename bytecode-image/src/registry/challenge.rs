//! `WWW-Authenticate` (RFC 9110, 11.6.1), as leniently as registries write it.

/// A scheme and its parameters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Challenge {
    scheme: String,
    parameters: Vec<(String, String)>,
}

impl Challenge {
    /// Whether it is of this scheme, in any case.
    pub(super) fn is(&self, scheme: &str) -> bool {
        self.scheme.eq_ignore_ascii_case(scheme)
    }

    /// The first parameter of this name, in any case.
    pub(super) fn parameter(&self, name: &str) -> Option<&str> {
        let named = |(key, _): &&(String, String)| key.eq_ignore_ascii_case(name);
        self.parameters
            .iter()
            .find(named)
            .map(|(_, value)| value.as_str())
    }
}

/// The challenges of one header. A part that is malformed does not hide the others.
///
/// A word is the name of a parameter where `=` follows, with or without white space (BWS), else a scheme; commas may
/// be missing or doubled.
pub(super) fn parse(header: &str) -> Vec<Challenge> {
    let mut challenges: Vec<Challenge> = Vec::new();
    let mut rest = header;
    loop {
        rest = rest.trim_start_matches(|c: char| c.is_whitespace() || c == ',');
        let end = rest.find(|c: char| c.is_whitespace() || matches!(c, ',' | '=' | '"'));
        let (word, after) = rest.split_at(end.unwrap_or(rest.len()));
        let value = after.trim_start().strip_prefix('=');
        match (word, value) {
            ("", None) => {
                // A quotation mark without a name.
                let Some(after) = after.strip_prefix('"') else {
                    return challenges;
                };
                rest = after;
            }
            (word, None) => {
                challenges.push(Challenge {
                    scheme: word.to_owned(),
                    parameters: Vec::new(),
                });
                rest = after;
            }
            (word, Some(value)) => {
                let (value, after) = read_value(value.trim_start());
                if let Some(challenge) = challenges.last_mut() {
                    challenge.parameters.push((word.to_owned(), value));
                }
                rest = after;
            }
        }
    }
}

/// A token or quoted string, and what follows it.
fn read_value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find(|c: char| c.is_whitespace() || c == ',');
        let (value, rest) = text.split_at(end.unwrap_or(text.len()));
        return (value.to_owned(), rest);
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, c)) = characters.next() {
        match c {
            '"' => return (value, quoted.get(at + 1..).unwrap_or_default()),
            '\\' => value.extend(characters.next().map(|(_, c)| c)),
            c => value.push(c),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shown(header: &str) -> Vec<String> {
        let challenge = |challenge: Challenge| {
            let parameters = challenge.parameters.iter();
            let parameters: Vec<_> = parameters
                .map(|(key, value)| format!("{key}={value}"))
                .collect();
            format!("{} {}", challenge.scheme, parameters.join("|"))
        };
        parse(header).into_iter().map(challenge).collect()
    }

    #[test]
    fn reads_every_legal_spacing_and_quoting() {
        let bearer = "Bearer realm=https://a/t?x=1|service=s";
        for header in [
            r#"Bearer realm="https://a/t?x=1",service="s""#,
            r#"Bearer realm="https://a/t?x=1", service=s"#,
            r#"Bearer   realm = "https://a/t?x=1" ,	service  =	"s" ,"#,
            r#", Bearer realm="https://a/t?x=1",,service="s""#,
            r#"Bearer realm="https://a/t?x=1" service="s""#,
            r#"Bearer realm=https://a/t?x=1,service=s"#,
            r#"Bearer realm="https:\/\/a/t?x=1",service="\s""#,
        ] {
            assert_eq!(shown(header), [bearer], "{header}");
        }
        assert_eq!(
            shown(r#"Basic realm="a, Bearer b=\"c\"", Bearer realm="d", Negotiate, NTLM TlRM=="#),
            [
                r#"Basic realm=a, Bearer b="c""#,
                "Bearer realm=d",
                "Negotiate ",
                "NTLM TlRM=="
            ]
        );
        assert_eq!(shown("Basic"), ["Basic "]);
        for header in ["", ",", "=", "\"", "a=b", "  "] {
            assert_eq!(shown(header), [""; 0], "{header}");
        }
        assert_eq!(shown(r#"Basic realm="open"#), ["Basic realm=open"]);
    }

    proptest! {
        #[test]
        fn any_text_ends(header in "[ ,=\"a\\\\Bé]{0,40}") {
            let _ = parse(&header);
        }
    }
}
