//! `registries.conf`: which servers answer for an image (containers-registries.conf(5), version 2 and 1).
//!
//! | file | what |
//! | --- | --- |
//! | `table` | TOML tables whose values know their file, line and key |
//! | `parse` | one file: text to settings |
//! | `plan` | settings and an image to the servers to ask, in their order |
//!
//! Own code: no crate on the registry reads this format with its drop-in files, wildcards and aliases.
//!
//! One main file counts: `CONTAINERS_REGISTRIES_CONF`, else the user's, else the system's. Then come drop-in files,
//! each overriding what stands before: `[[registry]]` tables by their prefix, aliases by their name, lists as a whole.
//! With the user's own main file only the user's drop-in files count (containers-registries.conf.d(5)).

mod error;
mod parse;
mod plan;
mod table;
#[cfg(test)]
mod tests;

use std::path::Path;

pub use error::{Problem, RegistriesError};
pub use plan::{Endpoint, PlanError};
pub use table::Setting;

use crate::host::environment::Environment;
use crate::host::file;
use parse::{Conf, Format};

/// Longest file that is read, in bytes: 1 MiB. The longest known, Fedora's list of short names, has 25 KiB.
pub const MAX_REGISTRIES_BYTES: u64 = 1 << 20;

/// Most drop-in files of one folder: 256.
pub const MAX_DROP_INS: usize = 256;

/// The settings of a host, drop-in files included.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Registries {
    conf: Conf,
}

impl Registries {
    /// Reads the host's files. Where there are none, every image is asked for where its name says.
    ///
    /// # Errors
    ///
    /// When a file cannot be read or is broken: with its name, the line and the key.
    pub fn read(environment: &Environment) -> Result<Self, RegistriesError> {
        let places = environment.registries();
        let mut conf = Conf::default();
        let mut drop_ins = &places.drop_ins;
        for place in &places.main {
            let bytes = if place.named {
                Some(file::read_named(&place.file, MAX_REGISTRIES_BYTES)?)
            } else {
                file::read(&place.file, MAX_REGISTRIES_BYTES)?
            };
            if let Some(bytes) = bytes {
                conf.override_with(Conf::parse(&place.file, &bytes, Format::Main)?);
                if places.user_main.as_ref() == Some(&place.file) && !place.named {
                    drop_ins = &places.drop_ins_of_user;
                }
                break;
            }
        }
        for folder in drop_ins {
            for path in file::list(folder, &["conf"], MAX_DROP_INS)?.unwrap_or_default() {
                if !path.is_dir() {
                    conf.override_with(read(&path, Format::DropIn)?);
                }
            }
        }
        // Written by a containers tool when its user chose; it knows better than any file before (shortnames).
        if let Some(file) = places.aliases
            && let Some(bytes) = file::read(&file, MAX_REGISTRIES_BYTES)?
        {
            conf.override_with(Conf::parse(&file, &bytes, Format::Aliases)?);
        }
        Ok(Self { conf })
    }

    /// Settings of one text, as a main file: for tests and tools.
    ///
    /// # Errors
    ///
    /// When it is broken.
    pub fn parse(file: &Path, bytes: &[u8]) -> Result<Self, RegistriesError> {
        Conf::parse(file, bytes, Format::Main).map(|conf| Self { conf })
    }

    /// `credential-helpers`; empty where no file has the key, which means the files with logins alone.
    pub fn credential_helpers(&self) -> &[String] {
        self.conf.credential_helpers.as_deref().unwrap_or_default()
    }
}

fn read(file: &Path, format: Format) -> Result<Conf, RegistriesError> {
    let bytes = file::read_named(file, MAX_REGISTRIES_BYTES)?;
    Conf::parse(file, &bytes, format)
}

#[cfg(test)]
mod files {
    use super::*;

    /// A host with these files under its root; `/home` is home.
    fn host(files: &[(&str, &str)]) -> (tempfile::TempDir, Environment) {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let environment = Environment {
            root: root.path().to_owned(),
            home: Some(root.path().join("home")),
            ..Environment::default()
        };
        (root, environment)
    }

    /// The one registry that answers for the short name `a` says which file decided.
    fn search(files: &[(&str, &str)]) -> String {
        let (_root, environment) = host(files);
        let registries = Registries::read(&environment).unwrap();
        let plan = registries.plan(&"a".parse().unwrap(), Some("a")).unwrap();
        plan.iter()
            .map(|endpoint| endpoint.reference.registry())
            .collect::<Vec<_>>()
            .join(" ")
    }

    const MAIN: &str = "etc/containers/registries.conf";
    const USER: &str = "home/.config/containers/registries.conf";

    #[test]
    fn later_files_override() {
        let of = |host: &str| format!("unqualified-search-registries = ['{host}.example']");
        let main = of("main");
        let user = of("user");
        let a = of("a");
        let b = of("b");
        let own = of("own");
        let system_a = (&*format!("{MAIN}.d/10-a.conf"), &*a);
        let system_b = (&*format!("{MAIN}.d/20-b.conf"), &*b);
        let ignored = (&*format!("{MAIN}.d/30-b.conf.rpmsave"), "broken");
        let user_d = (&*format!("{USER}.d/own.conf"), &*own);
        let cases: [(&[(&str, &str)], &str); 7] = [
            (&[], "docker.io"),
            (&[(MAIN, &main)], "main.example"),
            (&[(MAIN, &main), system_b, system_a, ignored], "b.example"),
            (&[system_a], "a.example"),
            (&[(MAIN, &main), system_a, user_d], "own.example"),
            (&[(MAIN, &main), (USER, &user), system_a], "user.example"),
            (
                &[(MAIN, &main), (USER, &user), system_a, user_d],
                "own.example",
            ),
        ];
        for (files, expected) in cases {
            assert_eq!(search(files), expected, "{files:?}");
        }
    }

    #[test]
    fn a_named_file_counts_alone_but_for_drop_ins() {
        let (root, mut environment) = host(&[
            (USER, "unqualified-search-registries = ['user.example']"),
            ("named", "[aliases]\na = 'named.example/a'"),
            (
                "etc/containers/registries.conf.d/1.conf",
                "[aliases]\nb = 'drop.example/b'",
            ),
        ]);
        environment.registries_conf = Some(root.path().join("named"));
        let registries = Registries::read(&environment).unwrap();
        for (short, expected) in [
            ("a", "named.example/a"),
            ("b", "drop.example/b"),
            ("c", "docker.io/library/c"),
        ] {
            let plan = registries
                .plan(&short.parse().unwrap(), Some(short))
                .unwrap();
            assert_eq!(plan[0].reference.name(), expected);
        }
        environment.registries_conf = Some(root.path().join("gone"));
        assert!(matches!(
            Registries::read(&environment),
            Err(RegistriesError::File(_))
        ));
    }

    #[test]
    fn written_aliases_override_and_empty_ones_erase() {
        let (_root, environment) = host(&[
            (
                MAIN,
                "[aliases]\na = 'one.example/a'\nb = 'one.example/b'\nc = 'one.example/c'",
            ),
            (
                "etc/containers/registries.conf.d/1.conf",
                "[aliases]\nb = ''",
            ),
            (
                "var/cache/containers/short-name-aliases.conf",
                "[aliases]\n\"c\" = \"two.example/c\"\n",
            ),
        ]);
        let registries = Registries::read(&environment).unwrap();
        for (short, expected) in [
            ("a", "one.example/a"),
            ("b", "docker.io/library/b"),
            ("c", "two.example/c"),
        ] {
            let plan = registries
                .plan(&short.parse().unwrap(), Some(short))
                .unwrap();
            assert_eq!(plan[0].reference.name(), expected);
        }
    }

    #[test]
    fn tables_of_one_prefix_are_replaced_as_a_whole() {
        let (_root, environment) = host(&[
            (
                MAIN,
                "[[registry]]\nprefix = 'a.example'\nlocation = 'b.example'\ninsecure = true\n[[registry]]\nlocation = 'c.example'\nblocked = true",
            ),
            (
                "etc/containers/registries.conf.d/1.conf",
                "[[registry]]\nlocation = 'a.example'",
            ),
        ]);
        let registries = Registries::read(&environment).unwrap();
        let plan = registries
            .plan(&"a.example/x".parse().unwrap(), None)
            .unwrap();
        assert_eq!(plan[0].reference.registry(), "a.example");
        assert!(!plan[0].insecure);
        assert!(
            registries
                .plan(&"c.example/x".parse().unwrap(), None)
                .is_err()
        );
    }

    #[test]
    fn a_broken_drop_in_is_named() {
        let (_root, environment) = host(&[(
            "etc/containers/registries.conf.d/1.conf",
            "\nshort-name-mode = 'x'",
        )]);
        let error = Registries::read(&environment).unwrap_err().to_string();
        assert!(
            error.contains("/registries.conf.d/1.conf, line 2, key `short-name-mode`: "),
            "{error}"
        );
    }
}
