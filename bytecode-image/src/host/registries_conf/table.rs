//! Tables of a TOML file, whose values know where they stand.

use std::fmt;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::{Problem, RegistriesError};

/// Where a setting stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// The file.
    pub file: PathBuf,
    /// Line, from 1.
    pub line: usize,
    /// The key, with those that it is in: `registry[0].location`.
    pub key: String,
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "in {}, line {}, key `{}`",
            self.file.display(),
            self.line,
            self.key
        )
    }
}

impl Setting {
    pub(super) fn wrong(&self, problem: Problem) -> RegistriesError {
        RegistriesError::Value {
            at: self.clone(),
            problem,
        }
    }
}

/// A text and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Located {
    pub(super) value: String,
    pub(super) at: Setting,
}

impl Located {
    pub(super) fn wrong(&self, problem: Problem) -> RegistriesError {
        self.at.wrong(problem)
    }

    /// As a prefix or location: no `/` at the end, the host in lower case.
    pub(super) fn into_place(self) -> Result<Self, RegistriesError> {
        let trimmed = self.value.trim_end_matches('/');
        if trimmed.is_empty() {
            return Err(self.wrong(Problem::Empty));
        }
        if trimmed.contains("://") {
            return Err(self.wrong(Problem::Url(self.value.clone())));
        }
        let value = match trimmed.split_once('/') {
            Some((host, path)) => format!("{}/{path}", host.to_ascii_lowercase()),
            None => trimmed.to_ascii_lowercase(),
        };
        Ok(Self { value, at: self.at })
    }

    /// As a registry alone, without a path.
    pub(super) fn into_host(self) -> Result<Self, RegistriesError> {
        let place = self.into_place()?;
        if place.value.contains(['/', '@']) {
            return Err(place.wrong(Problem::NotARegistry(place.value.clone())));
        }
        Ok(place)
    }
}

/// The text of a file.
pub(super) struct Text<'a> {
    file: &'a Path,
    text: &'a str,
    /// Where its lines end.
    ends: Vec<usize>,
}

impl<'a> Text<'a> {
    pub(super) fn new(file: &'a Path, text: &'a str) -> Self {
        let ends = text.match_indices('\n').map(|(at, _)| at).collect();
        Self { file, text, ends }
    }

    /// The file as a table.
    pub(super) fn parse(&self) -> Result<Spanned<DeTable<'a>>, RegistriesError> {
        DeTable::parse(self.text).map_err(|error| RegistriesError::Syntax {
            file: self.file.to_owned(),
            line: self.line(error.span().map_or(0, |span| span.start)),
            message: error.message().to_owned(),
        })
    }

    /// Line, from 1, of a place in the text.
    fn line(&self, at: usize) -> usize {
        self.ends.partition_point(|end| *end < at) + 1
    }
}

/// A table of a file, and the key that it stands under.
pub(super) struct Table<'a, 'i> {
    source: &'a Text<'i>,
    key: String,
    /// Where it begins in the text.
    start: usize,
    table: &'a DeTable<'i>,
}

/// A value, its whole key, and where it begins.
struct Value<'a, 'i> {
    source: &'a Text<'i>,
    key: String,
    start: usize,
    value: &'a DeValue<'i>,
}

impl<'a, 'i> Table<'a, 'i> {
    /// The table of a whole file.
    pub(super) fn whole(source: &'a Text<'i>, table: &'a DeTable<'i>) -> Self {
        Self {
            source,
            key: String::new(),
            start: 0,
            table,
        }
    }

    /// Where the table stands.
    pub(super) fn at(&self) -> Setting {
        Setting {
            file: self.source.file.to_owned(),
            line: self.source.line(self.start),
            key: self.key.clone(),
        }
    }

    /// The names in the table.
    pub(super) fn names(&self) -> impl Iterator<Item = &'a str> {
        self.table.keys().map(|name| name.get_ref().as_ref())
    }

    fn value(&self, name: &str) -> Option<Value<'a, 'i>> {
        let value = self.table.get(name)?;
        let key = if self.key.is_empty() {
            name.to_owned()
        } else {
            format!("{}.{name}", self.key)
        };
        Some(Value {
            source: self.source,
            key,
            start: value.span().start,
            value: value.get_ref(),
        })
    }

    /// A string.
    pub(super) fn text(&self, name: &str) -> Result<Option<Located>, RegistriesError> {
        self.value(name).map(|value| value.text()).transpose()
    }

    /// An array of strings.
    pub(super) fn texts(&self, name: &str) -> Result<Option<Vec<Located>>, RegistriesError> {
        let Some(value) = self.value(name) else {
            return Ok(None);
        };
        let texts = value.entries("an array of strings")?;
        texts
            .iter()
            .map(Value::text)
            .collect::<Result<_, _>>()
            .map(Some)
    }

    /// True or false; false where there is none.
    pub(super) fn flag(&self, name: &str) -> Result<bool, RegistriesError> {
        self.value(name).map_or(Ok(false), |value| {
            value
                .value
                .as_bool()
                .ok_or_else(|| value.wrong_type("true or false"))
        })
    }

    /// A table.
    pub(super) fn table(&self, name: &str) -> Result<Option<Self>, RegistriesError> {
        self.value(name).map(Value::table).transpose()
    }

    /// An array of tables; an empty one where there is none.
    pub(super) fn tables(&self, name: &str) -> Result<Vec<Self>, RegistriesError> {
        let Some(value) = self.value(name) else {
            return Ok(Vec::new());
        };
        value
            .entries("an array of tables")?
            .into_iter()
            .map(Value::table)
            .collect()
    }
}

impl<'a, 'i> Value<'a, 'i> {
    fn at(&self) -> Setting {
        Setting {
            file: self.source.file.to_owned(),
            line: self.source.line(self.start),
            key: self.key.clone(),
        }
    }

    fn wrong_type(&self, expected: &'static str) -> RegistriesError {
        self.at().wrong(Problem::Type {
            expected,
            found: self.value.type_str(),
        })
    }

    fn text(&self) -> Result<Located, RegistriesError> {
        let text = self
            .value
            .as_str()
            .ok_or_else(|| self.wrong_type("a string"))?;
        Ok(Located {
            value: text.to_owned(),
            at: self.at(),
        })
    }

    fn table(self) -> Result<Table<'a, 'i>, RegistriesError> {
        let table = self
            .value
            .as_table()
            .ok_or_else(|| self.wrong_type("a table"))?;
        Ok(Table {
            source: self.source,
            key: self.key,
            start: self.start,
            table,
        })
    }

    fn entries(&self, expected: &'static str) -> Result<Vec<Self>, RegistriesError> {
        let array = self
            .value
            .as_array()
            .ok_or_else(|| self.wrong_type(expected))?;
        let entry = |(at, value): (usize, &'a Spanned<DeValue<'i>>)| Self {
            source: self.source,
            key: format!("{}[{at}]", self.key),
            start: value.span().start,
            value: value.get_ref(),
        };
        Ok(array.iter().enumerate().map(entry).collect())
    }
}
