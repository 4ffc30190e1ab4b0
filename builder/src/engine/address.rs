use std::fmt;

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
    /// else the system's socket and the user's.
    pub(super) fn of(
        runtime: Runtime,
        environment: impl Fn(&str) -> Option<String>,
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
        let lookup = |name: &str| {
            let found = environment.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        match Address::of(runtime, lookup) {
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
