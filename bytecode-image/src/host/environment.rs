//! The variables that name files of the containers tools, and where those files are.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// What decides where files are looked for. Tests fill it in; [`Environment::of_process`] asks the process.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Environment {
    /// Home folder: `HOME`, else the user database's.
    pub home: Option<PathBuf>,
    /// `XDG_RUNTIME_DIR`.
    pub xdg_runtime_dir: Option<PathBuf>,
    /// `XDG_CONFIG_HOME`.
    pub xdg_config_home: Option<PathBuf>,
    /// `XDG_CACHE_HOME`.
    pub xdg_cache_home: Option<PathBuf>,
    /// `DOCKER_CONFIG`: a folder.
    pub docker_config: Option<PathBuf>,
    /// `REGISTRY_AUTH_FILE`.
    pub registry_auth_file: Option<PathBuf>,
    /// `CONTAINERS_REGISTRIES_CONF`.
    pub registries_conf: Option<PathBuf>,
    /// `PATH`, where credential helpers are looked for.
    pub path: Option<OsString>,
    /// Real user id.
    pub uid: u32,
    /// What `/etc`, `/run` and `/var` are under: `/`.
    pub root: PathBuf,
}

impl Default for Environment {
    /// No variable set, user 0, the root folder `/`.
    fn default() -> Self {
        Self {
            home: None,
            xdg_runtime_dir: None,
            xdg_config_home: None,
            xdg_cache_home: None,
            docker_config: None,
            registry_auth_file: None,
            registries_conf: None,
            path: None,
            uid: 0,
            root: PathBuf::from("/"),
        }
    }
}

/// A file, and whether a variable of the user's names it, so that it must be there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The file.
    pub file: PathBuf,
    /// Whether it is an error when it is not there.
    pub named: bool,
}

/// Where the parts of `registries.conf` are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegistriesPlaces {
    /// The main file, the first that is there of these.
    pub main: Vec<Place>,
    /// Folders of drop-in files that count with the user's own main file: the user's only.
    pub drop_ins_of_user: Vec<PathBuf>,
    /// Folders of drop-in files that count with any other main file, in the order in which they are read.
    pub drop_ins: Vec<PathBuf>,
    /// The user's own main file.
    pub user_main: Option<PathBuf>,
    /// Aliases that a containers tool wrote down when its user chose a registry for a short name.
    pub aliases: Option<PathBuf>,
}

impl Environment {
    /// What the process was started with. An empty variable is one that is not set.
    pub fn of_process() -> Self {
        let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        let path = |name| variable(name).map(PathBuf::from);
        Self {
            home: std::env::home_dir().filter(|home| !home.as_os_str().is_empty()),
            xdg_runtime_dir: path("XDG_RUNTIME_DIR"),
            xdg_config_home: path("XDG_CONFIG_HOME"),
            xdg_cache_home: path("XDG_CACHE_HOME"),
            docker_config: path("DOCKER_CONFIG"),
            registry_auth_file: path("REGISTRY_AUTH_FILE"),
            registries_conf: path("CONTAINERS_REGISTRIES_CONF"),
            path: variable("PATH"),
            uid: rustix::process::getuid().as_raw(),
            root: PathBuf::from("/"),
        }
    }

    fn in_home(&self, path: &str) -> Option<PathBuf> {
        self.home.as_ref().map(|home| home.join(path))
    }

    /// Files with logins, the one that is asked first at the front (containers-auth.json(5)).
    ///
    /// Without `XDG_RUNTIME_DIR` (a service, `sudo`) the login tools write to `/run/containers/<uid>/auth.json`.
    pub fn auth_files(&self) -> Vec<Place> {
        let implied = |file| Place { file, named: false };
        let runtime = match &self.xdg_runtime_dir {
            Some(folder) => folder.join("containers/auth.json"),
            None => self
                .root
                .join(format!("run/containers/{}/auth.json", self.uid)),
        };
        let config = self
            .xdg_config_home
            .clone()
            .or_else(|| self.in_home(".config"));
        let docker = self
            .docker_config
            .clone()
            .or_else(|| self.in_home(".docker"));
        let named = self
            .registry_auth_file
            .clone()
            .map(|file| Place { file, named: true });
        named
            .into_iter()
            .chain([implied(runtime)])
            .chain(config.map(|folder| implied(folder.join("containers/auth.json"))))
            .chain(docker.map(|folder| implied(folder.join("config.json"))))
            .collect()
    }

    /// Files of containers-registries.conf(5) and containers-registries.conf.d(5).
    pub fn registries(&self) -> RegistriesPlaces {
        let user_main = self.in_home(".config/containers/registries.conf");
        let user_drop_ins = self.in_home(".config/containers/registries.conf.d");
        let system = self.root.join("etc/containers/registries.conf");
        let main = match &self.registries_conf {
            Some(file) => vec![Place {
                file: file.clone(),
                named: true,
            }],
            None => user_main
                .iter()
                .cloned()
                .chain([system])
                .map(|file| Place { file, named: false })
                .collect(),
        };
        let cache = match self.uid {
            0 => Some(self.root.join("var/cache")),
            _ => self
                .xdg_cache_home
                .clone()
                .or_else(|| self.in_home(".cache")),
        };
        RegistriesPlaces {
            main,
            drop_ins_of_user: user_drop_ins.iter().cloned().collect(),
            drop_ins: [self.root.join("etc/containers/registries.conf.d")]
                .into_iter()
                .chain(user_drop_ins)
                .collect(),
            user_main,
            aliases: cache.map(|cache| cache.join("containers/short-name-aliases.conf")),
        }
    }

    /// The `registries.conf` that counts, or where there is none, the one that this user may make.
    pub(crate) fn registries_file(&self) -> PathBuf {
        let main: Vec<PathBuf> = self
            .registries()
            .main
            .into_iter()
            .map(|place| place.file)
            .collect();
        let there = main.iter().find(|file| file.is_file());
        let usual = if self.uid == 0 {
            main.last()
        } else {
            main.first()
        };
        there.or(usual).cloned().unwrap_or_default()
    }

    /// Folders of certificates for a registry (containers-certs.d(5), docker's `certs.d`); the first that is there
    /// decides alone.
    ///
    /// `registry` is `host` or `host:port`, as a [`Reference`](crate::reference::Reference) has it.
    pub(super) fn certificates(&self, registry: &str) -> Vec<PathBuf> {
        let folders = [
            self.root.join("etc/containers/certs.d"),
            self.root.join("etc/docker/certs.d"),
        ];
        self.in_home(".config/containers/certs.d")
            .into_iter()
            .chain(folders)
            .map(|folder: PathBuf| Path::new(&folder).join(registry))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(paths: impl IntoIterator<Item = PathBuf>) -> Vec<String> {
        paths
            .into_iter()
            .map(|path| path.display().to_string())
            .collect()
    }

    #[test]
    fn auth_files_in_their_order() {
        let files = |environment: &Environment| {
            texts(environment.auth_files().into_iter().map(|place| place.file))
        };
        let mut environment = Environment::default();
        assert_eq!(files(&environment), ["/run/containers/0/auth.json"]);
        environment.uid = 1000;
        environment.home = Some("/home/u".into());
        assert_eq!(
            files(&environment),
            [
                "/run/containers/1000/auth.json",
                "/home/u/.config/containers/auth.json",
                "/home/u/.docker/config.json"
            ]
        );
        environment.xdg_runtime_dir = Some("/run/user/1000".into());
        environment.xdg_config_home = Some("/c".into());
        environment.docker_config = Some("/d".into());
        environment.registry_auth_file = Some("/a.json".into());
        assert_eq!(
            files(&environment),
            [
                "/a.json",
                "/run/user/1000/containers/auth.json",
                "/c/containers/auth.json",
                "/d/config.json"
            ]
        );
        let named: Vec<bool> = environment
            .auth_files()
            .iter()
            .map(|place| place.named)
            .collect();
        assert_eq!(named, [true, false, false, false]);
    }

    #[test]
    fn registries_in_their_order() {
        let mut environment = Environment {
            home: Some("/home/u".into()),
            uid: 1000,
            ..Environment::default()
        };
        let places = environment.registries();
        let main = texts(places.main.into_iter().map(|place| place.file));
        assert_eq!(
            main,
            [
                "/home/u/.config/containers/registries.conf",
                "/etc/containers/registries.conf"
            ]
        );
        assert_eq!(
            texts(places.drop_ins),
            [
                "/etc/containers/registries.conf.d",
                "/home/u/.config/containers/registries.conf.d"
            ]
        );
        assert_eq!(
            texts(places.drop_ins_of_user),
            ["/home/u/.config/containers/registries.conf.d"]
        );
        assert_eq!(
            texts(places.aliases),
            ["/home/u/.cache/containers/short-name-aliases.conf"]
        );

        environment.registries_conf = Some("/r.conf".into());
        environment.xdg_cache_home = Some("/k".into());
        let places = environment.registries();
        assert_eq!(
            places.main,
            [Place {
                file: "/r.conf".into(),
                named: true
            }]
        );
        assert_eq!(
            texts(places.aliases),
            ["/k/containers/short-name-aliases.conf"]
        );

        environment.uid = 0;
        assert_eq!(
            texts(environment.registries().aliases),
            ["/var/cache/containers/short-name-aliases.conf"]
        );
    }

    #[test]
    fn certificates_in_their_order() {
        let environment = Environment {
            home: Some("/root".into()),
            ..Environment::default()
        };
        assert_eq!(
            texts(environment.certificates("my-registry.com:5000")),
            [
                "/root/.config/containers/certs.d/my-registry.com:5000",
                "/etc/containers/certs.d/my-registry.com:5000",
                "/etc/docker/certs.d/my-registry.com:5000",
            ]
        );
    }
}
