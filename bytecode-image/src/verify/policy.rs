//! Who may sign what: the `[signing]` part of the configuration, as values.

use std::collections::BTreeSet;
use std::fmt;

use regex::{Regex, RegexBuilder};

use super::key::PublicKey;
use super::limits::MAX_REGEXP_BYTES;
use super::trust_root::TrustRoot;
use crate::digest::{Digest, Hasher};
use crate::reference::Reference;

/// Goes into every [`Policy::id`]: raised when what is checked becomes stricter, so that older admissions do not count.
const RULES: &[u8] = b"bpfman signature rules 1\n";

/// The default registry under the names that references may also give it (docker's `index.docker.io` is the oldest).
const DOCKER_HUB: [&str; 2] = ["index.docker.io", "registry-1.docker.io"];

/// All of `[signing]`.
#[derive(Debug, Clone)]
pub struct Signing {
    verify_enabled: bool,
    allow_unsigned: bool,
    policies: Vec<Policy>,
}

/// What must be known about an image's signatures before it is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Requirement<'a> {
    /// Nothing: `verify_enabled = false`.
    Off,
    /// Nothing, with a warning: no policy covers the image, and `allow_unsigned = true`.
    Warning,
    /// It is refused, whatever its signatures: no policy covers it, and `allow_unsigned = false`.
    Refused,
    /// At least one signature must satisfy this policy.
    Proof(&'a Policy),
}

/// Keys and identities, one of which must have signed what lies in the scope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    scope: Scope,
    keys: Vec<PublicKey>,
    identities: Vec<Identity>,
}

/// Which images a policy is about: every image, a registry, or a path in one down to a repository's whole name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Scope(Option<String>);

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

/// Why values are no policy.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyError {
    /// A scope that no image can be in.
    #[error("`{found}` is not a scope: expected REGISTRY, REGISTRY/PATH, REGISTRY/PATH/NAME or *")]
    Scope {
        /// The text.
        found: String,
    },
    /// Two policies that would both decide.
    #[error(
        "there are two policies for the scope `{scope}`: expected one, with all keys and identities"
    )]
    TwoPolicies {
        /// Their scope.
        scope: Scope,
    },
    /// Nobody could sign.
    #[error(
        "the policy for the scope `{scope}` has neither keys nor identities, so no image could satisfy it"
    )]
    Nobody {
        /// Its scope.
        scope: Scope,
    },
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

impl Signing {
    /// # Errors
    ///
    /// When two policies have one scope.
    pub fn new(
        verify_enabled: bool,
        allow_unsigned: bool,
        policies: Vec<Policy>,
    ) -> Result<Self, PolicyError> {
        let mut scopes = BTreeSet::new();
        for policy in &policies {
            if !scopes.insert(&policy.scope) {
                return Err(PolicyError::TwoPolicies {
                    scope: policy.scope.clone(),
                });
            }
        }
        Ok(Self {
            verify_enabled,
            allow_unsigned,
            policies,
        })
    }

    /// What must be known about this image: the policy with the longest scope that covers it decides.
    pub fn requirement(&self, image: &Reference) -> Requirement<'_> {
        if !self.verify_enabled {
            return Requirement::Off;
        }
        let name = normal(&image.name());
        let covering = self
            .policies
            .iter()
            .filter(|policy| policy.scope.covers(&name));
        match covering.max_by_key(|policy| policy.scope.length()) {
            Some(policy) => Requirement::Proof(policy),
            None if self.allow_unsigned => Requirement::Warning,
            None => Requirement::Refused,
        }
    }
}

impl Default for Signing {
    /// No policies: every image is accepted with a warning.
    fn default() -> Self {
        Self {
            verify_enabled: true,
            allow_unsigned: true,
            policies: Vec::new(),
        }
    }
}

impl Policy {
    /// # Errors
    ///
    /// When there are neither keys nor identities.
    pub fn new(
        scope: Scope,
        keys: Vec<PublicKey>,
        identities: Vec<Identity>,
    ) -> Result<Self, PolicyError> {
        if keys.is_empty() && identities.is_empty() {
            return Err(PolicyError::Nobody { scope });
        }
        Ok(Self {
            scope,
            keys,
            identities,
        })
    }

    /// The images it is about.
    pub fn scope(&self) -> &Scope {
        &self.scope
    }

    /// The keys, one of which suffices.
    pub fn keys(&self) -> &[PublicKey] {
        &self.keys
    }

    /// The identities, one of which suffices.
    pub fn identities(&self) -> &[Identity] {
        &self.identities
    }

    /// Names what this policy accepts: the same for the same keys (by content, not by file), identities and trust
    /// root, in any order, and another one whenever one of them changes. An admission is worth something only for the
    /// policy id it was given under. The scope is not part of it, because it does not change what a signature proves.
    pub fn id(&self, trust_root: &TrustRoot) -> Digest {
        let keys: BTreeSet<Digest> = self.keys.iter().map(PublicKey::fingerprint).collect();
        let identities: BTreeSet<_> = self.identities.iter().map(Identity::parts).collect();
        let mut hasher = Hasher::default();
        hasher.update(RULES);
        hasher.update(format!("trust root {}\n", trust_root.digest()).as_bytes());
        for key in keys {
            hasher.update(format!("key {key}\n").as_bytes());
        }
        for (issuer, word, subject) in identities {
            // Lengths, so that no text can be read as the end of one part and the start of the next.
            let line = format!(
                "identity {} {issuer} {word} {} {subject}\n",
                issuer.len(),
                subject.len()
            );
            hasher.update(line.as_bytes());
        }
        hasher.finish()
    }
}

impl Scope {
    /// Every image (`*`).
    pub const EVERYTHING: Self = Self(None);

    /// Reads `*`, or a registry (host with or without port) and the parts of a path that follow it.
    ///
    /// # Errors
    ///
    /// When no image could be in it: an empty part, a tag, a digest, a `*` inside.
    pub fn parse(text: &str) -> Result<Self, PolicyError> {
        if text == "*" {
            return Ok(Self::EVERYTHING);
        }
        // A scope is the start of a name, so one that names a repository must be a reference without tag and digest.
        let whole = match text.split_once('/') {
            Some(_) => text.to_owned(),
            None => format!("{text}/x"),
        };
        let known = whole.parse::<Reference>().is_ok_and(|image| {
            // The first part must be the registry, not a path in the default one (`acme` is `docker.io/library/acme`).
            let host = whole
                .split_once('/')
                .is_some_and(|(host, _)| normal(host) == normal(image.registry()));
            host && image.digest().is_none()
                && image.tag() == Some("latest")
                && !whole.ends_with(":latest")
        });
        if known {
            Ok(Self(Some(normal(text))))
        } else {
            Err(PolicyError::Scope {
                found: text.to_owned(),
            })
        }
    }

    /// Whether it covers a name: all of it, or a part that ends before a `/`.
    fn covers(&self, name: &str) -> bool {
        match &self.0 {
            None => true,
            Some(scope) => name
                .strip_prefix(scope.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/')),
        }
    }

    fn length(&self) -> usize {
        self.0.as_ref().map_or(0, String::len)
    }
}

/// A name with its registry written the one way that is compared: lower case, without https's own port, the default
/// registry by its own name. Otherwise `QUAY.IO/acme/app` and `quay.io:443/acme/app` would be outside of `quay.io/acme`.
fn normal(name: &str) -> String {
    let (host, path) = name
        .split_once('/')
        .map_or((name, None), |(host, path)| (host, Some(path)));
    let host = host.to_ascii_lowercase();
    let host = host.strip_suffix(":443").unwrap_or(&host);
    let host = if DOCKER_HUB.contains(&host) {
        "docker.io"
    } else {
        host
    };
    path.map_or_else(|| host.to_owned(), |path| format!("{host}/{path}"))
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_deref().unwrap_or("*"))
    }
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
    ) -> Result<Self, PolicyError> {
        if issuer.is_empty() {
            return Err(PolicyError::NoIssuer);
        }
        let issuer = issuer.to_owned();
        match (subject, subject_regexp) {
            (Some(""), None) | (None, Some("")) => Err(PolicyError::EmptySubject { issuer }),
            (Some(subject), None) => Ok(Self {
                issuer,
                subject: Subjects::One(subject.to_owned()),
            }),
            (None, Some(pattern)) => {
                let expression = whole(pattern).map_err(|source| PolicyError::Pattern {
                    pattern: pattern.to_owned(),
                    source: Box::new(source),
                })?;
                Ok(Self {
                    issuer,
                    subject: Subjects::Whole(pattern.to_owned(), expression),
                })
            }
            _ => Err(PolicyError::OneSubject { issuer }),
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

    fn parts(&self) -> (&str, &'static str, &str) {
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

    const KEY: &[u8] = include_bytes!("../../../tests/fixtures/signatures/good.pub");
    const OTHER: &[u8] = include_bytes!("../../../tests/fixtures/signatures/other.pub");

    fn key(pem: &[u8]) -> PublicKey {
        PublicKey::from_pem(pem).unwrap()
    }

    fn policy(scope: &str) -> Policy {
        Policy::new(Scope::parse(scope).unwrap(), vec![key(KEY)], Vec::new()).unwrap()
    }

    fn decides(scopes: &[&str], image: &str) -> Option<String> {
        let signing = Signing::new(
            true,
            true,
            scopes.iter().map(|scope| policy(scope)).collect(),
        )
        .unwrap();
        match signing.requirement(&image.parse().unwrap()) {
            Requirement::Proof(policy) => Some(policy.scope().to_string()),
            _ => None,
        }
    }

    #[test]
    fn the_longest_scope_that_covers_decides() {
        let scopes = [
            "*",
            "quay.io",
            "quay.io/acme",
            "quay.io/acme/app",
            "quay.io/acme/app/sub",
            "localhost:5000/acme",
            "localhost:5000",
            "[::1]:5000/a",
            "docker.io/library",
        ];
        let cases = [
            ("quay.io/acme/app:1", "quay.io/acme/app"),
            ("quay.io/acme/app/sub:1", "quay.io/acme/app/sub"),
            ("quay.io/acme/app-evil:1", "quay.io/acme"),
            ("quay.io/acme/app/subs", "quay.io/acme/app"),
            ("quay.io/acme/other", "quay.io/acme"),
            ("quay.io/acme-evil/app", "quay.io"),
            ("quay.io/acmes", "quay.io"),
            ("quay.io/evil/acme/app", "quay.io"),
            ("quay.io.evil.example/acme/app", "*"),
            ("evil.example/quay.io/acme/app", "*"),
            ("quay.io:8443/acme/app", "*"),
            ("notquay.io/acme/app", "*"),
            // The same registry, written otherwise.
            ("QUAY.IO/acme/app", "quay.io/acme/app"),
            ("quay.io:443/acme/app", "quay.io/acme/app"),
            ("localhost:5000/acme/app", "localhost:5000/acme"),
            ("localhost:5000/other", "localhost:5000"),
            ("localhost:50000/acme/app", "*"),
            ("localhost:5001/acme/app", "*"),
            ("localhost/acme/app", "*"),
            ("[::1]:5000/a/b", "[::1]:5000/a"),
            ("busybox", "docker.io/library"),
            ("docker.io/busybox:1", "docker.io/library"),
            ("index.docker.io/library/busybox", "docker.io/library"),
            ("Index.Docker.io/library/busybox", "docker.io/library"),
            ("acme/app", "*"),
        ];
        for (image, expected) in cases {
            assert_eq!(
                decides(&scopes, image).as_deref(),
                Some(expected),
                "{image}"
            );
        }
        for image in [
            "quay.io/acme-evil/app",
            "quay.io/acme-evil",
            "quay.io/acm",
            "quay.io/acme.evil/app",
        ] {
            assert_eq!(decides(&["quay.io/acme"], image), None, "{image}");
        }
    }

    #[test]
    fn scopes() {
        for good in [
            "*",
            "quay.io",
            "Quay.io",
            "quay.io/acme",
            "quay.io/acme/app",
            "localhost",
            "localhost:5000",
            "localhost:5000/a",
            "127.0.0.1:5000",
            "[::1]:5000/a",
            "docker.io",
            "docker.io/library",
            "index.docker.io",
        ] {
            assert!(Scope::parse(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "/",
            "quay.io/",
            "/a",
            "a b",
            "quay.io//a",
            "quay.io/acme:latest",
            "quay.io/acme:1",
            "quay.io/a@sha256:00",
            "quay.io/*",
            "**",
            "*/acme",
            "quay.io/Acme",
            "quay.io/acme/",
            "https://quay.io",
            "quay.io:x",
            "acme/app",
            "acme",
            "quay.io/../acme",
            "docker.io.evil/..",
        ] {
            assert!(Scope::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_no_policy_covers() {
        let image: Reference = "quay.io/other/app".parse().unwrap();
        let of = |enabled, allow| {
            let signing = Signing::new(enabled, allow, vec![policy("quay.io/acme")]).unwrap();
            match signing.requirement(&image) {
                Requirement::Off => "off",
                Requirement::Warning => "warning",
                Requirement::Refused => "refused",
                Requirement::Proof(_) => "proof",
            }
        };
        assert_eq!(
            [of(true, true), of(true, false), of(false, false)],
            ["warning", "refused", "off"]
        );
        assert_eq!(Signing::default().requirement(&image), Requirement::Warning);
    }

    #[test]
    fn policies_that_cannot_be() {
        let two = Signing::new(
            true,
            true,
            vec![policy("quay.io/a"), policy("QUAY.io:443/a")],
        )
        .unwrap_err();
        assert!(
            two.to_string()
                .starts_with("there are two policies for the scope `quay.io/a`"),
            "{two}"
        );
        let nobody = Policy::new(Scope::EVERYTHING, Vec::new(), Vec::new()).unwrap_err();
        assert!(
            nobody.to_string().contains("neither keys nor identities"),
            "{nobody}"
        );
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

    #[test]
    fn ids_name_what_is_accepted() {
        let root = TrustRoot::built_in();
        let identity = |issuer, subject, pattern| Identity::new(issuer, subject, pattern).unwrap();
        let of = |scope: &str, keys: &[&[u8]], identities: &[Identity]| {
            let keys = keys.iter().map(|pem| key(pem)).collect();
            Policy::new(Scope::parse(scope).unwrap(), keys, identities.to_vec())
                .unwrap()
                .id(&root)
        };
        let [a, b] = [
            identity("i", Some("s"), None),
            identity("i", None, Some("s")),
        ];
        let mut respelt = b"made by me\r\n".to_vec();
        respelt.extend_from_slice(KEY);
        let same = of("*", &[KEY, OTHER], &[a.clone(), b.clone()]);
        assert_eq!(
            same,
            of("*", &[OTHER, KEY, KEY], &[b.clone(), a.clone(), a.clone()])
        );
        assert_eq!(
            same,
            of("quay.io", &[&respelt, OTHER], &[a.clone(), b.clone()])
        );
        let all = [
            same,
            of("*", &[KEY], &[a.clone(), b.clone()]),
            of("*", &[KEY, OTHER], std::slice::from_ref(&a)),
            of("*", &[KEY, OTHER], std::slice::from_ref(&b)),
            of("*", &[KEY, OTHER], &[]),
            of("*", &[], &[identity("i", Some("s subject 1 t"), None)]),
            of("*", &[], &[identity("i s", Some("s"), None)]),
        ];
        assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len());
        let mock = include_bytes!("../../../tests/fixtures/signatures/mock/trusted_root.json");
        let mock = TrustRoot::from_json(mock).unwrap();
        assert_ne!(policy("*").id(&root), policy("*").id(&mock));
    }
}
