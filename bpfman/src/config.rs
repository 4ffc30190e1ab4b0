//! `/etc/bpfman/bpfman.toml`. Only commands that need it read it. A file that is broken is an error that names the
//! file, the line and the key; a file that is not there means the defaults.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytecode_image::reference::Reference;
use loader::XdpMode;
use serde::Deserialize;

const DEFAULT_FILE: &str = "/etc/bpfman/bpfman.toml";
const DEFAULT_RUNTIME_DIR: &str = "/run/bpfman";
const DEFAULT_IMAGE_DIR: &str = "/var/lib/bpfman/images";
/// Largest configuration file, in bytes: 1 MiB is some ten thousand policies.
const MAX_BYTES: u64 = 1 << 20;

/// The whole file.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    interfaces: BTreeMap<String, Interface>,
    signing: Signing,
    database: Database,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Interface {
    xdp_mode: Option<Mode>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Mode {
    Drv,
    Skb,
    Hw,
}

#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Signing {
    verify_enabled: bool,
    allow_unsigned: bool,
    /// Read by verification, which is not built yet.
    #[allow(dead_code)]
    trusted_root: Option<PathBuf>,
    policy: Vec<Policy>,
}

impl Default for Signing {
    fn default() -> Self {
        Self {
            verify_enabled: true,
            allow_unsigned: true,
            trusted_root: None,
            policy: Vec::new(),
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Policy {
    scope: String,
    #[serde(default)]
    keys: Vec<PathBuf>,
    #[serde(default)]
    identities: Vec<Identity>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Identity {
    issuer: String,
    subject: Option<String>,
    subject_regexp: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Database {
    max_retries: u32,
    millisec_delay: u64,
}

impl Default for Database {
    fn default() -> Self {
        Self {
            max_retries: 10,
            millisec_delay: 1000,
        }
    }
}

/// What the configuration says of an image's signatures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SignatureCheck {
    /// They are not looked at (`verify_enabled = false`).
    Off,
    /// No policy covers the image, and that is allowed: a warning.
    NotCovered,
    /// They decide.
    Needed,
}

/// Why the configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    #[error("reading the configuration {}", file.display())]
    Read {
        file: PathBuf,
        source: std::io::Error,
    },
    #[error("reading the configuration {}: more than {MAX_BYTES} bytes", file.display())]
    TooLarge { file: PathBuf },
    #[error("reading the configuration {}: not UTF-8", file.display())]
    NotUtf8 { file: PathBuf },
    #[error("in the configuration {}, line {line}{}: {message}", file.display(), key_words(key))]
    Syntax {
        file: PathBuf,
        line: usize,
        key: String,
        message: String,
    },
    #[error("in the configuration {}, line {line}, key `{key}`: {problem}", file.display())]
    Value {
        file: PathBuf,
        line: usize,
        key: String,
        problem: Problem,
    },
}

/// A value that is well formed and still cannot be.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Problem {
    #[error("`{0}` is not a scope: expected REGISTRY, REGISTRY/PATH, REGISTRY/PATH/NAME or *")]
    Scope(String),
    #[error("a policy for `{0}` stands above already")]
    TwoPolicies(String),
    #[error("the policy has neither `keys` nor `identities`, so no image could satisfy it")]
    Nobody,
    #[error("an identity has exactly one of `subject` and `subject_regexp`")]
    Subject,
    #[error("the issuer is empty")]
    NoIssuer,
}

fn key_words(key: &str) -> String {
    if key.is_empty() || key == "." {
        String::new()
    } else {
        format!(", key `{key}`")
    }
}

impl Config {
    /// Reads `BPFMAN_CONFIG`, which must be there when it is set, or the default file, which need not.
    pub(crate) fn read() -> Result<Self, ConfigError> {
        let named = std::env::var_os("BPFMAN_CONFIG").filter(|value| !value.is_empty());
        let file = named
            .as_ref()
            .map_or_else(|| PathBuf::from(DEFAULT_FILE), PathBuf::from);
        let mut bytes = Vec::new();
        let read = std::fs::File::open(&file)
            .and_then(|open| open.take(MAX_BYTES + 1).read_to_end(&mut bytes));
        match read {
            Err(error) if error.kind() == ErrorKind::NotFound && named.is_none() => {
                return Ok(Self::default());
            }
            Err(source) => return Err(ConfigError::Read { file, source }),
            Ok(size) if size as u64 > MAX_BYTES => return Err(ConfigError::TooLarge { file }),
            Ok(_) => {}
        }
        match std::str::from_utf8(&bytes) {
            Ok(text) => Self::parse(&file, text),
            Err(_) => Err(ConfigError::NotUtf8 { file }),
        }
    }

    fn parse(file: &Path, text: &str) -> Result<Self, ConfigError> {
        let syntax = |error: &toml::de::Error, key: String| ConfigError::Syntax {
            file: file.to_owned(),
            line: line_of(text, error.span().map_or(0, |span| span.start)),
            key,
            message: error.message().to_owned(),
        };
        let deserializer =
            toml::Deserializer::parse(text).map_err(|error| syntax(&error, String::new()))?;
        let config: Self = serde_path_to_error::deserialize(deserializer)
            .map_err(|error| syntax(error.inner(), error.path().to_string()))?;
        config
            .check()
            .map_err(|(policy, key, problem)| ConfigError::Value {
                file: file.to_owned(),
                line: policy_line(text, policy),
                key: format!("signing.policy[{policy}].{key}"),
                problem,
            })?;
        Ok(config)
    }

    /// What the types cannot say: policy, key in it, problem.
    fn check(&self) -> Result<(), (usize, &'static str, Problem)> {
        let mut scopes = BTreeSet::new();
        for (at, policy) in self.signing.policy.iter().enumerate() {
            if !is_scope(&policy.scope) {
                return Err((at, "scope", Problem::Scope(policy.scope.clone())));
            }
            if !scopes.insert(policy.scope.as_str()) {
                return Err((at, "scope", Problem::TwoPolicies(policy.scope.clone())));
            }
            if policy.keys.is_empty() && policy.identities.is_empty() {
                return Err((at, "keys", Problem::Nobody));
            }
            for identity in &policy.identities {
                if identity.issuer.is_empty() {
                    return Err((at, "identities", Problem::NoIssuer));
                }
                if identity.subject.is_some() == identity.subject_regexp.is_some() {
                    return Err((at, "identities", Problem::Subject));
                }
            }
        }
        Ok(())
    }

    /// What is to be done about the signatures of an image.
    pub(crate) fn signature_check(&self, image: &Reference) -> SignatureCheck {
        let name = image.name();
        match &self.signing {
            signing if !signing.verify_enabled => SignatureCheck::Off,
            signing
                if signing
                    .policy
                    .iter()
                    .any(|policy| covers(&policy.scope, &name)) =>
            {
                SignatureCheck::Needed
            }
            signing if signing.allow_unsigned => SignatureCheck::NotCovered,
            _ => SignatureCheck::Needed,
        }
    }

    /// What the loader is to know.
    pub(crate) fn loader(&self) -> loader::Config {
        let mut config = loader::Config::new(folder("BPFMAN_RUNTIME_DIR", DEFAULT_RUNTIME_DIR));
        config.lock_retries = self.database.max_retries;
        config.lock_delay = Duration::from_millis(self.database.millisec_delay);
        config.xdp_modes = self
            .interfaces
            .iter()
            .filter_map(|(name, interface)| Some((name.clone(), interface.xdp_mode?.into())))
            .collect();
        config
    }
}

impl From<Mode> for XdpMode {
    fn from(mode: Mode) -> Self {
        match mode {
            Mode::Drv => Self::Driver,
            Mode::Skb => Self::Skb,
            Mode::Hw => Self::Hardware,
        }
    }
}

/// The image store: `BPFMAN_IMAGE_DIR`, else root's or the user's own.
pub(crate) fn image_dir(root: bool) -> PathBuf {
    let set = |name| {
        std::env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    let default = || {
        let data = if root {
            None
        } else {
            set("XDG_DATA_HOME").or_else(|| set("HOME").map(|home| home.join(".local/share")))
        };
        data.map_or_else(
            || PathBuf::from(DEFAULT_IMAGE_DIR),
            |data| data.join("bpfman/images"),
        )
    };
    set("BPFMAN_IMAGE_DIR").unwrap_or_else(default)
}

fn folder(variable: &str, default: &str) -> PathBuf {
    std::env::var_os(variable)
        .filter(|value| !value.is_empty())
        .map_or_else(|| PathBuf::from(default), PathBuf::from)
}

/// Whether a scope fits `registry/repository`: `*`, the whole of it, or a part that ends before a `/`.
fn covers(scope: &str, name: &str) -> bool {
    scope == "*"
        || name
            .strip_prefix(scope)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn is_scope(scope: &str) -> bool {
    let part = |part: &str| {
        !part.is_empty()
            && part
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
    };
    let mut parts = scope.split('/');
    let registry = parts.next().unwrap_or_default();
    let registry = registry.split_once(':').map_or(registry, |(host, _)| host);
    scope == "*" || (part(registry) && parts.all(part))
}

/// Line, from 1, of a place in a text.
fn line_of(text: &str, at: usize) -> usize {
    text.bytes().take(at).filter(|byte| *byte == b'\n').count() + 1
}

/// Line, from 1, of the policy with this number; 1 where policies are written another way.
fn policy_line(text: &str, policy: usize) -> usize {
    let header = |line: &str| {
        line.split_whitespace()
            .collect::<String>()
            .starts_with("[[signing.policy]]")
    };
    text.lines()
        .enumerate()
        .filter(|(_, line)| header(line))
        .nth(policy)
        .map_or(1, |(at, _)| at + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config, String> {
        Config::parse(Path::new("/etc/bpfman/bpfman.toml"), text).map_err(|error| error.to_string())
    }

    const WHOLE: &str = r#"
[interfaces.eth0]
xdp_mode = "drv"

[signing]
verify_enabled = true
allow_unsigned = true
trusted_root = "/etc/bpfman/trusted_root.json"

[[signing.policy]]
scope = "quay.io/acme"
keys = ["/etc/bpfman/acme.pub"]
[[signing.policy.identities]]
issuer = "https://token.actions.githubusercontent.com"
subject_regexp = "https://github\\.com/acme/.+"

[database]
max_retries = 3
millisec_delay = 20
"#;

    #[test]
    fn a_whole_file() {
        let config = parse(WHOLE).unwrap().loader();
        assert_eq!(
            (config.lock_retries, config.lock_delay),
            (3, Duration::from_millis(20))
        );
        assert_eq!(config.xdp_modes.get("eth0"), Some(&XdpMode::Driver));
    }

    #[test]
    fn an_empty_file_means_the_defaults() {
        let config = parse("").unwrap().loader();
        assert_eq!(
            (config.lock_retries, config.lock_delay),
            (10, Duration::from_secs(1))
        );
        assert!(config.xdp_modes.is_empty());
    }

    #[test]
    fn errors_name_file_line_and_key() {
        let policy = "[[signing.policy]]\nscope = \"quay.io/a\"\nkeys = [\"k\"]\n";
        let cases = [
            ("a = 1\n", "line 1, key `a`: unknown field `a`"),
            (
                "[signing]\n\nverify = true\n",
                "line 3, key `signing.verify`: unknown field `verify`",
            ),
            (
                "[database]\nmax_retries = -1\n",
                "line 2, key `database.max_retries`: invalid value",
            ),
            (
                "[database]\nmax_retries = \"1\"\n",
                "line 2, key `database.max_retries`: invalid type",
            ),
            (
                "[interfaces.eth0]\nxdp_mode = \"native\"\n",
                "line 2, key `interfaces.eth0.xdp_mode`: unknown variant `native`",
            ),
            ("[signing\n", "line 1: "),
            (
                &format!("{policy}{policy}"),
                "line 4, key `signing.policy[1].scope`: a policy for `quay.io/a` stands",
            ),
            (
                "\n[[signing.policy]]\nscope = \"*\"\n",
                "line 2, key `signing.policy[0].keys`: the policy has neither",
            ),
            (
                "[[signing.policy]]\nscope = \"a//b\"\nkeys=[\"k\"]\n",
                "key `signing.policy[0].scope`: `a//b` is not",
            ),
            (
                "[[signing.policy]]\nscope = \"a\"\n[[signing.policy.identities]]\nissuer = \"i\"\n",
                "key `signing.policy[0].identities`: an identity has exactly one",
            ),
        ];
        for (text, expected) in cases {
            let error = parse(text).unwrap_err();
            assert!(
                error.starts_with("in the configuration /etc/bpfman/bpfman.toml, line "),
                "{error}"
            );
            assert!(error.contains(expected), "{text}\n{error}");
        }
    }

    #[test]
    fn scopes() {
        for good in [
            "*",
            "quay.io",
            "quay.io/acme",
            "quay.io/acme/app",
            "localhost:5000/a",
            "127.0.0.1:5000",
        ] {
            assert!(is_scope(good), "{good}");
        }
        for bad in [
            "",
            "/",
            "quay.io/",
            "/a",
            "a b",
            "quay.io/acme:latest",
            "quay.io/a@sha256:00",
            "quay.io/*",
        ] {
            assert!(!is_scope(bad), "{bad}");
        }
        assert!(covers("*", "quay.io/acme/app"));
        assert!(covers("quay.io/acme", "quay.io/acme/app"));
        assert!(covers("quay.io/acme/app", "quay.io/acme/app"));
        assert!(!covers("quay.io/acm", "quay.io/acme/app"));
        assert!(!covers("quay.io/acme/app/x", "quay.io/acme/app"));
    }

    #[test]
    fn which_images_need_a_check() {
        let image = |name: &str| name.parse::<Reference>().unwrap();
        let config = parse(WHOLE).unwrap();
        assert_eq!(
            config.signature_check(&image("quay.io/acme/app:1")),
            SignatureCheck::Needed
        );
        assert_eq!(
            config.signature_check(&image("quay.io/other/app:1")),
            SignatureCheck::NotCovered
        );
        let config = parse("[signing]\nallow_unsigned = false\n").unwrap();
        assert_eq!(
            config.signature_check(&image("quay.io/other/app:1")),
            SignatureCheck::Needed
        );
        let config = parse("[signing]\nverify_enabled = false\nallow_unsigned = false\n").unwrap();
        assert_eq!(
            config.signature_check(&image("quay.io/other/app:1")),
            SignatureCheck::Off
        );
    }
}
