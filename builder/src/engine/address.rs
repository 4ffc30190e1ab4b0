use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use bytecode_image::digest::Digest;
use serde::Deserialize;

use super::EngineError;
use crate::Runtime;

/// Where a daemon may listen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Address {
    /// Path of a unix socket.
    Unix(String),
    /// `HOST:PORT`, without TLS.
    Http(String),
}

impl Address {
    /// The addresses of an engine, the first to be tried first: its own environment variable alone when that is set,
    /// then docker's context, else the system's socket and the user's. `read` gives a file that is there.
    pub(super) fn of(
        runtime: Runtime,
        environment: impl Fn(&str) -> Option<String>,
        read: impl Fn(&Path) -> Option<Vec<u8>>,
    ) -> Result<Vec<Self>, EngineError> {
        let (variable, system, user) = match runtime {
            Runtime::Docker => ("DOCKER_HOST", "/var/run/docker.sock", "docker.sock"),
            Runtime::Podman => (
                "CONTAINER_HOST",
                "/run/podman/podman.sock",
                "podman/podman.sock",
            ),
            Runtime::Builtin => return Ok(Vec::new()),
        };
        let set = |name: &str| environment(name).filter(|value| !value.is_empty());
        if let Some(found) = set(variable) {
            return match Self::parse(&found) {
                Some(address) => Ok(vec![address]),
                None => Err(EngineError::Address { variable, found }),
            };
        }
        if runtime == Runtime::Docker
            && let Some(found) = of_context(&set, &read)?
        {
            return match Self::parse(&found) {
                Some(address) => Ok(vec![address]),
                None => Err(EngineError::Address {
                    variable: "docker's context",
                    found,
                }),
            };
        }
        let mut addresses = vec![Self::Unix(system.to_owned())];
        addresses
            .extend(set("XDG_RUNTIME_DIR").map(|folder| Self::Unix(format!("{folder}/{user}"))));
        Ok(addresses)
    }

    fn parse(text: &str) -> Option<Self> {
        let (scheme, rest) = text.split_once("://")?;
        let rest = rest.trim_end_matches('/');
        match scheme {
            _ if rest.is_empty() => None,
            "unix" => Some(Self::Unix(rest.to_owned())),
            "tcp" | "http" => Some(Self::Http(rest.to_owned())),
            _ => None,
        }
    }
}

/// `config.json` of docker's command line, as far as it chooses a daemon.
#[derive(Deserialize)]
struct Config {
    #[serde(default, rename = "currentContext")]
    current_context: String,
}

/// `contexts/meta/<SHA-256 of the name>/meta.json`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Context {
    endpoints: BTreeMap<String, Endpoint>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Endpoint {
    #[serde(default)]
    host: String,
}

/// The address of the context that docker's command line would use: of `DOCKER_CONTEXT`, else of its `config.json`.
fn of_context(
    set: &impl Fn(&str) -> Option<String>,
    read: &impl Fn(&Path) -> Option<Vec<u8>>,
) -> Result<Option<String>, EngineError> {
    let folder = match (set("DOCKER_CONFIG"), set("HOME")) {
        (Some(folder), _) => PathBuf::from(folder),
        (None, Some(home)) => Path::new(&home).join(".docker"),
        (None, None) => return Ok(None),
    };
    let configured = || {
        let bytes = read(&folder.join("config.json"))?;
        let config: Config = serde_json::from_slice(&bytes).ok()?;
        Some(config.current_context)
    };
    let name = match set("DOCKER_CONTEXT").or_else(configured) {
        Some(name) if !name.is_empty() && name != "default" => name,
        _ => return Ok(None),
    };
    let place = Digest::of(name.as_bytes()).hex();
    let file = folder.join("contexts/meta").join(place).join("meta.json");
    let host = read(&file).and_then(|bytes| {
        let mut context: Context = serde_json::from_slice(&bytes).ok()?;
        Some(context.endpoints.remove("docker")?.host)
    });
    match host {
        Some(host) => Ok(Some(host)),
        None => Err(EngineError::DockerContext { name, file }),
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{path}"),
            Self::Http(host) => write!(f, "tcp://{host}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Environment<'a> = &'a [(&'a str, &'a str)];

    fn of(runtime: Runtime, environment: Environment<'_>) -> Result<String, String> {
        with_files(runtime, environment, &[])
    }

    fn with_files(
        runtime: Runtime,
        environment: Environment<'_>,
        files: Environment<'_>,
    ) -> Result<String, String> {
        let read = |path: &Path| {
            let found = files.iter().find(|(name, _)| Path::new(name) == path);
            found.map(|(_, text)| text.as_bytes().to_vec())
        };
        let lookup = |name: &str| {
            let found = environment.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        match Address::of(runtime, lookup, read) {
            Ok(addresses) => {
                let addresses: Vec<String> = addresses.iter().map(Address::to_string).collect();
                Ok(addresses.join(" "))
            }
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn where_daemons_are_looked_for() {
        use Runtime::*;
        let table: &[(Runtime, Environment<'_>, &str)] = &[
            (Docker, &[], "unix:///var/run/docker.sock"),
            (
                Docker,
                &[("CONTAINER_HOST", "unix:///p")],
                "unix:///var/run/docker.sock",
            ),
            (
                Docker,
                &[("DOCKER_HOST", "")],
                "unix:///var/run/docker.sock",
            ),
            (
                Docker,
                &[("DOCKER_HOST", "unix:///d.sock")],
                "unix:///d.sock",
            ),
            (
                Docker,
                &[("DOCKER_HOST", "tcp://127.0.0.1:2375/")],
                "tcp://127.0.0.1:2375",
            ),
            (
                Docker,
                &[("XDG_RUNTIME_DIR", "/run/user/7")],
                "unix:///var/run/docker.sock unix:///run/user/7/docker.sock",
            ),
            (
                Podman,
                &[
                    ("XDG_RUNTIME_DIR", "/run/user/7"),
                    ("DOCKER_HOST", "unix:///d.sock"),
                ],
                "unix:///run/podman/podman.sock unix:///run/user/7/podman/podman.sock",
            ),
            (
                Podman,
                &[("CONTAINER_HOST", "http://[::1]:80")],
                "tcp://[::1]:80",
            ),
            (Builtin, &[], ""),
        ];
        for (runtime, environment, expected) in table {
            assert_eq!(
                of(*runtime, environment).as_deref(),
                Ok(*expected),
                "{runtime} {environment:?}"
            );
        }
    }

    #[test]
    fn contexts_of_docker() {
        let config = (
            "/h/.docker/config.json",
            r#"{"auths":{},"currentContext":"far"}"#,
        );
        let meta = concat!(
            "/h/.docker/contexts/meta/",
            // printf far | sha256sum
            "512eea46ceb3921dff4363c7069d89d4964d1d9fccaa0f411851a7aa60a5c868",
            "/meta.json"
        );
        let far = (
            meta,
            r#"{"Name":"far","Endpoints":{"docker":{"Host":"unix:///far.sock"}}}"#,
        );
        let ssh = (
            meta,
            r#"{"Name":"far","Endpoints":{"docker":{"Host":"ssh://far"}}}"#,
        );
        let home = ("HOME", "/h");
        let table: &[(Environment<'_>, Environment<'_>, Result<&str, &str>)] = &[
            (&[home], &[config, far], Ok("unix:///far.sock")),
            (
                &[home, ("DOCKER_CONTEXT", "far")],
                &[far],
                Ok("unix:///far.sock"),
            ),
            (
                &[home, ("DOCKER_CONTEXT", "default")],
                &[config, far],
                Ok("unix:///var/run/docker.sock"),
            ),
            (
                &[home, ("DOCKER_HOST", "unix:///d")],
                &[config, far],
                Ok("unix:///d"),
            ),
            (&[home], &[far], Ok("unix:///var/run/docker.sock")),
            (
                &[home],
                &[config],
                Err("docker's context `far` cannot be read from "),
            ),
            (
                &[home],
                &[config, ssh],
                Err("docker's context is `ssh://far`: expected unix://"),
            ),
        ];
        for (environment, files, expected) in table {
            let found = with_files(Runtime::Docker, environment, files);
            match (&found, expected) {
                (Ok(found), Ok(expected)) => assert_eq!(found, expected),
                (Err(found), Err(expected)) => assert!(found.starts_with(expected), "{found}"),
                _ => panic!("{environment:?}: {found:?}"),
            }
        }
    }

    #[test]
    fn addresses_that_are_none() {
        for bad in [
            "/var/run/docker.sock",
            "ssh://host",
            "unix://",
            "docker.sock",
        ] {
            let error = of(Runtime::Docker, &[("DOCKER_HOST", bad)]).unwrap_err();
            assert!(
                error.starts_with(&format!("DOCKER_HOST is `{bad}`: expected unix://")),
                "{error}"
            );
        }
    }
}
