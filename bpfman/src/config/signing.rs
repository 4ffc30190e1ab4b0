//! `[signing]`: from the file's words to the policies that decide, with the files that it names.

use std::io::{self, Read};
use std::ops::Range;
use std::path::{Path, PathBuf};

use bytecode_image::host::open_regular;
use bytecode_image::pull::Trust;
use bytecode_image::reference::Reference;
use bytecode_image::verify::limits::{MAX_KEY_BYTES, MAX_TRUSTED_ROOT_BYTES};
use bytecode_image::verify::{
    Identity, IdentityError, KeyError, Policy, PolicyError, PublicKey, Scope, ScopeError,
    SignatureRepository, SignatureRepositoryError, Signing, TrustRoot, TrustRootError,
};
use serde::Deserialize;
use toml::Spanned;

/// As it stands in the file.
#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct SigningTable {
    verify_enabled: bool,
    /// `None`: images that no policy covers are accepted, with a warning.
    allow_unsigned: Option<bool>,
    trusted_root: Option<Spanned<PathBuf>>,
    policy: Vec<Spanned<PolicyTable>>,
}

impl Default for SigningTable {
    fn default() -> Self {
        Self {
            verify_enabled: true,
            allow_unsigned: None,
            trusted_root: None,
            policy: Vec::new(),
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PolicyTable {
    scope: Spanned<String>,
    #[serde(default)]
    keys: Vec<Spanned<PathBuf>>,
    #[serde(default)]
    identities: Vec<Spanned<IdentityTable>>,
    signatures: Option<Spanned<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct IdentityTable {
    issuer: String,
    subject: Option<String>,
    subject_regexp: Option<String>,
}

/// A value that is well formed and still cannot be.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Problem {
    #[error(transparent)]
    Scope(#[from] ScopeError),
    #[error(transparent)]
    Policy(#[from] PolicyError),
    #[error(transparent)]
    Identity(#[from] IdentityError),
    #[error(transparent)]
    Signatures(#[from] SignatureRepositoryError),
    #[error(transparent)]
    File(#[from] FileError),
}

/// A file of keys or roots that cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FileError {
    #[error("reading {}", file.display())]
    Read { file: PathBuf, source: io::Error },
    #[error("{} is not a public key", file.display())]
    Key { file: PathBuf, source: KeyError },
    #[error("{} is not a trusted root", file.display())]
    TrustRoot {
        file: PathBuf,
        source: TrustRootError,
    },
}

/// A problem, the key that has it, and where that stands in the file.
pub(super) struct Misplaced {
    pub(super) at: usize,
    pub(super) key: String,
    pub(super) problem: Problem,
}

impl SigningTable {
    /// What decides about images. Relative paths start at `folder`, the configuration's own. No file is read for
    /// signatures that are not looked at.
    pub(super) fn trust(&self, folder: &Path) -> Result<Trust, Misplaced> {
        if !self.verify_enabled {
            return Ok(Trust::unchecked());
        }
        Ok(Trust::new(self.policies(folder)?, self.trust_root(folder)?))
    }

    /// Whether the file itself says that images may be unsigned.
    pub(super) fn accepts_unsigned(&self) -> bool {
        self.allow_unsigned == Some(true)
    }

    /// The policies alone.
    pub(super) fn policies(&self, folder: &Path) -> Result<Signing, Misplaced> {
        if !self.verify_enabled {
            return Ok(Signing::off());
        }
        let mut policies = Vec::new();
        let mut scopes = Vec::new();
        for (number, table) in self.policy.iter().enumerate() {
            let key = format!("signing.policy[{number}]");
            let policy = table.as_ref().policy(folder, &key, table.span())?;
            // By itself, so that the line is the second one's.
            if scopes.contains(policy.scope()) {
                let scope = policy.scope().clone();
                return Err(Misplaced {
                    at: table.as_ref().scope.span().start,
                    key: format!("{key}.scope"),
                    problem: PolicyError::TwoPolicies { scope }.into(),
                });
            }
            scopes.push(policy.scope().clone());
            policies.push(policy);
        }
        Signing::new(
            self.verify_enabled,
            self.allow_unsigned.unwrap_or(true),
            policies,
        )
        .map_err(|problem| at(0..0, "signing.policy", problem))
    }

    /// Where the policy that covers an image says that its signatures are. No file is read, and a policy that is broken
    /// says nothing.
    pub(super) fn signatures(&self, image: &Reference) -> Option<SignatureRepository> {
        let tables = self.policy.iter().map(Spanned::as_ref);
        let covering = tables.filter_map(|table| {
            let scope = Scope::parse(table.scope.as_ref()).ok()?;
            Some((scope.fit(image)?, table))
        });
        let (_, table) = covering.max_by_key(|(fit, _)| *fit)?;
        table.signatures.as_ref()?.as_ref().parse().ok()
    }

    /// Whose certificates, logs and time stamps count.
    pub(super) fn trust_root(&self, folder: &Path) -> Result<TrustRoot, Misplaced> {
        match &self.trusted_root {
            Some(file) => trust_root(&folder.join(file.as_ref()))
                .map_err(|problem| at(file.span(), "signing.trusted_root", problem)),
            None => Ok(TrustRoot::built_in()),
        }
    }
}

impl FileError {
    /// What to do, where that is known.
    pub(crate) fn hint(&self) -> Option<String> {
        match self {
            Self::Key { file, source } => source.hint(file),
            Self::Read { file, source } => {
                let text = file.to_string_lossy();
                let (scheme, _) = text.split_once(":/")?;
                let is_url = source.kind() == io::ErrorKind::NotFound && !scheme.is_empty();
                is_url.then(|| {
                    format!("print the key into a file, and name that: cosign public-key --key {text} > KEY.pem")
                })
            }
            Self::TrustRoot { .. } => None,
        }
    }
}

impl PolicyTable {
    fn policy(&self, folder: &Path, key: &str, whole: Range<usize>) -> Result<Policy, Misplaced> {
        let scope = Scope::parse(self.scope.as_ref())
            .map_err(|problem| at(self.scope.span(), &format!("{key}.scope"), problem))?;
        let mut keys = Vec::new();
        for (number, file) in self.keys.iter().enumerate() {
            let path = folder.join(file.as_ref());
            let key = format!("{key}.keys[{number}]");
            keys.push(public_key(&path).map_err(|problem| at(file.span(), &key, problem))?);
        }
        let mut identities = Vec::new();
        for (number, table) in self.identities.iter().enumerate() {
            let IdentityTable {
                issuer,
                subject,
                subject_regexp,
            } = table.as_ref();
            let key = format!("{key}.identities[{number}]");
            identities.push(
                Identity::new(issuer, subject.as_deref(), subject_regexp.as_deref())
                    .map_err(|problem| at(table.span(), &key, problem))?,
            );
        }
        let signatures = self
            .signatures
            .as_ref()
            .map(|text| {
                text.as_ref()
                    .parse()
                    .map_err(|problem: SignatureRepositoryError| {
                        at(text.span(), &format!("{key}.signatures"), problem)
                    })
            })
            .transpose()?;
        let policy =
            Policy::new(scope, keys, identities).map_err(|problem| at(whole, key, problem))?;
        Ok(policy.with_signatures(signatures))
    }
}

fn at(span: Range<usize>, key: &str, problem: impl Into<Problem>) -> Misplaced {
    Misplaced {
        at: span.start,
        key: key.to_owned(),
        problem: problem.into(),
    }
}

/// Reads a public key (PEM).
pub(crate) fn public_key(file: &Path) -> Result<PublicKey, FileError> {
    let bytes = read(file, MAX_KEY_BYTES)?;
    PublicKey::from_pem(&bytes).map_err(|source| FileError::Key {
        file: file.to_owned(),
        source,
    })
}

/// Reads a sigstore `trusted_root.json`.
pub(crate) fn trust_root(file: &Path) -> Result<TrustRoot, FileError> {
    let bytes = read(file, MAX_TRUSTED_ROOT_BYTES)?;
    TrustRoot::from_json(&bytes).map_err(|source| FileError::TrustRoot {
        file: file.to_owned(),
        source,
    })
}

/// The file, or one byte more than it may have.
fn read(file: &Path, limit: usize) -> Result<Vec<u8>, FileError> {
    let mut bytes = Vec::new();
    open_regular(file)
        .and_then(|open| open.take(limit as u64 + 1).read_to_end(&mut bytes))
        .map_err(|source| FileError::Read {
            file: file.to_owned(),
            source,
        })?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use bytecode_image::verify::Requirement;

    use super::super::Config;
    use super::*;

    const KEY: &[u8] = include_bytes!("../../../tests/fixtures/signatures/good.pub");
    const PRIVATE: &[u8] = include_bytes!("../../../tests/fixtures/signatures/good.key");
    const ROOT: &[u8] = include_bytes!("../../../tests/fixtures/signatures/mock/trusted_root.json");

    /// What a configuration comes to, in a folder with `good.pub`, `good.key` and `root.json`: its error in one line.
    fn trust(text: &str) -> Result<Trust, String> {
        let folder = tempfile::tempdir().unwrap();
        for (name, bytes) in [
            ("good.pub", KEY),
            ("good.key", PRIVATE),
            ("root.json", ROOT),
        ] {
            std::fs::write(folder.path().join(name), bytes).unwrap();
        }
        let file = folder.path().join("bpfman.toml");
        let found = Config::parse(&file, text).and_then(|config| config.trust());
        found.map_err(|error| {
            let chain = crate::error::Error::from(error).chain().join(": ");
            chain.replace(&format!("{}/", folder.path().display()), "")
        })
    }

    fn requirement(trust: &Trust, image: &str) -> &'static str {
        match trust.signing().requirement(&image.parse().unwrap()) {
            Requirement::Off => "off",
            Requirement::Warning => "warning",
            Requirement::Refused => "refused",
            Requirement::Proof(policy) if policy.keys().is_empty() => "identity",
            Requirement::Proof(_) => "key",
        }
    }

    #[test]
    fn policies_of_a_file() {
        let text = r#"
            [signing]
            allow_unsigned = false
            trusted_root = "root.json"
            [[signing.policy]]
            scope = "quay.io/acme"
            keys = ["good.pub"]
            [[signing.policy]]
            scope = "ghcr.io"
            [[signing.policy.identities]]
            issuer = "https://issuer.test"
            subject_regexp = "https://github\\.com/acme/.+"
        "#;
        let found = trust(text).unwrap();
        assert_eq!(found.root().built_in_date(), None);
        for (image, expected) in [
            ("quay.io/acme/app:1", "key"),
            ("QUAY.IO/acme/app:1", "key"),
            ("quay.io/acme-evil/app", "refused"),
            (
                "ghcr.io/acme/app@sha256:22b1e994d24a27e055a677fa2db87d3dc78adb8a469813d170033ffe0fbc415c",
                "identity",
            ),
        ] {
            assert_eq!(requirement(&found, image), expected, "{image}");
        }
        let none = trust("").unwrap();
        assert_eq!(requirement(&none, "quay.io/a"), "warning");
        assert!(none.root().built_in_date().is_some());
        // Nothing is read for what is not looked at.
        let off = "[signing]\nverify_enabled = false\n[[signing.policy]]\nscope = \"*\"\nkeys = [\"gone.pub\"]\n";
        assert_eq!(requirement(&trust(off).unwrap(), "quay.io/a"), "off");
    }

    #[test]
    fn other_roots_are_used_without_reading_the_files() {
        let text = "[signing]\ntrusted_root = \"gone.json\"\nallow_unsigned = false\n";
        let config = Config::parse(Path::new("/nowhere/bpfman.toml"), text).unwrap();
        assert!(config.trust().is_err());
        let found = config.trust_with(TrustRoot::built_in()).unwrap();
        assert_eq!(requirement(&found, "quay.io/a"), "refused");
    }

    #[test]
    fn places_of_signatures_are_those_of_the_policy_that_covers() {
        let text = r#"
            [[signing.policy]]
            scope = "quay.io"
            keys = ["gone.pub"]
            signatures = "quay.io/all/signatures"
            [[signing.policy]]
            scope = "quay.io/acme"
            keys = ["gone.pub"]
        "#;
        let config = Config::parse(Path::new("bpfman.toml"), text).unwrap();
        for (image, expected) in [
            ("quay.io/other/app", Some("quay.io/all/signatures")),
            ("quay.io/acme/app", None),
            ("ghcr.io/acme/app", None),
        ] {
            let found = config.signatures(&image.parse().unwrap());
            let found = found.map(|repository| repository.to_string());
            assert_eq!(found.as_deref(), expected, "{image}");
        }
    }

    #[test]
    fn broken_policies_name_line_and_key() {
        let policy = "[[signing.policy]]\nscope = \"quay.io/a\"\nkeys = [\"good.pub\"]\n";
        let with = |rest: &str| format!("[[signing.policy]]\nscope = \"quay.io/a\"\n{rest}");
        let identity = |rest: &str| {
            with(&format!(
                "keys = [\"good.pub\"]\n\n[[signing.policy.identities]]\n{rest}"
            ))
        };
        let cases = [
            (
                format!("{policy}{policy}"),
                "line 5, key `signing.policy[1].scope`: there are two policies for the scope `quay.io/a`",
            ),
            (
                format!("{policy}{}", policy.replace("quay.io", "QUAY.io:443")),
                "line 5, key `signing.policy[1].scope`: there are two policies for the scope `quay.io/a`",
            ),
            (
                "\n[[signing.policy]]\nscope = \"*\"\n".to_owned(),
                "line 2, key `signing.policy[0]`: the policy for the scope `*` has neither keys nor identities",
            ),
            (
                "[[signing.policy]]\n\nscope = \"a//b\"\nkeys=[\"good.pub\"]\n".to_owned(),
                "line 3, key `signing.policy[0].scope`: `a//b` is not a scope",
            ),
            (
                "[[signing.policy]]\nscope = \"quay.io/a:1\"\nkeys=[\"good.pub\"]\n".to_owned(),
                "line 2, key `signing.policy[0].scope`: `quay.io/a:1` is not a scope",
            ),
            (
                with("keys = [\n  \"good.pub\",\n  \"gone.pub\",\n]\n"),
                "line 5, key `signing.policy[0].keys[1]`: reading gone.pub: No such file",
            ),
            (
                with("keys = [\"good.pub\"]\nsignatures = \"sigs\"\n"),
                "line 4, key `signing.policy[0].signatures`: `sigs` is not a repository: expected REGISTRY/PATH",
            ),
            (
                with("keys = [\"good.key\"]\n"),
                "line 3, key `signing.policy[0].keys[0]`: good.key is not a public key: this is a private key",
            ),
            (
                with("keys = [\"root.json\"]\n"),
                "line 3, key `signing.policy[0].keys[0]`: root.json is not a public key: there is no PEM block",
            ),
            (
                identity("issuer = \"i\"\n"),
                "line 5, key `signing.policy[0].identities[0]`: an identity of the issuer `i` needs exactly one of",
            ),
            (
                identity("issuer = \"i\"\nsubject = \"a\"\nsubject_regexp = \"a\"\n"),
                "line 5, key `signing.policy[0].identities[0]`: an identity of the issuer `i` needs exactly one of",
            ),
            (
                identity("issuer = \"\"\nsubject = \"a\"\n"),
                "line 5, key `signing.policy[0].identities[0]`: an identity has no issuer",
            ),
            (
                identity("issuer = \"i\"\nsubject_regexp = \"(\"\n"),
                "line 5, key `signing.policy[0].identities[0]`: `(` is not a regular expression",
            ),
            (
                identity("issuer = \"i\"\nsubjects = \"a\"\n"),
                "line 7, key `signing.policy[0].identities[0].subjects`: unknown field `subjects`",
            ),
            (
                identity("subject = \"a\"\n"),
                "line 5, key `signing.policy[0].identities[0]`: missing field `issuer`",
            ),
            (
                with("keys = \"good.pub\"\n"),
                "line 3, key `signing.policy[0].keys`: invalid type",
            ),
            (
                "\n[[signing.policy]]\nkeys = [\"good.pub\"]\n".to_owned(),
                "line 2, key `signing.policy[0]`: missing field `scope`",
            ),
            (
                "[signing]\ntrusted_root = \"gone.json\"\n".to_owned(),
                "line 2, key `signing.trusted_root`: reading gone.json: No such file",
            ),
            (
                "[signing]\n\ntrusted_root = \"good.pub\"\n".to_owned(),
                "line 3, key `signing.trusted_root`: good.pub is not a trusted root: it is not a sigstore trusted root",
            ),
            (
                "[signing]\nverify_enabled = \"no\"\n".to_owned(),
                "line 2, key `signing.verify_enabled`: invalid type",
            ),
        ];
        for (text, expected) in cases {
            let error = trust(&text).unwrap_err();
            assert!(
                error.starts_with("in the configuration bpfman.toml, line ")
                    && error.contains(expected),
                "{text}\n expected: {expected}\n found:    {error}"
            );
        }
    }

    #[test]
    fn a_file_cut_or_changed_anywhere_is_read_or_named() {
        let whole = "[signing]\nallow_unsigned = false\ntrusted_root = \"root.json\"\n[[signing.policy]]\nscope = \"quay.io/acme\"\nkeys = [\"good.pub\"]\n[[signing.policy.identities]]\nissuer = \"i\"\nsubject_regexp = \"a.+\"\n";
        let folder = tempfile::tempdir().unwrap();
        for (name, bytes) in [("good.pub", KEY), ("root.json", ROOT)] {
            std::fs::write(folder.path().join(name), bytes).unwrap();
        }
        let file = folder.path().join("bpfman.toml");
        let mut texts: Vec<String> = (0..whole.len()).map(|at| whole[..at].to_owned()).collect();
        for at in 0..whole.len() {
            for put in ["", "\"", "[", "\\", "\n", "é", "\0"] {
                texts.push(format!("{}{put}{}", &whole[..at], &whole[at + 1..]));
            }
        }
        for text in texts {
            let found = Config::parse(&file, &text).and_then(|config| config.trust());
            if let Err(error) = found {
                let error = error.to_string();
                assert!(error.contains("bpfman.toml, line "), "{text}\n{error}");
            }
        }
    }
}
