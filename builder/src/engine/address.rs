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
    /// `HOST:PORT`, with TLS.
    Https {
        /// Where it listens.
        host: String,
        /// Folder of `ca.pem`, and of `cert.pem` and `key.pem` where the daemon wants to know its clients.
        certificates: PathBuf,
    },
}

/// Ports of docker's daemon where an address names none, without and with TLS.
const PORTS: (&str, &str) = ("2375", "2376");

impl Address {
    /// The addresses of an engine, the first to be tried first: its own environment variable alone when that is set,
    /// then docker's context, else the system's socket and the one of the user with that number. `read` gives a file
    /// that is there.
    pub(super) fn of(
        runtime: Runtime,
        user: u32,
        environment: impl Fn(&str) -> Option<String>,
        read: impl Fn(&Path) -> Option<Vec<u8>>,
    ) -> Result<Vec<Self>, EngineError> {
        let (variable, system, own) = match runtime {
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
            let tls = ["DOCKER_TLS_VERIFY", "DOCKER_TLS"];
            let tls = runtime == Runtime::Docker && tls.iter().any(|name| set(name).is_some());
            let certificates = match (tls, set("DOCKER_CERT_PATH")) {
                (false, _) => None,
                (true, Some(folder)) => Some(PathBuf::from(folder)),
                (true, None) => docker_folder(&set),
            };
            return match Self::parse(&found, certificates) {
                Some(address) => Ok(vec![address]),
                None => Err(EngineError::Address { variable, found }),
            };
        }
        if runtime == Runtime::Docker
            && let Some((found, certificates)) = of_context(&set, &read)?
        {
            return match Self::parse(&found, certificates) {
                Some(address) => Ok(vec![address]),
                None => Err(EngineError::Address {
                    variable: "docker's context",
                    found,
                }),
            };
        }
        let mut addresses = vec![Self::Unix(system.to_owned())];
        // Without a login session of its own (sudo, cron, CI) the variable is not set; root's sockets are the system's.
        let folder = set("XDG_RUNTIME_DIR")
            .or_else(|| Some(format!("/run/user/{user}")).filter(|_| user != 0));
        addresses.extend(folder.map(|folder| Self::Unix(format!("{folder}/{own}"))));
        Ok(addresses)
    }

    /// With `certificates`, an address of TCP is one with TLS.
    fn parse(text: &str, certificates: Option<PathBuf>) -> Option<Self> {
        let (scheme, rest) = text.split_once("://")?;
        let rest = rest.trim_end_matches('/');
        match scheme {
            _ if rest.is_empty() => None,
            "unix" => Some(Self::Unix(rest.to_owned())),
            "tcp" | "http" => Some(match certificates {
                Some(certificates) => Self::Https {
                    host: with_port(rest, PORTS.1),
                    certificates,
                },
                None => Self::Http(with_port(rest, PORTS.0)),
            }),
            _ => None,
        }
    }
}

fn with_port(host: &str, port: &str) -> String {
    // A colon in brackets is one of an IPv6 address.
    match host.rsplit_once(':') {
        Some((_, found)) if !found.contains(']') => host.to_owned(),
        _ => format!("{host}:{port}"),
    }
}

/// The folder of docker's command line.
fn docker_folder(set: &impl Fn(&str) -> Option<String>) -> Option<PathBuf> {
    match (set("DOCKER_CONFIG"), set("HOME")) {
        (Some(folder), _) => Some(PathBuf::from(folder)),
        (None, Some(home)) => Some(Path::new(&home).join(".docker")),
        (None, None) => None,
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

/// The address of the context that docker's command line would use, of `DOCKER_CONTEXT`, else of its `config.json`; and
/// the folder of the context's certificates, where it has any.
fn of_context(
    set: &impl Fn(&str) -> Option<String>,
    read: &impl Fn(&Path) -> Option<Vec<u8>>,
) -> Result<Option<(String, Option<PathBuf>)>, EngineError> {
    let Some(folder) = docker_folder(set) else {
        return Ok(None);
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
    let file = folder.join("contexts/meta").join(&place).join("meta.json");
    let certificates = folder.join("contexts/tls").join(place).join("docker");
    let certificates = read(&certificates.join("ca.pem")).map(|_| certificates);
    let host = read(&file).and_then(|bytes| {
        let mut context: Context = serde_json::from_slice(&bytes).ok()?;
        Some(context.endpoints.remove("docker")?.host)
    });
    match host {
        Some(host) => Ok(Some((host, certificates))),
        None => Err(EngineError::DockerContext { name, file }),
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{path}"),
            Self::Http(host) => write!(f, "tcp://{host}"),
            Self::Https { host, .. } => write!(f, "tcp://{host} with TLS"),
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
        match Address::of(runtime, 0, lookup, read) {
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
            (
                Docker,
                &[("DOCKER_HOST", "tcp://far"), ("DOCKER_CERT_PATH", "/c")],
                "tcp://far:2375",
            ),
            (
                Docker,
                &[("DOCKER_HOST", "tcp://[::1]"), ("DOCKER_TLS_VERIFY", "")],
                "tcp://[::1]:2375",
            ),
            (
                Docker,
                &[
                    ("DOCKER_HOST", "tcp://far"),
                    ("DOCKER_TLS_VERIFY", "1"),
                    ("HOME", "/h"),
                ],
                "tcp://far:2376 with TLS",
            ),
            (
                Docker,
                &[("DOCKER_HOST", "unix:///d"), ("DOCKER_TLS_VERIFY", "1")],
                "unix:///d",
            ),
            (
                Podman,
                &[
                    ("CONTAINER_HOST", "tcp://far:1"),
                    ("DOCKER_TLS_VERIFY", "1"),
                    ("DOCKER_CERT_PATH", "/c"),
                ],
                "tcp://far:1",
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
    fn sockets_of_a_user_without_a_session() {
        let found = Address::of(Runtime::Podman, 7, |_| None, |_| None).unwrap();
        let found: Vec<String> = found.iter().map(Address::to_string).collect();
        assert_eq!(
            found,
            [
                "unix:///run/podman/podman.sock",
                "unix:///run/user/7/podman/podman.sock"
            ]
        );
    }

    #[test]
    fn certificates_of_docker() {
        let host = ("DOCKER_HOST", "tcp://far:9");
        let verify = ("DOCKER_TLS_VERIFY", "1");
        let table: &[(Environment<'_>, &str)] = &[
            (&[host, verify, ("DOCKER_CERT_PATH", "/c")], "/c"),
            (&[host, verify, ("HOME", "/h")], "/h/.docker"),
            (
                &[
                    host,
                    ("DOCKER_TLS", "1"),
                    ("DOCKER_CONFIG", "/d"),
                    ("HOME", "/h"),
                ],
                "/d",
            ),
        ];
        for (environment, expected) in table {
            let lookup = |name: &str| {
                let found = environment.iter().find(|(key, _)| *key == name);
                found.map(|(_, value)| (*value).to_owned())
            };
            let found = Address::of(Runtime::Docker, 0, lookup, |_| None).unwrap();
            let expected = Address::Https {
                host: "far:9".to_owned(),
                certificates: expected.into(),
            };
            assert_eq!(found, [expected], "{environment:?}");
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
        let tcp = (
            meta,
            r#"{"Name":"far","Endpoints":{"docker":{"Host":"tcp://far:2376"}}}"#,
        );
        let authority = (
            concat!(
                "/h/.docker/contexts/tls/",
                "512eea46ceb3921dff4363c7069d89d4964d1d9fccaa0f411851a7aa60a5c868",
                "/docker/ca.pem"
            ),
            "",
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
            (&[home], &[config, tcp], Ok("tcp://far:2376")),
            (
                &[home],
                &[config, tcp, authority],
                Ok("tcp://far:2376 with TLS"),
            ),
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
