//! Who may sign what: the `[signing]` part of the configuration, as values.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use super::identity::Identity;
use super::key::PublicKey;
use super::scope::{Scope, normal};
use super::trust_root::TrustRoot;
use crate::digest::{Digest, Hasher};
use crate::reference::{Reference, short_name};

/// Goes into every [`Policy::id`]: raised when what is checked becomes stricter, so that older admissions do not count.
const RULES: &[u8] = b"bpfman signature rules 1\n";

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
    signatures: Option<SignatureRepository>,
}

/// The repository that holds the signatures of a policy's images, in place of each image's own: cosign's
/// `COSIGN_REPOSITORY`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignatureRepository(Reference);

/// Why a text is not the name of a repository.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a repository: expected REGISTRY/PATH without tag and digest")]
pub struct SignatureRepositoryError {
    /// The text.
    pub text: String,
}

impl SignatureRepository {
    /// Any reference into the repository.
    pub fn reference(&self) -> &Reference {
        &self.0
    }
}

impl FromStr for SignatureRepository {
    type Err = SignatureRepositoryError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refused = || SignatureRepositoryError {
            text: text.to_owned(),
        };
        let reference: Reference = text.parse().map_err(|_| refused())?;
        let path = text.split_once('/').map_or("", |(_, path)| path);
        // A short name would mean something else on each host.
        if short_name(text).is_some() || path.contains([':', '@']) {
            return Err(refused());
        }
        Ok(Self(reference))
    }
}

impl fmt::Display for SignatureRepository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.name())
    }
}

/// Why values are no policy.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyError {
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

    /// `verify_enabled = false`: signatures are not looked at.
    pub fn off() -> Self {
        Self {
            verify_enabled: false,
            ..Self::default()
        }
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
            .filter_map(|policy| Some((policy.scope.covers(&name)?, policy)));
        match covering.max_by_key(|(fit, _)| *fit) {
            Some((_, policy)) => Requirement::Proof(policy),
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
            signatures: None,
        })
    }

    /// With signatures in another repository than the image's own.
    #[must_use]
    pub fn with_signatures(mut self, signatures: Option<SignatureRepository>) -> Self {
        self.signatures = signatures;
        self
    }

    /// Where the signatures are; `None`: beside the image.
    pub fn signatures(&self) -> Option<&SignatureRepository> {
        self.signatures.as_ref()
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
    /// policy id it was given under. Scope and place of the signatures are not part of it, because they do not change what a signature proves.
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
            "10.0.0.1:5000",
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
            ("quay.io:0443/acme/app", "quay.io/acme/app"),
            ("quay.io:80/acme/app", "quay.io/acme/app"),
            ("QUAY.io:00080/acme/app", "quay.io/acme/app"),
            ("quay.io:1443/acme/app", "*"),
            ("quay.io:44/acme/app", "*"),
            ("localhost:05000/acme/app", "localhost:5000/acme"),
            ("[0:0::1]:5000/a/b", "[::1]:5000/a"),
            ("[0:0:0:0:0:0:0:1]:05000/a", "[::1]:5000/a"),
            ("[::2]:5000/a", "*"),
            ("10.0.0.1:05000/a", "10.0.0.1:5000"),
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
            ("Index.Docker.io/busybox", "docker.io/library"),
            ("DOCKER.IO/busybox", "docker.io/library"),
            ("docker.io:0443/busybox", "docker.io/library"),
            ("registry-1.docker.io:443/busybox", "docker.io/library"),
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
    fn official_images_by_their_short_and_their_whole_name() {
        let (short, whole, all) = (
            "docker.io/busybox",
            "docker.io/library/busybox",
            "docker.io/library",
        );
        let cases: [(&[&str], &str, Option<&str>); 10] = [
            (&[short], "busybox", Some(short)),
            (&[short], "docker.io/library/busybox:1", Some(short)),
            // The path of that name is in it too, as of any scope.
            (&[short], "docker.io/busybox/tool", Some(short)),
            (&[short], "docker.io/library/busybox/tool", None),
            (&[short], "docker.io/library/busybox-evil", None),
            (&[short], "quay.io/library/busybox", None),
            (&[short, all], "busybox", Some(short)),
            (&[all, short], "alpine", Some(all)),
            (&[short, whole], "busybox", Some(whole)),
            (&[whole, short], "busybox", Some(whole)),
        ];
        for (scopes, image, expected) in cases {
            assert_eq!(
                decides(scopes, image).as_deref(),
                expected,
                "{scopes:?} {image}"
            );
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
    fn repositories_of_signatures() {
        for (text, expected) in [
            ("quay.io/acme/sigs", Some("quay.io/acme/sigs")),
            ("localhost:5000/sigs", Some("localhost:5000/sigs")),
            ("[::1]:5000/sigs", Some("[::1]:5000/sigs")),
            ("docker.io/acme/sigs", Some("docker.io/acme/sigs")),
            ("quay.io", None),
            ("acme/sigs", None),
            ("sigs", None),
            ("quay.io/acme/sigs:v1", None),
            (
                "quay.io/acme/sigs@sha256:22b1e994d24a27e055a677fa2db87d3dc78adb8a469813d170033ffe0fbc415c",
                None,
            ),
            ("https://quay.io/acme/sigs", None),
            ("quay.io/acme/", None),
            ("", None),
        ] {
            let found = text.parse::<SignatureRepository>().ok();
            let found = found.map(|repository| repository.to_string());
            assert_eq!(found.as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn policies_that_cannot_be() {
        let two = Signing::new(
            true,
            true,
            vec![policy("quay.io/a"), policy("QUAY.io:0443/a")],
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
