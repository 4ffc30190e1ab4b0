//! One file of `registries.conf`: text to settings, each with its line.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::error::{Problem, RegistriesError};
use super::table::{Located, Setting, Table, Text};
use crate::reference::Reference;

/// Which of the files a text is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    /// The main file, of version 2 or 1.
    Main,
    /// A drop-in file: version 2 only.
    DropIn,
    /// What a containers tool wrote: aliases only.
    Aliases,
}

/// Settings of one file, or of several of which later ones override.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Conf {
    pub(super) registries: Vec<Registry>,
    pub(super) search: Option<Vec<Located>>,
    pub(super) mode: Option<ShortNameMode>,
    pub(super) credential_helpers: Option<Vec<String>>,
    /// Short name to image; `None` erases.
    pub(super) aliases: BTreeMap<String, Option<Located>>,
}

/// One `[[registry]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Registry {
    /// As it is matched: host in lower case, no `/` at the end.
    pub(super) prefix: String,
    /// Where the table stands.
    pub(super) at: Setting,
    /// `None` with a `*.` prefix only: names stay as they are.
    pub(super) location: Option<Located>,
    pub(super) insecure: bool,
    pub(super) blocked: bool,
    pub(super) mirror_by_digest_only: bool,
    pub(super) mirrors: Vec<Mirror>,
}

/// One `[[registry.mirror]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mirror {
    pub(super) location: Located,
    pub(super) insecure: bool,
    pub(super) pull: PullFromMirror,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PullFromMirror {
    All,
    DigestOnly,
    TagOnly,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ShortNameMode {
    Enforcing,
    Permissive,
    Disabled,
}

impl Conf {
    /// Reads one file. Keys that are not known are passed over: newer tools have more of them.
    pub(super) fn parse(
        file: &Path,
        bytes: &[u8],
        format: Format,
    ) -> Result<Self, RegistriesError> {
        let text = std::str::from_utf8(bytes).map_err(|_| RegistriesError::NotUtf8 {
            file: file.to_owned(),
        })?;
        let source = Text::new(file, text);
        let parsed = source.parse()?;
        let whole = Table::whole(&source, parsed.get_ref());
        let mut conf = Self::default();
        if let Some(aliases) = whole.table("aliases")? {
            conf.aliases = read_aliases(&aliases)?;
        }
        if format == Format::Aliases {
            return Ok(conf);
        }
        conf.search = whole
            .texts("unqualified-search-registries")?
            .map(|entries| entries.into_iter().map(Located::into_host).collect())
            .transpose()?;
        conf.credential_helpers = whole
            .texts("credential-helpers")?
            .map(|helpers| helpers.into_iter().map(|helper| helper.value).collect());
        conf.mode = whole
            .text("short-name-mode")?
            .map(|mode| short_name_mode(&mode))
            .transpose()?;
        for table in whole.tables("registry")? {
            conf.registries.push(read_registry(&table)?);
        }
        conf.check_conflicts()?;
        if let Some(old) = whole.table("registries")? {
            conf.read_version_1(&old, format)?;
        }
        Ok(conf)
    }

    /// Tables of one location must agree on what is said of the server there.
    fn check_conflicts(&self) -> Result<(), RegistriesError> {
        let mut first: BTreeMap<&str, &Registry> = BTreeMap::new();
        for registry in &self.registries {
            let Some(location) = &registry.location else {
                continue;
            };
            let other = first.entry(&location.value).or_insert(registry);
            let key = match () {
                () if other.insecure != registry.insecure => "insecure",
                () if other.blocked != registry.blocked => "blocked",
                () => continue,
            };
            return Err(registry.at.wrong(Problem::Conflict {
                location: location.value.clone(),
                key,
            }));
        }
        Ok(())
    }

    fn read_version_1(
        &mut self,
        old: &Table<'_, '_>,
        format: Format,
    ) -> Result<(), RegistriesError> {
        if format == Format::DropIn {
            return Err(old.at().wrong(Problem::Version1));
        }
        let list = |name: &str| -> Result<Vec<Located>, RegistriesError> {
            let table = old.table(name)?;
            let entries = table.map(|table| table.texts("registries")).transpose()?;
            Ok(entries.flatten().unwrap_or_default())
        };
        let (search, insecure, block) = (list("search")?, list("insecure")?, list("block")?);
        if search.is_empty() && insecure.is_empty() && block.is_empty() {
            return Ok(());
        }
        if self.search.is_some() || !self.registries.is_empty() {
            return Err(old.at().wrong(Problem::MixedVersions));
        }
        let mut registries = BTreeMap::new();
        for (entries, blocked) in [(insecure, false), (block, true)] {
            for entry in entries {
                let location = entry.into_place()?;
                let registry =
                    registries
                        .entry(location.value.clone())
                        .or_insert_with(|| Registry {
                            prefix: location.value.clone(),
                            at: location.at.clone(),
                            location: Some(location),
                            insecure: false,
                            blocked: false,
                            mirror_by_digest_only: false,
                            mirrors: Vec::new(),
                        });
                registry.insecure |= !blocked;
                registry.blocked |= blocked;
            }
        }
        self.registries = registries.into_values().collect();
        self.search = Some(
            search
                .into_iter()
                .map(Located::into_host)
                .collect::<Result<_, _>>()?,
        );
        Ok(())
    }

    /// Takes over the settings of a later file. Of several tables with one prefix in one file the first counts.
    pub(super) fn override_with(&mut self, later: Self) {
        if !later.registries.is_empty() {
            let replaced: BTreeSet<&str> = later
                .registries
                .iter()
                .map(|registry| registry.prefix.as_str())
                .collect();
            self.registries
                .retain(|registry| !replaced.contains(registry.prefix.as_str()));
            self.registries.extend(later.registries);
        }
        self.search = later.search.or(self.search.take());
        self.mode = later.mode.or(self.mode);
        self.credential_helpers = later.credential_helpers.or(self.credential_helpers.take());
        self.aliases.extend(later.aliases);
    }
}

fn short_name_mode(mode: &Located) -> Result<ShortNameMode, RegistriesError> {
    match mode.value.as_str() {
        "enforcing" => Ok(ShortNameMode::Enforcing),
        "" | "permissive" => Ok(ShortNameMode::Permissive),
        "disabled" => Ok(ShortNameMode::Disabled),
        _ => Err(mode.wrong(Problem::Word {
            expected: "enforcing, permissive, disabled",
            found: mode.value.clone(),
        })),
    }
}

fn read_aliases(
    table: &Table<'_, '_>,
) -> Result<BTreeMap<String, Option<Located>>, RegistriesError> {
    let mut aliases = BTreeMap::new();
    for name in table.names() {
        let Some(value) = table.text(name)? else {
            continue;
        };
        if !is_bare_name(name, false) {
            return Err(value.wrong(Problem::ShortName(name.to_owned())));
        }
        let value = match value.value.as_str() {
            "" => None,
            full if is_bare_name(full, true) => Some(value),
            other => return Err(value.wrong(Problem::FullName(other.to_owned()))),
        };
        aliases.insert(name.to_owned(), value);
    }
    Ok(aliases)
}

fn read_registry(table: &Table<'_, '_>) -> Result<Registry, RegistriesError> {
    if let Some(setting) = table.text("pull-from-mirror")? {
        return Err(setting.wrong(Problem::NotInRegistry));
    }
    let place = |name: &str| {
        let text = table.text(name)?.filter(|text| !text.value.is_empty());
        text.map(Located::into_place).transpose()
    };
    let location = place("location")?;
    let prefix = match place("prefix")?.or_else(|| location.clone()) {
        Some(prefix) => prefix,
        None => return Err(table.at().wrong(Problem::NoLocation)),
    };
    let domain = prefix.value.strip_prefix("*.");
    if prefix.value.contains('*')
        && domain.is_none_or(|domain| domain.is_empty() || domain.contains(['*', '/', ':', '@']))
    {
        return Err(prefix.wrong(Problem::Wildcard(prefix.value.clone())));
    }
    if location.is_none() && domain.is_none() {
        return Err(table.at().wrong(Problem::NoLocation));
    }
    let mirror_by_digest_only = table.flag("mirror-by-digest-only")?;
    let mirrors = table.tables("mirror")?;
    Ok(Registry {
        prefix: prefix.value,
        at: table.at(),
        location,
        insecure: table.flag("insecure")?,
        blocked: table.flag("blocked")?,
        mirror_by_digest_only,
        mirrors: mirrors
            .iter()
            .map(|mirror| read_mirror(mirror, mirror_by_digest_only))
            .collect::<Result<_, _>>()?,
    })
}

fn read_mirror(table: &Table<'_, '_>, by_digest_only: bool) -> Result<Mirror, RegistriesError> {
    let location = match table.text("location")? {
        Some(location) => location.into_place()?,
        None => return Err(table.at().wrong(Problem::NoMirrorLocation)),
    };
    let pull = match table
        .text("pull-from-mirror")?
        .filter(|text| !text.value.is_empty())
    {
        None => PullFromMirror::All,
        Some(text) if by_digest_only => return Err(text.wrong(Problem::MirrorByDigestOnly)),
        Some(text) => match text.value.as_str() {
            "all" => PullFromMirror::All,
            "digest-only" => PullFromMirror::DigestOnly,
            "tag-only" => PullFromMirror::TagOnly,
            _ => {
                let expected = "all, digest-only, tag-only";
                return Err(text.wrong(Problem::Word {
                    expected,
                    found: text.value.clone(),
                }));
            }
        },
    };
    Ok(Mirror {
        location,
        insecure: table.flag("insecure")?,
        pull,
    })
}

/// Whether a text names an image without tag and digest: with a registry in front, or without.
fn is_bare_name(name: &str, with_registry: bool) -> bool {
    let (registry, path) = match name.split_once('/') {
        Some((first, path)) if is_host(first) => (Some(first), path),
        _ => (None, name),
    };
    registry.is_some() == with_registry
        && !path.contains([':', '@'])
        && name.parse::<Reference>().is_ok()
}

/// Whether the first part of a name is a registry, as references are read: a dot, a port, or localhost.
pub(super) fn is_host(first: &str) -> bool {
    first == "localhost" || first.contains(['.', ':', '['])
}
