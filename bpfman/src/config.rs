//! `/etc/bpfman/bpfman.toml`. Only commands that need it read it. A file that is broken is an error that names the
//! file, the line and the key; a file that is not there means the defaults.

mod signing;

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytecode_image::host::open_regular;
use bytecode_image::pull::Trust;
use bytecode_image::reference::Reference;
use bytecode_image::verify::{SignatureRepository, TrustRoot};
use loader::XdpMode;
use serde::Deserialize;
pub(crate) use signing::{FileError, Problem, public_key, trust_root};
use signing::{Misplaced, SigningTable};

use crate::error::with_causes;

const DEFAULT_FILE: &str = "/etc/bpfman/bpfman.toml";
const DEFAULT_RUNTIME_DIR: &str = "/run/bpfman";
const DEFAULT_DATA_DIR: &str = "/var/lib/bpfman";
/// Largest configuration file, in bytes: 1 MiB is some ten thousand policies.
const MAX_BYTES: u64 = 1 << 20;

/// The whole file.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    interfaces: BTreeMap<String, Interface>,
    signing: SigningTable,
    database: Database,
    /// Where it came from, for messages about what is looked at later.
    #[serde(skip)]
    source: Source,
}

#[derive(Debug, Default)]
struct Source {
    file: PathBuf,
    text: String,
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
    #[error("in the configuration {}, line {line}, key `{key}`", file.display())]
    Value {
        file: PathBuf,
        line: usize,
        key: String,
        #[source]
        problem: Problem,
    },
}

impl ConfigError {
    /// What to do about it: one sentence.
    pub(crate) fn hint(&self) -> String {
        if let Self::Value {
            problem: Problem::File(error),
            ..
        } = self
            && let Some(hint) = error.hint()
        {
            return hint;
        }
        let hint = match self {
            Self::Read { .. } => {
                "BPFMAN_CONFIG, where it is set, names the file, which then must be there; /dev/null stands for no configuration"
            }
            Self::TooLarge { .. } | Self::NotUtf8 { .. } => {
                "is it the right file? a configuration is TOML; BPFMAN_CONFIG can name another one"
            }
            Self::Syntax { .. } | Self::Value { .. } => {
                "correct that line; until then BPFMAN_CONFIG can name another file"
            }
        };
        hint.to_owned()
    }
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
        let read =
            open_regular(&file).and_then(|open| open.take(MAX_BYTES + 1).read_to_end(&mut bytes));
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

    /// As [`Self::read`], for commands that take something away or diagnose: a configuration that cannot be used must
    /// not keep anybody from them, so a warning names what is wrong and the defaults apply.
    pub(crate) fn read_or_default() -> Self {
        Self::read().unwrap_or_else(|error| {
            using_defaults(&error);
            Self::default()
        })
    }

    /// As [`Self::trust`], for commands that only show images: with policies that cannot be used nothing counts as
    /// verified.
    pub(crate) fn trust_to_show(&self) -> Result<Trust, ConfigError> {
        self.trust().or_else(|error| {
            using_defaults(&error);
            Self::default().trust()
        })
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
        let mut config: Self = serde_path_to_error::deserialize(deserializer)
            .map_err(|error| syntax(error.inner(), plain(&error.path().to_string())))?;
        config.source = Source {
            file: file.to_owned(),
            text: text.to_owned(),
        };
        Ok(config)
    }

    /// What is asked of images' signatures. Reads the files that the policies name.
    pub(crate) fn trust(&self) -> Result<Trust, ConfigError> {
        self.signing
            .trust(self.folder())
            .map_err(|found| self.misplaced(found))
    }

    /// The same with other roots of trust than the file's, which are not read.
    pub(crate) fn trust_with(&self, root: TrustRoot) -> Result<Trust, ConfigError> {
        let policies = self.signing.policies(self.folder());
        let signing = policies.map_err(|found| self.misplaced(found))?;
        Ok(Trust::new(signing, root))
    }

    /// Where the policy that covers an image says that its signatures are.
    pub(crate) fn signatures(&self, image: &Reference) -> Option<SignatureRepository> {
        self.signing.signatures(image)
    }

    /// The roots of trust, for policies that come from somewhere else.
    pub(crate) fn trust_root(&self) -> Result<TrustRoot, ConfigError> {
        self.signing
            .trust_root(self.folder())
            .map_err(|found| self.misplaced(found))
    }

    /// Whether the file sets `allow_unsigned = true`, which acknowledges the warning about unsigned images.
    pub(crate) fn accepts_unsigned(&self) -> bool {
        self.signing.accepts_unsigned()
    }

    /// The file that the configuration came from, or would come from.
    pub(crate) fn file(&self) -> &Path {
        if self.source.file.as_os_str().is_empty() {
            Path::new(DEFAULT_FILE)
        } else {
            &self.source.file
        }
    }

    /// Where relative paths start.
    fn folder(&self) -> &Path {
        self.source.file.parent().unwrap_or(Path::new(""))
    }

    fn misplaced(&self, found: Misplaced) -> ConfigError {
        ConfigError::Value {
            file: self.source.file.clone(),
            line: line_of(&self.source.text, found.at),
            key: found.key,
            problem: found.problem,
        }
    }

    /// How long a lock is waited for in all.
    pub(crate) fn lock_timeout(&self) -> Duration {
        let delay = Duration::from_millis(self.database.millisec_delay);
        delay.saturating_mul(self.database.max_retries)
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

fn using_defaults(error: &ConfigError) {
    log::warn!("{}; using the defaults", with_causes(error));
}

/// The image store: `BPFMAN_IMAGE_DIR`, else root's or the user's own.
pub(crate) fn image_dir(root: bool) -> PathBuf {
    set("BPFMAN_IMAGE_DIR").unwrap_or_else(|| data_dir(root).join("images"))
}

/// Where this host keeps what it admitted, apart from every store: `BPFMAN_ADMITTED_DIR`, else root's or the user's own.
pub(crate) fn admitted_dir(root: bool) -> PathBuf {
    set("BPFMAN_ADMITTED_DIR").unwrap_or_else(|| data_dir(root).join("admitted"))
}

fn data_dir(root: bool) -> PathBuf {
    let data = if root {
        None
    } else {
        set("XDG_DATA_HOME").or_else(|| set("HOME").map(|home| home.join(".local/share")))
    };
    data.map_or_else(
        || PathBuf::from(DEFAULT_DATA_DIR),
        |data| data.join("bpfman"),
    )
}

/// The path in a variable that is not empty.
fn set(variable: &str) -> Option<PathBuf> {
    std::env::var_os(variable)
        .filter(|value| !value.is_empty())
        .map(PathBuf::from)
}

fn folder(variable: &str, default: &str) -> PathBuf {
    set(variable).unwrap_or_else(|| PathBuf::from(default))
}

/// A path of keys without what the reader of spans puts into it.
fn plain(path: &str) -> String {
    path.replace(".$__serde_spanned_private_value", "")
}

/// Line, from 1, of a place in a text.
fn line_of(text: &str, at: usize) -> usize {
    text.bytes().take(at).filter(|byte| *byte == b'\n').count() + 1
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

    /// The manual page's example is a whole file, and its text names every key of it.
    #[test]
    fn the_manual_page_is_of_this_file() {
        let page = include_str!("../man/bpfman.toml.5");
        let (text, example) = page.split_once(".EX\n").unwrap();
        let (example, _) = example.split_once(".EE\n").unwrap();
        let example = example.replace("\\e", "\\");
        let config = parse(&example).unwrap().loader();
        assert_eq!(config.xdp_modes.get("eth0"), Some(&XdpMode::Driver));
        let keys = WHOLE.lines().filter_map(|line| line.split_once(" = "));
        for (key, _) in keys {
            assert!(example.contains(&format!("{key} = ")), "{key}");
            assert!(text.contains(&format!("\\fB{key}\\fR")), "{key}");
        }
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
}
