//! Which login an image's registry gets: the files and programs of the host, in their order.
//!
//! The order is that of containers-auth.json(5): `REGISTRY_AUTH_FILE`; `$XDG_RUNTIME_DIR/containers/auth.json` (or
//! `/run/containers/<uid>/auth.json`); `~/.config/containers/auth.json`; `$DOCKER_CONFIG/config.json` or
//! `~/.docker/config.json`. The first that has a login decides. `credential-helpers` of `registries.conf` says which
//! helpers are asked before or after them.

use std::path::PathBuf;

use crate::host::auth_file::{AuthFile, AuthFileError, Found, Login, MAX_AUTH_FILE_BYTES};
use crate::host::environment::Environment;
use crate::host::file::{self, FileError};
use crate::host::helper::{self, HELPER_TIMEOUT, HelperError};
use crate::reference::Reference;

/// The word in `credential-helpers` that stands for the files.
const FILES: &str = "containers-auth.json";

/// A login, and where it is from, for messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostLogin {
    /// The login.
    pub login: Login,
    /// Where it is from.
    pub source: Source,
}

/// Where a login is from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// This key of this file.
    File {
        /// The file.
        file: PathBuf,
        /// The key as it is written.
        key: String,
    },
    /// The helper `docker-credential-<name>`.
    Helper {
        /// What follows `docker-credential-`.
        name: String,
    },
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File { file, key } => write!(f, "`{key}` in {}", file.display()),
            Self::Helper { name } => write!(f, "docker-credential-{name}"),
        }
    }
}

/// Why the host's logins cannot be used for an image.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoginError {
    /// A file cannot be read.
    #[error("looking for a login at {registry}")]
    File {
        /// The registry.
        registry: String,
        /// What is wrong.
        #[source]
        source: FileError,
    },
    /// A file, or its entry for this registry, is broken.
    #[error("looking for a login at {registry}, in {}", file.display())]
    Entry {
        /// The registry.
        registry: String,
        /// The file.
        file: PathBuf,
        /// What is wrong.
        #[source]
        source: AuthFileError,
    },
    /// A helper gave no answer.
    #[error("looking for a login at {registry}, with the credential helper that {} names", named_in.display())]
    Helper {
        /// The registry.
        registry: String,
        /// The file that names the helper.
        named_in: PathBuf,
        /// What is wrong.
        #[source]
        source: Box<HelperError>,
    },
}

/// The login for the registry of `image`; `None` means that it is asked without one.
///
/// `credential_helpers` is [`Registries::credential_helpers`](crate::host::registries_conf::Registries::credential_helpers).
/// A helper that stands for every registry and is not installed is passed over with a warning in the log; one that
/// is named for this registry is not.
///
/// # Errors
///
/// When a file on the way cannot be read (one that this user may not see only where no other has a login), its entry for this registry is broken, or a helper fails.
pub fn find(
    environment: &Environment,
    credential_helpers: &[String],
    image: &Reference,
) -> Result<Option<HostLogin>, LoginError> {
    let ask = |name: &str, server: &str| {
        helper::get(name, server, environment.path.as_deref(), HELPER_TIMEOUT)
    };
    if credential_helpers.is_empty() {
        return in_files(environment, image, &ask);
    }
    for name in credential_helpers {
        let found = if name == FILES {
            in_files(environment, image, &ask)?
        } else {
            general(name, image.registry(), &ask)
                .map_err(|source| LoginError::Helper {
                    registry: image.registry().to_owned(),
                    named_in: PathBuf::from("registries.conf"),
                    source: Box::new(source),
                })?
                .map(|login| HostLogin {
                    login,
                    source: Source::Helper { name: name.clone() },
                })
        };
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}

/// Asks a helper that stands for every registry.
fn general(name: &str, server: &str, ask: &Ask<'_>) -> Result<Option<Login>, HelperError> {
    match ask(name, server) {
        Err(HelperError::Missing { program }) => {
            log::warn!("the credential helper {program} is not in PATH: going on without it");
            Ok(None)
        }
        answer => answer,
    }
}

/// Name and server to login.
type Ask<'a> = dyn Fn(&str, &str) -> Result<Option<Login>, HelperError> + 'a;

fn in_files(
    environment: &Environment,
    image: &Reference,
    ask: &Ask<'_>,
) -> Result<Option<HostLogin>, LoginError> {
    let registry = || image.registry().to_owned();
    let mut denied = None;
    for place in environment.auth_files() {
        let of_file = |source| LoginError::File {
            registry: registry(),
            source,
        };
        let bytes = if place.named {
            file::read_named(&place.file, MAX_AUTH_FILE_BYTES).map_err(of_file)?
        } else {
            match file::read(&place.file, MAX_AUTH_FILE_BYTES) {
                Ok(Some(bytes)) => bytes,
                Ok(None) => continue,
                // As containers tools do it: what another user may not see matters only where nothing else is found.
                Err(error) if error.is_denied() => {
                    denied.get_or_insert(of_file(error));
                    continue;
                }
                Err(error) => return Err(of_file(error)),
            }
        };
        let found = AuthFile::parse(&bytes)
            .and_then(|file| file.find(image))
            .map_err(|source| LoginError::Entry {
                registry: registry(),
                file: place.file.clone(),
                source,
            })?;
        let of_helper = |source| LoginError::Helper {
            registry: registry(),
            named_in: place.file.clone(),
            source: Box::new(source),
        };
        match found {
            Some(Found::Login { key, login }) => {
                return Ok(Some(HostLogin {
                    login,
                    source: Source::File {
                        file: place.file,
                        key,
                    },
                }));
            }
            Some(Found::Helper {
                name,
                server,
                general: for_all,
            }) => {
                let answer = if for_all {
                    general(&name, &server, ask)
                } else {
                    ask(&name, &server)
                };
                if let Some(login) = answer.map_err(of_helper)? {
                    return Ok(Some(HostLogin {
                        login,
                        source: Source::Helper { name },
                    }));
                }
            }
            None => {}
        }
    }
    denied.map_or(Ok(None), Err)
}

#[cfg(test)]
mod tests {
    use std::error::Error as _;
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::host::auth_file::Secret;

    /// A host with these files under its root; `/home` is home, `/bin` is `PATH`.
    fn host(files: &[(&str, &str)]) -> (tempfile::TempDir, Environment) {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).unwrap();
        }
        let environment = Environment {
            root: root.path().to_owned(),
            home: Some(root.path().join("home")),
            path: Some(root.path().join("bin").into_os_string()),
            uid: 7,
            ..Environment::default()
        };
        (root, environment)
    }

    fn source(found: Option<HostLogin>, root: &tempfile::TempDir) -> Option<String> {
        Some(
            found?
                .source
                .to_string()
                .replace(&format!("{}/", root.path().display()), ""),
        )
    }

    const LOGIN: &str = r#"{"auths":{"quay.io":{"identitytoken":"t"}}}"#;

    /// Every source by its place; each time the first is taken away and the next one answers.
    #[test]
    fn the_first_file_that_has_a_login() {
        let mut files = vec![
            ("named.json", LOGIN),
            ("run/containers/7/auth.json", LOGIN),
            ("home/.config/containers/auth.json", LOGIN),
            ("home/.docker/config.json", LOGIN),
        ];
        let image: Reference = "quay.io/a".parse().unwrap();
        while let Some((first, _)) = files.first().copied() {
            let (root, mut environment) = host(&files);
            if first == "named.json" {
                environment.registry_auth_file = Some(root.path().join("named.json"));
            }
            let found = find(&environment, &[], &image).unwrap();
            assert_eq!(source(found, &root), Some(format!("`quay.io` in {first}")));
            files.remove(0);
        }
        let (_root, environment) = host(&[("home/.docker/config.json", "{}")]);
        assert_eq!(find(&environment, &[], &image).unwrap(), None);
    }

    #[test]
    fn a_file_without_the_login_passes_the_question_on() {
        let (root, environment) = host(&[
            (
                "run/containers/7/auth.json",
                r#"{"auths":{"quay.io":{},"ghcr.io":{"auth":"broken"}}}"#,
            ),
            ("home/.docker/config.json", LOGIN),
        ]);
        let found = find(&environment, &[], &"quay.io/a".parse().unwrap()).unwrap();
        assert_eq!(
            source(found, &root).as_deref(),
            Some("`quay.io` in home/.docker/config.json")
        );
    }

    #[test]
    fn broken_files_are_named() {
        let image: Reference = "quay.io/a".parse().unwrap();
        let (_root, environment) = host(&[("home/.docker/config.json", "{")]);
        let error = find(&environment, &[], &image).unwrap_err();
        assert!(
            error.to_string().contains("at quay.io, in ")
                && error.to_string().ends_with("/.docker/config.json")
        );
        assert_eq!(
            error.source().unwrap().to_string(),
            "not JSON, in line 1, column 1"
        );

        let (root, mut environment) = host(&[]);
        environment.registry_auth_file = Some(root.path().join("none.json"));
        let error = find(&environment, &[], &image).unwrap_err();
        assert!(
            error.source().unwrap().to_string().ends_with("/none.json"),
            "{error:?}"
        );

        let (_root, environment) = host(&[(
            "home/.docker/config.json",
            r#"{"credHelpers":{"quay.io":"gone"}}"#,
        )]);
        let error = find(&environment, &[], &image).unwrap_err();
        assert_eq!(
            error.source().unwrap().to_string(),
            "docker-credential-gone is not in PATH"
        );
    }

    /// A file that nobody can open for reading, root neither: the kernel's own rule for it.
    const DENIED: &str = "/proc/sys/vm/compact_memory";

    #[test]
    fn what_another_user_may_not_see_matters_where_nothing_else_is_found() {
        let (root, mut environment) = host(&[("home/.docker/config.json", LOGIN)]);
        let denied = root.path().join("run/containers/7/auth.json");
        std::fs::create_dir_all(denied.parent().unwrap()).unwrap();
        std::os::unix::fs::symlink(DENIED, &denied).unwrap();
        let find = |environment: &Environment, image: &str| {
            find(environment, &[], &image.parse().unwrap())
        };
        let found = find(&environment, "quay.io/a/b").unwrap();
        assert_eq!(
            source(found, &root).as_deref(),
            Some("`quay.io` in home/.docker/config.json")
        );
        let error = find(&environment, "ghcr.io/a/b").unwrap_err();
        assert!(
            matches!(&error, LoginError::File { source, .. } if source.is_denied()),
            "{error:?}"
        );
        // One that a variable names is to be used.
        environment.registry_auth_file = Some(DENIED.into());
        find(&environment, "quay.io/a/b").unwrap_err();
    }

    #[test]
    fn helpers_in_their_order() {
        // What the answer is comes from here: running programs is tested where they are run.
        let ask = |name: &str, server: &str| match name {
            "has" => Ok(Some(Login::IdentityToken(Secret::new(server)))),
            "none" => Ok(None),
            _ => Err(HelperError::Missing {
                program: name.to_owned(),
            }),
        };
        let cases = [
            (
                r#"{"credHelpers":{"quay.io":"has"}}"#,
                "docker-credential-has",
            ),
            (
                r#"{"credHelpers":{"quay.io":"none"},"credsStore":"has"}"#,
                "`quay.io` in home/.docker/config.json",
            ),
            (r#"{"credsStore":"has"}"#, "docker-credential-has"),
            (
                r#"{"credsStore":"none"}"#,
                "`quay.io` in home/.docker/config.json",
            ),
            (
                r#"{"credsStore":"missing"}"#,
                "`quay.io` in home/.docker/config.json",
            ),
        ];
        for (text, expected) in cases {
            let (root, environment) = host(&[
                ("home/.config/containers/auth.json", text),
                ("home/.docker/config.json", LOGIN),
            ]);
            let found = in_files(&environment, &"quay.io/a".parse().unwrap(), &ask).unwrap();
            assert_eq!(source(found, &root).as_deref(), Some(expected), "{text}");
        }
    }

    #[test]
    fn helpers_of_registries_conf() {
        let image: Reference = "quay.io/a".parse().unwrap();
        let (root, environment) = host(&[("home/.docker/config.json", LOGIN)]);
        for helpers in [&["gone", FILES][..], &[FILES, "gone"]] {
            let helpers: Vec<String> = helpers.iter().map(ToString::to_string).collect();
            let found = find(&environment, &helpers, &image).unwrap();
            assert_eq!(
                source(found, &root).as_deref(),
                Some("`quay.io` in home/.docker/config.json")
            );
        }
        assert_eq!(
            find(&environment, &["gone".to_owned()], &image).unwrap(),
            None
        );
    }
}
