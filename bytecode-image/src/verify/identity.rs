//! Identities of policies: who signs without a key.

use regex::{Regex, RegexBuilder};

use super::limits::MAX_REGEXP_BYTES;

/// A signer without a key: a subject, and the issuer that vouched for it.
#[derive(Debug, Clone)]
pub struct Identity {
    issuer: String,
    subject: Subjects,
}

#[derive(Debug, Clone)]
enum Subjects {
    One(String),
    /// The expression as it was written, and compiled so that it fits the whole subject.
    Whole(String, Regex),
}

/// Why values are no identity.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// An empty issuer.
    #[error("an identity has no issuer: any issuer could name any subject")]
    NoIssuer,
    /// An empty subject or expression.
    #[error("an identity of the issuer `{issuer}` has an empty subject")]
    EmptySubject {
        /// Its issuer.
        issuer: String,
    },
    /// Both, or none, of `subject` and `subject_regexp`.
    #[error(
        "an identity of the issuer `{issuer}` needs exactly one of `subject` and `subject_regexp`"
    )]
    OneSubject {
        /// Its issuer.
        issuer: String,
    },
    /// An expression that is none.
    #[error("`{pattern}` is not a regular expression")]
    Pattern {
        /// The text.
        pattern: String,
        /// What is wrong with it.
        #[source]
        source: Box<regex::Error>,
    },
}

impl Identity {
    /// From the configuration's three keys: an issuer, and exactly one of a subject, which must be equal, and an
    /// expression, which must fit the whole subject (as if it stood between `^` and `$`).
    ///
    /// # Errors
    ///
    /// When the issuer is empty, there is not exactly one of the two, or the expression is none or needs more than
    /// [`MAX_REGEXP_BYTES`].
    pub fn new(
        issuer: &str,
        subject: Option<&str>,
        subject_regexp: Option<&str>,
    ) -> Result<Self, IdentityError> {
        if issuer.is_empty() {
            return Err(IdentityError::NoIssuer);
        }
        let issuer = issuer.to_owned();
        match (subject, subject_regexp) {
            (Some(""), None) | (None, Some("")) => Err(IdentityError::EmptySubject { issuer }),
            (Some(subject), None) => Ok(Self {
                issuer,
                subject: Subjects::One(subject.to_owned()),
            }),
            (None, Some(pattern)) => {
                let expression = whole(pattern).map_err(|source| IdentityError::Pattern {
                    pattern: pattern.to_owned(),
                    source: Box::new(source),
                })?;
                Ok(Self {
                    issuer,
                    subject: Subjects::Whole(pattern.to_owned(), expression),
                })
            }
            _ => Err(IdentityError::OneSubject { issuer }),
        }
    }

    /// Whether it is this signer.
    pub fn is(&self, issuer: &str, subject: &str) -> bool {
        self.issuer == issuer
            && match &self.subject {
                Subjects::One(one) => one == subject,
                Subjects::Whole(_, expression) => expression.is_match(subject),
            }
    }

    /// Issuer, kind of subject and subject as they were written.
    pub(super) fn parts(&self) -> (&str, &'static str, &str) {
        let (word, subject) = match &self.subject {
            Subjects::One(subject) => ("subject", subject),
            Subjects::Whole(pattern, _) => ("subject_regexp", pattern),
        };
        (&self.issuer, word, subject)
    }
}

impl PartialEq for Identity {
    fn eq(&self, other: &Self) -> bool {
        self.parts() == other.parts()
    }
}

impl Eq for Identity {}

fn whole(pattern: &str) -> Result<Regex, regex::Error> {
    let compile = |pattern: &str| {
        RegexBuilder::new(pattern)
            .size_limit(MAX_REGEXP_BYTES)
            .build()
    };
    // By itself first: `a)|(b` would otherwise become two halves of which each is anchored at one end only.
    compile(pattern)?;
    compile(&format!(r"\A(?:{pattern})\z"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identities_that_cannot_be() {
        let huge = "a{1000}{1000}";
        for (issuer, subject, pattern) in [
            ("", Some("s"), None),
            ("i", None, None),
            ("i", Some("s"), Some("p")),
            ("i", Some(""), None),
            ("i", None, Some("")),
            ("i", None, Some("(")),
            ("i", None, Some("a)|(b")),
            ("i", None, Some(huge)),
        ] {
            assert!(
                Identity::new(issuer, subject, pattern).is_err(),
                "{issuer} {subject:?} {pattern:?}"
            );
        }
    }

    #[test]
    fn identities_fit_whole() {
        const GITHUB: &str = "https://token.actions.githubusercontent.com";
        let one = Identity::new(GITHUB, Some("https://github.com/acme/x"), None).unwrap();
        let pattern = |pattern| Identity::new(GITHUB, None, Some(pattern)).unwrap();
        let acme = || pattern(r"https://github\.com/acme/.+");
        let cases = [
            (one.clone(), "https://github.com/acme/x", true),
            (one.clone(), "https://github.com/acme/x/", false),
            (one, "https://GITHUB.com/acme/x", false),
            (acme(), "https://github.com/acme/x", true),
            (acme(), "https://github.com/acme/", false),
            (acme(), "https://github.com/acme-evil/x", false),
            (
                acme(),
                "https://evil.example/?https://github.com/acme/x",
                false,
            ),
            (acme(), "https://githubXcom/acme/x", false),
            (
                acme(),
                "https://github.com/acme/x\nhttps://evil.example",
                false,
            ),
            (pattern("a|b"), "a", true),
            (pattern("a|b"), "ab", false),
            (pattern("a|b"), "xb", false),
            (pattern("(?m)^a$"), "a\nb", false),
            (pattern("(?i)A"), "a", true),
            (pattern("a\n?"), "a\n", true),
            (pattern("a"), "a\n", false),
        ];
        for (identity, subject, expected) in cases {
            assert_eq!(
                identity.is(GITHUB, subject),
                expected,
                "{identity:?} {subject}"
            );
            assert!(!identity.is("https://issuer.test", subject));
        }
    }
}
