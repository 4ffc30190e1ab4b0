//! A plan as text: what `generate-build-args` prints. Pure.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use crate::plan::{Arguments, BuildPlan, PlanError};

/// How build arguments are written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `NAME=VALUE` lines.
    Text,
    /// `NAME='VALUE'` lines for a POSIX shell's `eval`.
    Shell,
    /// One object: values by names.
    Json,
    /// For the file of `$GITHUB_OUTPUT`: an output a name, and `build-args` with all of them as lines, as
    /// `docker/build-push-action` takes them.
    Github,
}

/// Build arguments of a plan, with the paths as they were given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildArgs {
    arguments: Vec<(&'static str, OsString)>,
}

impl BuildArgs {
    pub(crate) fn of(plan: &BuildPlan) -> Self {
        let mut arguments = Vec::with_capacity(plan.objects.len() + 2);
        for (architecture, object) in &plan.objects {
            let name = match plan.arguments {
                Arguments::OneFile => "BYTECODE_FILE",
                Arguments::FilePerArchitecture => architecture.build_arg(),
            };
            arguments.push((name, object.path.clone().into_os_string()));
        }
        if let Some(object) = plan.objects.values().next() {
            arguments.push(("PROGRAMS", object.programs.clone().into()));
            arguments.push(("MAPS", object.maps.clone().into()));
        }
        Self { arguments }
    }

    /// Names and values: files first, sorted by architecture, then `PROGRAMS` and `MAPS`. Paths are bytes.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &OsStr)> {
        self.arguments
            .iter()
            .map(|(name, value)| (*name, value.as_os_str()))
    }

    /// The arguments in that format: bytes, because paths are.
    ///
    /// # Errors
    ///
    /// When a path cannot stand in the format: a line break in [`Format::Text`], bytes that are not UTF-8 in
    /// [`Format::Json`] and [`Format::Github`].
    pub fn render(&self, format: Format) -> Result<Vec<u8>, PlanError> {
        match format {
            Format::Text => self.lines(),
            Format::Shell => Ok(self.shell()),
            Format::Json => self.json(),
            Format::Github => self.github(),
        }
    }

    fn lines(&self) -> Result<Vec<u8>, PlanError> {
        let mut text = Vec::new();
        for (name, value) in self.iter() {
            if value.as_bytes().contains(&b'\n') {
                return Err(PlanError::LineBreak {
                    path: PathBuf::from(value),
                });
            }
            text.extend([name.as_bytes(), b"=", value.as_bytes(), b"\n"].concat());
        }
        Ok(text)
    }

    fn shell(&self) -> Vec<u8> {
        let mut text = Vec::new();
        for (name, value) in self.iter() {
            text.extend([name.as_bytes(), b"='"].concat());
            for &byte in value.as_bytes() {
                // A quote ends the quotes, is written by itself, and begins new ones.
                match byte {
                    b'\'' => text.extend(br"'\''"),
                    byte => text.push(byte),
                }
            }
            text.extend(b"'\n");
        }
        text
    }

    fn json(&self) -> Result<Vec<u8>, PlanError> {
        let mut object = serde_json::Map::new();
        for (name, value) in self.text()? {
            object.insert(name.to_owned(), value.into());
        }
        Ok(format!("{:#}\n", serde_json::Value::Object(object)).into_bytes())
    }

    fn github(&self) -> Result<Vec<u8>, PlanError> {
        let mut text = String::new();
        let mut all = String::new();
        for (name, value) in self.text()? {
            text.push_str(&output(name, value));
            all.push_str(&format!("{name}={value}\n"));
        }
        // A line break would make two arguments of one.
        if self.lines().is_ok() {
            text.push_str(&output("build-args", all.trim_end()));
        }
        Ok(text.into_bytes())
    }

    fn text(&self) -> Result<Vec<(&'static str, &str)>, PlanError> {
        let text = self.iter().map(|(name, value)| match value.to_str() {
            Some(value) => Ok((name, value)),
            None => Err(PlanError::NotUtf8 {
                path: PathBuf::from(value),
            }),
        });
        text.collect()
    }
}

/// One output of a GitHub step: `NAME=VALUE`, or between two delimiters that are no line of it.
fn output(name: &str, value: &str) -> String {
    if !value.contains('\n') {
        return format!("{name}={value}\n");
    }
    let mut delimiter = "END".to_owned();
    while value.lines().any(|line| line == delimiter) {
        delimiter.push('_');
    }
    format!("{name}<<{delimiter}\n{value}\n{delimiter}\n")
}

impl IntoIterator for BuildArgs {
    type Item = (&'static str, OsString);
    type IntoIter = std::vec::IntoIter<Self::Item>;

    fn into_iter(self) -> Self::IntoIter {
        self.arguments.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt;

    use super::*;

    fn of(path: &[u8]) -> BuildArgs {
        BuildArgs {
            arguments: vec![
                ("BYTECODE_FILE", OsString::from_vec(path.to_vec())),
                ("PROGRAMS", r#"{"p":"xdp"}"#.into()),
                ("MAPS", "{}".into()),
            ],
        }
    }

    fn rendered(path: &[u8], format: Format) -> Result<String, String> {
        match of(path).render(format) {
            Ok(bytes) => Ok(bytes.escape_ascii().to_string().replace("\\n", "\n")),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn formats() {
        let table: &[(&[u8], Format, &str)] = &[
            (
                b"./a b,c=d.o",
                Format::Text,
                "BYTECODE_FILE=./a b,c=d.o\nPROGRAMS={\\\"p\\\":\\\"xdp\\\"}\nMAPS={}\n",
            ),
            (
                b"\xff.o",
                Format::Text,
                "BYTECODE_FILE=\\xff.o\nPROGRAMS={\\\"p\\\":\\\"xdp\\\"}\nMAPS={}\n",
            ),
            (
                b"it's\n.o",
                Format::Shell,
                "BYTECODE_FILE=\\'it\\'\\\\\\'\\'s\n.o\\'\nPROGRAMS=\\'{\\\"p\\\":\\\"xdp\\\"}\\'\nMAPS=\\'{}\\'\n",
            ),
            (
                b"END\nx",
                Format::Github,
                "BYTECODE_FILE<<END_\nEND\nx\nEND_\nPROGRAMS={\\\"p\\\":\\\"xdp\\\"}\nMAPS={}\n",
            ),
            (
                b"x.o",
                Format::Github,
                "BYTECODE_FILE=x.o\nPROGRAMS={\\\"p\\\":\\\"xdp\\\"}\nMAPS={}\n\
                 build-args<<END\nBYTECODE_FILE=x.o\nPROGRAMS={\\\"p\\\":\\\"xdp\\\"}\nMAPS={}\nEND\n",
            ),
        ];
        for (path, format, expected) in table {
            let found = rendered(path, *format);
            assert_eq!(
                found.as_deref(),
                Ok(*expected),
                "{format:?} {}",
                path.escape_ascii()
            );
        }
        let json: serde_json::Value =
            serde_json::from_slice(&of(b"a\n'\".o").render(Format::Json).unwrap()).unwrap();
        let expected = serde_json::json!({
            "BYTECODE_FILE": "a\n'\".o", "PROGRAMS": r#"{"p":"xdp"}"#, "MAPS": "{}",
        });
        assert_eq!(json, expected);
    }

    #[test]
    fn what_a_format_cannot_hold_is_refused() {
        assert!(
            rendered(b"a\nb", Format::Text)
                .unwrap_err()
                .contains("line break")
        );
        for format in [Format::Json, Format::Github] {
            assert!(
                rendered(b"\xff", format).unwrap_err().contains("UTF-8"),
                "{format:?}"
            );
        }
    }
}
